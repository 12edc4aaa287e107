"""Trivium: encoders, decoders and encoder-decoders on one transformer block.

Importing this package registers its configurations and models with the Auto classes of transformers, so that
`AutoModelForCausalLM.from_pretrained` and its siblings load a Trivium checkpoint as they load any other.
"""

from pathlib import Path

__version__ = "0.1.0"

# In a source tree the parts (`modeling/`, `training/`, ...) lie beside this folder rather than in it.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))
