"""Fill in the middle: a causal model learns to write what stands between two texts (Bavarian et al., 2022).

    document  <|bos|> the cat sat on the mat <|eos|>
    PSM       <|bos|> <|fim_prefix|> the cat <|fim_suffix|> the mat <|fim_middle|> sat on <|eos|>
    SPM       <|bos|> <|fim_prefix|> <|fim_suffix|> the mat <|fim_middle|> the cat sat on <|eos|>

SPM is the paper's variant for training both orders together.
"""

from typing import Any

import numpy as np
import torch

from ...configuration.errors import InputError
from .batches import split_documents, token_rows
from .causal_lm import CausalLMCollator
from .randomness import example_generator

FIM_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
SHORTEST = 8  # tokens of a piece that is rearranged


class FillInTheMiddleCollator:
    """Batches of packed rows for a decoder: `input_ids`, `position_ids` and `labels`, each (B, L).

    Each piece of a document is rearranged with probability `rate`, cut at two places that are drawn uniformly, so that
    prefix, middle or suffix may be empty. All tokens are predicted, as in the paper, but for those where a document
    begins; see [`CausalLMCollator`].

    A rearranged piece keeps its length: three tokens make room for the marks, and one more for the end of sequence
    where a row's end cut it off, since whoever fills in must learn where to stop. Those given up are the last of its
    text, the end of the suffix: prefix and middle then go on without a gap, and where the suffix ends is nothing that
    the model is told. Pieces shorter than 8 tokens stay as they are.

    The cuts fall between tokens, not between characters as in the paper: prompts that end within a word are better cut
    before it.

    Args:
        tokenizer: gives the end of sequence, the beginning of sequence if it has one, and the marks.
        rate: the share of pieces to rearrange.
        spm_rate: of these, the share in the order suffix, prefix, middle.
        seed: of the random choices; see [`example_generator`].
        tokens: the marks of prefix, suffix and middle.

    Raises:
        InputError: a tokenizer without marks or end of sequence, a rate outside [0, 1].
    """

    def __init__(
        self,
        tokenizer: Any,
        rate: float = 0.5,
        spm_rate: float = 0.5,
        seed: int = 0,
        tokens: tuple[str, str, str] = FIM_TOKENS,
    ):
        vocabulary = tokenizer.get_vocab()
        missing = [token for token in tokens if token not in vocabulary]
        if missing:
            raise InputError(
                f"filling in the middle needs the tokens {' '.join(missing)}, which this tokenizer does not have: add "
                f'them with `tokenizer.add_special_tokens({{"extra_special_tokens": {missing}}}, '
                "replace_extra_special_tokens=False)`, or train one with `trivium tokenizer --family decoder`."
            )
        if tokenizer.eos_token_id is None:
            raise InputError(
                "filling in the middle needs an end-of-sequence token, which this tokenizer does not have."
            )
        for name, value in (("fim_rate", rate), ("fim_spm_rate", spm_rate)):
            if not 0 <= value <= 1:
                raise InputError(f"`{name}` must lie in [0, 1], not {value}.")
        self.marks = [vocabulary[token] for token in tokens]
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.rate = rate
        self.spm_rate = spm_rate
        self.seed = seed
        self.causal = CausalLMCollator()

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Makes one batch of examples with `input_ids` and, where a row holds several documents, `position_ids`."""
        rearranged = []
        for feature, row, positions in zip(features, *token_rows(features), strict=True):
            generator = example_generator(feature, self.seed)
            tokens = np.concatenate([self._rearrange(piece, generator) for piece in split_documents(row, positions)])
            rearranged.append({"input_ids": tokens, "position_ids": positions})
        return self.causal(rearranged)

    def _rearrange(self, piece: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The piece, with probability `rate` rearranged; always as long as it was."""
        if generator.random() >= self.rate or len(piece) < SHORTEST:
            return piece
        start = int(piece[0] == self.bos)
        stop = len(piece) - len(self.marks) - 1  # one for the end of sequence
        first, second = start + np.sort(generator.integers(0, stop - start + 1, 2))
        prefix, middle, suffix = piece[start:first], piece[first:second], piece[second:stop]
        spm = generator.random() < self.spm_rate
        before, after = (prefix[:0], prefix) if spm else (prefix, prefix[:0])
        pre, suf, mid = ([mark] for mark in self.marks)
        return np.concatenate([piece[:start], pre, before, suf, suffix, mid, after, middle, [self.eos]])
