"""What ours needs is read off its runs; everyone reads the same; the command writes a line for each stock model."""

import json
import math

import numpy as np
import pytest
import torch

from benchmarks import quality
from benchmarks.contenders import FAMILIES, OURS, SHAPES, build, stock
from benchmarks.quality import Run, tokens_needed


@pytest.mark.parametrize(
    "loss, tokens",
    [
        (5.0, 100),
        (4.0, 100),
        (3.5, 100 * math.sqrt(2)),
        (3.0, 200),
        (2.75, 200 * math.sqrt(2)),
        (2.5, 400),
        (2.4, None),
    ],
)
def test_tokens_are_read_off_the_line_between_runs(loss, tokens):
    runs = [Run(OURS, 0.01, count, end, 1.0) for count, end in ((200, 3.0), (100, 4.0), (400, 2.5))]
    assert tokens_needed(runs, loss) == (None if tokens is None else pytest.approx(tokens))


@pytest.mark.parametrize("family", FAMILIES)
def test_everyone_reads_the_same_and_nothing_of_what_is_held_out(family):
    first, second = (quality.Text(family, 4, 32, 4e3, quick=True) for _ in range(2))
    for one, other in zip(first.batches(3), second.batches(5), strict=False):
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert one["input_ids"].shape == (4, 32)
    assert first.steps(4 * first.row_tokens * 7) == 7
    everything = np.concatenate([first.held_out, first.rows])
    assert len(first.held_out) == quality.HELD_OUT and len(everything) == len(first.corpus.full_rows(32))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_each_predicted_token(family):
    text = quality.Text(family, 3, 32, 4e3, quick=True)
    model = build(OURS, family, SHAPES["toy"], 32)
    found = text.measure(model)
    total = count = 0.0
    for start in range(0, quality.HELD_OUT, 3):
        batch = text.corpus.full_batch(text.held_out[start : start + 3], seed=start)
        with torch.no_grad():
            logits, labels = model(**batch).logits, batch["labels"]
        if family == "decoder":
            logits, labels = logits[:, :-1], labels[:, 1:]
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        total, count = total + losses.sum().item(), count + (labels != -100).sum().item()
    assert found == pytest.approx(total / count, rel=1e-5)


def test_the_command_trains_all_and_writes_a_line_for_each(tmp_path, capsys):
    quality.main(
        ["--quick", "--family", "encoder", "--rates", "3e-3", "--shares", "0.5", "1", "--output", str(tmp_path)]
    )
    printed = capsys.readouterr().out
    (case,) = json.loads((tmp_path / "quality.json").read_text())["cases"]
    runs = [Run(*run) for run in case["runs"]]
    assert [run.model for run in runs] == [OURS, OURS, *stock("encoder")]
    assert runs[0].tokens < runs[1].tokens == runs[2].tokens
    assert all(run.loss < math.log(512) for run in runs), "each has learnt something"
    assert all(f"| encoder | {name} |" in printed for name in stock("encoder"))
