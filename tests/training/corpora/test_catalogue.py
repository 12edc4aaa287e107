"""What holds for every corpus: on miniatures of the packages, and, among the slow tests, on the real ones."""

import dataclasses
import json
from pathlib import Path

import pytest

from trivium.configuration import InputError
from trivium.training.corpora.catalogue import CHECKPOINTS, CORPORA
from trivium.training.corpora.corpus import choose_split
from trivium.training.corpora.packages import REGISTRIES, PackageCache

# How many rows the real sets have: bounds, since the packages of a stable Debian go on changing.
ROWS = {
    "sentiment": (9_500, 10_605),
    "valence": (10_000, 10_605),
    "topic": (12_000, 30_000),
    "tags": (20_000, 40_000),
    "addresses": (1_300, 1_600),
    "parts-of-speech": (55_000, 58_000),
    "man-errors": (1_500, 3_500),
    "verses": (30_000, 31_500),
    "glosses": (20_000, 60_000),
    "descriptions": (45_000, 75_000),
    "similarity": (2_224, 2_224),
    "translation": (20_000, 40_000),
    "translation-descriptions": (35_000, 70_000),
    "summaries": (45_000, 75_000),
    "dialogues": (7_000, 15_000),
}


def texts(value):
    """Every string in a row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def check(corpus, packages) -> dict[str, list[dict]]:
    """Holds the invariants of all corpora and returns the rows by split."""
    examples = list(corpus.examples(*(package.folder for package in packages)))
    groups: dict[str, set[str]] = {split: set() for split in corpus.shares}
    for group, row in examples:
        groups[choose_split(group, corpus.shares)].add(group)
        assert list(row) == list(corpus.columns)
        assert all(text and text == text.strip() for text in texts(row))
    lines = dataclasses.replace(corpus, examples=lambda *folders: examples).splits(packages)
    assert sum(map(len, lines.values())) == len(examples)
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) >= len(lines)
    if "tokens" not in corpus.columns:  # people write "Yes ." in more than one file
        assert len(set().union(*lines.values())) == len(examples)
    return {split: list(map(json.loads, of)) for split, of in lines.items()}


def check_kind(rows: list[dict]) -> None:
    """Holds what the columns of each kind of task promise."""
    for row in rows:
        if "tokens" in row:
            assert len(row["tokens"]) == len(row["tags"]) > 0
        if "choices" in row:
            assert len(row["choices"]) == len(set(row["choices"])) == 5 and 0 <= row["label"] < 5
        if "answers" in row:
            answers = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
            assert all(row["context"][start:].startswith(text) for text, start in answers)
        if "messages" in row:
            roles = [message["role"] for message in row["messages"]]
            assert roles == ["user", "assistant"] * (len(roles) // 2) != []
        if "labels" in row:
            assert row["labels"] == sorted(set(row["labels"])) != []


@pytest.mark.parametrize("name", CORPORA)
def test_rows_are_as_declared_and_splits_share_no_group(name, packages):
    rows = check(CORPORA[name], packages(CORPORA[name]))
    for split in rows.values():
        check_kind(split)


@pytest.mark.parametrize("name", CORPORA)
def test_a_set_is_the_same_every_time(name, packages, tmp_path):
    corpus = CORPORA[name]
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        corpus.write(folder, packages(corpus))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(f"{split}.jsonl" for split in corpus.shares)
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes() for file in files)


@pytest.mark.parametrize("name", [*CORPORA, *CHECKPOINTS])
def test_entries_say_what_they_are(name):
    entry = {**CORPORA, **CHECKPOINTS}[name]
    assert entry.summary and entry.terms and entry.license and "\n" not in entry.summary
    for source in entry.sources:
        assert source.registry in REGISTRIES
        assert source.files or source.registry == "Debian lists"
        # Where a registry keeps old versions, what was tested is what is fetched.
        assert source.registry.startswith("Debian") or "==" in source.requirement or "@" in source.requirement


def test_no_name_is_there_twice():
    assert not CORPORA.keys() & CHECKPOINTS.keys() and CORPORA.keys() == ROWS.keys()


@pytest.fixture(scope="module")
def real():
    """The real packages, kept between runs as those of the other slow tests are."""
    return PackageCache(Path(__file__).parents[3] / "build" / "packages")


@pytest.mark.slow
@pytest.mark.xdist_group("packages")
@pytest.mark.parametrize("name", CORPORA)
def test_the_real_set_has_about_as_many_rows_and_all_that_holds_of_the_small_one(name, real):
    corpus = CORPORA[name]
    try:
        packages = [real.get(source) for source in corpus.sources]
    except InputError as error:
        pytest.skip(str(error))
    rows = check(corpus, packages)
    least, most = ROWS[name]
    assert least <= sum(map(len, rows.values())) <= most
    for split, share in corpus.shares.items():
        assert 0.6 * share <= len(rows[split]) / sum(map(len, rows.values())) <= 1.5 * share
        check_kind(rows[split])
