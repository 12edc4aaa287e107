"""Masked language modelling: predict tokens that were hidden from both sides' context (Devlin et al., 2019)."""

from typing import Any, Literal

import numpy as np
import torch

from ...configuration.errors import InputError
from .batches import IGNORED, stack_or_flatten, token_rows
from .randomness import example_generator
from .words import Words


class MaskedLMCollator:
    """Batches of packed rows for an encoder: `input_ids`, `position_ids` and `labels`, each (B, L).

    In each row `probability` of the tokens that are not special are chosen, without replacement and at least one; only
    they have labels. Rows of different lengths are flattened to (1, T).

    With `whole_word` words are chosen, in random order, and all their tokens are predicted (BERT's release of May 2019;
    Cui et al., 2021). As there, a word that would exceed the row's number of tokens is passed over, so a row may have a
    few fewer, and the fate of each token (mask, random, as it is) is drawn by itself. See [`Words`] for what a word is.

    Args:
        tokenizer: gives the mask token, the special tokens and the size of the vocabulary.
        probability: 30% by default (Wettig et al., 2023, found 15% too little); BERT took 15%.
        scheme: `"mask"` replaces every chosen token by the mask; `"80-10-10"` is BERT's: 80% the mask, 10% a random
            token, 10% left as they are.
        seed: of the random choices; see [`example_generator`].
        whole_word: choose words, not tokens.

    Raises:
        InputError: a tokenizer without a mask token, a probability outside (0, 1], an unknown scheme.
    """

    def __init__(
        self,
        tokenizer: Any,
        probability: float = 0.3,
        scheme: Literal["mask", "80-10-10"] = "mask",
        seed: int = 0,
        whole_word: bool = False,
    ):
        if tokenizer.mask_token_id is None:
            raise InputError("masked language modelling needs a mask token, which this tokenizer does not have.")
        if not 0 < probability <= 1:
            raise InputError(f"`mlm_probability` must lie in (0, 1], not {probability}.")
        if scheme not in ("mask", "80-10-10"):
            raise InputError(f"`mask_scheme` is 'mask' or '80-10-10', not '{scheme}'.")
        self.mask_token_id = tokenizer.mask_token_id
        self.special_ids = np.array(tokenizer.all_special_ids)
        self.ordinary_ids = np.setdiff1d(np.arange(len(tokenizer)), self.special_ids)
        self.probability = probability
        self.scheme = scheme
        self.seed = seed
        self.words = Words.of(tokenizer) if whole_word else None

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        ids, positions = token_rows(features)
        masked = [
            self.mask(row, row_positions == 0, example_generator(feature, self.seed))
            for feature, row, row_positions in zip(features, ids, positions, strict=True)
        ]
        return {
            "input_ids": stack_or_flatten([row for row, _ in masked]),
            "position_ids": stack_or_flatten(positions),
            "labels": stack_or_flatten([labels for _, labels in masked]),
        }

    def mask(
        self, row: np.ndarray, documents: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """What one row (T,) shows and what it predicts; `documents` (T,) is true where a document begins."""
        chosen = self._choose(row, documents, generator)
        labels = np.full_like(row, IGNORED)
        labels[chosen] = row[chosen]
        row = row.copy()
        if self.scheme == "mask":
            row[chosen] = self.mask_token_id
        else:
            fate = generator.random(len(chosen))
            row[chosen[fate < 0.8]] = self.mask_token_id
            swapped = chosen[fate >= 0.9]
            row[swapped] = generator.choice(self.ordinary_ids, len(swapped))
        return row, labels

    def _choose(self, row: np.ndarray, documents: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The indices of the tokens to predict."""
        special = np.isin(row, self.special_ids)
        candidates = np.flatnonzero(~special)
        count = min(max(1, round(self.probability * len(candidates))), len(candidates))
        if self.words is None or not count:
            return generator.choice(candidates, count, replace=False)
        fresh = documents | np.append(True, special[:-1])  # a special token may stand before what was inside a word
        starts = np.flatnonzero(self.words.starts(row, fresh)[candidates])
        lengths = np.diff(starts, append=len(candidates))
        return candidates[np.repeat(choose_words(lengths, count, generator), lengths)]


def choose_words(lengths: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Of words of so many tokens (W,), as many in random order as make up `count` tokens at most: bool (W,).

    One that would exceed what is left is passed over; if each has more than `count` tokens, the shortest is taken.
    """
    chosen = np.zeros(len(lengths), dtype=bool)
    count = max(count, lengths.min())
    order = generator.permutation(len(lengths))
    for index, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        if length <= count:
            chosen[index] = True
            count -= length
        if not count:
            break
    return chosen
