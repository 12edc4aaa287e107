"""The tokens of documents where they lie, in the memory-mapped chunks of a table of `datasets`.

`documents[i]` decodes and copies, and a column of many chunks looks for the one that has row i from the first on, so
that reading slows down as the data grows. Here each chunk's offsets are at hand, and a document is a view of its chunk.
"""

from bisect import bisect_right
from functools import cached_property

import datasets
import numpy as np


class TokenTable:
    """Documents by number: (T,) int32 each, not copied.

    Processes that it is sent to get the dataset, which they map into memory themselves.

    Args:
        documents: a dataset with the column `input_ids`, one document a row.
    """

    def __init__(self, documents: datasets.Dataset):
        self.documents = documents.with_format("arrow")

    def __reduce__(self) -> tuple:
        return TokenTable, (self.documents,)

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, document: int) -> np.ndarray:
        place = document if self._selected is None else int(self._selected[document])
        chunk = bisect_right(self._starts, place) - 1
        offsets, tokens = self._chunks[chunk]
        row = place - self._starts[chunk]
        return tokens[offsets[row] : offsets[row + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, (N,) int32, read off the offsets and not the tokens."""
        lengths = [np.diff(offsets).astype(np.int32) for offsets, _ in self._chunks]
        stored = np.concatenate([*lengths, np.zeros(0, np.int32)])
        return stored if self._selected is None else stored[self._selected]

    def counts(self, vocab_size: int) -> np.ndarray:
        """How often each token occurs in all documents: int64 of shape (vocab_size,)."""
        found = np.zeros(vocab_size, np.int64)
        for batch in self.documents.iter(batch_size=1000):
            for chunk in batch["input_ids"].chunks:
                found += np.bincount(chunk.flatten().to_numpy(zero_copy_only=False), minlength=vocab_size)
        return found

    @cached_property
    def _chunks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each chunk where its documents begin and end, and the tokens that these places are of."""
        chunks = self.documents.data.column("input_ids").chunks if len(self) else []  # without rows, without columns
        return [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in chunks if len(chunk)]

    @cached_property
    def _starts(self) -> list[int]:
        """The number of the first row of each chunk."""
        sizes = [len(offsets) - 1 for offsets, _ in self._chunks]
        return np.cumsum([0, *sizes])[:-1].tolist()

    @cached_property
    def _selected(self) -> np.ndarray | None:
        """The rows of the table that the documents are, if they are some of them or in another order."""
        rows = self.documents._indices
        return None if rows is None else rows.column(0).to_numpy()
