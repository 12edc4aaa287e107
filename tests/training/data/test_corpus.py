import sys
from itertools import islice

import pytest

from trivium.training.data.corpus import MIN_DOCUMENT_CHARACTERS, MIN_UNIQUE_CHARACTERS, _unwrap, python_docs


@pytest.fixture(scope="module")
def corpus():
    return list(python_docs())


def test_is_about_two_megabytes_in_documents_with_names(corpus):
    assert 1e6 < sum(len(document["text"].encode()) for document in corpus) < 5e6
    assert len({document["name"] for document in corpus}) == len(corpus) > 300
    assert all(len(document["text"]) >= MIN_DOCUMENT_CHARACTERS for document in corpus)


def test_holds_the_language_reference_and_the_docstrings(corpus):
    text = {document["name"]: document["text"] for document in corpus}
    assert text["help('for')"].startswith('The "for" statement\n')
    assert "Serialize ``obj`` to a JSON formatted ``str``." in text["json"]
    assert "\nJSONDecodeError\n\nSubclass of ValueError" in text["json.decoder"]


def test_sentences_are_not_broken_to_fit_a_page_and_code_stays_as_it_is(corpus):
    text = {document["name"]: document["text"] for document in corpus}
    assert "is used to iterate over the elements of a sequence (such as a" in text["help('for')"]
    assert "\n   for i in range(10):\n       print(i)\n" in text["help('for')"]
    assert "\n    >>> print(json.dumps({'4': 5, '6': 7}, sort_keys=True, indent=4))\n    {\n" in text["json"]


LONG = "a line that is so long that the next one must have been broken off it"


@pytest.mark.parametrize(
    ("paragraph", "unwrapped"),
    [
        (f"{LONG}\nfor want of room", f"{LONG} for want of room"),
        (f"  {LONG}\n  {LONG}\n  the end", f"  {LONG} {LONG} the end"),
        ("a heading\nand a line", None),
        (f"{LONG}\n    an indented line", None),
        (f"{LONG}\n- an item", None),
        (f"{LONG}\n{'=' * len(LONG)}", None),
        (f">>> {LONG!r}\n{LONG!r}", None),
        ("", None),
    ],
)
def test_what_goes_on_in_the_next_line(paragraph, unwrapped):
    assert _unwrap(paragraph) == (paragraph if unwrapped is None else unwrapped)


def test_is_the_same_every_time_and_imports_none_of_what_it_reads(corpus):
    assert list(islice(python_docs(), 100)) == corpus[:100]
    assert not {"antigravity", "this"} & set(sys.modules)


def test_no_long_paragraph_occurs_twice(corpus):
    """What is held out would otherwise have been read in training: topics quote each other."""
    paragraphs = [" ".join(paragraph.split()) for document in corpus for paragraph in document["text"].split("\n\n")]
    long = [paragraph for paragraph in paragraphs if len(paragraph) >= MIN_UNIQUE_CHARACTERS]
    assert len(set(long)) > 0.999 * len(long)
