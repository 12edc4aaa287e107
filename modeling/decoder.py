"""The decoder: every token sees those before it. The base model and its heads.

Shapes: B rows, T tokens a row, N texts (rows, or documents of a flattened batch), D hidden size, V vocabulary, C
classes, S tokens of an encoder's states.
"""

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_masks_for_generate
from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ..configuration.families import TriviumDecoderConfig
from .cache import growing_cache
from .documents import Documents, check_paired, find_documents
from .heads import TriviumLanguageModelingHead, documents_of, make_classifier_transform, pool_last
from .losses import Items, cross_entropy, question_answering_loss, sequence_classification_loss, shift_next
from .masks import cross_attention_arguments
from .stack import TriviumPreTrainedModel, TriviumStack, refuse_cross_attention_input
from .unpadding import Padded, RealTokens, find_real_tokens


class TriviumDecoderPreTrainedModel(TriviumPreTrainedModel):
    """What all decoder classes are."""

    config: TriviumDecoderConfig


class TriviumDecoderModel(TriviumDecoderPreTrainedModel, TriviumStack):
    """The stack without a head."""

    is_causal = True

    def __init__(self, config: TriviumDecoderConfig):
        super().__init__(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        encoder_position_ids: torch.Tensor | None = None,
        use_cache: bool | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        cu_seq_lens_k: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Reads.

        Args:
            input_ids: (B, T); or inputs_embeds: (B, T, D).
            attention_mask: (B, past + T), one for real tokens.
            position_ids: (B, T); if they restart and there is no mask, the batch is flattened and no cache is made.
            past_key_values: keys and values of what was read before; updated in place.
            encoder_hidden_states: (B, S, width) for the cross-attention, encoder_attention_mask (B, S) its padding,
                encoder_position_ids (B, S) its documents if it is flattened too.
            cu_seq_lens_q, cu_seq_lens_k: (N + 1,), another way to say where the documents lie, here and in the encoder.

        Returns:
            last_hidden_state (B, T, D) and past_key_values if `use_cache`.

        Raises:
            InputError: encoder states without cross-attention, or two sides that do not hold the same documents.
        """
        refuse_cross_attention_input(self.config, encoder_hidden_states)
        inputs_embeds = self.embed(input_ids, inputs_embeds)
        shape = inputs_embeds.shape[:2]
        documents = find_documents(shape, position_ids, attention_mask, past_key_values, cu_seq_lens_q)
        if use_cache and past_key_values is None and documents is None:
            past_key_values = DynamicCache(config=self.config)
            if encoder_hidden_states is not None:
                past_key_values = EncoderDecoderCache(past_key_values, DynamicCache())

        cross_attention = real = None
        if encoder_hidden_states is not None:
            target = Padded(inputs_embeds, attention_mask, position_ids)
            source = Padded(encoder_hidden_states, encoder_attention_mask, encoder_position_ids)
            cross = self._cross_attention(target, documents, past_key_values, source, cu_seq_lens_k)
            encoder_hidden_states, cross_attention, real = cross
        hidden = self.run(
            inputs_embeds,
            attention_mask,
            position_ids,
            documents,
            past_key_values=past_key_values,
            self_attention_cache=growing_cache(past_key_values),
            encoder_hidden_states=encoder_hidden_states,
            cross_attention=cross_attention,
            real=real,
            **kwargs,
        )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden, past_key_values=past_key_values if use_cache else None
        )

    def _cross_attention(
        self,
        target: Padded,
        documents: Documents | None,
        cache: Cache | None,
        source: Padded,
        cu_seq_lens: torch.Tensor | None,
    ) -> tuple[torch.Tensor, dict, RealTokens | None]:
        """The states to attend to, the arguments of the cross-attention, and the target's tokens if both lose padding.

        Raises:
            InputError: two sides that do not hold the same documents.
        """
        keys = real = None
        shape = source.states.shape[:2]
        if not (isinstance(cache, EncoderDecoderCache) and cache.is_updated.get(0)):
            keys = find_documents(shape, source.position_ids, source.attention_mask, None, cu_seq_lens)
        check_paired(documents, keys)
        states = source.states
        if documents is None and cache is None:
            pair = find_real_tokens(self.config, self.layers, None, target, source)
            if pair is not None:
                real, real_source = pair
                states = real_source.drop_padding(states)
                documents, keys = real.documents, real_source.documents
        arguments = cross_attention_arguments(
            self.config, target.states, states, source.attention_mask, documents, keys, self.training
        )
        return states, arguments, real


class TriviumDecoderForCausalLM(TriviumDecoderPreTrainedModel, TriviumLanguageModelingHead, GenerationMixin):
    """Writes (Radford et al., 2018)."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: TriviumDecoderConfig):
        super().__init__(config)
        self.model = TriviumDecoderModel(config)
        self.build_lm_head(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: Items = None,
        return_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithCrossAttentions:
        """Reads with the arguments of [`TriviumDecoderModel`], then writes.

        Args:
            labels: (B, T), the tokens themselves (-100 = none); they are shifted here, and never across documents.
            use_cache: `None` = as configured, but not in training with labels.
            shift_labels: (B, T), labels that are shifted already. By keyword only: `Trainer` takes every named argument
                that speaks of labels for one without which a batch cannot be evaluated.
            logits_to_keep: how many last positions get logits (0 = all), or their indices.
            num_items_in_batch: what to divide the loss by; `None` = the labels of this batch.
            return_logits: `None` = unless training with labels.
        """
        shift_labels = kwargs.pop("shift_labels", None)
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            encoder_hidden_states,
            encoder_attention_mask,
            use_cache=self.fills_cache(labels if shift_labels is None else shift_labels, use_cache),
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        if labels is not None and shift_labels is None:
            documents = documents_of(hidden, position_ids, attention_mask, kwargs)
            shift_labels = shift_next(labels, documents, attention_mask)
        loss, logits = self.write(hidden, shift_labels, num_items_in_batch, return_logits, logits_to_keep)
        return CausalLMOutputWithCrossAttentions(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            cross_attentions=outputs.cross_attentions,
        )

    @staticmethod
    def create_masks_for_generate(
        attention_mask: torch.Tensor | None, is_first_iteration: bool = False, **kwargs
    ) -> torch.Tensor | dict | None:
        """What `generate` gives to the model with a static cache: masks of one shape for tokens, and for the prompt its
        (B, T) as it is, so that it is read without its padding.
        """
        if is_first_iteration:
            return attention_mask
        return create_masks_for_generate(attention_mask=attention_mask, **kwargs)


class TriviumDecoderForSequenceClassification(TriviumDecoderPreTrainedModel):
    """One label, several labels or a number per text, read off its last real token."""

    def __init__(self, config: TriviumDecoderConfig):
        super().__init__(config)
        self.model = TriviumDecoderModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier_transform = make_classifier_transform(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutputWithPast:
        """Arguments of [`TriviumDecoderModel`]; labels (N,) or (N, C) -> logits (N, C)."""
        outputs = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache=use_cache, **kwargs
        )
        hidden = outputs.last_hidden_state
        documents = documents_of(hidden, position_ids, attention_mask, kwargs)
        pooled = pool_last(hidden, attention_mask, documents, input_ids, self.config.pad_token_id)
        logits, loss = self.score(self.classifier_transform(self.dropout(pooled))), None
        if labels is not None:
            loss = sequence_classification_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class TriviumDecoderForTokenClassification(TriviumDecoderPreTrainedModel):
    """A label per token."""

    def __init__(self, config: TriviumDecoderConfig):
        super().__init__(config)
        self.model = TriviumDecoderModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """Arguments of [`TriviumDecoderModel`]; labels (B, T) -> logits (B, T, C)."""
        outputs = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache=use_cache, **kwargs
        )
        logits, loss = self.score(self.dropout(outputs.last_hidden_state)), None
        if labels is not None:
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten().to(logits.device), num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TriviumDecoderForQuestionAnswering(TriviumDecoderPreTrainedModel):
    """Where an answer starts and ends."""

    def __init__(self, config: TriviumDecoderConfig):
        super().__init__(config)
        self.model = TriviumDecoderModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> QuestionAnsweringModelOutput:
        """Arguments of [`TriviumDecoderModel`]; start_positions, end_positions (N,) -> start and end logits (B, T)."""
        outputs = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache=use_cache, **kwargs
        )
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
