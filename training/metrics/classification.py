"""How often the label is the right one; one label per example, or several."""

from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import numpy as np

from ...configuration.errors import InputError
from . import inputs
from .base import Metric


class LabelMetric(Metric):
    """Takes one label per example, a whole number from 0, for predictions and references alike.

    Args:
        labels: how many labels there are, or their names in order; others are then refused. `None` = those that occur.
        others: as of [`Metric`].
    """

    prediction = reference = datasets.Value("int64")
    libraries = ("sklearn",)

    def __init__(self, labels: int | Sequence[str] | None = None, **others: Any):
        self.names = [str(number) for number in range(labels)] if isinstance(labels, int) else list(labels or [])
        super().__init__(**others)

    def prepare(self, predictions: Any, references: Any) -> tuple[np.ndarray, np.ndarray]:
        """Two arrays (N,); raises `InputError` for a label that there is not."""
        pair = inputs.labels(predictions, "predictions"), inputs.labels(references, "references")
        for values, what in zip(pair, ("predictions", "references"), strict=True):
            if self.names and values.size and values.max() >= len(self.names):
                raise InputError(f"The {what} hold the label {values.max()}, of {len(self.names)} that count from 0.")
        return pair


class Accuracy(LabelMetric):
    """`accuracy`: the share of labels that are right, in 0..1."""

    def score(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        """`accuracy`."""
        from sklearn.metrics import accuracy_score

        return {"accuracy": float(accuracy_score(references, predictions))}


class MatthewsCorrelation(LabelMetric):
    """`matthews_correlation`: the correlation of predicted and right labels, in -1..1; 0 where either is constant.

    What GLUE reports for CoLA. Matthews 1975; Gorodkin 2004 for more than two labels.
    """

    def score(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        """`matthews_correlation`."""
        from sklearn.metrics import matthews_corrcoef

        if len({*predictions, *references}) == 1:  # where scikit-learn gives 0 and a warning
            return {"matthews_correlation": 0.0}
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}


class AveragedMetric(LabelMetric):
    """A score of each label, over all labels: in 0..1, and 0 where it would divide by nothing.

    `macro_...` is the mean over labels, each weighing the same: those given, or those that occur as prediction or
    reference. `micro_...` counts examples; with one label per example it equals accuracy.

    Args:
        labels: as of [`LabelMetric`].
        positive: the label, by number or name, whose score is also given without a prefix: the one that is looked
            for, where there are two (as GLUE does for MRPC and QQP).
        per_label: whether the score of every label is given, with its name or number at the end.
        others: as of [`Metric`].
    """

    called: ClassVar[str]
    place: ClassVar[int]  # in what scikit-learn returns: precision, recall, F1

    def __init__(
        self,
        labels: int | Sequence[str] | None = None,
        positive: int | str | None = None,
        per_label: bool = False,
        **others: Any,
    ):
        super().__init__(labels, **others)
        known: Sequence[Any] = self.names if isinstance(positive, str) else range(len(self.names))
        if positive is not None and positive not in known and (self.names or isinstance(positive, str)):
            raise InputError(f"`positive` is {positive!r}, which is none of the `labels`: {', '.join(self.names)}.")
        self.positive = self.names.index(positive) if isinstance(positive, str) else positive
        self.per_label = per_label

    def score(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        """Macro and micro, then what was asked for."""
        from sklearn.metrics import precision_recall_fscore_support

        labels = list(range(len(self.names))) or sorted({*predictions, *references})
        given = dict(y_true=references, y_pred=predictions, labels=labels, zero_division=0)
        each = dict(zip(labels, precision_recall_fscore_support(**given)[self.place].tolist(), strict=True))
        micro = precision_recall_fscore_support(**given, average="micro")[self.place]
        scores = {f"macro_{self.called}": float(np.mean([*each.values()])), f"micro_{self.called}": float(micro)}
        if self.positive is not None:
            scores[self.called] = each.get(self.positive, 0.0)
        if self.per_label:
            names = dict(enumerate(self.names)) or {label: str(label) for label in labels}
            scores |= {f"{self.called}_{names[label]}": score for label, score in each.items()}
        return scores


class Precision(AveragedMetric):
    """`macro_precision`, `micro_precision`: of what was predicted as a label, the share that is right."""

    called, place = "precision", 0


class Recall(AveragedMetric):
    """`macro_recall`, `micro_recall`: of what has a label, the share that was found."""

    called, place = "recall", 1


class F1(AveragedMetric):
    """`macro_f1`, `micro_f1`: the harmonic mean of precision and recall, taken of each label before macro's mean."""

    called, place = "f1", 2


class MultiLabel(Metric):
    """`micro_f1`, `macro_f1`, `subset_accuracy` of examples that have any number of labels, in 0..1.

    An example is a row with 1 for each label that it has and 0 for each other. A label that is neither there nor
    predicted has an F1 of 0, as in scikit-learn, and the subset is right where the whole row is.
    """

    prediction = reference = datasets.List(datasets.Value("int8"))

    def prepare(self, predictions: Any, references: Any) -> tuple[list[list[int]], list[list[int]]]:
        """Rows (N, L) of 0 and 1."""
        return _zeros_and_ones(predictions, "predictions"), _zeros_and_ones(references, "references")

    def score(self, predictions: list[list[int]], references: list[list[int]]) -> dict[str, float]:
        """From the counts of each label; scikit-learn would take a single column for two classes."""
        widths = sorted({len(row) for row in predictions + references})
        if len(widths) > 1:
            raise InputError(f"All rows must have one width, the number of labels, not {widths[0]} and {widths[-1]}.")
        predicted, right = np.array(predictions, dtype=bool), np.array(references, dtype=bool)
        both = (predicted & right).sum(axis=0)
        either = predicted.sum(axis=0) + right.sum(axis=0)
        return {
            "micro_f1": float(2 * both.sum() / max(either.sum(), 1)),
            "macro_f1": float((2 * both / np.maximum(either, 1)).mean()),
            "subset_accuracy": float((predicted == right).all(axis=1).mean()),
        }


def _zeros_and_ones(values: Any, what: str) -> list[list[int]]:
    found = inputs.rows(values, what)
    other = found[(found != 0) & (found != 1)]
    if other.size:
        raise InputError(
            f"The {what} must be rows of 0 and 1, and there is {other[0]}; compare probabilities with 0.5."
        )
    return found.astype(np.int8).tolist()
