"""Documents out of one column of CSV, Parquet and Arrow files."""

import csv
import math
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import ipc, parquet

from .opening import open_text, stamp
from .parts import PART_BYTES, Part, Unreadable, byte_length, check_unicode, decode_each, first_line
from .places import Place, records_of

CSV_FIELD_CHARACTERS = 2**31 - 1  # the most that the csv module takes on every system
ROWS_AT_ONCE = 256  # as Python strings


def read_csv(part: Part, column: str) -> Iterator[str | Unreadable | None]:
    """Yields the column of each row; a row has as many fields as the header."""
    header = _header(part.path, stamp(part.path))
    index = _index(header, column)

    def field(row: list[str] | csv.Error) -> str | None:
        if isinstance(row, csv.Error):
            raise Unreadable(f"it is no CSV ({first_line(row)})")
        if len(row) not in (0, len(header)):
            raise Unreadable(f"its fields are {len(row)}, but the header has {len(header)}")
        if row:
            check_unicode(row[index])
        return row[index] if row else None

    rows = ((f"line {place.before + 1}", row) for place, row in records_of(part, _rows) if place != Place())
    yield from decode_each(part.path, rows, field)


@cache
def _header(path: str, stamp: Any) -> list[str]:
    header, _ = next(_rows(path, Place()), ([], None))
    if isinstance(header, csv.Error):
        raise header
    return header


def _rows(path: str, place: Place) -> Iterator[tuple[list[str] | csv.Error, Place]]:
    """Yields the rows of a CSV file from a place on, each with that of the next; after an error the reader goes on."""
    csv.field_size_limit(CSV_FIELD_CHARACTERS)
    byte = place.byte

    def lines() -> Iterator[str]:
        nonlocal byte
        for line in file:
            text = line if byte else line.removeprefix("\ufeff")
            byte += byte_length(line)
            yield text

    with open_text(path, byte) as file:
        rows = csv.reader(lines(), strict=True)
        row: list[str] | csv.Error | None
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                row = error
            if row is None:
                return
            yield row, Place(byte, place.before + rows.line_num)


def parquet_parts(path: str) -> list[Part]:
    """The row groups."""
    return [Part(path, group, group + 1) for group in range(parquet.read_metadata(path).num_row_groups)]


def read_parquet(part: Part, column: str) -> Iterator[str | Unreadable | None]:
    """Yields the column of the row groups; what is broken in one leaves the next as it is."""
    with parquet.ParquetFile(part.path) as file:
        _check_column(file.schema_arrow, column)
        for group in range(part.start, file.num_row_groups if part.stop is None else part.stop):
            try:
                for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column]):
                    yield from batch.column(0).to_pylist()
            except (OSError, ValueError) as error:
                reason = f"it cannot be read to its end ({first_line(error)})"
                yield Unreadable(reason, "replace the file", part.path, f"row group {group + 1}")


def arrow_parts(path: str) -> list[Part]:
    """Record batches, as many at once as make about `PART_BYTES`."""
    with pyarrow.memory_map(path) as file:
        batches = sum(1 for _ in _record_batches(file)[1])
    step = math.ceil(batches / math.ceil(Path(path).stat().st_size / PART_BYTES))
    starts = range(0, batches, max(step, 1))
    return [Part(path, start, min(start + step, batches)) for start in starts]


def read_arrow(part: Part, column: str) -> Iterator[str | Unreadable | None]:
    """Yields the column of the record batches of an Arrow file or stream."""
    with pyarrow.memory_map(part.path) as file:
        schema, batches = _record_batches(file)
        index = _check_column(schema, column)
        for number, batch in enumerate(batches):
            if number == part.stop:
                return
            if number >= part.start:
                texts = batch.column(index)
                texts.validate(full=True)
                for start in range(0, len(texts), ROWS_AT_ONCE):
                    yield from texts.slice(start, ROWS_AT_ONCE).to_pylist()


def _record_batches(file: Any) -> tuple[Any, Iterable[Any]]:
    """The schema and the record batches of an open file in either of Arrow's two formats; nothing is copied."""
    try:
        stream = ipc.open_stream(file)
    except (OSError, pyarrow.ArrowInvalid):
        file.seek(0)
        table = ipc.open_file(file)
        return table.schema, (table.get_batch(number) for number in range(table.num_record_batches))
    return stream.schema, stream


def _check_column(schema: Any, column: str) -> int:
    """Where in the schema the column is; raises `Unreadable` if it is not there once or holds no text."""
    index = _index(schema.names, column)
    kind = schema.field(index).type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if str(kind) not in ("string", "large_string", "string_view"):
        raise Unreadable(f"column '{column}' holds {kind}, not text", "choose another with `text_column`")
    return index


def _index(names: list[str], column: str) -> int:
    if column not in names:
        raise Unreadable(f"it has no column '{column}' (it has {', '.join(names)})", "choose another by `text_column`")
    return names.index(column)
