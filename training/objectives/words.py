"""Where words and sentences begin in a row of tokens, told from the tokens alone.

A word is what BERT's whole-word masking takes for one (release of May 2019): a run of letters and digits, with the
space before it if that is part of its tokens. Punctuation marks stand for themselves, and so do the characters of
Chinese and Japanese, which are written without spaces. A sentence begins after a line break, after a full stop,
exclamation or question mark that a space follows, and after their East Asian forms. WordPiece has forgotten spaces, so
there any such mark ends a sentence; an abbreviation ends one everywhere.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import models
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ...configuration.errors import InputError

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA")  # as the names of these characters begin
# How the UTF-8 of characters begins, broken into several tokens, of which most are no letters, or are such characters.
ALONE_BYTES = (0xC2, *range(0xE2, 0xEA), *range(0xEE, 0xF5))
LATER_BYTES = bytes(range(0x80, 0xC0))  # of a character's UTF-8
STOPS = ".!?…"
EAST_ASIAN_STOPS = "。！？｡"  # noqa: RUF001


@dataclass(frozen=True)
class Words:
    """What each token of a vocabulary says about words and sentences: bool arrays of shape (V,).

    Attributes:
        inside: it goes on with the word of the token before ("##ing", the later bytes of a character).
        joins: it does so if that token ends within a word ("ing", but not "Ġing").
        open: it ends within a word.
        spaced: it begins with a space, or is a word of its own.
        stops: it ends a sentence if a space follows.
        breaks: it ends a sentence.
    """

    inside: np.ndarray
    joins: np.ndarray
    open: np.ndarray
    spaced: np.ndarray
    stops: np.ndarray
    breaks: np.ndarray

    @classmethod
    def of(cls, tokenizer: Any) -> "Words":
        """Reads the vocabulary of a fast tokenizer: WordPiece, byte-level, or with "▁" for the space.

        Raises:
            InputError: the tokenizer is not one of the `tokenizers` library.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InputError(
                f"words cannot be told apart with {type(tokenizer).__name__}, which is not built on the tokenizers "
                "library: load the tokenizer with AutoTokenizer from a folder that has a tokenizer.json."
            )
        rows = np.zeros((max(tokenizer.get_vocab().values()) + 1, 6), dtype=bool)
        wordpiece = isinstance(backend.model, models.WordPiece)
        for index, token in _spelled_tokens(tokenizer):
            rows[index] = _wordpiece_traits(token.decode()) if wordpiece else _traits(token)
        return cls(*rows.T)

    def starts(self, ids: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Where words begin: token ids (T,) and where documents begin (T,) -> bool (T,)."""
        inside = self.inside[ids] & ~documents
        # What goes on with a character ends as the token that began it.
        begun = np.maximum.accumulate(np.where(inside, 0, np.arange(len(ids))))
        inside[1:] |= self.joins[ids[1:]] & self.open[ids[begun[:-1]]]
        return documents | ~inside

    def sentences(self, ids: np.ndarray) -> np.ndarray:
        """Where sentences begin within a text of one document: token ids (T,) -> indices, ascending, without 0."""
        before, after = ids[:-1], ids[1:]
        return np.flatnonzero(self.breaks[before] | (self.stops[before] & self.spaced[after])) + 1


def _spelled_tokens(tokenizer: Any) -> Iterator[tuple[int, bytes]]:
    """Every token that is not special, with the bytes it stands for ("##" is left standing)."""
    backend = tokenizer.backend_tokenizer
    added = backend.get_added_tokens_decoder()
    decoder = repr(backend.decoder)
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()} if "ByteLevel" in decoder else {}
    special = set(tokenizer.all_special_ids)
    for token, index in backend.get_vocab().items():
        if index in special or not token:
            continue
        if byte_of and index not in added and byte_of.keys() >= set(token):
            yield index, bytes(byte_of[character] for character in token)
        elif "ByteFallback" in decoder and re.fullmatch("<0x[0-9A-F]{2}>", token):
            yield index, bytes([int(token[1:-1], 16)])
        else:
            yield index, token.replace("▁", " ").encode()


def _wordpiece_traits(token: str) -> tuple[bool, ...]:
    inside = token.startswith("##") and len(token) > 2
    stops = token in (*STOPS, *EAST_ASIAN_STOPS)
    return inside, False, False, not inside, stops, False


def _traits(token: bytes) -> tuple[bool, ...]:
    """The columns of [`Words`] for a token that keeps its spaces, whose characters may be broken off at either end."""
    rest = token.lstrip(LATER_BYTES)
    inside = len(rest) < len(token)
    text = rest.decode("utf-8", "replace")
    joins = not inside and _in_word(text[0], rest[0])
    # A lone space belongs to the word that follows.
    is_open = text == " " or (text != "" and _in_word(text[-1], rest.rstrip(LATER_BYTES)[-1]))
    end = text[-1:] or " "
    return inside, joins, is_open, text.startswith(" "), end in STOPS, "\n" in text or end in EAST_ASIAN_STOPS


def _in_word(character: str, byte: int) -> bool:
    """Whether words go on through a character; if it is broken (and replaced), `byte` is what begins it."""
    if character == "\ufffd":
        return byte not in ALONE_BYTES
    if unicodedata.name(character, "").startswith(UNSPACED):
        return False
    return character.isalnum() or unicodedata.category(character).startswith("M")
