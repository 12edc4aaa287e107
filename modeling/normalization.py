"""Normalization layers: LayerNorm (Ba et al., 2016) and RMSNorm (Zhang and Sennrich, 2019)."""

import torch
from torch import nn

from ..configuration.base import TriviumConfig
from .precision import widen
from .rms_norm import divide, rms_norm


class TriviumRMSNorm(nn.Module):
    """Divides by the root mean square of the last dimension and multiplies by a learnt weight.

    Args:
        size: width of the last dimension.
        eps: added to the mean square.
        unit_offset: the weight is stored as its distance from one (Gemma), so that weight decay pulls towards one.
    """

    def __init__(self, size: int, eps: float = 1e-6, unit_offset: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size) if unit_offset else torch.ones(size))
        self.eps = eps
        self.unit_offset = unit_offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., size) -> (..., size), computed in at least float32."""
        wide = widen(x)
        weight = 1.0 + self.weight.to(wide.dtype) if self.unit_offset else self.weight
        if weight.dtype == wide.dtype:
            normed = rms_norm(wide, weight, self.eps)
            return normed.to(x.dtype) if self.unit_offset else normed
        return weight * divide(wide, self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{tuple(self.weight.shape)}, eps={self.eps}, unit_offset={self.unit_offset}"


def make_norm(config: TriviumConfig, size: int | None = None) -> nn.Module:
    """The norm that `config` names, over `size` features (the hidden size if not given)."""
    size = config.hidden_size if size is None else size
    if config.norm == "layernorm":
        return nn.LayerNorm(size, eps=config.norm_eps, bias=config.norm_bias)
    return TriviumRMSNorm(size, eps=config.norm_eps, unit_offset=config.norm_unit_offset)
