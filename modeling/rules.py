"""Who sees whom, and how scores are made: what ways to attend have to know of a layer and of a mask."""

from typing import NamedTuple

import torch


class Rule(NamedTuple):
    """How a layer scores: the factor on the products, whether and how far a token sees, and the cap."""

    scaling: float
    causal: bool
    window: int | None = None
    softcap: float | None = None


def visible(rows: int, columns: int, rule: Rule, device: torch.device, explicit: bool = False) -> torch.Tensor | None:
    """(rows, columns) bool, or `None` where the kernel's own causal flag says it all and `explicit` does not ask."""
    causal, window = rule.causal, rule.window
    narrow = bool(window) and max(rows, columns) > window
    if not narrow and not (explicit and causal):
        return None
    distance = torch.arange(rows, device=device)[:, None] - torch.arange(columns, device=device)[None, :]
    if not causal:
        return distance.abs() <= window
    return (distance >= 0) & (distance < window) if narrow else distance >= 0


def only_hides(mask: torch.Tensor | None) -> bool:
    """Whether a mask (B or 1, 1 or H, T or 1, S) adds nothing to scores, and is the same for all heads."""
    return mask is None or (mask.dtype == torch.bool and mask.shape[1] == 1)
