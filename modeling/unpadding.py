"""Padded batches without their padding: real tokens are laid end to end before the first block, and put back in their
places behind the last one.

Shapes: B rows, T tokens a row, R real tokens of all rows, G key-value heads, D head width.
"""

import math
from dataclasses import dataclass

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
    config: TriviumConfig,
    layers: nn.ModuleList,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | dict | None,
    position_ids: torch.Tensor | None,
    cache: Cache | None,
) -> RealTokens | None:
    """The real tokens of a batch (B, T, hidden) that is read faster without its padding, or `None`.

    It is not where the user chose another attention, where a graph is traced, whose shapes may not depend on values,
    where a cache holds tokens already, where tokens of a row do not lie side by side, and where hooks expect rows.

    Args:
        layers: the blocks.
        attention_mask, position_ids, cache: as the stack was given them.
    """
    shape = inputs_embeds.shape[:2]
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.shape != shape:
        return None
    if config._attn_implementation_chosen and config._attn_implementation != NAME:
        return None
    if is_tracing(inputs_embeds) or (cache is not None and cache.get_seq_length() > 0):
        return None
    cost = starting_cost(config, inputs_embeds, layers.training)
    if math.isinf(cost):  # before anything waits for the device
        return None
    real = attention_mask.bool()
    starts = real & ~pad(real[:, :-1], (1, 0))
    tokens, texts, rows = torch.stack([real.sum(), starts.sum(), real.any(-1).sum()]).tolist()
    saved = real.numel() - tokens
    if texts != rows or not tokens or saved < LEAST_SHARE * real.numel():
        return None
    if saved * inputs_embeds.shape[-1] < max(LEAST_SIZE, rows * cost) or _have_hooks(layers):
        return None
    places = real.flatten().nonzero().squeeze(-1)
    starts = starts.flatten()[places][None]
    counted = real.long().cumsum(-1) - 1 if position_ids is None else position_ids.expand(shape)
    documents = Documents(starts, starts.long().cumsum(-1) - 1, counted.flatten()[places][None])
    return RealTokens(places, (shape[0], shape[1]), documents)


def _have_hooks(layers: nn.ModuleList) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in layers.modules())
