"""From documents to rows of equal length without padding, found by arithmetic on where each document begins.

The documents' tokens lie in the (memory-mapped) Arrow table of `datasets`. Each pass over them has its own random
order; in that order they make one long stream, which is cut into windows of a few million tokens, and each window is
packed by itself into rows. So row `n` of a run is found without those before it, and a run that is resumed reads
nothing twice: its place in the data is one number.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Literal

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset

from ...configuration.errors import InputError
from .best_fit import PACKINGS, Rows
from .token_table import TokenTable

WINDOW_TOKENS = 2**22
CUTS_MEASURED_ON = 4  # windows
COUNTED_AT_ONCE = 2**20  # documents


class PackedDataset(Dataset):
    """Rows of `length` tokens out of documents, for ever: item `n` beyond the last row is of a later pass.

    An item is `{"input_ids", "position_ids", "place"}`: two int64 arrays of shape (length,) and the pair (epoch, row).
    Positions count from 0 within each document and again where a row ends within one, so a position of 0 marks the
    beginning of what attention must keep to itself. The place is what collators seed their random choices with: the
    same wherever and in whatever order it is read. `len` counts the rows of one pass.

    Args:
        documents: a dataset with the column `input_ids`, one document a row.
        length: tokens per row.
        max_blocks: keep only the first so many rows.
        seed: of the order of documents and rows, new in each pass; `None` = as they are stored.
        packing: `"best-fit"` keeps documents whole where it can; `"wrapped"` lays them end to end and cuts.
        drop_last: leave out what does not fill a row at the end of a pass, unless it is all there is.

    Raises:
        InputError: there are no tokens, or the packing is unknown.
    """

    def __init__(
        self,
        documents: datasets.Dataset,
        length: int,
        max_blocks: int | None = None,
        *,
        seed: int | None = None,
        packing: Literal["best-fit", "wrapped"] = "best-fit",
        drop_last: bool = True,
    ):
        if packing not in PACKINGS:
            raise InputError(f"`packing` is {' or '.join(map(repr, PACKINGS))}, not '{packing}'.")
        self.tokens = TokenTable(documents)
        self.length = length
        self.seed = seed
        self.packing = packing
        self.lengths = self.tokens.lengths
        self.num_tokens = int(self.lengths.sum(dtype=np.int64))
        if not self.num_tokens:
            raise InputError("the documents hold no tokens: give more data.")
        rest = self.num_tokens % length if drop_last and self.num_tokens > length else 0
        self.used_tokens = self.num_tokens - rest
        self.num_blocks = -(-self.used_tokens // length)
        if max_blocks is not None:
            self.num_blocks = min(self.num_blocks, max_blocks)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change
        self._orders: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._windows: dict[tuple[int, int], Rows] = {}

    def __len__(self) -> int:
        return self.num_blocks

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < 0:
            raise IndexError(index)
        epoch, row = divmod(index, self.num_blocks)
        epoch += int(self._epoch)
        window, place = divmod(row, self._rows_per_window)
        pieces = self._window(epoch, window)[place]
        return {
            "input_ids": np.concatenate([self._tokens(*piece) for piece in pieces.tolist()]),
            "position_ids": np.concatenate([np.arange(length) for length in pieces[:, 2]]),
            "place": (epoch, row),
        }

    def set_epoch(self, epoch: int) -> None:
        """Says with which pass item 0 begins; for trainers that do not count on beyond the last row."""
        self._epoch.fill_(epoch)

    def token_counts(self, vocab_size: int) -> np.ndarray:
        """See [`TokenTable.counts`]."""
        return self.tokens.counts(vocab_size)

    def state_dict(self, rows_read: int) -> dict[str, Any]:
        """What a checkpoint keeps: how much has been read, and of which data."""
        return {"rows": rows_read, "documents": len(self.lengths), "tokens": self.num_tokens, "check": self._checksum()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing needs restoring; raises `InputError` if the state is of other data or of rows packed otherwise."""
        mine = self.state_dict(state["rows"])
        for name, what in (("documents", "documents"), ("tokens", "tokens"), ("check", "other lengths of documents")):
            if mine[name] != state.get(name):
                then = f"{state.get(name):,} {what} then, {mine[name]:,} now" if name != "check" else what
                raise InputError(f"the data is not what the checkpoint was trained on: {then}.")

    def share_cut(self) -> float:
        """The share of the documents no longer than a row that are cut all the same, of those in the first windows."""
        cut = fitting = 0
        for window in range(min(CUTS_MEASURED_ON, -(-self.num_blocks // self._rows_per_window))):
            pieces = self._window(0, window).pieces
            lengths = self.lengths[pieces[:, 0]]
            short = lengths <= self.length
            fitting += len(np.unique(pieces[short, 0]))
            cut += len(np.unique(pieces[short & (pieces[:, 2] < lengths), 0]))
        return cut / fitting if fitting else 0.0

    @property
    def _rows_per_window(self) -> int:
        return max(WINDOW_TOKENS // self.length, 1)

    def _checksum(self) -> int:
        return zlib.crc32(np.ascontiguousarray(self.lengths).data, self.length)

    def _window(self, epoch: int, window: int) -> Rows:
        """The rows of one window, as pieces of documents; the latest two windows are kept."""
        if (epoch, window) not in self._windows:
            order, firsts, skips = self._order(epoch)
            documents = order[firsts[window] : firsts[window + 1] + 1]
            lengths = self.lengths[documents].astype(np.int64)
            lengths[0] -= skips[window]  # they are of the window before
            start = window * self._rows_per_window * self.length
            ends = lengths.cumsum()
            size = min(self._rows_per_window * self.length, self.used_tokens - start)
            count = int(np.searchsorted(ends, size)) + 1
            documents, lengths = documents[:count], lengths[:count]
            lengths[-1] -= int(ends[count - 1]) - size
            rows = PACKINGS[self.packing](lengths, self.length)
            rows.pieces[rows.pieces[:, 0] == 0, 1] += skips[window]
            rows.pieces[:, 0] = documents[rows.pieces[:, 0]]
            if self.seed is not None:
                rows = rows.shuffled(np.random.default_rng([self.seed, epoch, window]))
            self._windows = dict([*self._windows.items()][-1:]) | {(epoch, window): rows}
        return self._windows[epoch, window]

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The documents in the order of a pass; where in it each window begins, and how much of that document it skips.

        The latest two passes are kept, in four bytes for each document.
        """
        if epoch not in self._orders:
            order = np.arange(len(self.lengths), dtype=np.int32 if len(self.lengths) < 2**31 else np.int64)
            if self.seed is not None:
                np.random.default_rng([self.seed, epoch]).shuffle(order)
            self._orders = dict([*self._orders.items()][-1:]) | {epoch: (order, *self._begin_windows(order))}
        return self._orders[epoch]

    def _begin_windows(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers in `order`, of the documents that windows begin in, and tokens of them that windows before have."""
        size = self._rows_per_window * self.length
        begins = np.arange(0, self.num_tokens, size)
        firsts, skips, before = [], [], 0
        for start in range(0, len(order), COUNTED_AT_ONCE):
            lengths = self.lengths[order[start : start + COUNTED_AT_ONCE]]
            ends = before + lengths.cumsum(dtype=np.int64)
            here = begins[(begins >= before) & (begins < ends[-1])]
            found = np.searchsorted(ends, here, side="right")
            firsts.append(start + found)
            skips.append(here - (ends[found] - lengths[found]))
            before = int(ends[-1])
        return np.concatenate([*firsts, [len(order)]]), np.concatenate(skips)

    def _tokens(self, document: int, start: int, length: int) -> np.ndarray:
        return self.tokens[document][start : start + length].astype(np.int64)
