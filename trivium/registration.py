"""Makes the configurations and models known to transformers, so that its Auto classes find them by `model_type`."""

import transformers

from .configuration import TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig
from .modeling import AUTO_CLASSES


def register() -> None:
    """Register every configuration with `AutoConfig` and every model with the Auto classes that fit it.

    The classes also become attributes of `transformers`: that is where TRL, vLLM and transformers itself look up the
    name that a checkpoint's `architectures` field gives. Calling this twice changes nothing.
    """
    for config in (TriviumEncoderConfig, TriviumDecoderConfig, TriviumEncoderDecoderConfig):
        transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
        setattr(transformers, config.__name__, config)
    for auto_name, models in AUTO_CLASSES.items():
        auto_class = getattr(transformers, auto_name)
        for model in models:
            auto_class.register(model.config_class, model, exist_ok=True)
            setattr(transformers, model.__name__, model)
