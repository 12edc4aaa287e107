"""Questions about the ERRORS sections of Linux's manual pages, with the answers as spans of them."""

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .corpus import Corpus, Example, draw
from .packages import Source
from .roff import Paragraph, section

PAGES = "usr/share/man/man[23]/*.gz"
ERROR = re.compile(r"\bE[A-Z][A-Z0-9]+\b")
QUESTIONS = (
    "When does {page} fail with {error}?",
    "Why does {page} return {error}?",
    "What does {error} mean after {page}?",
    "Under which condition does {page} set errno to {error}?",
    "{page} fails with {error}: what is the reason?",
)
UNANSWERABLE = 7  # one question that has no answer for about so many that have


class Entry(NamedTuple):
    """What a page says of one error: its name, and where in the context that stands."""

    error: str
    start: int
    end: int


def questions(folder: Path) -> Iterator[Example]:
    """Rows as of SQuAD 2.0 (Rajpurkar et al., 2018); the group is the page."""
    pages = {}
    for path in sorted(folder.glob(PAGES)):
        paragraphs = section(gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace"), "ERRORS")
        context, entries = lay_out(paragraphs)
        if entries:
            pages[path.name.removesuffix(".gz")] = context, entries
    counts = Counter(entry.error for _, entries in pages.values() for entry in entries)
    common = [error for error, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:30]]
    for name, (context, entries) in pages.items():
        spans: dict[str, list[Entry]] = {}
        for entry in entries:
            spans.setdefault(entry.error, []).append(entry)
        listed = set(ERROR.findall(context))
        missing = [error for error in common if error not in listed]
        for error, found in spans.items():
            yield name, _question(name, context, error, found)
            if missing and draw(f"{name} {error} unanswerable", UNANSWERABLE) == 0:
                absent = missing.pop(draw(f"{name} {error} absent", len(missing)))
                yield name, _question(name, context, absent, [])


def lay_out(paragraphs: list[Paragraph]) -> tuple[str, list[Entry]]:
    """A context out of paragraphs, and what it says of which error: the text after the tags that name errors."""
    pieces: list[str] = []
    entries: list[Entry] = []
    length = 0
    for tag, text in paragraphs:
        piece = f"{tag} {text}".strip()
        if pieces:
            length += 1
        if tag and text:
            start = length + len(tag) + 1
            entries += [Entry(error, start, start + len(text)) for error in dict.fromkeys(ERROR.findall(tag))]
        pieces.append(piece)
        length += len(piece)
    return "\n".join(pieces), entries


def _question(name: str, context: str, error: str, found: list[Entry]) -> dict:
    page, _, number = name.rpartition(".")
    title = f"{page}({number})"
    return {
        "id": f"{name}/{error}",
        "title": title,
        "question": QUESTIONS[draw(f"{name}/{error}", len(QUESTIONS))].format(page=title, error=error),
        "context": context,
        "answers": {
            "text": [context[entry.start : entry.end] for entry in found],
            "answer_start": [entry.start for entry in found],
        },
    }


CORPORA = {
    "man-errors": Corpus(
        summary="when does a system call fail, and with what: spans of Linux's manual pages",
        task="question-answering",
        columns={
            "id": "page and error",
            "title": "page",
            "question": "one of five forms, drawn by the id",
            "context": "the ERRORS section of the page",
            "answers": "texts and where they begin in the context; empty lists where the page does not name the error",
        },
        sources=(Source("Debian", "manpages-dev", (PAGES,)),),
        license="other",
        terms="Linux man-pages: each page's own free licence, most of them the man-pages copyleft, GPL-2+ or BSD",
        group="manual page",
        examples=questions,
        notes="Questions are made from templates, answers are the page's own words. Where a page gives several reasons "
        "for an error, each is an answer, in the order of the page. About one question in eight has no answer: its "
        "error is a common one that the page does not name.",
    )
}
