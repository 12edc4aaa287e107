"""Stretches of files, and what is said of a place in one that cannot be read."""

from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple

# Who goes on in the middle of a file reads again at most about this much of it.
PART_BYTES = 1 << 24
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
NOT_UTF8 = "its byte 0x{:02X} is not UTF-8"
TO_UTF8 = "convert the file to UTF-8, for example with iconv"


class Part(NamedTuple):
    """A stretch of a file that can be read by itself.

    Attributes:
        path: the file.
        start, stop: which bytes of a file of lines (a line belongs to where it begins), which row groups of a Parquet
            file, which record batches of an Arrow file; `stop` is `None` at the end of the file.
    """

    path: str
    start: int = 0
    stop: int | None = None


class Unreadable(Exception):
    """A record, or all that follows in a part, that cannot be read.

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
        place = f"line {_line_number(self.path, self.place)}" if isinstance(self.place, int) else self.place
        return f"'{self.path}'{place and f', {place}'}: {self.reason}"

    def sentence(self) -> str:
        """One sentence for the user."""
        return f"{self.finding()}; {self.way_out}, or leave out what cannot be read with --skip_bad true."


def first_line(error: Exception) -> str:
    """The first line of another library's message, or the name of its error."""
    return next(iter(str(error).splitlines()), "").rstrip(".!:") or type(error).__name__


def open_bytes(path: str) -> IO[bytes]:
    """Opens a file that may be compressed, as its name says."""
    import fsspec

    return fsspec.open(path, "rb", compression="infer").open()


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


def _line_number(path: str, offset: int) -> int:
    """The number, from 1, of the line that begins at a byte of the (uncompressed) file."""
    lines = 1
    with open_bytes(path) as file:
        while offset > 0 and (block := file.read(min(offset, PART_BYTES))):
            lines += block.count(b"\n")
            offset -= len(block)
    return lines
