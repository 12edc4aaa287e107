"""What users hand to metrics, as arrays of numpy and lists of texts; a mistake ends in one sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...configuration.errors import InputError


def labels(values: Any, what: str) -> np.ndarray:
    """One label per example (N,), whole numbers from 0.

    Args:
        values: a list, or an array of numpy or torch, on any device; so too below.
        what: how to call them in an error, in the plural.
    """
    found = array(values, what)
    if found.ndim != 1:
        raise InputError(
            f"The {what} must be one label per example, not of shape {found.shape}; argmax makes scores one."
        )
    if found.size and found.dtype.kind == "f":
        raise InputError(
            f"The {what} must be labels, whole numbers from 0, and there is {found[_first_fraction(found)]}."
        )
    if (found < 0).any():
        raise InputError(f"The {what} must be labels, whole numbers from 0, and there is {found.min()}: leave it out.")
    return found.astype(np.int64)


def numbers(values: Any, what: str) -> np.ndarray:
    """One finite number per example (N,)."""
    found = finite(array(values, what), what)
    if found.ndim != 1:
        raise InputError(f"The {what} must be one number per example, not of shape {found.shape}.")
    return found.astype(np.float64)


def rows(values: Any, what: str) -> np.ndarray:
    """One row per example (N, L) of finite numbers; no examples are (0, 0)."""
    found = array(values, what)
    if found.size == 0:
        return found.reshape(0, 0)
    if found.ndim != 2:
        raise InputError(f"The {what} must be one row per example, not of shape {found.shape}.")
    return finite(found, what)


def texts(values: Any, what: str) -> list[str]:
    """One text per example."""
    found = examples(values, what)
    for value in found:
        if not isinstance(value, str):
            raise InputError(f"The {what} must be texts, and there is {value!r}; decode them first.")
    return found


def accepted_texts(values: Any, what: str) -> list[list[str]]:
    """All accepted texts of each example, which are given as a list or, if there is only one, as a text."""
    return [[value] if isinstance(value, str) else texts(value, what) for value in examples(values, what)]


def examples(values: Any, what: str) -> list[Any]:
    """A list with one value per example."""
    if values is None or isinstance(values, str | bytes | dict) or not hasattr(values, "__iter__"):
        raise InputError(f"The {what} must be a list with one value per example, not {values!r}.")
    return list(values)


def array(values: Any, what: str) -> np.ndarray:
    """Numbers as an array of numpy."""
    try:
        if isinstance(values, Sequence) and values and isinstance(values[0], torch.Tensor):
            values = torch.stack(list(values))
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            values = (values.double() if values.is_floating_point() else values).numpy()  # numpy has no bfloat16
        found = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"The {what} must be numbers, in rows of one length if in rows.") from error
    if found.ndim == 0 or found.dtype.kind not in "biuf":
        raise InputError(f"The {what} must be a list of numbers, not {_shortened(values)}.")
    return found


def finite(values: np.ndarray, what: str) -> np.ndarray:
    """The values; raises `InputError` if one is infinite or not a number."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise InputError(f"The {what} must be finite, and there is {values[place]} in example {place[0]} of a batch.")
    return values


def _first_fraction(values: np.ndarray) -> int:
    """Where the first number is that is not whole; 0 if all are."""
    return int(np.argmax(values != np.floor(values)))


def _shortened(values: Any) -> str:
    words = repr(values)
    return words if len(words) < 60 else words[:57] + "..."
