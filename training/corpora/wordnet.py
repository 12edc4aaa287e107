"""WordNet 3.0 (Fellbaum, 1998): which of five neighbouring words does a definition define?"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .corpus import Corpus, Example, draw, draw_some, find_file
from .packages import Source

DATA = "usr/share/wordnet/data.*"
CHOICES = 5


class Synset(NamedTuple):
    """A set of synonyms.

    Attributes:
        word: the first of them.
        hypernym: where the more general synset lies, or "" for none.
        definition: without the examples.
    """

    word: str
    hypernym: str
    definition: str


def definitions(folder: Path) -> Iterator[Example]:
    """Rows `{"text", "choices", "label"}` of nouns and verbs; the group is the hypernym.

    Wrong choices are drawn among the words with the same hypernym. Definitions that hold their own word are left out.
    """
    for part in ("noun", "verb"):
        below: dict[str, list[Synset]] = {}
        for synset in read_synsets(find_file(folder, DATA.replace("*", part))):
            if synset.hypernym:
                below.setdefault(synset.hypernym, []).append(synset)
        for hypernym, synsets in below.items():
            words = sorted({synset.word for synset in synsets})
            seen = set()
            for synset in synsets:
                if len(words) >= CHOICES and not tells(synset) and synset.definition not in seen:
                    seen.add(synset.definition)
                    yield f"{part} {hypernym}", _question(synset, words)


def tells(synset: Synset) -> bool:
    """Whether the definition holds a word of what it defines, in any form that begins alike."""
    text = synset.definition.casefold()
    return any(re.search(rf"\b{re.escape(word[:5])}", text) for word in synset.word.casefold().split() if len(word) > 2)


def read_synsets(path: Path) -> Iterator[Synset]:
    """Reads a `data.*` file, as wndb(5WN) describes it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        count = int(fields[3], 16)
        pointers = fields[5 + 2 * count :]
        hypernym = next(
            (pointers[i + 1] for i in range(0, 4 * int(fields[4 + 2 * count]), 4) if pointers[i] == "@"), ""
        )
        yield Synset(fields[4].replace("_", " "), hypernym, re.split(r'; "', gloss.strip())[0].strip())


def _question(synset: Synset, words: list[str]) -> dict:
    key = f"{synset.word}: {synset.definition}"
    choices = draw_some(key, [word for word in words if word != synset.word], CHOICES - 1)
    label = draw(key, CHOICES)
    choices.insert(label, synset.word)
    return {"text": synset.definition, "choices": choices, "label": label}


CORPORA = {
    "glosses": Corpus(
        summary="definitions of WordNet: which of five neighbouring words?",
        task="multiple-choice",
        columns={"text": "a definition", "choices": "five words", "label": "the place of the right one, 0 to 4"},
        sources=(Source("Debian", "wordnet-base", tuple(DATA.replace("*", part) for part in ("noun", "verb"))),),
        license="other",
        terms="WordNet 3.0 licence (permissive, with attribution to Princeton University)",
        group="hypernym, whose words are each other's wrong choices",
        examples=definitions,
        notes="Definitions that hold the beginning of the word that they define are left out.",
    )
}
