import json

import datasets
import pytest

from trivium.configuration import InputError
from trivium.training.arguments import DataArguments
from trivium.training.data.pair_texts import load_pairs

PAIRS = [{"en": f"word {number % 40}", "fr": f"mot {number}", "n": number} for number in range(100)]
KINDS = ["jsonl", "csv", "parquet", "arrow", "saved"]


def write(folder, kind, rows=PAIRS):
    pairs = datasets.Dataset.from_list(rows)
    path = folder / f"pairs.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "arrow":
        pairs.save_to_disk(folder / "saved")
        return str(next((folder / "saved").glob("*.arrow")))
    elif kind == "saved":
        pairs.save_to_disk(path)
    else:
        getattr(pairs, f"to_{kind}")(path)
    return str(path)


def load(path, target="fr", **more):
    return load_pairs(DataArguments(data=[path], text_column="en", held_out_fraction=0.1, **more), target)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_read_from_two_columns_and_equal_sources_stay_together(tmp_path, kind):
    train, held_out = load(write(tmp_path, kind))
    assert train.column_names == held_out.column_names == ["source", "target"]
    found = sorted((row["source"], row["target"]) for part in (train, held_out) for row in part)
    assert found == sorted((row["en"], row["fr"]) for row in PAIRS)
    assert not set(train["source"]) & set(held_out["source"]) and 0 < len(held_out) < len(train)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_pairs_with_a_blank_side_are_left_out_and_na_is_a_text(tmp_path, kind):
    rows = [*PAIRS, {"en": " ", "fr": "a", "n": 1}, {"en": "a", "fr": "", "n": 1}, {"en": "NA", "fr": "NULL", "n": 1}]
    train, held_out = load(write(tmp_path, kind, rows))
    assert len(train) + len(held_out) == 101
    assert "NA" in {*train["source"], *held_out["source"]}


@pytest.mark.parametrize(
    ("content", "target", "more", "sentence"),
    [
        (PAIRS, "de", {}, "has no column 'de': it has en, fr, n"),
        (PAIRS, "n", {}, "column 'n' of .* holds int64, not text"),
        (PAIRS, "fr", {"streaming": True}, "pairs are packed as a whole, so they cannot be streamed"),
        ([{"en": "one", "fr": "un"}] * 3, "fr", {}, "all pairs read the same text"),
        ([{"en": "one", "fr": " "}], "fr", {}, "holds no text"),
    ],
)
def test_what_cannot_be_pairs_is_said(tmp_path, content, target, more, sentence):
    with pytest.raises(InputError, match=sentence):
        load(write(tmp_path, "jsonl", content), target, **more)


def test_text_files_and_missing_files_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("one\ttwo")
    with pytest.raises(InputError, match=r"has no columns: give pairs as \.jsonl"):
        load(str(tmp_path / "a.txt"))
    with pytest.raises(InputError, match="does not exist"):
        load(str(tmp_path / "b.jsonl"))
