"""Rows out of a stream of text: nothing is copied to disk, and only a window of tokens is in memory.

The window is read and tokenized by a thread while the one before is trained on. Every process reads the whole stream,
since only so do all of them agree where each row begins; memory-mapped data has no such cost.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, Literal, NamedTuple

import datasets
import numpy as np
from torch.utils.data import Dataset

from ...configuration.errors import InputError
from .best_fit import PACKINGS, Rows

STREAM_WINDOW_TOKENS = 2**20
BATCH_DOCUMENTS = 256  # tokenized together, and at most so many are read again after resuming

# Where a window begins, as JSON: in which pass, the state of the stream some documents before, how many documents
# before, and how many tokens of the first document belong to the window before.
Cursor = dict[str, Any]
BEGINNING: Cursor = {"epoch": 0, "stream": None, "documents": 0, "tokens": 0}


class Window(NamedTuple):
    """A stretch of the stream, packed.

    Attributes:
        number: which one.
        start, stop: the cursors where it begins and where the next one does.
        documents: the tokens of each document or part of one.
        rows: which pieces of them make each row.
    """

    number: int
    start: Cursor
    stop: Cursor
    documents: list[np.ndarray]
    rows: Rows


class StreamedDataset(Dataset):
    """Rows of `length` tokens out of a stream of documents, to be read in their order; after its end it begins again.

    Items are those of [`PackedDataset`](packing.py), with the place (0, row).

    Args:
        texts: a stream with the column `text`, one document a row.
        tokenize: from texts to tokens; see [`document_tokenizer`](tokenizing.py).
        length: tokens per row.
        seed: of the order of rows within a window and, if the stream is shuffled, of that; `None` = as they come.
        packing: as in `PackedDataset`.

    Raises:
        InputError: the packing is unknown; when read, if the stream holds no tokens.
    """

    in_order = True  # rows can only be read one after the other

    def __init__(
        self,
        texts: datasets.IterableDataset,
        tokenize: Callable[[list[str]], list[Any]],
        length: int,
        *,
        seed: int | None = None,
        packing: Literal["best-fit", "wrapped"] = "best-fit",
    ):
        if packing not in PACKINGS:
            raise InputError(f"`packing` is {' or '.join(map(repr, PACKINGS))}, not '{packing}'.")
        self.length = length
        self.num_tokens = 0  # read so far
        self._texts, self._tokenize, self._seed, self._packing = texts, tokenize, seed, packing
        self._counts = np.zeros(0, np.int64)
        self._begin(0, BEGINNING)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, row = divmod(index, self._rows_per_window)
        while number > self._window.number:
            self._advance()
        if number < self._window.number:
            raise IndexError(f"row {index} of the stream has gone by: rows are read in their order.")
        pieces = self._window.rows[row].tolist()
        tokens = [self._window.documents[document][start : start + length] for document, start, length in pieces]
        return {
            "input_ids": np.concatenate(tokens).astype(np.int64),
            "position_ids": np.concatenate([np.arange(len(piece)) for piece in tokens]),
            "place": (0, index),
        }

    def token_counts(self, vocab_size: int) -> np.ndarray:
        """How often each token occurs in what was read so far: int64 of shape (vocab_size,)."""
        counts = np.zeros(vocab_size, np.int64)
        counts[: len(self._counts)] = self._counts[:vocab_size]
        return counts

    @property
    def epoch(self) -> int:
        """How many times the stream has been read to its end."""
        return self._window.start["epoch"]

    def state_dict(self, rows_read: int) -> dict[str, Any]:
        """Where to go on after the first `rows_read` rows, the last that were read."""
        number = rows_read // self._rows_per_window
        cursors = {self._window.number: self._window.start, self._window.number + 1: self._window.stop}
        return {"rows": rows_read, "window": number, "cursor": cursors[number], "length": self.length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where `state` was taken; raises `InputError` if rows then had another length."""
        if state.get("length") != self.length:
            raise InputError(f"rows had {state.get('length')} tokens then, {self.length} now.")
        self._begin(state["window"], state["cursor"])

    @property
    def _rows_per_window(self) -> int:
        return max(STREAM_WINDOW_TOKENS // self.length, 1)

    def _begin(self, number: int, cursor: Cursor) -> None:
        self._source = self._documents(cursor)
        self._waiting: tuple[Cursor, np.ndarray] | None = None
        self._next: Future[Window] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._window = Window(number - 1, cursor, cursor, [], Rows(np.zeros((0, 3), np.int64), np.zeros(1, np.int64)))

    def _advance(self) -> None:
        """Makes the next window the current one, and has the one after it read."""
        following = self._next or self._thread.submit(self._read, self._window.number + 1)
        self._window = following.result()
        self._next = self._thread.submit(self._read, self._window.number + 1)

    def _read(self, number: int) -> Window:
        """Reads and packs a window; what its last document has too much waits for the next."""
        room = self._rows_per_window * self.length
        start, documents = None, []
        while room:
            cursor, tokens = self._waiting or next(self._source)
            start = start or cursor
            documents.append(tokens[:room])
            rest = tokens[room:]
            self._waiting = (cursor | {"tokens": cursor["tokens"] + room}, rest) if len(rest) else None
            room -= len(documents[-1])
        if self._waiting is None:
            self._waiting = next(self._source)
        rows = PACKINGS[self._packing](np.array([len(tokens) for tokens in documents]), self.length)
        if self._seed is not None:
            rows = rows.shuffled(np.random.default_rng([self._seed, number]))
        assert start is not None
        return Window(number, start, self._waiting[0], documents, rows)

    def _documents(self, cursor: Cursor) -> Iterator[tuple[Cursor, np.ndarray]]:
        """Yields the documents from `cursor` on, for ever, each with the cursor where it begins."""
        for epoch in count(cursor["epoch"]):
            self._texts.set_epoch(epoch)
            self._texts.load_state_dict(
                cursor["stream"]
            )  # `None` is its beginning, wherever others left off reading it
            found = False
            skipped, used = cursor["documents"], cursor["tokens"]
            for stream, texts in self._batches(cursor["stream"]):
                for number, tokens in enumerate(self._tokenized(texts)):
                    if number < skipped or not len(tokens):
                        continue
                    found = True
                    yield {"epoch": epoch, "stream": stream, "documents": number, "tokens": used}, tokens[used:]
                    used = 0
                skipped = 0
            if not found and cursor["stream"] is None:
                raise InputError("the stream holds no tokens: give more data.")
            cursor = BEGINNING

    def _batches(self, state: Any) -> Iterator[tuple[Any, list[str]]]:
        """Yields the texts of the stream from `state` on in batches, each with the state of the stream before it."""
        texts: list[str] = []
        for example in self._texts:
            texts.append(example["text"])
            if len(texts) == BATCH_DOCUMENTS:
                yield state, texts
                state, texts = self._texts.state_dict(), []
        if texts:
            yield state, texts

    def _tokenized(self, texts: list[str]) -> list[np.ndarray]:
        rows = [np.asarray(row, dtype=np.int32) for row in self._tokenize(texts)]
        counts = np.bincount(np.concatenate(rows), minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts
        self.num_tokens += sum(map(len, rows))
        return rows
