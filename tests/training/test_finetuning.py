"""The order of examples: all of them once a pass, another in each, like lengths together; and exact from any place."""

import numpy as np
import pytest

from trivium.configuration import InputError
from trivium.training import finetuning
from trivium.training.finetuning import ShuffledExamples


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.setattr(finetuning, "POOL", 60)
    monkeypatch.setattr(finetuning, "TOGETHER", 6)
    generator = np.random.default_rng(0)
    return [{"input_ids": [number] * int(generator.integers(1, 40)), "labels": 0} for number in range(200)]


def numbers(rows, start, stop):
    return [rows[index]["input_ids"][0] for index in range(start, stop)]


def test_a_pass_holds_every_example_once_and_the_next_has_another_order(examples):
    rows = ShuffledExamples(examples, seed=3)
    first, second = numbers(rows, 0, 200), numbers(rows, 200, 400)
    assert sorted(first) == sorted(second) == list(range(200)) and first != second
    assert numbers(ShuffledExamples(examples, seed=3), 130, 270) == [*first, *second][130:270]
    assert numbers(ShuffledExamples(examples, seed=4), 0, 200) != first
    assert numbers(ShuffledExamples(examples, seed=None), 0, 400) == [*range(200), *range(200)]


def test_batches_hold_about_one_length_and_come_in_no_order_of_lengths(examples):
    rows = ShuffledExamples(examples, seed=3)
    lengths = np.array([len(rows[index]["input_ids"]) for index in range(198)]).reshape(-1, 6)
    shuffled = np.random.default_rng(0).permutation(lengths.ravel()).reshape(-1, 6)
    assert np.ptp(lengths, axis=1).mean() < np.ptp(shuffled, axis=1).mean() / 3
    assert abs(np.corrcoef(np.arange(33), lengths.mean(1))[0, 1]) < 0.5


def test_a_checkpoint_of_other_examples_is_refused(examples):
    rows = ShuffledExamples(examples)
    rows.load_state_dict(rows.state_dict(7))
    with pytest.raises(InputError, match="3 features"):
        rows.load_state_dict({"rows": 7, "length": 3})
