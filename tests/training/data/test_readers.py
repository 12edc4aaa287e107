import csv
import gzip
import json
import random
import subprocess
import sys

import datasets
import pyarrow
import pytest
from pyarrow import ipc, parquet

from trivium.configuration import InputError
from trivium.training.data import lines, parts, places, tables
from trivium.training.data.parts import Unreadable
from trivium.training.data.readers import KINDS, Part, plan, read_part
from trivium.training.data.sources import load_texts

ROWS = [f"document {number}, 'é' and \"quotes\"\n" + "words " * (number % 7) for number in range(300)]


def write_rows(path, rows=ROWS, column="text"):
    """Writes a file of the kind that its suffix says, with a column beside."""
    records = [{"id": number, column: row} for number, row in enumerate(rows)]
    table = pyarrow.table({"id": range(len(rows)), column: rows})
    kind = path.name.removesuffix(".gz").split(".", 1)[1]
    if kind == "jsonl":
        content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    elif kind == "json":
        path.write_text(json.dumps(records, indent=1), encoding="utf-8")
    elif kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["id", column], *enumerate(rows)])
    elif kind == "parquet":
        parquet.write_table(table, path, row_group_size=40)
    else:
        new = {"stream.arrow": ipc.new_stream, "file.arrow": ipc.new_file}[kind]
        with new(str(path), table.schema) as writer:
            writer.write_table(table, 30)
    return path


def read(path, column="text"):
    return [record for part in plan(str(path)) for record in read_part(part, column)]


def problems(records):
    return [record for record in records if isinstance(record, Unreadable)]


@pytest.fixture(params=["a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.parquet", "a.stream.arrow", "a.file.arrow"])
def rows_file(request, tmp_path):
    return write_rows(tmp_path / request.param)


@pytest.fixture
def small_parts(monkeypatch):
    for module in (parts, places, tables):
        monkeypatch.setattr(module, "PART_BYTES", 700)


def test_every_kind_reads_the_same_whole_or_in_parts(rows_file, monkeypatch):
    assert read(rows_file) == ROWS
    for module in (parts, places, tables):
        monkeypatch.setattr(module, "PART_BYTES", 700)
    assert read(rows_file) == ROWS
    assert (len(plan(str(rows_file))) > 5) == (rows_file.suffix != ".gz")


@pytest.mark.parametrize("size", [1, 2, 3, 10, 11, 12, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_belongs_to_the_part_it_begins_in(tmp_path, monkeypatch, size, end):
    monkeypatch.setattr(parts, "PART_BYTES", size)
    path = tmp_path / "a.jsonl"
    rows = ["", "a", "é" * 20, "b" * 9]
    path.write_bytes(end.join(json.dumps({"text": row}, ensure_ascii=False) for row in rows).encode())
    assert read(path) == rows


@pytest.mark.parametrize("size", [9_000, 40_000, 1 << 24])
def test_pages_lose_nothing_and_break_no_character(tmp_path, monkeypatch, size):
    monkeypatch.setattr(parts, "PART_BYTES", size)
    text = "\n\n".join("äöü€𝄞"[number % 5] * (7_919 * (number % 4)) + str(number) for number in range(30))
    (tmp_path / "a.txt").write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode())
    assert "".join(read(tmp_path / "a.txt")) == text


BAD_LINES = {
    b'{"id": 1, "text": "cut': "it is no JSON (Unterminated string",
    b"nothing": "it is no JSON (Expecting value",
    b'{"text": "caf\xe9"}': "its byte 0xE9 is not UTF-8",
    b'{"text": "\\ud83d"}': "it has half of a surrogate pair",
    b'{"text": 7}': "column 'text' holds a number, not text",
    b'{"text": true}': "column 'text' holds a truth value, not text",
    b'{"text": ["a"]}': "column 'text' holds a list, not text",
    b'{"body": "a", "id": 1}': "it has no column 'text' (it has body, id)",
    b'["a"]': "it holds a list, not an object with the column 'text'",
    b"[" * 100_000: "it is no JSON that can be read",
    b'{"id": ' + b"1" * 5000 + b"}": "it is no JSON that can be read",
}


@pytest.mark.parametrize("bad", BAD_LINES, ids=lambda line: line[:20].decode(errors="replace"))
@pytest.mark.parametrize("compressed", [False, True])
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path, small_parts, bad, compressed):
    good = [json.dumps({"text": row}).encode() for row in ROWS]
    content = b"\n".join([*good[:150], b"", bad, *good[150:]])
    path = tmp_path / ("a.jsonl.gz" if compressed else "a.jsonl")
    path.write_bytes(gzip.compress(content) if compressed else content)
    records = read(path)
    (problem,) = problems(records)
    assert [record for record in records if record is not problem] == ROWS
    assert problem.sentence().startswith(f"'{path}', line 152: {BAD_LINES[bad]}")
    assert problem.sentence().endswith(", or leave out what cannot be read with --skip_bad true.")
    with pytest.raises(InputError) as error:
        load_texts(str(path))
    assert str(error.value) == problem.sentence()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.json", b'[\n{"text": "a"},\n{"text": 1}\n]', "', item 2: column 'text' holds a number"),
        ("a.json", b'[\n{"text": "a"},\n{"text": \n]', "', line 4: it is no JSON (Expecting value at column 1)"),
        ("a.json", b'["a"]\n["b"]', "', line 2: it is no JSON (Extra data at column 1)"),
        (
            "a.json",
            b'["a", {"text": "caf\xe9"}, "b"]',
            "', item 2: its byte 0xE9 is not UTF-8; convert the file to UTF-8",
        ),
        ("a.json", b'["a", {"caf\xe9": 1, "text": "b"}]', "', item 2: its byte 0xE9 is not UTF-8"),
        ("a.json", b'["a", \xe9]', "': its byte 0xE9 is not UTF-8"),
        ("a.json", b'["a", ' + b"1" * 5000 + b"]", "', item 2: it is no JSON that can be read"),
        ("a.json", b'["a", ' + b"[" * 100_000, "', item 2: it is no JSON that can be read"),
        ("a.csv", b"text,id\na,1\nb\nc,3\n", "', line 3: its fields are 1, but the header has 2"),
        ("a.csv", b'text,id\n"a\nb",1\nc,2,3\n', "', line 4: its fields are 3"),
        ("a.csv", b"text,id\na,1\ncaf\xe9,1\n", "', line 3: its byte 0xE9 is not UTF-8; convert the file to UTF-8"),
        ("a.csv", b'text,id\na,1\n"b,1\n', "', line 3: it is no CSV (unexpected end of data)"),
        ("a.txt", b"one\ntwo\ncaf\xe9 and more\nthree", "', line 3: its byte 0xE9 is not UTF-8"),
        ("a.txt", b"one\ncaf\xe9", "', line 2: its byte 0xE9 is not UTF-8"),
        ("a.txt", "one\ntwo".encode("utf-16"), "', line 1: its byte 0xFF is not UTF-8"),
        ("a.parquet", b"nothing", "': it cannot be read to its end (Parquet"),
        ("a.arrow", b"nothing", "': it cannot be read to its end ("),
        ("a.jsonl.gz", b"nothing", "': it cannot be read to its end (Not a gzipped file"),
    ],
)
def test_other_kinds_say_where_too(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    problem = problems(read(path))[0]
    assert problem.sentence().startswith(f"'{path}{sentence}") and "\n" not in problem.sentence()
    for streaming in (False, True):
        with pytest.raises(InputError) as error:
            load_texts(str(path), streaming=streaming)
        assert str(error.value) == problem.sentence()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_gives_what_is_before_the_cut(rows_file, share):
    content = rows_file.read_bytes()
    rows_file.write_bytes(content[: int(share * len(content))])
    *documents, problem = read(rows_file)
    assert documents == ROWS[: len(documents)]
    if rows_file.suffix != ".csv":  # a cut within a field that no quotes enclose does not show
        assert isinstance(problem, Unreadable) and str(rows_file) in problem.sentence()
    with pytest.raises(InputError):
        load_texts(str(rows_file), text_column="text" if problems([problem]) else "no")


@pytest.mark.parametrize("kind", ["parquet", "stream.arrow", "file.arrow"])
def test_a_column_that_is_no_text_is_named(tmp_path, kind):
    path = write_rows(tmp_path / f"a.{kind}")
    assert "column 'id' holds int64, not text; choose another" in read(path, "id")[0].sentence()
    assert "it has no column 'body' (it has id, text)" in read(path, "body")[0].sentence()


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_texts_may_be_of_any_of_arrows_kinds(tmp_path, kind):
    texts = pyarrow.array(["a", None, "b"])
    texts = texts.dictionary_encode() if kind == "dictionary" else texts.cast(getattr(pyarrow, kind)())
    with ipc.new_stream(str(tmp_path / "a.arrow"), pyarrow.schema({"text": texts.type})) as writer:
        writer.write_batch(pyarrow.record_batch({"text": texts}))
    assert read(tmp_path / "a.arrow") == ["a", None, "b"]


def test_a_file_that_is_gone_is_named(tmp_path):
    for suffix in KINDS:
        (problem,) = read_part(Part(str(tmp_path / f"gone{suffix}")), "text")
        assert "the file is gone; put it back" in problem.sentence()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_to_some_lines_the_others_are_read(tmp_path, small_parts, seed):
    """Bytes of some lines are overwritten, but for line ends; what json and utf-8 still take is good."""
    rng = random.Random(seed)
    content = []
    for row in ROWS:
        line = bytearray(json.dumps({"text": row}, ensure_ascii=rng.random() < 0.5).encode())
        for _ in range(rng.randrange(1, 9) if rng.random() < 0.3 else 0):
            line[rng.randrange(len(line))] = rng.choice([byte for byte in range(256) if byte != ord("\n")])
        content.append(bytes(line))
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(content))
    records = read(tmp_path / "a.jsonl")
    assert len(records) == len(ROWS)
    for record, line in zip(records, content, strict=True):
        try:
            expected = json.loads(line.decode())["text"]
            expected.encode()
        except (ValueError, KeyError, TypeError, AttributeError):
            assert isinstance(record, Unreadable)
        else:
            assert record == expected
    texts = load_texts(str(tmp_path / "a.jsonl"), held_out_fraction=0.2, skip_bad=True)
    kept = sorted(record for record in records if isinstance(record, str) and record.strip())
    assert sorted([*texts.train["text"], *texts.held_out["text"]]) == kept
    assert texts.skipped == {str(tmp_path / "a.jsonl"): len(problems(records))}


LARGE = """
import json, resource, sys
from trivium.training.data.sources import load_texts

path, how = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
texts = load_texts(path, held_out_fraction=0.5, **({how: True} if how else {}))
longest = max(len(example["text"]) for part in texts for example in part)
print(longest, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("jsonl", ""),
        ("jsonl", "streaming"),
        ("json", "streaming"),
        ("csv", "skip_bad"),
        ("parquet", ""),
        ("stream.arrow", "streaming"),
    ],
)
def test_a_document_of_100_mb_takes_a_few_times_its_size(tmp_path, kind, how):
    text = 'words, "quotes" and\nlines ' * (4 << 20)
    path = write_rows(tmp_path / f"a.{kind}", ["one", text, "two", "three"])
    result = subprocess.run([sys.executable, "-c", LARGE, path, how], capture_output=True, text=True, check=True)
    longest, megabytes = map(float, result.stdout.split())
    assert longest == len(text) > 100e6
    assert megabytes < 12 * len(text) / 2**20


def test_the_pages_of_a_long_line_take_little(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"word " * 200_000)
    assert max(map(len, read(tmp_path / "a.txt"))) <= 3 * lines.PAGE_CHARACTERS


def test_a_saved_dataset_holds_arrow_files(tmp_path):
    datasets.Dataset.from_dict({"text": ROWS}).save_to_disk(tmp_path / "saved", num_shards=3)
    found = [row for path in sorted((tmp_path / "saved").glob("*.arrow")) for row in read(path)]
    assert found == ROWS
