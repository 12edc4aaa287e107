"""The encoder: every token sees every other. The base model and its heads.

Shapes: B rows, T tokens a row, N texts (rows, or documents of a flattened batch), D hidden size, C classes, K choices.
"""

import torch
from torch import nn
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ..configuration.families import TriviumEncoderConfig
from .documents import find_documents
from .heads import (
    TriviumForPreTrainingOutput,
    TriviumLanguageModelingHead,
    TriviumPooler,
    documents_of,
    make_classifier_transform,
    pool_first,
    pool_mean,
)
from .losses import Items, cross_entropy, next_sentence_loss, question_answering_loss, sequence_classification_loss
from .stack import TriviumPreTrainedModel, TriviumStack


class TriviumEncoderPreTrainedModel(TriviumPreTrainedModel):
    """What all encoder classes are."""

    config: TriviumEncoderConfig


class TriviumEncoderModel(TriviumEncoderPreTrainedModel, TriviumStack):
    """The stack without a head.

    Args:
        config: of the encoder.
        add_pooling_layer: build BERT's pooler if the configuration has one; heads that do not read it leave it out.
    """

    is_causal = False

    def __init__(self, config: TriviumEncoderConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.pooler = TriviumPooler(config) if config.pooler and add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Reads.

        Args:
            input_ids: (B, T); or inputs_embeds: (B, T, D).
            attention_mask: (B, T), one for real tokens.
            token_type_ids: (B, T), the segment of each token, where the configuration has segments.
            position_ids: (B, T); if they restart and there is no mask, the batch is flattened.
            cu_seq_lens_q: (N + 1,), another way to say where the documents of a flattened batch lie.

        Returns:
            last_hidden_state (B, T, D), and pooler_output (N, D) if there is a pooler.
        """
        inputs_embeds = self.embed(input_ids, inputs_embeds)
        documents = find_documents(inputs_embeds.shape[:2], position_ids, attention_mask, cu_seq_lens=cu_seq_lens_q)
        kwargs.pop("past_key_values", None)
        kwargs.pop("use_cache", None)
        hidden = self.run(inputs_embeds, attention_mask, position_ids, documents, token_type_ids, **kwargs)
        pooled = None if self.pooler is None else self.pooler(pool_first(hidden, attention_mask, documents))
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)


class TriviumEncoderForMaskedLM(TriviumEncoderPreTrainedModel, TriviumLanguageModelingHead):
    """Fills masks (Devlin et al., 2019)."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: TriviumEncoderConfig):
        super().__init__(config)
        self.model = TriviumEncoderModel(config, add_pooling_layer=False)
        self.build_lm_head(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Items = None,
        return_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedLMOutput:
        """Arguments of [`TriviumEncoderModel`]; labels (B, T): the token where it was masked, -100 elsewhere."""
        outputs = self.model(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        loss, logits = self.write(outputs.last_hidden_state, labels, num_items_in_batch, return_logits)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TriviumEncoderPooledModel(TriviumEncoderPreTrainedModel):
    """An encoder whose head reads one vector per text: from BERT's pooler if there is one, else as configured."""

    def __init__(self, config: TriviumEncoderConfig):
        super().__init__(config)
        self.model = TriviumEncoderModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)

    def read(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        **kwargs,
    ) -> tuple[BaseModelOutputWithPooling, torch.Tensor]:
        """The base model's outputs and the pooled texts (N, D)."""
        outputs = self.model(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        pooled = outputs.pooler_output
        if pooled is None:
            hidden = outputs.last_hidden_state
            documents = documents_of(hidden, position_ids, attention_mask, kwargs)
            pool = {"cls": pool_first, "mean": pool_mean}[self.config.classifier_pooling]
            pooled = pool(hidden, attention_mask, documents)
        return outputs, self.dropout(pooled)


class TriviumEncoderForPreTraining(TriviumEncoderPooledModel, TriviumLanguageModelingHead):
    """BERT's pretraining: fills masks and tells whether the second sentence follows the first."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: TriviumEncoderConfig):
        super().__init__(config)
        self.build_lm_head(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        next_sentence_label: torch.Tensor | None = None,
        num_items_in_batch: Items = None,
        return_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TriviumForPreTrainingOutput:
        """Arguments of [`TriviumEncoderForMaskedLM`]; next_sentence_label (B,): 0 if the second follows, else 1."""
        outputs, pooled = self.read(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        loss, logits = self.write(outputs.last_hidden_state, labels, num_items_in_batch, return_logits)
        relationship = self.seq_relationship(pooled)
        if next_sentence_label is not None:
            documents = documents_of(outputs.last_hidden_state, position_ids, attention_mask, kwargs)
            sentence_loss = next_sentence_loss(relationship, next_sentence_label, labels, documents, num_items_in_batch)
            loss = sentence_loss if loss is None else loss + sentence_loss
        return TriviumForPreTrainingOutput(
            loss=loss,
            prediction_logits=logits,
            seq_relationship_logits=relationship,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class TriviumEncoderForNextSentencePrediction(TriviumEncoderPooledModel):
    """Whether the second sentence follows the first (Devlin et al., 2019)."""

    def __init__(self, config: TriviumEncoderConfig):
        super().__init__(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NextSentencePredictorOutput:
        """Arguments of [`TriviumEncoderModel`]; labels (N,): 0 if the second follows, else 1 -> logits (N, 2)."""
        outputs, pooled = self.read(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits, loss = self.seq_relationship(pooled), None
        if labels is not None:
            loss = cross_entropy(logits, labels.reshape(-1).to(logits.device), num_items_in_batch)
        return NextSentencePredictorOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TriviumEncoderForSequenceClassification(TriviumEncoderPooledModel):
    """One label, several labels or a number per text."""

    def __init__(self, config: TriviumEncoderConfig):
        super().__init__(config)
        self.classifier_transform = make_classifier_transform(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Arguments of [`TriviumEncoderModel`]; labels (N,) or (N, C) -> logits (N, C)."""
        outputs, pooled = self.read(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits, loss = self.score(self.classifier_transform(pooled)), None
        if labels is not None:
            loss = sequence_classification_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TriviumEncoderForMultipleChoice(TriviumEncoderPooledModel):
    """Which of K texts is right."""

    def __init__(self, config: TriviumEncoderConfig):
        super().__init__(config)
        self.classifier_transform = make_classifier_transform(config)
        self.score = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MultipleChoiceModelOutput:
        """Arguments of [`TriviumEncoderModel`] with a dimension K after B; labels (B,) -> logits (B, K)."""
        given = (input_ids, attention_mask, token_type_ids, position_ids)
        choices = (inputs_embeds if input_ids is None else input_ids).shape[1]
        flat = [None if x is None else x.flatten(0, 1) for x in (*given, inputs_embeds)]
        outputs, pooled = self.read(*flat, **kwargs)
        logits, loss = self.score(self.classifier_transform(pooled)).view(-1, choices), None
        if labels is not None:
            loss = cross_entropy(logits, labels.to(logits.device), num_items_in_batch)
        return MultipleChoiceModelOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TriviumEncoderForTokenClassification(TriviumEncoderPreTrainedModel):
    """A label per token."""

    def __init__(self, config: TriviumEncoderConfig):
        super().__init__(config)
        self.model = TriviumEncoderModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """Arguments of [`TriviumEncoderModel`]; labels (B, T) -> logits (B, T, C)."""
        outputs = self.model(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits, loss = self.score(self.dropout(outputs.last_hidden_state)), None
        if labels is not None:
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten().to(logits.device), num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TriviumEncoderForQuestionAnswering(TriviumEncoderPreTrainedModel):
    """Where an answer starts and ends."""

    def __init__(self, config: TriviumEncoderConfig):
        super().__init__(config)
        self.model = TriviumEncoderModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> QuestionAnsweringModelOutput:
        """Arguments of [`TriviumEncoderModel`]; start_positions, end_positions (N,) -> start and end logits (B, T)."""
        outputs = self.model(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            documents = documents_of(outputs.last_hidden_state, position_ids, attention_mask, kwargs)
            answers = (start_positions, end_positions, attention_mask, documents, num_items_in_batch)
            loss = question_answering_loss(start_logits, end_logits, *answers)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
