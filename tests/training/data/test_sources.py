import gzip
import json
import sys

import datasets
import pytest

from trivium.configuration import InputError
from trivium.training.data import corpus
from trivium.training.data.sources import PAGE_CHARACTERS, load_texts

ROWS = [f"document number {number}" for number in range(200)]


def all_texts(texts):
    return sorted([*texts.train["text"], *texts.held_out["text"]])


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def json_lines(rows, column="text"):
    return "".join(json.dumps({column: row, "other": 1}) + "\n" for row in rows)


@pytest.fixture(params=["jsonl", "jsonl.gz", "json", "csv", "parquet"])
def rows_file(request, tmp_path):
    path = tmp_path / f"rows.{request.param}"
    table = datasets.Dataset.from_dict({"text": ROWS, "other": [1] * len(ROWS)})
    if request.param == "jsonl":
        table.to_json(path)
    elif request.param == "jsonl.gz":
        path.write_bytes(gzip.compress(json_lines(ROWS).encode()))
    elif request.param == "json":
        path.write_text(json.dumps([{"text": row, "other": 1} for row in ROWS]))
    elif request.param == "csv":
        table.to_csv(path)
    else:
        table.to_parquet(path)
    return str(path)


def test_every_kind_of_file_gives_the_same_texts_and_the_same_split(rows_file):
    texts = load_texts(rows_file, held_out_fraction=0.1)
    assert all_texts(texts) == sorted(ROWS)
    assert texts.train.column_names == texts.held_out.column_names == ["text"]
    expected = [row for row in ROWS if __import__("zlib").crc32(row.encode()) <= 0.1 * 2**32]
    assert texts.held_out["text"][:] == expected
    assert 8 < len(expected) < 35


def test_files_globs_and_kinds_may_be_mixed(tmp_path):
    write(tmp_path / "a" / "1.jsonl", json_lines(ROWS[:50], "body"))
    write(tmp_path / "a" / "2.jsonl", json_lines(ROWS[50:100], "body"))
    note = write(tmp_path / "note.txt", "a page of text")
    texts = load_texts([str(tmp_path / "a" / "*.jsonl"), note], text_column="body", held_out_fraction=0.1)
    assert all_texts(texts) == sorted([*ROWS[:100], "a page of text"])


def test_a_long_text_file_is_read_in_pages_that_lose_nothing(tmp_path):
    paragraphs = [f"paragraph {number} " + "word " * (number % 300) + "\n\n" for number in range(400)]
    content = "\ufeff" + "".join(paragraphs) + "x" * (5 * PAGE_CHARACTERS)
    texts = load_texts(write(tmp_path / "long.txt", content), held_out_fraction=0.2)
    pages = all_texts(texts)
    assert len(pages) > 10 and max(map(len, pages)) <= 3 * PAGE_CHARACTERS
    assert sum(map(len, pages)) == len(content) - 1  # the byte order mark is no text
    assert all(page in content for page in pages)


def test_equal_texts_stay_on_one_side_and_blank_ones_are_left_out(tmp_path):
    rows = [*ROWS, *ROWS, "", "  \n", None]
    texts = load_texts(write(tmp_path / "twice.jsonl", json_lines(rows)), held_out_fraction=0.1)
    assert not set(texts.train["text"]) & set(texts.held_out["text"])
    assert all_texts(texts) == sorted(2 * ROWS)


def test_something_is_always_held_out(tmp_path):
    two = load_texts(write(tmp_path / "two.jsonl", json_lines(["one", "two"])), held_out_fraction=0.001)
    assert len(two.train) == len(two.held_out) == 1
    lone = load_texts(write(tmp_path / "lone.txt", "a lone text of eight words is cut"), held_out_fraction=0.2)
    assert lone.train["text"][0] + lone.held_out["text"][0] == "a lone text of eight words is cut"


def test_a_validation_split_is_held_out_whole(tmp_path):
    write(tmp_path / "set" / "train.jsonl", json_lines(ROWS[:3]))
    write(tmp_path / "set" / "validation.jsonl", json_lines(ROWS[3:5]))
    texts = load_texts(str(tmp_path / "set"))
    assert texts.train["text"][:] == ROWS[:3] and texts.held_out["text"][:] == ROWS[3:5]


def test_another_pythons_corpus_is_not_taken_from_the_cache(monkeypatch):
    def texts():
        return {text for part in load_texts("python-docs") for text in part["text"]}

    here = texts()
    other = [{"name": "a", "text": "one text"}, {"name": "b", "text": "another text"}]
    monkeypatch.setattr(corpus, "python_docs", lambda: iter(other))
    assert texts() == here
    monkeypatch.setattr(sys, "version", f"another {sys.version}")
    assert texts() == {"one text", "another text"}


def test_an_edited_file_is_read_again(tmp_path):
    path = tmp_path / "edited.txt"
    load_texts(write(path, "first words of the text"))
    assert "second" in " ".join(all_texts(load_texts(write(path, "second words of the text"))))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("gone.txt", None, "does not exist"),
        ("none/*.jsonl", None, "does not exist"),
        ("empty.csv", b"", "is empty"),
        ("blank.txt", b" \n\n ", "holds no text"),
        ("blank.jsonl", b"\n", "blank.jsonl"),
        ("text.pdf", b"%PDF", "is of no known kind: give .txt"),
        ("text.txt.gz", b"x", "is of no known kind"),
        ("column.jsonl", b'{"body": "a", "title": "b"}\n', "no column 'text': it has body, title"),
        ("number.jsonl", b'{"text": 1}\n{"text": 2}\n', "holds int64, not text"),
        ("null.jsonl", b'{"text": null}\n', "holds no text"),
        ("short.csv", b"text,other\na,1\nb\n", "line 3: its fields are 1, but the header has 2"),
        ("mixed.jsonl", b'{"text": "a"}\n{"text": 1}\n', "line 2: column 'text' holds a number, not text"),
        ("missing.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "line 2: it has no column 'text' (it has body)"),
        ("broken.jsonl", b'{"text": "a"}\n{"te', "line 2: it is no JSON"),
        ("broken.parquet", b"nothing", "cannot be read to its end (Parquet"),
        ("latin.txt", b"caf\xe9", "line 1: its byte 0xE9 is not UTF-8; convert"),
        ("latin.csv", b"text,other\ncaf\xe9,1\n", "line 2: its byte 0xE9 is not UTF-8; convert"),
        ("same.jsonl", b'{"text": "a"}\n{"text": "a"}\n', "all documents are alike"),
        ("word.txt", b"word", "one short document"),
    ],
)
def test_bad_files_are_named_in_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name if content is None else write(tmp_path / name, content)
    with pytest.raises(InputError) as error:
        load_texts(str(path))
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_other_bad_sources(tmp_path):
    write(tmp_path / "set" / "train.jsonl", json_lines(ROWS[:3]))
    with pytest.raises(InputError, match="no split 'test': it has train"):
        load_texts(str(tmp_path / "set"), data_split="test")
    with pytest.raises(InputError, match="is a folder"):
        load_texts([str(tmp_path), str(tmp_path)])
    with pytest.raises(InputError, match="'no/such-dataset' cannot be read"):
        load_texts("no/such-dataset")
    with pytest.raises(InputError, match="`data` is empty"):
        load_texts([])
    with pytest.raises(InputError, match="`held_out_fraction` must lie between 0 and 1"):
        load_texts("python-docs", held_out_fraction=1.0)
