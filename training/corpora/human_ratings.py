"""How alike two words or two documents are, as people rated them, out of gensim's own test data."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from .corpus import Corpus, Example, find_file
from .packages import Source

FOLDER = "gensim/test/test_data"
WORDS, DOCUMENTS, SIMILARITIES = (f"{FOLDER}/{name}" for name in ("simlex999.txt", "lee.cor", "similarities0-1.txt"))
# The files are the same for every Python and machine: one wheel that exists does for all.
WHEEL = "--only-binary=:all: --platform manylinux_2_28_x86_64 --implementation cp --python-version 3.11 --abi cp311"


def ratings(folder: Path) -> Iterator[Example]:
    """Rows `{"text", "text_pair", "score", "subset"}`, scores from 0 to 1."""
    return chain(_words(folder), _documents(folder))


def _words(folder: Path) -> Iterator[Example]:
    for line in find_file(folder, WORDS).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            first, second, rating = line.split("\t")
            row = {"text": first, "text_pair": second, "score": round(float(rating) / 10, 4), "subset": "simlex-999"}
            yield first, row


def _documents(folder: Path) -> Iterator[Example]:
    texts = [line.strip() for line in find_file(folder, DOCUMENTS).read_text(encoding="latin-1").splitlines()]
    matrix = find_file(folder, SIMILARITIES).read_text(encoding="utf-8").splitlines()
    for i, row in enumerate(matrix):
        for j, rating in enumerate(row.split()):
            if j > i:  # the other half is not filled in
                score = round(float(rating), 4)
                yield texts[i], {"text": texts[i], "text_pair": texts[j], "score": score, "subset": "lee"}


CORPORA = {
    "similarity": Corpus(
        summary="how alike two words or two news items are, as people rated them (to test with)",
        task="sentence-similarity",
        columns={
            "text": "a word or a document",
            "text_pair": "another",
            "score": "mean rating, scaled to 0 to 1",
            "subset": "simlex-999 (words) or lee (documents): correlate within one",
        },
        sources=(Source("PyPI", "gensim==4.4.0", (WORDS, DOCUMENTS, SIMILARITIES), tuple(WHEEL.split())),),
        license="other",
        terms="LGPL-2.1 as packaged; by Hill et al., 2015 (SimLex-999), and Lee et al., 2005 (the documents)",
        group="text",
        examples=ratings,
        shares={"test": 1.0},
    )
}
