"""Attention in half precision on a CPU, whose gradients are products of matrices.

torch's backward kernel for the CPU multiplies without the units for matrices that processors have for half precision.
Here the probabilities are computed again, a few heads at a time so that they stay in the cache, and the rest is `bmm`:
a fifth of the time at 128 tokens, half at 512 of heads that are 64 wide (`python -m benchmarks.attention_gradients`).

Shapes: B batch, T query tokens, S key tokens, H query heads, G key-value heads, D head width.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ..configuration.bundle import own_name
from .precision import HALF, narrowed
from .rules import only_hides
from .writing import attend_one, attend_one_operator, is_written

LONGEST = 512 * 512  # scores of a head; with twice as many tokens torch's kernel may be the faster one
MULTIPLE = 16  # of tokens: at 192 of them the gradients take half the time that they take at 189
AT_ONCE = 2**20  # scores
CAUSAL_ROWS = 256  # of queries, where keys behind them need not be looked at


def is_narrow(x: torch.Tensor) -> bool:
    """Whether this is half precision on a CPU."""
    return x.device.type == "cpu" and x.dtype in HALF


def is_short(queries: int, keys: int) -> bool:
    """Whether, in half precision on a CPU, [`differentiate`] is faster than torch's kernel for so many tokens."""
    return 0 < queries * keys <= LONGEST


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
    """The attention interface of transformers: sdpa, with faster gradients, and faster when it writes, where it can be.

    query (B, H, T, D), key and value (B, G, S, D) -> (B, T, H, D) and no weights.
    """
    query, key, value = map(narrowed, (query, key, value))
    if is_written(query, key, value, dropout):
        attend = attend_one_operator if torch.compiler.is_compiling() else attend_one
        return attend(query, key, value, attention_mask, float(scaling)).transpose(1, 2), None
    learns = torch.is_grad_enabled() and query.requires_grad and not dropout and only_hides(attention_mask)
    if not learns or not is_narrow(query) or not is_short(query.shape[2], key.shape[2]):
        options = {"scaling": scaling, "dropout": dropout, "is_causal": is_causal}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options, **kwargs)
    causal = query.shape[2] > 1 and attention_mask is None and (module.is_causal if is_causal is None else is_causal)
    return attend_narrow(query, key, value, attention_mask, float(scaling), causal).transpose(1, 2), None


def even(queries: int, keys: int) -> tuple[int, int]:
    """So many queries and keys filled up to numbers that the kernels are fast at, if that is worth it."""
    rows, columns = (-(-length // MULTIPLE) * MULTIPLE for length in (queries, keys))
    return (rows, columns) if is_short(rows, columns) else (queries, keys)


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
    length, keys = tokens = query.shape[2], key.shape[2]
    rows, columns = filled = even(*tokens)
    causal = causal and mask is None
    if mask is not None:
        seeing = mask.view(torch.uint8).amax(-1, keepdim=True)  # `any` takes three times as long
        grad = grad * seeing  # of a query that sees nothing, attention is zero whatever there is
    bias = make_bias(mask, tokens, filled, causal, query.dtype)
    sides = _fill(grad, rows), _fill(query, rows), _fill(key, columns), _fill(value, columns)
    q, k, v = differentiate_filled(*sides, bias, scaling, causal)
    return q[:, :, :length].contiguous(), k[:, :, :keys].contiguous(), v[:, :, :keys].contiguous()


def differentiate_filled(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    scaling: float,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same of what is filled up with tokens that have no gradient and, by [`make_bias`], are not seen."""
    (batch, heads), repeats = query.shape[:2], query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    grad, query, key, value = (x.flatten(0, 1).contiguous() for x in (grad, query, key, value))
    grads = tuple(map(torch.empty_like, (query, key, value)))
    for part, rows, seen in _blocks(query, key, causal):
        outs = grads[0][part, rows], grads[1][part, seen], grads[2][part, seen]
        inputs = query[part, rows], grad[part, rows], key[part, seen], value[part, seen]
        first = rows.stop == query.shape[1]
        _differentiate_block(*inputs, _of_heads(bias, part, rows, seen, heads), scaling, outs, first)
    query_grad, key_grad, value_grad = (x.unflatten(0, (batch, heads)) for x in grads)
    if repeats > 1:
        key_grad, value_grad = (x.unflatten(1, (-1, repeats)).sum(2) for x in (key_grad, value_grad))
    return query_grad, key_grad, value_grad


def flash_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What [`differentiate`] returns, by torch's kernel for the CPU."""
    groups = key.shape[1]
    key, value = (x.repeat_interleave(query.shape[1] // groups, dim=1) for x in (key, value))
    if mask is not None:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -math.inf)
        mask = mask.expand(len(query), 1, query.shape[2], key.shape[2])
    plan, options = (0.0, causal and mask is None), {"attn_mask": mask, "scale": scaling}
    out, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, *plan, **options)
    query_grad, *shared = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, query, key, value, out, log_sums, *plan, **options
    )
    return query_grad, *(x.unflatten(1, (groups, -1)).sum(2) for x in shared)


def _fill(x: torch.Tensor, length: int) -> torch.Tensor:
    """(B, H, T, D) with zeros up to this length."""
    return x if x.shape[2] == length else F.pad(x, (0, 0, 0, length - x.shape[2]))


def make_bias(
    mask: torch.Tensor | None, tokens: tuple[int, int], filled: tuple[int, int], causal: bool, dtype: torch.dtype
) -> torch.Tensor:
    """What is added to scores: (B or 1, 1, T or 1, S), zero where a query sees a key and hugely negative elsewhere.

    Of `tokens` (T, S) that are `filled` up, with the mask of [`differentiate`]. With a score it does not overflow, or
    all that a query adds up would be infinite where it sees nothing.
    """
    if mask is None:
        mask = torch.ones(1, 1, tokens[0] if causal else 1, tokens[1], dtype=torch.bool, device="cpu")
        mask = mask.tril_() if causal else mask
    more = filled[0] - tokens[0] if mask.shape[2] > 1 else 0
    mask = F.pad(mask, (0, filled[1] - tokens[1], 0, more))
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min / 2)


def _of_heads(bias, part, rows, seen, heads) -> torch.Tensor:
    """The part of a bias (B or 1, 1, T or 1, S) for a block: (number of its heads or 1, R or 1, S)."""
    bias = bias[:, 0, rows if bias.shape[2] > 1 else slice(None), seen]
    if len(bias) == 1:
        return bias
    return bias.index_select(0, torch.arange(part.start, part.stop, device=bias.device) // heads)


def _differentiate_block(q, g, k, v, bias, scaling, outs, first) -> None:
    """Gradients of q (N, R, D), k and v (N, S, D), of which those of k and v are added unless these are the `first`.

    g (N, R, D) is the gradient of what attention returns, and the bias (N or 1, R or 1, S).
    """
    weights = torch.ops.aten._softmax(torch.baddbmm(bias, q, k.mT, alpha=scaling), -1, False)
    scores_grad = torch.ops.aten._softmax_backward_data(torch.bmm(g, v.mT), weights, -1, weights.dtype)
    beta = 0 if first else 1
    outs[0].baddbmm_(scores_grad, k, beta=0, alpha=scaling)
    outs[1].baddbmm_(scores_grad.mT, q, beta=beta, alpha=scaling)
    outs[2].baddbmm_(weights.mT, g, beta=beta)


def _blocks(query, key, causal) -> Iterator[tuple[slice, slice, slice]]:
    """Of each block of query (B H, T, D) and key (B H, S, D) its heads, its queries, and the keys that these may see.

    The last queries come first, and with all keys, whether they see them or not.
    """
    total, length, _ = query.shape
    rows, keys = min(length, CAUSAL_ROWS) if causal else length, key.shape[1]
    size = max(1, AT_ONCE // (rows * keys))
    for first in range(0, total, size):
        part = slice(first, min(first + size, total))
        for start in reversed(range(0, length, rows)):
            stop = min(start + rows, length)
            yield part, slice(start, stop), slice(0, min(stop, keys) if stop < length else keys)


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
