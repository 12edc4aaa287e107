import numpy as np
import pytest
import torch

from trivium.configuration import InputError
from trivium.training.metrics import inputs

nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize("values", [[0, 2, 1], np.array([0, 2, 1], np.uint8), torch.tensor([0, 2, 1])])
def test_labels_are_whole_numbers_however_they_are_given(values):
    found = inputs.labels(values, "predictions")
    assert found.dtype == np.int64 and found.tolist() == [0, 2, 1]


def test_yes_and_no_are_labels():
    assert inputs.labels(torch.tensor([True, False]), "predictions").tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_no_number_of_torch_loses_digits(dtype):
    values = torch.tensor([1 / 3, -2.5], dtype=dtype, requires_grad=True)
    assert inputs.numbers(values, "predictions").tolist() == values.double().tolist()
    assert inputs.rows([values, values], "predictions").tolist() == [values.double().tolist()] * 2


@pytest.mark.parametrize(
    ("check", "values", "sentence"),
    [
        (inputs.labels, [0, 1.5], "whole numbers from 0, and there is 1.5"),
        (inputs.labels, [1.0], "whole numbers from 0, and there is 1.0"),
        (inputs.labels, [1.0, nan], "whole numbers from 0, and there is nan"),
        (inputs.labels, [3, -100], "there is -100: leave it out"),
        (inputs.labels, [[0, 1], [1, 0]], r"not of shape \(2, 2\); argmax"),
        (inputs.labels, ["yes", "no"], r"a list of numbers, not \['yes', 'no'\]"),
        (inputs.labels, ["y" * 99], r"not \['y+\.\.\.\.$"),
        (inputs.labels, 3, "a list of numbers, not 3"),
        (inputs.labels, None, "a list of numbers, not None"),
        (inputs.labels, [1, None], "a list of numbers"),
        (inputs.numbers, [1, nan], "must be finite, and there is nan in example 1 of a batch"),
        (inputs.numbers, [-inf, 1], "must be finite, and there is -inf in example 0 of a batch"),
        (inputs.numbers, [[1.0], [2.0]], r"not of shape \(2, 1\)"),
        (inputs.rows, [1, 2], r"one row per example, not of shape \(2,\)"),
        (inputs.rows, [[1, 2], [nan, 2]], "there is nan in example 1 of a batch"),
        (inputs.rows, [[1, 2], [1]], "in rows of one length"),
        (inputs.rows, [torch.zeros(2), torch.zeros(1)], "in rows of one length"),
        (inputs.texts, "one text", "a list with one value per example, not 'one text'"),
        (inputs.texts, [[5, 7]], r"must be texts, and there is \[5, 7\]; decode"),
        (inputs.texts, None, "not None"),
        (inputs.accepted_texts, [["a", 3]], "must be texts, and there is 3"),
        (inputs.accepted_texts, [None], "not None"),
        (inputs.accepted_texts, "text", "not 'text'"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(check, values, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        check(values, "predictions")
    assert str(caught.value).startswith("The predictions must be") and "\n" not in str(caught.value)


def test_one_accepted_text_may_be_given_as_such():
    assert inputs.accepted_texts(["a", ["b", "c"], [], ("d",)], "references") == [["a"], ["b", "c"], [], ["d"]]
