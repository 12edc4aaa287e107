"""Compressed files, unpacked so that they have a middle to go on in.

A stream unpacks each file once, as it comes to it, into the cache of `datasets`. What nobody has read for an hour makes
room for the next, so the disk holds what is being read and not the whole corpus.
"""

import errno
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO

from datasets.utils import tqdm
from huggingface_hub.utils import WeakFileLock

from .opening import compression, copy_of, open_unpacking
from .parts import PART_BYTES, Part

logger = logging.getLogger(__name__)

KEPT_SECONDS = 3600  # of a copy, since it was last opened
BLOCK = 1 << 20
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


def parts_from(part: Part, first: int) -> Iterator[Part]:
    """Yields the part, or, if it is a compressed file, the parts of what it unpacks to, from the `first` on.

    Where there can be no copy, because the file is broken or the disk full, one part holds the rest, and who goes on in
    it unpacks again what is before.
    """
    if not compression(part.path):
        yield from [part][first:]
        return
    for start in count(first * PART_BYTES, PART_BYTES):
        size = unpack(part.path)
        if size is None:
            yield part._replace(start=start)
            return
        if start >= size:
            return
        yield part._replace(start=start, stop=start + PART_BYTES if start + PART_BYTES < size else None)


def unpack(path: str) -> int | None:
    """Unpacks a compressed file into the cache unless that is done; returns the size, or `None` if there is no copy.

    Of several processes one does so and the others wait. A copy appears whole or not at all.
    """
    try:
        copy = copy_of(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(f"{copy}.lock"):
            if not copy.exists():
                _make_room(copy.parent)
                _unpack(path, copy)
            os.utime(copy)
            return copy.stat().st_size
    except MemoryError:
        raise
    except Exception as error:  # whatever it is, reading will say so
        if getattr(error, "errno", None) in DISK_IS_FULL:
            logger.warning(
                "'%s' does not fit on the disk unpacked, so going on in its middle will unpack it again up to there: "
                "make room, or set HF_DATASETS_CACHE to a folder on another disk.",
                path,
            )
        return None


def _unpack(path: str, copy: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=copy.parent, delete=False) as unpacked:
        try:
            with open_unpacking(path) as file:
                _copy(file, unpacked, path)
            unpacked.close()
            os.replace(unpacked.name, copy)
        except BaseException:
            unpacked.close()
            os.unlink(unpacked.name)
            raise


def _copy(file: IO[bytes], unpacked: IO[bytes], path: str) -> None:
    with tqdm(unit="B", unit_scale=True, desc=f"Unpacking {Path(path).name}") as progress:
        while block := file.read(BLOCK):
            unpacked.write(block)
            progress.update(len(block))


def _make_room(folder: Path) -> None:
    """Deletes what nobody has opened for long, and what killed processes left."""
    for file in folder.iterdir():
        with suppress(OSError):  # another process did, or still reads it where that forbids it
            if time.time() - file.stat().st_mtime > KEPT_SECONDS:
                file.unlink()
