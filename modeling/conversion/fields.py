"""Configurations of transformers as ours and back, by the tables of an origin."""

import math
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from ...configuration.architectures import SIDES, build
from ...configuration.base import TriviumConfig
from ...configuration.families import STACK_FIELDS, TriviumEncoderConfig, TriviumEncoderDecoderConfig
from ...configuration.page import Fields
from ...configuration.validation import DROPOUTS
from .origin import Origin, State

TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "decoder_start_token_id")
LABELS = ("id2label", "label2id", "problem_type")
# What only training sees, or nobody computes with: it may change on the way.
INESSENTIAL = {*DROPOUTS, *TOKENS, "mask_token_id", "initializer_range", "use_cache", "origin", "architectures"}
INESSENTIAL |= {"cross_attention_hidden_size", "add_cross_attention"}  # follow from the sides
# What `None` stands for.
NEUTRAL = {"logit_scale": 1.0, "embedding_scale": 1.0}


def read_config(origin: Origin, theirs: PreTrainedConfig, model_class: Any, state: State, tied: bool) -> Any:
    """Our configuration from theirs, for our `model_class`.

    Args:
        state: their weights, for what their configuration does not say.
        tied: whether the output matrix is the embedding.
    """
    fields: Fields = {}
    for ours, name in origin.fields.items():
        _put(fields, ours, _get(theirs, name))
    for name, value in origin.read(theirs, state).items():
        fields[name] = fields.get(name, {}) | value if name in SIDES else value
    known = model_class.config_class.known_arguments()
    tokens = tokens_of(theirs) | dict(mask_token_id=None)  # only the tokenizer knows the mask
    fields |= {name: token for name, token in tokens.items() if name in known and name not in fields}
    fields |= {name: getattr(theirs, name, None) for name in LABELS}
    fields |= dict(tie_word_embeddings=tied, origin=origin.model_type)
    return build(origin.page, origin.changes, fields, config_class=model_class.config_class)


def tokens_of(theirs: PreTrainedConfig) -> Fields:
    """The ids of their special tokens; those that no vocabulary has (-1, or beyond its end) are none."""
    size = theirs.get_text_config().vocab_size
    tokens = {}
    for name in TOKENS:
        value = getattr(theirs, name, None)
        many = value if isinstance(value, list) else [value]
        tokens[name] = value if all(one is not None and 0 <= one < size for one in many) else None
    return tokens


def write_config(origin: Origin, ours: Any) -> PreTrainedConfig:
    """Their configuration from ours."""
    fields: Fields = {}
    for name, theirs in origin.fields.items():
        if not _has(fields, theirs):
            _put(fields, theirs, _get(ours, name))
    fields |= {name: getattr(ours, name) for name in TOKENS if hasattr(ours, name)}  # none, too: theirs have defaults
    fields |= {name: getattr(ours, name) for name in LABELS if getattr(ours, name, None) is not None}
    fields |= dict(tie_word_embeddings=ours.tie_word_embeddings)
    for name, value in origin.write(ours).items():
        fields[name] = fields.get(name, {}) | value if name in SIDES else value
    return AutoConfig.for_model(origin.model_type, **fields)


def lost_fields(origin: Origin, ours: Any, back: Any) -> list[str]:
    """What of `ours` is not in `back`, the configuration that came back from theirs: `field=value` each."""
    pairs = [("", ours, back)]
    if isinstance(ours, TriviumEncoderDecoderConfig):
        pairs = [(f"{side}.", getattr(ours, side), getattr(back, side)) for side in SIDES]
    lost = []
    for side, first, second in pairs:
        for name in sorted(STACK_FIELDS - INESSENTIAL - origin.free):
            if not _same(effective(first, name), effective(second, name)):
                lost.append(f"{side}{name}={effective(first, name)!r}")
    pools = isinstance(ours, TriviumEncoderConfig) and not ours.pooler
    if pools and ours.classifier_pooling != back.classifier_pooling:
        lost.append(f"classifier_pooling={ours.classifier_pooling!r}")
    for name in ("share_embeddings", "tie_word_embeddings"):
        if getattr(ours, name, None) != getattr(back, name, None):
            lost.append(f"{name}={getattr(ours, name)!r}")
    return lost


def effective(config: TriviumConfig, name: str) -> Any:
    """What a field comes to: `None` as what it stands for, and a window only where a layer has it."""
    value = getattr(config, name, None)
    if name == "attention_scaling" and value is None:
        return config.head_dim**-0.5
    if name == "sliding_window" and "sliding_attention" not in config.layer_types:
        return None
    return NEUTRAL[name] if value is None and name in NEUTRAL else value


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=1e-9)
    return bool(first == second)


def _get(config: Any, name: str) -> Any:
    """A field by its dotted name; of an encoder-decoder's two sides the decoder speaks for both."""
    for part in name.split("."):
        if part not in SIDES and isinstance(config, TriviumEncoderDecoderConfig):
            config = config if part in type(config).__dataclass_fields__ else config.decoder
        config = getattr(config, part)
    return config


def _put(fields: Fields, name: str, value: Any) -> None:
    side, dot, field = name.rpartition(".")
    (fields.setdefault(side, {}) if dot else fields)[field] = value


def _has(fields: Fields, name: str) -> bool:
    side, dot, field = name.rpartition(".")
    return field in (fields.get(side, {}) if dot else fields)
