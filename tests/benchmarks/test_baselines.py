"""Answers of baselines are scored as by hand, and what is measured is kept."""

import json
from functools import partial

import pytest

from benchmarks import baselines
from trivium.training.corpora.catalogue import CORPORA

TEXTS = partial(baselines.measure_texts, metrics=("chrf",))
# How answers are measured, rows, answers to them, and scores by hand.
SCORED = [
    (
        baselines.measure_labels,
        [{"label": "a"}, {"label": "a"}, {"label": "b"}, {"label": "c"}],
        ["a", "b", "b", "b"],
        {"accuracy": 1 / 2, "macro_f1": (2 / 3 + 1 / 2 + 0) / 3},
    ),
    (
        baselines.measure_label_sets,
        [{"labels": ["a"]}, {"labels": ["a", "b"]}, {"labels": []}],
        [["a"], ["b"], ["a"]],
        {"micro_f1": 2 / 3, "macro_f1": (1 / 2 + 1) / 2, "subset_accuracy": 1 / 3},
    ),
    (baselines.measure_numbers, [{"score": 1}, {"score": 2}, {"score": 3}], [1, 3, 2], {"pearson": 0.5}),
    (
        baselines.measure_numbers_within,
        [{"subset": kind, "score": score} for kind, score in (("x", 1), ("y", 1), ("x", 2), ("y", 2))],
        [5, 9, 6, 8],
        {"x pearson": 1, "x spearman": 1, "y pearson": -1, "y spearman": -1},
    ),
    (
        baselines.measure_tags,
        [{"tags": ["B-X", "I-X", "O"]}, {"tags": ["B-Y"]}],
        [["B-X", "O", "O"], ["B-Y"]],
        {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "accuracy": 3 / 4},
    ),
    (
        baselines.measure_tags,
        [{"tags": ["N", "V"]}, {"tags": ["N"]}],
        [["N", "N"], ["N"]],
        {"accuracy": 2 / 3, "macro_f1": (4 / 5 + 0) / 2},
    ),
    (
        baselines.measure_answers,
        [{"answers": {"text": ["one two"]}}, {"answers": {"text": []}}],
        ["one", ""],
        {"exact_match": 1 / 2, "f1": (2 / 3 + 1) / 2},
    ),
    (baselines.measure_choices, [{"label": 0}, {"label": 2}], [0, 1], {"accuracy": 1 / 2}),
    (baselines.measure_ranks, [{}, {}, {}], [1, 4, 20], {"recall_at_1": 1 / 3, "recall_at_5": 2 / 3, "mrr": 1.3 / 3}),
    (TEXTS, [{"target": "the same text"}], ["the same text"], {"chrf": 100}),
    (TEXTS, [{"messages": [{"content": "hello"}, {"content": "xyz"}]}], ["hello"], {"chrf": 0}),
]


@pytest.mark.parametrize(("measure", "rows", "answers", "expected"), SCORED)
def test_answers_are_scored_as_by_hand(measure, rows, answers, expected):
    found = measure(rows, rows, answers)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_there_are_baselines_for_all_that_can_be_fetched():
    assert baselines.SETS.keys() == CORPORA.keys()


def write_set(folder, name, rows):
    (folder / name).mkdir(parents=True)
    for split, part in rows.items():
        (folder / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


@pytest.fixture
def data(tmp_path):
    rows = [{"text": text, "label": label} for text, label in (("good film", "kind"), ("bad film", "unkind"))]
    write_set(tmp_path, "sentiment", {"train": [*rows * 5, rows[0]], "test": rows})
    alike = [{"text": "a1", "text_pair": text, "score": 0.5, "subset": "words"} for text in ("b1", "c1")]
    write_set(tmp_path, "similarity", {"test": [*alike, alike[0] | {"score": 0.1}]})
    return tmp_path


def test_numbers_of_other_sets_stay_and_what_is_not_defined_is_none(data, capsys):
    path = data / "out" / "baselines.json"
    common = ["--data", str(data), "--json", str(path)]
    baselines.main(["sentiment", *common])
    first = json.loads(path.read_text())
    commonest, linear = first["sentiment"]["baselines"]
    assert (commonest["metrics"]["accuracy"], linear["metrics"]["accuracy"]) == (0.5, 1)
    assert first["sentiment"]["rows"] == {"train": 11, "test": 2}
    baselines.main(["similarity", *common])
    second = json.loads(path.read_text())
    assert second["sentiment"] == first["sentiment"]
    words, _ = second["similarity"]["baselines"]
    assert words["metrics"] == {"words pearson": None, "words spearman": None}
    printed = capsys.readouterr().out
    assert (
        "| TF-IDF of words but stop words | undefined | undefined |" in printed
        and "| the commonest label | 0.500 |" in printed
    )


@pytest.mark.parametrize(("names", "said"), [(["sentimnt"], "'sentimnt'"), (["topic"], "trivium fetch topic")])
def test_what_is_not_there_is_said_before_anything_is_measured(names, said, data, capsys):
    with pytest.raises(SystemExit):
        baselines.main(["sentiment", *names, "--data", str(data), "--json", str(data / "b.json")])
    assert said in capsys.readouterr().err and not (data / "b.json").exists()
