"""T5, and T5 1.1 and Flan-T5, which transformers holds in the same classes."""

from ...configuration.encoder_decoder_pages import T5
from .. import encoder_decoder
from .origin import Origin, table

ATTENTION = """
    {side}.block.*.layer.{n}.{theirs}.q     {side}.layers.*.{ours}.q_proj
    {side}.block.*.layer.{n}.{theirs}.k     {side}.layers.*.{ours}.k_proj
    {side}.block.*.layer.{n}.{theirs}.v     {side}.layers.*.{ours}.v_proj
    {side}.block.*.layer.{n}.{theirs}.o     {side}.layers.*.{ours}.o_proj
    {side}.block.*.layer.{n}.layer_norm     {side}.layers.*.{ours}_residual.before
"""
STACK = """
    {side}.embed_tokens                                                {side}.embed_tokens
    {side}.block.0.layer.0.SelfAttention.relative_attention_bias       {side}.position_bias.table
    {side}.block.*.layer.{last}.DenseReluDense.wi                      {side}.layers.*.mlp.up_proj
    {side}.block.*.layer.{last}.DenseReluDense.wi_0                    {side}.layers.*.mlp.gate_proj
    {side}.block.*.layer.{last}.DenseReluDense.wi_1                    {side}.layers.*.mlp.up_proj
    {side}.block.*.layer.{last}.DenseReluDense.wo                      {side}.layers.*.mlp.down_proj
    {side}.block.*.layer.{last}.layer_norm                             {side}.layers.*.mlp_residual.before
    {side}.final_layer_norm                                            {side}.norm
"""
SELF = dict(n=0, theirs="SelfAttention", ours="self_attn")
CROSS = dict(n=1, theirs="EncDecAttention", ours="cross_attn")


def _read(config, state) -> dict:
    scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
    return dict(
        max_position_embeddings=getattr(config, "n_positions", 512),
        hidden_act=config.dense_act_fn,
        gated_mlp=config.is_gated_act,
        decoder=dict(logit_scale=config.d_model**-0.5 if scaled else None),
    )


def _write(config) -> dict:
    decoder = config.decoder
    act = "gelu" if decoder.gated_mlp and decoder.hidden_act == "gelu_new" else decoder.hidden_act
    # In this configuration the flag says whether the output is scaled, not whether it is tied.
    return dict(
        n_positions=decoder.max_position_embeddings,
        feed_forward_proj=f"gated-{act}" if decoder.gated_mlp else act,
        tie_word_embeddings=decoder.logit_scale is not None,
    )


ORIGINS = (
    Origin(
        model_type="t5",
        page=T5,
        fields={
            "vocab_size": "vocab_size",
            "hidden_size": "d_model",
            "head_dim": "d_kv",
            "intermediate_size": "d_ff",
            "num_attention_heads": "num_heads",
            "encoder.num_hidden_layers": "num_layers",
            "decoder.num_hidden_layers": "num_decoder_layers",
            "relative_attention_num_buckets": "relative_attention_num_buckets",
            "relative_attention_max_distance": "relative_attention_max_distance",
            "norm_eps": "layer_norm_epsilon",
            "hidden_dropout": "dropout_rate",
            "attention_dropout": "dropout_rate",
            "activation_dropout": "dropout_rate",
            "embedding_dropout": "dropout_rate",
            "classifier_dropout": "classifier_dropout",
        },
        heads={
            "T5Model": encoder_decoder.TriviumEncoderDecoderModel,
            "T5ForConditionalGeneration": encoder_decoder.TriviumEncoderDecoderForConditionalGeneration,
            "T5ForSequenceClassification": encoder_decoder.TriviumEncoderDecoderForSequenceClassification,
            "T5ForTokenClassification": encoder_decoder.TriviumEncoderDecoderForTokenClassification,
            "T5ForQuestionAnswering": encoder_decoder.TriviumEncoderDecoderForQuestionAnswering,
        },
        body=table(
            "shared encoder.embed_tokens",
            STACK.format(side="encoder", last=1),
            ATTENTION.format(side="encoder", **SELF),
            STACK.format(side="decoder", last=2),
            ATTENTION.format(side="decoder", **SELF),
            ATTENTION.format(side="decoder", **CROSS),
        ),
        head=table("""
    lm_head                          lm_head
    classification_head.dense        classifier_transform.dense
    classification_head.out_proj     score
    classifier                       score
    qa_outputs                       qa_outputs
"""),
        read=_read,
        write=_write,
    ),
)
