"""Padded batches without their padding: real tokens are laid end to end before the first block, and put back in their
places behind the last one.

Shapes: B rows, T tokens a row, R real tokens of all rows, G key-value heads, D head width.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import pad
from transformers.cache_utils import Cache
from transformers.utils.import_utils import is_tracing

from ..configuration.base import TriviumConfig
from .documents import Documents
from .varlen import NAME, starting_cost

LEAST_SHARE = 0.1  # of a batch that must be padding, and
LEAST_SIZE = 2**16  # numbers in its states, else the way there and back takes what is saved


@dataclass
class RealTokens:
    """Where the real tokens of a padded batch lie.

    Attributes:
        places: (R,) long, in the rows laid end to end.
        shape: (B, T).
        documents: what the rows are once the padding is gone.
    """

    places: torch.Tensor
    shape: tuple[int, int]
    documents: Documents

    def drop_padding(self, x: torch.Tensor | None) -> torch.Tensor | None:
        """(B or 1, T, ...) -> (1, R, ...)."""
        if x is None:
            return None
        return x.expand(*self.shape, *x.shape[2:]).flatten(0, 1).index_select(0, self.places)[None]

    def restore_padding(self, x: torch.Tensor) -> torch.Tensor:
        """(1, R, ...) -> (B, T, ...), zero where there is no token."""
        batch, length = self.shape
        rows = x.new_zeros(batch * length, *x.shape[2:]).index_copy(0, self.places, x[0])
        return rows.unflatten(0, self.shape)


class Padded(NamedTuple):
    """Rows that a stack reads, or attends to.

    Attributes:
        states: (B, T, width).
        attention_mask: as the stack was given it.
        position_ids: (B or 1, T), if they are given.
    """

    states: torch.Tensor
    attention_mask: torch.Tensor | dict | None
    position_ids: torch.Tensor | None = None

    @property
    def real(self) -> torch.Tensor:
        """(B, T) bool, of a mask that is none or (B, T)."""
        if isinstance(self.attention_mask, torch.Tensor):
            return self.attention_mask.bool()
        return torch.ones(self.states.shape[:2], dtype=torch.bool, device=self.states.device)


class PaddingCache:
    """An empty cache that is filled, padded, while the attention of the prompt goes on without padding."""

    def __init__(self, cache: Cache, real_tokens: RealTokens):
        self.cache = cache
        self.real_tokens = real_tokens

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores what (1, G, R, D) comes in as (B, G, T, D), and gives it back as it came."""
        padded = (self.real_tokens.restore_padding(x.transpose(1, 2)).transpose(1, 2) for x in (key, value))
        self.cache.update(*padded, layer_idx, *args, **kwargs)
        return key, value


def find_real_tokens(
    config: TriviumConfig, layers: nn.ModuleList, cache: Cache | None, *sides: Padded
) -> list[RealTokens] | None:
    """The real tokens of a batch that is read faster without its padding, or `None`.

    It is not where the user chose another attention, where a graph is traced, whose shapes may not depend on values,
    where a cache holds tokens already, where tokens of a row do not lie side by side, and where hooks expect rows.

    Args:
        layers: the blocks.
        cache: that of the self-attention, as the stack was given it.
        sides: what the stack reads and, if it attends to an encoder, the encoder's states: row i of the one sees row i
            of the other, so that both lose their padding or neither.
    """
    if all(side.attention_mask is None for side in sides) or not all(map(_has_mask_of_rows, sides)):
        return None
    states = sides[0].states
    if not _may_drop(config, states) or (cache is not None and cache.get_seq_length() > 0):
        return None
    cost = starting_cost(config, states, layers.training)
    if math.isinf(cost) or len({side.states.device for side in sides}) > 1:  # before anything waits for the device
        return None
    masks = [side.real for side in sides]
    starts = [real & ~pad(real[:, :-1], (1, 0)) for real in masks]
    counts = [(x.sum(), first.sum(), x.any(-1).sum()) for x, first in zip(masks, starts, strict=True)]
    counts = torch.stack([torch.stack(numbers) for numbers in counts]).tolist()
    if any(texts != rows or not tokens for tokens, texts, rows in counts):
        return None
    if len(sides) > 1 and any(rows != len(states) for _, _, rows in counts):
        return None  # an empty row is no document, and would be missed on the other side
    saved = [real.numel() - tokens for real, (tokens, _, _) in zip(masks, counts, strict=True)]
    if sum(saved) < LEAST_SHARE * sum(real.numel() for real in masks):
        return None
    numbers = sum(count * side.states.shape[-1] for count, side in zip(saved, sides, strict=True))
    if numbers < max(LEAST_SIZE, counts[0][2] * cost) or _have_hooks(layers):
        return None
    return [_lay_end_to_end(*parts) for parts in zip(masks, starts, (side.position_ids for side in sides), strict=True)]


def mask_of_labels(config: TriviumConfig, labels: torch.Tensor) -> torch.Tensor | None:
    """(B, T) bool: what a decoder has to read for its labels (B, T; -100 = none), of each row all up to the last one.

    `None` where that is nearly all, or padding is not dropped.
    """
    if not _may_drop(config, labels):
        return None
    real = (labels != -100).flip(-1).cumsum(-1).flip(-1) > 0
    real[:, 0] = True  # a row without a label stays a text
    return None if (~real).sum() < LEAST_SHARE * real.numel() else real


def _may_drop(config: TriviumConfig, x: torch.Tensor) -> bool:
    """Whether no other attention was chosen and no graph is traced."""
    chosen = config._attn_implementation_chosen and config._attn_implementation != NAME
    return not chosen and not is_tracing(x)


def _lay_end_to_end(real: torch.Tensor, starts: torch.Tensor, position_ids: torch.Tensor | None) -> RealTokens:
    """From where tokens are real and where texts start, both (B, T), and their positions (B or 1, T), if given."""
    places = real.flatten().nonzero().squeeze(-1)
    starts = starts.flatten()[places][None]
    counted = real.long().cumsum(-1) - 1 if position_ids is None else position_ids.expand(real.shape)
    documents = Documents(starts, starts.long().cumsum(-1) - 1, counted.flatten()[places][None])
    return RealTokens(places, (real.shape[0], real.shape[1]), documents)


def _has_mask_of_rows(side: Padded) -> bool:
    """Whether the mask says of each token whether it is real, and lies where the states do; none says that all are."""
    mask, states = side.attention_mask, side.states
    if mask is None:
        return True
    return isinstance(mask, torch.Tensor) and mask.shape == states.shape[:2] and mask.device == states.device


def _have_hooks(layers: nn.ModuleList) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in layers.modules())
