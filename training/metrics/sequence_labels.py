"""Whether the spans that tags mark are the right ones: entities, chunks."""

import re
from typing import Any

import datasets

from ...configuration.errors import InputError
from . import inputs
from .base import Metric

BIO = re.compile(r"O|[BI](-.+)?")


class SequenceLabels(Metric):
    """`precision`, `recall` and `f1` of whole spans over all types, and `accuracy` of tags; in 0..1, by seqeval.

    A sequence is a list of tags in BIO: `B-PER` begins a span, `I-PER` goes on, `O` is outside. A span is right if
    beginning, end and type are; what would divide by nothing is 0. Positions that a model ignores are to be left out.

    Args:
        strict: `False`, what CoNLL-2003's own script does and papers report: an `I-` after `O` or after another type
            begins a span too. `True`: only `B-` does (IOB2), and such a tag belongs to no span.
        others: as of [`Metric`].
    """

    prediction = reference = datasets.List(datasets.Value("string"))
    libraries = ("seqeval",)

    def __init__(self, strict: bool = False, **others: Any):
        self.strict = strict
        super().__init__(**others)

    def prepare(self, predictions: Any, references: Any) -> tuple[list[list[str]], list[list[str]]]:
        """Lists of tags; raises `InputError` for what is no tag, or for two sequences that differ in length."""
        predicted, right = _sequences(predictions, "predictions"), _sequences(references, "references")
        for number, (one, other) in enumerate(zip(predicted, right, strict=False)):
            if len(one) != len(other):
                raise InputError(
                    f"Sequence {number} of a batch has {len(one)} predicted tags and {len(other)} right ones."
                )
        return predicted, right

    def score(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        """Over all types and sequences taken together."""
        from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
        from seqeval.scheme import IOB2

        if not any(references):
            raise InputError("SequenceLabels has nothing to measure: all sequences are empty.")
        how = dict(mode="strict", scheme=IOB2) if self.strict else {}
        measures = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
        scores = {
            name: float(measure(references, predictions, zero_division=0, **how)) for name, measure in measures.items()
        }
        return scores | {"accuracy": float(accuracy_score(references, predictions))}


def _sequences(values: Any, what: str) -> list[list[str]]:
    found = [inputs.examples(sequence, what) for sequence in inputs.examples(values, what)]
    for number, sequence in enumerate(found):
        for tag in sequence:
            if not isinstance(tag, str) or not BIO.fullmatch(tag):
                where = f"sequence {number} of a batch has {tag!r}"
                raise InputError(f"The {what} must be tags in BIO, such as B-PER, I-PER and O, and {where}.")
    return found
