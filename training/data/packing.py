"""From documents to blocks of equal length without padding, by arithmetic on where each document begins.

The documents' tokens lie one after the other in the (memory-mapped) Arrow table of `datasets`; block `i` is the stretch
from `i * length` to `(i + 1) * length` of that stream. Nothing is copied or written, whatever the block length.
"""

import json
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset

from ...configuration.errors import InputError

USED = ("truncation", "padding")  # how a tokenizer was last called


def tokenize_documents(
    documents: datasets.Dataset, tokenizer: Any, *, special_tokens: bool = True, append_eos: bool = False
) -> datasets.Dataset:
    """Replaces the column `text` by `input_ids`, whole documents, cached by `datasets`.

    Args:
        documents: one document a row, in the column `text`.
        tokenizer: any of transformers' fast tokenizers; it is not told to truncate.
        special_tokens: put each document into the form that the tokenizer gives ("[CLS] A [SEP]", "<|bos|> A", ...).
        append_eos: end each document with the end-of-sequence token, where its form does not already.
    """
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    eos = tokenizer.eos_token_id

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        rows = tokenizer(
            batch["text"],
            add_special_tokens=special_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
            split_special_tokens=True,  # the literal "[MASK]" within a text is text
            verbose=False,
        )["input_ids"]
        if append_eos:
            rows = [row if row and row[-1] == eos else [*row, eos] for row in rows]
        return {"input_ids": rows}

    # `datasets` would hash the tokenizer as pickled, which changes once it has been used, and so do these two fields.
    state = {name: part for name, part in json.loads(tokenizer.backend_tokenizer.to_str()).items() if name not in USED}
    fingerprint = datasets.fingerprint.Hasher.hash((documents._fingerprint, state, special_tokens, append_eos))
    return documents.map(
        tokenize, batched=True, remove_columns="text", features=features, new_fingerprint=fingerprint, desc="Tokenizing"
    )


class PackedDataset(Dataset):
    """Blocks of `length` tokens out of consecutive documents.

    Item `i` is `{"input_ids", "position_ids", "place"}`: two int64 arrays of shape (length,) and the pair (epoch, i).
    Positions count from 0 within each document and again where a block boundary cuts one, so a position of 0 marks the
    beginning of what attention must keep to itself. What is left over at the end is dropped, unless it is all there is.
    The place is what collators seed their random choices with: the same wherever and in whatever order it is read.

    Args:
        documents: a dataset with the column `input_ids`, one document a row.
        length: tokens per block.
        max_blocks: keep only the first so many.

    Raises:
        InputError: there are no tokens.
    """

    def __init__(self, documents: datasets.Dataset, length: int, max_blocks: int | None = None):
        self.documents = documents.with_format("arrow")
        self.length = length
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change
        lengths = [_lengths(batch) for batch in self.documents.iter(batch_size=10_000)]
        self.ends = np.cumsum(np.concatenate([*lengths, np.zeros(0, np.int64)]), dtype=np.int64)
        self.num_tokens = int(self.ends[-1]) if len(self.ends) else 0
        if not self.num_tokens:
            raise InputError("the documents hold no tokens: give more data.")
        self.num_blocks = max(self.num_tokens // length, 1)
        if max_blocks is not None:
            self.num_blocks = min(self.num_blocks, max_blocks)

    def __len__(self) -> int:
        return self.num_blocks

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.num_blocks:
            raise IndexError(index)
        start = index * self.length
        stop = min(start + self.length, self.num_tokens)
        first, last = np.searchsorted(self.ends, [start, stop - 1], side="right")
        column = self.documents[int(first) : int(last) + 1]["input_ids"].combine_chunks()
        begin = self.ends[first - 1] if first else 0
        tokens = column.flatten().to_numpy(zero_copy_only=False)[start - begin : stop - begin].astype(np.int64)
        starts = np.concatenate([[0], self.ends[first:last] - start])
        lengths = np.diff(starts, append=stop - start)
        return {
            "input_ids": tokens,
            "position_ids": np.arange(stop - start) - np.repeat(starts, lengths),
            "place": (int(self._epoch), index),
        }

    def set_epoch(self, epoch: int) -> None:
        """Says which pass over the data this is; it becomes part of every item's place."""
        self._epoch.fill_(epoch)

    def token_counts(self, vocab_size: int) -> np.ndarray:
        """How often each token occurs in all documents: int64 of shape (vocab_size,)."""
        counts = np.zeros(vocab_size, np.int64)
        for batch in self.documents.iter(batch_size=1000):
            ids = batch["input_ids"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            counts += np.bincount(ids, minlength=vocab_size)
        return counts


def _lengths(batch: Any) -> np.ndarray:
    """Tokens of each document of an Arrow batch."""
    return batch["input_ids"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
