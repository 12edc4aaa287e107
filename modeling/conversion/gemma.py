"""Gemma 2, and T5Gemma, which is Gemma 2 on both sides."""

import math

from ...configuration.decoder_pages import GEMMA2
from ...configuration.encoder_decoder_pages import T5GEMMA
from .. import encoder_decoder
from .llama import BIASES, FIELDS, WINDOWS, heads
from .origin import Origin, table

GEMMA_FIELDS = FIELDS | BIASES | WINDOWS
GEMMA_FIELDS |= dict(
    hidden_act="hidden_activation",
    attn_logit_softcapping="attn_logit_softcapping",
    final_logit_softcapping="final_logit_softcapping",
)
SIDES_FIELDS = {
    f"{name}.{ours}": f"{name}.{theirs}"
    for name in ("encoder", "decoder")
    for ours, theirs in GEMMA_FIELDS.items()
    if theirs != "attention_dropout"
}

STACK = """
    embed_tokens                           embed_tokens
    norm                                   norm
    layers.*.self_attn.q_proj              layers.*.self_attn.q_proj
    layers.*.self_attn.k_proj              layers.*.self_attn.k_proj
    layers.*.self_attn.v_proj              layers.*.self_attn.v_proj
    layers.*.self_attn.o_proj              layers.*.self_attn.o_proj
    layers.*.pre_feedforward_layernorm     layers.*.mlp_residual.before
    layers.*.mlp.gate_proj                 layers.*.mlp.gate_proj
    layers.*.mlp.up_proj                   layers.*.mlp.up_proj
    layers.*.mlp.down_proj                 layers.*.mlp.down_proj
    layers.*.post_feedforward_layernorm    layers.*.mlp_residual.after
"""
SELF = """
    layers.*.pre_self_attn_layernorm       layers.*.self_attn_residual.before
    layers.*.post_self_attn_layernorm      layers.*.self_attn_residual.after
"""
CROSS = """
    layers.*.pre_cross_attn_layernorm      layers.*.cross_attn_residual.before
    layers.*.cross_attn.q_proj             layers.*.cross_attn.q_proj
    layers.*.cross_attn.k_proj             layers.*.cross_attn.k_proj
    layers.*.cross_attn.v_proj             layers.*.cross_attn.v_proj
    layers.*.cross_attn.o_proj             layers.*.cross_attn.o_proj
    layers.*.post_cross_attn_layernorm     layers.*.cross_attn_residual.after
"""


def side(name: str, text: str) -> str:
    """A table for one side of an encoder-decoder: both columns begin with its name."""
    rows = (line.split() for line in text.splitlines() if line.strip())
    return "\n".join(" ".join([f"{name}.{theirs}", f"{name}.{ours}", *layout]) for theirs, ours, *layout in rows)


def _scaling(config) -> dict:
    scalar = config.query_pre_attn_scalar
    return dict(attention_scaling=None if scalar == config.head_dim else scalar**-0.5)


def _scalar(config) -> dict:
    if config.attention_scaling is None:
        return dict(query_pre_attn_scalar=config.head_dim)
    return dict(query_pre_attn_scalar=max(1, round(config.attention_scaling**-2)))


def _objection(config, name: str) -> str | None:
    if config.use_bidirectional_attention:
        return "a decoder that sees what follows (use_bidirectional_attention=True)"
    return None


def _read_t5gemma(config, state) -> dict:
    sides = dict(decoder_start_token_id=config.decoder.bos_token_id)
    for name in ("encoder", "decoder"):
        theirs = getattr(config, name)
        sides[name] = _scaling(theirs) | dict(embedding_scale=math.sqrt(theirs.hidden_size))
        sides[name] |= dict.fromkeys(("hidden_dropout", "embedding_dropout", "activation_dropout"), config.dropout_rate)
    return sides


def _write_t5gemma(config) -> dict:
    tokens = {name: getattr(config, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    sides = {name: tokens | _scalar(getattr(config, name)) for name in ("encoder", "decoder")}
    sides["decoder"] |= dict(bos_token_id=config.decoder_start_token_id)
    return sides | dict(vocab_size=config.vocab_size)


ORIGINS = (
    Origin(
        model_type="gemma2",
        page=GEMMA2,
        fields=GEMMA_FIELDS,
        heads={name: ours for name, ours in heads("Gemma2").items() if not name.endswith("QuestionAnswering")},
        body=table(
            STACK,
            """
    layers.*.input_layernorm               layers.*.self_attn_residual.before
    layers.*.post_attention_layernorm      layers.*.self_attn_residual.after
""",
        ),
        head=table("""
    lm_head                                lm_head
    score                                  score
"""),
        read=lambda config, state: _scaling(config),
        write=_scalar,
        objection=_objection,
    ),
    Origin(
        model_type="t5gemma",
        page=T5GEMMA,
        fields=SIDES_FIELDS | dict(hidden_dropout="dropout_rate", attention_dropout="attention_dropout"),
        heads={
            "T5GemmaModel": encoder_decoder.TriviumEncoderDecoderModel,
            "T5GemmaForConditionalGeneration": encoder_decoder.TriviumEncoderDecoderForConditionalGeneration,
        },
        body=table(side("encoder", STACK + SELF), side("decoder", STACK + SELF + CROSS)),
        head=table("lm_head.out_proj lm_head"),
        read=_read_t5gemma,
        write=_write_t5gemma,
    ),
)
