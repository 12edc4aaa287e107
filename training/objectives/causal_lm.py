"""Causal language modelling: predict each token from those before it (Radford et al., 2018)."""

from typing import Any

import numpy as np
import torch

from .batches import IGNORED, stack_or_flatten, token_rows


class CausalLMCollator:
    """Batches of packed rows for a decoder: `input_ids`, `position_ids` and `labels`, each (B, L).

    Labels are the inputs (models shift them themselves), but ignored where a document begins: its first token follows
    nothing. Rows of different lengths are flattened to (1, T).
    """

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        ids, positions = token_rows(features)
        labels = [np.where(position == 0, IGNORED, row) for row, position in zip(ids, positions, strict=True)]
        return {
            "input_ids": stack_or_flatten(ids),
            "position_ids": stack_or_flatten(positions),
            "labels": stack_or_flatten(labels),
        }
