"""Several sources mixed by weight, row by row, in an order that needs no history."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ...configuration.errors import InputError

MIN_BLOCK = 256


class Mixture(Dataset):
    """Rows of several sources; a source's share of the rows, and so of the tokens, is its weight.

    The rows come in blocks. How many rows of a block belong to each source follows from the weights alone, to the row;
    which ones is drawn from the seed and the block's number. So the source of row `n`, and which of its rows that is,
    are found without the rows before it. A source that has been read through begins its next pass.

    Items are those of the sources, with the number of the source before the place.

    Args:
        sources: by name, datasets such as [`PackedDataset`], with rows of one length.
        weights: by name, in any unit; without any = the number of rows, so that all sources end together.
        seed: of the order.

    Raises:
        InputError: weights that are missing, not positive, or of sources that are not there; no weights for streams.
    """

    def __init__(self, sources: Mapping[str, Any], weights: Mapping[str, float] | None = None, seed: int | None = 0):
        self.sources = dict(sources)
        self.seed = seed or 0
        if not weights and self.in_order:
            raise InputError("the length of a stream is not known: give every source of the mixture a weight.")
        weights = weights or {name: len(source) for name, source in self.sources.items()}
        if set(weights) != set(self.sources) or not all(map(_is_weight, weights.values())):
            raise InputError(
                f"the mixture needs a weight above 0 for each of {', '.join(self.sources)}, not {dict(weights)}."
            )
        shares = np.array([weights[name] for name in self.sources]) / sum(weights.values())
        self.shares = dict(zip(self.sources, shares.tolist(), strict=True))
        self._bounds = np.append(0.0, np.cumsum(shares))
        self._bounds[-1] = 1.0
        # So long that a block's rounded numbers of rows cannot fall below none.
        self._block = max(MIN_BLOCK, int(np.ceil(2 / shares.min())))
        self._latest: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources.values())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < 0:
            raise IndexError(index)
        number, row = self.locate(index)
        item = [*self.sources.values()][number][row]
        return item | {"place": (number, *item["place"])}

    def locate(self, index: int) -> tuple[int, int]:
        """The number of the source that row `index` comes from, and which of its rows it is."""
        block, place = divmod(index, self._block)
        order = self._order(block)
        number = int(order[place])
        return number, int(self._rows_before(block)[number] + np.count_nonzero(order[:place] == number))

    def rows_read(self, rows: int) -> dict[str, int]:
        """How many of the first `rows` rows come from each source."""
        block, place = divmod(rows, self._block)
        counts = self._rows_before(block) + np.bincount(self._order(block)[:place], minlength=len(self.sources))
        return dict(zip(self.sources, counts.tolist(), strict=True))

    def token_counts(self, vocab_size: int) -> np.ndarray:
        """How often each token occurs in the sources, each source by its weight: float64 of shape (vocab_size,)."""
        parts = []
        for name, source in self.sources.items():
            counts = source.token_counts(vocab_size)
            parts.append(counts * (self.shares[name] * self.num_tokens / counts.sum()))
        return np.sum(parts, axis=0)

    @property
    def num_tokens(self) -> int:
        """Tokens of all sources."""
        return sum(source.num_tokens for source in self.sources.values())

    @property
    def in_order(self) -> bool:
        """Whether rows can only be read one after the other."""
        return any(getattr(source, "in_order", False) for source in self.sources.values())

    @property
    def epoch(self) -> int:
        """How many times the stream that has been read most often was read to its end."""
        return max(getattr(source, "epoch", 0) for source in self.sources.values())

    @property
    def length(self) -> int:
        """Tokens per row."""
        return next(iter(self.sources.values())).length

    def state_dict(self, rows_read: int) -> dict[str, Any]:
        """What a checkpoint keeps: the weights, and of each source what it keeps."""
        read = self.rows_read(rows_read)
        sources = {name: source.state_dict(read[name]) for name, source in self.sources.items()}
        return {"rows": rows_read, "shares": self.shares, "sources": sources}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Brings each source to its place; raises `InputError` if the sources or weights are others than then."""
        if state.get("shares") != self.shares:
            raise InputError(f"the mixture is not the checkpoint's: {state.get('shares')} then, {self.shares} now.")
        for name, source in self.sources.items():
            try:
                source.load_state_dict(state["sources"][name])
            except InputError as error:
                raise InputError(f"source '{name}': {error}") from None

    def _rows_before(self, block: int) -> np.ndarray:
        bounds = np.floor(self._bounds * (block * self._block) + 0.5).astype(np.int64)
        return np.diff(bounds)

    def _order(self, block: int) -> np.ndarray:
        """The source of each row of a block, (rows,); the latest is kept."""
        if self._latest[0] != block:
            counts = self._rows_before(block + 1) - self._rows_before(block)
            sources = np.repeat(np.arange(len(counts)), counts)
            self._latest = block, np.random.default_rng([self.seed, block]).permutation(sources)
        return self._latest[1]


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
