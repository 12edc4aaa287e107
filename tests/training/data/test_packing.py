import datasets
import numpy as np
import pytest
from torch.utils.data import DataLoader

from trivium.configuration import InputError
from trivium.training.data.packing import PackedDataset, tokenize_documents


@pytest.fixture(scope="module")
def raw(documents):
    return datasets.Dataset.from_dict({"text": documents})


def as_dataset(rows):
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    return datasets.Dataset.from_dict({"input_ids": rows}, features=features)


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder-decoder"])
def test_documents_get_their_familys_form(raw, documents, tokenizers, family):
    tokenizer = tokenizers[family]
    rows = tokenize_documents(raw, tokenizer, append_eos=family == "decoder")["input_ids"]
    for row, text in zip(rows, documents, strict=True):
        ends = {"encoder": ("[CLS]", "[SEP]"), "decoder": ("<|bos|>", "<|eos|>"), "encoder-decoder": ("", "</s>")}[
            family
        ]
        assert tokenizer.decode(row) == ends[0] + text + ends[1]
    plain = tokenize_documents(raw, tokenizer, special_tokens=False)["input_ids"]
    assert [tokenizer.decode(row) for row in plain] == documents


def test_the_name_of_a_special_token_within_a_text_is_text(tokenizers):
    tokenizer = tokenizers["encoder"]
    rows = tokenize_documents(datasets.Dataset.from_dict({"text": ["write [MASK] here"]}), tokenizer)
    assert tokenizer.mask_token_id not in rows["input_ids"][0]


def test_tokens_are_cached_between_calls(raw, tokenizers):
    first = tokenize_documents(raw, tokenizers["decoder"])
    tokenizers["decoder"]("use it in between", truncation=True, max_length=2)
    assert tokenize_documents(raw, tokenizers["decoder"])._fingerprint == first._fingerprint
    assert tokenize_documents(raw, tokenizers["decoder"], append_eos=True)._fingerprint != first._fingerprint


@pytest.mark.parametrize("length", [8, 13, 64, 1000])
def test_blocks_are_the_documents_one_after_the_other(raw, tokenizers, length):
    tokens = tokenize_documents(raw, tokenizers["decoder"], append_eos=True)
    stream = np.concatenate(tokens["input_ids"][:])
    packed = PackedDataset(tokens, length)
    assert packed.num_tokens == len(stream) and len(packed) == len(stream) // length
    items = [packed[index] for index in range(len(packed))]
    assert all(item["input_ids"].shape == item["position_ids"].shape == (length,) for item in items)
    np.testing.assert_array_equal(np.concatenate([item["input_ids"] for item in items]), stream[: len(packed) * length])


@pytest.mark.parametrize("length", [4, 5, 7, 100])
def test_positions_restart_at_documents_and_blocks_only(length):
    rows = [[10] * 5, [11], [12] * 9, [13] * 2, [14] * 4]
    packed = PackedDataset(as_dataset(rows), length)
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
    with pytest.raises(IndexError):
        packed[1]


def test_empty_documents_and_limits():
    packed = PackedDataset(as_dataset([[], [1, 2, 3], [], [], [4, 5, 6, 7, 8], []]), 4)
    assert [packed[index]["input_ids"].tolist() for index in range(2)] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert [packed[index]["position_ids"].tolist() for index in range(2)] == [[0, 1, 2, 0], [0, 1, 2, 3]]
    assert len(PackedDataset(as_dataset([[1] * 100]), 10, max_blocks=3)) == 3
    with pytest.raises(InputError, match="no tokens"):
        PackedDataset(as_dataset([[], []]), 4)


def test_token_counts():
    packed = PackedDataset(as_dataset([[1, 2, 2], [5]]), 2)
    assert packed.token_counts(6).tolist() == [0, 1, 2, 0, 0, 1]
