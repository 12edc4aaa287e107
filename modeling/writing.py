"""Attention of one new token a row to a cache in half precision, on a CPU: what writing spends its time on.

torch's kernel takes several times as long for one query as the same in float32, and reads the padding before a prompt
and the empty places of a static cache with the rest. Here keys and values are widened, as many at a time as the
processor's cache holds, and each row is read from its first token to its last one (`python -m benchmarks.writing`).

Shapes: B rows, S keys, H query heads, G key-value heads, D head width.
"""

from collections.abc import Iterator
from itertools import groupby

import torch
from torch.nn import functional as F
from transformers.utils.import_utils import is_tracing

from ..configuration.bundle import own_name
from .precision import HALF, widen
from .rules import only_hides

AT_ONCE = 2**19  # numbers of keys, and as many of values
LEAST = 2**18  # numbers of keys, below which the kernel is as fast
ONE_MORE = 2**15  # numbers of keys that take as long as to start once more, on rows of another span


def is_written(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float) -> bool:
    """Whether [`attend_one`] is the faster one, and nobody needs gradients or a graph without its operator."""
    if query.device.type != "cpu" or query.dtype not in HALF or query.shape[2] != 1 or key.numel() < LEAST or dropout:
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)):
        return False
    compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    return compiled or not is_tracing(query)


def attend_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """What query (B, H, 1, D) takes from key and value (B, G, S, D): (B, H, 1, D).

    Args:
        mask: (B or 1, 1 or H, 1, S), true where a row has a token, or what is added to the scores; `None` = nothing.
    """
    batch, groups, length, width = key.shape
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    spans = _spans(mask, batch, length, groups * width)
    bias = None
    if mask is not None and spans is None:
        bias = widen(mask.expand(batch, groups if mask.shape[1] == 1 else -1, 1, length).reshape(len(keys), -1, length))
    queries = widen(query).reshape(batch * groups, -1, width)  # heads that share keys are queries of one head
    out = query.new_empty(queries.shape)
    for heads, seen in _blocks(spans or [(0, length)] * batch, groups, width):
        sides = (queries[None, heads], widen(keys[None, heads, seen]), widen(values[None, heads, seen]))
        rule = None if bias is None else bias[None, heads]
        out[heads] = F.scaled_dot_product_attention(*sides, rule, scale=scaling)[0]
    return out.view(query.shape)


def _spans(mask: torch.Tensor | None, batch: int, length: int, width: int) -> list[tuple[int, int]] | None:
    """Where the tokens of each row begin and end, if they lie side by side and it is worth to read them alone."""
    if mask is None or not only_hides(mask):
        return None
    real = mask[:, 0, 0].numpy()
    counts, starts, ends = real.sum(1), real.argmax(1), length - real[:, ::-1].argmax(1)
    if (ends - starts != counts).any():  # an empty row's too: it begins at 0 and ends behind the last
        return None
    changes = ((starts[1:] != starts[:-1]) | (ends[1:] != ends[:-1])).sum()
    if (length - counts).sum() * width < ONE_MORE * changes:
        return None
    spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
    return spans * (batch // len(spans))


def _blocks(spans: list[tuple[int, int]], groups: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Which of the B G heads to take together, and which keys of theirs, so that their copies fit in the cache."""
    first = 0
    for (start, stop), rows in groupby(spans):
        last = first + groups * len(list(rows))
        size = max(1, AT_ONCE // ((stop - start) * width))
        for head in range(first, last, size):
            yield slice(head, min(head + size, last)), slice(start, stop)
        first = last


attend_one_operator = torch.library.custom_op(own_name("trivium::attend_one"), attend_one, mutates_args=())


@attend_one_operator.register_fake
def _(query, key, value, mask, scaling):
    return query.new_empty(query.shape)
