"""Every `model_type` of transformers that we can read and write, and how to find the one that is meant."""

import difflib

from transformers import PreTrainedConfig

from ...configuration.architectures import SIDES
from ...configuration.errors import InputError
from ...configuration.page import Fields
from . import bart, bert, bloom, gemma, gpt, llama, modernbert, t5
from .origin import Origin

ORIGINS: dict[str, Origin] = {
    origin.model_type: origin
    for module in (bert, modernbert, gpt, llama, gemma, bloom, bart, t5)
    for origin in module.ORIGINS
}


def find_origin(model_type: str) -> Origin:
    """The origin of that name, or `InputError` with those that there are."""
    if model_type not in ORIGINS:
        nearest = difflib.get_close_matches(str(model_type), ORIGINS, n=1)
        hint = f"did you mean {nearest[0]}" if nearest else f"it can be {', '.join(ORIGINS)}"
        raise InputError(f"'{model_type}' is no architecture of transformers that can be converted: {hint}.")
    return ORIGINS[model_type]


def check_source(origin: Origin, config: PreTrainedConfig, name: str) -> None:
    """Raises `InputError` if we have nothing that computes what their class `name` does with this configuration."""
    if name not in origin.heads:
        raise InputError(f"{name} has no counterpart here; of {origin.model_type} there are {', '.join(origin.heads)}.")
    quantized = getattr(config, "quantization_config", None)
    if quantized is not None and getattr(quantized, "quant_method", None) != "gguf":  # which is dequantized as it loads
        raise InputError("a quantized checkpoint cannot be converted: load it dequantized and save that first.")
    check_rope(origin, config, name)
    objection = origin.objection(config, name)
    if objection:
        raise InputError(f"Trivium does not compute {objection}.")


def check_rope(origin: Origin, config: PreTrainedConfig, name: str) -> None:
    """Raises `InputError` if `rope_parameters`, theirs or ours, ask for more than their class `name` does."""
    for side in (config, *(getattr(config, side, None) for side in SIDES)):
        ignored = _ignored_rope(origin, getattr(side, "rope_parameters", None) or {})
        if ignored:
            raise InputError(f"{name} takes no notice of {ignored}, but Trivium does: leave it out.")


def _ignored_rope(origin: Origin, parameters: Fields) -> str | None:
    """What of `rope_parameters` has no effect in transformers' model."""
    nested = [given for given in parameters.values() if isinstance(given, dict)]
    if any(given.get("partial_rotary_factor") not in (None, 1.0) for given in (parameters, *nested)):
        return "`partial_rotary_factor`"
    return "`rope_parameters` for each type of layer" if nested and not origin.rope_per_type else None


def class_for(origin: Origin, ours: type) -> str | None:
    """The name of their class that our class becomes."""
    return next((theirs for theirs, model in origin.heads.items() if model is ours), None)
