"""How far up the right candidate comes among all."""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from ...configuration.errors import InputError
from . import inputs
from .base import Metric


class RecallAtK(Metric):
    """`recall_at_k` for each k, the share of queries whose right candidate is among the first k, and `mrr`; in 0..1.

    `mrr` is the mean of 1 / rank (Voorhees 1999). Each query has one right candidate. Others that are just as similar
    come before it, or a model that finds everything alike would seem perfect. Only ranks are kept.

    Args:
        k: how many candidates are looked at, one number or several.
        others: as of [`Metric`].
    """

    prediction = reference = datasets.Value("int64")

    def __init__(self, k: int | Sequence[int] = (1, 5, 10), **others: Any):
        self.k = [k] if isinstance(k, int) else list(k)
        if not self.k or min(self.k) < 1:
            raise InputError(f"`k` must be one or several numbers from 1, not {k}.")
        super().__init__(**others)

    def prepare(self, predictions: Any, references: Any) -> tuple[np.ndarray, np.ndarray]:
        """Ranks (N,) from 1.

        Args:
            predictions: rows (N, C) of similarities, which may have another C in each batch; or the ranks.
            references: (N,), which of the candidates is right, from 0; of ranks, none.
        """
        given = inputs.array(predictions, "predictions")
        if given.size and given.ndim == 1:
            if references is not None:
                raise InputError("Ranks need no `references`, and similarities must be one row per query.")
            given = inputs.labels(given, "predictions")
            if given.min() < 1:
                raise InputError("The predictions must be ranks from 1, and there is 0.")
            return given, np.zeros_like(given)
        right = inputs.labels(references, "references")
        return ranks(inputs.rows(given, "predictions"), right), right

    def score(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        """`recall_at_1`, ... and `mrr`."""
        places = np.array(predictions)
        scores = {f"recall_at_{k}": float((places <= k).mean()) for k in self.k}
        return scores | {"mrr": float((1 / places).mean())}


def ranks(similarities: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Ranks (N,) from 1 of the right candidates; equally similar ones come before them.

    Args:
        similarities: (N, C).
        right: (N,), from 0.

    Raises:
        InputError: a candidate that there is not, or one of the two has more examples.
    """
    queries, candidates = similarities.shape
    if len(right) != queries:
        raise InputError(f"There are {queries} predictions for {len(right)} references.")
    if right.size and right.max() >= candidates:
        raise InputError(f"The references hold the candidate {right.max()}, of {candidates} that count from 0.")
    return (similarities >= np.take_along_axis(similarities, right[:, None], axis=1)).sum(axis=1)
