"""What a stack of blocks cannot be: each rule is one sentence that says what would be right."""

import difflib
import math
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

from .errors import InputError

LAYER_TYPES = ("full_attention", "sliding_attention")
POSITIVE_INTEGERS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
POSITIVE_OR_NONE = (
    "norm_eps",
    "attention_scaling",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "embedding_scale",
)
ROTARY_NUMBERS = (
    "rope_theta",
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "low_freq_factor",
    "high_freq_factor",
    "partial_rotary_factor",
    "mscale",
    "mscale_all_dim",
)
ROTARY_LISTS = ("short_factor", "long_factor")
ROTARY_FIELDS = ("rope_type", "type", "truncate", *ROTARY_NUMBERS, *ROTARY_LISTS)
DROPOUTS = ("hidden_dropout", "attention_dropout", "activation_dropout", "embedding_dropout", "classifier_dropout")
TOKEN_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")


def check_stack(config) -> None:
    """Raises `InputError` if no model can be built from the stack configuration `config`."""
    for problem in _problems(config):
        raise InputError(f"{type(config).__name__}: {problem}.")
    check_attention(config, config._attn_implementation)


def check_attention(config, implementation: str | None) -> None:
    """Raises `InputError` if the attention `implementation` cannot compute what `config` describes."""
    if not isinstance(implementation, str):
        return
    if config.position_encoding in ("relative", "alibi") and ("flash" in implementation or "flex" in implementation):
        raise InputError(
            f"position_encoding='{config.position_encoding}' adds a bias to the scores, which attn_implementation="
            f"'{implementation}' does not take: use 'sdpa' or 'eager', or position_encoding='rope'."
        )


def check_rotary(config) -> None:
    """Raises `InputError` if the `rope_parameters` of `config` cannot be computed with.

    Transformers warns of most of this at best, and a type that it does not know would silently be plain RoPE.
    """
    parameters = config.rope_parameters or {}
    nested = {kind: parameters[kind] for kind in LAYER_TYPES if kind in parameters}
    for kind, given in (nested or {None: parameters}).items():
        where = "`rope_parameters`" if kind is None else f"`rope_parameters` of '{kind}'"
        for problem in _bad_rotary(given, config):
            raise InputError(f"{type(config).__name__}: {where} {problem}.")


def describe_type(annotation) -> str:
    """What a field of this type may be, in words."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", NoneType: "None"}
    if annotation in words:
        return words[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(repr(argument) for argument in arguments)
    if origin in (Union, UnionType):
        # A float that takes whole numbers too is a number.
        kinds = [kind for kind in arguments if not (kind is int and float in arguments)]
        return " or ".join(describe_type(kind) for kind in kinds)
    name = getattr(origin or annotation, "__name__", str(annotation))
    if name == "list":
        return "a list of " + {int: "whole numbers", str: "texts"}.get(arguments[0], "values")
    return "a dictionary" if name == "dict" else f"a {name}"


def check_sequence_length(config, length: int, what: str = "a sequence") -> None:
    """Raises `InputError` if `length` positions do not fit where the positions are a table that ends."""
    if config.position_encoding == "learned" and length > config.max_position_embeddings:
        raise InputError(
            f"{what} of {length} tokens is longer than the {config.max_position_embeddings} learned positions of the "
            "model: truncate it, or configure a larger max_position_embeddings."
        )


def _problems(config):
    yield from _bad_numbers(config)
    yield from _bad_heads(config)
    yield from _bad_layers(config)
    yield from _bad_positions(config)
    yield from _bad_choices(config)
    yield from _bad_token_ids(config)


def _bad_numbers(config):
    for name in POSITIVE_INTEGERS:
        if getattr(config, name) < 1:
            yield f"`{name}` must be at least 1, not {getattr(config, name)}"
    if config.num_hidden_layers < 0:
        yield f"`num_hidden_layers` must not be negative, not {config.num_hidden_layers}"
    for name in POSITIVE_OR_NONE:
        value = getattr(config, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            yield f"`{name}` must be a positive number, not {value}"
    for name in DROPOUTS:
        if not 0.0 <= getattr(config, name) < 1.0:
            yield f"`{name}` is a probability and must lie in [0, 1), not {getattr(config, name)}"
    if not 0.0 < config.initializer_range <= 1.0:
        yield f"`initializer_range` is a standard deviation and must lie in (0, 1], not {config.initializer_range}"
    for name in ("type_vocab_size", "position_offset"):
        if getattr(config, name) < 0:
            yield f"`{name}` must not be negative, not {getattr(config, name)}"


def _bad_heads(config):
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    if config.head_dim * heads != config.hidden_size and config.hidden_size // heads == config.head_dim:
        yield (
            f"`hidden_size` {config.hidden_size} is not a multiple of `num_attention_heads` {heads}: "
            f"change one of them, or give `head_dim` yourself"
        )
    if heads % groups:
        divisors = [n for n in range(1, heads + 1) if heads % n == 0]
        yield (
            f"`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {groups}: take one of {divisors}"
        )
    if config.position_encoding == "rope" and config.head_dim % 2:
        yield f"RoPE rotates pairs, so `head_dim` must be even, not {config.head_dim}"


def _bad_layers(config):
    for kind in config.layer_types:
        if kind not in LAYER_TYPES:
            yield f"`layer_types` may hold {' and '.join(LAYER_TYPES)}, not '{kind}'"
    if len(config.layer_types) != config.num_hidden_layers:
        yield (
            f"`layer_types` has {len(config.layer_types)} entries for num_hidden_layers={config.num_hidden_layers}: "
            "give one per layer"
        )
    slides = "sliding_attention" in config.layer_types
    if slides and config.sliding_window is None:
        yield "`layer_types` has sliding layers but `sliding_window` is not set: give the window in tokens"
    if config.sliding_window is not None and config.sliding_window < 1:
        yield f"`sliding_window` must be at least 1 token, not {config.sliding_window}"


def _bad_positions(config):
    if config.position_offset and config.position_encoding not in ("learned", "sinusoidal"):
        yield (
            f"`position_offset` shifts a table of positions, which position_encoding='{config.position_encoding}' "
            "does not have: use 0, or 'learned' or 'sinusoidal'"
        )
    if config.position_encoding == "sinusoidal" and config.hidden_size % 2:
        yield f"sinusoidal positions pair sines with cosines, so `hidden_size` must be even, not {config.hidden_size}"
    if config.position_encoding == "relative":
        buckets, distance = config.relative_attention_num_buckets, config.relative_attention_max_distance
        if buckets < 4 or buckets % 2:
            yield f"`relative_attention_num_buckets` must be an even number of at least 4, not {buckets}"
        if distance <= buckets // 2:
            yield (
                f"`relative_attention_max_distance` {distance} must exceed half of "
                f"`relative_attention_num_buckets` ({buckets // 2}), where the logarithmic buckets begin"
            )


def _bad_rotary(given, config):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # imports torch, which only this check needs

    if not isinstance(given, dict):
        yield f"must be a dictionary, not {given!r}"
        return
    kinds = ["default", *ROPE_INIT_FUNCTIONS]
    if given.get("rope_type", "default") not in kinds:
        nearest = difflib.get_close_matches(str(given["rope_type"]), kinds, n=1)
        hint = f"did you mean '{nearest[0]}'" if nearest else f"take one of {', '.join(kinds)}"
        yield f"have the unknown rope_type '{given['rope_type']}': {hint}"
    for name, value in given.items():
        if name not in ROTARY_FIELDS:
            nearest = difflib.get_close_matches(str(name), ROTARY_FIELDS, n=1)
            yield f"have no '{name}': " + (f"did you mean '{nearest[0]}'" if nearest else f"take {ROTARY_FIELDS}")
        if name in ROTARY_NUMBERS and value is not None and not _is_positive(value):
            yield f"need a positive number as '{name}', not {value!r}"
        if name in ROTARY_LISTS and value is not None:
            pairs = int(config.head_dim * given.get("partial_rotary_factor", 1.0)) // 2
            if not isinstance(value, list) or len(value) != pairs or not all(map(_is_positive, value)):
                yield f"need a list of {pairs} positive numbers as '{name}', one per pair of rotated features"
    if given.get("partial_rotary_factor", 1.0) > 1.0:
        yield f"rotate each head: 'partial_rotary_factor' must be at most 1, not {given['partial_rotary_factor']}"
    if (given.get("factor") or 1.0) < 1.0:
        yield f"stretch positions, so 'factor' must be at least 1, not {given['factor']}"


def _is_positive(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value)


def _bad_choices(config):
    if config.norm == "rmsnorm" and config.norm_bias:
        yield "an RMSNorm has no bias: set norm_bias=False, or norm='layernorm'"
    if config.norm == "layernorm" and config.norm_unit_offset:
        yield "`norm_unit_offset` is a form of RMSNorm: set it to False, or norm='rmsnorm'"
    from transformers.activations import ACT2FN  # imports torch, which only this check needs

    for name in ("hidden_act", "classifier_act"):
        act = getattr(config, name)
        if act is not None and act not in ACT2FN:
            nearest = difflib.get_close_matches(act, ACT2FN, n=1)
            hint = f"did you mean '{nearest[0]}'" if nearest else f"transformers knows {', '.join(sorted(ACT2FN))}"
            yield f"`{name}` '{act}' is not an activation: {hint}"
    if not config.first_norm and config.norm_placement == "post":
        yield "`first_norm` is a norm before a sublayer, and norm_placement='post' has none: leave it True"


def _bad_token_ids(config):
    for name in TOKEN_IDS:
        value = getattr(config, name, None)
        for token in value if isinstance(value, list) else [value]:
            if token is not None and not 0 <= token < config.vocab_size:
                yield f"`{name}` {token} is outside the vocabulary of {config.vocab_size} tokens (0 to vocab_size - 1)"
