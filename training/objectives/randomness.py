"""Random choices that come from an example's place in the data, not from who reads it or when."""

import math
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback


def example_generator(feature: dict[str, Any], seed: int) -> np.random.Generator:
    """The random generator for one example.

    Args:
        feature: the example; its `place`, a pair (epoch, index) as [`PackedDataset`] gives, fixes the choices whatever
            the batch size, the number of workers or the step at which a run was resumed. Without a place the choices
            come from torch's global generator, as in transformers' own collators.
        seed: a seed for the whole run, used with the place.
    """
    place = feature.get("place")
    entropy = [seed, *place] if place is not None else int(torch.randint(2**62, ()))
    return np.random.default_rng(entropy)


class EpochCallback(TrainerCallback):
    """Tells the training data which epoch it is, so that each pass over it draws new random choices."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        """Calls `set_epoch` of the dataset; accelerate's loaders reach it only on one process."""
        dataset = getattr(train_dataloader, "dataset", None)
        if dataset is not None and hasattr(dataset, "set_epoch"):
            dataset.set_epoch(math.floor((state.epoch or 0) + 1e-6))
