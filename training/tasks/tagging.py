"""A label for each word (Ramshaw & Marcus, 1995; Devlin et al., 2019).

Words are joined by spaces and read as any text is, so that a tokenizer cuts them as it did in pretraining; which pieces
belong to which word is told by the characters that they stand for. A text that is longer than the model reads is cut
into windows that overlap; each word is labelled where its first piece stands farthest from the ends of a window.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ...configuration.errors import InputError
from .examples import Examples, Unusable
from .labels import Labels
from .metrics import measure
from .task import IGNORED, Row, Task, by_length
from .windows import Windows, cut, need_offsets

AUTO = "AutoModelForTokenClassification"


class TokenClassification(Task):
    """`tokens`, a list of words, and `tags`, a label for each."""

    reads = {"tokens": "the words"}
    targets = {"tags": "their labels"}
    heads = dict.fromkeys(("encoder", "decoder", "encoder-decoder"), AUTO)
    best = "f1"
    known: Labels

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        need_offsets(self.tokenizer, "labelling words")

    @property
    def labels(self) -> list[str]:
        """The names of the labels."""
        return self.known.names

    def learn(self, examples: Examples) -> None:
        """Finds the labels, in the order of their numbers if the dataset has one, else of the alphabet."""
        self.known = Labels.learn(examples, "tags")
        if not self.labels:
            raise InputError(f"no example of '{examples.name}' has a tag: give some that have.")

    def recall(self, config: Any) -> None:
        """The labels of the model."""
        self.known = Labels.recall(config)

    def head_fields(self) -> dict[str, Any]:
        """The labels."""
        return self.known.fields()

    @property
    def has_spans(self) -> bool:
        """Whether the labels are B-, I- and O, so that runs of them are spans."""
        return any(label.startswith(("B-", "I-")) for label in self.labels)

    def check_read(self, row: Row) -> None:
        """Raises `Unusable` for what is no list of words, or one of spaces only."""
        words = row["tokens"]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise Unusable("`tokens` holds no list of words")
        if not any(word.strip() for word in words):
            raise Unusable("`tokens` holds no word")

    def check_target(self, row: Row) -> None:
        """Raises `Unusable` for other than a tag for each word, or a tag that was not among those to train on."""
        words, tags = row["tokens"], row["tags"]
        if not isinstance(tags, list):
            raise Unusable("`tags` holds no list")
        if len(tags) != len(words):
            raise Unusable(f"there are {len(words)} tokens but {len(tags)} tags", "give one for each")
        for tag in tags:
            number = self.known.number(tag)
            if number is None:
                raise Unusable(f"the tag is {tag!r}, and those to train on are {self.known}")
            name = self.labels[number]
            if self.has_spans and name != "O" and not name.startswith(("B-", "I-")):
                raise Unusable(f"the tag {name!r} is not B-, I- or O, as others are")

    def windows(self, words: Sequence[str]) -> tuple[Windows, np.ndarray, np.ndarray]:
        """What is read of words, in windows; the word of each token, -1 = none; whether it is its first piece."""
        text = " ".join(words)
        windows = cut(self.tokenizer, text, max_length=self.max_length, stride=self.stride)
        ends = np.cumsum([len(word) + 1 for word in words])  # where the next word begins
        owners = np.array([_word_at(text, ends, *place) for place in windows.places.tolist()], dtype=int)
        before = np.maximum.accumulate(np.concatenate([[-1], owners]))[:-1]
        return windows, owners, owners > before

    def encode(self, rows: Sequence[Row]) -> list[Row]:
        """The windows, and a label for the first piece of each word, or for all; -100 elsewhere."""
        return [feature for row in rows for feature in self._labelled(row)]

    def _labelled(self, row: Row) -> Iterable[Row]:
        windows, owners, first = self.windows(row["tokens"])
        tags = np.array([self.known.number(tag) for tag in row["tags"]])
        labels = np.append(tags[owners], IGNORED)  # the last is of number -1, which is no token of the text
        rest = self._inside[labels[:-1]] if self.form.pieces == "all" else IGNORED
        labels[:-1] = np.where(owners < 0, IGNORED, np.where(first, labels[:-1], rest))
        for feature, numbers in zip(windows.features, windows.numbers, strict=True):
            yield {**feature, "labels": labels[numbers].tolist()}

    @property
    def _inside(self) -> np.ndarray:
        """By number of a label that of the later pieces of its words: I- for B-, where there is one."""
        later = {name: f"I-{name[2:]}" if name.startswith("B-") else name for name in self.labels}
        numbers = [self.known.number(later[name]) for name in self.labels]
        return np.array([own if number is None else number for own, number in enumerate(numbers)])

    @torch.no_grad()
    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """`tags`, a label for each word; a word that the tokenizer sees nothing of is O, or of the first label.

        Where all pieces have learnt, a word has the label that its pieces together find likeliest.
        """
        read = [self.windows(row["tokens"]) for row in rows]
        features = [feature for windows, _, _ in read for feature in windows.features]
        origins = [(row, number) for row, (windows, _, _) in enumerate(read) for number in range(len(windows.features))]
        nothing = self.labels.index("O") if "O" in self.labels else 0
        tags = [np.full(len(row["tokens"]), nothing) for row in rows]
        margins = [np.full(len(row["tokens"]), -1) for row in rows]
        for batch in by_length(features, batch_size):
            chosen = [features[number] for number in batch]
            tensors = self.collate(chosen)
            logits = model(**{name: value.to(model.device) for name, value in tensors.items()}).logits.float()
            for number, scores in zip(batch, self.per_feature(logits.log_softmax(-1).cpu(), chosen), strict=True):
                row, window = origins[number]
                windows, owners, first = read[row]
                words, found, margin = self._answers(scores.numpy(), windows.numbers[window], owners, first)
                better = margin > margins[row][words]
                tags[row][words[better]], margins[row][words[better]] = found[better], margin[better]
        return [{"tags": [self.labels[number] for number in numbers]} for numbers in tags]

    def _answers(
        self, scores: np.ndarray, numbers: np.ndarray, owners: np.ndarray, first: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The words that begin in a window, their labels, and how far from its ends they begin.

        Args:
            scores: (T, C), the logarithms of the probabilities of labels.
            numbers: (T,), which token of the text each one is, -1 = none.
            owners, first: of each token of the text, its word, -1 = none, and whether it is its first piece.
        """
        (places,) = np.nonzero(numbers >= 0)
        owner, begins = owners[numbers[places]], first[numbers[places]]
        starts = places[begins]
        words = owner[begins]
        total = scores[starts]
        if self.form.pieces == "all" and len(words):
            later = (owner >= words[0]) & ~begins  # not of a word that began before this window
            which = np.searchsorted(words, owner[later])
            np.add.at(total, which, scores[places[later]][:, self._inside])
        return words, total.argmax(-1), np.minimum(starts, len(numbers) - 1 - starts)

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Precision, recall and F1 of spans where labels are B-, I- and O; else accuracy and macro F1 of words."""
        sides = [[[self.known.number(tag) for tag in row["tags"]] for row in side] for side in (predictions, rows)]
        if self.has_spans:
            names = [[[self.labels[number] for number in numbers] for numbers in side] for side in sides]  # type: ignore[index]
            return measure(("seqeval",), *names)
        scores = measure(("accuracy", "f1"), *([number for numbers in side for number in numbers] for side in sides))
        return scores | {"f1": scores["macro_f1"]}


def _word_at(text: str, ends: np.ndarray, begin: int, end: int) -> int:
    """The number of the word that the first character of a token that is no space belongs to, -1 if there is none."""
    part = text[begin:end]
    stripped = part.lstrip()
    if not stripped:
        return -1
    return int(np.searchsorted(ends, begin + len(part) - len(stripped), side="right"))
