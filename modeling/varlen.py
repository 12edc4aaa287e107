"""Attention over a flattened batch, document by document: no T x T mask, no padding, no work across documents.

On CUDA in half precision it is `torch.nn.attention.varlen` (the flash kernel). Elsewhere it is one
`scaled_dot_product_attention` per document or, in half precision, for all of about one length (`rectangles.py`). Under
`torch.compile` that loop is one opaque operator, so that the lengths, which change with every batch, are neither traced
nor a cause to recompile.

Shapes: B rows, T tokens a row, H query heads, G key-value heads, D head width, N documents.
"""

import inspect
import math
from collections import defaultdict

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from ..configuration.bundle import own_name
from .documents import Documents
from .narrow import flash_backward, is_narrow, narrow_attention_forward
from .precision import HALF, narrowed
from .rectangles import attend_rectangles, rectangles_backward
from .rules import Rule, visible
from .softcap import attend_blocks_backward, capped_attention, capped_attention_forward

NAME = own_name("trivium_varlen")
ONE_BY_ONE = 2**13  # numbers of padding that take as long as one more call of the kernel, in half precision


def varlen_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    position_bias: torch.Tensor | None = None,
    documents: tuple[Documents, Documents] | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """The attention interface of transformers for flattened batches; a padded batch goes to sdpa, or to `softcap`.

    Args:
        query: (B, H, Tq, D); key, value: (B, G, Tk, D).
        position_bias: (1, H, longest, longest), added to the scores of every document.
        documents: those of the queries and those of the keys; `None` for a padded batch.

    Returns:
        (B, Tq, H, D) and no weights.
    """
    if documents is None:
        padded = narrow_attention_forward if softcap is None else capped_attention_forward
        return padded(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, softcap=softcap, **kwargs
        )
    batch, heads, length, width = query.shape
    query, key, value = map(narrowed, (query, key, value))
    q, k, v = (x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[-1]) for x in (query, key, value))
    rule = Rule(float(scaling), module.is_causal, module.sliding_window, softcap)
    queries, keys = documents
    plain = softcap is None and position_bias is None and not dropout
    if plain and _has_varlen_kernel(query):
        out = _flash_varlen(q, k, v, queries, keys, rule)
    elif torch.compiler.is_compiling() or (not dropout and is_narrow(query)):
        window, cap = rule.window or 0, float(rule.softcap or 0.0)
        out = attend_documents(q, k, v, queries.ids, keys.ids, position_bias, rule.scaling, rule.causal, window, cap)
    else:
        out = _attend_each(q, k, v, queries.lengths, keys.lengths, position_bias, rule, dropout)
    return out.view(batch, length, heads, width), None


def can_compile(config, training: bool) -> bool:
    """Whether the opaque operator computes what `config` asks for: everything but dropout of probabilities."""
    return not (training and config.attention_dropout)


def starting_cost(config, states: torch.Tensor, training: bool) -> float:
    """What it costs to start on one more document, in numbers of padding in `states` (B, T, hidden) that cost as much.

    Nothing where a kernel takes all documents, and little in float32; infinite where there may be no fast kernel.
    """
    if states.device.type not in ("cpu", "cuda"):
        return math.inf
    plain = config.attn_logit_softcapping is None and config.position_encoding not in ("relative", "alibi")
    plain = plain and can_compile(config, training)
    states = narrowed(states[:0])
    if states.is_cuda:
        return 0 if plain and _has_varlen_kernel(states) else math.inf
    return 0 if plain or not is_narrow(states) else ONE_BY_ONE


def _attend_each(query, key, value, query_lengths, key_lengths, bias, rule, dropout=0.0):
    """Attention within each document: query (Tq, H, D), key and value (Tk, G, D) -> (Tq, H, D)."""
    groups = _groups((query, query_lengths), (key, key_lengths), (value, key_lengths))
    return _join([(numbers, _attend(q, k, v, bias, rule, dropout)) for numbers, (q, k, v) in groups])


def _groups(*parts: tuple[torch.Tensor, list[int]]) -> list[tuple[list[int], tuple[torch.Tensor, ...]]]:
    """Cuts flat tensors (T, H, D) by the lengths given with each, and stacks the documents of equal lengths: their
    numbers, and of each tensor (N, H, L, D).

    `split` and `stack`, not slices: the gradient of a slice is a tensor of zeros as large as the batch.
    """
    alike = defaultdict(list)
    for number, lengths in enumerate(zip(*(lengths for _, lengths in parts), strict=True)):
        alike[lengths].append(number)
    if len(alike) == 1:
        (numbers,) = alike.values()
        return [(numbers, tuple(x.unflatten(0, (len(numbers), -1)).transpose(1, 2) for x, _ in parts))]
    cut = [x.split(lengths) for x, lengths in parts]
    return [
        (numbers, tuple(_stack([pieces[number] for number in numbers]).transpose(1, 2) for pieces in cut))
        for numbers in alike.values()
    ]


def _stack(pieces: list[torch.Tensor]) -> torch.Tensor:
    """`torch.stack`, which copies a single piece too."""
    return pieces[0][None] if len(pieces) == 1 else torch.stack(pieces)


def _join(groups: list[tuple[list[int], torch.Tensor]]) -> torch.Tensor:
    """Undoes `_groups` for one tensor: (N, H, L, D) of each group -> (T, H, D)."""
    if len(groups) == 1:
        return groups[0][1].transpose(1, 2).flatten(0, 1)
    pieces = {
        number: piece
        for numbers, x in groups
        for number, piece in zip(numbers, x.transpose(1, 2).unbind(), strict=True)
    }
    return torch.cat([pieces[number] for number in range(len(pieces))])


def _attend(q, k, v, bias, rule, dropout):
    """One document, or several of one length: q (N, H, Lq, D), k and v (N, G, Lk, D) -> (N, H, Lq, D)."""
    mask = _mask(q, k, bias, rule, q.dtype)
    causal = rule.causal and mask is None
    if rule.softcap is not None:
        return capped_attention(q, k, v, mask, rule.scaling, rule.softcap, causal, dropout)
    options = {"dropout_p": dropout, "scale": rule.scaling, "enable_gqa": k.shape[1] != q.shape[1]}
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, **options)


def _mask(q, k, bias, rule, dtype):
    """(1, 1 or H, Lq, Lk) for sdpa: `None` where the causal flag says it all, boolean, or the bias in `dtype`."""
    rows, columns = q.shape[2], k.shape[2]
    seen = visible(rows, columns, rule, q.device, explicit=bias is not None)
    if bias is None:
        return None if seen is None else seen[None, None]
    bias = bias[..., :rows, :columns].to(dtype)
    return bias if seen is None else torch.where(seen, bias, torch.finfo(dtype).min)


def _attend_backward(grad, q, k, v, bias, rule):
    """Gradients of q, k, v (as `_attend` takes them) and of the bias on them (1, H, Lq, Lk), for every rule."""
    mask = _mask(q, k, bias, rule, torch.promote_types(q.dtype, torch.float32))
    causal = rule.causal and mask is None
    options = (rule.scaling, rule.softcap, causal, 0.0, None, bias is not None)
    return attend_blocks_backward(grad, q, k, v, mask, None, *options)


def _has_varlen_kernel(query: torch.Tensor) -> bool:
    """Whether torch's varlen kernel takes this query: CUDA, half precision, a torch that can window it."""
    if not query.is_cuda or query.dtype not in HALF:
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return "window_size" in inspect.signature(varlen_attn).parameters


def _flash_varlen(query, key, value, queries, keys, rule):
    """Torch's varlen kernel: query (Tq, H, D), key and value (Tk, G, D) -> (Tq, H, D)."""
    from torch.nn.attention.varlen import varlen_attn

    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    if rule.causal:
        window_size = (rule.window - 1 if rule.window else -1, 0)
    else:
        window_size = (rule.window, rule.window) if rule.window else (-1, -1)
    longest = max(queries.lengths), max(keys.lengths)
    return varlen_attn(
        query, key, value, queries.cu_seq_lens, keys.cu_seq_lens, *longest, scale=rule.scaling, window_size=window_size
    )


def _lengths(query_ids: torch.Tensor, key_ids: torch.Tensor) -> tuple[list[int], list[int]]:
    total = int(max(query_ids.max(), key_ids.max())) + 1
    queries, keys = (torch.bincount(ids.flatten(), minlength=total).tolist() for ids in (query_ids, key_ids))
    return queries, keys


def _is_for_rectangles(query, bias, rule, lengths):
    """Whether this is half precision on a CPU, of documents that all have tokens, with neither bias nor cap."""
    return is_narrow(query) and bias is None and rule.softcap is None and all(all(some) for some in lengths)


@torch.library.custom_op(own_name("trivium::attend_documents"), mutates_args=())
def attend_documents(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_ids: torch.Tensor,
    key_ids: torch.Tensor,
    bias: torch.Tensor | None,
    scaling: float,
    causal: bool,
    window: int,
    softcap: float,
) -> torch.Tensor:
    """`_attend_each` as one operator that `torch.compile` does not look into (window and softcap: 0 = none)."""
    rule = Rule(scaling, causal, window or None, softcap or None)
    lengths = _lengths(query_ids, key_ids)
    if _is_for_rectangles(query, bias, rule, lengths):
        return attend_rectangles(query, key, value, lengths, rule)
    return _attend_each(query, key, value, *lengths, bias, rule)


@torch.library.custom_op(own_name("trivium::attend_documents_backward"), mutates_args=())
def _attend_documents_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_ids: torch.Tensor,
    key_ids: torch.Tensor,
    bias: torch.Tensor | None,
    scaling: float,
    causal: bool,
    window: int,
    softcap: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key, value and bias (empty if there is none)."""
    rule = Rule(scaling, causal, window or None, softcap or None)
    query_lengths, key_lengths = lengths = _lengths(query_ids, key_ids)
    if _is_for_rectangles(query, bias, rule, lengths):
        return *rectangles_backward(grad, query, key, value, lengths, rule), query.new_empty(0)
    grads: tuple[list[tuple[list[int], torch.Tensor]], ...] = ([], [], [])
    wide = torch.promote_types(query.dtype, torch.float32)
    bias_grad = query.new_empty(0) if bias is None else bias.new_zeros(bias.shape, dtype=wide)
    flash = bias is None and rule.softcap is None and query.device.type == "cpu"
    parts = ((grad, query_lengths), (query, query_lengths), (key, key_lengths), (value, key_lengths))
    for numbers, (g, q, k, v) in _groups(*parts):
        if flash and q.numel() and k.numel():  # which cannot do without tokens
            mask = _mask(q, k, None, rule, q.dtype)
            group_grads = flash_backward(g, q, k, v, mask, rule.scaling, rule.causal)
        else:
            *group_grads, part = _attend_backward(g, q, k, v, bias, rule)
        for pieces, piece in zip(grads, group_grads, strict=True):
            pieces.append((numbers, piece.to(query.dtype)))
        if bias is not None:
            bias_grad[..., : part.shape[-2], : part.shape[-1]] += part
    q, k, v = (_join(pieces).contiguous() for pieces in grads)
    return q, k, v, bias_grad if bias is None else bias_grad.to(bias.dtype)


@attend_documents.register_fake
def _(query, key, value, query_ids, key_ids, bias, scaling, causal, window, softcap):
    return torch.empty_like(query, memory_format=torch.contiguous_format)


@_attend_documents_backward.register_fake
def _(grad, query, key, value, query_ids, key_ids, bias, scaling, causal, window, softcap):
    shapes = (query, key, value, query.new_empty(0) if bias is None else bias)
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in shapes)


def _save_inputs(ctx, inputs, output):
    *tensors, ctx.scaling, ctx.causal, ctx.window, ctx.softcap = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, grad):
    *tensors, bias = ctx.saved_tensors
    options = (ctx.scaling, ctx.causal, ctx.window, ctx.softcap)
    *grads, bias_grad = _attend_documents_backward(grad.contiguous(), *tensors, bias, *options)
    return *grads, None, None, None if bias is None else bias_grad, None, None, None, None


attend_documents.register_autograd(_differentiate, setup_context=_save_inputs)

# The mask of a padded batch is sdpa's: without a mask function of its own a backend gets no mask, and padding is seen.
AttentionInterface.register(NAME, varlen_attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
