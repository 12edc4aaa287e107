import json
import subprocess
import sys
from itertools import islice

import datasets
import numpy as np
import pytest

from trivium.configuration import InputError
from trivium.training.data import streaming
from trivium.training.data.streaming import StreamedDataset

LENGTH = 10


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(streaming, "STREAM_WINDOW_TOKENS", 200)
    monkeypatch.setattr(streaming, "BATCH_DOCUMENTS", 7)


SIZES = [*np.random.default_rng(5).integers(0, 60, 79).tolist(), 700]  # the last is longer than three windows


def documents(shards):
    """Document d is "d 0", "d 1", ..., as many words as its size."""
    for shard in shards:
        for number in range(shard, len(SIZES), 4):
            yield {"text": " ".join(f"{number}:{place}" for place in range(SIZES[number]))}


def stream(generate=documents):
    return datasets.IterableDataset.from_generator(generate, gen_kwargs={"shards": [0, 1, 2, 3]})


def tokenize(texts):
    return [[1000 * int(n) + int(p) for n, p in (word.split(":") for word in text.split())] for text in texts]


def rows_of(dataset, start, stop):
    return [{name: np.asarray(value).tolist() for name, value in dataset[row].items()} for row in range(start, stop)]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("packing", ["best-fit", "wrapped"])
def test_rows_hold_every_token_of_the_stream_once_a_pass(seed, packing):
    in_all = sum(SIZES)
    rows = rows_of(StreamedDataset(stream(), tokenize, LENGTH, seed=seed, packing=packing), 0, 3 * in_all // LENGTH)
    tokens = [token for row in rows for token in row["input_ids"]]
    counts = np.unique(tokens[: 2 * in_all], return_counts=True)[1]
    assert len(counts) == in_all and counts.sum() == 2 * in_all and counts.max() <= 3  # windows straddle the passes
    for row in rows:
        assert len(row["input_ids"]) == LENGTH
        for token, before, position in zip(
            row["input_ids"][1:], row["input_ids"], row["position_ids"][1:], strict=False
        ):
            assert position == 0 or token == before + 1


@pytest.mark.parametrize("rows_read", [0, 1, 19, 20, 21, 39, 40, 200, 500])
def test_going_on_from_a_state_gives_exactly_the_rows_that_follow(rows_read):
    whole, first = (StreamedDataset(stream(), tokenize, LENGTH, seed=1) for _ in range(2))
    rows_of(first, 0, rows_read)
    state = json.loads(json.dumps(first.state_dict(rows_read)))
    second = StreamedDataset(stream(), tokenize, LENGTH, seed=1)
    second.load_state_dict(state)
    expected = rows_of(whole, 0, rows_read + 60)[rows_read:]
    assert rows_of(second, rows_read, rows_read + 60) == expected
    later = json.loads(json.dumps(second.state_dict(rows_read + 60)))
    third = StreamedDataset(stream(), tokenize, LENGTH, seed=1)
    third.load_state_dict(later)
    assert rows_of(third, rows_read + 60, rows_read + 90) == rows_of(whole, rows_read + 60, rows_read + 90)


def test_what_lies_behind_is_not_read_again():
    opened = []

    def watched(shards):
        for shard in shards:
            opened.append(shard)
            yield from documents([shard])

    first = StreamedDataset(stream(watched), tokenize, LENGTH)
    third_of_a_pass = sum(SIZES) * 5 // 8 // LENGTH
    rows_of(first, 0, third_of_a_pass)
    state = first.state_dict(third_of_a_pass)
    first._thread.shutdown()
    opened.clear()
    second = StreamedDataset(stream(watched), tokenize, LENGTH)
    second.load_state_dict(state)
    rows_of(second, third_of_a_pass, third_of_a_pass + 1)
    assert 0 not in opened


@pytest.mark.parametrize("read", [1, 10**9])
def test_a_stream_that_others_have_read_from_begins_at_its_beginning(read):
    texts = stream()
    list(islice(texts.iter(3), read))  # as who trains a tokenizer does
    rows = 2 * sum(map(len, tokenize([d["text"] for d in documents([0, 1, 2])]))) // LENGTH
    found, expected = (rows_of(StreamedDataset(source, tokenize, LENGTH), 0, rows) for source in (texts, stream()))
    assert found == expected


def test_rows_that_have_gone_by_and_empty_streams_are_said():
    dataset = StreamedDataset(stream(), tokenize, LENGTH)
    dataset[100]
    with pytest.raises(IndexError, match="row 3 of the stream has gone by"):
        dataset[3]
    with pytest.raises(InputError, match="the stream holds no tokens"):
        StreamedDataset(stream(lambda shards: iter([{"text": ""}])), tokenize, LENGTH)[0]
    with pytest.raises(InputError, match="rows had 20 tokens then, 10 now"):
        dataset.load_state_dict({"length": 20})


def test_tokens_read_are_counted():
    dataset = StreamedDataset(stream(), lambda texts: [[len(text) % 3] * 5 for text in texts], LENGTH)
    dataset[0]
    dataset._thread.shutdown()
    assert dataset.token_counts(5).sum() == dataset.num_tokens > 0


MILLION = """
import resource, sys, time
import datasets, numpy as np
sys.path.insert(0, {root!r})
from trivium.training.data.streaming import StreamedDataset

def documents(shards):
    for shard in shards:
        for number in range(1000):
            yield {{"text": f"{{shard}} {{number}} " + "word " * (number % 40)}}

def stream():
    return datasets.IterableDataset.from_generator(documents, gen_kwargs={{"shards": list(range({documents} // 1000))}})

tokenize = lambda texts: [[len(word) for word in text.split()] for text in texts]
dataset, rows = StreamedDataset(stream(), tokenize, 512), {documents} * 21 // 512
for row in range(rows):
    last = dataset[row]
state, tokens = dataset.state_dict(rows - 1), dataset.num_tokens
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
started = time.perf_counter()
again = StreamedDataset(stream(), tokenize, 512)
again.load_state_dict(state)
assert all(np.array_equal(again[rows - 1][name], last[name]) for name in ("input_ids", "position_ids"))
print(peak, tokens, time.perf_counter() - started)
"""


@pytest.mark.slow
def test_a_million_documents_stream_and_resume_in_the_memory_of_ten_thousand(request):
    root = str(request.config.rootpath)
    found = {}
    for count in (10_000, 1_000_000):
        code = MILLION.format(root=root, documents=count)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[count] = [float(value) for value in done.stdout.split()]
    assert found[1_000_000][0] < found[10_000][0] + 100  # MiB
    assert found[1_000_000][1] > 20_000_000
