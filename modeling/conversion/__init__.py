"""Foreign checkpoints: models of transformers as ours, and ours as theirs."""

from .convert import Report, convert, from_transformers, read_foreign_config, to_transformers
from .origins import ORIGINS, find_origin
from .verify import TOLERANCE, largest_difference

__all__ = [
    "ORIGINS",
    "TOLERANCE",
    "Report",
    "convert",
    "find_origin",
    "from_transformers",
    "largest_difference",
    "read_foreign_config",
    "to_transformers",
]
