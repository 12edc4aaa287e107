"""Losses: each is a sum in float32 divided once, by the number of items that the caller says or by those in the batch.

With `num_items_in_batch` (what `Trainer` counts over all micro-batches and processes of a step) the loss and its
gradient are the same however the step is cut into pieces. Labels of -100 count nowhere; a batch without labels costs
nothing.

Shapes: N tokens or examples, D hidden size, V vocabulary, C classes, B rows, T tokens a row.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..configuration.bundle import own_name
from ..configuration.errors import InputError
from .documents import Documents
from .precision import widen

IGNORE = -100
CACHED = 2**18  # numbers that a core's cache holds while several operations go through them
WORDS = 2**13  # rows of the output matrix, whose gradient goes to the total before the next ones are multiplied

Items = torch.Tensor | int | None


def divide(total: torch.Tensor, count: torch.Tensor | int, num_items_in_batch: Items = None) -> torch.Tensor:
    """`total` over `num_items_in_batch` if given, else over `count` (at least one)."""
    return total / _items(count, num_items_in_batch).to(total.device)


def _items(count: torch.Tensor | int, num_items_in_batch: Items) -> torch.Tensor:
    """What a loss is divided by: ()."""
    items = count if num_items_in_batch is None else num_items_in_batch
    items = items if isinstance(items, torch.Tensor) else torch.full((), items)  # one graph for all that may come
    return items.clamp(min=1).reshape(())


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Items = None) -> torch.Tensor:
    """Mean negative log-likelihood: logits (N, C), labels (N,) -> scalar."""
    total = F.cross_entropy(widen(logits), labels, ignore_index=IGNORE, reduction="sum")
    return divide(total, (labels != IGNORE).sum(), num_items_in_batch)


def shift_next(
    labels: torch.Tensor, documents: Documents | None, attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """What each position of a causal model predicts: the next label of its document. (B, T) -> (B, T).

    Padding predicts nothing, so that a text padded on the left has the loss of the same text padded on the right.
    """
    if documents is not None:
        labels = labels.masked_fill(documents.starts, IGNORE)
    shifted = F.pad(labels, (0, 1), value=IGNORE)[..., 1:]
    if isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
        padding = attention_mask[:, -labels.shape[1] :].to(labels.device) == 0
        shifted = shifted.masked_fill(padding, IGNORE)
    return shifted


def language_modeling_loss(
    hidden: torch.Tensor, labels: torch.Tensor, head: nn.Module, num_items_in_batch: Items = None
) -> torch.Tensor:
    """The loss of a language model without its logits: only labelled positions reach the head, a chunk at a time.

    Args:
        hidden: (B, T, D), the states that the head reads.
        labels: (B, T), already aligned with `hidden`.
        head: a [`TriviumLanguageModelingHead`]-like module with `transform`, `lm_head` and `shape_logits`.
    """
    hidden, labels = hidden.reshape(-1, hidden.shape[-1]), labels.reshape(-1).to(hidden.device)
    count = (labels != IGNORE).sum()
    if not torch.compiler.is_compiling() and int(count) < labels.numel():
        kept = (labels != IGNORE).nonzero().squeeze(1)
        hidden, labels = hidden.index_select(0, kept), labels.index_select(0, kept)
    hidden = head.transform(hidden)
    config = head.config.get_text_config(decoder=True)
    rows = chunk_rows(config.vocab_size)
    transformed = not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()  # by torch.func
    if _is_plain_linear(head.lm_head) and not transformed:
        weight, bias = head.lm_head.weight, head.lm_head.bias
        options = (config.logit_scale or 1.0, config.final_logit_softcapping, rows)
        return LinearCrossEntropy.apply(hidden, weight, bias, labels, _items(count, num_items_in_batch), *options)
    if hidden.shape[0] <= rows or transformed:
        total = _sum_of_chunk(hidden, labels, head)
    else:
        pieces = zip(hidden.split(rows), labels.split(rows), strict=True)
        total = sum(checkpoint(_sum_of_chunk, *piece, head, use_reentrant=False) for piece in pieces)
    return divide(total, count, num_items_in_batch)


def shape_logits(logits: torch.Tensor, scale: float | None, softcap: float | None) -> torch.Tensor:
    """Logits (..., V) times `scale`, and kept between `-softcap` and `softcap`, where there are such."""
    logits = logits if scale in (None, 1.0) else logits * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def chunk_rows(vocab_size: int) -> int:
    """Rows of logits that are held at a time: few, but each chunk adds up the whole gradient of the output matrix."""
    return min(1024, max(256, 2**24 // vocab_size))


def _sum_of_chunk(hidden: torch.Tensor, labels: torch.Tensor, head: nn.Module) -> torch.Tensor:
    logits = head.shape_logits(head.lm_head(hidden))
    return F.cross_entropy(widen(logits), labels, ignore_index=IGNORE, reduction="sum")


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether a module is its weight: not sharded, wrapped, quantized or hooked, whose forward must be called."""
    return (
        type(module) is nn.Linear
        and type(module.weight) is nn.Parameter
        and not (module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook"))
    )


class LinearCrossEntropy(torch.autograd.Function):
    """Cross entropies of `hidden @ weight.T + bias`, scaled and capped, over the items, without holding all logits.

    The gradients are computed with the loss, chunk by chunk, so that no product is done twice. What is held is one
    chunk of logits and the gradients themselves, which the backward pass needs anyway.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, items, scale, softcap, rows):
        """Hidden (N, D), weight (V, D), bias (V,) or None, labels (N,), items () -> scalar."""
        device = hidden.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        inputs = (hidden, weight, bias)
        wanted = any(ctx.needs_input_grad[:3])
        loss, *grads = _loss_and_gradients(*inputs, labels, items, scale, softcap, rows, narrow, wanted)
        ctx.save_for_backward(*grads)
        ctx.dtypes = [None if x is None else x.dtype for x in inputs]
        return loss

    @staticmethod
    def backward(ctx, grad):
        """What the forward pass left, scaled if need be: a copy of the output matrix's gradient is large.

        Raises:
            InputError: the gradient is to be differentiated in its turn, which what was left cannot be.
        """
        compiling = torch.compiler.is_compiling()
        if torch.is_grad_enabled() and not compiling:
            raise InputError(
                "the loss of a language model has no second derivative: compute it from the logits, which the model "
                "gives with return_logits=True."
            )
        grads: Sequence[torch.Tensor] = ctx.saved_tensors
        if compiling or grad.device.type != "cpu" or grad != 1:
            grads = [x * grad for x in grads]
        pairs = zip(grads, ctx.dtypes, strict=True)
        return *(None if dtype is None else x.to(dtype) for x, dtype in pairs), None, None, None, None, None


@torch.library.custom_op(own_name("trivium::linear_cross_entropy"), mutates_args=())
def _loss_and_gradients(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    items: torch.Tensor,
    scale: float,
    softcap: float | None,
    rows: int,
    narrow: torch.dtype,
    wanted: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss and, if `wanted`, its gradients (else empty tensors); products in the dtype `narrow`, sums in float32.

    One operator that `torch.compile` does not look into: how many labels there are changes with every batch.
    """
    wide = torch.promote_types(torch.float32, narrow)
    total, *grads = _empty_results(hidden, weight, bias, wide, wanted)
    kept = (labels != IGNORE).nonzero().squeeze(1)
    for x in (total, grads[0], grads[2]):
        x.zero_()
    with torch.autocast(hidden.device.type, enabled=False):
        weight, bias = weight.to(narrow), None if bias is None else bias.to(narrow)
        pieces = kept.tensor_split(max(1, round(len(kept) / rows)))
        room = weight.new_empty(len(pieces[0]), len(weight))  # one for all, since new memory is slow
        for number, places in enumerate(pieces):
            chunk, targets = hidden.index_select(0, places).to(narrow), labels.index_select(0, places).unsqueeze(1)
            logits = room[: len(places)]
            if bias is None:
                torch.mm(chunk, weight.t(), out=logits)
            else:
                torch.addmm(bias, chunk, weight.t(), out=logits)
            at_once = max(1, CACHED // logits.shape[1]) if logits.device.type == "cpu" else len(places)
            for part, target in zip(logits.split(at_once), targets.split(at_once), strict=True):
                shaped = shape_logits(part.to(wide), scale, softcap)
                probabilities = torch.softmax(shaped, -1)
                total -= _log_likelihoods(shaped, probabilities, target).sum()
                if not wanted:
                    continue
                error = probabilities.scatter_add_(1, target, -torch.ones_like(target, dtype=wide))
                if softcap is not None:
                    error *= 1 - (shaped / softcap).square()
                if scale != 1.0:
                    error *= scale
                if bias is not None:
                    grads[2] += error.sum(0)
                part.copy_(error)  # from here on `logits` are the gradient by them
            if wanted:
                grads[0].index_copy_(0, places, (logits @ weight).to(wide))
                _add_product(grads[1], logits.t(), chunk, first=number == 0)
    for x in (total, *grads):
        x /= items.to(x.device)
    return total, *grads


def _log_likelihoods(logits: torch.Tensor, probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Of the words `target` (N, 1), from logits (N, V) and their softmax; `log_softmax` would take exponentials again.

    Not the logarithm of their own probabilities, which may be no numbers any more, but of the greatest one.
    """
    best, most = logits.amax(-1, keepdim=True), probabilities.amax(-1, keepdim=True)
    return logits.gather(1, target) - best + most.log()


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor, first: bool) -> None:
    """Adds the product (V, N) by (N, D) to the total (V, D), or, as the `first`, replaces what is there."""
    words = WORDS if total.device.type == "cpu" else len(total)
    for part, some in zip(total.split(words), left.split(words), strict=True):
        part.copy_(some @ right) if first else part.add_(some @ right)


@_loss_and_gradients.register_fake
def _(hidden, weight, bias, labels, items, scale, softcap, rows, narrow, wanted):
    return _empty_results(hidden, weight, bias, torch.promote_types(torch.float32, narrow), wanted)


def _empty_results(hidden, weight, bias, dtype, wanted):
    """Room for the loss and for the gradients of the three, each of them empty if there is nothing to hold."""
    shapes = [x.shape if wanted and x is not None else (0,) for x in (hidden, weight, bias)]
    return tuple(hidden.new_empty(shape, dtype=dtype) for shape in ((), *shapes))


def sequence_classification_loss(
    logits: torch.Tensor, labels: torch.Tensor, problem_type: str | None, num_items_in_batch: Items = None
) -> torch.Tensor:
    """Single-label, multi-label or regression loss.

    Args:
        logits: (N, C).
        labels: (N,) classes; (N, C) of zeros and ones; (N,) or (N, C) numbers.
        problem_type: as in transformers' configuration; `None` = told from C and the labels' dtype, as there.
    """
    labels = labels.to(logits.device)
    if problem_type is None:
        if logits.shape[-1] == 1:
            problem_type = "regression"
        else:
            whole = not labels.dtype.is_floating_point
            problem_type = "single_label_classification" if whole else "multi_label_classification"
    if problem_type == "single_label_classification":
        return cross_entropy(logits, labels.reshape(-1), num_items_in_batch)
    logits = widen(logits)
    labels = labels.to(logits.dtype).view_as(logits)
    real = labels != IGNORE
    if problem_type == "regression":
        losses = F.mse_loss(logits, labels, reduction="none")
    else:
        losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return divide((losses * real).sum(), real.sum(), num_items_in_batch)


def question_answering_loss(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    start_positions: torch.Tensor,
    end_positions: torch.Tensor,
    attention_mask: torch.Tensor | None,
    documents: Documents | None,
    num_items_in_batch: Items = None,
) -> torch.Tensor:
    """Mean of the losses of start and end, over the real tokens of each text only (padding is no candidate).

    Args:
        start_logits, end_logits: (B, T).
        start_positions, end_positions: (B,), or (N,) counted from each document's start in a flattened batch; those
            outside the text are ignored.
    """
    total, count = start_logits.new_zeros(()), start_logits.new_zeros(())
    for logits, positions in ((start_logits, start_positions), (end_logits, end_positions)):
        logits, real = widen(logits), torch.ones_like(logits, dtype=torch.bool)
        if documents is not None:
            logits, real = documents.pad(logits, 0.0), documents.pad(real, False)
        elif attention_mask is not None and attention_mask.ndim == 2:
            real = attention_mask.to(logits.device).bool()
        logits = logits.masked_fill(~real, torch.finfo(logits.dtype).min)
        positions = positions.reshape(-1).to(logits.device)
        outside = (positions < 0) | (positions >= logits.shape[1])
        outside |= ~real.gather(1, positions.masked_fill(outside, 0).unsqueeze(1)).squeeze(1)
        positions = positions.masked_fill(outside, IGNORE)
        total = total + F.cross_entropy(logits, positions, ignore_index=IGNORE, reduction="sum") / 2
        count = count + (~outside).sum() / 2
    return divide(total, count, num_items_in_batch)


def next_sentence_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    token_labels: torch.Tensor | None,
    documents: Documents | None,
    num_items_in_batch: Items,
) -> torch.Tensor:
    """BERT's next-sentence loss: logits (N, 2), labels (N,) and labels of the tokens (B, T) -> scalar.

    `num_items_in_batch` counts masked tokens, not sentence pairs. Where it is given each pair weighs as many items
    as it has masked tokens, so that the sum over micro-batches does not depend on how they were cut; without it the
    mean is BERT's.
    """
    labels = labels.reshape(-1).to(logits.device)
    if num_items_in_batch is None or token_labels is None:
        return cross_entropy(logits, labels)
    masked = (token_labels != IGNORE).to(logits.device).float()
    if documents is None:
        weights = masked.sum(-1)
    else:
        weights = masked.new_zeros(len(labels)).index_add(0, documents.ids.flatten(), masked.flatten())
    losses = F.cross_entropy(widen(logits), labels, ignore_index=IGNORE, reduction="none")
    return divide((losses * weights).sum(), 1, num_items_in_batch)
