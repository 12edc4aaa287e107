"""The measurements of packing are what they say, at a toy size."""

import json

import datasets
import numpy as np
import pytest

from benchmarks import packing, report
from trivium.training.data.packing import PackedDataset

LENGTHS = np.array([3, 5, 40, 90])


@pytest.fixture(scope="module")
def texts():
    return datasets.Dataset.from_list([*packing.islice(packing.python_docs(), 40)]).select_columns("text")


@pytest.mark.parametrize("sides", [1, 2])
def test_padding_to_the_longest_is_counted_as_a_loop_would(sides, monkeypatch):
    monkeypatch.setattr(packing, "BATCH", 4)
    lengths = np.random.default_rng(1).integers(1, 50, (18, sides))
    order = np.random.default_rng(packing.SEED).permutation(18)[:16]
    padding = area = 0
    for start in range(0, 16, 4):
        for side in range(sides):
            batch = [lengths[index, side] for index in order[start : start + 4]]
            padding += sum(max(batch) - length for length in batch)
            area += 4 * max(batch)
    assert packing.padded_to_longest(lengths) == pytest.approx(padding / area) != 0


def test_documents_of_random_tokens_are_as_many_and_as_long_as_asked(tmp_path):
    packing.write_documents(tmp_path / "x.arrow", 2500, LENGTHS)
    rows = PackedDataset(datasets.Dataset.from_file(str(tmp_path / "x.arrow")), 16)
    assert len(rows.lengths) == 2500 and set(rows.lengths.tolist()) == set(LENGTHS.tolist())


def test_a_resumed_process_says_its_seconds_and_megabytes(tmp_path, capsys):
    path = tmp_path / "x.arrow"
    packing.write_documents(path, 300, LENGTHS)
    state = PackedDataset(datasets.Dataset.from_file(str(path)), 16, seed=packing.SEED).state_dict(1000)
    packing.print_resuming(str(path), 16, state)
    seconds, peak, own = map(float, capsys.readouterr().out.split())
    assert 0 < seconds < 10 and peak >= 0 and own < 100


@pytest.mark.skipif(not report.PROCESS.exists(), reason="nobody says what a process holds")
def test_pages_of_a_file_are_not_of_a_process_itself(tmp_path):
    size, path = 64, tmp_path / "x.npy"
    np.save(path, np.ones(size * 2**17))
    before = report.own_memory()
    mapped = np.load(path, mmap_mode="r")
    assert mapped.sum() == size * 2**17
    assert report.own_memory() - before < size / 4
    held = np.array(mapped)
    assert report.own_memory() - before == pytest.approx(held.nbytes / 2**20, rel=0.25)


def test_every_objective_is_measured_and_written_down(texts, tmp_path, monkeypatch):
    objectives = {"encoder": ["next-sentence"], "decoder": ["pairs"], "encoder-decoder": ["ul2", "pairs"]}
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- packing -->\nold\n<!-- /packing -->\nafter\n")
    monkeypatch.setattr(packing, "OBJECTIVES", objectives)
    monkeypatch.setattr(packing, "corpora", lambda folder, quick: {"docstrings": texts})
    monkeypatch.setattr(packing, "measure_resuming", lambda path, length, row: (1.0, 2.0, 3.0))
    packing.main(["--quick", "--repetitions", "1", "--output", str(tmp_path), "--write", str(page)])
    results = json.loads((tmp_path / "packing.json").read_text())
    padding = {f"{entry['family']} {entry['objective']}": entry["padding"] for entry in results["waste"]}
    assert padding.pop("decoder pairs") < 0.05 and not any(padding.values())
    assert all(0 <= entry[share] <= 1 for entry in results["waste"] for share in ("stock", "left out", "cut"))
    assert [entry["documents"] for entry in results["costs"]] == [100, 1000]
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    assert "| encoder-decoder, ul2 | docstrings | 64 |" in text
