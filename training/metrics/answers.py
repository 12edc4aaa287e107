"""Whether the answer to a question is, or nearly is, one of those that are accepted."""

import re
import string
from collections import Counter
from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np

from . import inputs
from .base import Metric

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


class SquadMatch(Metric):
    """`exact_match` and `f1` of extracted answers, in 0..1 (papers give them in percent).

    F1 is that of the words which an answer and an accepted one have in common; the best accepted answer counts. Both
    compare what [`normalize_answer`] leaves. A reference is the list of accepted answers, or SQuAD's dictionary with
    them under `text`; without any, the question is unanswerable and the right answer is the empty text (Rajpurkar et
    al. 2016, 2018). Where some questions are unanswerable and some not, the four scores by kind are given too, under
    the names of SQuAD's own script: `HasAns_exact`, `HasAns_f1`, `NoAns_exact`, `NoAns_f1`.
    """

    prediction = datasets.Value("string")
    reference = datasets.List(datasets.Value("string"))

    def prepare(self, predictions: Any, references: Any) -> tuple[list[str], list[list[str]]]:
        """Texts, and for each a list of them, which may be empty."""
        accepted = [
            answers["text"] if isinstance(answers, Mapping) and "text" in answers else answers
            for answers in inputs.examples(references, "references")
        ]
        return inputs.texts(predictions, "predictions"), inputs.accepted_texts(accepted, "references")

    def score(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        """Means over all questions, and over those of each kind."""
        pairs = [match(answer, accepted) for answer, accepted in zip(predictions, references, strict=True)]
        scores, answerable = np.array(pairs), np.array([bool(accepted) for accepted in references])
        exact, f1 = scores.mean(axis=0).tolist()
        found = {"exact_match": exact, "f1": f1}
        if answerable.any() and not answerable.all():
            for kind, chosen in (("HasAns", answerable), ("NoAns", ~answerable)):
                exact, f1 = scores[chosen].mean(axis=0).tolist()
                found |= {f"{kind}_exact": exact, f"{kind}_f1": f1}
        return found


def normalize_answer(text: str) -> str:
    """What of an answer counts: its words in lower case, without ASCII punctuation and English articles."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def match(answer: str, accepted: list[str]) -> tuple[float, float]:
    """Exact match and F1 of one answer; accepted answers of which nothing counts are left out, as if not given."""
    given = normalize_answer(answer)
    right = [text for text in map(normalize_answer, accepted) if text] or [""]
    return float(given in right), max(_f1(given.split(), words.split()) for words in right)


def _f1(words: list[str], right: list[str]) -> float:
    if not words or not right:
        return float(words == right)
    common = (Counter(words) & Counter(right)).total()
    return 2 * common / (len(words) + len(right))
