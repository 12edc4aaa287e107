"""BERT's pretraining: fill masks, and tell whether the second segment follows the first (Devlin et al., 2019, 3.1)."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from ...configuration.errors import InputError
from .batches import IGNORED, split_documents, stack_or_flatten, token_rows
from .masked_lm import MaskedLMCollator
from .randomness import example_generator
from .words import Words

SHORTEST = 8  # tokens of a piece that is made a pair, and of a text that may be its second segment
DRAWS = 10  # of a random text, until one is long enough
IS_NEXT, IS_RANDOM = 0, 1  # as in transformers' `BertForPreTraining`


class NextSentenceCollator:
    """Batches of packed rows for [`TriviumEncoderForPreTraining`], whose configuration needs `type_vocab_size=2`.

    Returns `input_ids`, `position_ids`, `token_type_ids` and `labels`, each (B, L), as [`MaskedLMCollator`] does, and
    `next_sentence_label` (N,), one for each of the N documents of the batch: 0 = the second segment is what follows,
    1 = it is random, -100 = there is no second segment; and `cu_seq_lens_q` (N + 1,), where these documents begin and
    where the last one ends, so that a compiled model need not count them.

    Each piece of a document becomes `[CLS] A [SEP] B [SEP]`. A is the piece's own text up to the beginning of one of
    its sentences, drawn at random; with probability one half B is what follows there, else as many tokens of a random
    text, from the beginning of a sentence on. The random text is drawn for every piece, and A ends where it suffices
    for B, before the coin is tossed: neither the lengths nor the places of the cuts tell the label. Where either text
    has no sentences that fit (see [`Words`]) both are cut anywhere.

    A piece keeps its length: the last one to three tokens of its text make room for the marks it does not have yet.
    Pieces shorter than 8 tokens stay as they are.

    Args:
        tokenizer: gives `[CLS]`, `[SEP]` and the mask, and what sentences are.
        corpus: where random texts come from: a map-style dataset with `input_ids` and perhaps `position_ids`, best the
            tokenized documents, as a random one of them is cheap to read. Which text is taken follows from the row's
            place alone, so that a row is the same in any batch, worker or order. `None` = the other rows of the batch,
            for small experiments: choices then depend on the batch, and a row that is alone has no pairs.
        probability, scheme, seed, whole_word: of the masks, as for [`MaskedLMCollator`], by default those of BERT.

    Raises:
        InputError: a tokenizer without the tokens named, settings that [`MaskedLMCollator`] refuses.
    """

    def __init__(
        self,
        tokenizer: Any,
        corpus: Any = None,
        probability: float = 0.15,
        scheme: Literal["mask", "80-10-10"] = "80-10-10",
        seed: int = 0,
        whole_word: bool = False,
    ):
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise InputError(
                "next-sentence prediction needs a classification and a separator token: train a tokenizer with "
                "`trivium tokenizer --family encoder`."
            )
        self.masking = MaskedLMCollator(tokenizer, probability, scheme, seed, whole_word)
        self.words = Words.of(tokenizer)
        self.cls, self.sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.corpus = corpus
        self.seed = seed

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        ids, positions = token_rows(features)
        shown, labels, segments, verdicts = [], [], [], []
        for number, (feature, row, row_positions) in enumerate(zip(features, ids, positions, strict=True)):
            generator = example_generator(feature, self.seed)
            others = features[:number] + features[number + 1 :] if self.corpus is None else self.corpus
            pairs = [self._pair(piece, others, generator) for piece in split_documents(row, row_positions)]
            tokens = np.concatenate([pair[0] for pair in pairs])
            row_shown, row_labels = self.masking.mask(tokens, row_positions == 0, generator)
            shown.append(row_shown)
            labels.append(row_labels)
            segments.append(np.concatenate([pair[1] for pair in pairs]))
            verdicts += [pair[2] for pair in pairs]
        starts = np.concatenate(positions) == 0
        return {
            "input_ids": stack_or_flatten(shown),
            "position_ids": stack_or_flatten(positions),
            "token_type_ids": stack_or_flatten(segments),
            "labels": stack_or_flatten(labels),
            "next_sentence_label": torch.tensor(verdicts),
            "cu_seq_lens_q": torch.from_numpy(np.append(np.flatnonzero(starts), len(starts)).astype(np.int32)),
        }

    def _pair(
        self, piece: np.ndarray, others: Sequence[dict[str, Any]], generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Tokens and segments of a piece, as long as it was, and whether its second segment follows the first."""
        if len(piece) < SHORTEST or not len(others):
            return piece, np.zeros_like(piece), IGNORED
        own = self._text(piece)[: len(piece) - 3]
        other = self._random_text(others, generator)
        places = self._cut(own, other, generator)
        if places is None:
            return piece, np.zeros_like(piece), IGNORED
        cut, start = places
        verdict = int(generator.integers(2))
        second = own[cut:] if verdict == IS_NEXT else other[start : start + len(own) - cut]
        tokens = np.concatenate([[self.cls], own[:cut], [self.sep], second, [self.sep]])
        return tokens, (np.arange(len(piece)) > cut + 1).astype(np.int64), verdict

    def _text(self, piece: np.ndarray) -> np.ndarray:
        """A piece without the marks at its ends."""
        return piece[int(piece[0] == self.cls) : len(piece) - int(piece[-1] == self.sep)]

    def _random_text(self, others: Sequence[dict[str, Any]], generator: np.random.Generator) -> np.ndarray:
        """The text of a piece of a random row; of the last one drawn, if none is long enough."""
        for _ in range(DRAWS):
            (row,), (positions,) = token_rows([others[int(generator.integers(len(others)))]])
            pieces = split_documents(row, positions)
            text = self._text(pieces[generator.integers(len(pieces))])
            if len(text) >= SHORTEST:
                break
        return text

    def _cut(self, own: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> tuple[int, int] | None:
        """Where to cut one's own text, and where the other begins that could replace the rest; `None` = nowhere."""
        for places in (self.words.sentences, lambda text: np.arange(1, len(text))):
            cuts, starts = places(own), places(other)
            starts = starts[len(other) - starts >= len(own) - cuts.max(initial=0)]
            if len(cuts) and len(starts):
                start = int(generator.choice(starts))
                return int(generator.choice(cuts[len(own) - cuts <= len(other) - start])), start
        return None
