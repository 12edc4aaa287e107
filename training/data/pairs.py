"""From pairs of texts to rows of pairs: what a translation or a summary is trained on, without padding.

A row has two sides, each with room for so many tokens. It is filled from a pool of pairs: the largest first, then
always the pair that leaves the least room on both sides, and most alike (best fit decreasing, in two dimensions). The
pairs of badly filled rows go back into the pool and meet others.
"""

import zlib
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset

from ...configuration.errors import InputError
from .token_table import TokenTable
from .tokenizing import tokenize_documents

POOL = 1024  # pairs; larger pools fill rows a little better, and take longer
BALANCE = 3.0  # how much worse a token's room is that only one side has
WELL_FILLED = 0.99
SHORTEST_SIDE = 8  # tokens


class PackedPairs(Dataset):
    """Rows of whole pairs of texts, for ever: item `n` beyond the last row is of a later pass.

    An item is `{"input_ids", "position_ids", "labels", "decoder_position_ids", "place"}`: the sources of its pairs, end
    to end, with positions that restart at each, int64 arrays of shape (S,); their targets, (T,); and the pair (epoch,
    row). Texts have the tokenizer's form, and targets end with the end-of-sequence token. `len` counts the rows of one
    pass.

    Args:
        pairs: one pair a row; pairs with an empty side are left out.
        tokenizer: any of transformers' fast tokenizers. Tokens are memory-mapped and cached by `datasets`.
        max_source_length, max_target_length: the room of a row's sides, of which one token each is kept for
            [`fill_up`]. Longer texts lose their end, the special token there too; `num_truncated` counts such pairs.
            Without the second, pairs are for a decoder: source and target share the room and are one text, so the
            target has no special tokens at its beginning.
        source_column, target_column: of `pairs`.
        seed: of which pairs share a row, and of the order of the rows, new in each pass; `None` = about as stored.

    Raises:
        InputError: no such column, no pairs, no end-of-sequence token, sides with no room.
    """

    def __init__(
        self,
        pairs: datasets.Dataset,
        tokenizer: Any,
        max_source_length: int,
        max_target_length: int | None = None,
        *,
        source_column: str = "source",
        target_column: str = "target",
        seed: int | None = 0,
    ):
        if tokenizer.eos_token_id is None:
            raise InputError("targets need an end-of-sequence token, which this tokenizer does not have.")
        if min(max_source_length, max_target_length or max_source_length) < SHORTEST_SIDE:
            raise InputError(
                f"a side of a row needs room for at least {SHORTEST_SIDE} tokens: raise its maximal length."
            )
        together = max_target_length is None
        self.sources = _tokenized(pairs, source_column, tokenizer, special_tokens=True)
        self.targets = _tokenized(pairs, target_column, tokenizer, special_tokens=not together, append_eos=True)
        self.max_source_length, self.max_target_length = max_source_length, max_target_length
        self.seed = seed
        found = np.stack([self.sources.lengths, self.targets.lengths], axis=1).astype(np.int64)
        room = (max_source_length, max_target_length)
        self.lengths = _cut_together(found, room[0]) if together else np.minimum(found, np.array(room) - 1)
        kept = np.flatnonzero((found > 0).all(axis=1))
        if not len(kept):
            raise InputError("there are no pairs with two texts: give more data.")
        self.num_truncated = int((self.lengths < found).any(axis=1).sum())
        if seed is not None:
            kept = np.random.default_rng(seed).permutation(kept)
        rows = pack_pairs(self._packed_lengths[kept], *self._capacity)
        self.order = kept[np.concatenate(rows)]
        self.offsets = np.cumsum([0, *map(len, rows)])
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < 0:
            raise IndexError(index)
        epoch, place = divmod(index, len(self))
        epoch += int(self._epoch)
        row = self._rows(epoch)[place]
        pairs = self.order[self.offsets[row] : self.offsets[row + 1]]
        sources = [self.sources[pair][: self.lengths[pair, 0]].astype(np.int64) for pair in pairs.tolist()]
        targets = [self.targets[pair][: self.lengths[pair, 1]].astype(np.int64) for pair in pairs.tolist()]
        return {
            "input_ids": np.concatenate(sources),
            "position_ids": np.concatenate([np.arange(len(source)) for source in sources]),
            "labels": np.concatenate(targets),
            "decoder_position_ids": np.concatenate([np.arange(len(target)) for target in targets]),
            "place": (epoch, place),
        }

    def set_epoch(self, epoch: int) -> None:
        """Says with which pass item 0 begins; for trainers that do not count on beyond the last row."""
        self._epoch.fill_(epoch)

    @property
    def fill(self) -> float:
        """The share of the room of the rows, both sides together, that holds tokens."""
        return self.num_tokens / (len(self) * (self.max_source_length + (self.max_target_length or 0)))

    @property
    def num_tokens(self) -> int:
        """Tokens of both sides that one pass reads."""
        return int(self.lengths[self.order].sum())

    @property
    def length(self) -> int:
        """Tokens per row of what is read."""
        return self.max_source_length

    def token_counts(self, vocab_size: int) -> np.ndarray:
        """How often each token occurs in the targets, which are what is predicted: int64 of shape (vocab_size,)."""
        return self.targets.counts(vocab_size)

    @property
    def balanced_target_length(self) -> int:
        """The `max_target_length` with which both sides would fill up alike; the best if no target is longer."""
        sources, targets = self.lengths[self.order].sum(axis=0)
        return int(np.ceil(self.max_source_length * targets / sources))

    def state_dict(self, rows_read: int) -> dict[str, Any]:
        """What a checkpoint keeps: how much has been read, and of which data."""
        check = zlib.crc32(np.ascontiguousarray(self.lengths[self.order]).data, len(self))
        return {"rows": rows_read, "documents": len(self.order), "tokens": self.num_tokens, "check": check}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing needs restoring; raises `InputError` if the state is of other data or of rows packed otherwise."""
        if self.state_dict(state["rows"]) != state:
            raise InputError("the pairs are not those that the checkpoint was trained on, or are packed otherwise.")

    @property
    def _capacity(self) -> tuple[int, int]:
        if self.max_target_length is None:
            return self.max_source_length, self.max_source_length
        return self.max_source_length - 1, self.max_target_length - 1

    @property
    def _packed_lengths(self) -> np.ndarray:
        """What each pair takes of the room: (N, 2). Two sides in one are the same room said twice."""
        return self.lengths if self.max_target_length else np.repeat(self.lengths.sum(axis=1, keepdims=True), 2, axis=1)

    def _rows(self, epoch: int) -> np.ndarray:
        """The rows in the order of a pass; the latest two passes are kept."""
        if self.seed is None:
            return np.arange(len(self))
        if epoch not in self._orders:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self))
            self._orders = dict([*self._orders.items()][-1:]) | {epoch: order}
        return self._orders[epoch]


def choose_target_length(pairs: datasets.Dataset, tokenizer: Any, max_source_length: int) -> int:
    """The `max_target_length` with which both sides of a row fill up alike, as T5 computes that of its targets.

    It leaves room for every target that `max_source_length` would have room for, and is at most that.

    Args:
        pairs: with the columns `source` and `target`.
        tokenizer, max_source_length: as in [`PackedPairs`].
    """
    sources = _tokenized(pairs, "source", tokenizer, special_tokens=True).lengths
    targets = _tokenized(pairs, "target", tokenizer, special_tokens=True, append_eos=True).lengths
    lengths = np.minimum(np.stack([sources, targets]), max_source_length - 1)[:, (sources > 0) & (targets > 0)]
    balanced = max_source_length * lengths[1].sum() / max(lengths[0].sum(), 1)
    return int(min(max(np.ceil(balanced), lengths[1].max(initial=0) + 1, SHORTEST_SIDE), max_source_length))


def pack_pairs(lengths: np.ndarray, source: int, target: int) -> list[np.ndarray]:
    """Which pairs share a row.

    Args:
        lengths: (N, 2), tokens of each pair on either side, none more than a row has room for.
        source, target: the room of a row on either side.

    Returns:
        For each row the indices of its pairs; each pair is in one row.
    """
    packed: list[np.ndarray] = []
    waiting = np.zeros(0, np.int64)
    coming = 0
    while coming < len(lengths) or len(waiting):
        stop = min(coming + POOL - len(waiting), len(lengths))
        pool = np.concatenate([waiting, np.arange(coming, stop)])
        coming = stop
        rows = [pool[row] for row in _pack_pool(lengths[pool], source, target)]
        if coming == len(lengths):
            return packed + rows
        rows.sort(key=lambda row: -lengths[row].sum())
        filled = [lengths[row].sum() >= WELL_FILLED * (source + target) for row in rows]
        done = max(sum(filled), (len(rows) + 1) // 2)  # at least half, so that every pool comes to an end
        packed += rows[:done]
        waiting = np.concatenate([*rows[done:], np.zeros(0, np.int64)])
    return packed


def _pack_pool(lengths: np.ndarray, source: int, target: int) -> list[np.ndarray]:
    left = np.argsort(-(lengths / (source, target)).max(axis=1), kind="stable")
    rows = []
    while len(left):
        row = _fill_row(lengths[left, 0], lengths[left, 1], source, target)
        rows.append(left[row])
        left = np.delete(left, row)
    return rows


def _fill_row(sources: np.ndarray, targets: np.ndarray, source: int, target: int) -> list[int]:
    """The first pair and those that fit beside it, one after the other the one that leaves the best room."""
    row, chosen = [], 0
    places = np.arange(len(sources))
    free_source, free_target = source, target
    while len(places):
        row.append(int(places[chosen]))
        free_source, free_target = free_source - sources[chosen], free_target - targets[chosen]
        fits = (sources <= free_source) & (targets <= free_target) & (places != places[chosen])
        places, sources, targets = places[fits], sources[fits], targets[fits]
        over_source, over_target = (free_source - sources) / source, (free_target - targets) / target
        room = BALANCE * np.abs(over_source - over_target) + over_source + over_target
        chosen = int(room.argmin()) if len(places) else 0
    return row


def _cut_together(lengths: np.ndarray, room: int) -> np.ndarray:
    """Lengths (N, 2) of sources and targets cut to share `room`: sources first, but not below half of it."""
    sources, targets = lengths.T
    kept = np.minimum(targets, room - np.minimum(sources, room // 2))
    return np.stack([np.minimum(sources, room - kept), kept], axis=1)


def _tokenized(pairs: datasets.Dataset, column: str, tokenizer: Any, **form: bool) -> TokenTable:
    if column not in pairs.column_names:
        raise InputError(f"there is no column '{column}': the pairs have {', '.join(pairs.column_names)}.")
    texts = pairs.select_columns(column)
    texts = texts if column == "text" else texts.rename_column(column, "text")
    return TokenTable(tokenize_documents(texts, tokenizer, **form))
