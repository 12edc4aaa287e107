"""Texts are cut and padded as a whole text would be, and settings that cannot be are told."""

import pytest

from trivium.configuration.errors import InputError
from trivium.training.tasks.classification import TextClassification
from trivium.training.tasks.task import IGNORED, Form, beginning, pad


@pytest.mark.parametrize("sides", [1, 2])
def test_texts_are_cut_to_the_tokens_that_the_whole_text_begins_with(kind, sides):
    family, tokenizer = kind
    rows = [{"text": "the object: naïve café. " * count, "text_pair": "雪 x " * 200} for count in (1, 100)]
    rows = [dict(list(row.items())[:sides]) for row in rows]
    # An even number of tokens for two texts: which of them gets an odd one depends on which is longer.
    length = 20 + tokenizer.num_special_tokens_to_add(pair=True) % 2
    task = TextClassification(tokenizer, family, Form(max_length=length))
    for row, read in zip(rows, task.read(rows), strict=True):
        assert read["input_ids"] == tokenizer(*row.values(), truncation=True, max_length=length)["input_ids"]


@pytest.mark.parametrize("text", ["the value " * 10**6, "x" * 10**6, " " * 10**6 + "x", "雪" * 10**6])
def test_of_an_enormous_text_only_the_beginning_is_read(tokenizers, text):
    tokenizer, read = tokenizers["encoder"], []

    def count(text, **settings):
        read.append(len(text))
        return tokenizer(text, **settings)

    assert text.startswith(begun := beginning(count, text, 16))
    if not text.startswith(" "):
        assert sum(read) < 20_000 and len(tokenizer(begun)["input_ids"]) > 16


def test_a_tokenizer_without_padding_takes_texts_of_one_length_only(tokenizers):
    class Bare:
        pad_token_id, padding_side = None, "right"

    assert pad(Bare, [{"input_ids": [1, 2]}, {"input_ids": [3, 4]}])["input_ids"].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(InputError, match="need a padding token"):
        pad(Bare, [{"input_ids": [1, 2]}, {"input_ids": [3]}])
    padded = pad(tokenizers["encoder"], [{"labels": [1, 2]}, {"labels": [3]}], "left")
    assert padded["labels"].tolist() == [[1, 2], [IGNORED, 3]]


@pytest.mark.parametrize(
    "form, limit, sentence",
    [
        ({"max_length": 600}, 512, "`max_length` is 600, but the model reads at most 512 tokens at once."),
        (
            {"max_length": 4},
            None,
            "`max_length` is 4, which leaves no room for text beside 3 special tokens: take at least 5.",
        ),
        ({"stride": -1}, None, "`stride` must be at least 0, not -1."),
        ({"pieces": "some"}, None, "`pieces` must be first or all, not 'some'."),
        ({"temperature": 0}, None, "`temperature` must be above 0, not 0."),
    ],
)
def test_settings_that_cannot_be_are_told(tokenizers, form, limit, sentence):
    with pytest.raises(InputError) as caught:
        TextClassification(tokenizers["encoder"], "encoder", Form(**form), limit)
    assert str(caught.value) == sentence
