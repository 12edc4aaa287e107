"""Writing one text from another: translation, summaries, answers to what somebody said (Sutskever et al., 2014)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from ...configuration.errors import InputError
from ..data.parts import first_line
from .examples import Unusable
from .metrics import measure
from .task import IGNORED, Row, Task, beginning, by_length, flatten, pad, text_in, tokens_of
from .windows import need_offsets


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

    def collate(self, features: list[Row]) -> dict[str, torch.Tensor]:
        """A batch; what the decoder of an encoder-decoder writes begins in the first column, and is padded after."""
        if self.family == "decoder":
            return super().collate(features)
        return flatten(features, "labels") if self.form.packing else pad(self.tokenizer, features, "right")

    @torch.no_grad()
    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """What is written, `text`, without spaces around it."""
        decoder = self.family == "decoder"
        features = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in map(self.prompt, rows)]
        answers: list[Row] = [{} for _ in rows]
        settings = {
            "max_new_tokens": self.form.max_target_length,
            "num_beams": self.form.num_beams,
            "do_sample": False,
            "eos_token_id": self.tokenizer.eos_token_id,
            "pad_token_id": self.tokenizer.pad_token_id,
        }
        for numbers in by_length(features, batch_size):
            # What is written follows the last column.
            batch = pad(self.tokenizer, [features[number] for number in numbers], "left" if decoder else "right")
            written = model.generate(**{name: value.to(model.device) for name, value in batch.items()}, **settings)
            begin = batch["input_ids"].shape[1] if decoder else 0
            texts = self.tokenizer.batch_decode(written[:, begin:], skip_special_tokens=True)
            for number, text in zip(numbers, texts, strict=True):
                answers[number] = {"text": text.strip()}
        return answers

    def tokens(self, text: str, length: int, special_tokens: bool = False) -> list[int]:
        """The tokens of a text, at most so many."""
        (read,) = tokens_of(self.tokenizer, [text], max_length=length, add_special_tokens=special_tokens)
        return read["input_ids"]

    def ended(self, text: str) -> list[int]:
        """The tokens of a text to write, with the end of sequence."""
        return [*self.tokens(text, self.form.max_target_length - 1), self.tokenizer.eos_token_id]


class TextToText(WritingTask):
    """`source` and `target`; a decoder reads the source in a prompt."""

    reads = {"source": "the text to read"}
    targets = {"target": "the text to write"}
    metrics = ("bleu", "chrf", "rouge")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.form.prompt.count("{source}") != 1:
            raise InputError(f"`prompt` must hold {{source}} once, where the text goes, not {self.form.prompt!r}.")
        if self.family != "decoder":
            return
        need_offsets(self.tokenizer, "writing after a prompt")
        self.before, self.after = self.form.prompt.split("{source}")
        # Texts that a decoder was pretrained on may begin with a token of their own.
        first = self.tokenizer("a")["input_ids"][0]
        self.start = [first] if first == self.tokenizer.bos_token_id else []
        self.room = self.max_length - self.form.max_target_length - len(self.start)
        around = len(self._read("")["input_ids"])
        if around >= self.room:
            raise InputError(
                f"`prompt` has {around} tokens, and a text to write may have {self.form.max_target_length} of the "
                f"{self.max_length} that a decoder reads: shorten it, lower max_target_length, or raise max_length."
            )

    def check_read(self, row: Row) -> None:
        """Raises `Unusable` for an empty text."""
        text_in(row, "source", "source")

    def check_target(self, row: Row) -> None:
        """Raises `Unusable` for an empty text."""
        text_in(row, "target", "target")

    def prompt(self, row: Row) -> list[int]:
        """Of a decoder the source between what `prompt` has before and after it; the source is cut, not these."""
        if self.family == "encoder-decoder":
            return self.tokens(row["source"], self.max_length, special_tokens=True)
        source = beginning(self.tokenizer, row["source"], self.max_length)
        while len(ids := self._read(source)["input_ids"]) > self.room:
            source = self._shortened(source, len(ids) - self.room)
        return self.start + ids

    def _read(self, source: str) -> Any:
        text = self.before + source + self.after
        return self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)

    def _shortened(self, source: str, tokens: int) -> str:
        """A source without the characters of its last so many tokens, and without one at least."""
        begins = [begin - len(self.before) for begin, _ in self._read(source)["offset_mapping"]]
        of_source = [begin for begin in begins if 0 <= begin < len(source)]
        return source[: of_source[-tokens]] if len(of_source) >= tokens else source[: len(source) // 2]

    def answer(self, row: Row) -> list[int]:
        """The target."""
        return self.ended(row["target"])

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """BLEU and chrF (0 to 100), ROUGE (0 to 1)."""
        return measure(self.metrics, [row["text"] for row in predictions], [row["target"] for row in rows])


class InstructionFollowing(WritingTask):
    """`messages`, each with `role` and `content`; the last is of the assistant, who learns to write it."""

    reads = {"messages": "what was said"}
    targets: ClassVar[dict[str, str]] = {}
    heads = {"decoder": "AutoModelForCausalLM"}

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.tokenizer.chat_template is None:
            raise InputError(
                "instruction-following needs a chat template, which this tokenizer does not have: put a "
                "chat_template.jinja beside it, or take text-to-text."
            )

    def check_read(self, row: Row) -> None:
        """Raises `Unusable` unless there are messages that the chat template takes."""
        from jinja2 import TemplateError

        messages = row["messages"]
        if not isinstance(messages, list) or not all(
            isinstance(m, dict) and isinstance(m.get("content"), str) and isinstance(m.get("role"), str)
            for m in messages
        ):
            raise Unusable("`messages` holds no list of `role` and `content`")
        if not self._asked(row):
            raise Unusable("`messages` has nothing before what the assistant says", "begin with what is asked")
        try:
            self.tokenizer.apply_chat_template(self._asked(row), add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            raise Unusable(f"the chat template does not take `messages` ({first_line(error)})") from None

    def check_target(self, row: Row) -> None:
        """Raises `Unusable` unless the last message is the assistant's."""
        last = row["messages"][-1]
        if last["role"] != "assistant" or not last["content"].strip():
            raise Unusable("the last message is not the assistant's, or empty", "end with what is to be learnt")

    def _asked(self, row: Row) -> list[Row]:
        """Everything before what the assistant says last."""
        messages = row["messages"]
        return messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages

    def prompt(self, row: Row) -> list[int]:
        """Everything before the last message, in the form of the chat template; the beginning is cut off."""
        ids = self.tokenizer.apply_chat_template(
            self._asked(row), add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return ids[-(self.max_length - self.form.max_target_length) :]

    def answer(self, row: Row) -> list[int]:
        """The last message."""
        return self.ended(row["messages"][-1]["content"])

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """How near the answer is to the one given: chrF (0 to 100)."""
        expected = [row["messages"][-1]["content"] for row in rows]
        return measure(("chrf",), [row["text"] for row in predictions], expected)
