"""The two ways to the gradients of attention agree, and are measured."""

import json

import pytest

from benchmarks import attention_gradients


@pytest.mark.parametrize("causal", [False, True])
def test_both_ways_give_the_same_gradients(causal, monkeypatch):
    monkeypatch.setattr(attention_gradients, "TOKENS", 240)
    first, second = (step() for step in attention_gradients.make_steps(32, 60, causal).values())
    for one, other in zip(first, second, strict=True):
        assert (one.float() - other.float()).norm() < 0.01 * one.float().norm()


def test_the_backward_pass_is_measured(tmp_path):
    attention_gradients.main(["--quick", "--repetitions", "2", "--output", str(tmp_path)])
    entries = json.loads((tmp_path / "attention-gradients.json").read_text())["entries"]
    assert len(entries) == 2
    for entry in entries:
        assert list(entry["seconds"]) == list(attention_gradients.WAYS)
        assert all(len(seconds) == 2 for seconds in entry["seconds"].values())
