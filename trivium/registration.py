"""Makes the configurations and models known to transformers, so that its Auto classes find them by `model_type`."""

import gc
from pathlib import Path
from types import ModuleType

import transformers
import transformers.processing_utils  # it replaces the module `transformers`: let that be done by now
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration import TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig
from .modeling import AUTO_CLASSES, TriviumDecoderForCausalLM
from .modeling.pipelines import PIPELINES
from .modeling.stack import TriviumPreTrainedModel

CONFIG_CLASSES = (TriviumEncoderConfig, TriviumDecoderConfig, TriviumEncoderDecoderConfig)


def register() -> None:
    """Register every configuration with `AutoConfig`, every model with the Auto classes that fit it, and the pipelines.

    From then on whatever a model saves has a card.

    The classes also become attributes of `transformers`: that is where TRL, vLLM and transformers itself look up the
    name that a checkpoint's `architectures` field gives. Calling this twice changes nothing.
    """
    for config in CONFIG_CLASSES:
        transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
    for auto_name, models in AUTO_CLASSES.items():
        for model in models:
            getattr(transformers, auto_name).register(model.config_class, model, exist_ok=True)
    # Where `Trainer` looks up whether labels are those of the next token, when it smooths them itself.
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[TriviumDecoderForCausalLM.config_class.model_type] = (
        TriviumDecoderForCausalLM.__name__
    )
    if _write_card not in TriviumPreTrainedModel.after_saving:
        TriviumPreTrainedModel.after_saving.append(_write_card)
    for task, (pipeline, auto_name) in PIPELINES.items():
        if task not in PIPELINE_REGISTRY.supported_tasks:  # of ours, or of a later transformers
            PIPELINE_REGISTRY.register_pipeline(task, pipeline, getattr(transformers, auto_name), type="text")
    names = {model.__name__: model for models in AUTO_CLASSES.values() for model in models}
    names |= {config.__name__: config for config in CONFIG_CLASSES}
    for module in _copies_of_transformers():
        for name, value in names.items():
            setattr(module, name, value)


def _write_card(folder: Path, repo_id: str | None) -> None:
    from .model_cards.card import card_beside  # its libraries take time to import

    card_beside(folder, repo_id=repo_id)


def _copies_of_transformers() -> list[ModuleType]:
    """The module `transformers`, and the one that was it before `transformers.processing_utils` put another there.

    Whoever imported the first one keeps it, and nothing but the garbage collector still knows where it is.
    """
    kind = type(transformers)
    return [thing for thing in gc.get_objects() if type(thing) is kind and thing.__name__ == "transformers"]
