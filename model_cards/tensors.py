"""What lies in safetensors, by their headers alone."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from ..configuration.errors import InputError

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class Tensor(NamedTuple):
    """The shape, and the dtype as the file writes it."""

    shape: tuple[int, ...]
    dtype: str


def read_tensors(folder: Path, pattern: str, place: Path) -> dict[str, Tensor]:
    """The tensors in the files of a folder, by name.

    Args:
        pattern: which files, e.g. `model*.safetensors`.
        place: the folder as an error names it.

    Raises:
        InputError: a file cannot be read.
    """
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob(pattern)):
        try:
            with safe_open(path, "pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 -- no dictionary
                found |= {name: Tensor(tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
        except (SafetensorError, OSError) as error:
            raise InputError(f"'{place / path.name}' cannot be read: {error}") from None
    return found


def total(tensors: Mapping[str, Tensor]) -> tuple[int, str] | None:
    """Parameters, and the dtype of most; `None` where there are no tensors."""
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += math.prod(tensor.shape)
    if not sizes:
        return None
    dtype = sizes.most_common(1)[0][0]
    return sum(sizes.values()), DTYPES.get(dtype, dtype.lower())
