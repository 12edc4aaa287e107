"""The King James and the World English Bible, verse by verse, out of modules of the SWORD project."""

import re
import struct
import zlib
from collections.abc import Iterator
from html import unescape
from pathlib import Path

from ...configuration.errors import InputError
from .corpus import Corpus, Example, draw, find_file, unique
from .packages import Source

TEXTS = "usr/share/sword/modules/texts/ztext/*"
CHAPTER = re.compile(r'<chapter [^>]*osisID="([^"]+)"')
END = re.compile(r"<chapter [^>]*eID=")  # what stands behind it is not the chapter's, for example a glossary
# Notes and headings are not the verse's; the pilcrow marks a paragraph.
ASIDE = re.compile(r"<(note|title)\b[^>]*(?<!/)>.*?</\1>|¶", re.DOTALL)
TAG = re.compile(r"<[^>]*>")


def verse_pairs(king_james: Path, world_english: Path) -> Iterator[Example]:
    """Rows `{"text", "text_pair", "label"}`, one for each verse that both have; the group is the chapter.

    Verses that return word for word in another chapter are there once. Half the pairs are one verse in both
    translations, half are two verses of a chapter, drawn by the verse's name.
    """
    return unique(_pairs(read_verses(king_james), read_verses(world_english)), "text")


def _pairs(old: dict[str, str], new: dict[str, str]) -> Iterator[Example]:
    chapters: dict[str, list[str]] = {}
    for reference in old:
        if reference in new:
            chapters.setdefault(chapter_of(reference), []).append(reference)
    for chapter, references in chapters.items():
        for place, reference in enumerate(references):
            step = 0
            if draw(reference, 2) and len(references) > 1:
                step = 1 + draw(f"{reference} other", len(references) - 1)
            other = references[(place + step) % len(references)]
            label = "different" if step else "same"
            yield chapter, {"text": old[reference], "text_pair": new[other], "label": label}


def chapter_of(reference: str) -> str:
    """The chapter of a verse: Gen.1 of Gen.1.31."""
    return reference.rpartition(".")[0]


def read_verses(folder: Path) -> dict[str, str]:
    """The verses of a module of the driver zText by their OSIS names, "Gen.1.1"; raises `InputError` if it is broken.

    Its slots are a heading for each book and each chapter with the verses after it. Each chapter's heading names it, so
    that no table of the versification is needed.
    """
    verses: dict[str, str] = {}
    for testament in ("ot", "nt"):
        chapter, number = "", 0
        for slot in _slots(folder, testament):
            named = CHAPTER.search(slot)
            if named:
                chapter, number = named[1], 0
            elif chapter:
                number += 1
                if text := plain(slot):
                    verses[f"{chapter}.{number}"] = text
    return verses


def plain(markup: str) -> str:
    """The words of a verse in OSIS."""
    return " ".join(unescape(TAG.sub("", ASIDE.sub("", END.split(markup)[0]))).split())


def _slots(folder: Path, testament: str) -> Iterator[str]:
    """The entries of a testament: `.bzv` says in which block each lies, `.bzs` where in `.bzz` the blocks are."""
    places, index, content = (
        find_file(folder, f"{TEXTS}/{testament}.{suffix}").read_bytes() for suffix in ("bzv", "bzs", "bzz")
    )
    blocks: dict[int, bytes] = {}
    try:
        sizes = list(struct.iter_unpack("<III", index))
        for block, start, size in struct.iter_unpack("<IIH", places):
            if block not in blocks:
                offset, packed, _ = sizes[block]
                blocks[block] = zlib.decompress(content[offset : offset + packed]) if packed else b""
            yield blocks[block][start : start + size].decode("utf-8", errors="replace")
    except (struct.error, zlib.error, IndexError) as error:
        raise InputError(f"the text in '{folder}' is broken ({error}): fetch it again with --fresh.") from error


def _module(name: str) -> Source:
    files = tuple(f"{TEXTS}/{testament}.{suffix}" for testament in ("ot", "nt") for suffix in ("bzs", "bzv", "bzz"))
    return Source("Debian", name, files)


CORPORA = {
    "verses": Corpus(
        summary="verses of the King James and the World English Bible: the same verse or not",
        task="text-classification",
        columns={
            "text": "a verse of the King James Version (1769)",
            "text_pair": "a verse of the World English Bible (2015)",
            "label": "same or different; different ones are of the same chapter",
        },
        sources=(_module("sword-text-kjv"), _module("sword-text-web")),
        license="other",
        terms="Public domain (the King James Version is under letters patent in the United Kingdom)",
        group="chapter",
        examples=verse_pairs,
        notes="A pair is of the same verse or not by a draw from the verse's name, half of them each.",
    )
}
