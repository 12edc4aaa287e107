"""Attention whose scores are capped by a tanh (Gemma 2), in blocks of queries: no kernel of sdpa caps them.

The probabilities of a block are there only while it is computed, and the backward pass computes them again, as
FlashAttention does (Dao et al., 2022). Under `torch.compile` the loop over the blocks is one opaque operator.

Shapes: B batch, T query tokens, S key tokens, H query heads, G key-value heads, D head width, R rows of a block.
"""

from collections.abc import Iterator

import torch
from torch import nn
from transformers.utils import logging

from ..configuration.bundle import own_name
from .precision import narrowed

logger = logging.get_logger(__name__)


def capped_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    is_causal: bool | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """An attention interface of transformers, which takes what that of sdpa takes, and a cap.

    query (B, H, T, D), key and value (B, G, S, D) -> (B, T, H, D) and no weights.
    """
    if kwargs.get("output_attentions"):
        logger.warning_once("Attention in blocks keeps no weights to return: set attn_implementation='eager' for them.")
    query, key, value = map(narrowed, (query, key, value))
    causal = query.shape[2] > 1 and attention_mask is None and (module.is_causal if is_causal is None else is_causal)
    return capped_attention(query, key, value, attention_mask, scaling, softcap, causal, dropout).transpose(1, 2), None


def capped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    softcap: float | None,
    causal: bool = False,
    dropout: float = 0.0,
    rows: int | None = None,
) -> torch.Tensor:
    """Attention in blocks: query (B, H, T, D), key and value (B, G, S, D) -> (B, H, T, D).

    Args:
        mask: (B or 1, H or 1, T or 1, S or 1), true where a query sees a key, or numbers to add to the capped scores.
        softcap: c of `c * tanh(scores / c)`; `None` = no cap.
        causal: query i sees the keys 0 to i, where there is no mask.
        dropout: of the probabilities.
        rows: queries of a block; `None` = as many as are fast.
    """
    if mask is not None:
        mask = mask.expand(-1, -1, query.shape[2], key.shape[2])
    softcap = None if softcap is None else float(softcap)
    # What is dropped follows from the seed, so that the backward pass can drop the same.
    seed = torch.randint(2**62, (), device="cpu") if dropout else None
    differentiable = torch.is_grad_enabled() or torch.compiler.is_compiling()
    attend = attend_operator if differentiable else attend_blocks  # one step of generation notices an operator
    return attend(query, key, value, mask, seed, float(scaling), softcap, causal, float(dropout), rows)


def attend_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    seed: torch.Tensor | None,
    scaling: float,
    softcap: float | None,
    causal: bool,
    dropout: float,
    rows: int | None,
) -> torch.Tensor:
    """`capped_attention` with the `seed` () of its dropout."""
    out, generator = _empty_states(query), _generator(seed, query)
    key, value = key.contiguous(), value.contiguous()
    for block, seen, hidden in _blocks(query, key, mask, causal, rows):
        q, k, v = query[:, :, block], key[:, :, seen], value[:, :, seen]
        out[:, :, block] = _attend_block(q, k, v, hidden, scaling, softcap, dropout, generator)
    return out


def attend_blocks_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    seed: torch.Tensor | None,
    scaling: float,
    softcap: float | None,
    causal: bool,
    dropout: float,
    rows: int | None,
    learn_mask: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key, value and, if it learns, mask (else empty); sums are in float32 at least."""
    narrow, wide = query.dtype, torch.promote_types(query.dtype, torch.float32)
    query_grad, generator = _empty_states(query), _generator(seed, query)
    key, value = key.contiguous(), value.contiguous()
    key_grad, value_grad = (torch.zeros_like(x, dtype=wide) for x in (key, value))
    mask_grad = query.new_zeros(mask.shape if learn_mask else (0,), dtype=wide)
    for block, seen, hidden in _blocks(query, key, mask, causal, rows):
        q, k, v = query[:, :, block], key[:, :, seen], value[:, :, seen]
        sums = (query_grad[:, :, block], key_grad[:, :, seen], value_grad[:, :, seen])
        hidden_grad = mask_grad[:, :, block, seen] if learn_mask else None
        options = (scaling, softcap, dropout, generator)
        _differentiate_block(grad[:, :, block], q, k, v, hidden, *sums, hidden_grad, *options)
    mask_grad = mask_grad.to(mask.dtype) if learn_mask else mask_grad
    return query_grad, key_grad.to(narrow), value_grad.to(narrow), mask_grad


def _blocks(query, key, mask, causal, rows) -> Iterator[tuple[slice, slice, torch.Tensor | None]]:
    """Of each block its queries, the keys from the first to the last that one of them sees, and what is added to their
    scores: (B or 1, H or 1, R, keys) or `None`.

    What is hidden gets the lowest number, not infinity, so that a query that sees nothing does no harm.
    """
    length, keys = query.shape[2], key.shape[2]
    dtype = torch.promote_types(query.dtype, torch.float32)
    visible, lowest = query.new_zeros((), dtype=dtype), torch.finfo(dtype).min
    rows = block_rows(query, key) if rows is None else rows
    # Reading a mask on a GPU would be waiting for it.
    readable = mask is not None and mask.dtype == torch.bool and mask.device.type == "cpu" and length > rows
    for start in range(0, length, rows):
        block = slice(start, min(start + rows, length))
        seen = slice(0, min(block.stop, keys) if causal else keys)
        if readable and len(places := mask[:, :, block].any((0, 1, 2)).nonzero()):
            seen = slice(int(places[0]), int(places[-1]) + 1)
        hidden = None if mask is None else mask[:, :, block, seen]
        if causal:
            hidden = torch.ones(block.stop - start, seen.stop, dtype=torch.bool, device=query.device).tril(start)
        if hidden is not None:
            hidden = torch.where(hidden, visible, lowest) if hidden.dtype == torch.bool else hidden.to(dtype)
        yield block, seen, hidden


def block_rows(query: torch.Tensor, key: torch.Tensor) -> int:
    """How many queries make a block: few, so that their scores stay in the cache, but enough for a matrix product."""
    batch, heads = query.shape[:2]
    return max(64, 2**20 // max(1, batch * heads * key.shape[2]))


def _attend_block(q, k, v, hidden, scaling, softcap, dropout, generator) -> torch.Tensor:
    """Of one block, q (B, H, R, D), k and v (B, G, S, D): (B, H, R, D)."""
    weights, _ = _probabilities(q, k, hidden, scaling, softcap)
    if generator is not None:
        weights *= _kept(weights, dropout, generator)
    return _product(weights.to(q.dtype), v)


def _differentiate_block(
    grad, q, k, v, hidden, q_grad, k_grad, v_grad, hidden_grad, scaling, softcap, dropout, generator
) -> None:
    """Adds the gradients of one block to `k_grad` and `v_grad`, and writes those of q and, if asked for, `hidden`.

    A function, so that all that a block needs is gone before the next begins.
    """
    weights, squashed = _probabilities(q, k, hidden, scaling, softcap)
    weights_grad, used = _product(grad, v.mT).to(weights.dtype), weights
    if generator is not None:
        kept = _kept(weights, dropout, generator)
        weights_grad, used = weights_grad.mul_(kept), weights * kept
    _add_product(v_grad, used.to(q.dtype), grad)
    scores_grad = torch.ops.aten._softmax_backward_data(weights_grad, weights, -1, weights.dtype)
    if hidden_grad is not None:
        hidden_grad.copy_(scores_grad.sum_to_size(hidden.shape))
    if squashed is not None:
        scores_grad = torch.ops.aten.tanh_backward(scores_grad, squashed)
    scores_grad = scores_grad.mul_(scaling).to(q.dtype)
    q_grad.copy_(_product(scores_grad, k))
    _add_product(k_grad, scores_grad, q)


def _probabilities(q, k, hidden, scaling, softcap) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Of one block, q (B, H, R, D) and k (B, G, S, D): (B, H, R, S), and the tanh if there is one, at least float32."""
    scores, squashed, factor = _product(q, k.mT), None, scaling
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if softcap is not None:
        scores = squashed = scores.mul_(scaling / softcap).tanh_()
        factor = softcap
    scores = scores * factor if hidden is None else torch.add(hidden, scores, alpha=factor)
    return scores.softmax(-1), squashed


def _product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The product of x (B, H, R, N) and y (B, G, N, M): (B, H, R, M).

    The heads that share a `y` are more rows of one product, so that it is not repeated for each of them.
    """
    return torch.bmm(_group(x, y), y.flatten(0, 1)).view(*x.shape[:-1], y.shape[-1])


def _add_product(total: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> None:
    """Adds x.mT @ y, summed over the heads that share keys, to `total` (B, G, S, D): x (B, H, R, S), y (B, H, R, D)."""
    x, y = _group(x, total).mT, _group(y, total)
    if total.dtype == x.dtype:
        total.view(len(x), *total.shape[2:]).baddbmm_(x, y)
    else:
        total += torch.bmm(x, y).view(total.shape)


def _group(x: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """(B, H, R, N) -> (B G, H / G R, N) for `shared` (B, G, ...)."""
    batch, heads, rows, width = x.shape
    groups = shared.shape[1]
    return x.reshape(batch * groups, heads // groups * rows, width)


def _kept(weights: torch.Tensor, dropout: float, generator: torch.Generator) -> torch.Tensor:
    """What each probability is multiplied by: 0 if it is dropped, else more than 1."""
    return torch.empty_like(weights).bernoulli_(1 - dropout, generator=generator).div_(1 - dropout)


def _generator(seed: torch.Tensor | None, like: torch.Tensor) -> torch.Generator | None:
    return None if seed is None else torch.Generator(like.device).manual_seed(int(seed))


def _empty_states(query: torch.Tensor) -> torch.Tensor:
    """Room for (B, H, T, D) that lies in memory as (B, T, H, D), which is how the block goes on."""
    batch, heads, length, width = query.shape
    return query.new_empty(batch, length, heads, width).transpose(1, 2)


attend_operator = torch.library.custom_op(own_name("trivium::attend_blocks"), attend_blocks, mutates_args=())
_backward_operator = torch.library.custom_op(
    own_name("trivium::attend_blocks_backward"), attend_blocks_backward, mutates_args=()
)


@attend_operator.register_fake
def _(query, key, value, mask, seed, scaling, softcap, causal, dropout, rows):
    return _empty_states(query)


@_backward_operator.register_fake
def _(grad, query, key, value, mask, seed, scaling, softcap, causal, dropout, rows, learn_mask):
    plain = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (key, value)]
    return _empty_states(query), *plain, mask.new_empty(mask.shape) if learn_mask else query.new_empty(0)


def _save_inputs(ctx, inputs, output):
    *tensors, ctx.scaling, ctx.softcap, ctx.causal, ctx.dropout, ctx.rows = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, grad):
    options = (ctx.scaling, ctx.softcap, ctx.causal, ctx.dropout, ctx.rows)
    learn_mask = ctx.needs_input_grad[3]
    *grads, mask_grad = _backward_operator(grad, *ctx.saved_tensors, *options, learn_mask)
    return *grads, mask_grad if learn_mask else None, *[None] * 6


attend_operator.register_autograd(_differentiate, setup_context=_save_inputs)
