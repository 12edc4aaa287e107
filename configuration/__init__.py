"""What a model is: validated dataclasses, one per family, and no torch."""

from .base import TriviumConfig
from .errors import InputError
from .families import TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig

__all__ = ["InputError", "TriviumConfig", "TriviumDecoderConfig", "TriviumEncoderConfig", "TriviumEncoderDecoderConfig"]
