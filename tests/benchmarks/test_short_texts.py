"""The benchmark of short documents compares like with like, and runs."""

import json

import pytest
import torch

from benchmarks import short_texts


@pytest.mark.parametrize("length", [16, 100])
def test_the_ways_compute_the_same(length):
    grads = [short_texts.make_step(length, 32, few)() for few in short_texts.WAYS.values()]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=0, atol=0.03 * float(other.abs().max()))


def test_it_leaves_its_results(tmp_path, capsys):
    short_texts.main(["--quick", "--repetitions", "2", "--output", str(tmp_path)])
    (entry,) = json.loads((tmp_path / "short-texts.json").read_text())["entries"]
    assert list(entry["seconds"]) == list(short_texts.WAYS) and all(len(s) == 2 for s in entry["seconds"].values())
    assert "times as fast" in capsys.readouterr().out
