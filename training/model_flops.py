"""How much computing a batch asks of a model: the work in it is counted, then priced by the model's shape.

Counted are matrix products and what they must do: a multiplication and an addition for each weight and token, and in
attention for each pair of a query and a key that it may see. What a kernel computes beside (masked pairs, padding,
recomputed activations) is left out, which makes these the *model's* floating point operations (Chowdhery et al., 2022,
appendix B). Norms, activations, poolers and the optimizer are left out too.

Shapes: B rows, T tokens a row.
"""

from collections import Counter
from typing import Any, NamedTuple

import torch

from ..configuration import TriviumConfig, TriviumDecoderConfig, TriviumEncoderDecoderConfig
from .objectives.batches import IGNORED

TRAINING_PASSES = 3  # the backward pass makes two products for each of the forward pass: for inputs and for weights


class Side(NamedTuple):
    """One sequence of a batch: the encoder's input, or the decoder's.

    Attributes:
        real: (B, T) bool, what is not padding.
        starts: (B, T) bool, where documents begin.
        lengths: (B * T,) long, real tokens of each document, with zeros after the last.
    """

    real: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor


def count_work(config: Any, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What a batch holds, as integers on its device; nothing waits for the device.

    Args:
        config: of a Trivium model; of any other, only tokens and positions are counted.
        inputs: what the model's forward takes. Documents are told by `position_ids` that restart, or are the rows.
            Padding is told by the masks, or else by the padding token if it stands for nothing else.

    Returns:
        `tokens` that are no padding, of the encoder's and the decoder's input together, among `positions`; and what
        [`price_work`] has a price for.
    """
    stacks = _stacks(config)
    sides = {role: find_side(config, inputs, "decoder_" if number else "") for number, role in enumerate(stacks)}
    work = {
        "tokens": sum((side.real.sum() for side in sides.values()), _integer(inputs, 0)),
        "positions": _integer(inputs, sum(side.real.numel() for side in sides.values())),
    }
    for role, stack in stacks.items():
        if not isinstance(stack, TriviumConfig):
            continue
        work[f"{role}_tokens"] = sides[role].real.sum()
        for kind in sorted(set(stack.layer_types or [])):
            window = stack.sliding_window if kind == "sliding_attention" else None
            work[f"{role}_{kind}"] = visible_pairs(sides[role].lengths, role == "decoder", window).sum()
    if len(sides) == 2:
        shorter = min(len(side.lengths) for side in sides.values())
        work["cross_attention"] = torch.stack([side.lengths[:shorter] for side in sides.values()]).prod(0).sum()
    work["labels"] = _predictions(inputs, sides.get("decoder") if len(sides) == 1 else None)
    return work


def config_of(model: Any) -> Any:
    """The configuration that a model's work follows from: the encoder's where that is all of an encoder-decoder."""
    config = model.config
    return config.encoder if config.is_encoder_decoder and model.get_decoder() is None else config


def reading_inputs(config: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What a model that does not write reads of a batch: rows (B, T), or (B, C, T) of several choices each.

    The decoder of an encoder-decoder reads what its encoder does.
    """
    names = ("input_ids", "attention_mask", "position_ids")
    rows = {name: inputs[name].flatten(0, -2) for name in names if inputs.get(name) is not None}
    return rows | ({f"decoder_{name}": row for name, row in rows.items()} if config.is_encoder_decoder else {})


def price_work(config: Any) -> dict[str, int]:
    """Floating point operations of a forward and a backward pass for each thing that [`count_work`] counts.

    Empty for a configuration that is not ours.
    """
    stacks = _stacks(config)
    if not all(isinstance(stack, TriviumConfig) for stack in stacks.values()):
        return {}
    prices: Counter[str] = Counter()
    for role, stack in stacks.items():
        width, depth = stack.hidden_size, stack.num_hidden_layers
        query, value = (heads * stack.head_dim for heads in (stack.num_attention_heads, stack.num_key_value_heads))
        feed_forward = (3 if stack.gated_mlp else 2) * width * stack.intermediate_size
        prices[f"{role}_tokens"] += depth * (2 * width * (query + value) + feed_forward)
        for kind, layers in Counter(stack.layer_types or []).items():
            prices[f"{role}_{kind}"] = layers * 2 * query
    if len(stacks) == 2:
        prices["encoder_tokens"] += depth * 2 * stacks["encoder"].hidden_size * value
        prices["decoder_tokens"] += depth * 2 * width * query
        prices["cross_attention"] = depth * 2 * query
    prices["labels"] = width * stack.vocab_size + (width**2 if stack.lm_head_transform else 0)
    return {name: 2 * TRAINING_PASSES * products for name, products in prices.items()}


def model_flops(model: torch.nn.Module, inputs: dict[str, Any]) -> float:
    """The floating point operations that one training step on this batch asks of a Trivium language model.

    Waits for the device that the batch is on.
    """
    work = count_work(model.config, inputs)
    return float(sum(price * int(work[name]) for name, price in price_work(model.config).items()))


def visible_pairs(lengths: torch.Tensor, is_causal: bool, window: int | None) -> torch.Tensor:
    """How many pairs of query and key see each other in documents of `lengths` (N,) -> (N,).

    `window` is what a causal layer sees, the token itself included, or how far another sees to either side.
    """
    before = window if window is None or not is_causal else window - 1
    triangle = lengths * (lengths - 1) // 2  # of each token with those before it
    if before is not None:
        hidden = (lengths - 1 - before).clamp(min=0)
        triangle = triangle - hidden * (hidden + 1) // 2
    return lengths + (triangle if is_causal else 2 * triangle)


def find_side(config: Any, inputs: dict[str, Any], name: str) -> Side:
    """Padding and documents of the input whose arguments begin with `name`, "" or "decoder_"."""
    ids = inputs.get(f"{name}input_ids")
    if ids is None:
        ids = inputs["labels"]  # which the model shifts by itself
    mask, positions = inputs.get(f"{name}attention_mask"), inputs.get(f"{name}position_ids")
    row_starts = torch.zeros_like(ids, dtype=torch.bool)
    row_starts[:, 0] = True
    starts = row_starts
    if positions is not None:
        starts = row_starts | torch.nn.functional.pad(positions.diff(dim=-1) != 1, (1, 0)).expand_as(ids)
    if mask is not None and mask.ndim == 2:
        # Beside a mask with zeros, positions that restart are those of the padding.
        real, starts = mask.bool(), torch.where(mask.all(), starts, row_starts)
    else:
        # T5's decoder begins each text with the padding token.
        real = (ids != _padding_token(config)) & (ids != IGNORED) | starts
    document = starts.flatten().cumsum(0) - 1
    lengths = torch.zeros_like(document).index_add(0, document, real.flatten().long())
    return Side(real, starts, lengths)


def _padding_token(config: Any) -> int:
    """The token that fills up rows, or one that never occurs where that one ends texts too (GPT-2's habit)."""
    pad, eos = config.pad_token_id, config.eos_token_id
    others = [config.bos_token_id, *(eos if isinstance(eos, list) else [eos])]
    return IGNORED if pad is None or pad in others else pad


def _stacks(config: Any) -> dict[str, Any]:
    """The configurations of a model's stacks by their role, that which writes last; only the roles of other models."""
    if isinstance(config, TriviumEncoderDecoderConfig):
        return {"encoder": config.encoder, "decoder": config.decoder}
    if isinstance(config, TriviumConfig):
        return {"decoder" if isinstance(config, TriviumDecoderConfig) else "encoder": config}
    return dict.fromkeys(["encoder", "decoder"] if config.is_encoder_decoder else ["other"])


def _integer(inputs: dict[str, Any], value: int) -> torch.Tensor:
    """A number on the device of a batch."""
    device = next(tensor.device for tensor in inputs.values() if isinstance(tensor, torch.Tensor))
    return torch.full((), value, dtype=torch.int64, device=device)


def _predictions(inputs: dict[str, Any], causal: Side | None) -> torch.Tensor:
    """Positions at which a loss is computed: those with labels; of a causal model, that a token goes before."""
    labels = inputs.get("shift_labels", inputs.get("labels"))
    if labels is None:
        return _integer(inputs, 0)
    predicted = labels != IGNORED
    if causal is not None and "shift_labels" not in inputs:
        follows = torch.nn.functional.pad(causal.real, (1, -1)) & ~causal.starts
        predicted = predicted & follows
    return predicted.sum()
