"""A label for each word (Ramshaw & Marcus, 1995; Devlin et al., 2019).

Words are joined by spaces and read as any text is, so that a tokenizer cuts them as it did in pretraining; which pieces
belong to which word is told by the characters that they stand for. A text that is longer than the model reads is cut
into windows that overlap; each word is labelled where it stands farthest from the ends of a window.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...configuration.errors import InputError
from .classification import label_fields
from .examples import Examples, Unusable
from .metrics import measure
from .task import IGNORED, Row, Task, by_length

AUTO = "AutoModelForTokenClassification"


class TokenClassification(Task):
    """`tokens`, a list of words, and `tags`, a label for each."""

    reads = {"tokens": "the words"}
    targets = {"tags": "their labels"}
    heads = dict.fromkeys(("encoder", "decoder", "encoder-decoder"), AUTO)
    best = "f1"
    labels: list[str]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not getattr(self.tokenizer, "is_fast", False):
            raise InputError("labels for words need a fast tokenizer, which knows what its tokens stand for.")
        # A decoder has not read a word before its last piece; an encoder's first one knows the rest.
        self.from_last = self.family == "decoder" and self.form.pieces == "all"

    def learn(self, examples: Examples) -> None:
        """Finds the labels, in the order of their numbers if the dataset has one, else of the alphabet."""
        feature = examples.rows.features["tags"].feature
        self._names = list(feature.names) if hasattr(feature, "names") else None
        self.labels = self._names or sorted({str(tag) for tags in examples.rows["tags"] for tag in tags or []})
        if not self.labels:
            raise InputError(f"no example of '{examples.name}' has a tag.")
        self._numbers = {label: number for number, label in enumerate(self.labels)}

    def recall(self, config: Any) -> None:
        """The labels of the model."""
        self.labels = [config.id2label[number] for number in range(config.num_labels)]
        self._names, self._numbers = None, {label: number for number, label in enumerate(self.labels)}

    def head_fields(self) -> dict[str, Any]:
        """The labels."""
        return label_fields(self.labels)

    @property
    def has_spans(self) -> bool:
        """Whether the labels are B-, I- and O, so that runs of them are spans."""
        return any(label.startswith("B-") for label in self.labels)

    def check(self, row: Row) -> None:
        """Raises `Unusable` for no words, other than a tag for each, or a tag that was not among those to train on."""
        words, tags = row["tokens"], row["tags"]
        if not words or not all(isinstance(word, str) for word in words):
            raise Unusable("`tokens` holds no list of words", "mend it")
        if not isinstance(tags, list) or len(tags) != len(words):
            raise Unusable(f"there are {len(words)} tokens but {len(tags or [])} tags", "give one for each")
        for tag in self.names(tags):
            if tag not in self._numbers:
                raise Unusable(f"the tag {tag!r} is none of the {len(self.labels)} to train on", "mend it")
            if self.has_spans and tag != "O" and not tag.startswith(("B-", "I-")):
                raise Unusable(f"the tag {tag!r} is not B-, I- or O, as others are", "mend it")

    def names(self, tags: Sequence[Any]) -> list[str]:
        """The names of tags, which a dataset may number."""
        named = self._names
        return [named[tag] if named and isinstance(tag, int) and 0 <= tag < len(named) else str(tag) for tag in tags]

    def windows(self, words: Sequence[str]) -> tuple[list[Row], list[list[int]]]:
        """What is read of some words, in windows; and in each the word of every token, -1 = none."""
        text = " ".join(words)
        ends = np.cumsum([len(word) + 1 for word in words])  # where the next word begins
        encoded = self.tokenizer(
            text,
            truncation=True,
            max_length=self.max_length,
            stride=min(self.form.stride, self.max_length // 4),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        features, places = [], []
        for number, offsets in enumerate(encoded["offset_mapping"]):
            kept = [name for name in self.tokenizer.model_input_names if name in encoded]
            features.append({name: encoded[name][number] for name in kept})
            special = encoded["special_tokens_mask"][number]
            places.append(
                [-1 if mark else _word_at(text, ends, *span) for span, mark in zip(offsets, special, strict=True)]
            )
        return features, places

    def encode(self, rows: Sequence[Row]) -> list[Row]:
        """The windows, and a label for the first piece of each word, or for all; -100 elsewhere."""
        features = []
        for row in rows:
            windows, places = self.windows(row["tokens"])
            tags = self.names(row["tags"])
            for window, words in zip(windows, places, strict=True):
                features.append({**window, "labels": [self._label(tags, words, place) for place in range(len(words))]})
        return features

    def _label(self, tags: list[str], words: list[int], place: int) -> int:
        word = words[place]
        if word < 0:
            return IGNORED
        if place and words[place - 1] == word:
            inside = f"I-{tags[word][2:]}" if self.has_spans and tags[word].startswith("B-") else tags[word]
            return IGNORED if self.form.pieces == "first" else self._numbers.get(inside, self._numbers[tags[word]])
        return self._numbers[tags[word]]

    @torch.no_grad()
    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """`tags`, a label for each word; a word that the tokenizer sees nothing of is O, or of the first label."""
        features, places, owners = [], [], []
        for number, row in enumerate(rows):
            windows, words = self.windows(row["tokens"])
            features += windows
            places += words
            owners += [number] * len(windows)
        nothing = "O" if "O" in self.labels else self.labels[0]
        tags = [[nothing] * len(row["tokens"]) for row in rows]
        margins = [[-1] * len(row["tokens"]) for row in rows]
        for numbers in by_length(features, batch_size):
            batch = self.collate([features[number] for number in numbers])
            best = model(**{name: value.to(model.device) for name, value in batch.items()}).logits.argmax(-1).tolist()
            for number, found in zip(numbers, best, strict=True):
                words, length = places[number], len(places[number])
                found = found[-length:] if self.tokenizer.padding_side == "left" else found[:length]
                for place, word in enumerate(words):
                    if not self._speaks(words, place):
                        continue
                    margin = min(place, length - place)
                    if margin > margins[owners[number]][word]:
                        margins[owners[number]][word] = margin
                        tags[owners[number]][word] = self.labels[found[place]]
        return [{"tags": row} for row in tags]

    def _speaks(self, words: list[int], place: int) -> bool:
        """Whether the token at a place says what its word is."""
        beside = place + 1 if self.from_last else place - 1
        return words[place] >= 0 and not (0 <= beside < len(words) and words[beside] == words[place])

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Precision, recall and F1 of spans where labels are B-, I- and O; else accuracy and macro F1 of words."""
        found = [self.names(prediction["tags"]) for prediction in predictions]
        expected = [self.names(row["tags"]) for row in rows]
        if self.has_spans:
            return measure(("seqeval",), found, expected)
        flat = [[self._numbers[tag] for tags in side for tag in tags] for side in (found, expected)]
        scores = measure(("accuracy", "f1"), *flat)
        return scores | {"f1": scores["macro_f1"]}


def _word_at(text: str, ends: np.ndarray, begin: int, end: int) -> int:
    """The number of the word that the first character of a token that is no space belongs to, -1 if there is none."""
    part = text[begin:end]
    stripped = part.lstrip()
    if not stripped:
        return -1
    return int(np.searchsorted(ends, begin + len(part) - len(stripped), side="right"))
