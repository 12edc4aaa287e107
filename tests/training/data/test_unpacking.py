"""Compressed files, unpacked once: a stream goes on in their middle, and no more than is read lies on the disk."""

import bz2
import errno
import gzip
import io
import json
import logging
import lzma
import multiprocessing
import os
import time

import datasets
import pyarrow
import pytest

from trivium.configuration import InputError
from trivium.training.data import opening, parts, places, unpacking
from trivium.training.data.parts import Part
from trivium.training.data.readers import read_part
from trivium.training.data.sources import load_texts

from .test_readers import write_rows

ROWS = [f"document {number}, " + "words " * (number % 7) for number in range(2000)]
PART = 10_000
SUFFIXES = ["jsonl", "json", "csv"]
COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pyarrow.compress(content, "zstd", asbytes=True),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own: the folder of the copies."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for module in (parts, places, unpacking):
        monkeypatch.setattr(module, "PART_BYTES", PART)
    return tmp_path / "cache" / opening.UNPACKED


@pytest.fixture
def bytes_read(monkeypatch):
    """How many bytes are read of each file; grows."""
    counts = {}

    class Counted(io.FileIO):
        def readinto(self, buffer):
            size = super().readinto(buffer)
            counts[str(self.name)] = counts.get(str(self.name), 0) + size
            return size

    monkeypatch.setattr(opening, "open", lambda path, mode: io.BufferedReader(Counted(path)), raising=False)
    return counts


def compressed(folder, kind, compression=".gz", rows=ROWS):
    path = write_rows(folder / f"a.{kind}", rows)
    packed = folder / (path.name + compression)
    packed.write_bytes(COMPRESS[compression](path.read_bytes()))
    path.unlink()
    return packed


def stream(*paths):
    return load_texts([*map(str, paths)], held_out_fraction=0.01, streaming=True).train


def texts(source):
    return [document["text"] for document in source]


def state_after(source, count):
    """What a checkpoint keeps after so many documents."""
    read = iter(source)
    for _ in range(count):
        next(read)
    return json.loads(json.dumps(source.state_dict()))


def copies(cache):
    return [path for path in cache.glob("*") if path.suffix != ".lock"]


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("compression", [None, *COMPRESS])
def test_going_on_near_the_end_reads_a_part(tmp_path, bytes_read, kind, compression):
    if compression is None:
        path = write_rows(tmp_path / f"a.{kind}", ROWS)
    else:
        path = compressed(tmp_path, kind, compression)
    everything = texts(stream(path))
    state = state_after(stream(path), len(everything) - 3)
    places._Notes._of_this_process.clear()  # as another process has it
    again = stream(path)
    bytes_read.clear()
    again.load_state_dict(state)
    assert texts(again) == everything[-3:]
    assert sum(bytes_read.values()) <= PART + 3 * io.DEFAULT_BUFFER_SIZE


@pytest.mark.parametrize("read", [0, 1, 500, 1500])
@pytest.mark.parametrize("kind", SUFFIXES)
def test_going_on_is_exact_with_and_without_a_copy(tmp_path, cache, kind, read, monkeypatch):
    path = compressed(tmp_path, kind)
    everything = texts(stream(path))
    state = state_after(stream(path), read)
    again = stream(path)
    again.load_state_dict(state)
    assert texts(again) == everything[read:]
    (copy,) = copies(cache)
    copy.unlink()
    again.load_state_dict(state)
    assert texts(again) == everything[read:]
    monkeypatch.setattr(unpacking, "unpack", lambda path: None)
    again.load_state_dict(state)
    without = iter(again)
    middle = [next(without)["text"] for _ in range(300)]
    state = again.state_dict()
    monkeypatch.undo()
    monkeypatch.setattr(unpacking, "PART_BYTES", PART)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache.parent)
    last = stream(path)
    last.load_state_dict(state)
    assert middle + texts(last) == everything[read:]


def test_a_copy_that_disappears_is_made_again(tmp_path, cache):
    path = compressed(tmp_path, "jsonl")
    expected = texts(stream(path))
    found = []
    for number, document in enumerate(stream(path)):
        found.append(document["text"])
        if number % 500 == 0:
            copies(cache)[0].unlink()
    assert found == expected and len(copies(cache)) == 1


def test_a_file_is_unpacked_once_by_all_processes(tmp_path, cache, monkeypatch):
    path = str(compressed(tmp_path, "jsonl"))
    unpacked = tmp_path / "unpacked"
    unpack = unpacking._unpack

    def noted(path, copy):
        with unpacked.open("a") as file:
            file.write("once\n")
        time.sleep(0.2)
        unpack(path, copy)

    monkeypatch.setattr(unpacking, "_unpack", noted)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        sizes = pool.map(unpacking.unpack, [path] * 3, chunksize=1)
    assert len({*sizes}) == 1 and sizes[0] == copies(cache)[0].stat().st_size
    assert unpacked.read_text() == "once\n"


def test_copies_that_nobody_reads_make_room(tmp_path, cache):
    first, second, third = (compressed(tmp_path, "jsonl", name) for name in (".gz", ".bz2", ".xz"))
    for path in (first, second):
        unpacking.unpack(str(path))
    long_ago = time.time() - unpacking.KEPT_SECONDS - 10
    for copy in cache.iterdir():
        os.utime(copy, (long_ago, long_ago))
    opening.open_bytes(str(second)).close()  # so it is in use
    unpacking.unpack(str(third))
    kept = {opening.copy_of(str(path)) for path in (second, third)}
    assert {*copies(cache)} == kept


def test_a_full_disk_is_said_in_a_sentence_and_reading_goes_on(tmp_path, cache, monkeypatch, caplog):
    path = compressed(tmp_path, "jsonl")
    expected = texts(stream(path))
    copies(cache)[0].unlink()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpacking, "_copy", full)
    with caplog.at_level(logging.WARNING, unpacking.__name__):
        assert texts(stream(path)) == expected
    (record,) = caplog.records
    assert f"'{path}' does not fit on the disk unpacked" in record.getMessage() and not copies(cache)


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_compressed_file_that_is_cut_gives_what_is_before_the_cut(tmp_path, cache, compression):
    path = compressed(tmp_path, "jsonl", compression)
    path.write_bytes(path.read_bytes()[:-20])
    documents = stream_until_it_fails(path)
    assert documents == [row for row in ROWS if row in {*documents}]
    assert not copies(cache)


def stream_until_it_fails(path):
    found = []
    with pytest.raises(InputError, match="it cannot be read to its end"):
        for part in unpacking.parts_from(Part(str(path)), 0):
            for text in read_part(part, "text"):
                if isinstance(text, parts.Unreadable):
                    raise InputError(text.sentence())
                found.append(text)
    return found


def test_a_file_that_was_edited_is_unpacked_anew(tmp_path):
    path = compressed(tmp_path, "jsonl")
    assert texts(stream(path))
    other = [row.upper() for row in ROWS]
    compressed(tmp_path, "jsonl", rows=other)
    assert {*texts(stream(path))} <= {*other}
