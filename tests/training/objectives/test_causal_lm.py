import numpy as np
import torch

from trivium.training.objectives.causal_lm import CausalLMCollator


def test_labels_are_the_inputs_but_for_the_first_token_of_each_document():
    features = [
        {"input_ids": [5, 6, 7, 8], "position_ids": [0, 1, 0, 1], "place": (0, 0)},
        {"input_ids": [1, 2, 3, 4], "position_ids": [0, 1, 2, 3]},
    ]
    batch = CausalLMCollator()(features)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [1, 2, 3, 4]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1], [0, 1, 2, 3]]
    assert batch["labels"].tolist() == [[-100, 6, -100, 8], [-100, 2, 3, 4]]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_rows_of_different_lengths_are_flattened_without_padding():
    batch = CausalLMCollator()([{"input_ids": np.arange(1, 4)}, {"input_ids": torch.arange(5, 7)}])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 5, 6]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, 6]]
