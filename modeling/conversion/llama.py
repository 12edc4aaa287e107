"""Llama, Mistral and their kin: our own names, but for the norms."""

from ...configuration.decoder_pages import LLAMA, MISTRAL
from .. import decoder
from .origin import Origin, table

FIELDS = dict(
    vocab_size="vocab_size",
    hidden_size="hidden_size",
    intermediate_size="intermediate_size",
    num_hidden_layers="num_hidden_layers",
    num_attention_heads="num_attention_heads",
    num_key_value_heads="num_key_value_heads",
    head_dim="head_dim",
    max_position_embeddings="max_position_embeddings",
    rope_parameters="rope_parameters",
    hidden_act="hidden_act",
    norm_eps="rms_norm_eps",
    attention_dropout="attention_dropout",
    initializer_range="initializer_range",
)
BIASES = dict(attention_bias="attention_bias", attention_output_bias="attention_bias")
WINDOWS = dict(layer_types="layer_types", sliding_window="sliding_window")

BODY = table("""
    embed_tokens                         embed_tokens
    norm                                 norm
    layers.*.input_layernorm             layers.*.self_attn_residual.before
    layers.*.self_attn.q_proj            layers.*.self_attn.q_proj
    layers.*.self_attn.k_proj            layers.*.self_attn.k_proj
    layers.*.self_attn.v_proj            layers.*.self_attn.v_proj
    layers.*.self_attn.o_proj            layers.*.self_attn.o_proj
    layers.*.self_attn.q_norm            layers.*.self_attn.q_norm
    layers.*.self_attn.k_norm            layers.*.self_attn.k_norm
    layers.*.post_attention_layernorm    layers.*.mlp_residual.before
    layers.*.mlp.gate_proj               layers.*.mlp.gate_proj
    layers.*.mlp.up_proj                 layers.*.mlp.up_proj
    layers.*.mlp.down_proj               layers.*.mlp.down_proj
""")
HEADS = table("""
    lm_head                              lm_head
    score                                score
    qa_outputs                           qa_outputs
""")


def heads(name: str) -> dict[str, type]:
    """The five classes that transformers has for each decoder of today."""
    return {
        f"{name}Model": decoder.TriviumDecoderModel,
        f"{name}ForCausalLM": decoder.TriviumDecoderForCausalLM,
        f"{name}ForSequenceClassification": decoder.TriviumDecoderForSequenceClassification,
        f"{name}ForTokenClassification": decoder.TriviumDecoderForTokenClassification,
        f"{name}ForQuestionAnswering": decoder.TriviumDecoderForQuestionAnswering,
    }


def _read_mistral(config, state) -> dict:
    return dict(sliding_window=config.sliding_window, layer_types=None)


def _write_mistral(config) -> dict:
    return dict(sliding_window=config.sliding_window if "sliding_attention" in config.layer_types else None)


def _write_qwen3(config) -> dict:
    return dict(use_sliding_window="sliding_attention" in config.layer_types)


ORIGINS = (
    Origin("llama", LLAMA, FIELDS | BIASES | dict(mlp_bias="mlp_bias"), heads("Llama"), BODY, HEADS),
    Origin("mistral", MISTRAL, FIELDS, heads("Mistral"), BODY, HEADS, read=_read_mistral, write=_write_mistral),
    # Not a page of its own: Llama with norms on the queries and keys, which is what our default decoder is.
    Origin(
        model_type="qwen3",
        page=LLAMA,
        fields=FIELDS | BIASES | WINDOWS,
        heads=heads("Qwen3"),
        body=BODY,
        head=HEADS,
        changes=dict(qk_norm=True),
        write=_write_qwen3,
    ),
)
