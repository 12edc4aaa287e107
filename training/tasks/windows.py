"""Long texts in windows that overlap, of which every token knows where in the text it stands."""

from typing import Any, NamedTuple

import numpy as np

from ...configuration.errors import InputError
from .task import Row


class Windows(NamedTuple):
    """A text of N tokens, cut.

    Attributes:
        features: what is read of each window.
        numbers: (T,) for each window, the number in the text of each token; -1 for special tokens and for what is not
            of the text.
        places: (N, 2), from which character to which each token of the text stands.
    """

    features: list[Row]
    numbers: list[np.ndarray]
    places: np.ndarray


def cut(tokenizer: Any, *texts: str, max_length: int, stride: int) -> Windows:
    """The last of one or two texts in windows; the first of two is read in each.

    A stretch of at most `stride` + 1 tokens lies whole in one window at least.

    Args:
        max_length: tokens of a window, special ones included.
        stride: tokens that two neighbouring windows share.
    """
    encoded = tokenizer(
        *texts,
        truncation="only_second" if len(texts) > 1 else True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    names = [name for name in tokenizer.model_input_names if name in encoded]
    features, numbers, places = [], [], []
    room = 0
    for window, offsets in enumerate(encoded["offset_mapping"]):
        features.append({name: encoded[name][window] for name in names})
        of_text = np.array([side == len(texts) - 1 for side in encoded.sequence_ids(window)], dtype=bool)
        count = int(of_text.sum())
        room = room or count  # what the first window holds, hence all but the last
        number = np.full(len(offsets), -1)
        number[of_text] = window * (room - stride) + np.arange(count)
        numbers.append(number)
        places.append(np.array(offsets).reshape(-1, 2)[of_text][stride if window else 0 :])
    return Windows(features, numbers, np.concatenate(places))


def need_offsets(tokenizer: Any, what: str) -> None:
    """Raises `InputError` for a tokenizer that does not know which characters its tokens stand for."""
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{what} needs a fast tokenizer, which knows where in the text its tokens stand: put a tokenizer.json "
            "beside the model."
        )
