"""Span corruption: replace spans by sentinels in the input and write them out as the target (T5, Raffel et al., 2020).

    document  Thank you for inviting me to your party last week .
    input     Thank you <extra_id_0> me to your party <extra_id_1> week . </s>
    target    <extra_id_0> for inviting <extra_id_1> last </s>

The target's closing sentinel of the paper's figures is left out, as in T5's own code, where `</s>` takes its place.
"""

from typing import Any

import numpy as np
import torch

from ...configuration.errors import InputError
from .batches import Sizes, flatten_pairs, split_documents, token_rows
from .randomness import example_generator
from .shares import share_spans


def span_counts(length: int, noise_density: float, mean_span_length: float) -> tuple[int, int]:
    """How many of `length` tokens to hide, and in how many spans.

    At least one token is hidden and, of two or more, at least one is shown; the spans are separated by shown tokens.
    """
    if length < 2:
        return length, length
    hidden = min(max(round(length * noise_density), 1), length - 1)
    spans = min(max(round(hidden / mean_span_length), 1), length - hidden)
    return hidden, spans


def raw_length(max_length: int, noise_density: float = 0.15, mean_span_length: float = 3.0) -> int:
    """The longest piece of text, in tokens, whose corrupted input takes at most `max_length` tokens, `</s>` included.

    For T5's settings and `max_length=512` these are 568 tokens; their target takes 114.
    """
    length = max_length - 1
    while True:
        hidden, spans = span_counts(length + 1, noise_density, mean_span_length)
        if length + 1 - hidden + spans + 1 > max_length:
            return length
        length += 1


def row_counts(
    lengths: np.ndarray, noise_density: float, mean_span_length: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens to hide in each document of a row, and in how many spans: two arrays of shape (D,).

    The row as a whole hides as many tokens as one document of its length would, in fewer spans: each document beyond
    the first ends both sides with one more `</s>`, for which it gives up a sentinel. So all rows of a length come out
    equally long. Only if a row holds so many documents (about one for every 25 tokens, with T5's settings) that the
    spans left could not hide as much, it comes out longer: with T5's number of spans, or one a document.
    """
    count = len(lengths)
    hidden, spans = span_counts(int(lengths.sum()), noise_density, mean_span_length)
    if count == 1:
        return np.array([hidden]), np.array([spans])
    shared = share_spans(lengths, hidden, spans + 1 - count, generator)
    if shared[0].sum() < hidden:
        shared = share_spans(lengths, hidden, max(spans, count), generator)
    return shared


def random_partition(total: int, parts: int, generator: np.random.Generator) -> np.ndarray:
    """`parts` positive integers that sum to `total`, every such partition being equally likely."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def hide_spans(
    tokens: np.ndarray, hidden: int, spans: int, sentinels: np.ndarray, eos: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Hides `hidden` of a document's tokens in `spans` spans; returns input and target, both ending in `eos`.

    As in T5, a document begins with shown text and ends with a hidden span. Without spans the target is `eos` alone.

    Raises:
        InputError: more spans than sentinels.
    """
    if spans > len(sentinels):
        raise InputError(
            f"{len(tokens)} tokens make {spans} spans but the tokenizer has {len(sentinels)} sentinels: lower "
            "`max_length`, or raise `mean_span_length`."
        )
    if not spans:
        return np.append(tokens, eos), np.array([eos])
    shown_lengths = np.zeros(spans, np.int64)
    if len(tokens) > hidden:
        shown_lengths = random_partition(len(tokens) - hidden, spans, generator)
    hidden_lengths = random_partition(hidden, spans, generator)
    pieces = np.split(tokens, np.cumsum(np.stack([shown_lengths, hidden_lengths], axis=1).ravel())[:-1])
    source, target = [], []
    for sentinel, shown, span in zip(sentinels[:spans, None], pieces[::2], pieces[1::2], strict=True):
        source += [shown, sentinel]
        target += [sentinel, span]
    return np.concatenate([*source, [eos]]), np.concatenate([*target, [eos]])


def corrupt_spans(
    tokens: np.ndarray,
    sentinels: np.ndarray,
    eos: int,
    generator: np.random.Generator,
    noise_density: float = 0.15,
    mean_span_length: float = 3.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Corrupts one document without special tokens: [`hide_spans`] with the numbers of [`span_counts`]."""
    hidden, spans = span_counts(len(tokens), noise_density, mean_span_length)
    return hide_spans(tokens, hidden, spans, sentinels, eos, generator)


class SpanCorruptionCollator:
    """Flattened batches for an encoder-decoder: every document of every row is corrupted by itself.

    Returns what [`flatten_pairs`] does. Rows hold text without special tokens; rows of [`raw_length`] tokens give
    inputs of about `max_length` each. Rows of one length give batches of one size, whatever documents they hold, unless
    these are very short ([`row_counts`]).

    Args:
        tokenizer: gives `</s>` and the sentinels `<extra_id_0>`, `<extra_id_1>`, ...
        decoder_start_token_id: what the decoder reads first; `None` = the padding token, as in T5.
        noise_density, mean_span_length: T5's 15% in spans of 3.
        seed: of the random choices; see [`example_generator`].

    Raises:
        InputError: a tokenizer without sentinels or end of sequence, settings out of range.
    """

    def __init__(
        self,
        tokenizer: Any,
        decoder_start_token_id: int | None = None,
        noise_density: float = 0.15,
        mean_span_length: float = 3.0,
        seed: int = 0,
    ):
        self.sentinels, self.eos, self.start = span_tokens(tokenizer, decoder_start_token_id)
        if not 0 < noise_density < 1:
            raise InputError(f"`noise_density` must lie between 0 and 1, not {noise_density}.")
        if mean_span_length < 1:
            raise InputError(f"`mean_span_length` must be at least 1, not {mean_span_length}.")
        self.noise_density = noise_density
        self.mean_span_length = mean_span_length
        self.seed = seed

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        pairs = []
        for feature, row, positions in zip(features, *token_rows(features), strict=True):
            generator = example_generator(feature, self.seed)
            documents = split_documents(row, positions)
            lengths = np.array([len(document) for document in documents])
            counts = row_counts(lengths, self.noise_density, self.mean_span_length, generator)
            pairs += [
                hide_spans(document, hidden, spans, self.sentinels, self.eos, generator)
                for document, hidden, spans in zip(documents, *counts, strict=True)
            ]
        return flatten_pairs([source for source, _ in pairs], [target for _, target in pairs], self.start)

    def sizes(self, length: int) -> Sizes:
        """What a row of `length` tokens takes on either side."""
        hidden, spans = span_counts(length, self.noise_density, self.mean_span_length)
        return Sizes(length - hidden + spans + 1, hidden + spans + 1)


def sentinel_ids(tokenizer: Any) -> np.ndarray:
    """The ids of `<extra_id_0>`, `<extra_id_1>`, ... in this order, as many as the tokenizer has."""
    vocabulary = tokenizer.get_vocab()
    ids: list[int] = []
    while (token := f"<extra_id_{len(ids)}>") in vocabulary:
        ids.append(vocabulary[token])
    return np.array(ids, dtype=np.int64)


def span_tokens(tokenizer: Any, decoder_start_token_id: int | None = None) -> tuple[np.ndarray, int, int]:
    """Sentinels, end of sequence and what the decoder reads first; raises `InputError` if the tokenizer lacks one."""
    sentinels, eos = sentinel_ids(tokenizer), tokenizer.eos_token_id
    start = tokenizer.pad_token_id if decoder_start_token_id is None else decoder_start_token_id
    if not len(sentinels) or eos is None or start is None:
        raise InputError(
            "span corruption needs a tokenizer with sentinels <extra_id_0>, <extra_id_1>, ..., an end of sequence "
            "and a padding token: train one with `trivium tokenizer --family encoder-decoder`."
        )
    return sentinels, eos, start
