"""What the collators share: rows of tokens in, tensors out, without padding."""

from typing import Any

import numpy as np
import torch

IGNORED = -100


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
