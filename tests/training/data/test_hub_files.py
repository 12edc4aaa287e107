"""Datasets of the Hub, streamed: our readers give what `datasets` does, and go on where they were."""

import bz2
import csv
import gzip
import io
import json
import logging
import lzma
import re

import datasets
import pyarrow
import pytest

from tests.hub.faults import FOREVER
from trivium.configuration import InputError
from trivium.training.data import arrays, files, opening, parts, places, streaming, unpacking
from trivium.training.data.hub_files import hub_files
from trivium.training.data.sources import load_texts

NAME = "ada/texts"
ROWS = [f"document {number} 'é' and \"quotes\", " + "words " * (number % 7) for number in range(3000)]
PART = 20_000
BLOCK = 5_000  # bytes that are fetched at once
COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
COMPRESS[".zst"] = lambda content: pyarrow.compress(content, "zstd", asbytes=True)
KINDS = ["train.jsonl", "train.json", "train.csv", "train.txt"]
COMPRESSED = ["train.jsonl.gz", "train.jsonl.zst", "train.json.xz", "train.csv.bz2", "train.txt.gz"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for module in (parts, places, unpacking):
        monkeypatch.setattr(module, "PART_BYTES", PART)
    monkeypatch.setattr(opening, "REMOTE_BLOCK", BLOCK)
    monkeypatch.setattr(arrays, "BLOCK_CHARACTERS", BLOCK)


@pytest.fixture
def online(hub, monkeypatch):
    """The loopback Hub, for `datasets` too."""
    for name, value in {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": False}.items():
        monkeypatch.setattr(datasets.config, name, value)
    hub.api().create_repo(NAME, repo_type="dataset")
    return hub


def content(name, rows=ROWS):
    """A file of the kind that its name says, with a column beside where there are columns."""
    suffix = re.search(r"\.(jsonl|json|csv|txt)", name)[1]
    records = [{"id": number, "text": row} for number, row in enumerate(rows)]
    if suffix == "jsonl":
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    elif suffix == "json":
        text = json.dumps(records, indent=1)
    elif suffix == "csv":
        file = io.StringIO(newline="")
        csv.writer(file).writerows([["id", "text"], *enumerate(rows)])
        text = file.getvalue()
    else:
        text = "".join(row + "\n" for row in rows)
    encoded = text.encode()
    return COMPRESS["." + name.rsplit(".", 1)[1]](encoded) if opening.compression(name) else encoded


def put(hub, path, data):
    hub.api().upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=NAME, repo_type="dataset")


def upload(hub, *names):
    for name in names:
        put(hub, name, content(name))


def stream(**arguments):
    return load_texts(NAME, streaming=True, held_out_fraction=0.01, **arguments).train


def documents(source):
    return [document["text"] for document in source]


@pytest.mark.parametrize("name", [*KINDS, *COMPRESSED])
def test_a_stream_holds_what_datasets_reads(online, name):
    upload(online, name, "validation" + name.removeprefix("train"))
    texts = load_texts(NAME, streaming=True)
    assert documents(texts.train) == ROWS and texts.held_out["text"][:] == ROWS[:1000]
    if not name.endswith(".zst"):  # for which `datasets` wants another library
        assert documents(datasets.load_dataset(NAME, split="train", streaming=True)) == ROWS
    assert hub_files(NAME, None)["train"].paths[0].endswith(name)


@pytest.mark.parametrize("rows_left", [1, 300, len(ROWS) - 700])
@pytest.mark.parametrize("name", [*KINDS, *COMPRESSED])
def test_going_on_fetches_a_part_and_a_block(online, name, rows_left):
    upload(online, name)
    source = stream()
    everything = documents(source)
    state = state_after(stream(), len(everything) - rows_left)
    places._Notes._of_this_process.clear()  # as another process has it
    again = stream()
    online.downloads.clear()
    again.load_state_dict(state)
    rest = iter(again)
    assert next(rest)["text"] == everything[-rows_left]
    fetched = sum(size for _, size in online.downloads)

    assert fetched <= (0 if opening.compression(name) else PART + 3 * BLOCK)
    assert documents(rest) == everything[len(everything) - rows_left + 1 :]


def state_after(source, count):
    """What a checkpoint keeps after so many documents."""
    read = iter(source)
    for _ in range(count):
        next(read)
    return json.loads(json.dumps(source.state_dict()))


def test_the_files_of_a_dataset_are_read_one_after_the_other(online):
    names = [f"data/train-{number}-of-3.jsonl{'.gz' if number == 1 else ''}" for number in range(3)]
    for number, name in enumerate(names):
        put(online, name, content(name, ROWS[number::3]))
    expected = [row for number in range(3) for row in ROWS[number::3]]
    put(online, "data/validation.jsonl", content("a.jsonl", ROWS[:1]))
    assert documents(load_texts(NAME, streaming=True).train) == expected
    source = load_texts(NAME, streaming=True).train
    for read in (1500, 2500):
        again = load_texts(NAME, streaming=True).train
        again.load_state_dict(state_after(source, read))
        assert documents(again) == expected[read:]
    source.set_epoch(1)
    assert sorted(documents(source)) == sorted(expected) != documents(source)


def test_planning_asks_once_for_a_folder_and_not_for_each_file(online):
    for number in range(30):
        put(online, f"data/train-{number:02}.jsonl", content("a.jsonl", ROWS[number * 100 : number * 100 + 100]))
    online.requests.clear()
    load_texts(NAME, streaming=True)
    listed = [path for method, path in online.requests if method == "POST" or "/tree/" in path]
    assert len(listed) < 6


def test_a_row_that_is_broken_is_named_by_its_line_or_left_out(online, caplog):
    broken = content("a.jsonl").splitlines(keepends=True)
    put(online, "train.jsonl", b"".join([*broken[:50], b"{\n", *broken[50:]]))
    with pytest.raises(InputError, match=r"train\.jsonl', line 51: it is no JSON"):
        documents(stream())
    with caplog.at_level(logging.WARNING, files.__name__):
        assert len(documents(stream(skip_bad=True))) > 0.9 * len(ROWS)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_network_that_fails_is_no_bad_row(online, skip_bad):
    upload(online, "train.jsonl")
    source = stream(skip_bad=skip_bad)
    online.inject(on="GET .*/resolve/.*jsonl", status=503, times=FOREVER)
    with pytest.raises(InputError, match=r"train\.jsonl' cannot be read: .*503") as error:
        documents(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("train.tsv", ""),
        ("train.parquet", ""),
        ("train.txt", "sample_by: paragraph"),
        ("train.json", "field: data"),
        ("train.csv", "sep: '|'"),
    ],
)
def test_what_our_readers_do_not_know_is_left_to_datasets(online, name, card):
    if card:
        header = f"configs:\n- config_name: default\n  data_files: {name}\n  {card}"
        put(online, "README.md", f"---\n{header}\n---\n".encode())
    put(online, name, b"text\n")
    assert hub_files(NAME, None) is None


def test_one_object_over_many_lines_is_left_to_datasets(online):
    put(online, "train.json", json.dumps({"text": ROWS}, indent=1).encode())
    assert hub_files(NAME, None) is None


def test_the_columns_that_a_card_declares_are_checked(online):
    features = "- name: id\n    dtype: int64\n  - name: text\n    dtype: string"
    put(online, "README.md", f"---\ndataset_info:\n  features:\n  {features}\n---\n".encode())
    upload(online, "train.jsonl")
    assert len(documents(stream())) > 0.9 * len(ROWS)
    with pytest.raises(InputError, match="holds int64, not text"):
        stream(text_column="id")
    with pytest.raises(InputError, match="no column 'body': it has id, text"):
        stream(text_column="body")


def test_the_lines_of_text_end_as_those_of_datasets(online):
    put(online, "train.txt", "\ufeffone\r\ntwo\rthree\n\nfour\u2028é\x85\n\rfive".encode())
    expected = [line for line in documents(datasets.load_dataset(NAME, split="train", streaming=True)) if line.strip()]
    put(online, "validation.txt", b"held out")
    assert documents(stream()) == expected


@pytest.mark.parametrize("name", KINDS)
def test_rows_of_a_stream_go_on_exactly(online, name, monkeypatch):
    monkeypatch.setattr(streaming, "STREAM_WINDOW_TOKENS", 5_000)
    upload(online, name)

    def rows():
        return streaming.StreamedDataset(stream(), lambda texts: [[*text.encode()] for text in texts], 100, seed=0)

    uninterrupted = rows()
    expected = [uninterrupted[number]["input_ids"].tolist() for number in range(1500)]
    first = rows()
    for number in range(1234):
        first[number]
    state = json.loads(json.dumps(first.state_dict(1234)))
    again = rows()
    again.load_state_dict(state)
    assert [again[number]["input_ids"].tolist() for number in range(1234, 1500)] == expected[1234:]
    for source in (uninterrupted, first, again):
        source._thread.shutdown()  # which reads on as long as the Hub is there
