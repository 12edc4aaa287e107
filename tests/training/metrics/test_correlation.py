import logging
import math
import statistics

import numpy as np
import pytest

from tests.training.metrics.examples import examples
from trivium.configuration import InputError
from trivium.training.metrics import load


def slow_ranks(values):
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 3, 50])
def test_correlations_are_those_of_the_definition(seed, count):
    predictions, references = examples("correlation", count, seed)
    references[0], references[1] = 0.25, 0.75  # two that differ
    expected = {
        "pearson": statistics.correlation(predictions, references),
        "spearman": statistics.correlation(slow_ranks(predictions), slow_ranks(references)),
    }
    assert load("correlation").compute(predictions=predictions, references=references) == pytest.approx(expected)


def test_what_grows_together_correlates_in_rank_alone():
    x = np.arange(1.0, 9)
    found = load("correlation").compute(predictions=x, references=-np.exp(x))
    assert found["spearman"] == pytest.approx(-1) and -0.95 < found["pearson"] < 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", ["predictions", "references"])
def test_numbers_that_are_all_equal_have_no_correlation_and_a_warning_says_so(what, caplog):
    given = {"predictions": [1.0, 2.0, 3.0], "references": [2.0, 2.5, 9.0]} | {what: [4.0] * 3}
    with caplog.at_level(logging.WARNING):
        found = load("correlation").compute(**given)
    assert found.keys() == {"pearson", "spearman"} and all(map(math.isnan, found.values()))
    assert caplog.messages == [f"All {what} are 4.0, so that there is no correlation: nan."]


def test_what_has_no_correlation_by_mistake_is_refused():
    metric = load("correlation")
    with pytest.raises(InputError, match="at least two examples"):
        metric.compute(predictions=[1.0], references=[1.0])
    with pytest.raises(InputError, match="The predictions must be finite, and there is nan in example 1 of a batch"):
        metric.compute(predictions=[1.0, math.nan], references=[1.0, 2.0])
