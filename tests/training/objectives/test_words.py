import re
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from trivium.configuration import InputError
from trivium.tokenization import train_tokenizer
from trivium.training.objectives.words import Words

ALGORITHMS = ("bpe", "wordpiece", "unigram")
UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff]"
EXTRA = ["don't Foo.bar(x_1) at 3.14", "the café, naïve; hello", "白い雪 and 水 too", "  two  spaces \n\n here\tthere "]


@pytest.fixture(scope="module")
def trained(documents):
    return {
        name: train_tokenizer(documents, "encoder", name, vocab_size=768, show_progress=False) for name in ALGORITHMS
    }


def goes_on(text, start, stop, next_start):
    """Whether a word goes on from the token at `start:stop` of a text to that at `next_start`, told from the text."""
    if next_start < stop:
        return True  # both are parts of one character
    last, first = (re.match(r"[^\W_]", x) and not re.match(UNSPACED, x) for x in (text[stop - 1], text[next_start]))
    return bool(stop == next_start and first and (last or text[start:stop] == " "))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_words_are_runs_of_letters_and_digits_with_the_space_before_them(trained, documents, name):
    words, checked = Words.of(trained[name]), 0
    backend = Tokenizer.from_str(trained[name].backend_tokenizer.to_str())
    # The family's own would leave the spaces out of the offsets.
    backend.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    for text in [*documents[:8], *documents[-3:], *EXTRA]:
        text = backend.normalizer.normalize_str(text) if backend.normalizer else text
        encoded = backend.encode(text)
        offsets = encoded.offsets
        starts = words.starts(np.array(encoded.ids), np.arange(len(encoded.ids)) == 0)
        assert starts[0]
        for index in range(2, len(starts)):  # the first "▁" stands for no character of the text
            (start, stop), (next_start, _) = offsets[index - 1 : index + 1]
            where = (text[start:stop], text[next_start : next_start + 9])
            assert starts[index] != goes_on(text, start, stop, next_start), where
            checked += 1
    assert checked > 5000


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_word_spans_two_documents(trained, name):
    tokenizer = trained[name]
    words = Words.of(tokenizer)
    ids = np.array(tokenizer("identifiers", add_special_tokens=False)["input_ids"])
    assert len(ids) > 1
    row, documents = np.concatenate([ids, ids[1:]]), np.isin(np.arange(2 * len(ids) - 1), [0, len(ids)])
    assert np.flatnonzero(words.starts(row, documents)).tolist() == [0, len(ids)]


SENTENCES = {
    "One. Two! Three? Four": ["One.", " Two!", " Three?", " Four"],
    "see os.path for 3.14": ["see os.path for 3.14"],
    "a line\nanother line": ["a line\n", "another line"],
    "no end": ["no end"],
}


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences_begin_after_line_breaks_and_stops_before_a_space(trained, text):
    tokenizer = trained["bpe"]
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    parts = np.split(ids, Words.of(tokenizer).sentences(ids))
    assert [tokenizer.decode(part) for part in parts] == SENTENCES[text]


@pytest.mark.parametrize("name", ["wordpiece", "unigram"])
def test_sentences_begin_after_stops_where_spaces_are_normalised(trained, name):
    tokenizer = trained[name]
    ids = np.array(tokenizer("One. Two! Three? Four", add_special_tokens=False)["input_ids"])
    parts = np.split(ids, Words.of(tokenizer).sentences(ids))
    assert [tokenizer.decode(part).replace(" ", "") for part in parts] == ["One.", "Two!", "Three?", "Four"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_special_tokens_are_in_no_word(trained, name):
    tokenizer = trained[name]
    words = Words.of(tokenizer)
    inner = tokenizer("identifiers", add_special_tokens=False)["input_ids"][1]
    for special in tokenizer.all_special_ids:
        ids = np.array([inner, special, inner])
        starts = words.starts(ids, np.arange(3) == 0)
        assert starts[:2].all() and (starts[2] or words.inside[inner])


def test_tokenizers_of_another_library_are_refused():
    with pytest.raises(InputError, match="not built on the tokenizers library"):
        Words.of(SimpleNamespace())
