"""The ways to cap agree and are measured, at a toy size."""

import json

import pytest
import torch

from benchmarks import softcap


@pytest.mark.parametrize("padded", [True, False])
def test_ways_agree(padded):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 16, 4)
    mask = torch.ones(2, 1, 16, 16, dtype=torch.bool).tril() if padded else None
    torch.testing.assert_close(softcap.blocks(query, key, value, mask), softcap.eager(query, key, value, mask))


def test_ways_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(softcap, "measure_memory", lambda *case: 1.0)
    softcap.main(["--quick", "--repetitions", "2", "--output", str(tmp_path)])
    entries = json.loads((tmp_path / "softcap.json").read_text())["entries"]
    assert [entry["way"] for entry in entries] == list(softcap.WAYS) * 2
    assert all(len(entry["seconds"]) == 2 for entry in entries)
