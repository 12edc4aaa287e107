"""The page of results holds the numbers that were measured, says what is missing, and keeps what people wrote."""

import json
from pathlib import Path

import pytest

from benchmarks import baselines, results
from trivium.training.corpora.catalogue import CORPORA

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "results.md"
WHERE = {"date": "2026-11-22", "device": "Some CPU", "threads": 1, "python": "3.11", "scikit-learn": "1.9"}
MEASURED = {
    "sentiment": {
        "machine": WHERE,
        "rows": {"train": 8000, "test": 900},
        "baselines": [
            {"baseline": "counting", "seconds": 1.5, "metrics": {"accuracy": 0.75, "macro_f1": 0.7, "micro_f1": 0.75}}
        ],
    },
    "similarity": {
        "machine": WHERE,
        "rows": {"train": 0, "test": 50},
        "baselines": [{"baseline": "nothing", "seconds": 0.0, "metrics": {"words pearson": None}}],
    },
}


def comparison(folder, data="data/sentiment", tested=900, metric="accuracy", also=(), **changes):
    row = {"model": "out/encoder", "examples": None, "parameters": 2_345_678, "split": "test", "seeds": 3}
    row |= {"mean": {"loss": 0.5, "accuracy": 0.81249, "macro_f1": 0.8}, "deviation": {"accuracy": 0.0104}} | changes
    result = {"task": "t", "data": [data], "metric": metric, "rows": [row, *(row | other for other in also)]}
    result |= {"ended": "2026-11-23T01:02:03+00:00", "machines": ["Other CPU"], "tested": [tested]}
    folder.mkdir(parents=True)
    (folder / "compare.json").write_text(json.dumps(result | {"versions": [{"trivium": "0.1", "torch": "2.13"}]}))
    return folder / "compare.json"


def section(text, name):
    return text.split(f"\n## {name}\n")[1].split("\n## ")[0]


@pytest.fixture
def write(tmp_path):
    (tmp_path / "baselines.json").write_text(json.dumps(MEASURED))
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "results.md"

    def write(*runs, measured=("--baselines", str(tmp_path / "baselines.json"))):
        runs = ["--runs", *map(str, runs)] if runs else []
        results.main([*measured, *runs, "--write", str(page)])
        return page.read_text()

    return write


def test_baselines_and_models_stand_in_one_table(write, tmp_path):
    found = section(write(comparison(tmp_path / "a")), "sentiment")
    assert "|  | parameters | accuracy | F1, the mean over labels | seeds |" in found.splitlines()
    assert "| counting |  | 0.750 | 0.700 |  |" in found.splitlines()
    assert "| out/encoder | 2.3 M | 0.812 ± 0.010 | 0.800 | 3 |" in found.splitlines()
    assert "8,000 rows to train on, 900 rows to test on." in found and "micro" not in found and "loss" not in found
    assert "Baselines: 2026-11-22, Some CPU, 1 thread, 1.5 s; python 3.11, scikit-learn 1.9." in found
    assert "2026-11-23; Other CPU; trivium 0.1, torch 2.13." in found and "command was not recorded" in found


def test_what_was_not_run_or_is_not_defined_is_said(write):
    text = write()
    assert text.count("Fine-tuned models: not run yet.") == len(CORPORA)
    assert text.count("Baselines: not run yet.") == len(CORPORA) - len(MEASURED)
    assert "| nothing | undefined |" in section(text, "similarity")


def test_a_command_is_given_as_it_was_recorded(write, tmp_path):
    path = comparison(tmp_path / "a")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"command": "trivium compare --task sentiment"}))
    assert "Models: `trivium compare --task sentiment`; 2026-11-23;" in write(path)


def test_other_rows_and_another_split_are_said(write, tmp_path):
    text = write(comparison(tmp_path / "a", tested=7, split="validation"))
    assert "tested on other rows than the baselines, 7" in text and "out/encoder (validation split)" in text


def test_models_of_several_comparisons_are_told_apart(write, tmp_path):
    runs = [comparison(tmp_path / name, data="data/sentiment/train.jsonl", examples=100) for name in ("whole", "lora")]
    found = section(write(*runs), "sentiment")
    assert "| `lora`: out/encoder | 2.3 M | 100 |" in found and "| `whole`: out/encoder | 2.3 M | 100 |" in found


def test_a_model_as_it_is_was_trained_on_no_examples(write, tmp_path):
    found = section(write(comparison(tmp_path / "a", also=[{"examples": 0, "seeds": 1}])), "sentiment")
    assert "| out/encoder | 2.3 M | 0 |" in found and "| out/encoder | 2.3 M |  |" in found


def test_plots_lie_beside_the_page_each_under_the_name_of_its_comparison(write, tmp_path):
    other = [{"model": "out/decoder"}]
    runs = [comparison(tmp_path / "a"), comparison(tmp_path / "b", also=other)]
    runs += [comparison(tmp_path / "c", data="data/sentiment-two", also=other)]
    for run in runs:
        run.with_name("compare.png").write_bytes(run.parent.name.encode())
    text = write(*runs)
    assert "![b](results/b.png)" in section(text, "sentiment") and "![a]" not in text
    kept = {path.name: path.read_text() for path in (tmp_path / "docs" / "results").glob("?.png")}
    assert kept == {"b.png": "b", "c.png": "c"} and "![c](results/c.png)" in section(text, "sentiment-two")


def test_models_of_one_comparison_stand_side_by_side(write, tmp_path):
    other = {"model": "out/decoder", "mean": {"accuracy": 0.9, "loss": 0.1}, "deviation": {}}
    written = {"mean": {"loss": 1.0, "chrf": 30.0}, "deviation": {"chrf": None}}
    runs = [
        comparison(tmp_path / "both", also=[other]),
        comparison(tmp_path / "written", "data/summaries", metric="loss", **written, also=[{"model": "out/third"}]),
        comparison(tmp_path / "alone", "data/topic"),
        comparison(tmp_path / "curve", "data/tags", also=[{"model": "out/encoder, from scratch"}]),
    ]
    text = section(write(*runs), "Which family suits which task")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == "|  | metric | out/encoder | out/decoder | out/third |"
    assert rows[2:] == [
        "| [sentiment](#sentiment) | accuracy | 0.812 ± 0.010 | **0.900** |  |",
        "| [summaries](#summaries) | chrF | **30.0** |  | **30.0** |",
    ]
    assert (tmp_path / "docs" / "results" / results.PLOT).stat().st_size > 5000


def test_without_arguments_the_page_is_that_of_what_was_kept(write, tmp_path):
    first = write(comparison(tmp_path / "a"))
    assert write(measured=()) == first
    more = write(comparison(tmp_path / "b", data="data/topic"), measured=())
    assert section(more, "sentiment") == section(first, "sentiment") and "out/encoder" in section(more, "topic")


def test_writing_again_changes_nothing_and_keeps_the_notes(write, tmp_path):
    path = comparison(tmp_path / "a")
    first = write(path)
    assert write(path) == first
    page = tmp_path / "docs" / "results.md"
    note = "Written by a person: $1 \\1\n\nand more.\n"
    page.write_text(first.replace("<!-- note on topic -->\n", f"<!-- note on topic -->\n{note}"))
    noted = page.read_text()
    assert note in section(noted, "topic") and write(path) == noted


def test_a_file_that_is_not_there_stops_before_the_page_is_touched(write, tmp_path, capsys):
    before = write()
    with pytest.raises(SystemExit):
        write(tmp_path / "none" / "compare.json")
    assert "none/compare.json" in capsys.readouterr().err and (tmp_path / "docs" / "results.md").read_text() == before


def test_the_document_has_a_section_and_the_baselines_of_every_set():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.startswith(results.INTRODUCTION)
    for name, labelled in baselines.SETS.items():
        rows = [line for line in section(text, name).splitlines() if line.startswith("| ")]
        assert [row.split(" | ")[0].removeprefix("| ") for row in rows[2:]][: len(labelled.baselines)] == [
            *labelled.baselines
        ]
