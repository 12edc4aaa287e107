"""The benchmarks run, at toy sizes; what they measure there means nothing."""

import json

import pytest
import torch

from benchmarks import inference, linear_cross_entropy, muon, report, training
from benchmarks.contenders import FAMILIES, SHAPES, build
from benchmarks.data import LAYOUTS, Corpus


@pytest.mark.parametrize("family", FAMILIES)
def test_contenders_have_the_same_shape_and_the_same_data(family):
    corpus = Corpus(family, vocabulary=512, max_documents=30)
    real, full = (corpus.batches(layout, rows=3, length=48, count=2) for layout in LAYOUTS)
    for batch in real:
        mask, positions = batch["peer"]["attention_mask"].bool(), batch["ours"]["position_ids"]
        assert (positions == 0).sum() == 3
        assert torch.equal(batch["peer"]["input_ids"][mask], batch["ours"]["input_ids"][0])
        labels = batch["peer"]["labels"]
        if family == "encoder-decoder":
            assert torch.equal(labels[labels != -100], batch["ours"]["labels"][0])
            assert batch["tokens"] == mask.sum() + (labels != -100).sum()
        else:
            assert torch.equal(labels[mask], batch["ours"]["labels"][0])
            assert batch["tokens"] == mask.sum()
    for batch in full:
        assert batch["ours"] is batch["peer"]
        assert batch["ours"]["input_ids"].shape == (3, 48)
    sizes = [sum(p.numel() for p in build(name, family, SHAPES["5m"], 48).parameters()) for name in training.CONTENDERS]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.03)


@pytest.mark.parametrize("memory", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_training_is_measured_and_written_down(memory, tmp_path):
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- training on cpu -->\nold\n<!-- /training on cpu -->\nafter\n")
    choice = ["--family", "encoder-decoder", "--data", "real lengths", "--repetitions", "2"]
    if not memory:
        choice.append("--no_memory")
    training.main(["--quick", *choice, "--output", str(tmp_path), "--write", str(page)])
    results = json.loads((tmp_path / "training-cpu.json").read_text())
    (entry,) = results["entries"]
    assert len(entry["speed"]["ratios"]) == 2
    assert all(value > 0 for name in training.CONTENDERS for value in entry["speed"][name]["tokens_per_second"])
    assert entry["memory"] is None if not memory else min(entry["memory"][name] for name in ("ours", "peer")) > 0
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    assert "| encoder-decoder (T5) | real lengths |" in text


@pytest.mark.parametrize("family", FAMILIES)
def test_inference_is_measured_on_what_both_sides_read(family, tmp_path):
    texts = [torch.arange(3, 3 + length) for length in (5, 2, 9)]
    rows, flat = inference.padded(texts, family), inference.flattened(texts)
    assert torch.equal(torch.cat(texts), flat["input_ids"][0]) and (flat["position_ids"] == 0).sum() == 3
    assert torch.equal(rows["input_ids"][rows["attention_mask"].bool()], flat["input_ids"][0])
    inference.main(["--quick", "--family", family, "--repetitions", "2", "--output", str(tmp_path)])
    entries = json.loads((tmp_path / "inference-cpu.json").read_text())["entries"]
    assert [entry["work"] for entry in entries] == [*inference.WORK[family]]
    assert all(len(entry["tokens_per_second"][name]) == 2 for entry in entries for name in training.CONTENDERS)


def test_a_decoder_reads_the_same_in_either_layout():
    model = build("ours", "decoder", SHAPES["toy"], 32).eval()
    texts = [torch.randint(3, 500, (length,)) for length in (5, 2, 9)]
    works = (inference.make_work(name, "decoder", "read", model, texts, 1) for name in training.CONTENDERS)
    flat, rows = (work().flatten(0, 1) for work in works)
    torch.testing.assert_close(flat, rows, atol=1e-5, rtol=0)


def test_ways_to_the_loss_agree_and_are_measured(tmp_path, monkeypatch):
    shape, losses = (40, 96, 8), []
    monkeypatch.setattr(linear_cross_entropy, "chunk_rows", lambda words: 16)
    torch.manual_seed(0)
    hidden, weight, labels = torch.randn(40, 8), torch.randn(96, 8), torch.randint(96, (40,))
    for way in linear_cross_entropy.WAYS.values():
        losses.append(way(hidden.requires_grad_(), weight.requires_grad_(), labels).item())
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-5)
    monkeypatch.setattr(linear_cross_entropy, "measure_memory", lambda *case: 1.0)
    monkeypatch.setattr(linear_cross_entropy, "QUICK", {"40 x 96": shape})
    linear_cross_entropy.main(["--quick", "--repetitions", "2", "--output", str(tmp_path)])
    entries = json.loads((tmp_path / "linear-cross-entropy.json").read_text())["entries"]
    assert len(entries) == 2 * len(linear_cross_entropy.WAYS)
    assert all(len(entry["seconds"]) == 2 for entry in entries)


def test_steps_of_muon_are_measured(tmp_path):
    muon.main(["--quick", "--repetitions", "2", "--output", str(tmp_path)])
    entries = json.loads((tmp_path / "muon.json").read_text())["entries"]
    assert [entry["way"] for entry in entries] == list(muon.WAYS)
    assert all(len(entry["seconds"]) == 2 for entry in entries)


def test_a_page_without_the_section_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(SystemExit, match="no section"):
        report.write_section(page, "loss on cpu", "text")
    assert page.read_text() == "nothing here"
