import numpy as np
import pytest
import torch

from trivium.configuration import InputError
from trivium.training.metrics import load
from trivium.training.metrics.retrieval import ranks


def slow_rank(row, right):
    """Its place when all are sorted, itself the last of those that are as similar."""
    order = sorted(range(len(row)), key=lambda candidate: (-row[candidate], candidate == right))
    return order.index(right) + 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", [3, 1000])
def test_ranks_are_places_in_the_sorted_row(seed, values):
    generator = np.random.default_rng(seed)
    similarities, right = generator.integers(0, values, (40, 12)) / 7, generator.integers(0, 12, 40)
    places = [slow_rank(row.tolist(), candidate) for row, candidate in zip(similarities, right, strict=True)]
    assert ranks(similarities, right).tolist() == places
    expected = {f"recall_at_{k}": np.mean([place <= k for place in places]) for k in (1, 3, 12)}
    expected["mrr"] = np.mean([1 / place for place in places])
    metric = load("recall_at_k", k=[1, 3, 12])
    for start in range(0, 40, 13):
        batch = torch.tensor(similarities[start : start + 13]), torch.tensor(right[start : start + 13])
        metric.add_batch(predictions=batch[0], references=batch[1])
    assert metric.compute() == pytest.approx(expected)
    assert metric.compute(predictions=places) == pytest.approx(expected)


def test_a_model_that_finds_everything_alike_finds_nothing():
    found = load("recall_at_k").compute(predictions=np.ones((8, 100)), references=np.arange(8))
    assert found == pytest.approx({"recall_at_1": 0, "recall_at_5": 0, "recall_at_10": 0, "mrr": 0.01})


def test_the_example_of_the_definition_of_the_mean_reciprocal_rank():
    found = load("recall_at_k", k=2).compute(predictions=[3, 2, 1])
    assert found == pytest.approx({"recall_at_2": 2 / 3, "mrr": 11 / 18})


@pytest.mark.parametrize(
    ("predictions", "references", "sentence"),
    [
        ([[1, 2]], [2], "references hold the candidate 2, of 2 that count from 0"),
        ([[1, 2]], [-1], "there is -1"),
        ([[1, float("nan")]], [1], "must be finite, and there is nan in example 0"),
        ([[1, 2]], None, "references must be a list of numbers, not None"),
        ([1, 2], [0, 0], "Ranks need no `references`"),
        ([1, 0], None, "ranks from 1, and there is 0"),
        ([1.5], None, "whole numbers from 0, and there is 1.5"),
        ([[1, 2]], [1, 0], "There are 1 predictions for 2 references"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(predictions, references, sentence):
    with pytest.raises(InputError, match=sentence):
        load("recall_at_k").add_batch(predictions=predictions, references=references)


@pytest.mark.parametrize("k", [0, [], [5, -1]])
def test_k_counts_from_one(k):
    with pytest.raises(InputError, match="`k` must be"):
        load("recall_at_k", k=k)
