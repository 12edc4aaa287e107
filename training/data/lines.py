"""Documents out of text files and JSON lines, line by line."""

import codecs
import io
import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from .opening import open_bytes
from .parts import NOT_UTF8, TO_UTF8, Part, Unreadable, check_unicode, decode_each

# A text file has no documents of its own: it is read in pages of about this many characters, cut at a blank line (or at
# a line end, or anywhere, if none comes), so that a part of one long file can be held out.
PAGE_CHARACTERS = 16_384


def read_pages(part: Part, column: str) -> Iterator[str | Unreadable]:
    """Yields the pages of a text file; a line of which a byte is not UTF-8 is unreadable."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("surrogateescape"), translate=True)
    page: list[str] = []
    size = place = 0
    # A piece may end within a character, which the decoder keeps for the next, or for the end.
    for offset, piece in chain(_lines(part, PAGE_CHARACTERS), [(None, b"")]):
        place = place if offset is None else offset
        text = decoder.decode(piece, final=not piece or piece.endswith(b"\n"))
        if not place:
            text = text.removeprefix("\ufeff")
        try:
            check_unicode(text)
        except Unreadable as problem:
            yield problem.at(part.path, place)
            continue
        page.append(text)
        size += len(text)
        if size >= 2 * PAGE_CHARACTERS or (size >= PAGE_CHARACTERS and not text.strip()):
            yield "".join(page)
            page, size = [], 0
    yield "".join(page)


def read_text_lines(part: Part, column: str) -> Iterator[str | Unreadable | None]:
    """Yields each line of a text file, as `datasets` does; a line may also end with a carriage return."""

    def decode(line: str) -> str:
        check_unicode(line)
        return line

    texts = ((offset, line.decode("utf-8", "surrogateescape").removesuffix("\n")) for offset, line in _lines(part))
    ends = ((offset, text.removesuffix("\r").replace("\r", "\n")) for offset, text in texts)
    return decode_each(part.path, ((offset, line) for offset, text in ends for line in text.split("\n")), decode)


def read_json_lines(part: Part, column: str) -> Iterator[str | Unreadable | None]:
    """Yields the column of each line that is no blank one."""
    lines = ((offset, line) for offset, line in _lines(part) if not line.isspace())
    return decode_each(part.path, lines, lambda line: field(_decode(line.rstrip()), column))


def _lines(part: Part, limit: int = -1) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that begin in a part, whole or in pieces of `limit` bytes, and where each begins in the file."""
    with open_bytes(part.path) as file:
        position = part.start
        if position:
            file.seek(position - 1)
            while (skipped := file.readline(PAGE_CHARACTERS)) and not skipped.endswith(b"\n"):
                pass
            position = file.tell()
        at_start = True
        while not at_start or part.stop is None or position < part.stop:
            piece = file.readline(limit)
            if not piece:
                return
            yield position, piece
            position += len(piece)
            at_start = piece.endswith(b"\n")


def _decode(encoded: bytes) -> Any:
    """The value of a line of JSON; raises `Unreadable`."""
    try:
        return json.loads(encoded.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Unreadable(NOT_UTF8.format(encoded[error.start]), TO_UTF8) from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"it is no JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        raise Unreadable("it is no JSON that can be read") from None


def field(record: Any, column: str) -> str | None:
    """The text in a column of a JSON record; raises `Unreadable`."""
    if not isinstance(record, dict):
        raise Unreadable(f"it holds {_name(record)}, not an object with the column '{column}'")
    if column not in record:
        raise Unreadable(f"it has no column '{column}' (it has {', '.join(record) or 'none'})")
    text = record[column]
    if isinstance(text, str):
        check_unicode(text)
    elif text is not None:
        raise Unreadable(f"column '{column}' holds {_name(text)}, not text")
    return text


def _name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
