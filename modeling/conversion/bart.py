"""BART and Marian; as Marian, also the Transformer of 2017."""

import math

from ...configuration.encoder_decoder_pages import BART, MARIAN
from .. import encoder_decoder
from .origin import Origin, table

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "d_model",
    "encoder.num_hidden_layers": "encoder_layers",
    "decoder.num_hidden_layers": "decoder_layers",
    "encoder.num_attention_heads": "encoder_attention_heads",
    "decoder.num_attention_heads": "decoder_attention_heads",
    "encoder.intermediate_size": "encoder_ffn_dim",
    "decoder.intermediate_size": "decoder_ffn_dim",
    "max_position_embeddings": "max_position_embeddings",
    "hidden_act": "activation_function",
    "hidden_dropout": "dropout",
    "embedding_dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "initializer_range": "init_std",
}
STACK = """
    {side}.embed_tokens                          {side}.embed_tokens
    {side}.layers.*.self_attn.q_proj             {side}.layers.*.self_attn.q_proj
    {side}.layers.*.self_attn.k_proj             {side}.layers.*.self_attn.k_proj
    {side}.layers.*.self_attn.v_proj             {side}.layers.*.self_attn.v_proj
    {side}.layers.*.self_attn.out_proj           {side}.layers.*.self_attn.o_proj
    {side}.layers.*.self_attn_layer_norm         {side}.layers.*.self_attn_residual.outer
    {side}.layers.*.fc1                          {side}.layers.*.mlp.up_proj
    {side}.layers.*.fc2                          {side}.layers.*.mlp.down_proj
    {side}.layers.*.final_layer_norm             {side}.layers.*.mlp_residual.outer
"""
CROSS = """
    decoder.layers.*.encoder_attn.q_proj         decoder.layers.*.cross_attn.q_proj
    decoder.layers.*.encoder_attn.k_proj         decoder.layers.*.cross_attn.k_proj
    decoder.layers.*.encoder_attn.v_proj         decoder.layers.*.cross_attn.v_proj
    decoder.layers.*.encoder_attn.out_proj       decoder.layers.*.cross_attn.o_proj
    decoder.layers.*.encoder_attn_layer_norm     decoder.layers.*.cross_attn_residual.outer
"""
BOTH = ("shared encoder.embed_tokens", STACK.format(side="encoder"), STACK.format(side="decoder"), CROSS)
HEADS = table("""
    lm_head                                      lm_head
    final_logits_bias                            lm_head.bias?            row
    classification_head.dense                    classifier_transform.dense
    classification_head.out_proj                 score
    qa_outputs                                   qa_outputs
""")


def _scale(config) -> dict:
    return dict(embedding_scale=math.sqrt(config.d_model) if config.scale_embedding else None)


def _read_bart(config, state) -> dict:
    bias = state.get("final_logits_bias")  # zeros in every model that was not given any, and no parameter
    decoder = dict(lm_head_bias=bias is not None and bool(bias.any()))
    return _scale(config) | dict(classifier_dropout=config.classifier_dropout, decoder=decoder)


def _write_bart(config) -> dict:
    scaled = config.decoder.embedding_scale is not None
    return dict(scale_embedding=scaled, classifier_dropout=config.decoder.classifier_dropout)


def _read_marian(config, state) -> dict:
    shared = config.share_encoder_decoder_embeddings
    encoder, decoder = dict(vocab_size=config.vocab_size), dict(vocab_size=config.decoder_vocab_size)
    return _scale(config) | dict(share_embeddings=shared, encoder=encoder, decoder=decoder)


def _write_marian(config) -> dict:
    return dict(
        scale_embedding=config.decoder.embedding_scale is not None,
        share_encoder_decoder_embeddings=config.share_embeddings,
        vocab_size=config.encoder.vocab_size,
        decoder_vocab_size=config.decoder.vocab_size,
    )


ORIGINS = (
    Origin(
        model_type="bart",
        page=BART,
        fields=FIELDS,
        heads={
            "BartModel": encoder_decoder.TriviumEncoderDecoderModel,
            "BartForConditionalGeneration": encoder_decoder.TriviumEncoderDecoderForConditionalGeneration,
            "BartForSequenceClassification": encoder_decoder.TriviumEncoderDecoderForSequenceClassification,
            "BartForQuestionAnswering": encoder_decoder.TriviumEncoderDecoderForQuestionAnswering,
        },
        body=table(
            *BOTH,
            """
    encoder.embed_positions                      encoder.embeddings.embed_positions
    encoder.layernorm_embedding                  encoder.embeddings.norm
    decoder.embed_positions                      decoder.embeddings.embed_positions
    decoder.layernorm_embedding                  decoder.embeddings.norm
""",
        ),
        head=HEADS,
        read=_read_bart,
        write=_write_bart,
        free=frozenset({"lm_head_bias"}),
    ),
    Origin(
        model_type="marian",
        page=MARIAN,
        fields={ours: theirs for ours, theirs in FIELDS.items() if ours != "vocab_size"},
        heads={
            "MarianModel": encoder_decoder.TriviumEncoderDecoderModel,
            "MarianMTModel": encoder_decoder.TriviumEncoderDecoderForConditionalGeneration,
        },
        body=table(
            *BOTH,
            """
    encoder.embed_positions                      -
    decoder.embed_positions                      -
""",
        ),
        head=HEADS,
        read=_read_marian,
        write=_write_marian,
        free=frozenset({"lm_head_bias"}),
    ),
)
