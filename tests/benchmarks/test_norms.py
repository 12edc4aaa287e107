"""The ways of a norm are of one thing, and the command writes a line for each shape."""

import json

import torch

from benchmarks import norms


def test_ways_compute_the_same_and_the_table_has_every_shape(tmp_path, capsys):
    x, weight = torch.randn(5, 16), torch.randn(16)
    found = [way(x, weight) for name, way in norms.WAYS.items() if name != "LayerNorm"]
    for one in found[1:]:
        torch.testing.assert_close(one, found[0])
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(norms.WAYS["LayerNorm"](x, weight), norms.WAYS["ours"](centred, weight))
    norms.main(["--quick", "--repetitions", "2", "--output", str(tmp_path)])
    assert "| toy |" in capsys.readouterr().out
    assert all(
        len(times) == 2 for times in json.loads((tmp_path / "norms.json").read_text())["milliseconds"]["toy"].values()
    )
