"""Files read with care: one document after the other, and in the place of each that cannot be read, where and why.

The readers of `datasets` are faster, but name no line where they fail, fail on columns that nobody asked for, leave
nothing out, and begin a file again to go on in its middle. So what is here streams, leaves out what is broken, and says
what is wrong, or gets along, where they failed.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...configuration.errors import InputError
from .arrays import read_json
from .lines import read_json_lines, read_pages, read_text_lines
from .opening import compression, is_remote
from .parts import Part, Unreadable, byte_parts, first_line
from .tables import arrow_parts, parquet_parts, read_arrow, read_csv, read_parquet


class Kind(NamedTuple):
    """How files of one suffix are read.

    Attributes:
        builder: the reader of `datasets`; "" if it has none that will do; and
        options: what it is told besides the files.
        plan: the parts of a file.
        read: the documents of a part, out of a column.
    """

    builder: str
    options: dict[str, Any]
    plan: Callable[[str], list[Part]]
    read: Callable[[Part, str], Iterator[str | Unreadable | None]]


# By default `datasets` writes JSON into a column of mixed types, quotes and all. In CSV it takes rows that are too
# short, and the text "NA", for none, so CSV is always read with care.
KINDS = {
    ".txt": Kind("", {}, byte_parts, read_pages),
    ".jsonl": Kind("json", {"on_mixed_types": None}, byte_parts, read_json_lines),
    ".json": Kind("json", {"on_mixed_types": None}, byte_parts, read_json),
    ".csv": Kind("", {}, byte_parts, read_csv),
    ".parquet": Kind("parquet", {}, parquet_parts, read_parquet),
    ".arrow": Kind("arrow", {}, arrow_parts, read_arrow),
}
# Of text, datasets of the Hub have a line in each row.
BY_LINE = Kind("text", {}, byte_parts, read_text_lines)
COMPRESSIBLE = (".jsonl", ".json", ".csv")


def suffix(path: str) -> str:
    """The suffix that tells the kind, without that of a compression."""
    return Path(path.lower().removesuffix(compression(path))).suffix


def plan(path: str) -> list[Part]:
    """The parts of a file, in order; one alone where the middle cannot be found, or nothing can be read at all."""
    try:
        return KINDS[suffix(path)].plan(path)
    except Exception:  # whatever it is, reading will say so
        return [Part(path)]


def read_part(part: Part, column: str) -> Iterator[str | Unreadable | None]:
    """Yields the documents of a part, blank ones too, and in the place of each that cannot be read the reason."""
    try:
        kind = BY_LINE if part.by_line else KINDS[suffix(part.path)]
        yield from kind.read(part, column)
    except Exception as error:
        yield _unreadable(error, part.path)


def _unreadable(error: Exception, path: str) -> Unreadable:
    """What whatever the libraries of the formats raise says of the file; raises `InputError` if the network failed."""
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, Unreadable):
        return error.at(path, error.place)
    if is_remote(path) and not isinstance(error, csv.Error):  # to leave out the rest would be to leave out what is good
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
    if isinstance(error, FileNotFoundError):
        return Unreadable("the file is gone", "put it back", path)
    return Unreadable(f"it cannot be read to its end ({first_line(error)})", "replace the file", path)
