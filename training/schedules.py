"""Learning rates: what transformers' schedules leave to say, and cooling down from any checkpoint."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from ..configuration.errors import InputError

WSD = "warmup_stable_decay"


@dataclass(frozen=True)
class Cooldown:
    """The learning rate falls to zero as 1 - sqrt (Hägele et al., 2024) and the run ends.

    Attributes:
        start: the step at which it begins.
        steps: how many it takes.
        factor: what the learning rate is there, as a share of the highest.
    """

    start: int
    steps: int
    factor: float

    def __call__(self, step: int) -> float:
        """The share of the highest learning rate that step number `step` (from 0) takes."""
        return self.factor * (1 - min(max(step - self.start, 0) / self.steps, 1) ** 0.5)

    def schedule(self, optimizer: torch.optim.Optimizer) -> LambdaLR:
        """A scheduler to load the checkpoint's state into."""
        return LambdaLR(optimizer, lambda step: self(step))


def schedule_arguments(kind: str, given: dict[str, Any] | str | None, decay: float, max_steps: int) -> dict[str, Any]:
    """The arguments of a schedule of transformers, with those of warmup-stable-decay that were not given.

    Args:
        kind: as `lr_scheduler_type`.
        given: as `lr_scheduler_kwargs`.
        decay: how many of the last steps the learning rate falls in, below 1 a share of all.
        max_steps: steps of the run.

    Raises:
        InputError: a decay below 0 or longer than the run.
    """
    arguments = dict(given or {})  # type: ignore[arg-type]
    if kind != WSD:
        return arguments
    steps = round(decay * max_steps) if decay < 1 else int(decay)
    if not 0 <= steps <= max_steps:
        raise InputError(f"`decay_steps` {decay:g} must lie between 0 and the {max_steps} steps of the run.")
    return {"num_decay_steps": steps, "decay_type": "1-sqrt"} | arguments
