"""The objectives of pretraining: which family each trains, what form its text takes, how batches are made."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ...configuration.errors import InputError
from ..arguments import PretrainArguments
from .causal_lm import CausalLMCollator
from .masked_lm import MaskedLMCollator
from .span_corruption import SpanCorruptionCollator, raw_length, span_counts

Collator = Callable[[list[dict[str, Any]]], dict[str, Any]]


class Objective(NamedTuple):
    """One objective.

    Attributes:
        family: the family that it trains.
        special_tokens, append_eos: the form of a document, as in [`tokenize_documents`].
        lengths: from the arguments, the tokens per block of text and the longest sequence that a model then reads.
        collator: from tokenizer, arguments and seed, the collator.
    """

    family: str
    special_tokens: bool
    append_eos: bool
    lengths: Callable[[PretrainArguments], tuple[int, int]]
    collator: Callable[[Any, PretrainArguments, int], Collator]


def _max_length(args: PretrainArguments) -> tuple[int, int]:
    return args.max_length, args.max_length


def _span_lengths(args: PretrainArguments) -> tuple[int, int]:
    block = raw_length(args.max_length, args.noise_density, args.mean_span_length)
    hidden, spans = span_counts(block, args.noise_density, args.mean_span_length)
    return block, max(args.max_length, hidden + spans + 1)


def _causal(tokenizer: Any, args: PretrainArguments, seed: int) -> Collator:
    if tokenizer.eos_token_id is None:
        raise InputError(
            "causal language modelling needs an end-of-sequence token, which this tokenizer does not have."
        )
    return CausalLMCollator()


def _masked(tokenizer: Any, args: PretrainArguments, seed: int) -> Collator:
    return MaskedLMCollator(tokenizer, args.mlm_probability, args.mask_scheme, seed)


def _span_corruption(tokenizer: Any, args: PretrainArguments, seed: int) -> Collator:
    return SpanCorruptionCollator(tokenizer, None, args.noise_density, args.mean_span_length, seed)


OBJECTIVES = {
    "causal": Objective("decoder", True, True, _max_length, _causal),
    "masked": Objective("encoder", True, False, _max_length, _masked),
    # The collator gives each piece of a document its own end of sequence.
    "span-corruption": Objective("encoder-decoder", False, False, _span_lengths, _span_corruption),
}


def choose_objective(args: PretrainArguments) -> Objective:
    """The objective asked for, or the family's own; raises `InputError` if it does not fit the family."""
    fitting = [name for name, objective in OBJECTIVES.items() if objective.family == args.family]
    name = args.objective or fitting[0]
    if name not in fitting:
        raise InputError(f"the objective '{name}' does not fit the family '{args.family}': use {' or '.join(fitting)}.")
    if args.max_length < 8:
        raise InputError(f"`max_length` must be at least 8, not {args.max_length}.")
    return OBJECTIVES[name]
