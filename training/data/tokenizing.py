"""From text to tokens: whole documents, in the form that their family reads."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import numpy as np

# A tokenizer needs a hundred bytes and more for each token that it is working on, so it gets long texts in slices.
LONG_CHARACTERS = 2**20
SINGLE_SPACE = re.compile(r"(?<=\S) (?=\S)")
USED = ("truncation", "padding")  # how a tokenizer was last called


def document_tokenizer(
    tokenizer: Any, *, special_tokens: bool = True, append_eos: bool = False
) -> Callable[[list[str]], list[Any]]:
    """A function from texts to their tokens, a list or an array of ids each.

    Args:
        tokenizer: any of transformers' fast tokenizers; it is not told to truncate.
        special_tokens: put each document into the form that the tokenizer gives ("[CLS] A [SEP]", "<|bos|> A", ...).
        append_eos: end each document with the end-of-sequence token, where its form does not already.
    """
    eos = tokenizer.eos_token_id

    def call(texts: list[str], add_special_tokens: bool) -> list[list[int]]:
        return tokenizer(
            texts,
            add_special_tokens=add_special_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
            split_special_tokens=True,  # the literal "[MASK]" within a text is text
            verbose=False,
        )["input_ids"]

    def tokenize_long(text: str) -> np.ndarray:
        slices = (np.array(call([part], False)[0], dtype=np.int32) for part in cut(text, LONG_CHARACTERS))
        before, after = _around(*call(["x"], False), *call(["x"], special_tokens))
        return np.concatenate([before, *slices, after]).astype(np.int32)

    def tokenize(texts: list[str]) -> list[Any]:
        short = iter(call([text for text in texts if len(text) <= LONG_CHARACTERS], special_tokens))
        rows = [next(short) if len(text) <= LONG_CHARACTERS else tokenize_long(text) for text in texts]
        return [row if len(row) and row[-1] == eos else [*row, eos] for row in rows] if append_eos else rows

    return tokenize


def cut(text: str, size: int) -> Iterator[str]:
    """Cuts a text into slices of at most `size` characters, before a single space wherever there is one.

    There, and not within a longer gap, every tokenizer that we train begins a new word.
    """
    start = 0
    while len(text) - start > size:
        spaces = [match.start() for match in SINGLE_SPACE.finditer(text, start + 1, start + size)]
        stop = spaces[-1] if spaces else start + size
        yield text[start:stop]
        start = stop
    yield text[start:]


def _around(plain: list[int], formed: list[int]) -> tuple[list[int], list[int]]:
    """What a document's form puts before and after its text."""
    start = next(start for start in range(len(formed)) if formed[start : start + len(plain)] == plain)
    return formed[:start], formed[start + len(plain) :]


def tokenize_documents(
    documents: datasets.Dataset, tokenizer: Any, *, special_tokens: bool = True, append_eos: bool = False
) -> datasets.Dataset:
    """Replaces the column `text` by `input_ids`, one document a row, cached by `datasets`.

    The arguments are those of [`document_tokenizer`].
    """
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    tokenize = document_tokenizer(tokenizer, special_tokens=special_tokens, append_eos=append_eos)
    # `datasets` would hash the tokenizer as pickled, which changes once it has been used, and so do these two fields.
    state = {name: part for name, part in json.loads(tokenizer.backend_tokenizer.to_str()).items() if name not in USED}
    fingerprint = datasets.fingerprint.Hasher.hash((documents._fingerprint, state, special_tokens, append_eos))
    return documents.map(
        lambda batch: {"input_ids": tokenize(batch["text"])},
        batched=True,
        remove_columns="text",
        features=features,
        new_fingerprint=fingerprint,
        desc="Tokenizing",
    )
