"""Which pieces of which documents share a row: best fit decreasing, with every row filled to the last token.

Documents laid end to end and cut every `length` tokens are cut nearly once a row; bin packing cuts none that fits but
leaves gaps. Here documents stay whole as far as they fit, and what then does not is cut to fill the gaps: nothing is
padded and little is cut (after Ding et al., 2024, "Fewer Truncations Improve Language Modeling").
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np


@dataclass
class Rows:
    """Rows of pieces: row `i` has the pieces `offsets[i]` to `offsets[i + 1]`.

    Attributes:
        pieces: (P, 3) int64, of each piece its document, where it begins in that document, and its length.
        offsets: (R + 1,) int64.
    """

    pieces: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.pieces[self.offsets[index] : self.offsets[index + 1]]

    def shuffled(self, generator: np.random.Generator) -> "Rows":
        """The same rows in random order."""
        order = generator.permutation(len(self))
        counts = np.diff(self.offsets)[order]
        offsets = np.append(0, np.cumsum(counts))
        places = np.repeat(self.offsets[order] - offsets[:-1], counts) + np.arange(len(self.pieces))
        return Rows(self.pieces[places], offsets)


def _rows(rows: list[list[tuple[int, int, int]]]) -> Rows:
    pieces = np.array([piece for row in rows for piece in row], dtype=np.int64).reshape(-1, 3)
    return Rows(pieces, np.cumsum([0, *map(len, rows)]))


def best_fit(lengths: np.ndarray, length: int) -> Rows:
    """Fills rows of `length` tokens with documents of these lengths; one row is shorter if they do not come out even.

    A document longer than a row fills whole rows with its beginning. Then, longest first, every document and every rest
    goes into the row that it fills best. Those that fit nowhere whole are cut to fill the largest gaps.
    """
    full: list[list[tuple[int, int, int]]] = []
    rests: list[tuple[int, int, int]] = []
    for document, size in enumerate(lengths.tolist()):
        filled = size - size % length
        full += [[(document, start, length)] for start in range(0, filled, length)]
        if size > filled:
            rests.append((document, filled, size - filled))
    rests.sort(key=lambda piece: -piece[2])
    gaps = _Gaps(sum(piece[2] for piece in rests), length)
    for piece in [piece for piece in rests if not gaps.place(piece)]:
        gaps.cut_and_place(piece)
    return _rows(full + gaps.rows)


def wrapped(lengths: np.ndarray, length: int) -> Rows:
    """Lays the documents end to end and cuts every `length` tokens."""
    ends = np.cumsum(lengths)
    rows = []
    for start in range(0, int(ends[-1]) if len(ends) else 0, length):
        stop = min(start + length, int(ends[-1]))
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        row = []
        for document in range(first, last + 1):
            begin = int(ends[document] - lengths[document])
            piece = max(start, begin) - begin, min(stop, int(ends[document])) - max(start, begin)
            row += [(document, *piece)] if piece[1] else []
        rows.append(row)
    return _rows(rows)


PACKINGS = {"best-fit": best_fit, "wrapped": wrapped}


class _Gaps:
    """Rows that are being filled, and how much room each has left, the least first."""

    def __init__(self, tokens: int, length: int):
        whole, short = divmod(tokens, length)
        sizes = [length] * whole + ([short] if short else [])
        self.rows: list[list[tuple[int, int, int]]] = [[] for _ in sizes]
        self.free = sorted((size, row) for row, size in enumerate(sizes))

    def place(self, piece: tuple[int, int, int]) -> bool:
        """Puts the piece into the smallest gap that holds it whole; false if there is none."""
        index = bisect_left(self.free, (piece[2], -1))
        if index == len(self.free):
            return False
        self._fill(index, piece)
        return True

    def cut_and_place(self, piece: tuple[int, int, int]) -> None:
        """Fills the largest gaps with the beginning of the piece until the rest fits whole."""
        while not self.place(piece):
            document, start, length = piece
            room = self.free[-1][0]
            self._fill(len(self.free) - 1, (document, start, room))
            piece = (document, start + room, length - room)

    def _fill(self, index: int, piece: tuple[int, int, int]) -> None:
        room, row = self.free.pop(index)
        self.rows[row].append(piece)
        if room > piece[2]:
            insort(self.free, (room - piece[2], row))
