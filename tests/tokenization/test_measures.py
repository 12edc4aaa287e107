"""What survives encoding, and how many bytes each token stands for, with our tokenizers and with others'."""

import unicodedata

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import (
    BertTokenizer,
    ByT5Tokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    OpenAIGPTTokenizer,
    T5Tokenizer,
)

from trivium.configuration.errors import InputError
from trivium.tokenization import normalized_text, token_byte_lengths

ODD = [
    "[MASK]",
    "<|im_end|>",
    "</s>",
    "<extra_id_7>",
    " ",
    "\r\n",
    "\0",
    "'s",
    "▁",
    "##",
    "\u200b",
    "e\u0301",
    "ﬁ",
    "日本",
]
ANY_TEXT = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=4))).map("".join))
relaxed = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def lengths(tokenizers) -> dict[tuple[str, str], list[int]]:
    """Byte lengths by (family, algorithm), computed once for all examples."""
    return {key: token_byte_lengths(tokenizer) for key, tokenizer in tokenizers.items()}


@given(text=ANY_TEXT)
@example("  two spaces, a tab\t and\n\n lines  ")
@relaxed
def test_byte_level_is_lossless(tokenizers, lengths, family, text):
    """Any text at all comes back, and the lengths of its tokens add up to its bytes."""
    tokenizer = tokenizers[family, "bpe"]
    ids = tokenizer(text, split_special_tokens=True).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text
    assert sum(lengths[family, "bpe"][token] for token in ids) == len(text.encode())


@given(text=st.text())
@relaxed
def test_byte_level_is_lossless_by_default(tokenizers, family, text):
    """Without a special token's literal in the text, no option is needed."""
    tokenizer = tokenizers[family, "bpe"]
    if not any(token in text for token in tokenizer.all_special_tokens):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram"])
@given(data=st.data())
@relaxed
def test_others_give_the_normalized_text(tokenizers, lengths, corpus, family, algorithm, data):
    """Text of known characters comes back normalized; the lengths count one more, for the first word's space."""
    tokenizer = tokenizers[family, algorithm]
    known = sorted({*"".join(corpus), *" \u00a0\u2003\n▁"})
    text = data.draw(st.text(st.sampled_from(known)))
    ids = tokenizer(text, split_special_tokens=True).input_ids
    if tokenizer.unk_token_id in ids:  # a word of more than a hundred characters
        return
    normalized = normalized_text(tokenizer, text)
    assert tokenizer.decode(ids, skip_special_tokens=True) == normalized
    assert sum(lengths[family, algorithm][token] for token in ids) == len(normalized.encode()) + bool(normalized)


@given(text=st.text())
@relaxed
def test_normalized_text(tokenizers, text):
    """NFKC and single spaces; for WordPiece also spaces around every punctuation mark."""
    unigram, wordpiece = (normalized_text(tokenizers["encoder", name], text) for name in ("unigram", "wordpiece"))
    assert normalized_text(tokenizers["encoder", "bpe"], text) == text
    assert unigram == normalized_text(tokenizers["encoder", "unigram"], unigram)
    assert "".join(wordpiece.split()) == "".join(unigram.split())


def test_normalized_text_by_hand(tokenizers):
    text = "  Hello,\n\u00a0(ﬁne)  world!\t"
    assert unicodedata.normalize("NFKC", "ﬁ") == "fi"
    assert normalized_text(tokenizers["encoder", "unigram"], text) == "Hello, (fine) world!"
    assert normalized_text(tokenizers["encoder", "wordpiece"], text) == "Hello , ( fine ) world !"


def test_special_tokens_stand_for_no_bytes(tokenizer):
    lengths = token_byte_lengths(tokenizer)
    assert len(lengths) == len(tokenizer)
    assert all(lengths[index] == 0 for index in tokenizer.all_special_ids)
    assert all(length > 0 for index, length in enumerate(lengths) if index not in tokenizer.all_special_ids)


def test_unknown_characters_stand_for_no_bytes(tokenizers):
    tokenizer = tokenizers["encoder", "unigram"]
    ids = tokenizer("the ☃", add_special_tokens=False).input_ids
    lengths = token_byte_lengths(tokenizer)
    assert tokenizer.unk_token_id in ids and sum(lengths[token] for token in ids) == len(" the ")


def lengths_by_token(tokenizer, tokens: list[str]) -> list[int]:
    lengths = token_byte_lengths(tokenizer)
    return [lengths[index] for index in tokenizer.convert_tokens_to_ids(tokens)]


def test_lengths_of_gpt2():
    vocabulary = {"<|endoftext|>": 0, "a": 1, "Ġ": 2, "Ġa": 3, "Ã": 4, "©": 5, "Ã©": 6}
    gpt2 = GPT2Tokenizer(vocab=vocabulary, merges=[("Ġ", "a"), ("Ã", "©")])
    gpt2.add_tokens(["<tool>é"])
    assert lengths_by_token(gpt2, [*vocabulary, "<tool>é"]) == [0, 1, 1, 2, 1, 1, 2, 8]


def test_lengths_of_bert():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "é", "##é", "word", "##s", ",", "日"]
    bert = BertTokenizer(vocab={token: index for index, token in enumerate(vocabulary)})
    # the decoder glues the comma to the word before it
    assert lengths_by_token(bert, vocabulary) == [0, 0, 0, 0, 0, 3, 2, 5, 1, 1, 4]


def test_lengths_of_t5():
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁the", "s", "é"]
    t5 = T5Tokenizer(vocab=[(piece, -float(index)) for index, piece in enumerate(pieces)], extra_ids=2)
    assert lengths_by_token(t5, [*pieces, "<extra_id_0>"]) == [0, 0, 0, 1, 4, 1, 2, 0]


def test_lengths_of_llama():
    tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "<0xE4>", "▁", "▁t", "t", "é"]
    llama = LlamaTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[("▁", "t")])
    assert lengths_by_token(llama, tokens) == [0, 0, 0, 1, 1, 1, 2, 1, 2]


def test_lengths_of_words_with_an_end_mark():
    vocabulary = {"<unk>": 0, "a": 1, "b": 2, "b</w>": 3, "ab</w>": 4}
    gpt = OpenAIGPTTokenizer(vocab=vocabulary, merges=[("a", "b</w>")])
    assert lengths_by_token(gpt, list(vocabulary)) == [0, 1, 1, 2, 3]


def test_tokenizers_without_backend_are_refused():
    with pytest.raises(InputError, match="ByT5Tokenizer is not built on the tokenizers library"):
        token_byte_lengths(ByT5Tokenizer())
