"""The files behind a dataset of `datasets`, where our own readers can stream them and go on in their middle."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import datasets

from .documents import load
from .opening import open_bytes
from .readers import suffix

# By the configuration of its builder, the suffixes of what our readers take for the same as it does.
BUILDERS = {"JsonConfig": (".jsonl", ".json"), "CsvConfig": (".csv",), "TextConfig": (".txt",)}
LINES = datasets.Features({"text": datasets.Value("string")})
# Of a builder's configuration, what does not change how a file is read; `features` says what is in it.
HARMLESS = ("name", "version", "data_dir", "data_files", "description", "features")
FIRST_LINE_BYTES = 1 << 20


class HubFiles(NamedTuple):
    """The files of one split.

    Attributes:
        paths: local, or addresses that fsspec knows.
        by_line: whether each line of them is a document.
        features: the columns, if the dataset declares them.
    """

    paths: list[str]
    by_line: bool
    features: datasets.Features | None


def hub_files(name: str, config: str | None) -> dict[str, HubFiles] | None:
    """The files of each split of a dataset; `None` if there is one, or a setting, that our readers do not know.

    Args:
        name, config: as `datasets.load_dataset` takes them.

    Raises:
        InputError: there is no such dataset or configuration.
    """
    builder = load(name, lambda: datasets.load_dataset_builder(name, config))
    kind = type(builder.config).__name__
    files = {str(split): [*paths] for split, paths in (builder.config.data_files or {}).items()}
    if kind not in BUILDERS or not files or any(_settings(builder.config)):
        return None
    paths = [path for split in files.values() for path in split]
    if not all(suffix(path) in BUILDERS[kind] for path in paths) or not load(name, lambda: _known_json(paths)):
        return None
    by_line = kind == "TextConfig"
    features = builder.info.features or (LINES if by_line else None)
    return {split: HubFiles(paths, by_line, features) for split, paths in files.items()}


def _settings(config: Any) -> Iterator[str]:
    """The fields of a builder's configuration that are not what they are by default and say how a file is read."""
    usual = type(config)()
    for field in dataclasses.fields(config):
        if field.name not in HARMLESS and getattr(config, field.name) != getattr(usual, field.name):
            yield field.name


def _known_json(paths: list[str]) -> bool:
    """Whether the first .json file, if there is one, holds an array or lines, and not one object over many lines."""
    for path in (path for path in paths if suffix(path) == ".json"):
        with open_bytes(path) as file:
            line = file.readline(FIRST_LINE_BYTES).removeprefix(b"\xef\xbb\xbf").strip()
        return not line.startswith(b"{") or line.endswith(b"}") or len(line) > FIRST_LINE_BYTES // 2
    return True
