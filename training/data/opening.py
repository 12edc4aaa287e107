"""Opens files wherever they are: on this machine or at an address that fsspec knows, compressed or not."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import datasets
import pyarrow

REMOTE_BLOCK = 1 << 21  # bytes that are fetched at once, and so at most that many too many
UNPACKED = "trivium_unpacked"  # the folder of the cache of `datasets` that holds copies of compressed files
# By suffix, what opens a compressed file, given as a path or open.
COMPRESSIONS: dict[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda file: io.BufferedReader(pyarrow.input_stream(file, compression="zstd")),
}


def compression(path: str) -> str:
    """The suffix of a compressed file that says how; "" of any other."""
    return next((suffix for suffix in COMPRESSIONS if path.lower().endswith(suffix)), "")


def is_remote(path: str) -> bool:
    """Whether fsspec reads it, as it does hf://datasets/..."""
    return "://" in path


def stamp(path: str) -> tuple[str, int, int | str]:
    """What tells a file from others and from itself once it is edited; its second entry is the size in bytes."""
    if is_remote(path):
        system, name = _remote(path)
        return path, system.size(name), system.ukey(name)
    stat = os.stat(path)
    return os.path.abspath(path), stat.st_size, stat.st_mtime_ns


def open_bytes(path: str) -> IO[bytes]:
    """Opens a file to be read, of a compressed one the unpacked copy or, if there is none, what unpacks as it reads."""
    if not compression(path):
        return _open_stored(path)
    with suppress(FileNotFoundError):
        copy = copy_of(path)
        os.utime(copy)  # it is in use
        return open(copy, "rb")
    return open_unpacking(path)


def open_unpacking(path: str) -> IO[bytes]:
    """Opens a compressed file so that reading unpacks it; to seek is to read."""
    return COMPRESSIONS[compression(path)](_open_stored(path) if is_remote(path) else path)


def open_text(path: str, byte: int) -> io.TextIOWrapper:
    """Opens a file from a byte on, as text of which every byte can be counted: see `byte_length`."""
    file = open_bytes(path)
    if byte:
        file.seek(byte)
    return io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")


def copy_of(path: str) -> Path:
    """Where the unpacked copy of a compressed file lies, if there is one; raises what `stamp` does."""
    return Path(datasets.config.HF_DATASETS_CACHE, UNPACKED, hashlib.sha256(repr(stamp(path)).encode()).hexdigest())


def _open_stored(path: str) -> IO[bytes]:
    if not is_remote(path):
        return open(path, "rb")
    system, name = _remote(path)
    return cast(IO[bytes], io.BufferedReader(system.open(name, "rb", block_size=REMOTE_BLOCK)))


def _remote(path: str) -> tuple[Any, str]:
    import fsspec

    return fsspec.url_to_fs(path)
