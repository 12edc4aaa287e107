"""Addresses in the United States whose parts people have labelled (usaddress)."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...configuration.errors import InputError
from .corpus import Corpus, Example, find_file
from .packages import Source

LABELED = "usaddress-*/training/labeled.xml"


def addresses(folder: Path) -> Iterator[Example]:
    """Rows `{"tokens", "tags"}`; raises `InputError` if the file is no XML."""
    path = find_file(folder, LABELED)
    try:
        strings = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise InputError(f"'{path.name}' cannot be read: {error}.") from error
    seen = set()
    for string in strings:
        parts = [(part.text.strip(), part.tag) for part in string if part.text and part.text.strip()]
        text = " ".join(token for token, _ in parts).casefold()
        if parts and text not in seen:
            seen.add(text)
            yield text, {"tokens": [token for token, _ in parts], "tags": list(bio(label for _, label in parts))}


def bio(labels: Iterable[str]) -> Iterator[str]:
    """`B-` before the first label of each run of equal ones and `I-` before the others (Ramshaw and Marcus, 1995)."""
    before = None
    for label in labels:
        yield f"{'I' if label == before else 'B'}-{label}"
        before = label


CORPORA = {
    "addresses": Corpus(
        summary="parts of addresses in the United States, labelled by people",
        task="token-classification",
        columns={"tokens": "words of an address", "tags": "B-Label or I-Label for each, by runs"},
        sources=(Source("PyPI", "usaddress==0.5.16", (LABELED,), ("--no-binary", "usaddress")),),
        license="mit",
        terms="MIT",
        group="address",
        examples=addresses,
        notes="Neighbouring words of one label are one span: the source does not say where the next begins.",
    )
}
