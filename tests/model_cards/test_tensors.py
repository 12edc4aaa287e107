"""What the headers of safetensors say is what lies in the files."""

import pytest
import torch
from safetensors.torch import save_file

from trivium.configuration import InputError
from trivium.model_cards.tensors import Tensor, read_tensors, total


def test_shapes_and_types_are_those_that_were_saved_whatever_the_file(tmp_path):
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}, tmp_path / "model-1.safetensors")
    save_file({"c": torch.tensor(1.0)}, tmp_path / "model-2.safetensors")
    save_file({"d": torch.zeros(99)}, tmp_path / "other.safetensors")
    found = read_tensors(tmp_path, "model*.safetensors", tmp_path)
    assert found == {"a": Tensor((2, 3), "F32"), "b": Tensor((4,), "BF16"), "c": Tensor((), "F32")}
    assert total(found) == (11, "float32")


def test_where_there_are_none_there_is_no_total(tmp_path):
    assert total(read_tensors(tmp_path, "*.safetensors", tmp_path)) is None


def test_a_file_that_is_broken_is_named_where_it_will_lie(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"{")
    with pytest.raises(InputError, match=r"later/model\.safetensors' cannot be read"):
        read_tensors(tmp_path, "*.safetensors", tmp_path / "later")
