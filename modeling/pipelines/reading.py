"""How much a model reads at once, and how its batches are padded.

The modules of this folder import nothing but each other and what transformers needs: saving a pipeline copies them.
"""

import copy
from typing import Any

UNLIMITED = 10**6  # tokenizers that know no limit say 1e30


def reading_limit(model: Any, tokenizer: Any) -> int | None:
    """The most tokens that a model reads, by its tokenizer and (its encoder's) configuration; `None` = unsaid."""
    told = (tokenizer.model_max_length, positions(model, "encoder"))
    return min((limit for limit in told if limit and limit < UNLIMITED), default=None)


def positions(model: Any, side: str) -> int | None:
    """The positions of a model, or of its encoder or decoder where they have configurations of their own."""
    return getattr(getattr(model.config, side, model.config), "max_position_embeddings", None)


def pad_right(tokenizer: Any) -> Any:
    """The tokenizer, or a copy of it that pads on the right.

    A model that is only read from gives every token its place in the row as its position: padding on the left would
    move them.
    """
    if tokenizer.padding_side == "right":
        return tokenizer
    tokenizer = copy.copy(tokenizer)
    tokenizer.padding_side = "right"
    return tokenizer
