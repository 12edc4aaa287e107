"""Examples, of the Hub or of files, by the roles that their columns have; and where each of them stands."""

import glob
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets

from ...configuration.errors import InputError
from ..data.documents import load
from ..data.held_out import hash_text
from .files import KINDS, File, by_role, check_columns, read_files

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}


class Unusable(Exception):
    """Why an example cannot be used, and what would mend it, both without a full stop."""

    def __init__(self, reason: str, way_out: str = "mend it"):
        super().__init__(reason)
        self.reason, self.way_out = reason, way_out


@dataclass(frozen=True)
class Examples:
    """Examples, one a row.

    Attributes:
        rows: a dataset with a column for each role.
        name: where they are from.
        files: of files, all of them in order.
    """

    rows: datasets.Dataset
    name: str
    files: tuple[File, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def place(self, number: int) -> str:
        """Where a row stands, in words."""
        if not self.files:
            return f"'{self.name}', row {number + 1}"
        ends = list(accumulate(file.count for file in self.files))
        file = self.files[which := bisect_right(ends, number)]
        return file.place(number - ends[which] + file.count)

    def checked(self, check: Callable[[dict[str, Any]], None], skip_bad: bool) -> tuple["Examples", int]:
        """The examples that `check` raises no `Unusable` for, and how many were left out.

        Where there is a column `id`, examples after the first of an id are left out too. Of files, what could not be
        read was left out before, and is counted here.

        Raises:
            InputError: one that cannot be used, unless `skip_bad`; or none is left.
        """
        good = []
        seen: dict[Any, int] = {}
        for number, row in enumerate(self):
            try:
                check(row)
                if row.get("id") is not None and seen.setdefault(row["id"], number) != number:
                    first = self.place(seen[row["id"]])
                    raise Unusable(f"its id {row['id']!r} is also that of {first}", "give each its own")
                good.append(number)
            except Unusable as problem:
                if not skip_bad:
                    raise InputError(
                        f"{self.place(number)}: {problem.reason}; {problem.way_out}, or leave out what cannot be used "
                        "with --skip_bad true."
                    ) from None
        if not good:
            raise InputError(f"'{self.name}' holds no example that can be used: mend them, or give others.")
        left_out = len(self) - len(good)
        unreadable = sum(file.unreadable for file in self.files)
        # Places are those of the file: rows that were left out are not counted anew, since nobody asks again.
        return (Examples(self.rows.select(good), self.name) if left_out else self), left_out + unreadable


def read_splits(
    data: list[str],
    roles: Mapping[str, bool],
    columns: Mapping[str, str],
    config: str | None = None,
    skip_bad: bool = False,
) -> dict[str, Examples]:
    """The splits that are there, out of train, validation and test.

    Args:
        data: a folder with a file or several for each split, files (or globs) that are all to train on, or a dataset of
            the Hub.
        roles: the columns that a task reads, and whether each must be there.
        columns: the names that they have in the data, where they have others.
        config: the configuration of the dataset.
        skip_bad: leave out lines of files that cannot be read.

    Raises:
        InputError: nothing there, something that cannot be read, or a column that is missing.
    """
    if unknown := set(columns) - set(roles):
        raise InputError(
            f"`columns` maps '{min(unknown)}', which this task does not read: it reads {', '.join(roles)}."
        )
    # A column that was given to one role is no longer that of another which may be missing.
    asked = [role for role in roles if roles[role] or role in columns or role not in columns.values()]
    named = {role: columns.get(role, role) for role in asked}
    needed = {role for role in roles if roles[role] or role in columns}
    if len({named[role] for role in needed}) < len(needed):
        raise InputError("`columns` gives one column to two roles: name one for each.")
    files = _files_of(data)
    if files is None:
        return _read_hub(data[0], named, needed, config)
    splits = {}
    for split, paths in files.items():
        rows, looked = read_files(paths, named, needed, skip_bad)
        splits[split] = Examples(rows, ", ".join(paths), looked)
    return splits


def hold_out(examples: Examples, fraction: float, roles: list[str]) -> tuple[Examples, Examples]:
    """Sets about a fraction of the examples apart, by a hash of what is read, so that equal ones stay together.

    Raises:
        InputError: nothing would be left to train on.
    """
    hashes = [hash_text(json.dumps([row[role] for role in roles], default=str)) for row in examples]
    limit = max(fraction * 2**32, min(hashes))  # of few examples one at least
    inside = [number for number, value in enumerate(hashes) if value <= limit]
    rest = [number for number, value in enumerate(hashes) if value > limit]
    if not rest:
        raise InputError(
            f"'{examples.name}' has too few examples to hold some out: name some to measure on with `validation_data`."
        )
    return Examples(examples.rows.select(rest), examples.name), Examples(examples.rows.select(inside), examples.name)


def _files_of(data: list[str]) -> dict[str, list[str]] | None:
    """The files of each split, or `None` if a dataset of the Hub is meant."""
    if len(data) == 1 and Path(data[0]).is_dir():
        return _files_in(Path(data[0]))
    paths = []
    for name in data:
        found = [name] if Path(name).is_file() else sorted(glob.glob(name, recursive=True))
        if Path(name).is_dir():
            raise InputError(f"'{name}' is a folder: give it alone, or the files in it, for example '{name}/*.jsonl'.")
        paths += found
        if not found:
            if len(data) == 1 and Path(name).suffix.lower() not in KINDS and name.count("/") < 2:
                return None
            raise InputError(f"'{name}' does not exist.")
    return {"train": paths}


def _files_in(folder: Path) -> dict[str, list[str]]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS)
    found = {
        split: [str(path) for path in paths if path.stem.split("-")[0] in names] for split, names in SPLITS.items()
    }
    if not any(found.values()):
        raise InputError(f"'{folder}' holds no data: put a train.jsonl into it (or .csv, .parquet), and a test.jsonl.")
    return {split: paths for split, paths in found.items() if paths}


def _read_hub(name: str, columns: Mapping[str, str], needed: set[str], config: str | None) -> dict[str, Examples]:
    found = load(name, lambda: datasets.load_dataset(name, config))
    splits = {}
    for split, names in SPLITS.items():
        rows = next((found[name] for name in names if name in found), None)
        if rows:
            check_columns(rows.column_names, columns, needed, name)
            splits[split] = Examples(by_role(rows, columns), name)
    return splits
