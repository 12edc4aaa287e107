import argparse
import ast
import difflib
import inspect
import statistics
import subprocess
import typing
from collections import Counter
from copy import deepcopy

import datasets
import numpy as np
import pytest
from tokenizers import processors

from trivium.configuration import InputError
from trivium.training.data.pairs import PackedPairs, choose_target_length, pack_pairs
from trivium.training.objectives.batches import split_documents


def docstrings(*modules):
    """Real pairs: a function's docstring, and its first line."""
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield text, text.split("\n")[0]


@pytest.fixture(scope="module")
def raw():
    modules = (argparse, ast, difflib, inspect, statistics, subprocess, typing)
    sources, targets = zip(*docstrings(*modules), strict=True)
    return datasets.Dataset.from_dict({"source": sources, "target": targets})


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers["encoder-decoder"]


def pairs_of(item):
    sources = split_documents(item["input_ids"], item["position_ids"])
    targets = split_documents(item["labels"], item["decoder_position_ids"])
    return [(tuple(a.tolist()), tuple(b.tolist())) for a, b in zip(sources, targets, strict=True)]


def test_every_pair_is_in_one_row_whole_and_rows_have_their_room(raw, tokenizer):
    packed = PackedPairs(raw, tokenizer, 1024, 256)
    items = list(packed)
    found = Counter(pair for item in items for pair in pairs_of(item))
    expected = Counter(
        (tuple(tokenizer(pair["source"])["input_ids"][:1023]), tuple(tokenizer(pair["target"])["input_ids"][:255]))
        for pair in raw
    )
    assert found == expected
    assert all(len(item["input_ids"]) < 1024 and len(item["labels"]) < 256 for item in items)
    assert all(item["position_ids"][0] == item["decoder_position_ids"][0] == 0 for item in items)
    held = sum(len(item["input_ids"]) + len(item["labels"]) for item in items)
    assert packed.num_tokens == held and packed.fill == pytest.approx(held / (len(items) * 1280))


def test_long_pairs_are_cut_and_counted(raw, tokenizer):
    packed = PackedPairs(raw, tokenizer, 64, 16)
    long = sum(
        len(tokenizer(pair["source"])["input_ids"]) > 63 or len(tokenizer(pair["target"])["input_ids"]) > 15
        for pair in raw
    )
    assert packed.num_truncated == long > 0
    assert max(len(packed[index]["input_ids"]) for index in range(len(packed))) == 63


def test_for_a_decoder_both_texts_share_the_room(raw, tokenizers):
    tokenizer = tokenizers["decoder"]
    packed = PackedPairs(raw, tokenizer, 256)
    for index in range(len(packed)):
        item = packed[index]
        assert len(item["input_ids"]) + len(item["labels"]) <= 256
        for source, target in pairs_of(item):
            assert source[0] == tokenizer.bos_token_id != target[0]
            assert target[-1] == tokenizer.eos_token_id or len(source) + len(target) == 256
    assert packed.fill > 0.98


def test_a_long_prompt_is_cut_before_its_answer(tokenizers):
    texts = {"source": ["x " * 500, "x " * 500, "x"], "target": ["y " * 4, "y " * 500, "y " * 500]}
    packed = PackedPairs(datasets.Dataset.from_dict(texts), tokenizers["decoder"], 64, seed=None)
    kept = {index: packed.lengths[index].tolist() for index in range(3)}
    assert kept[0][0] + kept[0][1] == 64 and kept[0][1] < 20
    assert kept[1] == [32, 32] and kept[2][0] <= 4 and sum(kept[2]) == 64
    assert packed.num_truncated == 3


def translations(count, seed=0):
    """Lengths like those of translations: sources log-normal, targets a little longer."""
    generator = np.random.default_rng(seed)
    sources = np.exp(generator.normal(3.2, 0.6, count)).astype(int) + 2
    targets = np.maximum((sources * np.exp(generator.normal(0.1, 0.2, count))).astype(int), 2)
    return np.stack([sources, targets], axis=1)


def test_less_than_one_per_cent_is_wasted_where_the_data_allow():
    lengths = np.minimum(translations(6000), 500)
    target = int(np.ceil(511 * lengths[:, 1].mean() / lengths[:, 0].mean()))
    rows = pack_pairs(lengths, 511, target)
    held = np.array([lengths[row].sum(axis=0) for row in rows])
    assert sorted(np.concatenate(rows).tolist()) == list(range(6000))
    assert (held <= (511, target)).all()
    # All but the last of the rows, which take what is left.
    full = np.sort(held.sum(axis=1))[len(rows) // 10 :]
    assert 1 - full.mean() / (512 + target + 1) < 0.01
    assert 1 - held.sum() / (len(rows) * (512 + target + 1)) < 0.02


def test_pairs_that_complete_each_other_share_rows():
    lengths = np.array([[90, 10], [10, 90], [60, 40], [40, 60]] * 25)
    rows = pack_pairs(lengths, 100, 100)
    assert len(rows) == 50 and all(lengths[row].sum(axis=0).tolist() == [100, 100] for row in rows)


@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 1025, 3000])
def test_whatever_their_number_each_pair_is_in_one_row(count):
    lengths = np.random.default_rng(count).integers(1, 40, (count, 2))
    rows = pack_pairs(lengths, 40, 40)
    assert sorted(np.concatenate(rows).tolist()) == list(range(count))
    assert all((lengths[row].sum(axis=0) <= 40).all() for row in rows)


def test_the_rows_follow_from_seed_and_pass_only(raw, tokenizer):
    def read(packed, start=0):
        return [pairs_of(packed[start + index]) for index in range(len(packed))]

    packed = PackedPairs(raw, tokenizer, 512, 128)
    first = read(packed)
    assert first == read(PackedPairs(raw, tokenizer, 512, 128))
    assert first != read(PackedPairs(raw, tokenizer, 512, 128, seed=1))
    second = read(packed, len(packed))
    assert first != second and Counter(map(tuple, first)) == Counter(map(tuple, second))
    assert [packed[len(packed) + index]["place"] for index in range(2)] == [(1, 0), (1, 1)]
    packed.set_epoch(1)
    assert read(packed) == second and packed[0]["place"] == (1, 0)
    stored = PackedPairs(raw, tokenizer, 512, 128, seed=None)
    assert read(stored) == read(stored, len(stored))


def test_the_balanced_length_fills_both_sides_alike(raw, tokenizer):
    first = PackedPairs(raw, tokenizer, 2048, 2048)
    packed = PackedPairs(raw, tokenizer, 2048, first.balanced_target_length)
    used = packed.lengths[packed.order].sum(axis=0) / (2048, packed.max_target_length)
    assert used[0] == pytest.approx(used[1], rel=0.02) and packed.fill > first.fill


def test_pairs_with_an_empty_side_are_left_out(tokenizers):
    raw = datasets.Dataset.from_dict({"a": ["x", "", "z"], "b": ["1", "2", "3"]})
    tokenizer = deepcopy(tokenizers["decoder"])
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()  # no <|bos|>: a text may be of no tokens
    packed = PackedPairs(raw, tokenizer, 64, source_column="a", target_column="b")
    assert len(packed) == 1 and len(pairs_of(packed[0])) == 2
    with pytest.raises(InputError, match="no pairs with two texts"):
        PackedPairs(raw.select([]), tokenizer, 64, source_column="a", target_column="b")


def test_a_checkpoint_knows_its_pairs(raw, tokenizer):
    packed = PackedPairs(raw, tokenizer, 512, 128)
    packed.load_state_dict(packed.state_dict(7))
    with pytest.raises(InputError, match="not those that the checkpoint"):
        PackedPairs(raw, tokenizer, 256, 128).load_state_dict(packed.state_dict(7))


def test_bad_settings(raw, tokenizers, tokenizer):
    with pytest.raises(InputError, match="there is no column 'de': the pairs have source, target"):
        PackedPairs(raw, tokenizer, 512, 128, source_column="de")
    with pytest.raises(InputError, match="room for at least 8 tokens"):
        PackedPairs(raw, tokenizer, 512, 4)
    with pytest.raises(InputError, match="end-of-sequence token"):
        PackedPairs(raw, tokenizers["encoder"], 512, 128)
    with pytest.raises(IndexError):
        PackedPairs(raw, tokenizer, 512, 128)[-1]


@pytest.mark.parametrize("length", [256, 1024])
def test_the_target_length_fills_both_sides_alike_and_cuts_no_target_more(raw, tokenizer, length):
    chosen = choose_target_length(raw, tokenizer, length)
    as_long, fitted = (PackedPairs(raw, tokenizer, length, target) for target in (length, chosen))
    longest = max(len(tokenizer(target)["input_ids"]) for target in raw["target"])
    assert chosen == max(fitted.balanced_target_length, longest + 1) < length
    assert fitted.num_truncated == as_long.num_truncated
    assert fitted.fill > 1.2 * as_long.fill


def test_the_target_length_is_at_most_that_of_the_sources(raw, tokenizer):
    turned = raw.rename_columns({"source": "target", "target": "source"})
    assert choose_target_length(turned, tokenizer, 128) == 128
    short = datasets.Dataset.from_dict({"source": ["words " * 90], "target": ["a"]})
    assert choose_target_length(short, tokenizer, 128) == 8
