"""Special tokens, forms, ids for configurations, masks, sentinels and chats."""

import jinja2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForMaskedLM, pipeline

from trivium.tokenization import special_token_ids

FORMS = {
    "encoder": ("[CLS] A [SEP]", "[CLS] A [SEP] B [SEP]"),
    "decoder": ("<|bos|> A", "<|bos|> A <|eos|> B"),
    "encoder-decoder": ("A </s>", "A </s> B </s>"),
}
IDS = {
    "encoder": {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "mask_token_id": 4},
    "decoder": {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "encoder-decoder": {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 3, "decoder_start_token_id": 0},
}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is a list?\n"},
    {"role": "assistant", "content": "A mutable sequence."},
    {"role": "user", "content": "And a tuple?"},
]


def test_forms(tokenizer, family):
    """A text and a pair of texts come out with the special tokens of the family around them, and nothing else."""
    a, b = (tokenizer(text, add_special_tokens=False).input_ids for text in ("the list", "of the names"))
    for form, encoded in zip(
        FORMS[family], (tokenizer("the list"), tokenizer("the list", "of the names")), strict=True
    ):
        expected = []
        for part in form.split():
            expected += a if part == "A" else b if part == "B" else [tokenizer.convert_tokens_to_ids(part)]
        assert encoded.input_ids == expected
        assert list(encoded) == ["input_ids", "attention_mask"]


def test_token_types_of_encoder_pairs(tokenizers):
    encoded = tokenizers["encoder", "wordpiece"]("list", "names", return_token_type_ids=True)
    first_sep = encoded.input_ids.index(3)
    assert encoded.token_type_ids == [int(position > first_sep) for position in range(len(encoded.input_ids))]


def test_special_token_ids(tokenizer, family):
    assert special_token_ids(tokenizer) == IDS[family]


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece"])
def test_offsets_are_those_of_words(tokenizers, algorithm):
    """Of the words alone, not of the spaces before them, so that a span of tokens cuts out an answer.

    Unigram's include them, as those of every "▁" tokenizer do.
    """
    text = "the list of the names"
    encoded = tokenizers["encoder", algorithm](text, return_offsets_mapping=True)
    spans = {text[start:end] for start, end in encoded.offset_mapping}
    assert {"", "list", "of"} <= spans and not any(" " in span for span in spans)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(tokenizer, side):
    assert tokenizer.padding_side == "right"
    batch = tokenizer(["the", "the list of names"], padding=True, padding_side=side)
    short, mask = batch.input_ids[0], batch.attention_mask[0]
    assert [token == tokenizer.pad_token_id for token in short] == [bit == 0 for bit in mask]
    assert mask == sorted(mask, reverse=side == "right") and 0 in mask


def test_mask_takes_the_place_of_a_word(tokenizers, algorithm):
    """What surrounds the mask is encoded as it is around a word: no stray token for the space before it."""
    tokenizer = tokenizers["encoder", algorithm]
    words = tokenizer("is used to test over").input_ids
    masked = tokenizer("is used to [MASK] over").input_ids
    test = tokenizer("is used to test", add_special_tokens=False).input_ids
    used = tokenizer("is used to", add_special_tokens=False).input_ids
    assert test[: len(used)] == used
    assert masked == [*words[: 1 + len(used)], tokenizer.mask_token_id, *words[1 + len(test) :]]


def test_fill_mask_pipeline(tokenizers, algorithm):
    tokenizer = tokenizers["encoder", algorithm]
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    fill = pipeline("fill-mask", model=BertForMaskedLM(config), tokenizer=tokenizer)
    token = tokenizer("the the", add_special_tokens=False).input_ids[-1]
    (answer,) = fill("of [MASK] list", targets=[tokenizer.convert_ids_to_tokens(token)], top_k=1)
    assert answer["token"] == token and answer["sequence"] == "of the list"


def test_sentinels(tokenizers, algorithm):
    tokenizer = tokenizers["encoder-decoder", algorithm]
    names = [f"<extra_id_{index}>" for index in range(100)]
    assert tokenizer.extra_special_tokens == names
    assert tokenizer.extra_special_tokens_ids == list(range(4, 104))
    assert set(tokenizer.extra_special_tokens_ids) <= set(tokenizer.all_special_ids)
    typed = tokenizer("the <extra_id_0> of", add_special_tokens=False).input_ids
    the, of = (tokenizer(text, add_special_tokens=False).input_ids for text in ("the", "the of"))
    assert typed == [*the, 4, *of[len(the) :]]


def test_chat_text(tokenizers):
    chat = tokenizers["decoder", "bpe"].apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert chat == (
        "<|bos|><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is a list?<|im_end|>\n"
        "<|im_start|>assistant\nA mutable sequence.<|im_end|>\n<|im_start|>user\nAnd a tuple?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_chat_has_one_bos_and_marks_the_answers(tokenizers, algorithm):
    """The mask of assistant tokens covers the answer and the mark that ends it, and only these."""
    tokenizer = tokenizers["decoder", algorithm]
    encoded = tokenizer.apply_chat_template(CHAT, return_assistant_tokens_mask=True, return_dict=True)
    assert encoded["input_ids"].count(tokenizer.bos_token_id) == 1 and encoded["input_ids"][0] == tokenizer.bos_token_id
    answer = [token for token, bit in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if bit]
    assert answer[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    expected = "A mutable sequence ." if algorithm == "wordpiece" else "A mutable sequence."
    assert tokenizer.decode(answer, skip_special_tokens=True).strip() == expected


@given(prompt=st.text(), answer=st.text())
@example(prompt="Indent this.\n", answer="\n    x = 1")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_prompt_is_a_prefix_of_the_conversation(tokenizers, algorithm, prompt, answer):
    """What the model sees before it answers is what it saw in training, token for token."""
    tokenizer = tokenizers["decoder", algorithm]
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    before = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(chat, return_dict=False)
    assert whole[: len(before)] == before


@pytest.mark.parametrize(
    "message", [{"role": "asistant", "content": "Hi"}, {"role": "user", "content": [{"type": "image"}]}]
)
def test_chat_refuses_what_it_cannot_say(tokenizers, message):
    with pytest.raises(jinja2.TemplateError, match="must be"):
        tokenizers["decoder", "bpe"].apply_chat_template([message], tokenize=False)


def test_only_decoders_converse(tokenizers, family):
    assert (tokenizers[family, "bpe"].chat_template is not None) == (family == "decoder")
