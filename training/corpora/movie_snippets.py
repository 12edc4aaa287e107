"""Sentences of film reviews with the mean of twenty people's ratings (Hutto and Gilbert, "VADER", ICWSM 2014)."""

import html
import tarfile
from collections.abc import Iterator
from pathlib import Path

from .corpus import Corpus, Example, find_file, unique
from .packages import Source

ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
CLEAR = 0.5  # ratings nearer to zero say neither


def valences(folder: Path) -> Iterator[Example]:
    """Rows `{"text", "score"}`, the score from -4 to 4."""
    return unique(_snippets(folder), "text")


def sentiments(folder: Path) -> Iterator[Example]:
    """Rows `{"text", "label"}` of those whose rating is clear."""
    for text, row in valences(folder):
        if abs(row["score"]) > CLEAR:
            yield text, {"text": row["text"], "label": "positive" if row["score"] > 0 else "negative"}


def _snippets(folder: Path) -> Iterator[Example]:
    with tarfile.open(find_file(folder, ARCHIVE)) as tar:
        content = tar.extractfile(SNIPPETS)
        assert content is not None
        lines = content.read().decode("utf-8").splitlines()
    for line in lines:
        _, score, text = line.split("\t", 2)
        text = " ".join(html.unescape(text).split())
        yield text, {"text": text, "score": round(float(score), 4)}


_SOURCES = (Source("PyPI", "vaderSentiment==0.5", (ARCHIVE,), ("--no-binary", "vaderSentiment")),)
_TERMS = "MIT as packaged; the sentences are quoted from reviews on Rotten Tomatoes"

CORPORA = {
    "sentiment": Corpus(
        summary="sentences of film reviews, negative or positive",
        task="text-classification",
        columns={"text": "a sentence or two", "label": "negative or positive"},
        sources=_SOURCES,
        license="mit",
        terms=_TERMS,
        group="text",
        examples=sentiments,
        notes=f"Labels are the sign of the mean of about twenty ratings from -4 to 4; means within {CLEAR} of zero are "
        "left out.",
    ),
    "valence": Corpus(
        summary="the same sentences, how negative or positive: -4 to 4",
        task="text-classification",
        columns={"text": "a sentence or two", "score": "mean of about twenty people's ratings, -4 to 4"},
        sources=_SOURCES,
        license="mit",
        terms=_TERMS,
        group="text",
        examples=valences,
    ),
}
