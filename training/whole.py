"""Rows to measure on: every document to its end, whatever its length, and none of them in the company of padding."""

from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
from torch.utils.data import Dataset

from ..configuration.errors import InputError
from .data.token_table import TokenTable

Piece = tuple[int, int, int]  # number of the document, where in it the piece starts, tokens


class WholeDocuments(Dataset):
    """Rows of at most `length` tokens that hold all documents, in order; a document that is longer is cut.

    Items are those of [`PackedDataset`](data/packing.py), of different lengths.

    Args:
        documents: a dataset with the column `input_ids`, one document a row.
        length: tokens that a model reads at once.
        overlap: tokens that a piece of a document reads again from the end of the one before. A causal model needs one:
            it predicts nothing at the start of what it reads.

    Raises:
        InputError: there are no tokens.
    """

    def __init__(self, documents: datasets.Dataset, length: int, overlap: int = 0):
        self.tokens = TokenTable(documents)
        self.rows = list(fill_rows(cut_documents(self.tokens.lengths.tolist(), length, overlap), length))
        if not self.rows:
            raise InputError("the documents hold no tokens: give more data.")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pieces = [
            self.tokens[document][start : start + length].astype(np.int64)
            for document, start, length in self.rows[index]
        ]
        return {
            "input_ids": np.concatenate(pieces),
            "position_ids": np.concatenate([np.arange(len(piece)) for piece in pieces]),
            "place": (0, index),
        }


def cut_documents(lengths: list[int], size: int, overlap: int) -> Iterator[Piece]:
    """Pieces of at most `size` tokens; each but the first of a document begins `overlap` tokens before its own."""
    for document, length in enumerate(lengths):
        for start in range(0, max(length - overlap, min(length, 1)), size - overlap):
            yield document, start, min(size, length - start)


def fill_rows(pieces: Iterator[Piece], size: int) -> Iterator[list[Piece]]:
    """Puts consecutive pieces together as long as they come to at most `size` tokens."""
    row: list[Piece] = []
    room = size
    for piece in pieces:
        if piece[2] > room:
            yield row
            row, room = [], size
        row.append(piece)
        room -= piece[2]
    if row:
        yield row
