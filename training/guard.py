"""Steps that would do harm are left out: a loss or gradient that is no number, or a loss far above the last ones."""

import math
from collections import deque
from typing import Any

from ..configuration.errors import InputError

REMEMBERED = 128  # good steps that a loss is compared with
NEEDED = 32
TOO_MANY = 10  # bad steps in a row


class SpikeGuard:
    """Decides which steps to leave out; see OLMo 2 (2025, section 3.2), where optimizers skip such steps too.

    Args:
        threshold: how many standard deviations above the mean of the last 128 good steps a loss may lie; `None` =
            however high, as long as it is a number.
    """

    def __init__(self, threshold: float | None = 6.0):
        if threshold is not None and threshold <= 0:
            raise InputError(f"`spike_threshold` must be above 0, or none, not {threshold}.")
        self.threshold = threshold
        self.losses: deque[float] = deque(maxlen=REMEMBERED)
        self.skipped = 0
        self.in_a_row = 0

    def verdict(self, loss: float, grad_norm: float) -> str | None:
        """Why to leave out the step with this loss and gradient norm, or `None` for a good one; remembers either."""
        reason = self._reason(loss, grad_norm)
        if reason is None:
            self.losses.append(loss)
            self.in_a_row = 0
        else:
            self.skipped += 1
            self.in_a_row += 1
        return reason

    @property
    def gives_up(self) -> bool:
        """Whether ten steps in a row were bad."""
        return self.in_a_row >= TOO_MANY

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"losses": [*self.losses], "skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what [`state_dict`] gave."""
        self.losses = deque(state["losses"], maxlen=REMEMBERED)
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]

    def _reason(self, loss: float, grad_norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"its loss is {loss}"
        if not math.isfinite(grad_norm):
            return f"the norm of its gradient is {grad_norm}"
        if self.threshold is None or len(self.losses) < NEEDED:
            return None
        mean = math.fsum(self.losses) / len(self.losses)
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in self.losses) / len(self.losses))
        if loss > mean + self.threshold * max(deviation, 1e-6 * abs(mean)):
            return f"its loss, {loss:.3f}, lies far above the last ones ({mean:.3f} +- {deviation:.3f})"
        return None
