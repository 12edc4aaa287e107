"""Foreign checkpoints: models of transformers as ours, and ours as theirs."""

from .convert import Report, convert, from_transformers, to_transformers
from .origins import ORIGINS

__all__ = ["ORIGINS", "Report", "convert", "from_transformers", "to_transformers"]
