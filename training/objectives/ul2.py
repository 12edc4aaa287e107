"""A mixture of denoisers: span corruption of several rates and span lengths by turns (UL2, Tay et al., 2022).

Regular denoisers (R) hide little in short spans, as T5 does; extreme ones (X) hide much, or in long spans; the
sequential one (S) hides the end of the document, which makes it a prefix language model.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ...configuration.errors import InputError
from .batches import Sizes, fill_up_rows, flatten_pairs, join, split_documents, token_rows
from .randomness import example_generator
from .shares import share_spans
from .span_corruption import hide_spans, span_counts, span_tokens


class Denoiser(NamedTuple):
    """One denoiser of the mixture.

    Attributes:
        mode: "R", "S" or "X": what the mode token says.
        mean_span_length: in tokens; `None` = one span, at the document's end.
        noise_density: the share of the tokens that is hidden.
    """

    mode: str
    mean_span_length: float | None
    noise_density: float


# Table 1 of the paper.
UL2_DENOISERS = (
    Denoiser("R", 3.0, 0.15),
    Denoiser("R", 8.0, 0.15),
    Denoiser("S", None, 0.25),
    Denoiser("X", 3.0, 0.5),
    Denoiser("X", 8.0, 0.5),
    Denoiser("X", 64.0, 0.15),
    Denoiser("X", 64.0, 0.5),
)
SHORT_DOCUMENT = 64  # tokens; rows of shorter ones than that may be larger than others
# The names in the paper, and those in the published checkpoints.
MODE_TOKENS = ({"R": "[R]", "S": "[S]", "X": "[X]"}, {"R": "[NLU]", "S": "[S2S]", "X": "[NLG]"})


class UL2Collator:
    """Flattened batches for an encoder-decoder: a denoiser for each row, drawn anew in each epoch.

    Returns what [`flatten_pairs`] does. Rows hold text without special tokens. Each row hides the denoiser's share of
    its tokens, in at least as many spans as it has documents. Denoisers make inputs and targets of very different
    lengths, so batches vary in size; nothing is padded unless `row_length` asks for batches of one size.

    Args:
        tokenizer: as in [`SpanCorruptionCollator`]; where its special tokens include `[R]`, `[S]`, `[X]` or `[NLU]`,
            `[S2S]`, `[NLG]`, each source begins with that of its denoiser.
        decoder_start_token_id: what the decoder reads first; `None` = the padding token.
        denoisers: the mixture; the default is the paper's.
        rates: how often each is drawn, relative to the others; `None` = equally often.
        seed: of the random choices; see [`example_generator`].
        row_length: the tokens of a row, for batches of one size: they are filled up to [`sizes`](UL2Collator.sizes) for
            each row by documents without labels, about 30% of the positions.

    Raises:
        InputError: a tokenizer that lacks what span corruption needs, rates that do not fit the denoisers.
    """

    def __init__(
        self,
        tokenizer: Any,
        decoder_start_token_id: int | None = None,
        denoisers: Sequence[Denoiser] = UL2_DENOISERS,
        rates: Sequence[float] | None = None,
        seed: int = 0,
        row_length: int | None = None,
    ):
        self.sentinels, self.eos, self.start = span_tokens(tokenizer, decoder_start_token_id)
        weights = np.ones(len(denoisers)) if rates is None else np.array(rates, dtype=float)
        if len(weights) != len(denoisers) or not weights.sum() > 0 or (weights < 0).any():
            raise InputError(f"`rates` must be {len(denoisers)} numbers, one a denoiser, none negative, not {rates}.")
        self.denoisers = tuple(denoisers)
        self.odds = weights / weights.sum()
        self.modes = mode_ids(tokenizer)
        self.seed = seed
        self.pad = self.start if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.row_length = row_length
        self.one_size = row_length is not None

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        rows = zip(features, *token_rows(features), strict=True)
        batch = join(
            [
                self._corrupt(split_documents(row, positions), example_generator(feature, self.seed))
                for feature, row, positions in rows
            ]
        )
        if self.row_length is None:
            return batch
        return fill_up_rows(batch, self.pad, self.sizes(self.row_length), len(features))

    def sizes(self, length: int) -> Sizes:
        """What a row of `length` tokens takes at most on either side, with one token for what fills it up.

        Each document takes a few tokens more: this is the most for documents of [`SHORT_DOCUMENT`] tokens on average.
        """
        documents = max(length // SHORT_DOCUMENT, 1)
        sources, targets = [], []
        for denoiser in self.denoisers:
            hidden, spans = span_counts(length, denoiser.noise_density, denoiser.mean_span_length or length)
            spans = min(max(spans, documents), hidden)
            sources.append(length - hidden + spans + documents * (2 if denoiser.mode in self.modes else 1))
            targets.append(hidden + spans + documents)
        return Sizes(max(sources) + 1, max(targets) + 1)

    def _corrupt(self, documents: list[np.ndarray], generator: np.random.Generator) -> dict[str, torch.Tensor]:
        denoiser = self.denoisers[generator.choice(len(self.denoisers), p=self.odds)]
        lengths = np.array([len(document) for document in documents])
        length = int(lengths.sum())
        hidden, spans = span_counts(length, denoiser.noise_density, denoiser.mean_span_length or length)
        spans = min(max(spans, len(documents)), hidden)  # at least one a document
        most = 1 if denoiser.mean_span_length is None else None
        shares = share_spans(lengths, hidden, spans, generator, most)
        pairs = [
            hide_spans(document, hidden, spans, self.sentinels, self.eos, generator)
            for document, hidden, spans in zip(documents, *shares, strict=True)
        ]
        mode = self.modes.get(denoiser.mode)
        sources = [source if mode is None else np.append(mode, source) for source, _ in pairs]
        return flatten_pairs(sources, [target for _, target in pairs], self.start)


def mode_ids(tokenizer: Any) -> dict[str, int]:
    """The token of each mode, "R", "S" and "X"; empty if the tokenizer does not have all three."""
    added = tokenizer.get_added_vocab()
    for names in MODE_TOKENS:
        if all(name in added for name in names.values()):
            return {mode: added[name] for mode, name in names.items()}
    return {}
