"""Attention whose scores are capped by a tanh (Gemma 2), in blocks of queries: no kernel of sdpa caps them.

The probabilities of a block are there only while it is computed, and the backward pass computes them again, as
FlashAttention does (Dao et al., 2022). Under `torch.compile` the loop over the blocks is one opaque operator.

Shapes: B batch, T query tokens, S key tokens, H query heads, G key-value heads, D head width, R rows of a block.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn
from transformers.utils import logging

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
    if torch.is_autocast_enabled(query.device.type):  # does not reach into an operator
        query, key, value = (x.to(torch.get_autocast_dtype(x.device.type)) for x in (query, key, value))
    is_causal = module.is_causal if is_causal is None else is_causal
    causal = query.shape[2] > 1 and attention_mask is None and is_causal
    return attend(query, key, value, attention_mask, scaling, softcap, causal, dropout).transpose(1, 2), None


def attend(
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
        causal: query i sees the keys 0 to i.
        dropout: of the probabilities.
        rows: of a block; `None` = as many as are fast.
    """
    batch, heads, length, _ = query.shape
    if mask is not None:
        mask = mask.expand(-1, -1, length, key.shape[2])
    if rows is None:
        rows = max(64, 2**21 // max(1, batch * heads * key.shape[2]))
    # What is dropped follows from the seed, so that the backward pass can draw it again.
    seed = torch.randint(2**62, ()) if dropout else None
    return attend_blocks(query, key, value, mask, seed, float(scaling), softcap, causal, float(dropout), rows)


class Scoring(NamedTuple):
    """How scores become probabilities."""

    scaling: float
    softcap: float | None
    causal: bool
    dropout: float


@torch.library.custom_op("trivium::attend_blocks", mutates_args=())
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
    rows: int,
) -> torch.Tensor:
    """`attend` as one operator that `torch.compile` does not look into; `seed` () is that of the dropout."""
    scoring = Scoring(scaling, softcap, causal, dropout)
    out, generator = _empty_states(query), _generator(seed, query)
    key, value = key.contiguous(), value.contiguous()
    for block, seen in _blocks(query, key, causal, rows):
        q, k, v = query[:, :, block], key[:, :, :seen], value[:, :, :seen]
        weights, _ = _probabilities(q, k, mask, block, scoring)
        if generator is not None:
            weights *= _kept(weights, dropout, generator)
        out[:, :, block] = _product(weights.to(query.dtype), v)
    return out


@torch.library.custom_op("trivium::attend_blocks_backward", mutates_args=())
def _attend_blocks_backward(
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
    rows: int,
    learn_mask: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key, value and, if it learns, the mask (else empty); sums in float32 at least."""
    scoring = Scoring(scaling, softcap, causal, dropout)
    wide, narrow = torch.promote_types(query.dtype, torch.float32), query.dtype
    query_grad, generator = _empty_states(query), _generator(seed, query)
    key, value = key.contiguous(), value.contiguous()
    key_grad, value_grad = (torch.zeros_like(x, dtype=wide) for x in (key, value))
    mask_grad = query.new_zeros(mask.shape if learn_mask else (0,), dtype=wide)
    for block, seen in _blocks(query, key, causal, rows):
        q, k, v, g = query[:, :, block], key[:, :, :seen], value[:, :, :seen], grad[:, :, block]
        weights, squashed = _probabilities(q, k, mask, block, scoring)
        weights_grad = _product(g, v.mT).to(wide)
        used = weights
        if generator is not None:
            kept = _kept(weights, dropout, generator)
            used, weights_grad = weights * kept, weights_grad.mul_(kept)
        _add_product(value_grad[:, :, :seen], used.to(narrow), g)
        scores_grad = torch.ops.aten._softmax_backward_data(weights_grad, weights, -1, wide)
        if learn_mask:
            part = mask_grad[:, :, block]
            part += scores_grad.sum_to_size(part.shape)
        if squashed is not None:
            scores_grad = torch.ops.aten.tanh_backward(scores_grad, squashed)
        scores_grad = scores_grad.mul_(scaling).to(narrow)
        query_grad[:, :, block] = _product(scores_grad, k)
        _add_product(key_grad[:, :, :seen], scores_grad, q)
    mask_grad = mask_grad.to(mask.dtype) if learn_mask else mask_grad
    return query_grad, key_grad.to(narrow), value_grad.to(narrow), mask_grad


def _blocks(query: torch.Tensor, key: torch.Tensor, causal: bool, rows: int) -> Iterator[tuple[slice, int]]:
    """The queries of each block, and how many keys they see at most."""
    length, keys = query.shape[2], key.shape[2]
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        yield slice(start, stop), min(stop, keys) if causal else keys


def _probabilities(q, k, mask, block, scoring):
    """Of one block, q (B, H, R, D) and k (B, G, S, D): (B, H, R, S), and the tanh if there is one, at least float32.

    What is hidden gets the lowest finite score, so that a query that sees nothing does no harm.
    """
    scores, squashed, factor = _product(q, k.mT), None, scoring.scaling
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if scoring.softcap is not None:
        scores = squashed = scores.mul_(scoring.scaling / scoring.softcap).tanh_()
        factor = scoring.softcap
    hidden = _hidden(mask, scores, block, scoring.causal)
    scores = scores * factor if hidden is None else torch.add(hidden, scores, alpha=factor)
    return scores.softmax(-1), squashed


def _hidden(mask, scores, block, causal):
    """What is added to the `scores` (B, H, R, S) of one block, or `None`."""
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril(block.start)
    elif mask is not None:
        mask = mask[:, :, block]
    if mask is not None and mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, torch.finfo(scores.dtype).min)
    return None if mask is None else mask.to(scores.dtype)


def _product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x (B, H, R, N) @ y (B, G, N, M) -> (B, H, R, M).

    The heads that share a `y` are more rows of one product, so that it need not be repeated for each.
    """
    return torch.bmm(_group(x, y), y.flatten(0, 1)).view(*x.shape[:-1], y.shape[-1])


def _add_product(total: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> None:
    """Adds x.mT @ y, summed over the heads that share keys, to `total` (B, G, S, D): x (B, H, R, S), y (B, H, R, D)."""
    x, y = _group(x, total).mT, _group(y, total)
    if total.dtype == x.dtype:
        total.flatten(0, 1).baddbmm_(x, y)
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


@attend_blocks.register_fake
def _(query, key, value, mask, seed, scaling, softcap, causal, dropout, rows):
    return _empty_states(query)


@_attend_blocks_backward.register_fake
def _(grad, query, key, value, mask, seed, scaling, softcap, causal, dropout, rows, learn_mask):
    plain = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (key, value)]
    return _empty_states(query), *plain, mask.new_empty(mask.shape) if learn_mask else query.new_empty(0)


def _save_inputs(ctx, inputs, output):
    *tensors, ctx.scaling, ctx.softcap, ctx.causal, ctx.dropout, ctx.rows = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, grad):
    options = (ctx.scaling, ctx.softcap, ctx.causal, ctx.dropout, ctx.rows)
    learn_mask = ctx.needs_input_grad[3]
    *grads, mask_grad = _attend_blocks_backward(grad, *ctx.saved_tensors, *options, learn_mask)
    return *grads, mask_grad if learn_mask else None, *[None] * 6


attend_blocks.register_autograd(_differentiate, setup_context=_save_inputs)
