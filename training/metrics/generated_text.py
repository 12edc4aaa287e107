"""How near generated texts come to those that people wrote."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np

from ...configuration.errors import InputError
from . import inputs
from .base import Metric


class TextMetric(Metric):
    """Takes texts, and for each one reference or a list of them."""

    prediction = datasets.Value("string")
    reference = datasets.List(datasets.Value("string"))

    def prepare(self, predictions: Any, references: Any) -> tuple[list[str], list[list[str]]]:
        """Texts, and for each at least one reference."""
        accepted = inputs.accepted_texts(references, "references")
        if not all(accepted):
            raise InputError(f"Example {accepted.index([])} of a batch has no reference.")
        return inputs.texts(predictions, "predictions"), accepted


class ExactMatch(TextMetric):
    """`exact_match`: the share of texts that equal one of their references, in 0..1.

    Args:
        normalize: what is done to both before they are compared, such as `normalize_answer` of `answers.py`.
        others: as of [`Metric`].
    """

    def __init__(self, normalize: Callable[[str], str] = str.strip, **others: Any):
        self.normalize = normalize
        super().__init__(**others)

    def score(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        """`exact_match`."""
        matches = [
            self.normalize(text) in map(self.normalize, accepted)
            for text, accepted in zip(predictions, references, strict=True)
        ]
        return {"exact_match": float(np.mean(matches))}


class SacreMetric(TextMetric):
    """A score of a whole corpus by sacrebleu, with the signature that says how it was computed (Post 2018)."""

    libraries = ("sacrebleu",)
    called: str
    measure: Any

    def score(self, predictions: list[str], references: list[list[str]]) -> dict[str, Any]:
        """The score in 0..100 and the signature."""
        most = max(map(len, references))
        streams = [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]
        result = self.measure.corpus_score(predictions, streams)
        return {self.called: float(result.score), f"{self.called}_signature": str(self.measure.get_signature())}


class Bleu(SacreMetric):
    """`bleu` of the corpus, in 0..100 as published, and `bleu_signature` (Papineni et al. 2002).

    Args:
        tokenize: how sacrebleu splits texts into words: "13a", "intl", "zh", "char", ...
        lowercase: whether case does not count.
        others: as of [`Metric`].
    """

    called = "bleu"

    def __init__(self, tokenize: str = "13a", lowercase: bool = False, **others: Any):
        super().__init__(**others)
        from sacrebleu.metrics import BLEU

        if tokenize not in BLEU.TOKENIZERS:
            raise InputError(f"`tokenize` is {tokenize!r}, and sacrebleu has {', '.join(BLEU.TOKENIZERS)}.")
        try:
            self.measure = BLEU(tokenize=tokenize, lowercase=lowercase)
        except (ImportError, RuntimeError) as error:
            raise InputError(f"sacrebleu does not tokenize as {tokenize!r}: {' '.join(str(error).split())}") from error


class ChrF(SacreMetric):
    """`chrf` of the corpus, in 0..100 as published, and `chrf_signature` (Popović 2015).

    Args:
        word_order: the longest word n-gram that counts beside characters; 0 is chrF, 2 is chrF++ (Popović 2017).
        lowercase: whether case does not count.
        others: as of [`Metric`].
    """

    called = "chrf"

    def __init__(self, word_order: int = 0, lowercase: bool = False, **others: Any):
        super().__init__(**others)
        from sacrebleu.metrics import CHRF

        self.measure = CHRF(word_order=word_order, lowercase=lowercase)


class Rouge(TextMetric):
    """`rouge1`, `rouge2`, `rougeL`, `rougeLsum`: means over texts of the F1, in 0..1, by rouge-score (Lin 2004).

    Of several references the best counts, for each score by itself. For `rougeLsum` sentences are told apart by line
    breaks, which are to be put in before.

    Args:
        use_stemmer: whether English words are cut down to their stems, as many papers do.
        tokenizer: splits a text into words. `None`, as published: runs of a-z and 0-9 in lower case, which leaves
            nothing of other scripts; `str.split` is one that does.
        others: as of [`Metric`].

    Raises:
        InputError: both are given; when computed, the tokenizer finds no word in any reference.
    """

    libraries = ("rouge_score",)

    def __init__(self, use_stemmer: bool = False, tokenizer: Callable[[str], list[str]] | None = None, **others: Any):
        super().__init__(**others)
        from rouge_score.tokenizers import DefaultTokenizer

        if tokenizer and use_stemmer:
            raise InputError("`use_stemmer` belongs to the words of a-z; a `tokenizer` does such things by itself.")
        self.tokenizer = SimpleNamespace(tokenize=tokenizer) if tokenizer else DefaultTokenizer(use_stemmer)

    def score(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        """Means of the four."""
        from rouge_score.rouge_scorer import RougeScorer

        if not any(self.tokenizer.tokenize(text) for accepted in references for text in accepted):
            raise InputError("Rouge finds no word in any reference; give a `tokenizer` for their script, as str.split.")
        names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
        scorer = RougeScorer(names, tokenizer=self.tokenizer)
        found = [scorer.score_multi(right, text) for text, right in zip(predictions, references, strict=True)]
        return {name: float(np.mean([scores[name].fmeasure for scores in found])) for name in names}
