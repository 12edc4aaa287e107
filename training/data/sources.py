"""Text to train on and text held out: from a Hub dataset, local files, or the corpus that Python carries."""

import dataclasses
import glob
import inspect
import json
import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import datasets

from ...configuration.errors import InputError
from ..arguments import DataArguments
from . import corpus
from .documents import check_column, load, not_empty, stream_rows, text_only
from .files import load_files, stream_files
from .held_out import Stream, Texts, beginning, split_held_out, split_stream
from .hub_files import HubFiles, hub_files
from .lines import PAGE_CHARACTERS
from .readers import COMPRESSIBLE, KINDS, suffix

__all__ = ["EMBEDDED_CORPUS", "PAGE_CHARACTERS", "Texts", "load_texts", "read_texts", "split_held_out"]

EMBEDDED_CORPUS = "python-docs"
HELD_OUT_SPLITS = ("validation", "valid", "dev")
# A memory-mapped dataset is streamed in at most so many shards; going on in the middle begins with one of them.
SHARDS = 1024
# Where documents come from: files, those of a dataset of the Hub, a folder that `Dataset.save_to_disk` left, or what
# `datasets` has opened.
Origin: TypeAlias = list[str] | HubFiles | Path | datasets.Dataset | datasets.IterableDataset


def load_texts(
    data: str | list[str],
    *,
    text_column: str = "text",
    data_config: str | None = None,
    data_split: str = "train",
    held_out_fraction: float = 0.02,
    streaming: bool = False,
    skip_bad: bool = False,
) -> Texts:
    """Loads documents and sets some of them apart, the same ones every time.

    Args:
        data: `"python-docs"` (the embedded corpus); the name of a Hub dataset, or a local folder of one or of
            `Dataset.save_to_disk`; or paths and globs of .txt, .jsonl, .json, .csv, .parquet or .arrow files, of which
            .jsonl, .json and .csv may be compressed.
        text_column: the column that holds the text.
        data_config, data_split: which configuration and split of a Hub dataset.
        held_out_fraction: share of the documents to hold out, chosen by a hash of their text; where a dataset has a
            validation split, that is held out instead.
        streaming: read the documents to train on as they are needed and keep no copy; what is held out are the first
            of those that would be held out otherwise, a thousand at most.
        skip_bad: leave out what cannot be read of files, say so once for each and count it.

    Raises:
        InputError: nothing there, nothing in it, no such column, a file of an unknown kind, or, without `skip_bad`,
            something that cannot be read, with the file and the line; a stream raises it where it comes to it.
    """
    sources = [data] if isinstance(data, str) else list(data)
    if not 0 < held_out_fraction < 1:
        raise InputError(f"`held_out_fraction` must lie between 0 and 1, not {held_out_fraction}.")
    origins = find_origins(sources, data_config, data_split, streaming, skip_bad)
    text_column = "text" if sources == [EMBEDDED_CORPUS] else text_column
    name = ", ".join(sources)
    if streaming:
        streams = [_stream(origin, text_column, name, skip_bad) for origin in origins]
        if len(streams) == 1:
            return split_stream(streams[0], held_out_fraction)
        return Texts(streams[0].above(-1), beginning(streams[1]))
    documents, skipped = zip(*(_map(origin, text_column, name, skip_bad) for origin in origins), strict=True)
    texts = Texts(*documents) if len(documents) == 2 else split_held_out(documents[0], held_out_fraction)
    return dataclasses.replace(texts, skipped=dict(sum(map(Counter, skipped), Counter())))


def read_texts(args: DataArguments) -> Texts:
    """[`load_texts`] with the arguments of a verb."""
    return load_texts(
        args.data,
        text_column=args.text_column,
        data_config=args.data_config,
        data_split=args.data_split,
        held_out_fraction=args.held_out_fraction,
        streaming=args.streaming,
        skip_bad=args.skip_bad,
    )


def load_documents(
    source: str,
    *,
    text_column: str = "text",
    data_config: str | None = None,
    data_split: str = "train",
    skip_bad: bool = False,
) -> datasets.Dataset:
    """All documents of one source, none held out; arguments and refusals are those of [`load_texts`]."""
    origin = find_origins([source], data_config, data_split, skip_bad=skip_bad)[0]
    return _map(origin, "text" if source == EMBEDDED_CORPUS else text_column, source, skip_bad)[0]


def find_origins(
    sources: list[str], data_config: str | None, data_split: str, streaming: bool = False, skip_bad: bool = False
) -> list[Origin]:
    """Where to read what is named, and after it its validation split if it has one; arguments as in [`load_texts`].

    Raises:
        InputError: what [`load_texts`] raises before it reads.
    """
    if not sources:
        raise InputError("`data` is empty: give a Hub dataset, files, or 'python-docs'.")
    if sources == [EMBEDDED_CORPUS]:
        return [_load_corpus()]
    if len(sources) == 1 and not _looks_like_a_file(sources[0]):
        origins = _find_splits(sources[0], data_config, data_split, streaming)
    else:
        origins = [_find_files(sources)]
    if not skip_bad:
        for path in (path for origin in origins if isinstance(origin, list) for path in origin):
            _check_file(path)
    return origins


def _map(origin: Origin, column: str, name: str, skip_bad: bool) -> tuple[datasets.Dataset, dict[str, int]]:
    """The documents, memory-mapped, and how many places of which file were left out."""
    if isinstance(origin, Path):
        folder = origin
        try:
            origin = _saved_files(folder) if skip_bad else datasets.load_from_disk(str(folder))
        except Exception:  # reading the files one by one will say which of them it is
            origin = _saved_files(folder)
    if isinstance(origin, list):
        return load_files(origin, column, skip_bad=skip_bad)
    return not_empty(text_only(origin, column, name), name), {}


def _stream(origin: Origin, column: str, name: str, skip_bad: bool) -> Stream:
    if isinstance(origin, Path):
        origin = _saved_files(origin)
    if isinstance(origin, list):
        return stream_files(origin, column, skip_bad=skip_bad)
    if isinstance(origin, HubFiles):
        if origin.features:
            check_column(origin.features, column, name)
        return stream_files(origin.paths, column, skip_bad=skip_bad, by_line=origin.by_line, name=name)
    if isinstance(origin, datasets.Dataset):
        origin = origin.to_iterable_dataset(num_shards=min(len(origin), SHARDS))
    return stream_rows(origin, column, name)


def _looks_like_a_file(source: str) -> bool:
    return not Path(source).is_dir() and (
        Path(source).is_file() or suffix(source) in KINDS or any(sign in source for sign in "*?[")
    )


def _find_splits(name: str, config: str | None, split: str, streaming: bool) -> list[Origin]:
    """The asked split of a Hub dataset (or of a local folder), and its validation split if it has one."""
    if name.count("/") > 1 and not Path(name).is_dir():
        raise InputError(f"'{name}' does not exist.")
    found: Mapping[str, Origin] | None = None
    if Path(name).is_dir():
        found = _local_splits(Path(name), config, split)
    if found is None and streaming:
        found = hub_files(name, config)
    splits = load(name, lambda: datasets.get_dataset_split_names(name, config)) if found is None else list(found)
    if split not in splits:
        raise InputError(f"'{name}' has no split '{split}': it has {', '.join(splits)}.")
    wanted = [split, *(other for other in HELD_OUT_SPLITS if other in splits and other != split)][:2]
    if found is not None:
        return [found[name] for name in wanted]
    rows = load(name, lambda: [datasets.load_dataset(name, config, split=one, streaming=streaming) for one in wanted])
    return [part.reshard() for part in rows] if streaming else rows  # a row group of Parquet becomes a shard


def _local_splits(folder: Path, config: str | None, split: str) -> dict[str, Origin] | None:
    """The splits of a local folder that can be read file by file; `None` leaves it to `datasets`."""
    if (folder / "dataset_dict.json").is_file():
        return {name: folder / name for name in json.loads((folder / "dataset_dict.json").read_bytes())["splits"]}
    if (folder / "state.json").is_file():
        return {split: folder}
    if (folder / "README.md").is_file():  # its header may say how to read the files
        return None
    builder = load(str(folder), lambda: datasets.load_dataset_builder(str(folder), config))
    files = (builder.config.data_files or {}).items()
    if not all(suffix(path) in KINDS for _, paths in files for path in paths):
        return None
    return {str(name): [*paths] for name, paths in files} or None


def _saved_files(folder: Path) -> list[str]:
    """The Arrow files of a folder that `Dataset.save_to_disk` left; raises `InputError` if it does not say which."""
    try:
        return [
            str(folder / file["filename"]) for file in json.loads((folder / "state.json").read_bytes())["_data_files"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"'{folder}' has no state.json that names its files: save the dataset again.") from None


def _find_files(sources: Iterable[str]) -> list[str]:
    """The files that paths and globs name; raises `InputError` for one that is not there or of no known kind."""
    found = []
    for source in sources:
        paths = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
        if not paths:
            raise InputError(f"'{source}' does not exist.")
        found += paths
    for path in found:
        kind = suffix(path)
        if Path(path).is_dir():
            raise InputError(f"'{path}' is a folder: give the files in it, for example '{path}/*.txt'.")
        if kind not in KINDS or (kind not in COMPRESSIBLE and not path.lower().endswith(kind)):
            raise InputError(
                f"'{path}' is of no known kind: give {', '.join(KINDS)} ({', '.join(COMPRESSIBLE)} may be compressed)."
            )
    return found


def _check_file(path: str) -> None:
    if not os.access(path, os.R_OK):
        raise InputError(f"'{path}' cannot be read: check its permissions.")
    if not Path(path).stat().st_size:
        raise InputError(f"'{path}' is empty.")


def _load_corpus() -> datasets.Dataset:
    # What the text comes from, and how, is there for the cache, which many Pythons and versions of this code share.
    stamp = "\n".join([sys.version, sysconfig.get_path("stdlib"), inspect.getsource(corpus)])
    return load(EMBEDDED_CORPUS, lambda: datasets.Dataset.from_generator(_documents, gen_kwargs={"stamp": stamp}))


def _documents(stamp: str) -> Iterator[dict[str, str]]:
    yield from corpus.python_docs()
