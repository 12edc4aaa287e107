"""Attention in half precision on a CPU, whose gradients are products of matrices.

torch's backward kernel for the CPU multiplies without the units for matrices that processors have for half precision.
Here the probabilities are computed again, a few heads at a time so that they stay in the cache, and the rest is `bmm`:
a fifth of the time at 128 tokens, six tenths at 512 (`python -m benchmarks.attention_gradients`).

Shapes: B batch, T query tokens, S key tokens, H query heads, G key-value heads, D head width.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ..configuration.bundle import own_name
from .precision import HALF, narrowed

LONGEST = 512 * 512  # scores of a head; with twice as many tokens torch's kernel may be the faster one
AT_ONCE = 2**19  # scores
CAUSAL_ROWS = 256  # of queries, where keys behind them need not be looked at


def is_narrow(x: torch.Tensor) -> bool:
    """Whether this is half precision on a CPU."""
    return x.device.type == "cpu" and x.dtype in HALF


def is_slow(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether torch's backward kernel is slower than [`differentiate`] for query (.., T, D) and key (.., S, D)."""
    return is_narrow(query) and 0 < query.shape[-2] * key.shape[-2] <= LONGEST


def narrow_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """The attention interface of transformers: sdpa, with faster gradients where it can be.

    query (B, H, T, D), key and value (B, G, S, D) -> (B, T, H, D) and no weights.
    """
    query, key, value = map(narrowed, (query, key, value))
    learns = torch.is_grad_enabled() and query.requires_grad and not dropout and _only_hides(attention_mask)
    if not learns or not is_slow(query, key):
        options = {"scaling": scaling, "dropout": dropout, "is_causal": is_causal}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options, **kwargs)
    causal = query.shape[2] > 1 and attention_mask is None and (module.is_causal if is_causal is None else is_causal)
    return attend_narrow(query, key, value, attention_mask, float(scaling), causal).transpose(1, 2), None


def _only_hides(mask: torch.Tensor | None) -> bool:
    """Whether a mask adds nothing to scores, and is the same for all heads."""
    return mask is None or (mask.dtype == torch.bool and mask.shape[1] == 1)


def differentiate(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query (B, H, T, D), key and value (B, G, S, D) from that of what attention returns (B, H, T, D).

    Args:
        mask: (B or 1, 1, T or 1, S) bool, true where a query sees a key.
        causal: query i sees the keys 0 to i, where there is no mask.
    """
    batch, heads, repeats = *query.shape[:2], query.shape[1] // key.shape[1]
    if mask is not None:
        mask = mask.expand(batch, -1, query.shape[2], key.shape[2])
        grad = grad * mask.any(-1, keepdim=True)  # of a query that sees nothing, attention is zero whatever there is
    if repeats > 1:
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    query, grad, key, value = (x.flatten(0, 1).contiguous() for x in (query * scaling, grad, key, value))
    blocks = list(_blocks(query, key, heads, causal and mask is None))
    if len(blocks) == 1:
        grads = _differentiate_block(query, grad, key, value, mask, causal, 0)
    else:
        wide = torch.promote_types(query.dtype, torch.float32)
        grads = torch.empty_like(query), torch.zeros_like(key, dtype=wide), torch.zeros_like(value, dtype=wide)
        for part, rows, seen in blocks:
            hides = None if mask is None else mask[part.start // heads : -(-part.stop // heads), :, rows, seen]
            inputs = query[part, rows], grad[part, rows], key[part, seen], value[part, seen]
            found = _differentiate_block(*inputs, hides, causal, rows.start)
            grads[0][part, rows] = found[0]
            grads[1][part, seen] += found[1]
            grads[2][part, seen] += found[2]
    query_grad, *shared = (x.unflatten(0, (batch, heads)) for x in grads)
    if repeats > 1:
        shared = [x.unflatten(1, (-1, repeats)).sum(2) for x in shared]
    return query_grad * scaling, *(x.to(query.dtype) for x in shared)


def _differentiate_block(q, g, k, v, mask, causal, first) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of q (N, R, D), scaled already and the queries from the `first` on, and of k and v (N, S, D).

    g (N, R, D) is the gradient of what attention returns; the mask is (n, 1, R, S), where n divides N.
    """
    scores = torch.bmm(q, k.mT)
    lowest = torch.finfo(scores.dtype).min
    if mask is not None:
        scores.unflatten(0, (len(mask), -1)).masked_fill_(~mask, lowest)
    elif causal and first < scores.shape[2]:
        scores[..., first:] += torch.full_like(scores[0, :, first:], lowest).triu_(1)
    weights = torch.ops.aten._softmax(scores, -1, False)
    scores_grad = torch.ops.aten._softmax_backward_data(torch.bmm(g, v.mT), weights, -1, weights.dtype)
    return torch.bmm(scores_grad, k), torch.bmm(scores_grad.mT, q), torch.bmm(weights.mT, g)


def _blocks(query, key, heads, causal) -> Iterator[tuple[slice, slice, slice]]:
    """Of each block its heads, its queries, and the keys up to the last that one of them sees.

    Of query (B H, T, D) and key (B H, S, D), it has all heads of some rows of the batch, or some of one row.
    """
    total, length, _ = query.shape
    rows, keys = min(length, CAUSAL_ROWS) if causal else length, key.shape[1]
    together = max(1, AT_ONCE // (rows * keys))
    size = together // heads * heads or max(n for n in range(1, together + 1) if heads % n == 0)
    for first in range(0, total, size):
        part = slice(first, min(first + size, total))
        for start in range(0, length, rows):
            stop = min(start + rows, length)
            yield part, slice(start, stop), slice(0, min(stop, keys) if causal else keys)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    causal: bool,
) -> torch.Tensor:
    """`scaled_dot_product_attention`: query (B, H, T, D), key and value (B, G, S, D) -> (B, H, T, D)."""
    options = {"scale": scaling, "enable_gqa": key.shape[1] != query.shape[1]}
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, **options)
    return out.transpose(1, 2).contiguous().transpose(1, 2)  # as it lies after torch's kernel for the CPU


attend_narrow = torch.library.custom_op(own_name("trivium::attend_narrow"), _attend, mutates_args=())
_backward_operator = torch.library.custom_op(
    own_name("trivium::attend_narrow_backward"), differentiate, mutates_args=()
)


@attend_narrow.register_fake
def _(query, key, value, mask, scaling, causal):
    batch, heads, length, width = query.shape
    return query.new_empty(batch, length, heads, width).transpose(1, 2)


@_backward_operator.register_fake
def _(grad, query, key, value, mask, scaling, causal):
    return tuple(torch.empty(x.shape, dtype=x.dtype) for x in (query, key, value))


def _save_inputs(ctx, inputs, output):
    *tensors, ctx.scaling, ctx.causal = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, grad):
    return *_backward_operator(grad, *ctx.saved_tensors, ctx.scaling, ctx.causal), None, None, None


attend_narrow.register_autograd(_differentiate, setup_context=_save_inputs)
