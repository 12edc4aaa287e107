"""Stretches of files, and what is said of a place in one that cannot be read."""

import codecs
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .opening import compression, open_bytes, stamp

# Who goes on in the middle of a file reads again at most about this much of it.
PART_BYTES = 1 << 24
NOT_UTF8 = "its byte 0x{:02X} is not UTF-8"
TO_UTF8 = "convert the file to UTF-8, for example with iconv"


class Part(NamedTuple):
    """A stretch of a file that can be read by itself.

    Attributes:
        path: the file.
        start, stop: which bytes of text, JSON or CSV (a record belongs to where it begins), which row groups of a
            Parquet file, which record batches of an Arrow file; `stop` is `None` at the end of the file.
        by_line: whether each line of a text file is a document.
    """

    path: str
    start: int = 0
    stop: int | None = None
    by_line: bool = False


def byte_parts(path: str) -> list[Part]:
    """Stretches of `PART_BYTES`; a compressed file is one part until it is unpacked, having no middle to begin in."""
    if compression(path):
        return [Part(path)]
    starts = range(0, stamp(path)[1], PART_BYTES)
    return [Part(path, start, start + PART_BYTES if start != starts[-1] else None) for start in starts]


class Unreadable(Exception):
    """A record, or all that follows in a part or in an array, that cannot be read.

    Args:
        reason: what is wrong, and
        way_out: what would make it right, both without a full stop.
        path, place: where; a place in words, or the byte at which its line begins.
    """

    def __init__(self, reason: str, way_out: str = "mend it", path: str = "", place: str | int = ""):
        super().__init__(reason)
        self.reason, self.way_out, self.path, self.place = reason, way_out, path, place

    def at(self, path: str, place: str | int) -> "Unreadable":
        """The same of that place."""
        return Unreadable(self.reason, self.way_out, path, place)

    def finding(self) -> str:
        """Where and what, in words; counts the lines of the file up to the place."""
        place = f"line {line_and_column(self.path, self.place)[0]}" if isinstance(self.place, int) else self.place
        return f"'{self.path}'{place and f', {place}'}: {self.reason}"

    def sentence(self) -> str:
        """One sentence for the user."""
        return f"{self.finding()}; {self.way_out}, or leave out what cannot be read with --skip_bad true."


def first_line(error: Exception) -> str:
    """The first line of another library's message, or the name of its error."""
    return next(iter(str(error).splitlines()), "").rstrip(".!:") or type(error).__name__


def byte_length(text: str) -> int:
    """How many bytes of the file a stretch of `open_text` is."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def check_unicode(text: str) -> None:
    """Raises `Unreadable` if a text has surrogates: half of a character, or a byte that did not decode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if "\udc80" <= text[error.start] <= "\udcff":  # how `surrogateescape` decodes what is not UTF-8
            raise Unreadable(NOT_UTF8.format(ord(text[error.start]) - 0xDC00), TO_UTF8) from None
        raise Unreadable("it has half of a surrogate pair, which is no character") from None


def decode_each(
    path: str, records: Iterable[tuple[int | str, Any]], decode: Callable[[Any], str | None]
) -> Iterator[str | Unreadable | None]:
    """Yields the text of each record, which comes with its place, or why it has none: what `decode` raises."""
    for place, record in records:
        text: str | Unreadable | None
        try:
            text = decode(record)
        except Unreadable as problem:
            text = problem.at(path, place)
        yield text


def line_and_column(path: str, offset: int) -> tuple[int, int]:
    """The line, and the character of it, both from 1, that a byte of the (uncompressed) file is in."""
    line = column = 1
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    with open_bytes(path) as file:
        while offset > 0 and (block := file.read(min(offset, PART_BYTES))):
            text = decoder.decode(block)
            line += text.count("\n")
            column = len(text) - text.rfind("\n") if "\n" in text else column + len(text)
            offset -= len(block)
    return line, column
