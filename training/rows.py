"""From the arguments of a run to the rows that it trains on and those that it is measured on."""

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import datasets
from torch.utils.data import Subset

from .arguments import PretrainArguments
from .data.mixture import Mixture
from .data.packing import PackedDataset
from .data.pair_texts import load_pairs
from .data.pairs import PackedPairs, choose_target_length
from .data.sources import Texts, read_texts
from .data.streaming import StreamedDataset
from .data.tokenizing import document_tokenizer, tokenize_documents
from .objectives.choice import Objective

TOKENIZER_DOCUMENTS = 1_000_000  # of each source at most, to train a tokenizer on


def read_sources(args: PretrainArguments, objective: Objective) -> dict[str, Texts]:
    """The texts, or the pairs of texts, of every source, by name; see [`load_texts`] and [`load_pairs`]."""
    if objective.pairs:
        return {name: load_pairs(source, args.target_column) for name, (source, _) in args.sources.items()}
    return {name: read_texts(source) for name, (source, _) in args.sources.items()}


def sample_texts(sources: dict[str, Texts]) -> Iterator[str]:
    """Yields texts to train a tokenizer on, from all sources."""
    batches: Iterable[Any] = chain.from_iterable(
        islice(texts.train.iter(1000), TOKENIZER_DOCUMENTS // 1000) for texts in sources.values()
    )
    return (text for batch in batches for column in batch.values() for text in column)


def with_target_length(
    args: PretrainArguments, objective: Objective, tokenizer: Any, sources: dict[str, Texts]
) -> PretrainArguments:
    """The arguments with the `max_target_length` that fits the data, if rows of one size are asked for without it."""
    sides = objective.pairs and args.family == "encoder-decoder"
    if not (sides and args.pad_to_fixed_size and args.max_target_length is None):
        return args
    lengths = [choose_target_length(texts.train, tokenizer, args.max_length) for texts in sources.values()]
    return dataclasses.replace(args, max_target_length=max(lengths))


def make_rows(
    args: PretrainArguments, objective: Objective, tokenizer: Any, sources: dict[str, Texts], seed: int
) -> tuple[Any, Any]:
    """The rows to train on, for ever, and the rows to measure on: of several sources a dictionary by name."""
    train: dict[str, Any] = {}
    held_out: dict[str, Any] = {}
    make = _pairs if objective.pairs else _documents
    for name, texts in sources.items():
        train[name], held_out[name] = make(args, objective, tokenizer, texts, seed)
    if len(train) == 1:
        return *train.values(), *held_out.values()
    weights = {name: weight for name, (_, weight) in args.sources.items() if weight is not None}
    return Mixture(train, weights, seed), held_out


def _documents(
    args: PretrainArguments, objective: Objective, tokenizer: Any, texts: Texts, seed: int
) -> tuple[Any, PackedDataset]:
    length, _ = objective.lengths(args)
    form = {"special_tokens": objective.special_tokens, "append_eos": objective.append_eos}
    held_out = tokenize_documents(texts.held_out, tokenizer, **form)
    measured = PackedDataset(held_out, length, args.max_held_out_blocks, drop_last=False)
    if isinstance(texts.train, datasets.IterableDataset):
        tokenize = document_tokenizer(tokenizer, **form)
        return StreamedDataset(texts.train, tokenize, length, seed=seed, packing=args.packing), measured
    tokens = tokenize_documents(texts.train, tokenizer, **form)
    return PackedDataset(tokens, length, seed=seed, packing=args.packing), measured


def _pairs(
    args: PretrainArguments, objective: Objective, tokenizer: Any, texts: Texts, seed: int
) -> tuple[PackedPairs, Any]:
    target = None if args.family == "decoder" else args.max_target_length or args.max_length
    measured = PackedPairs(texts.held_out, tokenizer, args.max_length, target, seed=None)
    count = min(len(measured), args.max_held_out_blocks or len(measured))
    return PackedPairs(texts.train, tokenizer, args.max_length, target, seed=seed), Subset(measured, range(count))


def tokenized_documents(rows: Any) -> Any:
    """The tokenized documents behind rows to train on, all sources one after the other; `None` for streams."""
    if isinstance(rows, Mixture):
        parts = [tokenized_documents(source) for source in rows.sources.values()]
        return None if None in parts else datasets.concatenate_datasets(parts).with_format("numpy")
    return rows.tokens.documents.with_format("numpy") if isinstance(rows, PackedDataset) else None


def describe(rows: Any, name: str = "training text") -> str:
    """What was packed, in a line per source."""
    if isinstance(rows, Mixture):
        lines = [describe(source, f"{name} ({rows.shares[name]:.0%})") for name, source in rows.sources.items()]
        return "\n".join(lines)
    if isinstance(rows, StreamedDataset):
        return f"{name}: a stream, in rows of {rows.length} tokens."
    if isinstance(rows, PackedPairs):
        target = rows.max_target_length
        sides = f"{rows.length} tokens" if target is None else f"up to {rows.length} and {target} tokens"
        return (
            f"{name}: {len(rows.order):,} pairs, {rows.num_tokens:,} tokens in {len(rows):,} rows of {sides}, "
            f"{rows.fill:.1%} full; {rows.num_truncated:,} pairs cut."
        )
    dropped = 1 - min(rows.used_tokens, len(rows) * rows.length) / rows.num_tokens
    return (
        f"{name}: {len(rows.lengths):,} documents, {rows.num_tokens:,} tokens in {len(rows):,} rows of {rows.length}, "
        f"none padded; {dropped:.2%} left out at the end of a pass, {rows.share_cut():.1%} of the documents cut that "
        "would fit a row."
    )
