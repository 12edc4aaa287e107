"""Where records begin in files that tell it only to who reads them from the beginning.

A line end in CSV may lie within quotes, a comma of JSON within an item: no byte in the middle of a file says by itself
whether a record begins there. Who has read one part of it knows where the next begins, and notes that in the cache of
`datasets`. Who begins at a part without a note reads on from the nearest one that has one.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import datasets

from .opening import stamp
from .parts import PART_BYTES, Part, Unreadable

NOTES = "trivium_places"  # the folder
# Processes append to the same notes; a note that another one tore apart is none.
NOTE = re.compile(rb"^\[(\d{1,18}), (\d{1,18}), (\d{1,18})\]$", re.MULTILINE)


class Place(NamedTuple):
    """Where a record begins.

    Attributes:
        byte: which one of the (uncompressed) file.
        before: how many lines of the file, or items of the array, come before.
    """

    byte: int = 0
    before: int = 0


# Reads the records of a file from the one at a place on, each with the place of the next.
Reader: TypeAlias = Callable[[str, Place], Iterator[tuple[Any, Place]]]


def records_of(part: Part, read: Reader) -> Iterator[tuple[Place, Any]]:
    """Yields the records that begin in a part, each with its place, and raises what `read` raises there."""
    notes = _Notes(part.path, read)
    place = notes.nearest(part.start)
    records = read(part.path, place)
    while part.stop is None or place.byte < part.stop:
        try:
            record, following = next(records)
        except StopIteration:
            return
        except Unreadable:
            if place.byte < part.start:  # it is for another part to say so
                return
            raise
        if part != Part(part.path):  # of a file that is one part nothing need be known
            notes.add(place, following)
        if place.byte >= part.start:
            yield place, record
        place = following


class _Notes:
    """Which record is the first at or after a byte: of the bytes where parts begin, those of which it is known.

    The notes are others once the file is edited, or read in another way.
    """

    _of_this_process: dict[Path, dict[int, Place]] = {}  # where none can be written

    def __init__(self, path: str, read: Reader):
        self._path, self._stamp = path, stamp(path)
        name = repr((self._stamp, inspect.getsource(inspect.getmodule(read) or read)))
        self._file = Path(datasets.config.HF_DATASETS_CACHE, NOTES, hashlib.sha256(name.encode()).hexdigest())
        self._known = self._of_this_process.setdefault(self._file, {0: Place()})
        with suppress(OSError):
            for note in NOTE.findall(self._file.read_bytes()):
                start, *place = map(int, note)
                self._known[start] = Place(*place)

    def nearest(self, start: int) -> Place:
        """The last place that is known up to where a part starts."""
        starts = [*self._known]  # at once, as another thread may add some
        return self._known[max(known for known in starts if known <= start)]

    def add(self, place: Place, following: Place) -> None:
        """Notes the parts that start after one record and up to the next."""
        starts = range((place.byte // PART_BYTES + 1) * PART_BYTES, following.byte + 1, PART_BYTES)
        new = [start for start in starts if start not in self._known]
        self._known.update(dict.fromkeys(new, following))
        with suppress(OSError):
            if new and stamp(self._path) == self._stamp:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("ab", buffering=0) as file:
                    file.write("".join(f"[{start}, {following.byte}, {following.before}]\n" for start in new).encode())
