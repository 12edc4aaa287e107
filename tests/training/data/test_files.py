import functools
import json
import logging
import shutil
import zlib

import datasets
import pyarrow
import pytest
from pyarrow import ipc, parquet
from torch.utils.data import DataLoader

from trivium.configuration import InputError
from trivium.training.data import arrays, files, held_out, lines, parts, places, tables
from trivium.training.data.sources import load_texts

from .test_readers import ROWS, write_rows

FRACTION = 0.1
DOCUMENTS = [row for row in ROWS if row.strip()]
TRAIN = [row for row in DOCUMENTS if zlib.crc32(row.encode()) > FRACTION * 2**32]
HELD_OUT = [row for row in DOCUMENTS if zlib.crc32(row.encode()) <= FRACTION * 2**32]
KINDS = ["a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.parquet", "a.stream.arrow", "a.file.arrow"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    for module in (parts, places, tables):
        monkeypatch.setattr(module, "PART_BYTES", 5_000)


def folder(path, kind):
    """A local dataset of that kind, which `load_texts` takes by its folder."""
    whole = datasets.Dataset.from_dict({"text": ROWS, "id": range(len(ROWS))})
    if kind == "saved":
        whole.save_to_disk(path, num_shards=3)
    elif kind == "saved splits":
        datasets.DatasetDict({"train": whole, "test": whole}).save_to_disk(path)
    else:
        path.mkdir()
        for number in range(3):
            write_rows(path / f"train-{number}.jsonl", ROWS[number * 100 : number * 100 + 100])
        if kind == "with a card":
            (path / "README.md").write_text("---\nlicense: mit\n---\n")
    return str(path)


@pytest.fixture(params=[*KINDS, "a.txt", "saved", "saved splits", "folder", "with a card"])
def source(request, tmp_path):
    if request.param == "a.txt":
        (tmp_path / "a.txt").write_text("".join(row + "\n\n" for row in ROWS), encoding="utf-8")
        return str(tmp_path / "a.txt")
    if request.param in KINDS:
        return str(write_rows(tmp_path / request.param))
    return folder(tmp_path / "data", request.param)


def test_a_stream_holds_out_what_memory_mapped_data_does(source, monkeypatch):
    monkeypatch.setattr(lines, "PAGE_CHARACTERS", 100)
    mapped = load_texts(source, held_out_fraction=FRACTION)
    stream = load_texts(source, held_out_fraction=FRACTION, streaming=True)
    assert isinstance(stream.train, datasets.IterableDataset) and isinstance(stream.held_out, datasets.Dataset)
    assert [document["text"] for document in stream.train] == mapped.train["text"][:]
    assert stream.held_out["text"][:] == mapped.held_out["text"][:]
    if not source.endswith(".txt"):
        assert mapped.train["text"][:] == TRAIN and mapped.held_out["text"][:] == HELD_OUT


@pytest.mark.parametrize("read", [0, 1, 37, 99, 100, 101, 200])
def test_a_stream_goes_on_where_its_state_was_taken(source, monkeypatch, read):
    monkeypatch.setattr(lines, "PAGE_CHARACTERS", 100)
    everything = [document["text"] for document in load_texts(source, streaming=True).train]
    first = load_texts(source, streaming=True).train
    documents = iter(first)
    assert [next(documents)["text"] for _ in range(min(read, len(everything)))] == everything[:read]
    state = json.loads(json.dumps(first.state_dict()))  # a checkpoint is a file
    again = load_texts(source, streaming=True).train
    again.load_state_dict(state)
    assert [document["text"] for document in again] == everything[read:]


def count_records(monkeypatch, module, name):
    """A list that grows with each record that `name` reads."""
    records = []
    read = getattr(module, name)
    counted = functools.wraps(read)(lambda *arguments: (records.append(x) or x for x in read(*arguments)))
    monkeypatch.setattr(module, name, counted)
    return records


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("kind", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.parquet", "a.stream.arrow", "a.file.arrow"])
def test_going_on_in_the_middle_reads_no_more_than_a_part_again(tmp_path, monkeypatch, kind, noted):
    """Where the parts begin has been noted; without the notes what is before them is read, but gives no documents."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / kind
    path.write_text("".join(f"{row}\n\n" for row in ROWS)) if kind == "a.txt" else write_rows(path)
    monkeypatch.setattr(lines, "PAGE_CHARACTERS", 100)
    stream = files.stream_files([str(path)], "text").above(-1)
    everything = list(stream)
    documents = iter(stream)
    for _ in range(len(everything) - 2):
        next(documents)
    state = stream.state_dict()
    places._Notes._of_this_process.clear()  # as another process has it
    if not noted:
        shutil.rmtree(tmp_path / "cache" / places.NOTES, ignore_errors=True)
    counts = [
        count_records(monkeypatch, *what) for what in [(files, "read_part"), (tables, "_rows"), (arrays, "_items")]
    ]
    stream.load_state_dict(state)
    assert list(stream) == everything[-2:]
    assert all(len(records) < len(everything) / 3 for records in (counts if noted else counts[:1]))


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_workers_share_the_parts_and_epochs_shuffle_them(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for module in (parts, places):
        monkeypatch.setattr(module, "PART_BYTES", 1_000)
    stream = load_texts(str(write_rows(tmp_path / f"a.{kind}")), held_out_fraction=FRACTION, streaming=True).train
    loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sorted(document["text"] for document in loader) == sorted(TRAIN)
    stream.set_epoch(1)
    second = [document["text"] for document in stream]
    assert second != TRAIN and sorted(second) == sorted(TRAIN)


def test_what_a_stream_holds_out_is_bounded(tmp_path, monkeypatch):
    path = str(write_rows(tmp_path / "a.jsonl"))
    opened = []
    read_part = files.read_part
    monkeypatch.setattr(files, "read_part", lambda part, column: opened.append(part) or read_part(part, column))
    monkeypatch.setattr(held_out, "HELD_OUT_DOCUMENTS", 5)
    texts = load_texts(path, held_out_fraction=FRACTION, streaming=True)
    assert texts.held_out["text"][:] == HELD_OUT[:5] and len(opened) < len(files.plan(path))
    assert [document["text"] for document in texts.train] == TRAIN
    monkeypatch.setattr(held_out, "HELD_OUT_CHARACTERS", 1)
    assert len(load_texts(path, held_out_fraction=FRACTION, streaming=True).held_out) == 1


def test_a_stream_holds_something_out_of_little_and_its_validation_split_whole(tmp_path):
    def stream(rows, **arguments):
        path = write_rows(tmp_path / "a.jsonl", rows)
        texts = load_texts(str(path), held_out_fraction=0.001, streaming=True, **arguments)
        return [document["text"] for document in texts.train], texts.held_out["text"][:]

    (one,), (other,) = stream(["one", "two"])
    assert {one, other} == {"one", "two"}
    (start,), (end,) = stream(["a lone text of eight words is cut"])
    assert start + end == "a lone text of eight words is cut"
    with pytest.raises(InputError, match="all documents are alike"):
        stream(["a", "a"])
    with pytest.raises(InputError, match="holds no text"):
        stream(["", " \n"])
    (tmp_path / "set").mkdir()
    write_rows(tmp_path / "set" / "train.jsonl", ["one", "", "two"])
    write_rows(tmp_path / "set" / "validation.jsonl", ["three"])
    texts = load_texts(str(tmp_path / "set"), streaming=True)
    assert [document["text"] for document in texts.train] == ["one", "two"] and texts.held_out["text"][:] == ["three"]


def test_a_file_that_disappears_between_two_epochs(tmp_path):
    paths = [write_rows(tmp_path / f"{number}.jsonl", ROWS[number::2]) for number in range(2)]
    mapped = load_texts([*map(str, paths)], held_out_fraction=FRACTION)
    stream = load_texts([*map(str, paths)], held_out_fraction=FRACTION, streaming=True)
    before = mapped.train["text"][:]
    list(stream.train)
    paths[1].unlink()
    assert mapped.train["text"][:] == before
    with pytest.raises(InputError, match=r"1\.jsonl': the file is gone; put it back") as error:
        list(stream.train)
    assert "\n" not in str(error.value)


def test_what_cannot_be_read_is_left_out_counted_and_said_once_a_file(tmp_path, caplog):
    good, broken, cut = tmp_path / "good.jsonl", tmp_path / "broken.jsonl", tmp_path / "cut.parquet"
    write_rows(good, ROWS[:100])
    content = write_rows(broken, ROWS[100:200]).read_bytes().splitlines(keepends=True)
    broken.write_bytes(b"".join([*content[:50], b"{\n", b'{"text": 1}\n', b"\xff\n", *content[50:]]))
    cut.write_bytes(write_rows(tmp_path / "a.parquet", ROWS[200:]).read_bytes()[:-9])
    sources = [*map(str, (good, broken, cut))]
    for _ in range(2):  # the second time out of the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING, files.__name__):
            texts = load_texts(sources, held_out_fraction=FRACTION, skip_bad=True)
        assert sorted([*texts.train["text"], *texts.held_out["text"]]) == sorted(r for r in ROWS[:200] if r.strip())
        assert texts.skipped == {str(broken): 3, str(cut): 1}
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 2 and f"Left out 3 of '{broken}'" in said[0] and "line 51: it is no JSON" in said[0]
    stream = load_texts(sources, held_out_fraction=FRACTION, streaming=True, skip_bad=True)
    assert [document["text"] for document in stream.train] == texts.train["text"][:]
    with pytest.raises(InputError, match="holds no text"):
        load_texts(str(cut), skip_bad=True)


def test_a_corrupt_file_of_a_saved_dataset_is_named_or_left_out(tmp_path):
    path = folder(tmp_path / "data", "saved")
    broken = sorted((tmp_path / "data").glob("*.arrow"))[1]
    broken.write_bytes(b"nothing")
    with pytest.raises(InputError, match=broken.name):
        load_texts(path)
    texts = load_texts(path, skip_bad=True)
    assert texts.skipped == {str(broken): 1}
    kept = [row for row in ROWS[:100] + ROWS[200:] if row.strip()]
    assert sorted([*texts.train["text"], *texts.held_out["text"]]) == sorted(kept)


def test_what_the_readers_of_datasets_stumble_over_is_read(tmp_path):
    """Other columns of mixed types, and files whose other columns differ."""
    (tmp_path / "a.jsonl").write_text('{"text": "a", "id": 1}\n{"text": "b", "id": "two"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "c", "tags": {"x": 1}}\n')
    texts = load_texts(str(tmp_path / "*.jsonl"), held_out_fraction=0.3)
    assert sorted([*texts.train["text"], *texts.held_out["text"]]) == ["a", "b", "c"]
    (tmp_path / "a.csv").write_text('text,id\nNA,1\n007,2\n"a, b",3\n')
    texts = load_texts(str(tmp_path / "a.csv"), held_out_fraction=0.3)
    assert sorted([*texts.train["text"], *texts.held_out["text"]]) == ["007", "NA", "a, b"]


def test_kinds_with_short_and_with_large_strings_go_together(tmp_path):
    write_rows(tmp_path / "a.jsonl", ["a", "b"])
    parquet.write_table(
        pyarrow.table({"text": pyarrow.array(["c", "d"], pyarrow.large_string())}), tmp_path / "a.parquet"
    )
    texts = load_texts(str(tmp_path / "a.*"), held_out_fraction=0.3)
    assert sorted([*texts.train["text"], *texts.held_out["text"]]) == ["a", "b", "c", "d"]


def test_mixed_types_far_down_are_refused_not_written_as_json(tmp_path):
    row = json.dumps({"text": "a line\n" * 1000}) + "\n"
    (tmp_path / "a.jsonl").write_text(row * 2000 + '{"text": 1}\n' + row)
    with pytest.raises(InputError, match="line 2001: column 'text' holds a number, not text"):
        load_texts(str(tmp_path / "a.jsonl"))


def test_bytes_that_are_not_utf8_in_arrow_are_named(tmp_path):
    texts = pyarrow.array([b"good", b"caf\xe9"]).cast(pyarrow.binary()).view(pyarrow.string())
    with ipc.new_stream(str(tmp_path / "a.arrow"), pyarrow.schema({"text": pyarrow.string()})) as writer:
        writer.write_batch(pyarrow.record_batch({"text": texts}))
    with pytest.raises(InputError, match=r"a\.arrow': it cannot be read to its end \(Invalid UTF8"):
        load_texts(str(tmp_path / "a.arrow"))
