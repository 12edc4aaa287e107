"""Text to train on and text held out: from a Hub dataset, local files, or the corpus that Python carries."""

import glob
import inspect
import os
import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np

from ...configuration.errors import InputError
from ..arguments import DataArguments
from . import corpus

EMBEDDED_CORPUS = "python-docs"
READERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
HELD_OUT_SPLITS = ("validation", "valid", "dev")
# A text file has no documents of its own: it is read in pages of about this many characters, cut at a blank line (or at
# a line end, or anywhere, if none comes), so that a part of one long file can be held out.
PAGE_CHARACTERS = 16_384


class Texts(NamedTuple):
    """Two datasets with one column, `text`, and one document a row."""

    train: datasets.Dataset
    held_out: datasets.Dataset


def load_texts(
    data: str | list[str],
    *,
    text_column: str = "text",
    data_config: str | None = None,
    data_split: str = "train",
    held_out_fraction: float = 0.02,
) -> Texts:
    """Loads documents and sets some of them apart, the same ones every time.

    Args:
        data: `"python-docs"` (the embedded corpus), the name of a Hub dataset or a local folder of one, or paths and
            globs of .txt, .jsonl, .json, .csv or .parquet files; compressed ones too, except .txt.
        text_column: the column that holds the text.
        data_config, data_split: which configuration and split of a Hub dataset.
        held_out_fraction: share of the documents to hold out, chosen by a hash of their text; where a Hub dataset has a
            validation split, that is held out instead.

    Raises:
        InputError: nothing there, nothing in it, no such column, a file of an unknown or broken kind.
    """
    sources = [data] if isinstance(data, str) else list(data)
    if not sources:
        raise InputError("`data` is empty: give a Hub dataset, files, or 'python-docs'.")
    if not 0 < held_out_fraction < 1:
        raise InputError(f"`held_out_fraction` must lie between 0 and 1, not {held_out_fraction}.")
    if sources == [EMBEDDED_CORPUS]:
        return split_held_out(_text_only(_load_corpus(), "text", EMBEDDED_CORPUS), held_out_fraction)
    if len(sources) == 1 and not _looks_like_a_file(sources[0]):
        parts = _load_repository(sources[0], data_config, data_split)
        parts = [_text_only(part, text_column, sources[0]) for part in parts]
        return Texts(*parts) if len(parts) == 2 else split_held_out(parts[0], held_out_fraction)
    return split_held_out(_load_files(sources, text_column), held_out_fraction)


def read_texts(args: DataArguments) -> Texts:
    """[`load_texts`] with the arguments of a verb."""
    return load_texts(
        args.data,
        text_column=args.text_column,
        data_config=args.data_config,
        data_split=args.data_split,
        held_out_fraction=args.held_out_fraction,
    )


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
        raise InputError("all documents are alike, so none can be held out: give more data.")
    return Texts(documents.select(np.flatnonzero(~held_out)), documents.select(np.flatnonzero(held_out)))


def _hash_texts(batch: dict[str, list[str]]) -> dict[str, list[int]]:
    return {"hash": [zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in batch["text"]]}


def _cut(text: str, fraction: float) -> Texts:
    wanted = int(len(text) * (1 - fraction))
    cut = max(text.rfind("\n", 0, wanted), text.rfind(" ", 0, wanted)) + 1
    parts = text[:cut], text[cut:]
    if not all(part.strip() for part in parts):
        raise InputError("the data is one short document, of which nothing can be held out: give more data.")
    return Texts(*(datasets.Dataset.from_dict({"text": [part]}) for part in parts))


def _looks_like_a_file(source: str) -> bool:
    return Path(source).is_file() or _suffix(source) in READERS or any(sign in source for sign in "*?[")


def _suffix(path: str) -> str:
    name = path.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return Path(name).suffix


def _load_repository(name: str, config: str | None, split: str) -> list[datasets.Dataset]:
    """The asked split of a Hub dataset (or of a local folder), and its validation split if it has one."""
    if name.count("/") > 1 and not Path(name).is_dir():
        raise InputError(f"'{name}' does not exist.")
    splits = _load(name, lambda: datasets.get_dataset_split_names(name, config))
    if split not in splits:
        raise InputError(f"'{name}' has no split '{split}': it has {', '.join(splits)}.")
    wanted = [split, *(other for other in HELD_OUT_SPLITS if other in splits and other != split)][:2]
    return _load(name, lambda: datasets.load_dataset(name, config, split=wanted))


def _load_files(sources: Iterable[str], text_column: str) -> datasets.Dataset:
    by_reader: dict[str, list[str]] = {}
    for source in sources:
        paths = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
        if not paths:
            raise InputError(f"'{source}' does not exist.")
        for path in paths:
            by_reader.setdefault(_reader(path), []).append(path)
    parts = []
    for reader, paths in by_reader.items():
        names = ", ".join(paths)
        if reader == "text":
            parts.append(_text_only(_load_pages(paths), "text", names))
        else:
            rows = _load(names, partial(datasets.load_dataset, reader, data_files=paths, split="train"))
            parts.append(_text_only(rows, text_column, names))
    return datasets.concatenate_datasets(parts)


def _reader(path: str) -> str:
    """Which reader a file needs; refuses what is no readable, non-empty file of a known kind."""
    suffix = _suffix(path)
    if Path(path).is_dir():
        raise InputError(f"'{path}' is a folder: give the files in it, for example '{path}/*.txt'.")
    if suffix not in READERS or (suffix == ".txt" and not path.lower().endswith(".txt")):
        raise InputError(f"'{path}' is of no known kind: give {', '.join(READERS)} (all but .txt may be compressed).")
    if not os.access(path, os.R_OK):
        raise InputError(f"'{path}' cannot be read: check its permissions.")
    if not Path(path).stat().st_size:
        raise InputError(f"'{path}' is empty.")
    return READERS[suffix]


def _load_corpus() -> datasets.Dataset:
    # What the text comes from, and how, is there for the cache, which many Pythons and versions of this code share.
    stamp = "\n".join([sys.version, sysconfig.get_path("stdlib"), inspect.getsource(corpus)])
    return _load(EMBEDDED_CORPUS, lambda: datasets.Dataset.from_generator(_documents, gen_kwargs={"stamp": stamp}))


def _documents(stamp: str) -> Iterator[dict[str, str]]:
    yield from corpus.python_docs()


def _load_pages(paths: list[str]) -> datasets.Dataset:
    # The sizes and times are there for the cache: a file that was edited is read again.
    stamps = [(Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in paths]
    arguments = {"paths": [os.path.abspath(path) for path in paths], "stamps": stamps}
    return _load(", ".join(paths), lambda: datasets.Dataset.from_generator(_pages, gen_kwargs=arguments))


def _pages(paths: list[str], stamps: list[tuple[int, int]]) -> Iterator[dict[str, str]]:
    for path in paths:
        page: list[str] = []
        size = 0
        with open(path, encoding="utf-8-sig") as file:
            for line in iter(lambda: file.readline(PAGE_CHARACTERS), ""):
                page.append(line)
                size += len(line)
                if size >= 2 * PAGE_CHARACTERS or (size >= PAGE_CHARACTERS and not line.strip()):
                    yield {"text": "".join(page)}
                    page, size = [], 0
        if page:
            yield {"text": "".join(page)}


def _text_only(documents: datasets.Dataset, column: str, where: str) -> datasets.Dataset:
    """The documents with their text as the only column, blank ones left out."""
    if column not in documents.column_names:
        raise InputError(
            f"'{where}' has no column '{column}': it has {', '.join(documents.column_names)}; choose by `text_column`."
        )
    feature = documents.features[column]
    if getattr(feature, "dtype", None) not in ("string", "large_string"):
        kind = getattr(feature, "dtype", type(feature).__name__)
        raise InputError(f"column '{column}' of '{where}' holds {kind}, not text: choose another with `text_column`.")
    documents = documents.select_columns(column)
    if column != "text":
        documents = documents.rename_column(column, "text")
    documents = documents.filter(_not_blank, batched=True, desc="Leaving out blank documents")
    if not len(documents):
        raise InputError(f"'{where}' holds no text.")
    return documents


def _not_blank(batch: dict[str, list[str | None]]) -> list[bool]:
    return [bool(text and text.strip()) for text in batch["text"]]


def _load(what: str, load: Callable[[], Any]) -> Any:
    """Calls `load` and turns whatever `datasets` raises about its input into one sentence about `what`."""
    try:
        return load()
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
        reason = next(iter(str(cause).splitlines()), "") or type(cause).__name__
        raise InputError(f"'{what}' cannot be read: {reason.rstrip('.!')}.") from error
