"""BERT, RoBERTa and DistilBERT."""

from ...configuration.encoder_pages import BERT, DISTILBERT, ROBERTA
from .. import decoder, encoder
from .origin import Origin, table

FIELDS = dict(
    vocab_size="vocab_size",
    hidden_size="hidden_size",
    num_hidden_layers="num_hidden_layers",
    num_attention_heads="num_attention_heads",
    intermediate_size="intermediate_size",
    hidden_act="hidden_act",
    type_vocab_size="type_vocab_size",
    norm_eps="layer_norm_eps",
    hidden_dropout="hidden_dropout_prob",
    embedding_dropout="hidden_dropout_prob",
    attention_dropout="attention_probs_dropout_prob",
    initializer_range="initializer_range",
)

BODY = table("""
    embeddings.word_embeddings               embed_tokens
    embeddings.position_embeddings           embeddings.embed_positions
    embeddings.token_type_embeddings         embeddings.embed_token_types
    embeddings.LayerNorm                     embeddings.norm
    encoder.layer.*.attention.self.query     layers.*.self_attn.q_proj
    encoder.layer.*.attention.self.key       layers.*.self_attn.k_proj
    encoder.layer.*.attention.self.value     layers.*.self_attn.v_proj
    encoder.layer.*.attention.output.dense   layers.*.self_attn.o_proj
    encoder.layer.*.attention.output.LayerNorm   layers.*.self_attn_residual.outer
    encoder.layer.*.intermediate.dense       layers.*.mlp.up_proj
    encoder.layer.*.output.dense             layers.*.mlp.down_proj
    encoder.layer.*.output.LayerNorm         layers.*.mlp_residual.outer
    pooler.dense                             pooler.dense
""")

CLASSIFIERS = """
    classifier                               score
    qa_outputs                               qa_outputs
"""


def _classifier_dropout(config) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


def _objection(config, name: str) -> str | None:
    if config.add_cross_attention:
        return "cross-attention in a BERT-like decoder (add_cross_attention=True)"
    if config.is_decoder != (name in ("BertLMHeadModel", "RobertaForCausalLM")):
        return f"a {name} with is_decoder={config.is_decoder}"
    return None


def _roberta_objection(config, name: str) -> str | None:
    if config.pad_token_id is None:
        return "a RoBERTa without a pad_token_id, from which its positions are counted"
    return _objection(config, name)


def _read_bert(config, state) -> dict:
    return dict(max_position_embeddings=config.max_position_embeddings, classifier_dropout=_classifier_dropout(config))


def _write_bert(config) -> dict:
    fields = dict(max_position_embeddings=config.max_position_embeddings, classifier_dropout=config.classifier_dropout)
    return fields | dict(is_decoder=config.model_type == "trivium_decoder")


def _read_roberta(config, state) -> dict:
    offset = config.pad_token_id + 1
    fields = dict(position_offset=offset, max_position_embeddings=config.max_position_embeddings - offset)
    return fields | dict(classifier_dropout=_classifier_dropout(config))


def _write_roberta(config) -> dict:
    fields = _write_bert(config)
    return fields | dict(max_position_embeddings=config.max_position_embeddings + config.position_offset)


# Of the two biases that their output matrix has, one is the other or, where nothing is tied, read by nothing: `-`.
ORIGINS = (
    Origin(
        model_type="bert",
        page=BERT,
        fields=FIELDS,
        heads={
            "BertModel": encoder.TriviumEncoderModel,
            "BertForPreTraining": encoder.TriviumEncoderForPreTraining,
            "BertForMaskedLM": encoder.TriviumEncoderForMaskedLM,
            "BertForNextSentencePrediction": encoder.TriviumEncoderForNextSentencePrediction,
            "BertForSequenceClassification": encoder.TriviumEncoderForSequenceClassification,
            "BertForMultipleChoice": encoder.TriviumEncoderForMultipleChoice,
            "BertForTokenClassification": encoder.TriviumEncoderForTokenClassification,
            "BertForQuestionAnswering": encoder.TriviumEncoderForQuestionAnswering,
            "BertLMHeadModel": decoder.TriviumDecoderForCausalLM,
        },
        body=BODY,
        head=table(
            """
    cls.predictions.transform.dense          transform.dense
    cls.predictions.transform.LayerNorm      transform.norm
    cls.predictions.decoder                  lm_head
    cls.predictions.bias                     -
    cls.seq_relationship                     seq_relationship
""",
            CLASSIFIERS,
        ),
        read=_read_bert,
        write=_write_bert,
        objection=_objection,
    ),
    Origin(
        model_type="roberta",
        page=ROBERTA,
        fields=FIELDS,
        heads={
            "RobertaModel": encoder.TriviumEncoderModel,
            "RobertaForMaskedLM": encoder.TriviumEncoderForMaskedLM,
            "RobertaForSequenceClassification": encoder.TriviumEncoderForSequenceClassification,
            "RobertaForMultipleChoice": encoder.TriviumEncoderForMultipleChoice,
            "RobertaForTokenClassification": encoder.TriviumEncoderForTokenClassification,
            "RobertaForQuestionAnswering": encoder.TriviumEncoderForQuestionAnswering,
            "RobertaForCausalLM": decoder.TriviumDecoderForCausalLM,
        },
        body=BODY,
        head=table(
            """
    lm_head.dense                            transform.dense
    lm_head.layer_norm                       transform.norm
    lm_head.decoder                          lm_head
    lm_head.bias                             -
    classifier.dense                         model.pooler.dense
    classifier.out_proj                      score
""",
            CLASSIFIERS,
        ),
        read=_read_roberta,
        write=_write_roberta,
        objection=_roberta_objection,
    ),
    Origin(
        model_type="distilbert",
        page=DISTILBERT,
        fields=dict(
            vocab_size="vocab_size",
            hidden_size="dim",
            num_hidden_layers="n_layers",
            num_attention_heads="n_heads",
            intermediate_size="hidden_dim",
            hidden_act="activation",
            max_position_embeddings="max_position_embeddings",
            hidden_dropout="dropout",
            embedding_dropout="dropout",
            attention_dropout="attention_dropout",
            classifier_dropout="seq_classif_dropout",
            initializer_range="initializer_range",
        ),
        heads={
            "DistilBertModel": encoder.TriviumEncoderModel,
            "DistilBertForMaskedLM": encoder.TriviumEncoderForMaskedLM,
            "DistilBertForSequenceClassification": encoder.TriviumEncoderForSequenceClassification,
            "DistilBertForMultipleChoice": encoder.TriviumEncoderForMultipleChoice,
            "DistilBertForTokenClassification": encoder.TriviumEncoderForTokenClassification,
            "DistilBertForQuestionAnswering": encoder.TriviumEncoderForQuestionAnswering,
        },
        body=table("""
    embeddings.word_embeddings               embed_tokens
    embeddings.position_embeddings           embeddings.embed_positions
    embeddings.LayerNorm                     embeddings.norm
    transformer.layer.*.attention.q_lin      layers.*.self_attn.q_proj
    transformer.layer.*.attention.k_lin      layers.*.self_attn.k_proj
    transformer.layer.*.attention.v_lin      layers.*.self_attn.v_proj
    transformer.layer.*.attention.out_lin    layers.*.self_attn.o_proj
    transformer.layer.*.sa_layer_norm        layers.*.self_attn_residual.outer
    transformer.layer.*.ffn.lin1             layers.*.mlp.up_proj
    transformer.layer.*.ffn.lin2             layers.*.mlp.down_proj
    transformer.layer.*.output_layer_norm    layers.*.mlp_residual.outer
"""),
        head=table(
            """
    vocab_transform                          transform.dense
    vocab_layer_norm                         transform.norm
    vocab_projector                          lm_head
    pre_classifier                           classifier_transform.dense
""",
            CLASSIFIERS,
        ),
    ),
)
