"""Datasets with one column, `text`, and no blank document, whatever `datasets` has read them from."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import datasets

from ...configuration.errors import InputError
from .held_out import Stream, hash_text
from .parts import first_line


def load(what: str, call: Callable[[], Any]) -> Any:
    """Calls and turns whatever `datasets` raises about its input into one sentence about `what`, an `InputError`."""
    try:
        return call()
    except StopIteration:
        raise InputError(f"'{what}' holds no text.") from None
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        cause = error
        while isinstance(cause, datasets.exceptions.DatasetsError) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        raise InputError(f"'{what}' cannot be read: {first_line(cause)}.") from error


def check_column(features: datasets.Features, column: str, where: str) -> None:
    """Raises `InputError` if the column is not there or holds no text."""
    if column not in features:
        raise InputError(f"'{where}' has no column '{column}': it has {', '.join(features)}; choose by `text_column`.")
    feature = features[column]
    kind = getattr(feature, "dtype", type(feature).__name__)
    if kind == "null":
        raise InputError(f"'{where}' holds no text.")
    if kind not in ("string", "large_string"):
        raise InputError(f"column '{column}' of '{where}' holds {kind}, not text: choose another with `text_column`.")


def text_only(rows: datasets.Dataset, column: str, where: str) -> datasets.Dataset:
    """The rows with their text as the only column, blank ones left out; raises `InputError` as `check_column` does."""
    check_column(rows.features, column, where)
    rows = rows.select_columns(column)
    if column != "text":
        rows = rows.rename_column(column, "text")
    return rows.filter(_not_blank, batched=True, desc="Leaving out blank documents")


def not_empty(rows: datasets.Dataset, where: str) -> datasets.Dataset:
    """The rows; raises `InputError` if there is none."""
    if not len(rows):
        raise InputError(f"'{where}' holds no text.")
    return rows


def stream_rows(rows: datasets.IterableDataset, column: str, where: str) -> Stream:
    """The texts of a stream of `datasets`; raises `InputError` if the column is not there or holds no text."""
    if rows.features is None:
        rows = load(where, rows._resolve_features)
    check_column(rows.features, column, where)
    rows = rows.select_columns(column)
    if column != "text":
        rows = rows.rename_column(column, "text")

    def texts() -> Iterator[str]:
        batches = rows.iter(batch_size=100)
        while (batch := load(where, partial(next, batches, None))) is not None:
            yield from (text for text in batch["text"] if text and text.strip())

    return Stream(where, texts, lambda limit: rows.filter(partial(_above, limit), batched=True, batch_size=100))


def _not_blank(batch: dict[str, list[str | None]]) -> list[bool]:
    return [bool(text and text.strip()) for text in batch["text"]]


def _above(limit: float, batch: dict[str, list[str | None]]) -> list[bool]:
    return [text is not None and bool(text.strip()) and hash_text(text) > limit for text in batch["text"]]
