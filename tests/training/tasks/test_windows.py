"""Windows hold the tokens of the text, in order, and say which they are."""

import numpy as np
import pytest

from tests.training.tasks.texts import random_words, whole_tokens
from trivium.configuration.errors import InputError
from trivium.training.tasks.windows import cut, need_offsets


@pytest.mark.parametrize("max_length, stride", [(8, 0), (9, 2), (16, 4), (33, 5), (4096, 64)])
@pytest.mark.parametrize("pair", [False, True])
def test_windows_are_slices_of_the_tokens_that_share_a_stride(kind, max_length, stride, pair):
    _, tokenizer = kind
    generator = np.random.default_rng(max_length)
    for count in (1, 5, 40):
        text = "x " + " ".join(random_words(generator, count))
        ids, places = whole_tokens(tokenizer, text)
        texts = ("a", text) if pair else (text,)
        windows = cut(tokenizer, *texts, max_length=max_length, stride=stride)
        assert windows.places.tolist() == [list(place) for place in places]
        around = tokenizer(*texts[:-1], "")["input_ids"] if not pair else None
        end = 0
        for feature, numbers in zip(windows.features, windows.numbers, strict=True):
            held = numbers[numbers >= 0]
            assert len(feature["input_ids"]) <= max_length
            assert [one for one, number in zip(feature["input_ids"], numbers, strict=True) if number >= 0] == [
                ids[number] for number in held
            ]
            assert held.tolist() == list(range(held[0], held[-1] + 1))
            assert held[0] == (end - stride if end else 0)  # the next window begins so many tokens before
            end = held[-1] + 1
            if around is not None:
                rest = [one for one, number in zip(feature["input_ids"], numbers, strict=True) if number < 0]
                assert rest == around
        assert end == len(ids)


@pytest.mark.parametrize("stride", [0, 1, 7])
def test_a_stretch_of_stride_and_one_tokens_lies_whole_in_a_window(kind, stride):
    _, tokenizer = kind
    text = " ".join(random_words(np.random.default_rng(0), 80))
    windows = cut(tokenizer, text, max_length=20, stride=stride)
    held = [{*numbers.tolist()} for numbers in windows.numbers]
    for begin in range(len(windows.places) - stride):
        assert any({*range(begin, begin + stride + 1)} <= numbers for numbers in held)


def test_a_text_that_is_nothing_is_one_window(kind):
    _, tokenizer = kind
    windows = cut(tokenizer, " ", max_length=8, stride=2)
    assert len(windows.features) == 1


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(InputError, match=r"^labelling words needs a fast tokenizer, .*: put a tokenizer.json beside"):
        need_offsets(object(), "labelling words")
