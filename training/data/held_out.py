"""Which documents are held out: the same ones every time and wherever they stand, by a hash of their text."""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import datasets
import numpy as np

from ...configuration.errors import InputError

# What is held out of a stream ends with whichever comes first.
HELD_OUT_DOCUMENTS = 1000
HELD_OUT_CHARACTERS = 1 << 24
ALL_ALIKE = "all documents are alike, so none can be held out: give more data."


@dataclass(frozen=True)
class Texts:
    """Text to train on and text held out, each with one column, `text`, and one document a row; unpacks to the two.

    Attributes:
        train: a memory-mapped dataset, or a stream of documents, which `state_dict` and `load_state_dict` resume.
        held_out: a memory-mapped dataset; of a stream a small one in memory.
        skipped: how many places of which file were left out because they could not be read; a stream does not know.
    """

    train: datasets.Dataset | datasets.IterableDataset
    held_out: datasets.Dataset
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[datasets.Dataset | datasets.IterableDataset]:
        return iter((self.train, self.held_out))


class Stream(NamedTuple):
    """Documents that are read as they are needed.

    Attributes:
        name: where they come from, in words.
        texts: reads those that are not blank, from the beginning.
        above: makes the dataset, with the column `text`, of those whose hash is above a number.
    """

    name: str
    texts: Callable[[], Iterator[str]]
    above: Callable[[float], datasets.IterableDataset]


def split_held_out(documents: datasets.Dataset, fraction: float) -> Texts:
    """Sets about `fraction` of the documents apart, at least one, by a hash of their text: equal texts stay together.

    A lone document is cut in two. Raises `InputError` if nothing would be left to train on.
    """
    if len(documents) == 1:
        return _cut(documents[0]["text"], fraction)
    hashes = np.array(
        documents.map(_hash_texts, batched=True, remove_columns="text", desc="Choosing what to hold out")["hash"]
    )
    held_out = hashes <= max(fraction * 2**32, hashes.min())
    if held_out.all():
        raise InputError(ALL_ALIKE)
    return Texts(documents.select(np.flatnonzero(~held_out)), documents.select(np.flatnonzero(held_out)))


def split_stream(stream: Stream, fraction: float) -> Texts:
    """[`split_held_out`] of a stream, of which it reads no more than it needs for something to measure on.

    Every document that the hash chooses is kept from training; the first of them are what is held out.

    Raises:
        InputError: no documents, or nothing would be left to train on.
    """
    limit = fraction * 2**32
    chosen = _Sample()
    count, lowest, highest = 0, (math.inf, ""), -1
    for text in stream.texts():
        position = hash_text(text)
        count, lowest, highest = count + 1, min(lowest, (position, text)), max(highest, position)
        if position <= limit:
            chosen.add(text)
        if chosen.full and highest > limit:
            break
    if not count:
        raise InputError(f"'{stream.name}' holds no text.")
    if count == 1:
        train, held_out = _cut(lowest[1], fraction)
        return Texts(train.to_iterable_dataset(), held_out)
    if not chosen.texts:
        limit = lowest[0]
        chosen.add(lowest[1])
    if highest <= limit:
        raise InputError(ALL_ALIKE)
    return Texts(stream.above(limit), datasets.Dataset.from_dict({"text": chosen.texts}))


def beginning(stream: Stream) -> datasets.Dataset:
    """As many of the first documents as are held out of a stream; raises `InputError` if there are none."""
    chosen = _Sample()
    for text in stream.texts():
        chosen.add(text)
        if chosen.full:
            break
    if not chosen.texts:
        raise InputError(f"'{stream.name}' holds no text.")
    return datasets.Dataset.from_dict({"text": chosen.texts})


def hash_text(text: str) -> int:
    """A number below 2^32 that depends on nothing but the text."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


class _Sample:
    """The first of the texts that are added, up to the limits for a stream."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.full = False
        self._characters = 0

    def add(self, text: str) -> None:
        if not self.full:
            self.texts.append(text)
            self._characters += len(text)
            self.full = len(self.texts) >= HELD_OUT_DOCUMENTS or self._characters >= HELD_OUT_CHARACTERS


def _hash_texts(batch: dict[str, list[str]]) -> dict[str, list[int]]:
    return {"hash": [hash_text(text) for text in batch["text"]]}


def _cut(text: str, fraction: float) -> Texts:
    wanted = int(len(text) * (1 - fraction))
    cut = max(text.rfind("\n", 0, wanted), text.rfind(" ", 0, wanted)) + 1
    parts = text[:cut], text[cut:]
    if not all(part.strip() for part in parts):
        raise InputError("the data is one short document, of which nothing can be held out: give more data.")
    return Texts(*(datasets.Dataset.from_dict({"text": [part]}) for part in parts))
