"""Finds the answer to a question in a text, with any model that has a question answering head.

A context that is longer than the model reads is cut into windows that overlap (Devlin et al., 2019). All spans of all
windows compete under one softmax (the shared normalization of Clark & Gardner, 2018), so that a window without the
answer is not sure of itself. A span of text that several windows hold counts once, with its best score.

Shapes: B windows, T tokens of one, L = `max_answer_len`, N spans.
"""

import unicodedata
from collections.abc import Iterator
from typing import Any

import torch
from transformers.pipelines.base import ChunkPipeline

from .reading import pad_right, reading_limit

MAX_SEQ_LEN, DOC_STRIDE, MAX_ANSWER_LEN = 384, 128, 30  # of SQuAD (Devlin et al., 2019)
Spans = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # (N,) each: first character, the one after the last, logit


class QuestionAnsweringPipeline(ChunkPipeline):
    """`pipe(question=..., context=...)`: where in the context the answer stands (the task of SQuAD, 2016).

    The question comes first, for every family: a decoder sees only what is to its left, and could otherwise not read
    the context with the question in mind.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_video_processor = _load_feature_extractor = False
    tokenizer: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not getattr(self.tokenizer, "is_fast", False):
            name = "none" if self.tokenizer is None else type(self.tokenizer).__name__
            raise ValueError(
                "question answering needs a fast tokenizer, which knows where in the text its tokens stand, but got "
                f"{name}: load it with AutoTokenizer from a folder with a tokenizer.json."
            )
        self.tokenizer = pad_right(self.tokenizer)

    def __call__(self, inputs: Any = None, *, question: Any = None, context: Any = None, **kwargs: Any) -> Any:
        """Answers.

        Args:
            inputs: a dictionary with `question` and `context`, or a list, dataset or generator of them; other keys are
                ignored, so rows of SQuAD serve as they are. Or instead:
            question, context: a text each, or a list; a single text goes with each of the other's list.
            top_k: how many answers, best first; 1 gives the answer itself instead of a list.
            max_answer_len: the most tokens of an answer.
            handle_impossible_answer: there may be none, which is the answer "" from 0 to 0; its logit is that of the
                first special token (BERT's [CLS]), in the window that believes in it least (SQuAD 2.0).
            max_seq_len: tokens of a window, question and special tokens included; `None` = 384, or what the model reads
                if that is less.
            doc_stride: tokens of the context that two neighbouring windows share; `None` = 128, or half of what a
                window holds of the context if that is less.
            align_to_words: extends answers to whole words; of no use in scripts that have no space between words.
            batch_size: how many windows the model reads at once.

        Returns:
            `score` (the probability among all spans), `start`, `end` and `answer`, which is `context[start:end]`.

        Raises:
            ValueError: an empty or missing text, lists of unequal lengths, lengths that leave no room for the context,
                or a model without a question answering head, in one sentence.
        """
        if inputs is None:
            inputs = pair_up(question, context)
        elif question is not None or context is not None:
            raise ValueError("give the question and the context either in one dictionary or by name, not both ways.")
        inputs = list(inputs) if isinstance(inputs, tuple) else inputs
        return [] if isinstance(inputs, list) and not inputs else super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        top_k: int | None = None,
        max_answer_len: int | None = None,
        handle_impossible_answer: bool | None = None,
        max_seq_len: int | None = None,
        doc_stride: int | None = None,
        align_to_words: bool | None = None,
    ) -> tuple[dict, dict, dict]:
        for name, value in {"top_k": top_k, "max_answer_len": max_answer_len, "max_seq_len": max_seq_len}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        reading = {"max_seq_len": max_seq_len, "doc_stride": doc_stride, "align_to_words": align_to_words}
        choosing = {
            "top_k": top_k,
            "max_answer_len": max_answer_len,
            "handle_impossible_answer": handle_impossible_answer,
        }
        return _given(reading), {}, _given(choosing)

    def preprocess(
        self,
        example: dict[str, str],
        max_seq_len: int | None = None,
        doc_stride: int | None = None,
        align_to_words: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """The windows of one example: what the model reads, and (1, T) each the characters that tokens stand for."""
        question, context = read_example(example)
        size, overlap = self._window(question, max_seq_len, doc_stride)
        encoded = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=size,
            stride=overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        count = len(encoded["input_ids"])
        for window in range(count):
            ids = encoded["input_ids"][window]
            sides = encoded.sequence_ids(window)
            offsets = encoded["offset_mapping"][window]
            places = [
                trim(context, *place) if side == 1 else (0, 0) for place, side in zip(offsets, sides, strict=True)
            ]
            if align_to_words:
                places = [whole_words(context, *place) for place in places]
            begins, ends = torch.tensor(places).T
            null = ids.index(self.tokenizer.cls_token_id) if self.tokenizer.cls_token_id in ids else 0
            inputs = {name: encoded[name][window] for name in self.tokenizer.model_input_names if name in encoded}
            yield {
                **{name: torch.tensor([values]) for name, values in inputs.items()},
                "begins": begins[None],
                "ends": ends[None],  # where it is 0, also under padding, there is nothing of the context
                "is_null": torch.eye(1, len(ids), dtype=torch.long).roll(null),
                "context": context,
                "is_last": window == count - 1,
            }

    def _window(self, question: str, max_seq_len: int | None, doc_stride: int | None) -> tuple[int, int]:
        """Tokens of a window and of what two of them share, after a look at whether they make sense."""
        limit = reading_limit(self.model, self.tokenizer)
        size = max_seq_len or min(MAX_SEQ_LEN, limit or MAX_SEQ_LEN)
        if limit is not None and size > limit:
            raise ValueError(f"max_seq_len is {size}, but the model reads at most {limit} tokens.")
        asked = len(self.tokenizer(question, add_special_tokens=False)["input_ids"])
        room = size - asked - self.tokenizer.num_special_tokens_to_add(pair=True)
        if room < 1:
            raise ValueError(
                f"the question has {asked} tokens, which leaves no room for the context in a window of {size}: shorten "
                "it, or raise max_seq_len if the model reads more."
            )
        overlap = min(DOC_STRIDE, room // 2) if doc_stride is None else doc_stride
        if not 0 <= overlap < room:
            raise ValueError(
                f"doc_stride must be at least 0 and less than the {room} tokens of the context that a window of {size} "
                f"holds beside the question, not {overlap}."
            )
        return size, overlap

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        names = ("begins", "ends", "is_null", "context", "is_last")
        kept = {name: model_inputs.pop(name) for name in names}
        outputs = self.model(**model_inputs)
        if getattr(outputs, "start_logits", None) is None:
            raise ValueError(
                f"{type(self.model).__name__} has no question answering head: load the checkpoint with "
                "AutoModelForQuestionAnswering."
            )
        return {"starts": outputs.start_logits.float(), "stops": outputs.end_logits.float(), **kept}

    def postprocess(
        self,
        windows: list[dict[str, Any]],
        top_k: int = 1,
        max_answer_len: int = MAX_ANSWER_LEN,
        handle_impossible_answer: bool = False,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """The best spans of all windows of an example."""
        context = windows[0]["context"]
        parts = zip(*(spans_of(window, max_answer_len) for window in windows), strict=True)
        begins, ends, logits = merge(*(torch.cat(part) for part in parts))
        if handle_impossible_answer:
            none = torch.stack([null_logit(window) for window in windows]).min()
            begins, ends = (torch.cat([tensor.new_zeros(1), tensor]) for tensor in (begins, ends))
            logits = torch.cat([none[None], logits])
        if not len(logits):
            raise ValueError(f"the tokenizer finds nothing to read in the context {context[:40]!r}.")
        scores, order = logits.softmax(0).sort(descending=True, stable=True)
        places = zip(scores[:top_k].tolist(), begins[order].tolist(), ends[order].tolist(), strict=False)
        answers = [
            {"score": score, "start": start, "end": end, "answer": context[start:end]} for score, start, end in places
        ]
        return answers[0] if top_k == 1 else answers


def pair_up(question: Any, context: Any) -> dict[str, str] | list[dict[str, str]]:
    """One example, or a list of them where either is a list.

    Raises:
        ValueError: one is missing, or the lists are of unequal lengths.
    """
    if question is None or context is None:
        raise ValueError("question answering needs both: pipe(question=..., context=...).")
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    questions = [question] * len(context) if isinstance(question, str) else list(question)
    contexts = [context] * len(questions) if isinstance(context, str) else list(context)
    if len(questions) != len(contexts):
        raise ValueError(f"there are {len(questions)} questions but {len(contexts)} contexts: give one for each.")
    return [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]


def read_example(example: Any) -> tuple[str, str]:
    """Question and context of an example.

    Raises:
        ValueError: it is no dictionary of both, or one holds no text.
    """
    try:
        texts = example["question"], example["context"]
    except (TypeError, KeyError, IndexError):
        raise ValueError("an example must be a dictionary with a `question` and a `context`.") from None
    for name, text in zip(("question", "context"), texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"the {name} must be a text that is not empty, not {text!r}.")
    return texts


def trim(text: str, begin: int, end: int) -> tuple[int, int]:
    """The same characters without spaces around them; (0, 0) if nothing is left, as of a token that is but a space."""
    part = text[begin:end]
    begin, end = begin + len(part) - len(part.lstrip()), end - (len(part) - len(part.rstrip()))
    return (begin, end) if begin < end else (0, 0)


def whole_words(text: str, begin: int, end: int) -> tuple[int, int]:
    """The same characters and what else belongs to the words at either end."""
    if begin == end:
        return begin, end
    while begin > 0 and in_word(text[begin]) and in_word(text[begin - 1]):
        begin -= 1
    while end < len(text) and in_word(text[end - 1]) and in_word(text[end]):
        end += 1
    return begin, end


def in_word(character: str) -> bool:
    """Letters, digits, and the marks that combine with them (accents, vowel signs)."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def spans_of(window: dict[str, Any], max_answer_len: int) -> Spans:
    """The spans of a window, of at most `max_answer_len` tokens, that start and end in the context."""
    begins, ends = window["begins"][0], window["ends"][0]
    length = len(begins)
    first = torch.arange(length)[:, None]
    last = first + torch.arange(min(max_answer_len, length))  # (T, L)
    in_context = torch.cat([ends > begins, torch.zeros(length, dtype=torch.bool)])  # nothing after the end
    valid = in_context[first] & in_context[last]
    first, last = first.expand_as(last)[valid], last[valid]
    return begins[first], ends[last], window["starts"][0, first] + window["stops"][0, last]


def merge(begins: torch.Tensor, ends: torch.Tensor, logits: torch.Tensor) -> Spans:
    """Each place once, in the order of the text, with the best of its logits."""
    places, which = torch.unique(torch.stack([begins, ends]), dim=1, return_inverse=True)
    best = logits.new_full((places.shape[1],), -torch.inf).scatter_reduce(0, which, logits, "amax")
    return places[0], places[1], best


def null_logit(window: dict[str, Any]) -> torch.Tensor:
    """What a window gives to there being no answer: a number."""
    null = window["is_null"][0].argmax()
    return window["starts"][0, null] + window["stops"][0, null]


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}
