"""Documents out of a JSON array, item by item: the array is never in memory whole."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from .lines import PAGE_CHARACTERS, field, read_json_lines
from .opening import open_bytes, open_text, stamp
from .parts import Part, Unreadable, byte_length, check_unicode, decode_each, line_and_column
from .places import Place, records_of

BLOCK_CHARACTERS = 1 << 20  # read at once, or as many as there are of an item already
LONGEST_WORD = 16  # more than the characters of anything but a string that `json` does not understand when it is cut
BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\n\r]*\[")
BLANKS = re.compile(r"[ \t\n\r]*")
# What makes an array of the rest of one, by the character that the rest begins with.
OPENINGS = {"[": "", ",": "[0", "]": "["}
DECODER = json.JSONDecoder()


def read_json(part: Part, column: str) -> Iterator[str | Unreadable | None]:
    """Yields the column of each item of an array, or the item if it is a text; of anything else as of lines."""
    if _beginning(part.path) is None:
        yield from read_json_lines(part, column)
        return

    def text(item: Any) -> str | None:
        if isinstance(item, Unreadable):
            raise item
        return field({"text": item} if isinstance(item, str) else item, column)

    items = ((f"item {place.before + 1}", item) for place, item in records_of(part, _items))
    yield from decode_each(part.path, items, text)


def _beginning(path: str) -> int | None:
    """The byte at which the array of a file begins; `None` if it holds none."""
    return _beginning_of(path, stamp(path))


@cache
def _beginning_of(path: str, stamp: Any) -> int | None:  # of each part, but far from it
    with open_bytes(path) as file:
        beginning = BEGINNING.match(file.read(PAGE_CHARACTERS))
    return beginning.end() - 1 if beginning else None


def _items(path: str, place: Place) -> Iterator[tuple[Any, Place]]:
    """Yields the items from a place on, which is that of the bracket or comma before an item, each with the next place.

    An item of which a byte is not UTF-8 is an `Unreadable`; what is no JSON raises one, as no other item can be found.
    """
    byte, before = place.byte or _beginning(path) or 0, place.before
    text, start = "", 0
    with open_text(path, byte) as file:
        while True:
            try:
                item, stop = _item(text, start)
            except (ValueError, RecursionError) as error:
                rest = text[start:]
                more = _may_be_cut(error, text) and file.read(max(BLOCK_CHARACTERS, len(rest)))
                if not more:
                    _check_end(rest, path, Place(byte, before))
                    return
                text, start = rest + more, 0
                continue
            encoded = text[start:stop]
            try:
                check_unicode(encoded)
            except Unreadable as problem:
                item = problem
            byte, before, start = byte + byte_length(encoded), before + 1, stop
            yield item, Place(byte, before)


def _item(text: str, start: int) -> tuple[Any, int]:
    """The item after the bracket or comma at `start`, and where the comma or bracket after it is.

    Raises what `json` does; at the end of the array and of the text too, as more text may come.
    """
    begin = _skip_blanks(text, start + 1)
    if text.startswith("[", start) and text.startswith("]", begin):
        start, begin = begin, _skip_blanks(text, begin + 1)
    if text.startswith("]", start):
        raise json.JSONDecodeError("Extra data", text, begin)
    item, stop = DECODER.raw_decode(text, begin)
    stop = _skip_blanks(text, stop)
    if not text.startswith((",", "]"), stop):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, stop)
    return item, stop


def _skip_blanks(text: str, start: int) -> int:
    blanks = BLANKS.match(text, start)
    return blanks.end() if blanks else start


def _may_be_cut(error: Exception, text: str) -> bool:
    """Whether the error may come from the text's end rather than from what it holds."""
    position = getattr(error, "pos", len(text))
    return position + LONGEST_WORD > len(text) or str(error).startswith("Unterminated string")


def _check_end(rest: str, path: str, place: Place) -> None:
    """Raises `Unreadable` unless the rest of an array holds no more than its end."""
    opening = OPENINGS[rest[0]]
    try:
        json.loads(opening + rest)
    except json.JSONDecodeError as error:
        good = rest[: max(error.pos - len(opening), 0)]
        check_unicode(rest[: len(good) + 1])
        line, column = line_and_column(path, place.byte + byte_length(good))
        where = f"line {line}" if line > 1 else ""
        raise Unreadable(f"it is no JSON ({error.msg} at column {column})", place=where) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        raise Unreadable("it is no JSON that can be read", place=f"item {place.before + 1}") from None
