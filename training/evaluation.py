"""Held-out loss, weighted by tokens, in units that compare across tokenizers.

A loss per token falls when tokens get shorter; bits per byte of the predicted text do not. Summed are the loss over all
predicted tokens that stand for text and how often each was a target; everything else follows from these two, whatever
the batch size or the number of processes.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .objectives.batches import IGNORED


def only_text(labels: torch.Tensor, byte_lengths: torch.Tensor) -> torch.Tensor:
    """The labels without those that stand for no text (ends, sentinels, ...): they have no bytes to divide by."""
    no_text = byte_lengths[labels.clamp(min=0)] == 0
    return labels.masked_fill(no_text, IGNORED)


class HeldOutLoss:
    """The sums of an evaluation, to which batches are added.

    Args:
        byte_lengths: UTF-8 bytes of text that each token id stands for, 0 for special tokens.
        device: where the sums are kept.
    """

    def __init__(self, byte_lengths: Sequence[int], device: torch.device | str = "cpu"):
        self.byte_lengths = np.asarray(byte_lengths, dtype=np.int64)
        self.nats = torch.zeros((), dtype=torch.float64, device=device)
        self.counts = torch.zeros(len(self.byte_lengths), dtype=torch.int64, device=device)

    def add(self, loss: torch.Tensor, targets: torch.Tensor) -> None:
        """Adds a batch: its mean loss in nats, and the ids (n,) of the tokens that this is the mean over."""
        if len(targets):
            self.nats += loss.double() * len(targets)
            self.counts += torch.bincount(targets, minlength=len(self.counts))

    def reduce(self, sum_over_processes: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replaces the sums of this process by those of all, as `accelerator.reduce` gives them."""
        self.nats = sum_over_processes(self.nats)
        self.counts = sum_over_processes(self.counts)

    def metrics(self) -> dict[str, float]:
        """The results: `loss` in nats per token, `perplexity`, `bits_per_byte`, and how much was predicted."""
        counts = self.counts.cpu().numpy()
        tokens, predicted_bytes = int(counts.sum()), int(counts @ self.byte_lengths)
        nats = self.nats.item()
        loss = nats / tokens if tokens else math.nan
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": nats / math.log(2) / predicted_bytes if predicted_bytes else math.nan,
            "predicted_tokens": tokens,
            "predicted_bytes": predicted_bytes,
        }

    def unigram_bits_per_byte(self, training_counts: np.ndarray) -> float:
        """Bits per byte, on exactly the same targets, of a model that knows only how often each token is.

        Args:
            training_counts: occurrences of each token in the training text; one is added to each.
        """
        counts = self.counts.cpu().numpy()
        smoothed = (training_counts + 1) * (self.byte_lengths > 0)
        bits = -np.log2(smoothed / smoothed.sum(), where=smoothed > 0, out=np.zeros(len(smoothed)))
        return float(counts @ bits / (counts @ self.byte_lengths))
