"""Pairs of texts, one to read and one to write: from the same places as documents, with two columns."""

from functools import partial
from typing import Any

import datasets
import numpy as np

from ...configuration.errors import InputError
from ..arguments import DataArguments
from .documents import check_column, load, not_empty
from .held_out import Texts, hash_text
from .readers import suffix
from .sources import find_origins

READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jsonl": ("json", {"on_mixed_types": None}),
    ".json": ("json", {"on_mixed_types": None}),
    ".csv": ("csv", {"keep_default_na": False}),  # the text "NA" is a text
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
}


def load_pairs(args: DataArguments, target_column: str) -> Texts:
    """Loads pairs and sets some of them apart by a hash of what is read, so that equal sources stay together.

    Args:
        args: where from; `text_column` is what is read.
        target_column: the column of what is to be written.

    Returns:
        Datasets with the columns `source` and `target`, pairs with a blank side left out.

    Raises:
        InputError: what [`load_texts`](sources.py) raises; a column that is not there; text files, which have no
            columns; a stream, or all pairs alike.
    """
    name = ", ".join(args.data)
    if args.streaming:
        raise InputError("pairs are packed as a whole, so they cannot be streamed: leave `streaming` out.")
    origins = find_origins(list(args.data), args.data_config, args.data_split)
    parts = [_two_columns(_rows(origin, name), args.text_column, target_column, name) for origin in origins]
    if len(parts) == 2:
        return Texts(*parts)
    (pairs,) = parts
    hashes = np.array([hash_text(source) for source in pairs["source"]])
    held_out = hashes <= max(args.held_out_fraction * 2**32, hashes.min())
    if held_out.all():
        raise InputError("all pairs read the same text, so none can be held out: give more data.")
    return Texts(pairs.select(np.flatnonzero(~held_out)), pairs.select(np.flatnonzero(held_out)))


def _rows(origin: Any, name: str) -> datasets.Dataset:
    if isinstance(origin, datasets.Dataset):
        return origin
    if not isinstance(origin, list):
        return load(name, partial(datasets.load_from_disk, str(origin)))
    by_reader: dict[str, list[str]] = {}
    for path in origin:
        if suffix(path) not in READERS:
            raise InputError(f"'{path}' has no columns: give pairs as {', '.join(READERS)}.")
        by_reader.setdefault(suffix(path), []).append(path)
    parts = []
    for kind, paths in by_reader.items():
        reader, options = READERS[kind]
        call = partial(datasets.load_dataset, reader, data_files=paths, split="train", **options)
        parts.append(load(", ".join(paths), call))
    return datasets.concatenate_datasets(parts)


def _two_columns(rows: datasets.Dataset, source: str, target: str, name: str) -> datasets.Dataset:
    for column in (source, target):
        check_column(rows.features, column, name)
    rows = rows.select_columns([source, target]).rename_columns({source: "source", target: "target"})
    return not_empty(rows.filter(_both_sides, batched=True, desc="Leaving out pairs with a blank side"), name)


def _both_sides(batch: dict[str, list[str | None]]) -> list[bool]:
    sides = zip(batch["source"], batch["target"], strict=True)
    return [bool(source and source.strip() and target and target.strip()) for source, target in sides]
