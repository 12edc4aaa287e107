"""What a model is: validated dataclasses, one per family, and no torch."""

from .architectures import ARCHITECTURES, architecture
from .base import TriviumConfig
from .errors import InputError
from .families import TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig

__all__ = [
    "ARCHITECTURES",
    "InputError",
    "TriviumConfig",
    "TriviumDecoderConfig",
    "TriviumEncoderConfig",
    "TriviumEncoderDecoderConfig",
    "architecture",
]
