"""A corpus: where it comes from, what its rows are, and which of them are trained on."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...configuration.errors import InputError
from .packages import Package, Source

Row = dict[str, Any]
Example = tuple[str, Row]  # what must not be torn apart by a split, and a row of it
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """How to make one labelled data set.

    Attributes:
        summary: what it is, in one line.
        task: what it is for, a task of the Hub.
        columns: what each column holds.
        sources: the packages that it is made of.
        license: the Hub's name of its licence, or "other".
        terms: its licence in words.
        group: what is never torn apart between the splits.
        examples: makes its examples out of the folders of the packages, in the order of `sources`.
        shares: the part of the groups that each split gets.
        language: codes of its languages.
        notes: what else a reader of its card should know, in sentences.
    """

    summary: str
    task: str
    columns: Mapping[str, str]
    sources: tuple[Source, ...]
    license: str
    terms: str
    group: str
    examples: Callable[..., Iterable[Example]]
    shares: Mapping[str, float] = dataclasses.field(default_factory=SHARES.copy)
    language: tuple[str, ...] = ("en",)
    notes: str = ""

    def splits(self, packages: list[Package]) -> dict[str, list[str]]:
        """The lines of each split, ordered by their content; raises `InputError` if one is empty."""
        lines: dict[str, list[str]] = {split: [] for split in self.shares}
        for group, row in self.examples(*(package.folder for package in packages)):
            lines[choose_split(group, self.shares)].append(json.dumps(row, ensure_ascii=False))
        empty = next((split for split, rows in lines.items() if not rows), None)
        if empty is not None:
            where = " and ".join(map(str, packages))
            raise InputError(f"{where} left nothing for the split '{empty}': the form of the package has changed.")
        # Whoever takes the first n rows gets a fair sample rather than the first chapter.
        return {split: draw_order(split, rows) for split, rows in lines.items()}

    def write(self, folder: Path, packages: list[Package]) -> dict[str, int]:
        """Writes `train.jsonl` and the other splits into a folder; returns their numbers of rows."""
        splits = self.splits(packages)
        for split, lines in splits.items():
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"{split}.jsonl").write_text(text, encoding="utf-8", newline="\n")
        return {split: len(lines) for split, lines in splits.items()}


def choose_split(group: str, shares: Mapping[str, float] = SHARES) -> str:
    """The split of a group, by a hash of its name: the same on every machine, whatever else is in the corpus."""
    point = draw(f"split {group}", 2**32) / 2**32
    for split, share in shares.items():
        if point < share:
            return split
        point -= share
    return split  # what rounding left


def draw(key: str, size: int) -> int:
    """A number below `size` that follows from `key` alone.

    A CRC would be quicker, but those of names that differ in a letter or two are not spread evenly over the splits.
    """
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % size


def draw_order(key: str, items: Iterable[str]) -> list[str]:
    """The items in an order that follows from `key`."""
    return sorted(items, key=lambda item: (draw(f"{key}\0{item}", 2**64), item))


def draw_some(key: str, items: list[str], count: int) -> list[str]:
    """`count` different ones of the items, which follow from `key` and their order; takes them out of the list."""
    return [items.pop(draw(f"{key}\0{i}", len(items))) for i in range(count)]


def unique(examples: Iterable[Example], *columns: str) -> Iterator[Example]:
    """The examples without those whose `columns`, letter case and spaces aside, an earlier one has."""
    seen: set[str] = set()
    for group, row in examples:
        key = "\0".join(" ".join(row[column].split()).casefold() for column in columns)
        if key not in seen:
            seen.add(key)
            yield group, row


def find_file(folder: Path, pattern: str) -> Path:
    """The first file that a pattern of `Path.glob` finds; raises `InputError` if there is none."""
    found = min(folder.glob(pattern), default=None)
    if found is None:
        raise InputError(f"'{folder}' holds no file '{pattern}': fetch it again with --fresh.")
    return found
