"""One block: attention, optional cross-attention and feed-forward, each on a residual path."""

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from ..configuration.base import TriviumConfig
from .attention import TriviumAttention
from .feed_forward import TriviumMLP
from .normalization import make_norm


class TriviumResidual(nn.Module):
    """Where the norms of one sublayer f stand on its residual path: `outer(x + dropout(after(f(before(x)))))`.

    pre-norm has `before` (GPT-2), post-norm `outer` (Vaswani et al., 2017), sandwich `before` and `after` (Gemma 2).
    """

    before: nn.Module
    after: nn.Module
    outer: nn.Module
    PLACES = {"pre": ("before",), "post": ("outer",), "sandwich": ("before", "after")}

    def __init__(self, config: TriviumConfig, has_before: bool = True):
        super().__init__()
        for place in ("before", "after", "outer"):
            used = place in self.PLACES[config.norm_placement] and (place != "before" or has_before)
            setattr(self, place, make_norm(config) if used else nn.Identity())
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, residual: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Joins the sublayer's output to its input, both (B, T, hidden)."""
        return self.outer(residual + self.dropout(self.after(output)))


class TriviumBlock(GradientCheckpointingLayer):
    """The block that all three families are made of.

    Args:
        config: of the stack.
        layer_idx: number of the block.
        is_causal: a decoder's block.
    """

    def __init__(self, config: TriviumConfig, layer_idx: int, is_causal: bool):
        super().__init__()
        self.self_attn = TriviumAttention(config, layer_idx, is_causal)
        self.self_attn_residual = TriviumResidual(config, has_before=layer_idx > 0 or config.first_norm)
        self.has_cross_attention = getattr(config, "add_cross_attention", False)
        if self.has_cross_attention:
            self.cross_attn = TriviumAttention(config, layer_idx, is_causal, is_cross=True)
            self.cross_attn_residual = TriviumResidual(config)
        self.mlp = TriviumMLP(config)
        self.mlp_residual = TriviumResidual(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        past_key_values: Cache | None = None,
        cross_attention: dict | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """(B, T, hidden) -> (B, T, hidden).

        `encoder_hidden_states` (B, S, width) are what the cross-attention reads, if there is one, and `cross_attention`
        its mask and backend arguments; `position_bias` is that of the self-attention on a flattened batch. The other
        arguments are those of [`TriviumAttention`].
        """
        x = hidden_states
        bias = {} if position_bias is None else {"position_bias": position_bias}
        out, _ = self.self_attn(
            self.self_attn_residual.before(x),
            attention_mask=attention_mask,
            position_embeddings=position_embeddings,
            past_key_values=past_key_values,
            **bias,
            **kwargs,
        )
        x = self.self_attn_residual(x, out)
        if self.has_cross_attention and encoder_hidden_states is not None:
            out, _ = self.cross_attn(
                self.cross_attn_residual.before(x),
                encoder_hidden_states,
                past_key_values=past_key_values,
                **(kwargs | (cross_attention or {})),
            )
            x = self.cross_attn_residual(x, out)
        return self.mlp_residual(x, self.mlp(self.mlp_residual.before(x)))
