from itertools import pairwise

import datasets
import numpy as np
import pytest

from trivium.tokenization import train_tokenizer
from trivium.training.data import tokenizing
from trivium.training.data.tokenizing import SINGLE_SPACE, cut, document_tokenizer, tokenize_documents


@pytest.fixture(scope="module")
def raw(documents):
    return datasets.Dataset.from_dict({"text": documents})


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


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize("form", [{}, dict(append_eos=True), dict(special_tokens=False)], ids=str)
def test_a_long_text_read_in_slices_has_the_tokens_of_the_whole(documents, monkeypatch, algorithm, form):
    family = "encoder" if algorithm == "wordpiece" else "encoder-decoder"
    tokenize = document_tokenizer(train_tokenizer(documents, family, algorithm, 400, show_progress=False), **form)
    whole = tokenize(documents)
    monkeypatch.setattr(tokenizing, "LONG_CHARACTERS", 500)
    for row, sliced in zip(whole, tokenize(documents), strict=True):
        np.testing.assert_array_equal(row, sliced)


def test_slices_make_the_text_and_begin_with_a_space_where_there_is_a_single_one(documents):
    for text in [*documents, "x" * 1000]:
        slices = list(cut(text, 100))
        assert "".join(slices) == text and max(map(len, slices)) <= 100
        for before, part in pairwise(slices):
            assert part[0] == " " or not SINGLE_SPACE.search(before, 1)
