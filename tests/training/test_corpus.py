import sys
from itertools import islice

import pytest

from trivium.training.corpus import MIN_DOCUMENT_CHARACTERS, MIN_UNIQUE_CHARACTERS, python_docs


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


def test_is_the_same_every_time_and_imports_none_of_what_it_reads(corpus):
    assert list(islice(python_docs(), 100)) == corpus[:100]
    assert not {"antigravity", "this"} & set(sys.modules)


def test_no_long_paragraph_occurs_twice(corpus):
    """What is held out would otherwise have been read in training: topics quote each other."""
    paragraphs = [" ".join(paragraph.split()) for document in corpus for paragraph in document["text"].split("\n\n")]
    long = [paragraph for paragraph in paragraphs if len(paragraph) >= MIN_UNIQUE_CHARACTERS]
    assert len(set(long)) > 0.999 * len(long)
