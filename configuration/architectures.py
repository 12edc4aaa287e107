"""The named architectures: the history of transformers as configurations, and what tells two of them apart."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import decoder_pages, encoder_decoder_pages, encoder_pages
from .base import TriviumConfig, only_known
from .errors import InputError
from .families import STACK_FIELDS, TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig
from .page import Fields, Page, Size
from .validation import TOKEN_IDS

CONFIG_CLASSES: dict[str, Any] = {
    "encoder": TriviumEncoderConfig,
    "decoder": TriviumDecoderConfig,
    "encoder-decoder": TriviumEncoderDecoderConfig,
}
SIDES = ("encoder", "decoder")


@dataclass(frozen=True)
class Architecture:
    """A page at one of its sizes."""

    name: str
    page: Page
    size: Size


PAGES = sorted((*encoder_pages.PAGES, *decoder_pages.PAGES, *encoder_decoder_pages.PAGES), key=lambda page: page.year)
ARCHITECTURES: dict[str, Architecture] = {
    name: Architecture(name, page, size) for page in PAGES for name, size in page.sizes.items()
}


def architecture(name: str, **changes: Any) -> TriviumConfig | TriviumEncoderDecoderConfig:
    """The configuration of a named architecture.

    Args:
        name: one that `trivium architectures` lists.
        changes: fields that shall differ; what follows from others (the layer types of a deeper model, Gemma's scale of
            the embeddings) follows from these. With another `vocab_size` the ids of special tokens that it does not
            have are left out.

    Raises:
        InputError: no such name (with the nearest that is), or fields that cannot be.
    """
    found = find_architecture(name)
    return build(found.page, found.size.fields, changes)


def find_architecture(name: str) -> Architecture:
    """The architecture of that name, or `InputError` with the nearest names."""
    if name not in ARCHITECTURES:
        nearest = [one for one in ARCHITECTURES if one.startswith(name)][:4]
        nearest = nearest or difflib.get_close_matches(name, ARCHITECTURES, n=3)
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else "`trivium architectures` lists them."
        raise InputError(f"there is no architecture '{name}': {hint}")
    return ARCHITECTURES[name]


def build(
    page: Page, *changes: Fields, config_class: type | None = None
) -> TriviumConfig | TriviumEncoderDecoderConfig:
    """The configuration of `page` with changes, the later over the earlier.

    A `config_class` of another family (BERT can be a decoder) gets the fields that it knows.
    """
    fields = _merge(page.fields, *changes)
    native = CONFIG_CLASSES[page.family]
    if "vocab_size" in changes[-1]:
        given = changes[-1].keys()
        for token in set(TOKEN_IDS) - given:
            if _outside(fields.get(token), fields["vocab_size"]):
                fields[token] = None
    if page.family != "encoder-decoder":
        fields = _resolve(fields)
        return native(**fields) if config_class in (None, native) else config_class(**only_known(config_class, fields))
    of_the_whole = TriviumEncoderDecoderConfig.__dataclass_fields__.keys() - set(SIDES)
    whole = {key: value for key, value in fields.items() if key in of_the_whole}
    shared = {key: value for key, value in fields.items() if key not in (*of_the_whole, *SIDES)}
    sides = {side: _resolve(_merge(shared, fields.get(side) or {})) for side in SIDES}
    return TriviumEncoderDecoderConfig(**whole, **sides)


def _merge(*layers: Fields) -> Fields:
    """One dictionary over the other; those of the two sides are merged, not replaced."""
    merged: Fields = {}
    for layer in layers:
        for key, value in layer.items():
            both = key in SIDES and isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merged[key] | value if both else value
    return merged


def _resolve(fields: Fields) -> Fields:
    """Calls the fields that are functions of the others."""
    defaults = {name: field.default for name, field in TriviumConfig.__dataclass_fields__.items()}
    known = defaults | {key: value for key, value in fields.items() if not isinstance(value, Callable)}
    return {key: value(known) if isinstance(value, Callable) else value for key, value in fields.items()}


def _outside(token: int | list[int] | None, vocab_size: int) -> bool:
    tokens = token if isinstance(token, list) else [token]
    return any(one is not None and one >= vocab_size for one in tokens)


def describe(config: TriviumConfig | TriviumEncoderDecoderConfig) -> Fields:
    """The fields that make a configuration from the defaults of its class; those of a side are named `side.field`.

    What both sides of an encoder-decoder share is said once.
    """
    if not isinstance(config, TriviumEncoderDecoderConfig):
        return _chosen(config)
    sides = {side: _chosen(getattr(config, side)) for side in SIDES}
    encoder, decoder = sides.values()
    shared = {key: value for key, value in encoder.items() if key in decoder and decoder[key] == value}
    fields = shared | {
        name: getattr(config, name)
        for name, field in type(config).__dataclass_fields__.items()
        if name in type(config).__annotations__ and name not in SIDES and getattr(config, name) != field.default
    }
    for side in SIDES:
        fields |= {f"{side}.{key}": value for key, value in sides[side].items() if key not in shared}
    fields.pop("decoder.add_cross_attention")  # every encoder-decoder has it
    return fields


def _chosen(config: TriviumConfig) -> Fields:
    """The fields of our own in which `config` is not what it would be by default, or by what the others say."""
    defaults = {name: field.default for name, field in type(config).__dataclass_fields__.items() if name in OWN_FIELDS}
    values = {name: getattr(config, name) for name in defaults}
    fixed = {name for name, default in defaults.items() if default is not None}
    chosen = {name: value for name, value in values.items() if name in fixed and value != defaults[name]}
    follows = type(config)(**chosen, head_dim=config.head_dim)
    chosen |= {name: values[name] for name in values if name not in fixed and values[name] != getattr(follows, name)}
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        chosen["head_dim"] = config.head_dim
    return {name: chosen[name] for name in defaults if name in chosen}


OWN_FIELDS = STACK_FIELDS | {
    name for cls in CONFIG_CLASSES.values() for name in cls.__dataclass_fields__ if name in cls.__annotations__
}
