"""Turns a text into another, with any encoder-decoder that writes: anything, a summary, a translation.

A configuration may say how a task is done: `task_specific_params` (T5, Raffel et al., 2020) holds for each task a
prefix of the text and parameters of generation. What the caller says comes before that, and that before the model's
generation configuration.
"""

from typing import Any, ClassVar

import torch
from transformers.pipelines.base import Pipeline
from transformers.utils import logging

from .reading import pad_right, positions, reading_limit

MAX_NEW_TOKENS = 256  # where nothing else says how long

logger = logging.get_logger(__name__)


class TextToTextPipeline(Pipeline):
    """`pipe(text)`: what the model writes for it.

    Attributes:
        output: the name of the text in what a call returns.
        recipe: the entry of `task_specific_params` that says how to do the task.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_video_processor = _load_feature_extractor = False
    tokenizer: Any
    output: ClassVar[str] = "generated_text"
    recipe: ClassVar[str | None] = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not (self.model.config.is_encoder_decoder and self.model.can_generate()):
            raise ValueError(
                f"{type(self.model).__name__} does not turn a text into another: load an encoder-decoder with "
                "AutoModelForSeq2SeqLM, or use the text-generation pipeline for a decoder."
            )
        if self.tokenizer is None:
            raise ValueError("turning a text into another needs the model's tokenizer: pass tokenizer=....")
        self.tokenizer = pad_right(self.tokenizer)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Writes.

        Args:
            inputs: a text, or a list, dataset or generator of texts.
            prefix: what to put before every text; `None` = what the configuration says for the task.
            truncation: of a text that is longer than the model reads: `None` refuses it, `True` cuts its end off and
                says so, `False` lets the model try (T5 may, a model with learned positions cannot).
            skip_special_tokens: leave them out of the text (T5's sentinels are among them); default `True`.
            clean_up_tokenization_spaces: of the text; `None` = as the tokenizer has it.
            return_tensors: token ids instead of text, as `generated_token_ids`.
            batch_size: how many texts the model reads at once.
            Everything else goes to `generate`: `max_new_tokens` (where neither the caller nor the checkpoint says: 256,
            or as many as the model has positions), `num_beams`, `num_return_sequences`, `generation_config`, ...

        Returns:
            For each text a list of `num_return_sequences` dictionaries, also where that is 1; with a `score` each if
            beams were asked for theirs (`return_dict_in_generate=True, output_scores=True`).

        Raises:
            ValueError: an input that is no text, is empty, or is longer than the model reads, in one sentence.
        """
        inputs = list(inputs) if isinstance(inputs, tuple) else inputs
        return [] if isinstance(inputs, list) and not inputs else super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        *,
        prefix: str | None = None,
        truncation: bool | None = None,
        skip_special_tokens: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        return_tensors: bool | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict, dict, dict]:
        reading = {"prefix": prefix, "truncation": truncation}
        wording = {
            "skip_special_tokens": skip_special_tokens,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
            "return_tensors": return_tensors,
        }
        if "stop_strings" in generate_kwargs:
            generate_kwargs.setdefault("tokenizer", self.tokenizer)
        return _given(reading), generate_kwargs, _given(wording)

    def preprocess(
        self, text: Any, *, prefix: str | None = None, truncation: bool | None = None, recipe: str | None = None
    ) -> dict[str, torch.Tensor]:
        """A text's `input_ids` and `attention_mask`, (1, T) each."""
        if not isinstance(text, str):
            raise ValueError(f"the input must be a text or a list of texts, not {type(text).__name__}.")
        text = self._parameters(recipe).get("prefix", "") + text if prefix is None else prefix + text
        inputs = self.tokenizer(text, return_tensors="pt", verbose=False)
        length, limit = inputs["input_ids"].shape[1], reading_limit(self.model, self.tokenizer)
        if length == 0:
            raise ValueError("the text is empty.")
        if limit is not None and length > limit and truncation is not False:
            if not truncation:
                raise ValueError(
                    f"the text has {length} tokens and the model reads {limit}: shorten it, cut its end off with "
                    "truncation=True, or let the model try with truncation=False."
                )
            logger.warning(f"the text has {length} tokens and the model reads {limit}: the rest is cut off.")
            inputs = self.tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)
        return {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}

    def _forward(
        self, model_inputs: dict[str, torch.Tensor], recipe: str | None = None, **generate_kwargs: Any
    ) -> dict[str, torch.Tensor]:
        written = self.model.generate(**model_inputs, **self._generation(recipe, generate_kwargs))
        ids = getattr(written, "sequences", written)
        count = len(model_inputs["input_ids"])
        outputs = {"ids": ids.unflatten(0, (count, -1))}
        scores = getattr(written, "sequences_scores", None)
        return outputs if scores is None else {**outputs, "scores": scores.unflatten(0, (count, -1))}

    def postprocess(
        self,
        model_outputs: dict[str, torch.Tensor],
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool | None = None,
        return_tensors: bool = False,
    ) -> list[dict[str, Any]]:
        """What was written for one text, a dictionary a sequence."""
        ends = self.model.generation_config.eos_token_id
        sequences = [until_end(ids, ends) for ids in model_outputs["ids"][0].tolist()]
        if return_tensors:
            records: list[dict[str, Any]] = [{"generated_token_ids": ids} for ids in sequences]
        else:
            how = {
                "skip_special_tokens": skip_special_tokens,
                "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
            }
            records = [{self.output: self.tokenizer.decode(ids, **how)} for ids in sequences]
        if "scores" not in model_outputs:
            return records
        scores = model_outputs["scores"][0].tolist()
        return [{**record, "score": score} for record, score in zip(records, scores, strict=True)]

    def _parameters(self, recipe: str | None) -> dict[str, Any]:
        """What the configuration says about a task."""
        recipes = getattr(self.model.config, "task_specific_params", None) or {}
        return recipes.get(recipe or self.recipe, {})

    def _generation(self, recipe: str | None, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of `generate`: what the caller gave, what the configuration says about the task, a length."""
        if "generation_config" in given:
            return given
        parameters = {name: value for name, value in self._parameters(recipe).items() if name != "prefix"}
        if "max_new_tokens" in given:
            parameters.pop("max_length", None)
        arguments = parameters | given
        said = self.model.generation_config.to_diff_dict() | arguments
        if not said.keys() & {"max_length", "max_new_tokens"}:
            arguments["max_new_tokens"] = min(MAX_NEW_TOKENS, positions(self.model, "decoder") or MAX_NEW_TOKENS)
        return arguments


class SummarizationPipeline(TextToTextPipeline):
    """`pipe(text)`: a summary, as `summary_text`."""

    output = "summary_text"
    recipe = "summarization"


class TranslationPipeline(TextToTextPipeline):
    """`pipe(text, src_lang="en", tgt_lang="de")`: a translation, as `translation_text`.

    The languages may be left out where the model knows one pair. Their names are the tokenizer's, where it has a token
    for each (M2M100, mBART, NLLB), or those of the configuration's `translation_en_to_de` (T5).
    """

    output = "translation_text"

    def _sanitize_parameters(
        self, *, src_lang: str | None = None, tgt_lang: str | None = None, **kwargs: Any
    ) -> tuple[dict, dict, dict]:
        reading, writing, wording = super()._sanitize_parameters(**kwargs)
        if src_lang is None and tgt_lang is None:
            return reading, writing, wording
        if src_lang is None or tgt_lang is None:
            raise ValueError("give both languages, src_lang and tgt_lang, or neither.")
        if hasattr(self.tokenizer, "src_lang"):
            return {**reading, "src_lang": src_lang}, {"forced_bos_token_id": self._token(tgt_lang), **writing}, wording
        recipe = f"translation_{src_lang}_to_{tgt_lang}"
        if not self._parameters(recipe):
            raise ValueError(
                f"the checkpoint does not say how to translate from {src_lang!r} to {tgt_lang!r} (no {recipe!r} in "
                "task_specific_params, no language tokens): leave the languages out, and give a prefix if it needs one."
            )
        return {**reading, "recipe": recipe}, {**writing, "recipe": recipe}, wording

    def _token(self, language: str) -> int:
        """The token that a translation into `language` begins with."""
        find = getattr(self.tokenizer, "get_lang_id", self.tokenizer.convert_tokens_to_ids)
        return find(language)

    def preprocess(self, text: Any, *, src_lang: str | None = None, **kwargs: Any) -> dict[str, torch.Tensor]:
        """As [`TextToTextPipeline`], with the token of the language where the tokenizer has one."""
        if src_lang is not None:
            self.tokenizer.src_lang = src_lang
        return super().preprocess(text, **kwargs)


def until_end(ids: list[int], ends: int | list[int] | None) -> list[int]:
    """A sequence without the decoder's start token, up to its first end token; what follows pads the batch."""
    tokens = set(ends) if isinstance(ends, list) else {ends}
    stop = next((place for place, token in enumerate(ids[1:], 2) if token in tokens), len(ids))
    return ids[1:stop]


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}
