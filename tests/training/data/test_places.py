import csv
import json
import multiprocessing
import os
import random
import shutil
import tracemalloc
from contextlib import suppress

import datasets
import pytest

from trivium.training.data import arrays, opening, parts, places, tables
from trivium.training.data.readers import plan, read_part

from .test_readers import ROWS, write_rows


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, which lies beside what the process itself remembers."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / places.NOTES


def forget(cache=None):
    """Leaves what is noted to the cache alone, or to nobody."""
    places._Notes._of_this_process.clear()
    if cache:
        shutil.rmtree(cache, ignore_errors=True)


def set_part_bytes(monkeypatch, size):
    for module in (parts, places):
        monkeypatch.setattr(module, "PART_BYTES", size)


def as_said(records):
    return [record.finding() if isinstance(record, parts.Unreadable) else record for record in records]


def read(path):
    return [text for part in plan(str(path)) for text in read_part(part, "text")]


def in_parts(path, cache, rng):
    """What the parts hold in their order, read in it, in another one, and each without notes of others."""
    found = []
    for how in ("in order", "by chance", "without notes"):
        forget(cache)
        each = list(enumerate(plan(str(path))))
        if how == "by chance":
            rng.shuffle(each)
        texts = {}
        for number, part in each:
            if how == "without notes":
                forget(cache)
            elif rng.random() < 0.5:
                forget()
            texts[number] = as_said(read_part(part, "text"))
        found.append([text for number in sorted(texts) for text in texts[number]])
    return found


def csv_texts(path):
    """What the csv module makes of the column `text` of the whole file, and what is to be said of rows without one."""

    def text(row):
        if row and len(row) != len(header):
            return f"{where}its fields are {len(row)}, but the header has {len(header)}"
        text = row[header.index("text")] if row else None
        return f"{where}its byte 0xFF is not UTF-8" if "\udcff" in (text or "") else text

    texts = []
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file, strict=True)
        header = next(rows)
        while True:
            where = f"'{path}', line {rows.line_num + 1}: "
            try:
                texts.append(text(next(rows)))
            except csv.Error as error:
                texts.append(f"{where}it is no CSV ({error})")
            except StopIteration:
                return texts


def sizes(rng, length):
    """Of parts: some, and at most 40 of them."""
    return {length, rng.randrange(length // 2, length) + 1, *(-(-length // rng.randrange(2, 40)) for _ in range(3))}


@pytest.mark.parametrize("seed", range(15))
def test_the_parts_of_csv_hold_the_rows_of_the_whole_file(tmp_path, monkeypatch, cache, seed):
    rng = random.Random(seed)
    header = rng.choice([b"text", b"id,text", b'"id\n",text,"a ""b"""', b"\xef\xbb\xbftext,id"])
    pieces = [b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"a", b"words ", "é𝄞\u2028\x85".encode(), b" ", b"\0", b"\\"]
    pieces += [b'"a\nb",c\n', b"1,2\n", b'x,"y"\r\n'] * rng.choice([0, 1, 10]) + [b"\xff"] * (seed % 2)
    content = header + rng.choice([b"\n", b"\r", b"\r\n"]) + b"".join(rng.choices(pieces, k=rng.choice([5, 50, 200])))
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    expected = csv_texts(path)
    for size in sizes(rng, len(content)):
        set_part_bytes(monkeypatch, size)
        assert in_parts(path, cache, rng) == [expected] * 3


def random_value(rng, depth=0):
    if depth < 4 and rng.random() < 0.4:
        values = [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        return values if rng.random() < 0.5 else {str(number): value for number, value in enumerate(values)}
    text = "".join(rng.choices('ab"\\[]{},:é𝄞\ud83d\n\t /\u2028', k=rng.choice([0, 3, 40])))
    return rng.choice([text, text, 0, -17, 1.5e300, -1e-7, 10**30, True, False, None, float("inf")])


def random_array(rng):
    """The texts of an array of random records, and the array, with blanks wherever there may be some."""
    records, texts = [], []
    for _ in range(rng.choice([0, 1, 2, 20])):
        text = "".join(rng.choices('ab"\\[]{},é𝄞\n', k=rng.choice([0, 3, 40])))
        record = rng.choice([text, {"text": text}, {"other": random_value(rng), "text": text, "id": random_value(rng)}])
        encoded = json.dumps(record, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1]))
        records.append(encoded.encode("utf-8", "replace").decode())  # half of a surrogate pair needs an escape
        texts.append(text)

    def blank():
        return "".join(rng.choices(" \n\t\r", k=rng.choice([0, 0, 1, 30])))

    array = blank() + "[" + ",".join(blank() + record + blank() for record in records) + blank() + "]" + blank()
    return texts, rng.choice(["", "\ufeff"]) + array


def array_items(path, text):
    """What `json` makes of an array, or of as much of it as is whole before it stumbles, and what it says then."""
    try:
        return json.loads(text), []
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if error.lineno > 1 else ""
        last, said = error.pos, f"'{path}'{line}: it is no JSON ({error.msg} at column {error.colno})"
    for end in range(last, -1, -1):
        with suppress(ValueError):
            if text[end : end + 1] in (",", "]"):
                return json.loads(text[:end] + "]"), [said]
    return [], [said]


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("broken", ["", "cut", "garbage", "a comma", "changed", "lost"])
def test_the_parts_of_an_array_hold_its_items(tmp_path, monkeypatch, cache, seed, broken):
    rng = random.Random(seed)
    texts, array = random_array(rng)
    place = rng.randrange(array.index("[") + 1, len(array) + 1)
    array = {
        "": array,
        "cut": array[:place],
        "garbage": array + rng.choice(["x", "]", ",", "[]", "0", "\n\n{}", " " * 50 + "nothing"]),
        "a comma": array.rstrip().removesuffix("]") + rng.choice(["", " ", "\n" * 30]) + ",]",
        "changed": array[:place] + rng.choice('x,:"[]{}0-.eé\\\n') + array[place + 1 :],
        "lost": array[:place] + array[place + rng.choice([1, 2, 10]) :],
    }[broken]
    path = tmp_path / "a.json"
    path.write_bytes(array.encode())
    items, said = array_items(path, array.removeprefix("\ufeff"))
    try:
        expected = [item if isinstance(item, str) else item["text"] for item in items] + said
        assert not any("\ud800" <= letter <= "\udfff" for text in expected for letter in text)
    except (AssertionError, KeyError, TypeError):
        pytest.skip("as it happens it holds what is no text")
    assert broken or expected == texts
    for size in sizes(rng, len(array.encode())):
        set_part_bytes(monkeypatch, size)
        monkeypatch.setattr(arrays, "BLOCK_CHARACTERS", rng.choice([1, 5, 100, 1 << 20]))
        assert in_parts(path, cache, rng) == [expected] * 3


@pytest.fixture(params=["csv", "json"])
def rows_file(request, tmp_path, monkeypatch):
    set_part_bytes(monkeypatch, 700)
    return write_rows(tmp_path / f"a.{request.param}")


@pytest.mark.parametrize("notes", [b"", b"nothing\xff", b"[0, 700, 9\n[700, 9]\n[700,,]", b"[700[1400, 1500, 3]\n"])
def test_notes_that_are_broken_are_as_good_as_none(rows_file, cache, notes):
    assert read(rows_file) == ROWS
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    forget()
    file.write_bytes(notes)
    last = [*read_part(plan(str(rows_file))[-1], "text")]
    assert 0 < len(last) < 20 and last == ROWS[-len(last) :]
    assert read(rows_file) == ROWS
    assert file.read_bytes() == notes + whole


def test_notes_that_cannot_be_written_are_kept_by_the_process(rows_file, cache, monkeypatch):
    cache.parent.mkdir()
    cache.write_text("no folder")
    assert read(rows_file) == ROWS
    opened = []
    open_text = opening.open_text
    for module in (arrays, tables):
        monkeypatch.setattr(module, "open_text", lambda path, byte: opened.append(byte) or open_text(path, byte))
    assert read(rows_file) == ROWS
    assert len({*opened}) == len(plan(str(rows_file)))


def test_a_file_that_was_edited_is_read_anew(rows_file, cache):
    assert read(rows_file) == ROWS
    rows = [row * 2 for row in ROWS]
    write_rows(rows_file, rows)
    assert read(rows_file) == rows
    stamp = os.stat(rows_file)
    rows_file.write_bytes(rows_file.read_bytes().replace(b"words words", b"words,words"))
    os.utime(rows_file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert read(rows_file) == [row.replace("words words", "words,words") for row in rows]
    assert len([*cache.iterdir()]) == 3


def test_what_is_found_while_a_file_is_edited_is_not_noted(rows_file, cache):
    texts = read_part(plan(str(rows_file))[0], "text")
    next(texts)
    rows_file.write_bytes(rows_file.read_bytes() + b"\n")
    list(texts)
    assert not cache.exists()


def test_processes_share_their_notes(rows_file, cache):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(read, [rows_file] * 8, chunksize=1) == [ROWS] * 8
    (file,) = cache.iterdir()
    lines = file.read_bytes().splitlines()
    assert all(places.NOTE.fullmatch(line) for line in lines)
    assert {json.loads(line)[0] for line in lines} >= {part.start for part in plan(str(rows_file))[1:]}
    assert read(rows_file) == ROWS


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    peaks = []
    for count in (1_500, 6_000):
        path = write_rows(tmp_path / f"a.{kind}", ["words, and more, " * 300 + f"\n{n}" for n in range(count)])
        tracemalloc.start()
        assert sum(1 for part in plan(str(path)) for _ in read_part(part, "text")) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 10e6
