"""The objectives of pretraining by family: what form a text takes, how long rows are, how batches are made of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ...configuration.errors import InputError
from ..arguments import PretrainArguments
from .causal_lm import CausalLMCollator
from .denoising import DenoisingCollator
from .fill_in_the_middle import FillInTheMiddleCollator
from .masked_lm import MaskedLMCollator
from .next_sentence import NextSentenceCollator
from .pairs import PairsCollator, PromptCollator
from .prefix_lm import DecoderPrefixLMCollator, EncoderDecoderPrefixLMCollator
from .span_corruption import SpanCorruptionCollator, raw_length, span_counts
from .ul2 import UL2Collator

Collator = Callable[[list[dict[str, Any]]], dict[str, Any]]


class Made(NamedTuple):
    """What a collator is made of.

    Attributes:
        tokenizer: that of the run.
        args: what to pretrain, and how.
        seed: of the random choices.
        documents: the tokenized training text, where an objective reads other documents beside a row; else `None`.
    """

    tokenizer: Any
    args: PretrainArguments
    seed: int
    documents: Any = None


class Objective(NamedTuple):
    """One objective of one family.

    Attributes:
        collator: makes the collator.
        lengths: from the arguments, the tokens per row and the longest sequence that a model then reads.
        special_tokens, append_eos: the form of a document, as in [`document_tokenizer`].
        fields: what the objective needs of a new model's configuration.
        head: the class of model, where it is not the family's usual one.
        pairs: whether it learns from pairs of texts.
        other_documents: whether the collator reads other documents beside a row.
    """

    collator: Callable[[Made], Collator]
    lengths: Callable[[PretrainArguments], tuple[int, int]] = lambda args: (args.max_length, args.max_length)
    special_tokens: bool = True
    append_eos: bool = False
    fields: dict[str, Any] = {}
    head: str | None = None
    pairs: bool = False
    other_documents: bool = False


def _span_lengths(args: PretrainArguments) -> tuple[int, int]:
    row = raw_length(args.max_length, args.noise_density, args.mean_span_length)
    hidden, spans = span_counts(row, args.noise_density, args.mean_span_length)
    return row, max(args.max_length, hidden + spans + 1)


def _pair_lengths(args: PretrainArguments) -> tuple[int, int]:
    return args.max_length, max(args.max_length, args.max_target_length or 0)


def _causal(made: Made) -> Collator:
    if made.tokenizer.eos_token_id is None:
        raise InputError(
            "causal language modelling needs an end-of-sequence token, which this tokenizer does not have."
        )
    return CausalLMCollator()


def _masked(made: Made) -> Collator:
    args = made.args
    return MaskedLMCollator(made.tokenizer, args.mlm_probability, args.mask_scheme, made.seed, args.whole_word)


def _next_sentence(made: Made) -> Collator:
    args = made.args
    masks = (args.mlm_probability, args.mask_scheme, made.seed, args.whole_word)
    return NextSentenceCollator(made.tokenizer, made.documents, *masks)


def _span_corruption(made: Made) -> Collator:
    args = made.args
    return SpanCorruptionCollator(made.tokenizer, None, args.noise_density, args.mean_span_length, made.seed)


def _denoising(made: Made) -> Collator:
    args = made.args
    return DenoisingCollator(
        made.tokenizer, args.noises, None, args.mask_ratio, poisson_lambda=args.mean_span_length, seed=made.seed
    )


def _pairs(made: Made) -> Collator:
    if made.args.family == "decoder":
        return PromptCollator(made.tokenizer, made.args.max_length)
    if made.args.pad_to_fixed_size:
        length = made.args.max_length
        return PairsCollator(made.tokenizer, length, made.args.max_target_length or length)
    return PairsCollator(made.tokenizer)


def _ul2(made: Made) -> Collator:
    row_length = made.args.max_length if made.args.pad_to_fixed_size else None
    return UL2Collator(made.tokenizer, seed=made.seed, row_length=row_length)


# The first of each family is what it is for.
OBJECTIVES: dict[str, dict[str, Objective]] = {
    "encoder": {
        "masked": Objective(_masked),
        "next-sentence": Objective(
            _next_sentence,
            fields={"type_vocab_size": 2, "pooler": True},
            head="TriviumEncoderForPreTraining",
            other_documents=True,
        ),
    },
    "decoder": {
        "causal": Objective(_causal, append_eos=True),
        "fill-in-the-middle": Objective(
            lambda made: FillInTheMiddleCollator(made.tokenizer, made.args.fim_rate, made.args.fim_spm_rate, made.seed),
            append_eos=True,
        ),
        "prefix": Objective(lambda made: DecoderPrefixLMCollator(made.seed), append_eos=True),
        "pairs": Objective(_pairs, _pair_lengths, pairs=True),
    },
    "encoder-decoder": {
        # The collators of spans give each document its own end of sequence.
        "span-corruption": Objective(_span_corruption, _span_lengths, special_tokens=False),
        "denoising": Objective(_denoising, append_eos=True),
        "ul2": Objective(_ul2, special_tokens=False),
        "prefix": Objective(
            lambda made: EncoderDecoderPrefixLMCollator(made.tokenizer, seed=made.seed),
            lambda args: (2 * args.max_length, args.max_length),
            append_eos=True,
        ),
        "pairs": Objective(_pairs, _pair_lengths, pairs=True),
    },
}


def choose_objective(args: PretrainArguments) -> Objective:
    """The objective asked for, or the family's own; raises `InputError` if it does not fit the family."""
    fitting = OBJECTIVES[args.family]
    name = args.objective or next(iter(fitting))
    if name not in fitting:
        raise InputError(f"the objective '{name}' does not fit the family '{args.family}': use {' or '.join(fitting)}.")
    if args.max_length < 8:
        raise InputError(f"`max_length` must be at least 8, not {args.max_length}.")
    return fitting[name]
