"""Documents of files: memory-mapped with the readers of `datasets` or with our own, or as a stream."""

import inspect
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import datasets

from ...configuration.errors import InputError
from . import arrays, lines, opening, parts, places, readers, tables
from .documents import load, not_empty, text_only
from .held_out import Stream, hash_text
from .opening import stamp
from .parts import Part, Unreadable
from .readers import KINDS, plan, read_part, suffix
from .shards import Shards

logger = logging.getLogger(__name__)

# How files are read: part of what the cache goes by.
READING = tuple(map(inspect.getsource, (arrays, lines, opening, parts, places, readers, tables)))
# The texts, and in rows of their own the file of each place that was left out, with what is said of the first of them.
TEXT_OR_SKIPPED = datasets.Features({name: datasets.Value("string") for name in ("text", "skipped", "finding")})


def load_files(paths: list[str], column: str, *, skip_bad: bool = False) -> tuple[datasets.Dataset, dict[str, int]]:
    """Reads files into the cache and memory-maps them.

    Args:
        paths: files of the kinds in `KINDS`, also mixed; they are read kind by kind.
        column: which column holds the text, except in text files.
        skip_bad: leave out what cannot be read, say so once for each file, and count.

    Returns:
        The documents that are not blank, in the column `text`, and how many places of which file were left out.

    Raises:
        InputError: no text, or, unless `skip_bad`, something that cannot be read, with the file and the place.
    """
    by_kind: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        kind = KINDS[suffix(path)]
        by_kind.setdefault((kind.builder, str(kind.options)), []).append(path)
    documents = []
    skipped: dict[str, int] = {}
    for same_kind in by_kind.values():
        texts = None if skip_bad else _load_fast(same_kind, column)
        if texts is None:
            texts, left_out = _load_with_care(same_kind, column, skip_bad)
            skipped |= left_out
        documents.append(texts)
    if len({texts.features["text"].dtype for texts in documents}) > 1:  # Arrow's short and large strings
        documents = [texts.cast_column("text", datasets.Value("large_string")) for texts in documents]
    together = datasets.concatenate_datasets(documents)
    return not_empty(together, ", ".join(paths)), skipped


def stream_files(
    paths: list[str], column: str, *, skip_bad: bool = False, by_line: bool = False, name: str | None = None
) -> Stream:
    """Reads files as their documents are needed, and keeps no copy but of the compressed ones that are being read.

    The dataset has a shard for each part of a file, so that who resumes it reads again at most a part, and so that
    workers and epochs have something to share and to shuffle; see [`Shards`]. It raises `InputError` where something
    cannot be read; `skip_bad` leaves that out, and each process says so once for a file.

    Args:
        by_line: whether each line of a text file is a document.
        name: what to call them all; `None` = by their paths.
    """
    arguments: dict[str, Any] = {
        "parts": [part._replace(by_line=by_line) for path in paths for part in plan(path)],
        "column": column,
        "skip_bad": skip_bad,
    }

    def above(limit: float) -> datasets.IterableDataset:
        # Without features: `datasets` would check each document against them, which takes longer than reading it.
        return datasets.IterableDataset(Shards(_stream, {**arguments, "above": limit}))

    return Stream(name or ", ".join(paths), lambda: _texts(**arguments), above)


def _load_fast(paths: list[str], column: str) -> datasets.Dataset | None:
    """The documents as `datasets` reads them; `None` if it has no reader of the kind or that leaves doubts."""
    kind = KINDS[suffix(paths[0])]
    if not kind.builder:
        return None
    try:
        with _quiet():
            rows = datasets.load_dataset(kind.builder, data_files=paths, split="train", **kind.options)
        # In JSON a column that is null and one that is missing look the same once they are read.
        if kind.builder == "json" and column in rows.column_names and rows.data.column(column).null_count:
            return None
        return text_only(rows, column, ", ".join(paths))
    except (MemoryError, InputError):
        raise
    except Exception:  # ours finds the place, or gets along
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps `datasets` from logging an error that is then told, or mended."""
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)


def _load_with_care(paths: list[str], column: str, skip_bad: bool) -> tuple[datasets.Dataset, dict[str, int]]:
    arguments = {
        "parts": tuple(part for path in paths for part in plan(path)),  # of a list `datasets` would make shards
        "column": column,
        "skip_bad": skip_bad,
        # For the cache: a file that was edited is read again, and so are all once they are read in another way.
        "stamp": (*map(stamp, paths), *READING),
    }
    rows = load(
        ", ".join(paths),
        lambda: datasets.Dataset.from_generator(_rows, features=TEXT_OR_SKIPPED, gen_kwargs=arguments),
    )
    skipped = _count_skipped(rows)
    return text_only(rows, "text", ", ".join(paths)), skipped


def _rows(parts: Iterable[Part], column: str, skip_bad: bool, stamp: Any) -> Iterator[dict[str, str | None]]:
    found: set[str] = set()
    for part in parts:
        for text in read_part(part, column):
            if not isinstance(text, Unreadable):
                if text and text.strip():
                    yield {"text": text, "skipped": None, "finding": None}
            elif skip_bad:
                # To find the line, the file is read again: once a file.
                yield {"text": None, "skipped": part.path, "finding": None if part.path in found else text.finding()}
                found.add(part.path)
            else:
                raise InputError(text.sentence())
    yield {"text": None, "skipped": None, "finding": None}  # `datasets` takes no rows at all for an error


def _count_skipped(rows: datasets.Dataset) -> dict[str, int]:
    """How many places of which file were left out; says so."""
    skipped = Counter(rows.data.column("skipped").drop_null().to_pylist())
    for finding, (path, count) in zip(
        rows.data.column("finding").drop_null().to_pylist(), skipped.items(), strict=True
    ):
        logger.warning("Left out %d of '%s' that cannot be read; the first: %s.", count, path, finding)
    return dict(skipped)


def _texts(parts: Iterable[Part], column: str, skip_bad: bool) -> Iterator[str]:
    for part in parts:
        for text in read_part(part, column):
            if not isinstance(text, Unreadable):
                if text and text.strip():
                    yield text
            elif skip_bad:
                _say_once(part.path, text)
            else:
                raise InputError(text.sentence())


def _stream(parts: list[Part], column: str, skip_bad: bool, above: float) -> Iterator[tuple[str, dict[str, str]]]:
    for text in _texts(parts, column, skip_bad):
        if hash_text(text) > above:
            yield "", {"text": text}


_SAID: set[str] = set()


def _say_once(path: str, problem: Unreadable) -> None:
    if path not in _SAID:
        _SAID.add(path)
        logger.warning("Leaving out of '%s' what cannot be read; the first: %s.", path, problem.finding())
