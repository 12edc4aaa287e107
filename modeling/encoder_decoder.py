"""The encoder-decoder: a decoder that also attends to an encoder. The base model and its heads.

Shapes: B rows, S source tokens a row, T target tokens a row, N texts (rows, or documents of a flattened batch), D
hidden size, V vocabulary, C classes.
"""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache, StaticCache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import (
    BaseModelOutput,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    Seq2SeqQuestionAnsweringModelOutput,
    Seq2SeqSequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults

from ..configuration.errors import InputError
from ..configuration.families import TriviumEncoderDecoderConfig
from .decoder import TriviumDecoderModel
from .documents import Documents, find_documents, first_tokens, shift_right
from .embeddings import TriviumTokenEmbedding
from .encoder import TriviumEncoderModel
from .heads import TriviumLanguageModelingHead, documents_of, make_classifier_transform, pool_last
from .losses import Items, cross_entropy, question_answering_loss, sequence_classification_loss
from .stack import TriviumPreTrainedModel
from .unpadding import mask_of_labels


class TriviumEncoderDecoderPreTrainedModel(TriviumPreTrainedModel):
    """What all encoder-decoder classes are: tied embeddings, and two sides to find."""

    config: TriviumEncoderDecoderConfig
    _can_record_outputs = None

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Targets and sources of the tied weights, as `share_embeddings` and `tie_word_embeddings` say."""
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return self._embedding_ties()

    def _embedding_ties(self) -> dict[str, str]:
        """This class's own ties; two flags decide, where the tying of transformers knows one."""
        return {}

    def get_encoder(self, modality: str | None = None) -> TriviumEncoderModel:
        """The encoder."""
        return self.base_model.encoder

    def get_decoder(self) -> TriviumDecoderModel | None:
        """The decoder; a model that labels tokens has none."""
        return getattr(self.base_model, "decoder", None)

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's embedding."""
        return self.get_encoder().embed_tokens

    def set_input_embeddings(self, value: TriviumTokenEmbedding) -> None:
        """Replaces the encoder's embedding, and the decoder's if they are shared."""
        self.get_encoder().embed_tokens = value
        decoder = self.get_decoder()
        if decoder is not None and self.config.share_embeddings:
            decoder.embed_tokens = value

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Module:
        """As in transformers, for both sides: the vocabulary is one even where the embeddings are two."""
        embeddings = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        decoder = self.get_decoder()
        if decoder is not None and not self.config.share_embeddings:
            decoder.resize_token_embeddings(new_num_tokens, *args, **kwargs)
            self.tie_weights()
        self.config.vocab_size = self.get_encoder().embed_tokens.num_embeddings
        return embeddings

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """What the decoder reads to predict `labels` (B, T): the same one step later (seq2seq collators ask)."""
        starts = torch.zeros_like(labels, dtype=torch.bool)
        starts[:, 0] = True
        return shift_right(labels, starts, self.config.decoder_start_token_id, self.config.pad_token_id)


class TriviumEncoderDecoderModel(TriviumEncoderDecoderPreTrainedModel):
    """Both stacks without a head."""

    _tied_weights_keys = {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}

    def __init__(self, config: TriviumEncoderDecoderConfig):
        super().__init__(config)
        if config.share_embeddings:
            # Tools that change the vocabulary write the decoder's size only (`get_text_config().vocab_size`).
            config.vocab_size = config.decoder.vocab_size
        self.encoder = TriviumEncoderModel(config.encoder, add_pooling_layer=False)
        self.decoder = TriviumDecoderModel(config.decoder)
        self.post_init()

    def _embedding_ties(self) -> dict[str, str]:
        return dict(self._tied_weights_keys) if self.config.share_embeddings else {}

    @merge_with_config_defaults
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        cu_seq_lens_k: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqModelOutput:
        """Reads the source and the target so far.

        Args:
            input_ids: (B, S); or inputs_embeds: (B, S, D); or encoder_outputs, the encoder's work done before.
            attention_mask: (B, S), one for real tokens.
            position_ids, decoder_position_ids: (B, S), (B, T); if both restart and there are no masks, the batch is
                flattened, and document i of the decoder sees document i of the encoder.
            decoder_input_ids: (B, T); or decoder_inputs_embeds: (B, T, D).
            cu_seq_lens_k, cu_seq_lens_q: (N + 1,), the same said for the source and for the target.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids,
                attention_mask,
                position_ids=position_ids,
                inputs_embeds=inputs_embeds,
                cu_seq_lens_q=cu_seq_lens_k,
                **kwargs,
            )
        elif isinstance(encoder_outputs, tuple):
            encoder_outputs = BaseModelOutput(*encoder_outputs[:3])
        states = encoder_outputs[0]
        decoder_outputs = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            decoder_position_ids,
            past_key_values,
            decoder_inputs_embeds,
            encoder_hidden_states=states,
            encoder_attention_mask=attention_mask,
            encoder_position_ids=position_ids,
            use_cache=use_cache,
            cu_seq_lens_q=cu_seq_lens_q,
            cu_seq_lens_k=cu_seq_lens_k,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=states,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


class TriviumEncoderDecoderForConditionalGeneration(
    TriviumEncoderDecoderPreTrainedModel, TriviumLanguageModelingHead, GenerationMixin
):
    """Turns one text into another."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: TriviumEncoderDecoderConfig):
        super().__init__(config)
        self.model = TriviumEncoderDecoderModel(config)
        self.build_lm_head(config.decoder)
        # Labels are not shifted; under the name of this class transformers would take the loss that shifts them.
        self.loss_type = "ForMaskedLM"
        self.post_init()

    def _embedding_ties(self) -> dict[str, str]:
        if not self.config.tie_word_embeddings:
            return {}
        # A weight that is itself a target cannot be a source.
        side = "encoder" if self.config.share_embeddings else "decoder"
        return {"lm_head.weight": f"model.{side}.embed_tokens.weight"}

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: Items = None,
        return_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqLMOutput:
        """Reads with the arguments of [`TriviumEncoderDecoderModel`], then writes.

        Args:
            labels: (B, T), the target tokens (-100 = none); the decoder reads them one step later unless given its
                input.
            use_cache, logits_to_keep, num_items_in_batch, return_logits: as in [`TriviumDecoderForCausalLM`].
        """
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            documents = find_documents(
                labels.shape, decoder_position_ids, decoder_attention_mask, cu_seq_lens=kwargs.get("cu_seq_lens_q")
            )
            if documents is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
            else:
                tokens = (self.config.decoder_start_token_id, self.config.pad_token_id)
                decoder_input_ids = shift_right(labels, documents.starts, *tokens)
        use_cache = self.fills_cache(labels, use_cache)
        if labels is not None and not use_cache and not self.returns_logits(labels, return_logits):
            told = (decoder_attention_mask, decoder_position_ids, past_key_values, kwargs.get("cu_seq_lens_q"))
            if all(x is None for x in told):
                decoder_attention_mask = mask_of_labels(self.config.decoder, labels)
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            decoder_input_ids,
            decoder_attention_mask,
            decoder_position_ids,
            encoder_outputs,
            past_key_values,
            inputs_embeds,
            decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        loss, logits = self.write(outputs.last_hidden_state, labels, num_items_in_batch, return_logits, logits_to_keep)
        return Seq2SeqLMOutput(loss=loss, logits=logits, **_states(outputs))

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args, **kwargs):
        """As in transformers, but what is read of the source is kept whole, also where decoder layers slide."""
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)
        cache = model_kwargs.get("past_key_values")
        if not isinstance(cache, EncoderDecoderCache) or cache.is_updated.get(0):
            return
        if "sliding_attention" not in self.config.decoder.layer_types:
            return
        if isinstance(cache.cross_attention_cache, StaticCache):
            whole = self.config.decoder.to_dict()
            whole |= {"layer_types": ["full_attention"] * len(whole["layer_types"]), "sliding_window": None}
            whole = type(self.config.decoder).from_dict(whole)
            length = model_kwargs["encoder_outputs"][0].shape[1]
            cache.cross_attention_cache = StaticCache(config=whole, max_cache_len=length)
        else:
            cache.cross_attention_cache = DynamicCache()


class TriviumEncoderDecoderReader(TriviumEncoderDecoderPreTrainedModel):
    """An encoder-decoder whose head reads the decoder's states over the source text itself (BART, section 3)."""

    def __init__(self, config: TriviumEncoderDecoderConfig):
        super().__init__(config)
        self.model = TriviumEncoderDecoderModel(config)
        self.dropout = nn.Dropout(config.decoder.classifier_dropout)

    def read(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        decoder_input_ids: torch.Tensor | None,
        decoder_attention_mask: torch.Tensor | None,
        decoder_position_ids: torch.Tensor | None,
        encoder_outputs: BaseModelOutput | tuple | None,
        inputs_embeds: torch.Tensor | None,
        decoder_inputs_embeds: torch.Tensor | None,
        use_cache: bool | None,
        **kwargs,
    ) -> tuple[Seq2SeqModelOutput, torch.Tensor | None, Documents | None, torch.Tensor | None]:
        """The base model's outputs, then the decoder's padding mask, documents and token ids.

        Unless it is given its own input, the decoder reads the source one step later, token for token.

        Raises:
            InputError: neither the decoder's input nor token ids to make it from.
        """
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if input_ids is None:
                raise InputError(
                    "without input_ids the decoder's input must be given: decoder_input_ids or embeddings."
                )
            documents = find_documents(
                input_ids.shape, position_ids, attention_mask, cu_seq_lens=kwargs.get("cu_seq_lens_k")
            )
            starts = first_tokens(input_ids, attention_mask, documents)
            tokens = (self.config.decoder_start_token_id, self.config.pad_token_id)
            decoder_input_ids = shift_right(input_ids, starts, *tokens)
            decoder_attention_mask, decoder_position_ids = attention_mask, position_ids
            if "cu_seq_lens_k" in kwargs:
                kwargs["cu_seq_lens_q"] = kwargs["cu_seq_lens_k"]
        outputs = self.model(
            input_ids,
            attention_mask,
            position_ids,
            decoder_input_ids,
            decoder_attention_mask,
            decoder_position_ids,
            encoder_outputs,
            None,
            inputs_embeds,
            decoder_inputs_embeds,
            use_cache=bool(use_cache),  # nobody goes on writing, unless asked
            **kwargs,
        )
        documents = documents_of(outputs.last_hidden_state, decoder_position_ids, decoder_attention_mask, kwargs)
        return outputs, decoder_attention_mask, documents, decoder_input_ids


class TriviumEncoderDecoderForSequenceClassification(TriviumEncoderDecoderReader):
    """One label, several labels or a number per text, read off the decoder's last real token."""

    def __init__(self, config: TriviumEncoderDecoderConfig):
        super().__init__(config)
        self.classifier_transform = make_classifier_transform(config.decoder)
        self.score = nn.Linear(config.decoder.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqSequenceClassifierOutput:
        """Arguments of [`TriviumEncoderDecoderModel`]; labels (N,) or (N, C) -> logits (N, C)."""
        outputs, mask, documents, read_ids = self.read(
            input_ids,
            attention_mask,
            position_ids,
            decoder_input_ids,
            decoder_attention_mask,
            decoder_position_ids,
            encoder_outputs,
            inputs_embeds,
            decoder_inputs_embeds,
            use_cache,
            **kwargs,
        )
        pooled = pool_last(outputs.last_hidden_state, mask, documents, read_ids, self.config.pad_token_id)
        logits, loss = self.score(self.classifier_transform(self.dropout(pooled))), None
        if labels is not None:
            loss = sequence_classification_loss(logits, labels, self.config.problem_type, num_items_in_batch)
        return Seq2SeqSequenceClassifierOutput(loss=loss, logits=logits, **_states(outputs))


class TriviumEncoderDecoderForTokenClassification(TriviumEncoderDecoderPreTrainedModel):
    """A label per token of the source, read off the encoder's states: what T5's class does, without a decoder.

    The decoder sees only tokens that come before, so its states would say less of a token than the encoder's.
    """

    _keys_to_ignore_on_load_unexpected = [r"^(model\.)?decoder\."]

    def __init__(self, config: TriviumEncoderDecoderConfig):
        super().__init__(config)
        # Under the base model's name, so that pretrained weights find their place.
        self.model = nn.ModuleDict({"encoder": TriviumEncoderModel(config.encoder, add_pooling_layer=False)})
        self.dropout = nn.Dropout(config.encoder.classifier_dropout)
        self.score = nn.Linear(config.encoder.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """Arguments of [`TriviumEncoderModel`]; labels (B, S) -> logits (B, S, C)."""
        outputs = self.get_encoder()(
            input_ids, attention_mask, position_ids=position_ids, inputs_embeds=inputs_embeds, **kwargs
        )
        logits, loss = self.score(self.dropout(outputs.last_hidden_state)), None
        if labels is not None:
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten().to(logits.device), num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TriviumEncoderDecoderForQuestionAnswering(TriviumEncoderDecoderReader):
    """Where an answer starts and ends in the source."""

    def __init__(self, config: TriviumEncoderDecoderConfig):
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.decoder.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Items = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqQuestionAnsweringModelOutput:
        """Arguments of [`TriviumEncoderDecoderModel`]; start_positions, end_positions (N,) -> logits (B, T) each."""
        outputs, mask, documents, _ = self.read(
            input_ids,
            attention_mask,
            position_ids,
            decoder_input_ids,
            decoder_attention_mask,
            decoder_position_ids,
            encoder_outputs,
            inputs_embeds,
            decoder_inputs_embeds,
            use_cache,
            **kwargs,
        )
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            answers = (start_positions, end_positions, mask, documents, num_items_in_batch)
            loss = question_answering_loss(start_logits, end_logits, *answers)
        return Seq2SeqQuestionAnsweringModelOutput(
            loss=loss, start_logits=start_logits, end_logits=end_logits, **_states(outputs)
        )


def _states(outputs: Seq2SeqModelOutput) -> dict:
    """What every sequence-to-sequence output passes on from the base model."""
    names = (
        "past_key_values",
        "decoder_hidden_states",
        "decoder_attentions",
        "cross_attentions",
        "encoder_last_hidden_state",
        "encoder_hidden_states",
        "encoder_attentions",
    )
    return {name: outputs.get(name) for name in names}
