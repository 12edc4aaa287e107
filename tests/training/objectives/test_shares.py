import itertools

import numpy as np
import pytest

from trivium.training.objectives.shares import proportions, round_at_random, share, share_spans


def feasible(total, least, most):
    """All integers between the limits that sum to the total, the slow way."""
    ranges = [range(low, high + 1) for low, high in zip(least, most, strict=True)]
    return {shares for shares in itertools.product(*ranges) if sum(shares) == total}


@pytest.mark.parametrize(
    ("weights", "least", "most"),
    [
        ([1, 1, 1], [0, 0, 0], [5, 5, 5]),
        ([10, 1, 1], [0, 0, 0], [2, 6, 6]),
        ([1, 2, 3, 4], [1, 0, 0, 2], [1, 4, 2, 3]),
        ([5, 0, 3], [0, 0, 1], [4, 0, 4]),
        ([7], [0], [9]),
    ],
)
def test_shares_sum_to_the_total_within_their_limits(weights, least, most):
    weights, least, most = np.array(weights), np.array(least), np.array(most)
    for total in range(least.sum(), most.sum() + 1):
        for seed in range(20):
            numbers = proportions(total, weights, least, most)
            assert numbers.sum() == pytest.approx(total)
            found = round_at_random(numbers, np.random.default_rng(seed))
            assert tuple(found.tolist()) in feasible(total, least, most)


def test_shares_are_proportional_on_average_and_never_off_by_one():
    weights = np.array([3, 10, 21, 66])
    generator = np.random.default_rng(0)
    drawn = np.array([share(17, weights, weights, generator) for _ in range(5000)])
    assert (np.abs(drawn - 0.17 * weights) < 1).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 0.17 * weights, atol=0.03)


def test_equal_documents_are_favoured_equally_often():
    generator = np.random.default_rng(0)
    lengths = np.full(8, 50)
    drawn = np.array([share(3, lengths, lengths, generator) for _ in range(4000)])
    np.testing.assert_allclose(drawn.mean(axis=0), 3 / 8, atol=0.03)


def test_spans_and_hidden_tokens_fit_together():
    generator = np.random.default_rng(0)
    for _ in range(500):
        lengths = generator.integers(1, 30, generator.integers(1, 12))
        spans = generator.integers(-2, 20)
        hidden = max(generator.integers(0, lengths.sum()), spans, 0)
        tokens, runs = share_spans(lengths, hidden, spans, generator)
        assert runs.sum() == min(max(spans, 0), (lengths // 2).sum())
        assert tokens.sum() <= hidden and (tokens[runs == 0] == 0).all()
        assert ((runs <= tokens) & (runs <= lengths - tokens)).all()
        assert tokens.sum() == hidden or (tokens == np.where(runs > 0, lengths - runs, 0)).all()
    assert share(9, np.array([2, 3]), np.array([1, 2]), generator).tolist() == [1, 2]


def test_a_limit_of_spans_per_document_holds():
    tokens, runs = share_spans(np.array([50, 1, 9, 2]), 12, 4, np.random.default_rng(0), most_spans=1)
    assert runs.tolist() == [1, 0, 1, 1] and tokens.sum() == 12
