"""Tables of examples, of the Hub or of files, by the roles that their columns have; and where each example stands."""

import csv
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

# How files of each suffix are read: by which builder of `datasets`.
BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".arrow": "arrow"}
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}


class Unusable(Exception):
    """Why an example cannot be used, and what would mend it, both without a full stop."""

    def __init__(self, reason: str, way_out: str):
        super().__init__(reason)
        self.reason, self.way_out = reason, way_out


@dataclass(frozen=True)
class Examples:
    """Examples, one a row.

    Attributes:
        rows: a dataset with a column for each role.
        name: where they are from.
        files: of files, the path and the number of rows of each, in order.
    """

    rows: datasets.Dataset
    name: str
    files: tuple[tuple[str, int], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def place(self, number: int) -> str:
        """Where a row stands, in words."""
        if not self.files:
            return f"'{self.name}', row {number + 1}"
        ends = list(accumulate(count for _, count in self.files))
        which = bisect_right(ends, number)
        path, count = self.files[which]
        within = number - (ends[which] - count)
        return f"'{path}', {_line_of(path, within)}"

    def checked(self, check: Callable[[dict[str, Any]], None], skip_bad: bool) -> tuple["Examples", int]:
        """The examples that `check` raises no `Unusable` for, and how many were left out.

        Raises:
            InputError: one that cannot be used, unless `skip_bad`; or none is left.
        """
        good = []
        for number, row in enumerate(self):
            try:
                check(row)
                good.append(number)
            except Unusable as problem:
                if not skip_bad:
                    raise InputError(
                        f"{self.place(number)}: {problem.reason}; {problem.way_out}, or leave out what cannot be used "
                        "with --skip_bad true."
                    ) from None
        if not good:
            raise InputError(f"'{self.name}' holds no example that can be used.")
        left_out = len(self) - len(good)
        # Places are those of the file: rows that were left out are not counted anew, since nobody asks again.
        return (Examples(self.rows.select(good), self.name) if left_out else self), left_out


def read_splits(
    data: list[str], roles: Mapping[str, bool], columns: Mapping[str, str], config: str | None = None
) -> dict[str, Examples]:
    """The splits that are there, out of train, validation and test.

    Args:
        data: a folder with a file or several for each split, files that are all to train on, or a dataset of the Hub.
        roles: the columns that a task reads, and whether each must be there.
        columns: the names that they have in the data, where they have others.
        config: the configuration of the dataset.

    Raises:
        InputError: nothing there, something that cannot be read, or a column that is missing.
    """
    if unknown := set(columns) - set(roles):
        raise InputError(
            f"`columns` maps '{min(unknown)}', which this task does not read: it reads {', '.join(roles)}."
        )
    files = _files_of(data)
    if files is not None:
        return {split: _read_files(paths, roles, columns) for split, paths in files.items()}
    name = data[0]
    if len(data) > 1 or Path(name).suffix in BUILDERS or name.count("/") > 1:
        missing = next(path for path in data if not Path(path).exists())
        raise InputError(f"'{missing}' does not exist.")
    found = load(name, lambda: datasets.load_dataset(name, config))
    splits = {split: next((found[name] for name in names if name in found), None) for split, names in SPLITS.items()}
    return {split: Examples(_by_role(rows, roles, columns, name), name) for split, rows in splits.items() if rows}


def hold_out(examples: Examples, fraction: float, roles: list[str]) -> tuple[Examples, Examples]:
    """Sets about a fraction of the examples apart, by a hash of what is read, so that equal ones stay together.

    Raises:
        InputError: nothing would be left on one of the sides.
    """
    limit = fraction * 2**32
    hashes = [hash_text(json.dumps([row[role] for role in roles], default=str)) for row in examples]
    inside = [number for number, value in enumerate(hashes) if value <= limit]
    rest = [number for number, value in enumerate(hashes) if value > limit]
    if not inside or not rest:
        raise InputError(
            f"'{examples.name}' has too few examples to hold some out: name some to measure on with `validation_data`."
        )
    return Examples(examples.rows.select(rest), examples.name), Examples(examples.rows.select(inside), examples.name)


def _files_of(data: list[str]) -> dict[str, list[str]] | None:
    """The files of each split, or `None` if a dataset of the Hub is meant."""
    if all(Path(path).is_file() for path in data):
        return {"train": data}
    if len(data) > 1 or not Path(data[0]).is_dir():
        return None
    folder = Path(data[0])
    found = {
        split: sorted(
            str(path)
            for path in folder.iterdir()
            if path.suffix in BUILDERS and any(path.stem == name or path.stem.startswith(f"{name}-") for name in names)
        )
        for split, names in SPLITS.items()
    }
    if not any(found.values()):
        raise InputError(f"'{folder}' holds no data: put a train.jsonl into it (or .csv, .parquet), and a test.jsonl.")
    return {split: paths for split, paths in found.items() if paths}


def _read_files(paths: list[str], roles: Mapping[str, bool], columns: Mapping[str, str]) -> Examples:
    parts, counts = [], []
    for path in paths:
        if Path(path).suffix not in BUILDERS:
            raise InputError(f"'{path}' is of no known kind: give {', '.join(BUILDERS)}.")
        if not Path(path).stat().st_size:
            raise InputError(f"'{path}' is empty.")
        rows = _by_role(_read(path), roles, columns, path)
        parts.append(rows)
        counts.append((path, len(rows)))
    try:
        rows = datasets.concatenate_datasets(parts)
    except (ValueError, TypeError) as error:
        raise InputError(f"the columns of {', '.join(paths)} are of different types: {error}") from None
    return Examples(rows, ", ".join(paths), tuple(counts))


def _read(path: str) -> datasets.Dataset:
    kind = BUILDERS[Path(path).suffix]
    options: dict[str, Any] = {"on_mixed_types": None} if kind == "json" else {}
    if path.endswith(".tsv"):
        options["sep"] = "\t"
    try:
        return datasets.load_dataset(kind, data_files=path, split="train", **options)
    except MemoryError:
        raise
    except Exception as error:
        fault = _find_fault(path) or " ".join(str(error.__cause__ or error).split())[:200]
        raise InputError(f"'{path}' cannot be read: {fault}.") from None


def _find_fault(path: str) -> str | None:
    """The first line of a file of JSON lines that is no JSON object, in words."""
    if not path.endswith(".jsonl"):
        return None
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        kinds: dict[str, type] = {}
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                return f"line {number} is no JSON ({error})"
            if not isinstance(record, dict):
                return f"line {number} is no object with columns"
            for name, value in record.items():
                kind = kinds.setdefault(name, type(value)) if value is not None else kinds.get(name, type(None))
                if value is not None and kind is not type(value) and {kind, type(value)} != {int, float}:
                    return f"line {number}: '{name}' holds {value!r}, where the lines before it have {kind.__name__}"
    return None


def _by_role(
    rows: datasets.Dataset, roles: Mapping[str, bool], columns: Mapping[str, str], where: str
) -> datasets.Dataset:
    """The columns of the roles, by the names of these."""
    names = {role: columns.get(role, role) for role in roles}
    for role, name in names.items():
        if name not in rows.column_names and (roles[role] or role in columns):
            raise InputError(
                f"'{where}' has no column '{name}' (it has {', '.join(rows.column_names)}): say by `columns` which of "
                f"them is the {role}."
            )
    names = {role: name for role, name in names.items() if name in rows.column_names}
    rows = rows.select_columns(list(dict.fromkeys(names.values())))
    return rows.rename_columns({name: role for role, name in names.items() if name != role})


def _line_of(path: str, row: int) -> str:
    """The line that a row of a file begins in, in words, or its number where a file has no lines."""
    try:
        if path.endswith(".jsonl"):
            with open(path, "rb") as file:
                full = (number for number, line in enumerate(file, 1) if line.strip())
                return f"line {next(number for count, number in enumerate(full) if count == row)}"
        if path.endswith((".csv", ".tsv")):
            with open(path, encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter="\t" if path.endswith(".tsv") else ",")
                begins, count = 1, -2
                for fields in reader:
                    count += bool(fields)
                    if count == row:
                        return f"line {begins}"
                    begins = reader.line_num + 1
    except (OSError, StopIteration, csv.Error):
        pass
    return f"row {row + 1}"
