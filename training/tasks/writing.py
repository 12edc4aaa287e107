"""Writing one text from another: translation, summaries, answers to what somebody said (Sutskever et al., 2014)."""

import copy
from collections.abc import Sequence
from typing import Any

import torch

from ...configuration.errors import InputError
from .examples import Unusable
from .metrics import measure
from .task import IGNORED, Row, Task, by_length, pad, text_in


class WritingTask(Task):
    """What writes: a prompt is read, the rest is written up to an end of sequence; only the rest has a loss."""

    heads = {"encoder-decoder": "AutoModelForSeq2SeqLM", "decoder": "AutoModelForCausalLM"}
    best = "loss"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.tokenizer.eos_token_id is None:
            raise InputError("writing needs an end-of-sequence token, which this tokenizer does not have.")
        if self.family == "decoder" and self.form.max_target_length >= self.max_length:
            raise InputError(
                f"`max_target_length` {self.form.max_target_length} leaves no room for a prompt in the "
                f"{self.max_length} tokens that a decoder reads: lower it, or raise max_length."
            )

    def prompt(self, row: Row) -> list[int]:
        """The tokens that are read, cut to leave room for what is written."""
        raise NotImplementedError

    def answer(self, row: Row) -> list[int]:
        """The tokens that are to be written, the end among them."""
        raise NotImplementedError

    def encode(self, rows: Sequence[Row]) -> list[Row]:
        """The features of rows, one each; see [`feature`]."""
        return [self.feature(row) for row in rows]

    def feature(self, row: Row) -> Row:
        """The prompt, and as labels what is to be written after it; a decoder reads both, one after the other."""
        prompt, answer = self.prompt(row), self.answer(row)
        if self.family == "encoder-decoder":
            return {"input_ids": prompt, "attention_mask": [1] * len(prompt), "labels": answer}
        ids = prompt + answer
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [IGNORED] * len(prompt) + answer}

    def items(self, batch: dict[str, torch.Tensor]) -> int:
        """The tokens that are to be written."""
        return int((batch["labels"] != IGNORED).sum())

    @torch.no_grad()
    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """What is written, `text`."""
        tokenizer = copy.copy(self.tokenizer)
        tokenizer.padding_side = "left" if self.family == "decoder" else "right"
        features = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in map(self.prompt, rows)]
        answers: list[Row] = [{} for _ in rows]
        settings = {"max_new_tokens": self.form.max_target_length, "num_beams": self.form.num_beams, "do_sample": False}
        for numbers in by_length(features, batch_size):
            batch = pad(tokenizer, [features[number] for number in numbers])
            batch = {name: value.to(model.device) for name, value in batch.items()}
            written = model.generate(**batch, **settings, pad_token_id=tokenizer.pad_token_id)
            begin = batch["input_ids"].shape[1] if self.family == "decoder" else 0
            texts = tokenizer.batch_decode(written[:, begin:], skip_special_tokens=True)
            for number, text in zip(numbers, texts, strict=True):
                answers[number] = {"text": text.strip()}
        return answers

    def cut(self, text: str, length: int, special_tokens: bool = True) -> list[int]:
        """The tokens of a text, at most so many."""
        return self.tokenizer(text, truncation=True, max_length=length, add_special_tokens=special_tokens)["input_ids"]

    def ended(self, text: str) -> list[int]:
        """The tokens of a text to write, with the end of sequence."""
        ids = self.cut(text, self.form.max_target_length - 1, special_tokens=False)
        return [*ids, self.tokenizer.eos_token_id]


class TextToText(WritingTask):
    """`source` and `target`; a decoder reads the source in a prompt."""

    reads = {"source": "the text to read"}
    targets = {"target": "the text to write"}
    metrics = ("bleu", "chrf", "rouge")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.form.prompt.count("{source}") != 1:
            raise InputError(f"`prompt` must hold {{source}} once, where the text goes, not {self.form.prompt!r}.")

    def check(self, row: Row) -> None:
        """Raises `Unusable` for an empty text."""
        text_in(row, "source", "source")
        text_in(row, "target", "target")

    def prompt(self, row: Row) -> list[int]:
        """Of a decoder the source between what `prompt` has before and after it; the source is cut, not these."""
        if self.family == "encoder-decoder":
            return self.cut(row["source"], self.max_length)
        before, after = self.form.prompt.split("{source}")
        around = len(self.cut(before + after, self.max_length, special_tokens=False))
        room = self.max_length - self.form.max_target_length - around
        source = row["source"]
        ids = self.cut(source, max(room, 1), special_tokens=False)
        if len(ids) >= room:
            source = self.tokenizer.decode(ids, skip_special_tokens=True)
        start = [self.tokenizer.bos_token_id] if self.starts_with_bos else []
        return start + self.cut(before + source + after, self.max_length, special_tokens=False)

    @property
    def starts_with_bos(self) -> bool:
        """Whether a text begins with a special token of its own, as in pretraining."""
        ids = self.tokenizer("a")["input_ids"]
        return self.tokenizer.bos_token_id is not None and ids[0] == self.tokenizer.bos_token_id

    def answer(self, row: Row) -> list[int]:
        """The target."""
        return self.ended(row["target"])

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """BLEU and chrF (0 to 100), ROUGE (0 to 1)."""
        return measure(self.metrics, [row["text"] for row in predictions], [row["target"] for row in rows])


class InstructionFollowing(WritingTask):
    """`messages`, each with `role` and `content`; the last is of the assistant, who learns to write it."""

    reads = {"messages": "what was said"}
    targets: dict[str, str] = {}
    heads = {"decoder": "AutoModelForCausalLM"}

    def check(self, row: Row) -> None:
        """Raises `Unusable` unless there are messages and the last is the assistant's."""
        messages = row["messages"]
        if not isinstance(messages, list) or not all(
            isinstance(m, dict) and isinstance(m.get("content"), str) and m.get("role") for m in messages
        ):
            raise Unusable("`messages` holds no list of `role` and `content`", "mend it")
        if len(messages) < 2 or messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
            raise Unusable("the last message is not the assistant's", "end with what is to be learnt")

    def prompt(self, row: Row) -> list[int]:
        """Everything before the last message, in the form of the chat template; the beginning is cut off."""
        messages = row["messages"][:-1] if row["messages"][-1]["role"] == "assistant" else row["messages"]
        ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        return ids[-(self.max_length - self.form.max_target_length) :]

    def answer(self, row: Row) -> list[int]:
        """The last message."""
        return self.ended(row["messages"][-1]["content"])

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """How near the answer is to the one given: chrF (0 to 100)."""
        expected = [row["messages"][-1]["content"] for row in rows]
        return measure(("chrf",), [row["text"] for row in predictions], expected)
