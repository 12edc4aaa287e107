"""The nearest of other texts is found as a slow reimplementation finds it."""

import math
import re
from collections import Counter

import numpy as np
import pytest

from trivium.training.corpora.likeness import nearest_others, word_vectors

GENERATOR = np.random.default_rng(0)
WORDS = "the king went out into the field and said unto all his people that they shall see a light".split()
TEXTS = [" ".join(GENERATOR.choice(WORDS, GENERATOR.integers(3, 9))) for _ in range(24)]


def slow_cosine(one, other, texts):
    def vector(text):
        counts = Counter(re.findall(r"\w+", text.lower()))
        shared = {word: sum(word in re.findall(r"\w+", text.lower()) for text in texts) for word in counts}
        return {word: (1 + math.log(n)) * (1 + math.log(len(texts) / shared[word])) for word, n in counts.items()}

    a, b = vector(one), vector(other)
    product = sum(a[word] * b.get(word, 0) for word in a)
    return product / math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))


def test_cosines_are_those_of_a_slow_reimplementation():
    vectors = word_vectors(TEXTS)
    expected = [[slow_cosine(one, other, TEXTS) for other in TEXTS] for one in TEXTS]
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5)


@pytest.mark.parametrize("most", [0.3, 0.6, 2.0])
def test_the_nearest_is_another_that_is_not_as_good_as_the_own(most):
    texts, partners = TEXTS[:12], TEXTS[12:]
    for number, found in enumerate(nearest_others(texts, partners, most)):
        allowed = {
            other: slow_cosine(texts[number], partners[other], TEXTS)
            for other in range(12)
            if other != number and slow_cosine(partners[number], partners[other], TEXTS) < most
        }
        if found is None:
            assert not allowed
        else:
            assert allowed[found] == pytest.approx(max(allowed.values()), abs=1e-3)


def test_a_text_that_is_alone_or_empty_has_no_other():
    assert nearest_others(["a king"], ["the king"], 0.8) == [None]
    assert nearest_others(["a king", "..."], ["the king", "a field"], 0.8) == [1, 0]
