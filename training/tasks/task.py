"""What the tasks have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...configuration.errors import InputError
from .examples import Examples, Unusable

IGNORED = -100
FLOAT32_MAX = torch.finfo(torch.float32).max
CHARACTERS_OF_TOKEN = 32  # more than the tokens of a text have on average
RAGGED: dict[str, int | None] = {"input_ids": None, "attention_mask": 0, "token_type_ids": 0, "labels": IGNORED}
Row = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """How texts are made into what a model reads, and how answers are made; what a recipe may say of it.

    Attributes:
        max_length: tokens of a text, or of a window of one; `None` = what the model reads at once, at most 512.
        stride: tokens that two windows of a long text share.
        max_target_length: tokens of an answer that is written.
        max_answer_length: tokens of an answer that is found; `None` = of the longest to train on, at least 30.
        pieces: which pieces of a word learn its label: the `first` alone, or `all`.
        prompt: what a decoder reads before it writes; `{source}` stands for the text.
        num_beams: beams that answers are searched with.
        pooling: which states make the vector of a text: `mean`, `first` or `last`; `None` = mean, of a decoder last.
        temperature: what similarities are divided by before the softmax.
        packing: whether the texts of a batch are laid end to end instead of padded; it changes no answer.
    """

    max_length: int | None = None
    stride: int = 64
    max_target_length: int = 128
    max_answer_length: int | None = None
    pieces: str = "first"
    prompt: str = "{source}\n"
    num_beams: int = 1
    pooling: str | None = None
    temperature: float = 0.05
    packing: bool = False

    def __post_init__(self) -> None:
        if self.stride < 0:
            raise InputError(f"`stride` must be at least 0, not {self.stride}.")
        if self.pieces not in ("first", "all"):
            raise InputError(f"`pieces` must be first or all, not '{self.pieces}'.")
        if not self.temperature > 0:
            raise InputError(f"`temperature` must be above 0, not {self.temperature}.")


class Task(ABC):
    """One kind of task, with a tokenizer and for a family.

    Attributes:
        reads: the columns that a model answers from, and what each holds.
        targets: the columns that it learns from.
        optional: those of either that may be missing.
        heads: the Auto class of the model, by family.
        packs: whether its head reads texts that are laid end to end.
        best: the metric that tells the best checkpoint, `loss` or one of `measure`; only of `loss` less is better.
    """

    reads: ClassVar[dict[str, str]]
    targets: ClassVar[dict[str, str]]
    optional: ClassVar[frozenset[str]] = frozenset()
    heads: ClassVar[dict[str, str]]
    packs: ClassVar[bool] = True
    best: ClassVar[str]

    def __init__(self, tokenizer: Any, family: str, form: Form, limit: int | None = None):
        """`limit`: the most tokens that the model reads; `None` = it does not say."""
        if family not in self.heads:
            raise InputError(f"this task has no head for the family {family}: take one of {', '.join(self.heads)}.")
        if form.packing and not self.packs:
            raise InputError("`packing` lays texts end to end, but this task's head reads them in rows: leave it out.")
        self.tokenizer, self.family, self.form = tokenizer, family, form
        self.max_length = form.max_length or min(limit or 512, 512)
        if limit is not None and self.max_length > limit:
            raise InputError(f"`max_length` is {self.max_length}, but the model reads at most {limit} tokens at once.")
        special = tokenizer.num_special_tokens_to_add(pair=True)
        if self.max_length < special + 2:
            raise InputError(
                f"`max_length` is {self.max_length}, which leaves no room for text beside {special} special tokens: "
                f"take at least {special + 2}."
            )
        # Pretraining may have read less; pipelines ask the tokenizer, and it goes with the model.
        tokenizer.model_max_length = max(tokenizer.model_max_length, self.max_length)

    @property
    def stride(self) -> int:
        """Tokens that two windows share, at most a quarter of one."""
        return min(self.form.stride, self.max_length // 4)

    def learn(self, examples: Examples) -> None:
        """Finds in the examples to train on what a model has to know, for instance the labels that there are."""
        return None

    def check(self, row: Row) -> None:
        """Raises `Unusable` if a row cannot be learnt from or measured on."""
        self.check_read(row)
        self.check_target(row)

    @abstractmethod
    def check_read(self, row: Row) -> None:
        """Raises `Unusable` if there is nothing in a row to answer from; looks at its `reads` alone."""

    @abstractmethod
    def check_target(self, row: Row) -> None:
        """Raises `Unusable` for targets that are none, in a row that has passed `check_read`."""

    def head_fields(self) -> dict[str, Any]:
        """What the configuration of the model must say."""
        return {}

    def recall(self, config: Any) -> None:
        """The opposite of `head_fields`: takes what `learn` would have found from a configuration."""
        return None

    def begin_head(self, model: Any, features: Any) -> None:
        """Puts into a head without weights what it should begin with; `features` are those to train on."""
        return None

    def write(self, folder: Path, config: Any) -> None:
        """Writes what other libraries want to find beside a model of this task; `config` is the model's."""
        return None

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> list[Row]:
        """What is trained on: the features of rows, one or several of each."""

    def collate(self, features: list[Row]) -> dict[str, torch.Tensor]:
        """A batch of features; see [`lay_out`]."""
        return self.lay_out(features)

    def lay_out(self, features: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Token ids and labels as tensors: padded, or end to end with `packing`."""
        return flatten(features) if self.form.packing else pad(self.tokenizer, features)

    def per_feature(self, values: torch.Tensor, features: Sequence[Row]) -> Sequence[torch.Tensor]:
        """What a head says of each token of each of the features that were laid out: (B, T, ...) -> (T_i, ...) each."""
        lengths = [len(feature["input_ids"]) for feature in features]
        if self.form.packing:
            return values[0].split(lengths)
        left = self.tokenizer.padding_side == "left"
        return [row[-length:] if left else row[:length] for row, length in zip(values, lengths, strict=True)]

    def loss(self, model: Any, batch: dict[str, torch.Tensor], num_items_in_batch: Any = None) -> torch.Tensor:
        """The mean loss of a batch, or its share of that of `num_items_in_batch`."""
        items = {} if num_items_in_batch is None else {"num_items_in_batch": num_items_in_batch}
        return model(**batch, **items).loss

    def items(self, batch: dict[str, torch.Tensor]) -> int:
        """How many losses the mean of a batch is over."""
        return int((batch["labels"] != IGNORED).sum())

    @abstractmethod
    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """An answer for each row, out of its `reads` alone, whatever the batch size."""

    @abstractmethod
    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """How good the answers are."""


def pad(tokenizer: Any, features: Sequence[Row], side: str | None = None) -> dict[str, torch.Tensor]:
    """Features of token ids and of labels as tensors, ragged ones (T,) filled up.

    Args:
        side: `left` or `right`; `None` = the tokenizer's own.

    Raises:
        InputError: texts of different lengths, and no token to fill up with.
    """
    fills = RAGGED | {"input_ids": tokenizer.pad_token_id}
    batch: dict[str, torch.Tensor] = {}
    for name in features[0]:
        values = [feature[name] for feature in features]
        if name in fills and isinstance(values[0], list):
            values = _filled(values, fills[name], (side or tokenizer.padding_side) == "left")
        batch[name] = torch.tensor(values)
    return batch


def flatten(features: Sequence[Row], target: str | None = None) -> dict[str, torch.Tensor]:
    """Features end to end in one row, (1, T) for what is ragged, without padding or mask.

    `position_ids` restart at each feature. `cu_seq_lens_q` and `_k` say the same, also of a single one, which restarts
    nowhere.

    Args:
        target: of an encoder-decoder, what its decoder is to write; it has positions and lengths of its own.
    """
    batch: dict[str, torch.Tensor] = {}
    for name in [name for name in features[0] if name != "attention_mask"]:
        values = [feature[name] for feature in features]
        is_ragged = name in RAGGED and isinstance(values[0], list)
        batch[name] = torch.tensor([[*chain.from_iterable(values)]] if is_ragged else values)
    sides = {"input_ids": ("", "k"), target: ("decoder_", "q")} if target else {"input_ids": ("", "qk")}
    for name, (prefix, letters) in sides.items():
        lengths = [len(feature[name]) for feature in features]
        batch[f"{prefix}position_ids"] = torch.cat([torch.arange(length) for length in lengths])[None]
        bounds = torch.tensor([0, *lengths]).cumsum(0).int()
        batch |= {f"cu_seq_lens_{letter}": bounds for letter in letters}
    return batch


def tokens_of(tokenizer: Any, *texts: Sequence[str], max_length: int, **settings: Any) -> list[Row]:
    """What a model reads of texts, or of pairs of texts, cut to a length: of a pair the longer text first."""
    begun = ([beginning(tokenizer, text, max_length) for text in side] for side in texts)
    encoded = tokenizer(*begun, truncation=True, max_length=max_length, **settings)
    names = [name for name in tokenizer.model_input_names if name in encoded]
    return [dict(zip(names, values, strict=True)) for values in zip(*(encoded[name] for name in names), strict=True)]


def beginning(tokenizer: Any, text: str, tokens: int) -> str:
    """The beginning of a text with more tokens than so many, if it has more: a tokenizer reads all before it cuts.

    It ends before a space, where tokenizers begin anew, so that the tokens are those of the whole text; a word that is
    longer than all this is cut too.
    """
    size = CHARACTERS_OF_TOKEN * tokens
    while size < len(text):
        space = text.rfind(" ", 0, size)
        part = text[:space] if space > 0 else text[:size]
        if len(tokenizer(part, add_special_tokens=False)["input_ids"]) > tokens:
            return part
        size *= 4
    return text


def _filled(rows: list[list[int]], value: int | None, left: bool) -> list[list[int]]:
    longest = max(map(len, rows))
    if value is None:
        if any(len(row) < longest for row in rows):
            raise InputError("batches of texts need a padding token, which this tokenizer does not have.")
        return rows
    rests = [[value] * (longest - len(row)) for row in rows]
    return [rest + row if left else row + rest for row, rest in zip(rows, rests, strict=True)]


def by_length(features: Sequence[Row], batch_size: int) -> Iterable[list[int]]:
    """Batches of the numbers of features of about one length, the longest first."""
    order = sorted(range(len(features)), key=lambda number: -len(features[number]["input_ids"]))
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def text_in(row: Row, role: str, what: str) -> str:
    """The text in a column; raises `Unusable` if there is none."""
    text = row[role]
    if text is None or (isinstance(text, str) and not text.strip()):
        raise Unusable(f"the {what} is empty")
    if not isinstance(text, str):
        raise Unusable(f"the {what} is {text!r}, no text")
    return text


def number_in(row: Row, role: str, what: str) -> float:
    """The number in a column, which in CSV is text; raises `Unusable` if there is none, or none to learn from."""
    value = row[role]
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not abs(number) <= FLOAT32_MAX:
        raise Unusable(f"the {what} is {value!r}, no number to learn")
    return number
