"""Files of examples as tables with a column for each role, and the line that each example begins in.

JSON and CSV are read with care, since `datasets` names no line where something is wrong, decides by its beginning what a
column holds, and takes the text "NA" in CSV for none. Only columns with a role are read: what others hold does not
matter. Tables are memory-mapped.
"""

import csv
import json
import reprlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow

from ...configuration.errors import InputError
from ..data.documents import load
from ..data.parts import NOT_UTF8, TO_UTF8, Unreadable, check_unicode, first_line, open_text, stamp

CSV_FIELD_CHARACTERS = 2**31 - 1  # the most that the csv module takes on every system
ROWS_AT_ONCE = 1000  # whose types are found together
KINDS_OF_VALUES = {"string": "text", "int64": "numbers", "double": "numbers", "bool": "true or false"}
Record = tuple[int, dict[str, Any]]  # where it begins, and its columns


@dataclass(frozen=True)
class File:
    """A file that was read.

    Attributes:
        path: the file.
        count: its examples.
        lines: in which line each begins; `None` for files without lines.
    """

    path: str
    count: int
    lines: Sequence[int] | None = None

    def place(self, number: int) -> str:
        """Where an example stands, in words."""
        return f"'{self.path}', " + (f"row {number + 1}" if self.lines is None else f"line {self.lines[number]}")


def read_files(
    paths: Sequence[str], columns: Mapping[str, str], required: set[str]
) -> tuple[datasets.Dataset, tuple[File, ...]]:
    """The rows of files, one after the other, with a column for each role.

    Args:
        columns: by role the name of the column in the files.
        required: roles that every file must have a column for.

    Raises:
        InputError: what cannot be read, with its line, a column that is missing, or columns of different types.
    """
    files, schemas = [], []
    for path in paths:
        schema, file = _look(path, columns)
        check_columns(schema.names, columns, required, path)
        files.append(file)
        schemas.append(schema)
    try:
        schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{', '.join(paths)} hold different things in a column: {first_line(error)}; give files that agree."
        ) from None
    parts = [_load(path, columns, schema) for path in paths]
    return datasets.concatenate_datasets(parts), tuple(files)


def check_columns(there: Sequence[str], columns: Mapping[str, str], required: set[str], where: str) -> None:
    """Raises `InputError` if there is no column for a role that must be there."""
    for role, name in columns.items():
        if name not in there and role not in there and role in required:
            raise InputError(
                f"'{where}' has no column '{name}' (it has {', '.join(there)}): say by `columns` which of them is the "
                f"{role}."
            )
