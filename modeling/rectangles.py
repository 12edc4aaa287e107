"""Attention over documents of about one length as one rectangle, so that a few operations serve many of them.

Kernels for half precision on a CPU are faster where lengths are certain multiples (`even` in `narrow.py`), and take
time to start. So documents are stacked, each filled up with its last token again, which no token of it sees.

Shapes: T tokens, N documents of one rectangle, L its length, H heads, D head width.
"""

from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from .narrow import differentiate_filled, even, flash_backward, is_short, make_bias
from .rules import Rule, visible

START = 2**17  # scores, which take as long as the operations of one more rectangle take to start

Lengths = tuple[int, ...]


class Rectangles(NamedTuple):
    """How flat tokens (T, H, D) are cut into rectangles (N, H, L, D).

    Attributes:
        shapes: N, H and L of each.
        source: which of the T H rows each row of the rectangles is.
        filled: which rows of the rectangles repeat another.
        target: where each of the T H rows is in the rectangles.
    """

    shapes: list[tuple[int, int, int]]
    source: torch.Tensor
    filled: torch.Tensor
    target: torch.Tensor

    def cut(self, x: torch.Tensor, repeated: bool = True) -> list[torch.Tensor]:
        """(T, H, D) -> (N, H, L, D) of each rectangle, which has zeros at its end if nothing is to be `repeated`."""
        rows = x.reshape(-1, x.shape[-1]).index_select(0, self.source)
        if not repeated:
            rows.index_fill_(0, self.filled, 0)
        sizes = [documents * heads * length for documents, heads, length in self.shapes]
        return [part.unflatten(0, shape) for part, shape in zip(rows.split(sizes), self.shapes, strict=True)]

    def join(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Undoes `cut`."""
        rows = torch.cat([part.flatten(0, 2) for part in parts]).index_select(0, self.target)
        return rows.unflatten(0, (-1, self.shapes[0][1]))


class Plan(NamedTuple):
    """How queries and keys are cut.

    Attributes:
        queries, keys: how.
        real: (N, 1, 1, L) of each rectangle, which keys are tokens; `None` if all are, or the others come too late.
        biases: what [`differentiate_filled`] adds to the scores of each; `None` where torch's kernel is faster.
    """

    queries: Rectangles
    keys: Rectangles
    real: list[torch.Tensor | None]
    biases: list[torch.Tensor | None]


def attend_rectangles(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: tuple[list[int], list[int]], rule: Rule
) -> torch.Tensor:
    """Attention within documents of these lengths: query (Tq, H, D), key and value (Tk, G, D) -> (Tq, H, D)."""
    plan = _plan(query, key, lengths, rule)
    options = {"scale": rule.scaling, "enable_gqa": key.shape[1] != query.shape[1]}
    parts = []
    for q, k, v, real in zip(plan.queries.cut(query), plan.keys.cut(key), plan.keys.cut(value), plan.real, strict=True):
        mask = _mask(q.shape[2], k.shape[2], real, rule)
        causal = rule.causal and mask is None
        parts.append(F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, **options))
    return plan.queries.join(parts)


def rectangles_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[list[int], list[int]],
    rule: Rule,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value of [`attend_rectangles`] from that of what it returns."""
    plan = _plan(query, key, lengths, rule)
    cuts = plan.queries.cut(grad, repeated=False), plan.queries.cut(query), plan.keys.cut(key), plan.keys.cut(value)
    found: list[tuple[torch.Tensor, ...]] = []
    for g, q, k, v, real, bias in zip(*cuts, plan.real, plan.biases, strict=True):
        mask = _mask(q.shape[2], k.shape[2], real, rule)
        if bias is None:
            found.append(flash_backward(g, q, k, v, mask, rule.scaling, rule.causal))
        else:
            found.append(differentiate_filled(g, q, k, v, bias, rule.scaling, rule.causal and mask is None))
    query_grads, key_grads, value_grads = map(list, zip(*found, strict=True))
    return plan.queries.join(query_grads), plan.keys.join(key_grads), plan.keys.join(value_grads)


def _plan(query, key, lengths, rule) -> Plan:
    return make_plan(*map(tuple, lengths), query.shape[1], key.shape[1], rule, query.dtype)


@lru_cache(maxsize=4)
def make_plan(
    query_lengths: Lengths, key_lengths: Lengths, heads: int, groups: int, rule: Rule, dtype: torch.dtype
) -> Plan:
    """Of a batch, whose layers share it: documents of so many queries and keys, of `heads` and of `groups` heads."""
    alike = _gather(query_lengths, key_lengths, heads)
    rows, columns = ([(numbers, size[side]) for size, numbers in alike.items()] for side in (0, 1))
    queries = keys = _arrange(query_lengths, rows, heads)
    if (key_lengths, columns, groups) != (query_lengths, rows, heads):
        keys = _arrange(key_lengths, columns, groups)
    real = [_real([key_lengths[number] for number in numbers], length, rule) for numbers, length in columns]
    biases = [
        _usual_bias(*size, rule, dtype) if some is None else _bias(*size, some, rule, dtype)
        for size, some in zip(alike, real, strict=True)
    ]
    return Plan(queries, keys, real, biases)


def _gather(query_lengths: Lengths, key_lengths: Lengths, heads: int) -> dict[tuple[int, int], list[int]]:
    """Which documents share a rectangle, by its numbers of queries and of keys.

    In the order of their lengths they are cut into runs, each filled up to its longest, in the way that costs least: a
    rectangle costs its scores, and `START` more.
    """
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, tokens in enumerate(zip(query_lengths, key_lengths, strict=True)):
        alike[even(*tokens)].append(number)
    sizes = sorted(alike, key=lambda size: size[::-1])
    best = [(0, 0, (0, 0))]  # of the first so many sizes: the cost, where the last run starts, and its size
    for end in range(1, len(sizes) + 1):
        choices: list[tuple[int, int, tuple[int, int]]] = []
        documents = rows = columns = 0
        for start in reversed(range(end)):
            documents += len(alike[sizes[start]])
            rows, columns = max(rows, sizes[start][0]), max(columns, sizes[start][1])
            if choices and not is_short(rows, columns):
                break
            choices.append((best[start][0] + START + documents * heads * rows * columns, start, (rows, columns)))
        best.append(min(choices))
    gathered, end = {}, len(sizes)
    while end:
        _, start, size = best[end]
        gathered[size] = sorted(number for size in sizes[start:end] for number in alike[size])
        end = start
    return gathered


def _arrange(lengths: Lengths, rectangles: list[tuple[list[int], int]], heads: int) -> Rectangles:
    """Of each rectangle the numbers of its documents, and its length."""
    counts = np.array(lengths)
    starts = counts.cumsum() - counts
    shapes, sources, repeats = [], [], []
    for numbers, length in rectangles:
        places, last = np.arange(length), counts[numbers][:, None] - 1
        tokens = starts[numbers][:, None] + np.minimum(places, last)
        shape = len(numbers), heads, length
        sources.append((tokens[:, None] * heads + np.arange(heads)[:, None]).ravel())
        repeats.append(np.broadcast_to((places > last)[:, None], shape).ravel())
        shapes.append(shape)
    source, repeated = np.concatenate(sources), np.concatenate(repeats)
    target = np.empty(sum(lengths) * heads, dtype=np.int64)
    target[source[~repeated]] = np.flatnonzero(~repeated)
    return Rectangles(shapes, *map(torch.from_numpy, (source, np.flatnonzero(repeated), target)))


def _real(counts: list[int], length: int, rule: Rule) -> torch.Tensor | None:
    """Of documents of so many keys; what fills one up comes after all its tokens."""
    if rule.causal or min(counts) == length:
        return None
    return torch.from_numpy(np.arange(length) < np.array(counts)[:, None])[:, None, None]


def _mask(rows: int, columns: int, real: torch.Tensor | None, rule: Rule) -> torch.Tensor | None:
    """(1 or N, 1, Lq or 1, Lk) bool; `None` where the kernel's own causal flag says it all."""
    seen = visible(rows, columns, rule, torch.device("cpu"))
    if seen is None or real is None:
        return real if seen is None else seen[None, None]
    return real & seen


def _bias(rows: int, columns: int, real: torch.Tensor | None, rule: Rule, dtype: torch.dtype) -> torch.Tensor | None:
    if not is_short(rows, columns):
        return None
    mask, size = _mask(rows, columns, real, rule), (rows, columns)
    return make_bias(mask, size, size, rule.causal and mask is None, dtype)


@lru_cache(maxsize=32)
def _usual_bias(rows: int, columns: int, rule: Rule, dtype: torch.dtype) -> torch.Tensor | None:
    """The same where all keys are real, which batches have in common."""
    return _bias(rows, columns, None, rule, dtype)
