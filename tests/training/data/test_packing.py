import json

import datasets
import numpy as np
import pytest
from torch.utils.data import DataLoader

from trivium.configuration import InputError
from trivium.training.data.packing import PackedDataset
from trivium.training.data.tokenizing import tokenize_documents


@pytest.fixture(scope="module")
def raw(documents):
    return datasets.Dataset.from_dict({"text": documents})


def as_dataset(rows):
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    return datasets.Dataset.from_dict({"input_ids": rows}, features=features)


@pytest.mark.parametrize("length", [8, 13, 64, 1000])
def test_wrapped_rows_are_the_documents_one_after_the_other(raw, tokenizers, length):
    tokens = tokenize_documents(raw, tokenizers["decoder"], append_eos=True)
    stream = np.concatenate(tokens["input_ids"][:])
    packed = PackedDataset(tokens, length, packing="wrapped")
    assert packed.num_tokens == len(stream) and len(packed) == len(stream) // length
    items = list(packed)
    assert all(item["input_ids"].shape == item["position_ids"].shape == (length,) for item in items)
    np.testing.assert_array_equal(np.concatenate([item["input_ids"] for item in items]), stream[: len(packed) * length])


def marked(sizes):
    """Documents whose tokens tell where they come from: document d has the tokens 1000 d, 1000 d + 1, ..."""
    return as_dataset([list(range(1000 * number, 1000 * number + size)) for number, size in enumerate(sizes)])


@pytest.mark.parametrize("at_once", [1, 7, 2**20])
def test_windows_follow_the_shuffled_documents(monkeypatch, at_once):
    """However many lengths are added up at a time, and as checkpoints of earlier versions have it."""
    monkeypatch.setattr("trivium.training.data.packing.WINDOW_TOKENS", 40)
    monkeypatch.setattr("trivium.training.data.packing.COUNTED_AT_ONCE", at_once)
    sizes = np.random.default_rng(1).integers(0, 30, 60)
    packed = PackedDataset(marked(sizes), 8, seed=3, packing="wrapped")
    order = np.random.default_rng([3, 1]).permutation(60)
    stream = np.concatenate([np.arange(1000 * number, 1000 * number + sizes[number]) for number in order])
    for window in range(len(packed) // 5):
        rows = [packed[len(packed) + row]["input_ids"] for row in range(5 * window, 5 * window + 5)]
        assert sorted(np.concatenate(rows)) == sorted(stream[40 * window : 40 * window + 40])


def pieces_of(item):
    return np.split(item["input_ids"], np.flatnonzero(item["position_ids"] == 0)[1:])


@pytest.mark.parametrize("packing", ["best-fit", "wrapped"])
@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("length", [3, 8, 50])
@pytest.mark.parametrize("window_tokens", [1, 200, 2**22])
def test_every_token_of_a_pass_is_in_one_full_row(monkeypatch, packing, seed, length, window_tokens):
    monkeypatch.setattr("trivium.training.data.packing.WINDOW_TOKENS", window_tokens)
    sizes = np.random.default_rng(1).integers(0, 90, 60)
    packed = PackedDataset(marked(sizes), length, seed=seed, packing=packing)
    every = {token for row in packed.tokens.documents.with_format(None)["input_ids"] for token in row}
    for epoch in (0, 1):
        items = [packed[epoch * len(packed) + row] for row in range(len(packed))]
        assert [item["place"] for item in items] == [(epoch, row) for row in range(len(packed))]
        tokens = np.concatenate([item["input_ids"] for item in items])
        assert len(tokens) == len(set(tokens.tolist())) == sizes.sum() // length * length
        assert every.issuperset(tokens.tolist())
        for item in items:
            assert item["input_ids"].shape == item["position_ids"].shape == (length,)
            for piece in pieces_of(item):
                np.testing.assert_array_equal(piece, piece[0] + np.arange(len(piece)))  # of one document, in order


def test_best_fit_keeps_documents_whole_that_a_row_can_hold():
    sizes = np.random.default_rng(0).integers(1, 200, 2000)
    shares = {name: PackedDataset(marked(sizes), 256, packing=name).share_cut() for name in ("best-fit", "wrapped")}
    assert shares["best-fit"] < 0.01 < 0.3 < shares["wrapped"]


def test_each_pass_has_an_order_of_its_own_and_the_same_one_every_time():
    sizes = np.random.default_rng(0).integers(1, 30, 100)
    one, same, other = (PackedDataset(marked(sizes), 16, seed=seed) for seed in (3, 3, 4))
    rows = len(one)
    for index in (2 * rows - 1, 0, rows, 5):  # in any order
        np.testing.assert_array_equal(one[index]["input_ids"], same[index]["input_ids"])
    passes = [np.concatenate([packed[start + row]["input_ids"] for row in range(rows)])
              for packed, start in ((one, 0), (one, rows), (other, 0))]  # fmt: skip
    for number, tokens in enumerate(passes):
        assert not np.array_equal(tokens, passes[number - 1])
    one.set_epoch(1)
    np.testing.assert_array_equal(one[0]["input_ids"], same[rows]["input_ids"])


def test_rows_in_a_row_come_from_all_over_the_data():
    packed = PackedDataset(marked([20] * 500), 10, seed=0)
    documents = np.array([packed[row]["input_ids"][0] // 1000 for row in range(100)])
    assert len(set(documents)) > 80 and abs(documents.mean() - 250) < 50


def test_all_text_is_there_when_nothing_is_dropped():
    sizes = [30, 5, 12, 9]
    packed = PackedDataset(marked(sizes), 16, drop_last=False)
    tokens = np.concatenate([item["input_ids"] for item in packed])
    assert sorted(tokens) == sorted(
        token for row in packed.tokens.documents.with_format(None)["input_ids"] for token in row
    )
    assert sorted(len(item["input_ids"]) for item in packed) == [8, 16, 16, 16]


def test_state_names_the_data_and_refuses_other_data():
    packed = PackedDataset(marked([30, 20]), 10, seed=0)
    state = json.loads(json.dumps(packed.state_dict(4)))
    packed.load_state_dict(state)
    for other, sentence in (
        (PackedDataset(marked([30, 20, 1]), 10), "2 documents then, 3 now"),
        (PackedDataset(marked([30, 21]), 10), "50 tokens then, 51 now"),
        (PackedDataset(marked([20, 30]), 10), "other lengths of documents"),
    ):
        with pytest.raises(InputError, match=sentence):
            other.load_state_dict(state)


def test_unknown_packings_are_refused():
    with pytest.raises(InputError, match="`packing` is 'best-fit' or 'wrapped', not 'padded'"):
        PackedDataset(marked([30]), 10, packing="padded")


@pytest.mark.parametrize("length", [4, 5, 7, 100])
def test_positions_restart_at_documents_and_blocks_only(length):
    rows = [[10] * 5, [11], [12] * 9, [13] * 2, [14] * 4]
    packed = PackedDataset(as_dataset(rows), length, packing="wrapped")
    for index in range(len(packed)):
        item = packed[index]
        position = -1
        for place, (token, found) in enumerate(zip(item["input_ids"], item["position_ids"], strict=True)):
            fresh = place == 0 or token != item["input_ids"][place - 1]
            position = 0 if fresh else position + 1
            assert found == position
        assert item["place"] == (0, index)
    packed.set_epoch(3)
    assert packed[0]["place"] == (3, 0)


def test_workers_that_live_on_hear_of_the_next_epoch():
    packed = PackedDataset(as_dataset([[1] * 8]), 4)
    loader = DataLoader(packed, collate_fn=list, num_workers=1, persistent_workers=True, multiprocessing_context="fork")
    assert [row["place"] for batch in loader for row in batch] == [(0, 0), (0, 1)]
    packed.set_epoch(1)
    assert [row["place"] for batch in loader for row in batch] == [(1, 0), (1, 1)]


def test_too_little_text_for_a_block_is_one_short_block():
    packed = PackedDataset(as_dataset([[1, 2], [3]]), 8)
    assert len(packed) == 1 and packed[0]["input_ids"].tolist() == [1, 2, 3]
    assert packed[0]["position_ids"].tolist() == [0, 1, 0]
    assert packed[1]["place"] == (1, 0)
    with pytest.raises(IndexError):
        packed[-1]


def test_empty_documents_and_limits():
    packed = PackedDataset(as_dataset([[], [1, 2, 3], [], [], [4, 5, 6, 7, 8], []]), 4, packing="wrapped")
    assert [packed[index]["input_ids"].tolist() for index in range(2)] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert [packed[index]["position_ids"].tolist() for index in range(2)] == [[0, 1, 2, 0], [0, 1, 2, 3]]
    assert len(PackedDataset(as_dataset([[1] * 100]), 10, max_blocks=3)) == 3
    with pytest.raises(InputError, match="no tokens"):
        PackedDataset(as_dataset([[], []]), 4)


def test_token_counts():
    packed = PackedDataset(as_dataset([[1, 2, 2], [5]]), 2)
    assert packed.token_counts(6).tolist() == [0, 1, 2, 0, 0, 1]
