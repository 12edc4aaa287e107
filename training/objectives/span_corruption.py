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
from .batches import token_rows
from .randomness import example_generator


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


def random_partition(total: int, parts: int, generator: np.random.Generator) -> np.ndarray:
    """`parts` positive integers that sum to `total`, every such partition being equally likely."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def corrupt_spans(
    tokens: np.ndarray,
    sentinels: np.ndarray,
    eos: int,
    generator: np.random.Generator,
    noise_density: float = 0.15,
    mean_span_length: float = 3.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Corrupts one document without special tokens; returns input and target, both ending in `eos`.

    As in T5, a document begins with shown text and ends with a hidden span.

    Raises:
        InputError: more spans than sentinels.
    """
    hidden, spans = span_counts(len(tokens), noise_density, mean_span_length)
    if spans > len(sentinels):
        raise InputError(
            f"{len(tokens)} tokens make {spans} spans but the tokenizer has {len(sentinels)} sentinels: lower "
            "`max_length`, or raise `mean_span_length`."
        )
    if len(tokens) > 1:
        shown_lengths = random_partition(len(tokens) - hidden, spans, generator)
        hidden_lengths = random_partition(hidden, spans, generator)
    else:
        shown_lengths, hidden_lengths = np.zeros(spans, np.int64), np.ones(spans, np.int64)
    pieces = np.split(tokens, np.cumsum(np.stack([shown_lengths, hidden_lengths], axis=1).ravel())[:-1])
    source, target = [], []
    for sentinel, shown, span in zip(sentinels[:spans, None], pieces[::2], pieces[1::2], strict=True):
        source += [shown, sentinel]
        target += [sentinel, span]
    return np.concatenate([*source, [eos]]), np.concatenate([*target, [eos]])


class SpanCorruptionCollator:
    """Flattened batches for an encoder-decoder: every document of every row is corrupted by itself.

    Returns `input_ids` and `position_ids` of shape (1, T), `labels`, `decoder_input_ids` and `decoder_position_ids` of
    shape (1, U). Positions restart at each document; the i-th on either side belong together. Rows hold text without
    special tokens; rows of [`raw_length`] tokens give inputs of about `max_length` each.

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
        self.sentinels = sentinel_ids(tokenizer)
        self.eos = tokenizer.eos_token_id
        self.start = tokenizer.pad_token_id if decoder_start_token_id is None else decoder_start_token_id
        if not len(self.sentinels) or self.eos is None or self.start is None:
            raise InputError(
                "span corruption needs a tokenizer with sentinels <extra_id_0>, <extra_id_1>, ..., an end of sequence "
                "and a padding token: train one with `trivium tokenizer --family encoder-decoder`."
            )
        if not 0 < noise_density < 1:
            raise InputError(f"`noise_density` must lie between 0 and 1, not {noise_density}.")
        if mean_span_length < 1:
            raise InputError(f"`mean_span_length` must be at least 1, not {mean_span_length}.")
        self.noise_density = noise_density
        self.mean_span_length = mean_span_length
        self.seed = seed

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        sources, targets = [], []
        for feature, row, positions in zip(features, *token_rows(features), strict=True):
            generator = example_generator(feature, self.seed)
            for document in np.split(row, np.flatnonzero(positions == 0)[1:]):
                source, target = corrupt_spans(
                    document, self.sentinels, self.eos, generator, self.noise_density, self.mean_span_length
                )
                sources.append(source)
                targets.append(target)
        return {
            "input_ids": _flat(sources),
            "position_ids": _flat([np.arange(len(source)) for source in sources]),
            "labels": _flat(targets),
            "decoder_input_ids": _flat([np.concatenate([[self.start], target[:-1]]) for target in targets]),
            "decoder_position_ids": _flat([np.arange(len(target)) for target in targets]),
        }


def sentinel_ids(tokenizer: Any) -> np.ndarray:
    """The ids of `<extra_id_0>`, `<extra_id_1>`, ... in this order, as many as the tokenizer has."""
    vocabulary = tokenizer.get_vocab()
    ids: list[int] = []
    while (token := f"<extra_id_{len(ids)}>") in vocabulary:
        ids.append(vocabulary[token])
    return np.array(ids, dtype=np.int64)


def _flat(rows: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(rows)[None].astype(np.int64))
