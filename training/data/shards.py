"""A stream of `datasets` over parts of files, which goes on within a compressed file too."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets.iterable_dataset import ExamplesIterable

from .unpacking import parts_from


class Shards(ExamplesIterable):
    """Examples out of parts of files; a compressed file is one shard, which is unpacked and cut when it is come to.

    A state says in which shard, in which part of it, and how many examples of that part have been read.

    Args:
        generate_examples_fn: from `kwargs` to (key, example).
        kwargs: its arguments; `parts` is a list with one [`Part`] a shard.
    """

    def _init_state_dict(self) -> dict[str, Any]:
        self._state_dict = {"shard_idx": 0, "part_idx": 0, "shard_example_idx": 0, "type": type(self).__name__}
        return self._state_dict

    def __iter__(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        state: Any = self._state_dict or self._init_state_dict()
        for shard in self.kwargs["parts"][state["shard_idx"] :]:
            passed = state["shard_example_idx"]
            for part in parts_from(shard, state["part_idx"]):
                for example in self.generate_examples_fn(**self.kwargs | {"parts": [part]}):
                    if passed:
                        passed -= 1
                        continue
                    state["shard_example_idx"] += 1
                    yield example
                # More may have been passed than the part holds, if it was taken for the rest of the file.
                state |= {"part_idx": state["part_idx"] + 1, "shard_example_idx": passed}
            state |= {"shard_idx": state["shard_idx"] + 1, "part_idx": 0, "shard_example_idx": 0}

    def shuffle_data_sources(self, generator: np.random.Generator) -> "Shards":
        """The shards in random order."""
        return Shards(self.generate_examples_fn, super().shuffle_data_sources(generator).kwargs)

    def shard_data_sources(self, num_shards: int, index: int, contiguous: bool = True) -> "Shards":
        """The shards of one worker."""
        return Shards(self.generate_examples_fn, super().shard_data_sources(num_shards, index, contiguous).kwargs)
