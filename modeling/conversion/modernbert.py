"""ModernBERT."""

from ...configuration.encoder_pages import MODERNBERT
from .. import encoder
from .origin import Origin, table


def _read(config, state) -> dict:
    return dict(sliding_window=config.local_attention // 2, layer_types=list(config.layer_types))


def _write(config) -> dict:
    fields = dict(classifier_activation=config.hidden_act, classifier_bias=config.mlp_bias)
    return fields | (dict(local_attention=2 * config.sliding_window) if config.sliding_window else {})


def _objection(config, name: str) -> str | None:
    if config.classifier_bias != config.mlp_bias or config.classifier_activation != config.hidden_activation:
        return "a transform before the output matrix that is unlike the feed-forward (classifier_bias or _activation)"
    return None


ORIGINS = (
    Origin(
        model_type="modernbert",
        page=MODERNBERT,
        fields=dict(
            vocab_size="vocab_size",
            hidden_size="hidden_size",
            intermediate_size="intermediate_size",
            num_hidden_layers="num_hidden_layers",
            num_attention_heads="num_attention_heads",
            max_position_embeddings="max_position_embeddings",
            layer_types="layer_types",
            rope_parameters="rope_parameters",
            hidden_act="hidden_activation",
            norm_eps="norm_eps",
            norm_bias="norm_bias",
            attention_bias="attention_bias",
            attention_output_bias="attention_bias",
            mlp_bias="mlp_bias",
            lm_head_bias="decoder_bias",
            classifier_pooling="classifier_pooling",
            embedding_dropout="embedding_dropout",
            hidden_dropout="attention_dropout",
            attention_dropout="attention_dropout",
            activation_dropout="mlp_dropout",
            classifier_dropout="classifier_dropout",
            initializer_range="initializer_range",
        ),
        heads={
            "ModernBertModel": encoder.TriviumEncoderModel,
            "ModernBertForMaskedLM": encoder.TriviumEncoderForMaskedLM,
        },
        body=table("""
    embeddings.tok_embeddings    embed_tokens
    embeddings.norm              embeddings.norm
    final_norm                   norm
    layers.*.attn_norm           layers.*.self_attn_residual.before
    layers.*.attn.Wqkv           layers.*.self_attn.{q,k,v}_proj
    layers.*.attn.Wo             layers.*.self_attn.o_proj
    layers.*.mlp_norm            layers.*.mlp_residual.before
    layers.*.mlp.Wi              layers.*.mlp.{gate,up}_proj
    layers.*.mlp.Wo              layers.*.mlp.down_proj
"""),
        head=table("""
    head.dense                   transform.dense
    head.norm                    transform.norm
    decoder                      lm_head
"""),
        read=_read,
        write=_write,
        objection=_objection,
        rope_per_type=True,
    ),
)
