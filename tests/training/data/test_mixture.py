import json
import math

import numpy as np
import pytest

from trivium.configuration import InputError
from trivium.training.data.mixture import Mixture


class Numbers:
    """A source whose rows say which they are."""

    length = 4

    def __init__(self, rows, name="a"):
        self.rows, self.name, self.num_tokens = rows, name, 4 * rows

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        return {"input_ids": (self.name, row), "place": divmod(row, self.rows)}

    def state_dict(self, rows_read):
        return {"rows": rows_read}

    def load_state_dict(self, state):
        self.loaded = state["rows"]

    def token_counts(self, vocab_size):
        return np.full(vocab_size, self.rows)


def mixture(weights, seed=0):
    return Mixture({name: Numbers(10 + number, name) for number, name in enumerate(weights)}, weights, seed)


@pytest.mark.parametrize(
    "weights", [{"a": 1}, {"a": 1, "b": 1}, {"a": 0.7, "b": 0.2, "c": 0.1}, {"a": 1, "b": 0.003, "c": 2}], ids=str
)
def test_every_source_is_read_row_by_row_in_its_share(weights):
    mixed = mixture(weights)
    read = dict.fromkeys(weights, 0)
    for row in range(3000):
        assert mixed.rows_read(row) == read
        name, own = mixed[row]["input_ids"]
        assert own == read[name]  # none left out, none twice, in order
        read[name] += 1
        number = [*weights].index(name)
        assert mixed[row]["place"] == (number, *divmod(own, 10 + number))
    for name, weight in weights.items():
        assert read[name] == pytest.approx(3000 * weight / sum(weights.values()), abs=mixed._block / 2)


def test_any_row_is_found_without_those_before_it():
    rows = np.random.default_rng(0).permutation(2000)
    one, other = mixture({"a": 3, "b": 1}), mixture({"a": 3, "b": 1})
    assert [one[row] for row in range(2000)] == [x for _, x in sorted((row, other[row]) for row in rows.tolist())]


def test_another_seed_is_another_order_with_the_same_shares():
    one, other = mixture({"a": 3, "b": 1}), mixture({"a": 3, "b": 1}, seed=1)
    assert [one.locate(row) for row in range(500)] != [other.locate(row) for row in range(500)]
    assert one.rows_read(one._block * 7) == other.rows_read(one._block * 7)


def test_sources_without_weights_end_together():
    mixed = Mixture({"a": Numbers(1000, "a"), "b": Numbers(3000, "b")})
    assert len(mixed) == 4000
    assert mixed.rows_read(4000) == pytest.approx({"a": 1000, "b": 3000}, abs=100)
    assert mixed.token_counts(2).tolist() == [8000, 8000]


def test_state_brings_every_source_to_its_place():
    mixed = mixture({"a": 3, "b": 1})
    state = json.loads(json.dumps(mixed.state_dict(777)))
    fresh = mixture({"a": 3, "b": 1})
    fresh.load_state_dict(state)
    assert {name: source.loaded for name, source in fresh.sources.items()} == mixed.rows_read(777)
    with pytest.raises(InputError, match="the mixture is not the checkpoint's"):
        mixture({"a": 2, "b": 1}).load_state_dict(state)


@pytest.mark.parametrize("weight", [0, -1, "2", True, math.nan, math.inf])
def test_weights_must_be_positive_numbers(weight):
    with pytest.raises(InputError, match="needs a weight above 0 for each of a, b"):
        Mixture({"a": Numbers(1), "b": Numbers(1)}, {"a": 1, "b": weight})


@pytest.mark.parametrize("weights", [{"a": 1}, {"a": 1, "c": 1}], ids=str)
def test_weights_must_be_those_of_the_sources(weights):
    with pytest.raises(InputError, match="needs a weight above 0 for each of a, b"):
        Mixture({"a": Numbers(1), "b": Numbers(1)}, weights)


def test_streams_need_weights():
    streamed = Numbers(1)
    streamed.in_order = True
    with pytest.raises(InputError, match="give every source of the mixture a weight"):
        Mixture({"a": Numbers(1), "b": streamed})
