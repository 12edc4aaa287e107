"""Metrics of [`trivium.training.metrics`](../metrics/__init__.py), several at once."""

from collections.abc import Sequence
from typing import Any


def measure(names: Sequence[str], predictions: Any, references: Any) -> dict[str, float]:
    """What the metrics of these names say of predictions: numbers by name."""
    from ..metrics import load

    found: dict[str, float] = {}
    for name in names:
        found |= load(name).compute(predictions=predictions, references=references)
    return {name: value for name, value in found.items() if isinstance(value, int | float)}
