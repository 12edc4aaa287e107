"""How alike texts are by the words that they share: cosines of TF-IDF (Spärck Jones, 1972; Salton & Buckley, 1988)."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

WORD = re.compile(r"\w+")
DECIMALS = 4  # products of matrices differ from machine to machine, but hardly by this much


def word_vectors(texts: Sequence[str]) -> np.ndarray:
    """(N, W), of length 1 each: (1 + ln how often a word is in a text) x (1 + ln the share of texts that have it)."""
    counts = [Counter(WORD.findall(text.casefold())) for text in texts]
    shared = Counter(word for words in counts for word in words)
    columns = {word: column for column, word in enumerate(shared)}
    vectors = np.zeros((len(texts), len(columns)), np.float32)
    for row, words in zip(vectors, counts, strict=True):
        for word, count in words.items():
            row[columns[word]] = (1 + np.log(count)) * (1 + np.log(len(texts) / shared[word]))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)


def nearest_others(texts: Sequence[str], partners: Sequence[str], most: float) -> list[int | None]:
    """For each text the partner of another that is most like it, `None` if there is none.

    Args:
        texts, partners: N each; those of a number belong together.
        most: partners that are as like the text's own as this, or more, are taken for the same as that.
    """
    vectors = word_vectors([*texts, *partners])
    own, other = vectors[: len(texts)], vectors[len(texts) :]
    likeness = (own @ other.T).round(DECIMALS)
    likeness[(other @ other.T).round(DECIMALS) >= most] = -1  # with what belongs to the text itself
    np.fill_diagonal(likeness, -1)
    best = likeness.argmax(1)
    return [int(place) if row[place] >= 0 else None for row, place in zip(likeness, best, strict=True)]
