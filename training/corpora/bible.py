"""The King James and the World English Bible, verse by verse, out of modules of the SWORD project."""

import re
import struct
import zlib
from collections.abc import Iterator
from html import unescape
from pathlib import Path

from ...configuration.errors import InputError
from .corpus import Corpus, Example, choose_split, draw, find_file, unique
from .likeness import nearest_others
from .packages import Source

AS_GOOD_AS_SAME = 0.8  # parallel passages, such as those of Kings and Chronicles, are nearly word for word the same
TEXTS = "usr/share/sword/modules/texts/ztext/*"
CHAPTER = re.compile(r'<chapter [^>]*osisID="([^"]+)"')
END = re.compile(r"<chapter [^>]*eID=")  # what stands behind it is not the chapter's, for example a glossary
# Notes and headings are not the verse's; the pilcrow marks a paragraph.
ASIDE = re.compile(r"<(note|title)\b[^>]*(?<!/)>.*?</\1>|¶", re.DOTALL)
TAG = re.compile(r"<[^>]*>")


def verse_pairs(king_james: Path, world_english: Path) -> Iterator[Example]:
    """Rows `{"text", "text_pair", "label"}`, one for each verse that both have; the group is the chapter.

    Verses that return word for word in another chapter are there once. Half the pairs, drawn by the verse's name, are
    one verse in both translations; half are a verse and the most alike other one of the book and of the split.
    """
    return unique(_pairs(read_verses(king_james), read_verses(world_english)), "text")


def _pairs(old: dict[str, str], new: dict[str, str]) -> Iterator[Example]:
    both = [reference for reference in old if reference in new]
    others = _others(old, new, both)
    for reference in both:
        other = others.get(reference) if draw(reference, 2) else None
        label = "different" if other else "same"
        yield chapter_of(reference), {"text": old[reference], "text_pair": new[other or reference], "label": label}


def _others(old: dict[str, str], new: dict[str, str], references: list[str]) -> dict[str, str]:
    """For each verse another that is easily taken for it, of a chapter that goes to the same split."""
    groups: dict[tuple[str, str], list[str]] = {}
    for reference in references:
        chapter = chapter_of(reference)
        groups.setdefault((chapter.partition(".")[0], choose_split(chapter)), []).append(reference)
    others = {}
    for group in groups.values():
        texts, partners = ([verses[reference] for reference in group] for verses in (old, new))
        for reference, place in zip(group, nearest_others(texts, partners, AS_GOOD_AS_SAME), strict=True):
            if place is not None:
                others[reference] = group[place]
    return others


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
            "label": "same or different",
        },
        sources=(_module("sword-text-kjv"), _module("sword-text-web")),
        license="other",
        terms="Public domain (the King James Version is under letters patent in the United Kingdom)",
        group="chapter",
        examples=verse_pairs,
        notes="A pair is of the same verse or not by a draw from the verse's name, half of them each. Where it is not, "
        "the other verse is that of the book, and of the split, which is most like the first by its words (TF-IDF); "
        "parallel passages, which say the same, are not taken.",
    )
}
