"""Documents of about one length as one rectangle, so that a few operations serve many of them.

Kernels for half precision on a CPU are faster where lengths are certain multiples (`even` in `narrow.py`). So each
document is filled up to the next one with zeros, which no token may see, and those of the same multiple are together.

Shapes: T tokens, N documents of one rectangle, L its length, H heads, D head width.
"""

from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple

import torch

from .narrow import even

Lengths = tuple[int, ...]


class Rectangles(NamedTuple):
    """How flat tokens (T, H, D) are cut into rectangles (N, H, L, D).

    Attributes:
        shapes: N, H and L of each.
        source: which of the T H rows each row of the rectangles is, and 0 for those that are filled up.
        filled: which rows of the rectangles those are.
        target: where each of the T H rows is in the rectangles.
    """

    shapes: list[tuple[int, int, int]]
    source: torch.Tensor
    filled: torch.Tensor
    target: torch.Tensor

    def cut(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(T, H, D) -> (N, H, L, D) of each rectangle, with zeros where it is filled up."""
        rows = x.reshape(-1, x.shape[-1]).index_select(0, self.source).index_fill_(0, self.filled, 0)
        sizes = [documents * heads * length for documents, heads, length in self.shapes]
        return [part.unflatten(0, shape) for part, shape in zip(rows.split(sizes), self.shapes, strict=True)]

    def join(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Undoes `cut`."""
        rows = torch.cat([part.flatten(0, 2) for part in parts]).index_select(0, self.target)
        return rows.unflatten(0, (-1, self.shapes[0][1]))


class Plan(NamedTuple):
    """How queries and keys are cut, and (N, 1, 1, L) of each rectangle which keys are tokens; `None` if all are."""

    queries: Rectangles
    keys: Rectangles
    real: list[torch.Tensor | None]


@lru_cache(maxsize=4)
def make_plan(query_lengths: Lengths, key_lengths: Lengths, heads: int, groups: int) -> Plan:
    """Of a batch, which all layers share: documents of so many queries and keys, of `heads` and of `groups` heads."""
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, lengths in enumerate(zip(query_lengths, key_lengths, strict=True)):
        alike[even(*lengths)].append(number)
    queries, _ = _arrange(query_lengths, [(numbers, length) for (length, _), numbers in alike.items()], heads)
    return Plan(queries, *_arrange(key_lengths, [(numbers, length) for (_, length), numbers in alike.items()], groups))


def _arrange(
    lengths: Lengths, rectangles: list[tuple[list[int], int]], heads: int
) -> tuple[Rectangles, list[torch.Tensor | None]]:
    """The rectangles of these documents and lengths, and what of each is tokens."""
    counts = torch.tensor(lengths)
    starts = counts.cumsum(0) - counts
    shapes, sources, real = [], [], []
    for numbers, length in rectangles:
        places, head = torch.arange(length), torch.arange(heads)[:, None]
        sources.append((starts[numbers][:, None] + places)[:, None] * heads + head)
        real.append((places < counts[numbers][:, None])[:, None, None])
        shapes.append((len(numbers), heads, length))
    source = torch.cat([x.flatten() for x in sources])
    inside = torch.cat([x.expand(-1, heads, -1, -1).flatten() for x in real])
    target = torch.empty(sum(lengths) * heads, dtype=torch.long)
    target[source[inside]] = inside.nonzero().squeeze(1)
    filled = (~inside).nonzero().squeeze(1)
    cut = Rectangles(shapes, source.index_fill_(0, filled, 0), filled, target)
    return cut, [None if bool(x.all()) else x for x in real]
