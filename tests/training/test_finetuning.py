"""The order of examples: all of them once a pass, another in each, like lengths together; and exact from any place.
Weights that are frozen are cast once to measure with, and the answers stay the same."""

import numpy as np
import pytest
import torch

from tests.families import TRAINED_HEADS, draw_texts, main_outputs, make_model, padded
from trivium.configuration import InputError
from trivium.training import finetuning
from trivium.training.finetuning import ShuffledExamples, frozen_weights_cast
from trivium.training.lora import add_adapter


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


@pytest.mark.parametrize("head", [head for head in TRAINED_HEADS if head.task == "lm"], ids=str)
@torch.no_grad()
def test_frozen_weights_are_cast_once_and_come_back(head):
    model = make_model(head)
    batch = padded(draw_texts(head, model.config))
    auto = next(auto for auto, name in model.config.auto_classes.items() if name == type(model).__name__)
    tuned = add_adapter(model, auto, {"r": 4}).eval()
    before = dict(tuned.named_parameters())
    frozen = {
        name for name, value in before.items() if name.endswith("_proj.base_layer.weight") and not value.requires_grad
    }
    with frozen_weights_cast(tuned):
        assert all(value is before[name] for name, value in tuned.named_parameters())  # nothing is cast anyway
    with torch.autocast("cpu", torch.bfloat16):
        expected = main_outputs(tuned(**batch))
        with pytest.raises(KeyError), frozen_weights_cast(tuned):
            inside = dict(tuned.named_parameters())
            assert frozen and all(inside[name].dtype == torch.bfloat16 for name in frozen)
            assert model.get_input_embeddings().weight.dtype == torch.float32
            assert all(torch.equal(*pair) for pair in zip(main_outputs(tuned(**batch)), expected, strict=True))
            raise KeyError
    after = dict(tuned.named_parameters())
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
