"""Labels have the numbers that one expects, and come back out of a configuration."""

import datasets
import pytest

from tests.families import make_config
from trivium.training.tasks.examples import Examples
from trivium.training.tasks.labels import Labels, label_name


def learn(values, feature=None):
    features = datasets.Features({"label": feature}) if feature else None
    return Labels.learn(Examples(datasets.Dataset.from_dict({"label": values}, features), "data"), "label")


@pytest.mark.parametrize(
    "values, names",
    [
        (["b", "a", "b", None], ["a", "b"]),
        ([10, 2, 0, 2], ["0", "2", "10"]),
        (["10", "9", "b", "1", "a", "-1"], ["-1", "1", "9", "10", "a", "b"]),
        (["1", "01", "001"], ["001", "01", "1"]),
        ([True, False], ["0", "1"]),
        ([1.0, 2.0, 0.5], ["1", "2"]),
        (["x", " ", ""], ["x"]),
        ([["b", "a"], [], None, ["c"]], ["a", "b", "c"]),
    ],
)
def test_labels_are_in_order_whatever_the_order_of_the_examples(values, names):
    assert learn(values).names == names == learn(values[::-1]).names


@pytest.mark.parametrize("many", [False, True])
def test_a_dataset_that_numbers_its_labels_keeps_their_order(many):
    feature = datasets.ClassLabel(names=["z", "a", "7"])
    labels = learn([[0], [1]], datasets.List(feature)) if many else learn([0, 1], feature)
    assert labels.names == ["z", "a", "7"]
    assert [labels.number(label) for label in (0, 2, "a", "7", 3, -1, None, 1.0)] == [0, 2, 1, 2, None, None, None, 1]


def test_a_number_is_a_name_where_labels_have_no_numbers():
    labels = learn([3, 1, 2])
    assert [labels.number(label) for label in (1, "3", 0, 2.0, 2.5, True)] == [0, 2, None, 1, None, 0]


@pytest.mark.parametrize("names", [["pos", "neg"], ["3", "1", "x"], ["ü", "b c"], [str(n) for n in range(12)]])
def test_labels_come_back_out_of_a_saved_configuration(names, tmp_path):
    labels = Labels(names)
    config = make_config("encoder", **labels.fields())
    config.save_pretrained(tmp_path)
    found = Labels.recall(type(config).from_pretrained(tmp_path))
    assert found.names == names
    assert [found.number(name) for name in names] == list(range(len(names)))


def test_what_a_model_knows_can_be_told_by_number_only_if_no_name_is_one():
    class Config:
        num_labels, id2label = 2, {0: "pos", 1: "neg"}

    assert Labels.recall(Config).number(1) == 1
    Config.id2label = {0: "1", 1: "0"}
    assert Labels.recall(Config).number(1) == 0


def test_a_sentence_names_ten_labels_at_most():
    assert str(Labels("abc")) == "a, b, c"
    assert str(Labels([str(n) for n in range(11)])) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."


@pytest.mark.parametrize("value", [None, "", "  ", 0.5, float("nan"), {}, []])
def test_what_is_no_label_has_no_name(value):
    assert label_name(value) is None
