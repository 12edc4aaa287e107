"""Denoising: read a document with noise in it, write the document as it was (BART, Lewis et al., 2020, section 2.2).

    document              A B C . D E .
    token-masking         A _ C . _ E .
    token-deletion        A C . E .
    text-infilling        A _ . D _ E .    B C became one mask; a span of no tokens before E became another
    sentence-permutation  D E . A B C .
    document-rotation     C . D E . A B

Each noise is a function on the tokens of one document, without the special tokens that begin and end it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...configuration.errors import InputError
from .batches import Sizes, flatten_pairs, split_documents, token_rows
from .randomness import example_generator
from .shares import share, share_spans
from .span_corruption import sentinel_ids

# In this order, whatever order they are asked for in: sentences are told apart before their ends are hidden.
NOISES = ("sentence-permutation", "document-rotation", "token-deletion", "token-masking", "text-infilling")
SENTENCE_ENDS = (".", "!", "?", "\n", "\u3002", "\uff01", "\uff1f", "\u0964", "\u061f")  # also Chinese, Hindi, Arabic


def mask_tokens(tokens: np.ndarray, count: int, mask: int, generator: np.random.Generator) -> np.ndarray:
    """Replaces `count` tokens by the mask, every choice being equally likely."""
    tokens = tokens.copy()
    tokens[generator.choice(len(tokens), count, replace=False)] = mask
    return tokens


def delete_tokens(tokens: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Leaves `count` tokens out, every choice being equally likely."""
    return np.delete(tokens, generator.choice(len(tokens), count, replace=False))


def infill_text(tokens: np.ndarray, hidden: int, spans: int, mask: int, generator: np.random.Generator) -> np.ndarray:
    """Replaces `hidden` tokens in `spans` spans by one mask each; a span of no tokens inserts one.

    The lengths of the spans are those of independent Poisson variables, given that they sum to `hidden`: a multinomial
    distribution. Tokens that are shown lie between any two spans, as long as there are enough.
    """
    shown = len(tokens) - hidden
    lengths = generator.multinomial(hidden, np.full(spans, 1 / spans)) if spans else np.zeros(0, np.int64)
    # Before which of the shown tokens each span lies; `shown` is the end.
    gaps = np.sort(generator.choice(shown + 1, spans, replace=spans > shown + 1))
    starts = gaps + np.cumsum(lengths) - lengths
    pieces, position = [], 0
    for start, length in zip(starts, lengths, strict=True):
        pieces += [tokens[position:start], [mask]]
        position = start + length
    return np.concatenate([*pieces, tokens[position:]]).astype(tokens.dtype)


def permute_sentences(tokens: np.ndarray, ends: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Puts the sentences in random order. A sentence ends after the last of consecutive tokens that are in `ends`."""
    is_end = np.isin(tokens, ends)
    sentences = np.split(tokens, np.flatnonzero(is_end[:-1] & ~is_end[1:]) + 1)
    return np.concatenate([sentences[index] for index in generator.permutation(len(sentences))])


def rotate_document(tokens: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Begins the document with a token chosen at random; what was before it follows at the end."""
    return np.roll(tokens, -generator.integers(len(tokens)))


class DenoisingCollator:
    """Flattened batches for an encoder-decoder: it reads each document with noise in it and writes it as it was.

    Returns what [`flatten_pairs`] does. Documents keep the special tokens that begin and end them, on both sides. What
    is to be hidden is counted for a row as a whole and shared by its documents in proportion to their lengths, so rows
    of one length give batches of one size, without padding, unless their documents are of a few tokens each.

    Args:
        tokenizer: gives the special tokens, the mask (without one, the first sentinel `<extra_id_0>` serves) and the
            tokens that end sentences.
        noises: which of `NOISES`; the default is the paper's final recipe.
        decoder_start_token_id: what the decoder reads first; `None` = the padding token, as in T5 (BART: `</s>`).
        mask_ratio: the share of a row's tokens that is masked or deleted.
        poisson_lambda: the mean length of the spans of text infilling.
        seed: of the random choices; see [`example_generator`].

    Raises:
        InputError: an unknown noise, a tokenizer without what the noises need, settings out of range.
    """

    def __init__(
        self,
        tokenizer: Any,
        noises: Sequence[str] = ("text-infilling", "sentence-permutation"),
        decoder_start_token_id: int | None = None,
        mask_ratio: float = 0.3,
        poisson_lambda: float = 3.0,
        seed: int = 0,
    ):
        if unknown := sorted(set(noises) - set(NOISES)):
            raise InputError(f"there is no noise '{unknown[0]}': use {', '.join(NOISES)}.")
        if not 0 < mask_ratio < 1:
            raise InputError(f"`mask_ratio` must lie between 0 and 1, not {mask_ratio}.")
        if poisson_lambda < 1:
            raise InputError(f"`poisson_lambda` must be at least 1, not {poisson_lambda}.")
        start = tokenizer.pad_token_id if decoder_start_token_id is None else decoder_start_token_id
        if start is None:
            raise InputError("denoising needs a padding token, which this tokenizer does not have, or a start token.")
        self.noises = [noise for noise in NOISES if noise in noises]
        self.mask = mask_id(tokenizer)
        self.start = start
        self.special_ids = np.array(tokenizer.all_special_ids)
        self.ends = sentence_end_ids(tokenizer) if "sentence-permutation" in noises else np.zeros(0, np.int64)
        self.mask_ratio = mask_ratio
        self.masks_per_token = {"token-deletion": 0.0, "token-masking": 1.0, "text-infilling": 1 / poisson_lambda}
        self.seed = seed

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        sources, targets = [], []
        for feature, row, positions in zip(features, *token_rows(features), strict=True):
            documents = split_documents(row, positions)
            sources += self._noised(documents, example_generator(feature, self.seed))
            targets += documents
        return flatten_pairs(sources, targets, self.start)

    def sizes(self, length: int) -> Sizes:
        """What a row of `length` tokens takes on either side."""
        source = length
        for noise in self.noises:
            hidden, masks = self._counts(noise, source)
            source += masks - hidden
        return Sizes(source, length)

    def _counts(self, noise: str, length: int) -> tuple[int, int]:
        """How many of a row's tokens a noise hides, and how many masks stand for them."""
        if noise not in self.masks_per_token:
            return 0, 0
        hidden = round(self.mask_ratio * length)
        masks = hidden * self.masks_per_token[noise]
        return hidden, max(round(masks), 1) if hidden and masks else 0

    def _noised(self, documents: list[np.ndarray], generator: np.random.Generator) -> list[np.ndarray]:
        """The documents of one row with all noises, one after the other."""
        bounds = [self._text_bounds(document) for document in documents]
        texts = [document[first:last] for document, (first, last) in zip(documents, bounds, strict=True)]
        length = sum(map(len, documents))
        for noise in self.noises:
            hidden, masks = self._counts(noise, length)
            shares = self._shares(noise, np.array([len(text) for text in texts]), hidden, masks, generator)
            texts = [
                self._apply(noise, text, of_text, masks_of_text, generator) if len(text) else text
                for text, of_text, masks_of_text in zip(texts, *shares, strict=True)
            ]
            length += masks - hidden
        return [
            np.concatenate([document[:first], text, document[last:]])
            for document, text, (first, last) in zip(documents, texts, bounds, strict=True)
        ]

    def _text_bounds(self, document: np.ndarray) -> tuple[int, int]:
        """From where to where a document is text: without the special tokens at its beginning and its end."""
        text = np.flatnonzero(~np.isin(document, self.special_ids))
        return (int(text[0]), int(text[-1]) + 1) if len(text) else (len(document), len(document))

    def _shares(
        self, noise: str, lengths: np.ndarray, hidden: int, masks: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each document hides, and its masks; every document keeps at least one token or mask."""
        if noise == "text-infilling":
            return share_spans(lengths, hidden, masks, generator)
        given = share(hidden, lengths, np.maximum(lengths - 1, 0), generator)
        return given, given

    def _apply(
        self, noise: str, text: np.ndarray, hidden: int, masks: int, generator: np.random.Generator
    ) -> np.ndarray:
        match noise:
            case "sentence-permutation":
                return permute_sentences(text, self.ends, generator)
            case "document-rotation":
                return rotate_document(text, generator)
            case "token-deletion":
                return delete_tokens(text, hidden, generator)
            case "token-masking":
                return mask_tokens(text, hidden, self.mask, generator)
            case _:
                return infill_text(text, hidden, masks, self.mask, generator)


def mask_id(tokenizer: Any) -> int:
    """The mask token, or else the first sentinel, which stands for hidden text as well; `InputError` without either."""
    if tokenizer.mask_token_id is not None:
        return tokenizer.mask_token_id
    sentinels = sentinel_ids(tokenizer)
    if not len(sentinels):
        raise InputError(
            "denoising needs a tokenizer with a mask token or sentinels <extra_id_0>, ...: train one with "
            "`trivium tokenizer --family encoder-decoder`."
        )
    return int(sentinels[0])


def sentence_end_ids(tokenizer: Any) -> np.ndarray:
    """The tokens whose text ends as a sentence or a line does."""
    ids = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    return np.array([index for index in ids if tokenizer.decode([index]).rstrip(" ").endswith(SENTENCE_ENDS)])
