"""Half precision: where more is needed, and what autocast would make of a tensor."""

import torch

HALF = (torch.float16, torch.bfloat16)
CAST = (*HALF, torch.float32)  # by autocast, which leaves float64 alone


def widen(x: torch.Tensor) -> torch.Tensor:
    """At least float32."""
    return x.float() if x.dtype in HALF else x


def narrowed(x: torch.Tensor) -> torch.Tensor:
    """What autocast makes of `x` for a product: once for several of them, or for an operator that it does not reach."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) and x.dtype in CAST else x
