"""The descriptions of Debian's packages: in a line and at length, tagged and translated by people."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .corpus import Corpus, Example, unique
from .packages import Source

# Sections that say what a package is for, rather than in which language or of which part of a project it is.
TOPICS = frozenset(
    "admin comm database devel editors electronics fonts games graphics hamradio httpd mail math net otherosfs science "
    "sound tex text utils vcs video web x11".split()
)
MASK = "[NAME]"
AFFIXES = (
    re.compile(r"^(?:python3?-|lib)"),
    re.compile(r"(?:-(?:dev|docs?|data|common|bin|tools|utils|gtk|qt|cli|gui))+$"),
)
MIN_TAGGED = 200
MIN_CHARACTERS = 80  # of a long description; shorter ones say no more than the short one
FIELD = re.compile(r"^([\w-]+): (.*(?:\n .*)*)", re.MULTILINE)


class Description(NamedTuple):
    """A package as Debian describes it.

    Attributes:
        package: its name.
        source: the source package that it is built from.
        section: what Debian files it under.
        tags: its debtags.
        key: the MD5 by which translations name the description.
        short: the description in a line.
        paragraphs: the description at length.
    """

    package: str
    source: str
    section: str
    tags: tuple[str, ...]
    key: str
    short: str
    paragraphs: tuple[str, ...]

    @property
    def long(self) -> str:
        """All paragraphs."""
        return "\n\n".join(self.paragraphs)


def read_descriptions(folder: Path) -> list[Description]:
    """All packages with an English description; of several versions of a package the first."""
    texts = _translations(folder, "en")
    found = {}
    for stanza in _stanzas(folder / "Packages"):
        text = texts.get(stanza.get("Description-md5", ""))
        if text and stanza["Package"] not in found:
            found[stanza["Package"]] = Description(
                package=stanza["Package"],
                source=stanza.get("Source", stanza["Package"]).split()[0],
                section=stanza.get("Section", "").rpartition("/")[2],
                tags=tuple(re.split(r",\s*", stanza["Tag"])) if "Tag" in stanza else (),
                key=stanza["Description-md5"],
                short=text[0],
                paragraphs=text[1],
            )
    return list(found.values())


def topics(folder: Path) -> Iterator[Example]:
    """Rows `{"text", "label"}`: a long description without the package's names, and its section."""
    filed = (package for package in _long(folder) if package.section in TOPICS)
    rows = ((package.source, {"text": masked(package), "label": package.section}) for package in filed)
    return unique(rows, "text")


def tagged(folder: Path) -> Iterator[Example]:
    """Rows `{"text", "labels"}`: a description, and its tags that at least `MIN_TAGGED` packages have."""
    packages = [package for package in read_descriptions(folder) if package.tags]
    counts = Counter(tag for package in packages for tag in package.tags)
    rows = (
        (
            package.source,
            {
                "text": f"{package.short}\n\n{package.long}",
                "labels": sorted(tag for tag in set(package.tags) if counts[tag] >= MIN_TAGGED),
            },
        )
        for package in packages
    )
    return unique((example for example in rows if example[1]["labels"]), "text")


def summaries(folder: Path) -> Iterator[Example]:
    """Rows `{"source", "target"}`: the long description, and the short one."""
    return unique(((p.source, {"source": p.long, "target": p.short}) for p in _long(folder)), "source")


def retrieval_pairs(folder: Path) -> Iterator[Example]:
    """Rows `{"text", "positive"}`: the short description, and the long one; each text is there once."""
    rows = ((package.source, {"text": package.short, "positive": package.long}) for package in _long(folder))
    return unique(unique(rows, "positive"), "text")


def translated(folder: Path) -> Iterator[Example]:
    """Rows `{"source", "target"}`: short descriptions and paragraphs in English and French."""
    french = _translations(folder, "fr")
    return unique(_translated(read_descriptions(folder), french), "source")


def masked(package: Description) -> str:
    """The long description with the names of the package and of its source replaced, which give its section away."""
    names = {package.package, package.source}
    for affix in AFFIXES:
        names |= {affix.sub("", name) for name in names}
    names |= {name.replace("-", " ") for name in names}
    ordered = sorted((name for name in names if len(name) > 1), key=lambda name: (-len(name), name))
    return re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, ordered))})(?!\w)", MASK, package.long, flags=re.IGNORECASE)


def _long(folder: Path) -> Iterator[Description]:
    return (package for package in read_descriptions(folder) if len(package.long) >= MIN_CHARACTERS)


def _translated(packages: list[Description], french: dict[str, tuple[str, tuple[str, ...]]]) -> Iterator[Example]:
    for package in packages:
        short, paragraphs = french.get(package.key, ("", ()))
        if len(paragraphs) == len(package.paragraphs):
            pairs = zip((package.short, *package.paragraphs), (short, *paragraphs), strict=True)
            for source, target in pairs:
                if source and target and source != target:
                    yield package.source, {"source": source, "target": target}


def _translations(folder: Path, language: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The short description and the paragraphs of the long one, by the MD5 of the English original."""
    texts = {}
    for stanza in _stanzas(folder / f"Translation-{language}"):
        short, _, rest = stanza.get(f"Description-{language}", "").partition("\n")
        paragraphs = tuple(lay_out(rest))
        if short and paragraphs:
            texts[stanza["Description-md5"]] = " ".join(short.split()), paragraphs
    return texts


def lay_out(description: str) -> Iterator[str]:
    """The paragraphs of a long description as Debian's policy (5.6.13) writes them, without the breaks of lines.

    Lines that begin with two spaces, such as those of lists, stay lines.
    """
    for block in re.split(r"^ \.[ \t]*$", description, flags=re.MULTILINE):
        text = ""
        for line in filter(str.strip, block.split("\n")):
            verbatim = line.startswith("  ")
            text += ("\n" if verbatim else " ") + line.strip()
        if text.strip():
            yield text.strip()


def _stanzas(path: Path) -> Iterator[dict[str, str]]:
    for stanza in re.split(r"\n\n+", path.read_text(encoding="utf-8", errors="replace")):
        if stanza.strip():
            yield dict(FIELD.findall(stanza))


LISTS = Source("Debian lists", "descriptions")
_TERMS = "Each package's own free licence"
_SPLIT = "source package"
_SHORT, _LONG = "what a package is, in a line", "what it is, at length"

CORPORA = {
    "topic": Corpus(
        summary=f"descriptions of Debian's packages: which of {len(TOPICS)} sections?",
        task="text-classification",
        columns={"text": _LONG, "label": "its section"},
        sources=(LISTS,),
        license="other",
        terms=_TERMS,
        group=_SPLIT,
        examples=topics,
        notes=f"{MASK} stands for the names of the package and of its source, which give the section away: in any "
        "letter case, with spaces for hyphens, and without the affixes of such names (lib-, -data, ...).",
    ),
    "tags": Corpus(
        summary="descriptions of Debian's packages: which of its tags?",
        task="text-classification",
        columns={"text": "what a package is, in a line and at length", "labels": "its debtags, several"},
        sources=(LISTS,),
        license="other",
        terms=_TERMS,
        group=_SPLIT,
        examples=tagged,
        notes=f"Tags are those that at least {MIN_TAGGED} packages have. People set them and miss some.",
    ),
    "summaries": Corpus(
        summary="descriptions of Debian's packages: at length, and in a line",
        task="summarization",
        columns={"source": _LONG, "target": _SHORT},
        sources=(LISTS,),
        license="other",
        terms=_TERMS,
        group=_SPLIT,
        examples=summaries,
        notes="Long descriptions that several packages share are there once.",
    ),
    "descriptions": Corpus(
        summary="descriptions of Debian's packages, to find the long one by the short one",
        task="sentence-similarity",
        columns={"text": _SHORT, "positive": _LONG},
        sources=(LISTS,),
        license="other",
        terms=_TERMS,
        group=_SPLIT,
        examples=retrieval_pairs,
        notes="No text is there twice on its side, so that any other row's is a wrong answer.",
    ),
    "translation-descriptions": Corpus(
        summary="descriptions of Debian's packages, English to French",
        task="translation",
        columns={"source": "an English line or paragraph", "target": "the same in French"},
        sources=(LISTS,),
        license="other",
        terms=f"{_TERMS}; translations by the Debian Description Translation Project",
        group=_SPLIT,
        examples=translated,
        language=("en", "fr"),
        notes="Paragraphs are aligned by their order, where both languages have equally many.",
    ),
}
