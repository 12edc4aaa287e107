"""What is said of preparing data is of the documents that were asked for, at a toy size."""

import json

import datasets
import pytest

from benchmarks import packing, preparing
from benchmarks.preparing import Prepared

TEXTS = ["one two three", "four five", "six"]


@pytest.fixture(scope="module")
def tokenizer():
    return packing.make_tokenizer("decoder", TEXTS * 50, 300)


def test_documents_are_as_many_as_asked_and_drawn_from_all_texts(tmp_path):
    path = tmp_path / "texts.arrow"
    preparing.write_texts(path, preparing.AT_ONCE + 5, TEXTS)
    written = datasets.Dataset.from_file(str(path))["text"]
    assert len(written) == preparing.AT_ONCE + 5 and set(written) == set(TEXTS)


def test_a_process_counts_every_token_of_its_texts(tmp_path, tokenizer):
    path = tmp_path / "texts.arrow"
    preparing.write_texts(path, 700, TEXTS)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    prepared = preparing.measure(path, tmp_path / "tokenizer")
    assert prepared.tokens == sum(map(len, tokenizer([*datasets.Dataset.from_file(str(path))["text"]])["input_ids"]))
    assert prepared.tokenizing > 0 and prepared.packing > 0


def test_the_table_has_medians_and_compares_with_the_fewest_documents():
    few = [Prepared(4_000_000, 2.0, 2.0, 5.0), Prepared(4_000_000, 1.0, 1.0, 7.0), Prepared(4_000_000, 4.0, 4.0, 6.0)]
    line, more = preparing.make_table({1000: few, 10**6: [Prepared(8_000_000, 4.0, 12.0, 9.0)]}).splitlines()[2:]
    assert line == "| 1,000 | 4.0 | 2.00 | 2.0 | 1.00 (0.50-2.00) | **1.00** | 6 |"
    assert more == "| 1,000,000 | 8.0 | 2.00 | 0.7 | 0.50 (0.50-0.50) | **0.50** | 9 |"


def test_it_is_measured_in_turns_and_written_down(tmp_path, monkeypatch):
    page, order = tmp_path / "page.md", []
    page.write_text("before\n<!-- preparing -->\nold\n<!-- /preparing -->\nafter\n")
    monkeypatch.setattr(preparing, "corpora", lambda folder, quick: {"docstrings": {"text": TEXTS * 50}})
    monkeypatch.setattr(preparing, "VOCABULARY", 300)
    monkeypatch.setattr(preparing, "QUICK", {10: 2, 30: 1})
    measure = preparing.measure

    def watched(path, tokenizer):
        order.append(len(datasets.Dataset.from_file(str(path))))
        return measure(path, tokenizer)

    monkeypatch.setattr(preparing, "measure", watched)
    preparing.main(["--quick", "--output", str(tmp_path), "--write", str(page)])
    measured = json.loads((tmp_path / "preparing.json").read_text())["measured"]
    assert order == [10, 30, 10] and [len(measured["10"]), len(measured["30"])] == [2, 1]
    assert page.read_text().startswith("before") and "old" not in page.read_text()
