"""Files of examples as tables with a column for each role, and the line that each example begins in.

JSON and CSV are read with care, since `datasets` names no line where something is wrong, decides by the beginning of a
file what a column holds, and takes the text "NA" in CSV for none. Only columns with a role are read: what others hold
does not matter. Tables are memory-mapped.
"""

import csv
import json
import reprlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow

from ...configuration.errors import InputError
from ..data.documents import load
from ..data.opening import open_text, stamp
from ..data.parts import TO_UTF8, Unreadable, check_unicode, first_line

CSV_FIELD_CHARACTERS = 2**31 - 1  # the most that the csv module takes on every system
NO_OBJECT = Unreadable("this is no object with columns")
ROWS_AT_ONCE = 1000  # whose types are found together
HOLDS = {"string": "text", "int64": "numbers", "double": "numbers", "bool": "true or false", "null": "nothing"}
Columns = dict[str, Any]
# The line that it begins in, or which of an array it is, from 1; and its columns, or why they cannot be read.
Record = tuple[int, Columns | Unreadable]


@dataclass(frozen=True)
class File:
    """A file that was looked through.

    Attributes:
        path: the file.
        columns: all that it has.
        features: what the columns of the roles hold, by role.
        count: its examples.
        lines: in which line each begins, or which of an array it is; `None` for files without lines.
        unreadable: how many others were left out.
    """

    path: str
    columns: tuple[str, ...]
    features: datasets.Features
    count: int
    lines: Sequence[int] | None = None
    unreadable: int = 0

    def place(self, number: int) -> str:
        """Where an example stands, in words."""
        return _place(self.path, number + 1 if self.lines is None else self.lines[number])


def read_files(
    paths: Sequence[str], columns: Mapping[str, str], required: set[str], skip_bad: bool = False
) -> tuple[datasets.Dataset, tuple[File, ...]]:
    """The rows of files, one after the other, with a column for each role.

    Args:
        columns: by role the name of its column in the files.
        required: roles that every file must have a column for.
        skip_bad: leave out lines that cannot be read, and count them.

    Raises:
        InputError: what cannot be read, with its line, a column that is missing, or columns of different types.
    """
    files = []
    for path in paths:
        _check_file(path)
        file = _look(path, columns, skip_bad)
        if not file.count:
            raise InputError(f"'{path}' holds no example: give a file that does.")
        check_columns(file.columns, columns, required, path)
        files.append(file)
    features = files[0].features
    if any(file.features != features for file in files):
        try:
            schemas = [pyarrow.schema(file.features.arrow_schema.remove_metadata()) for file in files]
            features = datasets.Features.from_arrow_schema(pyarrow.unify_schemas(schemas, promote_options="permissive"))
        except pyarrow.ArrowException as error:
            names = ", ".join(f"'{path}'" for path in paths)
            raise InputError(f"{names} do not agree ({first_line(error)}): give files of the same kind.") from None
    parts = [load(path, partial(_read, path, columns, features)) for path in paths]
    return datasets.concatenate_datasets(parts), tuple(files)


def check_columns(there: Sequence[str], columns: Mapping[str, str], required: set[str], where: str) -> None:
    """Raises `InputError` if there is no column for a role that must be there."""
    for role, name in columns.items():
        if name not in there and role in required:
            raise InputError(
                f"'{where}' has no column '{name}' (it has {', '.join(there)}): say by `columns` which of them is the "
                f"{role}."
            )


def _check_file(path: str) -> None:
    if _kind(path) not in KINDS:
        raise InputError(f"'{path}' is of no known kind: give {', '.join(KINDS)}.")
    try:
        with open(path, "rb") as file:
            if file.read(1):
                return
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}): check its permissions.") from None
    raise InputError(f"'{path}' is empty: give a file with examples.")


def _kind(path: str) -> str:
    return Path(path).suffix.lower()


def _look(path: str, columns: Mapping[str, str], skip_bad: bool) -> File:
    """Finds the lines of a file and what its columns hold."""
    records = KINDS[_kind(path)]
    if records is None:
        rows = load(path, partial(_binary, path))
        return File(path, tuple(rows.column_names), by_role(rows, columns).features, len(rows))
    there: dict[str, None] = {}
    lines, schema, unreadable = array("q"), pyarrow.schema([]), 0

    def readable() -> Iterator[tuple[int, Columns]]:
        nonlocal unreadable
        for number, record in records(path):
            if not isinstance(record, Unreadable):
                yield number, record
            elif skip_bad:
                unreadable += 1
            else:
                raise InputError(f"{_place(path, number)}: {record.reason}; {record.way_out}.")

    found = readable()
    while chunk := list(islice(found, ROWS_AT_ONCE)):
        lines.extend(line for line, _ in chunk)
        for _, record in chunk:
            there.update(dict.fromkeys(record))
        schema = _widen(path, schema, chunk, {role: name for role, name in columns.items() if name in there})
    return File(path, tuple(there), datasets.Features.from_arrow_schema(schema), len(lines), lines, unreadable)


def _widen(
    path: str, schema: pyarrow.Schema, chunk: list[tuple[int, Columns]], columns: Mapping[str, str]
) -> pyarrow.Schema:
    """The types that hold also what some more records have; raises `InputError` with the line if there are none."""

    def widened(records: list[tuple[int, Columns]], schema: pyarrow.Schema, roles: Mapping[str, str]) -> pyarrow.Schema:
        fields = [(role, pyarrow.array([row.get(name) for _, row in records]).type) for role, name in roles.items()]
        return pyarrow.unify_schemas([schema, pyarrow.schema(fields)], promote_options="permissive")

    try:
        return widened(chunk, schema, columns)
    except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError):
        for record in chunk:  # which of them it is
            for role, name in columns.items():
                try:
                    schema = widened([record], schema, {role: name})
                except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
                    place = _place(path, record[0])
                    raise InputError(f"{place}: {_misfit(record[1][name], schema, role, name, error)}.") from None
        return schema


def _misfit(value: Any, schema: pyarrow.Schema, role: str, name: str, error: Exception) -> str:
    shown = reprlib.repr(value)
    if isinstance(error, UnicodeEncodeError):
        return f"'{name}' has half of a surrogate pair, which is no character; mend it"
    if isinstance(error, OverflowError) or role not in schema.names:
        return f"'{name}' holds {shown}, which no column can hold ({first_line(error)}); mend it"
    kind = schema.field(role).type
    before = HOLDS.get(str(kind), "lists" if pyarrow.types.is_list(kind) else "objects")
    return f"'{name}' holds {shown}, where the examples before it hold {before}; give the same kind everywhere"


def _read(path: str, columns: Mapping[str, str], features: datasets.Features) -> datasets.Dataset:
    """The rows of a file that was looked through."""
    if KINDS[_kind(path)] is None:
        rows = by_role(_binary(path), columns)
        return rows if rows.features == features else rows.cast(features)
    arguments = {"path": path, "columns": {role: columns[role] for role in features}, "stamp": stamp(path)}
    return datasets.Dataset.from_generator(_rows, features=features, gen_kwargs=arguments)


def _rows(path: str, columns: Mapping[str, str], stamp: Any) -> Iterator[dict[str, Any]]:
    """The records with the columns of the roles; `stamp` is there for the cache: an edited file is read again."""
    for _, record in KINDS[_kind(path)](path):  # type: ignore[misc]
        if not isinstance(record, Unreadable):
            yield {role: record.get(name) for role, name in columns.items()}


def _binary(path: str) -> datasets.Dataset:
    """A Parquet or Arrow file."""
    return datasets.load_dataset(_kind(path)[1:], data_files=path, split="train")


def by_role(rows: datasets.Dataset, columns: Mapping[str, str]) -> datasets.Dataset:
    """The columns that have a role, under its name."""
    names = {name: role for role, name in columns.items() if name in rows.column_names}
    rows = rows.select_columns([*names])
    return rows.rename_columns({name: role for name, role in names.items() if name != role})


def _json(path: str) -> Iterator[Record]:
    """The objects of an array, or of lines."""
    if not _is_array(path):
        yield from _json_lines(path)
        return
    try:
        items = json.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}': its byte 0x{error.object[error.start]:02X} is not UTF-8; {TO_UTF8}.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"'{path}', line {error.lineno}: this is no JSON ({error.msg}); mend it.") from None
    for number, item in enumerate(items, 1):
        yield number, item if isinstance(item, dict) else NO_OBJECT


def _is_array(path: str) -> bool:
    if _kind(path) != ".json":
        return False
    with open(path, "rb") as file:
        return file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _json_lines(path: str) -> Iterator[Record]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
            try:
                check_unicode(text)
                record = json.loads(text)
            except Unreadable as problem:
                yield number, problem
            except (ValueError, RecursionError) as error:
                yield number, Unreadable(f"this is no JSON ({first_line(error)})")
            else:
                yield number, record if isinstance(record, dict) else NO_OBJECT


def _csv(path: str) -> Iterator[Record]:
    """The rows of a table with a header; all fields are text. Raises `InputError` for a header that cannot be read."""
    csv.field_size_limit(CSV_FIELD_CHARACTERS)
    with open_text(path, 0) as file:
        if file.read(1) != "\ufeff":
            file.seek(0)
        reader = csv.reader(file, strict=True, delimiter="\t" if _kind(path) == ".tsv" else ",")
        header: list[str] | None = None
        begins = 1
        while True:
            try:
                fields = _fields(reader)
                if fields is None:
                    return
                if header is None:
                    header = fields or None
                elif fields:
                    yield begins, _under(header, fields)
            except Unreadable as problem:
                if header is None:
                    raise InputError(f"{_place(path, begins)}: {problem.reason}; {problem.way_out}.") from None
                yield begins, problem
            begins = reader.line_num + 1


def _fields(reader: Any) -> list[str] | None:
    """The next row of a table, `None` after the last; raises `Unreadable`."""
    try:
        fields = next(reader, None)
    except csv.Error as error:
        raise Unreadable(f"this is no CSV ({error})") from None
    for text in fields or []:
        check_unicode(text)
    return fields


def _under(header: list[str], fields: list[str]) -> Columns:
    if len(fields) != len(header):
        raise Unreadable(f"here are {len(fields)} fields, but the header has {len(header)}")
    return dict(zip(header, fields, strict=True))


def _place(path: str, number: int) -> str:
    return f"'{path}', {'row' if KINDS[_kind(path)] is None or _is_array(path) else 'line'} {number}"


# What reads the records of a file of each kind; `datasets` reads those without.
KINDS: dict[str, Callable[[str], Iterator[Record]] | None] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": None,
    ".arrow": None,
}
