"""LibreOffice's help in two languages, paragraph by paragraph: elements of a page have the same id in both."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from .corpus import Corpus, Example, unique
from .packages import Source

PAGES = "usr/share/libreoffice/help/*/text/*.html"
PARAGRAPHS = frozenset("p h1 h2 h3 h4 h5 h6".split())
VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
# What is written for one system only; beside it stands what is written for the others.
SYSTEMS = frozenset("MAC UNIX WIN".split())
MIN_WORDS = 4


def translations(english: Path, french: Path) -> Iterator[Example]:
    """Rows `{"source", "target"}`; the group is the page."""
    return unique(_pairs(english, french), "source")


def _pairs(english: Path, french: Path) -> Iterator[Example]:
    theirs = {name: path for path, name in _pages(french)}
    for path, name in _pages(english):
        if name not in theirs:
            continue
        source, target = paragraphs(path), paragraphs(theirs[name])
        for element, text in source.items():
            other = target.get(element, "")
            if len(text.split()) >= MIN_WORDS and other and other != text:
                yield name, {"source": text, "target": other}


def _pages(folder: Path) -> list[tuple[Path, str]]:
    """The pages and their names below `text/`, which no language has a part in."""
    return [(path, path.as_posix().rpartition("/text/")[2]) for path in sorted(folder.glob("**/text/**/*.html"))]


def paragraphs(page: Path) -> dict[str, str]:
    """The text of each paragraph and heading with an id; for whatever system has no text of its own."""
    reader = _Reader()
    reader.feed(page.read_text(encoding="utf-8", errors="replace"))
    reader.close()
    return {element: " ".join("".join(pieces).split()) for element, pieces in reader.texts.items() if element}


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.open: list[tuple[str, str, bool]] = []  # the elements around: name, id of their paragraph, shown or not

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VOID:
            self.handle_data(" " if tag == "br" else "")
            return
        attributes = dict(attrs)
        _, paragraph, shown = self.open[-1] if self.open else ("", "", True)
        if tag in PARAGRAPHS:
            paragraph = attributes.get("id") or ""
            self.texts.setdefault(paragraph, [])
        shown = shown and not (tag == "span" and attributes.get("class") in SYSTEMS)
        self.open.append((tag, paragraph, shown))

    def handle_endtag(self, tag: str) -> None:
        while any(tag == name for name, _, _ in self.open):  # browsers close what was left open inside, too
            if self.open.pop()[0] == tag:
                break

    def handle_data(self, data: str) -> None:
        _, paragraph, shown = self.open[-1] if self.open else ("", "", True)
        if paragraph and shown:
            self.texts[paragraph].append(data)


HELP = tuple(Source("Debian", f"libreoffice-help-{language}", (PAGES,)) for language in ("en-us", "fr"))

CORPORA = {
    "translation": Corpus(
        summary="LibreOffice's help, English to French",
        task="translation",
        columns={"source": "an English paragraph of at least four words", "target": "the same in French"},
        sources=HELP,
        license="mpl-2.0",
        terms="MPL-2.0",
        group="page of the help",
        examples=translations,
        language=("en", "fr"),
        notes="Paragraphs are aligned by the id that both languages give them; each pair is there once. Words for one "
        "system only (MAC, UNIX, WIN) are left out: those for all others stand beside them.",
    )
}
