"""The position-wise feed-forward layer, plain (Vaswani et al., 2017) or gated (Shazeer, 2020)."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from ..configuration.base import TriviumConfig
from .precision import narrowed


class TriviumMLP(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)) if gated."""

    def __init__(self, config: TriviumConfig):
        super().__init__()
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        if config.gated_mlp:
            self.gate_proj = nn.Linear(hidden, inner, bias=bias)
        self.up_proj = nn.Linear(hidden, inner, bias=bias)
        self.down_proj = nn.Linear(inner, hidden, bias=bias)
        self.act_fn = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.activation_dropout)
        self.gated = config.gated_mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, hidden) -> (B, T, hidden)."""
        x = narrowed(x)
        inner = self.act_fn(self.gate_proj(x)) * self.up_proj(x) if self.gated else self.act_fn(self.up_proj(x))
        return self.down_proj(self.dropout(inner))
