"""Supervised pairs: read one text, write another (Sutskever et al., 2014); translation, summaries, answers."""

from typing import Any

import numpy as np
import torch

from ...configuration.errors import InputError
from .batches import IGNORED, Sizes, fill_up, flatten_pairs, join, split_documents


class PairsCollator:
    """Flattened batches of rows of [`PackedPairs`] for an encoder-decoder.

    Returns what [`flatten_pairs`] does. Pairs stay whole, so rows vary in size; nothing is padded.

    Args:
        tokenizer: gives the padding token.
        max_source_length, max_target_length: those of the rows, for batches of one size, as CUDA graphs need them: each
            row is then filled up by a document without labels.
        decoder_start_token_id: what the decoder reads first; `None` = the padding token, as in T5.

    Raises:
        InputError: a tokenizer without a padding token; in use, a row that is longer.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_source_length: int | None = None,
        max_target_length: int | None = None,
        decoder_start_token_id: int | None = None,
    ):
        if (max_source_length is None) != (max_target_length is None):
            raise InputError("give both `max_source_length` and `max_target_length`, or neither.")
        self.pad = _pad(tokenizer)
        self.start = self.pad if decoder_start_token_id is None else decoder_start_token_id
        self.max_source_length, self.max_target_length = max_source_length, max_target_length
        self.one_size = max_source_length is not None

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids`, `labels` and, where a row holds several pairs, positions."""
        batches = [flatten_pairs(*_sides(feature), self.start) for feature in features]
        if self.max_source_length is not None:
            sizes = self.sizes()
            batches = [fill_up(batch, self.pad, *sizes) for batch in batches]
        return join(batches)

    def sizes(self) -> Sizes:
        """What a row takes on either side."""
        return Sizes(self.max_source_length or 0, self.max_target_length or 0)


class PromptCollator:
    """Batches of rows of [`PackedPairs`] for a decoder: each source, and right after it its target; (B, L) each.

    Only targets have labels, which are not shifted. Each row is filled up to `max_length` by a document without any.

    Args:
        tokenizer: gives the padding token.
        max_length: that of the rows; `None` = they are not filled up, and flattened to (1, T) if of different lengths.

    Raises:
        InputError: a tokenizer without a padding token; in use, a row that is longer.
    """

    def __init__(self, tokenizer: Any, max_length: int | None = None):
        self.pad = _pad(tokenizer)
        self.max_length = max_length

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids`, `labels` and, where a row holds several pairs, positions."""
        rows = [self._row(*_sides(feature)) for feature in features]
        if len({row["labels"].shape for row in rows}) > 1:
            return join(rows)
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def sizes(self) -> Sizes:
        """What a row takes."""
        return Sizes(self.max_length or 0)

    def _row(self, sources: list[np.ndarray], targets: list[np.ndarray]) -> dict[str, torch.Tensor]:
        pairs = list(zip(sources, targets, strict=True))
        labels = [np.append(np.full_like(source, IGNORED), target) for source, target in pairs]
        for label in labels:
            label[0] = IGNORED  # a first token follows nothing, whatever it is
        row = {
            "input_ids": np.concatenate([np.append(source, target) for source, target in pairs]),
            "position_ids": np.concatenate([np.arange(len(label)) for label in labels]),
            "labels": np.concatenate(labels),
        }
        batch = {name: torch.from_numpy(tokens[None]) for name, tokens in row.items()}
        return batch if self.max_length is None else fill_up(batch, self.pad, self.max_length)


def _pad(tokenizer: Any) -> int:
    if tokenizer.pad_token_id is None:
        raise InputError("batches of pairs need a padding token, which this tokenizer does not have.")
    return tokenizer.pad_token_id


def _sides(feature: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The sources and the targets of a row; without positions it is one pair."""
    sides = []
    for tokens, positions in (("input_ids", "position_ids"), ("labels", "decoder_position_ids")):
        row = np.asarray(feature[tokens], dtype=np.int64)
        given = np.asarray(feature[positions]) if positions in feature else np.arange(len(row))
        sides.append(split_documents(row, given))
    return sides[0], sides[1]
