"""Prefix language modelling: read a text's beginning, write the rest (Liu et al., 2018; Raffel et al., 2020, 3.2).

    document         Thank you for inviting me to your party last week . </s>
    encoder-decoder  reads: Thank you for inviting </s>    writes: me to your party last week . </s>
    decoder          reads it all; only `me to your party last week . </s>` is predicted

What is read and what is written are one text, cut at a random place.
"""

from typing import Any

import numpy as np
import torch

from ...configuration.errors import InputError
from .batches import IGNORED, flatten_pairs, stack_or_flatten, token_rows
from .randomness import example_generator


class DecoderPrefixLMCollator:
    """Batches of packed rows for a decoder: `input_ids`, `position_ids` and `labels`, each (B, L).

    Each piece of a document is cut at a place that is drawn uniformly, with a token or more on either side; only what
    comes after the cut is predicted. The model stays causal: a token of the prefix sees those before it, not the whole
    prefix as in the papers, so this differs from [`CausalLMCollator`] in the loss alone.

    Args:
        seed: of the random choices; see [`example_generator`].
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        ids, positions = token_rows(features)
        labels = []
        for feature, row, row_positions in zip(features, ids, positions, strict=True):
            generator = example_generator(feature, self.seed)
            lengths = piece_lengths(row_positions)
            prefixes = generator.integers(1, np.maximum(lengths, 2))
            labels.append(np.where(row_positions < np.repeat(prefixes, lengths), IGNORED, row))
        return {
            "input_ids": stack_or_flatten(ids),
            "position_ids": stack_or_flatten(positions),
            "labels": stack_or_flatten(labels),
        }


class EncoderDecoderPrefixLMCollator:
    """Flattened batches for an encoder-decoder: it reads the beginning of each piece and writes the rest.

    Returns `input_ids` and `position_ids` of shape (1, S), `labels`, `decoder_input_ids` and `decoder_position_ids` of
    shape (1, T). Positions restart at each document; the i-th on either side belong together. Of every row of L tokens
    L // 2 go to the encoder and the others to the decoder, so the batch has one size and no padding: of all places of
    the cuts that give this sum one is drawn uniformly. One long document would have no choice, so a piece longer than
    half the row is first cut into two documents, at a random place.

    Every prefix ends in `</s>`, for which the last token of the piece's text makes room. The rest ends in `</s>` where
    the piece does; elsewhere the text goes on, and nothing says that it ends.

    Args:
        tokenizer: gives `</s>`.
        decoder_start_token_id: what the decoder reads first; `None` = the padding token, as in T5.
        seed: of the random choices; see [`example_generator`].

    Raises:
        InputError: a tokenizer without end of sequence or padding; a row of which more than half the pieces are single
            tokens.
    """

    def __init__(self, tokenizer: Any, decoder_start_token_id: int | None = None, seed: int = 0):
        if tokenizer.eos_token_id is None or (decoder_start_token_id is None and tokenizer.pad_token_id is None):
            raise InputError(
                "prefix language modelling needs a tokenizer with an end of sequence and a padding token: train one "
                "with `trivium tokenizer --family encoder-decoder`."
            )
        self.eos = tokenizer.eos_token_id
        self.start = tokenizer.pad_token_id if decoder_start_token_id is None else decoder_start_token_id
        self.seed = seed

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        pairs = []
        for feature, row, positions in zip(features, *token_rows(features), strict=True):
            pairs += self._split(row, piece_lengths(positions), example_generator(feature, self.seed))
        sources, targets = zip(*pairs, strict=True)
        return flatten_pairs(list(sources), list(targets), self.start)

    def _split(
        self, row: np.ndarray, lengths: np.ndarray, generator: np.random.Generator
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The source and the target of each document of a row, as many tokens in all as the row has."""
        longest = lengths.argmax()
        if 2 * lengths[longest] > max(len(row), 6):
            cut = generator.integers(2, lengths[longest] - 1)
            lengths = np.insert(lengths, longest, cut)
            lengths[longest + 1] -= cut
        pieces = np.split(row, np.cumsum(lengths)[:-1])
        sizes = make_room(lengths)
        prefixes = draw_prefixes(sizes, generator)
        return [self._cut(*of_piece) for of_piece in zip(pieces, sizes, prefixes, strict=True)]

    def _cut(self, piece: np.ndarray, size: int, prefix: int) -> tuple[np.ndarray, np.ndarray]:
        """The source, `prefix` tokens with its `</s>`, and the target, which fills up to `size`."""
        ended = int(piece[-1] == self.eos)
        text, end = piece[: size - 1 - ended], piece[len(piece) - ended :]
        return np.append(text[: prefix - 1], self.eos), np.concatenate([text[prefix - 1 :], end])


def piece_lengths(positions: np.ndarray) -> np.ndarray:
    """How many tokens each piece of a row has, told from its positions (L,)."""
    return np.diff(np.flatnonzero(positions == 0), append=len(positions))


def make_room(lengths: np.ndarray) -> np.ndarray:
    """The same lengths with at least two tokens each, one for either side, for which the longest give up theirs.

    Raises:
        InputError: there is no room.
    """
    sizes = np.maximum(lengths, 2)
    for _ in range(sizes.sum() - lengths.sum()):
        sizes[sizes.argmax()] -= 1
    if sizes.min() < 2:
        raise InputError(
            f"a row of {lengths.sum()} tokens holds {len(lengths)} pieces of documents, too many to split each in two: "
            "leave out documents of one token."
        )
    return sizes


def draw_prefixes(sizes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Lengths of prefixes, between 1 and the document's size - 1, that sum to half the sizes, rounded down.

    All such choices are equally likely: all prefixes but the longest document's are drawn freely, again and again
    until what is left is a length for that one too.
    """
    total, longest = sizes.sum() // 2, sizes.argmax()
    while True:
        prefixes = generator.integers(1, sizes)
        prefixes[longest] += total - prefixes.sum()
        if 1 <= prefixes[longest] < sizes[longest]:
            return prefixes
