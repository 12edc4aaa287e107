"""Other values for fields of a checkpoint's configuration, where its weights stay what they are."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers

from ..configuration.errors import InputError
from ..configuration.families import STACK_FIELDS
from .lora import new_heads

OF_TASK = frozenset("id2label label2id num_labels problem_type pad_token_id".split())
SIDES = ("encoder", "decoder")


def override(config: Any, overrides: Mapping[str, Any], auto: str) -> Any:
    """The configuration with other values for some fields.

    Args:
        config: of a checkpoint, of any family.
        overrides: values by name; of an encoder-decoder a field of a stack goes to both sides, and one inside `encoder`
            or `decoder` wins.
        auto: the Auto class that the checkpoint is loaded with.

    Raises:
        InputError: a field that there is not (with the nearest that there is), a value that cannot be, a field that the
            task sets, or one that asks for other weights than there are.
    """
    if not overrides:
        return config
    if taken := OF_TASK & set(overrides):
        raise InputError(f"`config_overrides` holds `{min(taken)}`, which the task sets: leave it out.")
    fields, given = config.to_dict(), dict(overrides)
    if config.is_encoder_decoder:
        shared = {name: given.pop(name) for name in list(given) if name in STACK_FIELDS}
        for side in SIDES:
            own = given.pop(side, {})
            if not isinstance(own, dict):
                raise InputError(f"`config_overrides.{side}` must map fields of the {side} to values, not be {own!r}.")
            fields[side] = fields[side] | shared | own
    changed = type(config).from_dict(fields | given)
    _check_weights(_weights(config, auto), _weights(changed, auto))
    return changed


def changes_answers(overrides: Mapping[str, Any]) -> bool:
    """Whether a model that has been trained answers otherwise without these fields: all but dropout stay in use."""
    return any(
        changes_answers(value) if name in SIDES and isinstance(value, dict) else not name.endswith("dropout")
        for name, value in overrides.items()
    )


def _weights(config: Any, auto: str) -> dict[str, tuple[int, ...]]:
    """The shapes of what is loaded, by name; a head that is new is not."""
    with torch.device("meta"):
        model = getattr(transformers, auto).from_config(config)
    new = new_heads(model)
    return {name: tuple(weight.shape) for name, weight in model.named_parameters() if name.partition(".")[0] not in new}


def _check_weights(there: Mapping[str, tuple[int, ...]], asked: Mapping[str, tuple[int, ...]]) -> None:
    for name in [*there, *asked]:
        if there.get(name) != asked.get(name):
            was, now = (str(shapes.get(name, "absent")) for shapes in (there, asked))
            raise InputError(
                f"`config_overrides` asks for other weights than the checkpoint's ('{name}' is {was}, and would be "
                f"{now}): override what has no weights, such as hidden_dropout, or pretrain a model of that shape."
            )
