"""Trivium: encoders, decoders and encoder-decoders on one transformer block.

Importing this package registers its configurations and models with the Auto classes of transformers, so that
`AutoModelForCausalLM.from_pretrained` and its siblings load a Trivium checkpoint as they load any other.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a source tree the parts (`modeling/`, `training/`, ...) lie beside this folder rather than in it; the imports below
# need to know.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))

from .configuration import (
    InputError,
    TriviumConfig,
    TriviumDecoderConfig,
    TriviumEncoderConfig,
    TriviumEncoderDecoderConfig,
    architecture,
)
from .configuration.version import __version__
from .modeling import (
    TriviumDecoderForCausalLM,
    TriviumDecoderForQuestionAnswering,
    TriviumDecoderForSequenceClassification,
    TriviumDecoderForTokenClassification,
    TriviumDecoderModel,
    TriviumEncoderDecoderForConditionalGeneration,
    TriviumEncoderDecoderForQuestionAnswering,
    TriviumEncoderDecoderForSequenceClassification,
    TriviumEncoderDecoderForTokenClassification,
    TriviumEncoderDecoderModel,
    TriviumEncoderForMaskedLM,
    TriviumEncoderForMultipleChoice,
    TriviumEncoderForNextSentencePrediction,
    TriviumEncoderForPreTraining,
    TriviumEncoderForQuestionAnswering,
    TriviumEncoderForSequenceClassification,
    TriviumEncoderForTokenClassification,
    TriviumEncoderModel,
)
from .registration import register

if TYPE_CHECKING:
    from .modeling.conversion import from_transformers, to_transformers

__all__ = [
    "InputError",
    "TriviumConfig",
    "TriviumDecoderConfig",
    "TriviumDecoderForCausalLM",
    "TriviumDecoderForQuestionAnswering",
    "TriviumDecoderForSequenceClassification",
    "TriviumDecoderForTokenClassification",
    "TriviumDecoderModel",
    "TriviumEncoderConfig",
    "TriviumEncoderDecoderConfig",
    "TriviumEncoderDecoderForConditionalGeneration",
    "TriviumEncoderDecoderForQuestionAnswering",
    "TriviumEncoderDecoderForSequenceClassification",
    "TriviumEncoderDecoderForTokenClassification",
    "TriviumEncoderDecoderModel",
    "TriviumEncoderForMaskedLM",
    "TriviumEncoderForMultipleChoice",
    "TriviumEncoderForNextSentencePrediction",
    "TriviumEncoderForPreTraining",
    "TriviumEncoderForQuestionAnswering",
    "TriviumEncoderForSequenceClassification",
    "TriviumEncoderForTokenClassification",
    "TriviumEncoderModel",
    "__version__",
    "architecture",
    "from_transformers",
    "to_transformers",
]


def __getattr__(name: str) -> Any:
    """What takes time to import, and most programs do not need, is imported when it is asked for."""
    if name in ("from_transformers", "to_transformers"):
        from .modeling import conversion

        return getattr(conversion, name)
    raise AttributeError(f"module 'trivium' has no attribute {name!r}")


register()
