"""GPT, GPT-2 and GPT-Neo (which stands in for GPT-3).

The rows that lead nowhere are causal masks: their first checkpoints hold them beside the weights.
"""

from ...configuration.decoder_pages import GPT, GPT2, GPT3
from .. import decoder
from .origin import Origin, table

SIZES = dict(
    vocab_size="vocab_size",
    hidden_size="n_embd",
    num_hidden_layers="n_layer",
    num_attention_heads="n_head",
    max_position_embeddings="n_positions",
    norm_eps="layer_norm_epsilon",
    hidden_dropout="resid_pdrop",
    attention_dropout="attn_pdrop",
    embedding_dropout="embd_pdrop",
    initializer_range="initializer_range",
)

LAYERS = """
    h.*.attn.c_attn         layers.*.self_attn.{q,k,v}_proj   conv1d
    h.*.attn.c_proj         layers.*.self_attn.o_proj         conv1d
    h.*.mlp.c_fc            layers.*.mlp.up_proj              conv1d
    h.*.mlp.c_proj          layers.*.mlp.down_proj            conv1d
"""
HEADS = table("""
    lm_head                 lm_head
    score                   score
    classifier              score
    qa_outputs              qa_outputs
""")
KINDS = {"global": "full_attention", "local": "sliding_attention"}


def _gpt_act(config, state) -> dict:
    return dict(hidden_act="gelu_new" if config.afn == "gelu" else config.afn)


def _write_gpt(config) -> dict:
    return dict(afn="gelu" if config.hidden_act == "gelu_new" else config.hidden_act)


def _read_gpt2(config, state) -> dict:
    fields = dict(intermediate_size=config.n_inner, attention_scaling=None if config.scale_attn_weights else 1.0)
    return fields | dict(classifier_dropout=getattr(config, "classifier_dropout", None) or 0.1)


def _write_gpt2(config) -> dict:
    inner = None if config.intermediate_size == 4 * config.hidden_size else config.intermediate_size
    return dict(n_inner=inner, scale_attn_weights=config.attention_scaling is None)


def _gpt2_objection(config, name: str) -> str | None:
    if config.scale_attn_by_inverse_layer_idx:
        return "scores that are divided by the layer's number (scale_attn_by_inverse_layer_idx=True)"
    return "cross-attention in GPT-2 (add_cross_attention=True)" if config.add_cross_attention else None


def _read_neo(config, state) -> dict:
    return dict(
        intermediate_size=config.intermediate_size,
        layer_types=[KINDS[kind] for kind in config.attention_layers],
        classifier_dropout=config.classifier_dropout,
    )


def _write_neo(config) -> dict:
    names = {ours: theirs for theirs, ours in KINDS.items()}
    return dict(
        intermediate_size=config.intermediate_size,
        attention_types=[[[names[kind]], 1] for kind in config.layer_types],
        classifier_dropout=config.classifier_dropout,
    )


ORIGINS = (
    Origin(
        model_type="openai-gpt",
        page=GPT,
        fields=SIZES,
        heads={
            "OpenAIGPTModel": decoder.TriviumDecoderModel,
            "OpenAIGPTLMHeadModel": decoder.TriviumDecoderForCausalLM,
            "OpenAIGPTForSequenceClassification": decoder.TriviumDecoderForSequenceClassification,
        },
        body=table(
            """
    h.*.attn                -
    tokens_embed            embed_tokens
    positions_embed         embeddings.embed_positions
    h.*.ln_1                layers.*.self_attn_residual.outer
    h.*.ln_2                layers.*.mlp_residual.outer
""",
            LAYERS,
        ),
        head=HEADS,
        read=_gpt_act,
        write=_write_gpt,
    ),
    Origin(
        model_type="gpt2",
        page=GPT2,
        fields=SIZES | dict(hidden_act="activation_function"),
        heads={
            "GPT2Model": decoder.TriviumDecoderModel,
            "GPT2LMHeadModel": decoder.TriviumDecoderForCausalLM,
            "GPT2ForSequenceClassification": decoder.TriviumDecoderForSequenceClassification,
            "GPT2ForTokenClassification": decoder.TriviumDecoderForTokenClassification,
            "GPT2ForQuestionAnswering": decoder.TriviumDecoderForQuestionAnswering,
        },
        body=table(
            """
    h.*.attn.masked_bias    -
    wte                     embed_tokens
    wpe                     embeddings.embed_positions
    ln_f                    norm
    h.*.ln_1                layers.*.self_attn_residual.before
    h.*.ln_2                layers.*.mlp_residual.before
""",
            LAYERS,
        ),
        head=HEADS,
        read=_read_gpt2,
        write=_write_gpt2,
        objection=_gpt2_objection,
    ),
    Origin(
        model_type="gpt_neo",
        page=GPT3,
        changes=dict(attention_bias=False, attention_scaling=1.0),
        fields=dict(
            vocab_size="vocab_size",
            hidden_size="hidden_size",
            num_hidden_layers="num_layers",
            num_attention_heads="num_heads",
            max_position_embeddings="max_position_embeddings",
            sliding_window="window_size",
            hidden_act="activation_function",
            norm_eps="layer_norm_epsilon",
            hidden_dropout="resid_dropout",
            attention_dropout="attention_dropout",
            embedding_dropout="embed_dropout",
            initializer_range="initializer_range",
        ),
        heads={
            "GPTNeoModel": decoder.TriviumDecoderModel,
            "GPTNeoForCausalLM": decoder.TriviumDecoderForCausalLM,
            "GPTNeoForSequenceClassification": decoder.TriviumDecoderForSequenceClassification,
            "GPTNeoForTokenClassification": decoder.TriviumDecoderForTokenClassification,
            "GPTNeoForQuestionAnswering": decoder.TriviumDecoderForQuestionAnswering,
        },
        body=table("""
    h.*.attn.attention            -
    h.*.attn.attention.masked_bias   -
    wte                           embed_tokens
    wpe                           embeddings.embed_positions
    ln_f                          norm
    h.*.ln_1                      layers.*.self_attn_residual.before
    h.*.ln_2                      layers.*.mlp_residual.before
    h.*.attn.attention.q_proj     layers.*.self_attn.q_proj
    h.*.attn.attention.k_proj     layers.*.self_attn.k_proj
    h.*.attn.attention.v_proj     layers.*.self_attn.v_proj
    h.*.attn.attention.out_proj   layers.*.self_attn.o_proj
    h.*.mlp.c_fc                  layers.*.mlp.up_proj
    h.*.mlp.c_proj                layers.*.mlp.down_proj
"""),
        head=HEADS,
        read=_read_neo,
        write=_write_neo,
    ),
)
