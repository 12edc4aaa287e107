"""BLOOM."""

from ...configuration.decoder_pages import BLOOM
from .. import decoder
from .origin import Origin, table


def _read(config, state) -> dict:
    return dict(max_position_embeddings=getattr(config, "seq_length", 2048), classifier_dropout=0.1)


def _write(config) -> dict:
    return dict(seq_length=config.max_position_embeddings)


def _objection(config, name: str) -> str | None:
    if config.apply_residual_connection_post_layernorm:
        return "residuals that start after the norm (apply_residual_connection_post_layernorm=True)"
    return None


ORIGINS = (
    Origin(
        model_type="bloom",
        page=BLOOM,
        fields=dict(
            vocab_size="vocab_size",
            hidden_size="hidden_size",
            num_hidden_layers="n_layer",
            num_attention_heads="n_head",
            norm_eps="layer_norm_epsilon",
            hidden_dropout="hidden_dropout",
            attention_dropout="attention_dropout",
            initializer_range="initializer_range",
        ),
        heads={
            "BloomModel": decoder.TriviumDecoderModel,
            "BloomForCausalLM": decoder.TriviumDecoderForCausalLM,
            "BloomForSequenceClassification": decoder.TriviumDecoderForSequenceClassification,
            "BloomForTokenClassification": decoder.TriviumDecoderForTokenClassification,
            "BloomForQuestionAnswering": decoder.TriviumDecoderForQuestionAnswering,
        },
        body=table("""
    word_embeddings                         embed_tokens
    word_embeddings_layernorm               embeddings.norm
    ln_f                                    norm
    h.*.input_layernorm                     layers.*.self_attn_residual.before
    h.*.self_attention.query_key_value      layers.*.self_attn.{q,k,v}_proj   by-head
    h.*.self_attention.dense                layers.*.self_attn.o_proj
    h.*.post_attention_layernorm            layers.*.mlp_residual.before
    h.*.mlp.dense_h_to_4h                   layers.*.mlp.up_proj
    h.*.mlp.dense_4h_to_h                   layers.*.mlp.down_proj
"""),
        head=table("""
    lm_head                                 lm_head
    score                                   score
    classifier                              score
    qa_outputs                              qa_outputs
"""),
        read=_read,
        write=_write,
        objection=_objection,
    ),
)
