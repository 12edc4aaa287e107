"""Documents are read as `datasets` reads them, from whatever selection of however many chunks, here and elsewhere."""

import pickle

import datasets
import numpy as np
import pytest

from trivium.training.data.token_table import TokenTable

FEATURES = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})


def stored(rows):
    return datasets.Dataset.from_dict({"input_ids": rows}, features=FEATURES)


def draw(count, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 99, size).tolist() for size in generator.integers(0, 9, count)]


def on_disk(tmp_path):
    stored(draw(50)).save_to_disk(tmp_path / "saved")
    return datasets.load_from_disk(tmp_path / "saved")


MAKERS = {
    "one chunk": lambda _: stored(draw(20)),
    "chunks of several sizes": lambda _: datasets.concatenate_datasets([stored(draw(n, n)) for n in (1, 7, 30, 2)]),
    "mapped from a file": on_disk,
    "a slice": lambda _: stored(draw(40)).select(range(7, 29)),
    "a slice of chunks": lambda _: datasets.concatenate_datasets([stored(draw(9, n)) for n in range(4)]).select(
        range(5, 30)
    ),
    "a selection": lambda _: stored(draw(40)).select([3, 39, 0, 3, 8]),
    "a selection of chunks": lambda _: datasets.concatenate_datasets([stored(draw(9, n)) for n in range(4)]).shuffle(
        seed=1
    ),
    "nothing": lambda _: stored([]),
}


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("maker", MAKERS)
def test_documents_and_lengths_are_those_of_the_dataset(maker, sent, tmp_path):
    documents = MAKERS[maker](tmp_path)
    table = TokenTable(documents)
    if sent:
        assert len(table.lengths) == len(documents)  # what was looked up stays behind
        table = pickle.loads(pickle.dumps(table))
    expected = documents.with_format(None)["input_ids"][:]
    assert len(table) == len(expected)
    assert [table[number].tolist() for number in range(len(table))] == expected
    assert table.lengths.dtype == np.int32 and table.lengths.tolist() == [len(row) for row in expected]
    counted = np.bincount(np.concatenate([np.zeros(0, int), *map(np.array, expected)]).astype(int), minlength=99)
    assert table.counts(99).tolist() == counted.tolist()


def test_a_process_that_is_sent_a_table_gets_no_tokens(tmp_path):
    stored([list(range(1000))] * 1000).save_to_disk(tmp_path / "saved")
    table = TokenTable(datasets.load_from_disk(tmp_path / "saved"))
    assert table[999][-1] == 999
    assert len(pickle.dumps(table)) < 20_000
