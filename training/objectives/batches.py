"""What the collators share: rows of tokens in, tensors out, without padding."""

from typing import Any, NamedTuple

import numpy as np
import torch

from ...configuration.errors import InputError

IGNORED = -100


class Sizes(NamedTuple):
    """The tokens that one row takes in a batch: those of the (encoder's) input, and those of the decoder's, if any."""

    source: int
    target: int = 0


def stack_or_flatten(rows: list[np.ndarray]) -> torch.Tensor:
    """Rows of one length L become (B, L); rows of different lengths follow each other in (1, T), without padding."""
    if len({len(row) for row in rows}) == 1:
        return torch.from_numpy(np.stack(rows))
    return torch.from_numpy(np.concatenate(rows)[None])


def token_rows(features: list[dict[str, Any]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The examples' `input_ids` and `position_ids` as int64 arrays; without positions a row is one document."""
    ids = [np.asarray(feature["input_ids"], dtype=np.int64) for feature in features]
    positions = [
        np.asarray(feature["position_ids"], dtype=np.int64) if "position_ids" in feature else np.arange(len(row))
        for feature, row in zip(features, ids, strict=True)
    ]
    return ids, positions


def split_documents(row: np.ndarray, positions: np.ndarray) -> list[np.ndarray]:
    """The pieces of documents in a row, which begin where positions are 0."""
    return np.split(row, np.flatnonzero(positions[1:] == 0) + 1)


def flatten_pairs(sources: list[np.ndarray], targets: list[np.ndarray], start: int) -> dict[str, torch.Tensor]:
    """Pairs of documents as a flattened batch for an encoder-decoder, without padding.

    Args:
        sources, targets: the tokens of each document on either side; none is empty.
        start: what the decoder reads first in each document.

    Returns:
        `input_ids` and `position_ids` of shape (1, S); `labels`, `decoder_input_ids` and `decoder_position_ids` of
        shape (1, T). Positions restart at each document; the i-th on either side belong together.
    """
    return {
        "input_ids": _flat(sources),
        "position_ids": _flat([np.arange(len(source)) for source in sources]),
        "labels": _flat(targets),
        "decoder_input_ids": _flat([np.concatenate([[start], target[:-1]]) for target in targets]),
        "decoder_position_ids": _flat([np.arange(len(target)) for target in targets]),
    }


def join(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Flattened batches, each tensor (1, T_i), one after the other: (1, sum of the T_i)."""
    return {name: torch.cat([batch[name] for batch in batches], dim=1) for name in batches[0]}


def let_sizes_vary(batch: dict[str, Any]) -> None:
    """Tells `torch.compile` that the next flattened batch may be longer or shorter than this one.

    It then compiles once for all lengths, where it would compile for the first and again for all others. Rectangles
    (B, L) have one size and stay as they are.
    """
    for value in batch.values():
        if isinstance(value, torch.Tensor) and value.ndim in (1, 2) and (value.ndim == 1 or len(value) == 1):
            torch._dynamo.maybe_mark_dynamic(value, value.ndim - 1)


def fill_up(
    batch: dict[str, torch.Tensor],
    pad_token_id: int,
    source_tokens: int,
    target_tokens: int | None = None,
    documents: int = 1,
) -> dict[str, torch.Tensor]:
    """Fills a flattened batch up to a fixed size with documents that have no labels.

    A compiled model is compiled anew for every size. The documents hold padding tokens, at positions from 0 on; nothing
    attends to them from outside, so loss and gradients stay what they were.

    Args:
        batch: tensors of shape (1, S), and of an encoder-decoder those of its decoder and the labels of shape (1, T).
        pad_token_id: what the documents hold.
        source_tokens: what S is to become.
        target_tokens: what T is to become; `None` = the batch has one side only, its labels included.
        documents: how many to add, so that none has more positions than the model.

    Raises:
        InputError: a batch that is larger, or full on one side only: the i-th documents of either side belong together,
            so each of the closing ones needs a place on both.
    """
    sizes = [(source_tokens, batch["input_ids"].shape[1])]
    if target_tokens is not None:
        sizes.append((target_tokens, batch["labels"].shape[1]))
    room = [wanted - size for wanted, size in sizes]
    if not any(room):
        return batch
    if min(room) < documents:
        wanted, found = (" and ".join(map(str, numbers)) for numbers in zip(*sizes, strict=True))
        raise InputError(
            f"a batch of {found} tokens cannot be filled up to {wanted}: make the size larger, by one token at least "
            "on each side that is full."
        )
    return {
        name: torch.cat([tensor, _filler(name, room[-1 if _is_target(name) else 0], pad_token_id, documents)], dim=1)
        for name, tensor in batch.items()
    }


def fill_up_rows(batch: dict[str, torch.Tensor], pad_token_id: int, sizes: Sizes, rows: int) -> dict[str, torch.Tensor]:
    """Fills a flattened batch of an encoder-decoder up to what so many rows take at most.

    Only their sum counts: a row may take more than its share if others take less. A batch that takes more altogether is
    filled up to the size of as many more rows as it needs.
    """
    found = batch["input_ids"].shape[1], batch["labels"].shape[1]
    while True:
        room = rows * sizes.source - found[0], rows * sizes.target - found[1]
        documents = max(-(-room[0] // sizes.source), -(-room[1] // sizes.target), 1)
        if min(room) >= documents:
            return fill_up(batch, pad_token_id, rows * sizes.source, rows * sizes.target, documents)
        rows += 1


def _is_target(name: str) -> bool:
    return name == "labels" or name.startswith("decoder_")


def _filler(name: str, length: int, pad_token_id: int, documents: int) -> torch.Tensor:
    if name.endswith("position_ids"):
        return torch.cat([torch.arange(len(part)) for part in torch.arange(length).tensor_split(documents)])[None]
    return torch.full((1, length), {"labels": IGNORED, "token_type_ids": 0}.get(name, pad_token_id))


def _flat(rows: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(rows)[None].astype(np.int64))
