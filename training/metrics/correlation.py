"""How predicted numbers go with the right ones."""

import logging
import math
from typing import Any

import datasets
import numpy as np

from ...configuration.errors import InputError
from . import inputs
from .base import Metric

logger = logging.getLogger(__name__)


class Correlation(Metric):
    """`pearson` and `spearman`, in -1..1: of the numbers, and of their ranks, where equal numbers share the mean rank.

    Where all predictions or all references are equal neither is defined: both are then `nan`, which no comparison
    takes for the best, and a warning says so. At least two examples are needed.
    """

    prediction = reference = datasets.Value("float64")
    libraries = ("scipy",)

    def prepare(self, predictions: Any, references: Any) -> tuple[np.ndarray, np.ndarray]:
        """Two arrays (N,) of finite numbers."""
        return inputs.numbers(predictions, "predictions"), inputs.numbers(references, "references")

    def score(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        """`pearson` and `spearman`."""
        from scipy.stats import pearsonr, spearmanr

        if len(predictions) < 2:
            raise InputError("A correlation needs at least two examples, and there is one.")
        for values, what in ((predictions, "predictions"), (references, "references")):
            if min(values) == max(values):
                logger.warning("All %s are %s, so that there is no correlation: nan.", what, values[0])
                return {"pearson": math.nan, "spearman": math.nan}
        return {
            "pearson": float(pearsonr(predictions, references).statistic),
            "spearman": float(spearmanr(predictions, references).statistic),
        }
