"""Multi-head attention (Vaswani et al., 2017), self and cross in one class, for every head count and backend.

Shapes: B batch, T query tokens, S key tokens, H query heads, G key-value heads, D head width.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..configuration.base import TriviumConfig
from ..configuration.errors import InputError
from .narrow import narrow_attention_forward
from .normalization import TriviumRMSNorm
from .positions import apply_rotary
from .precision import narrowed
from .softcap import capped_attention_forward


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention as the paper writes it.

    query (B, H, T, D), key and value (B, G, S, D) -> (B, T, H, D) and the weights (B, H, T, S). `attention_mask` (B or
    1, H or 1, T, S) is added to the scores; `softcap` squeezes them through tanh first (Gemma 2).
    """
    key = key.repeat_interleave(module.num_key_value_groups, dim=1)
    value = value.repeat_interleave(module.num_key_value_groups, dim=1)
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:
        scores = scores + attention_mask
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = nn.functional.softmax(scores, dim=-1, dtype=wide).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class TriviumAttention(nn.Module):
    """Attention of a sequence to itself or, with `key_value_states`, to another one.

    Args:
        config: of the stack that the layer belongs to.
        layer_idx: number of the block, which is the layer of the cache.
        is_causal: whether a token may see only itself and those before it.
        is_cross: whether keys and values come from another sequence, of width `cross_attention_hidden_size`.
    """

    def __init__(self, config: TriviumConfig, layer_idx: int, is_causal: bool, is_cross: bool = False):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = is_causal and not is_cross
        self.is_cross = is_cross
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5 if config.attention_scaling is None else float(config.attention_scaling)
        self.attention_dropout = config.attention_dropout
        self.softcap = config.attn_logit_softcapping
        slides = config.layer_types[layer_idx] == "sliding_attention" and not is_cross
        self.sliding_window = config.sliding_window if slides else None

        source = (getattr(config, "cross_attention_hidden_size", None) if is_cross else None) or config.hidden_size
        query_width, value_width = (
            n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads)
        )
        self.q_proj = nn.Linear(config.hidden_size, query_width, bias=config.attention_bias)
        self.k_proj = nn.Linear(source, value_width, bias=config.attention_bias)
        self.v_proj = nn.Linear(source, value_width, bias=config.attention_bias)
        self.o_proj = nn.Linear(query_width, config.hidden_size, bias=config.attention_output_bias)
        self.q_norm = self._head_norm() if config.qk_norm else nn.Identity()
        self.k_norm = self._head_norm() if config.qk_norm else nn.Identity()

    def _head_norm(self) -> nn.Module:
        return TriviumRMSNorm(self.head_dim, self.config.norm_eps, self.config.norm_unit_offset)

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        attention_backend: str | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attends.

        Args:
            hidden_states: (B, T, hidden).
            key_value_states: (B, S, source width) for cross-attention.
            position_embeddings: cosine and sine of RoPE, (B or 1, 1, T, D) each; see [`apply_rotary`].
            attention_mask: in the form that the backend takes.
            past_key_values: updated in place; a cross-attention computes its keys and values once.
            attention_backend: overrides the model's, for a flattened batch.

        Returns:
            (B, T, hidden), and the weights (B, H, T, S) if the backend has them.
        """
        hidden_states = narrowed(hidden_states)
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = self.q_norm(self.q_proj(hidden_states).view(shape)).transpose(1, 2)
        if self.is_cross:
            key, value = self._cross_key_values(key_value_states, past_key_values)
        else:
            key = self.k_norm(self.k_proj(hidden_states).view(shape)).transpose(1, 2)
            value = self.v_proj(hidden_states).view(shape).transpose(1, 2)
            if position_embeddings is not None:
                query, key = (apply_rotary(x, *position_embeddings) for x in (query, key))
            if past_key_values is not None:
                if isinstance(past_key_values, EncoderDecoderCache):
                    past_key_values = past_key_values.self_attention_cache
                key, value = past_key_values.update(key, value, self.layer_idx)

        out, weights = self._interface(attention_backend or self.config._attn_implementation, query)(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            softcap=self.softcap,
            **kwargs,
        )
        return self.o_proj(out.reshape(*shape[:-2], -1)), weights

    def _interface(self, backend: str, query: torch.Tensor) -> Callable:
        """The function of `backend`; what sdpa cannot cap, or is slow at, is ours.

        Raises:
            InputError: a backend without a gradient where one is asked for.
        """
        if backend == "flex_attention" and query.device.type == "cpu" and query.requires_grad:
            raise InputError(
                "attn_implementation='flex_attention' has no backward pass on a CPU: train with 'sdpa' or 'eager', or "
                "compute under torch.no_grad()."
            )
        if backend == "sdpa" and self.softcap is not None:
            return capped_attention_forward
        if backend == "sdpa" and query.device.type == "cpu":
            return narrow_attention_forward
        return ALL_ATTENTION_FUNCTIONS.get_interface(backend, eager_attention_forward)

    def _cross_key_values(self, states: torch.Tensor, cache: Cache | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, G, S, D) of the other sequence, from the cache if they are there."""
        if isinstance(cache, EncoderDecoderCache) and cache.is_updated.get(self.layer_idx):
            layer = cache.cross_attention_cache.layers[self.layer_idx]
            return layer.keys, layer.values
        states = narrowed(states)
        shape = (*states.shape[:-1], -1, self.head_dim)
        key = self.k_norm(self.k_proj(states).view(shape)).transpose(1, 2)
        value = self.v_proj(states).view(shape).transpose(1, 2)
        if isinstance(cache, EncoderDecoderCache):
            key, value = cache.cross_attention_cache.update(key, value, self.layer_idx)
            cache.is_updated[self.layer_idx] = True
        return key, value
