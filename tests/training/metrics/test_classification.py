import numpy as np
import pytest
import torch

from tests.training.metrics.examples import examples
from trivium.configuration import InputError
from trivium.training.metrics import load

SEEDS = range(5)


def ratio(part, whole):
    return part / whole if whole else 0.0


def counted(predictions, references, label):
    """Precision, recall and F1 of one label, the slow way."""
    pairs = list(zip(predictions, references, strict=True))
    right = sum(p == r == label for p, r in pairs)
    precision = ratio(right, sum(p == label for p, _ in pairs))
    recall = ratio(right, sum(r == label for _, r in pairs))
    return {"precision": precision, "recall": recall, "f1": ratio(2 * precision * recall, precision + recall)}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_scores_of_labels_are_what_counting_gives(name, seed):
    predictions, references = examples(name, count=7 + 30 * seed, seed=seed)
    found = load(name, per_label=True, positive=2).compute(predictions=predictions, references=references)
    labels = sorted({*predictions, *references})
    each = {label: counted(predictions, references, label)[name] for label in labels}
    share = sum(p == r for p, r in zip(predictions, references, strict=True)) / len(references)
    expected = {f"macro_{name}": np.mean([*each.values()]), f"micro_{name}": share, name: each[2]}
    assert found == pytest.approx(expected | {f"{name}_{label}": score for label, score in each.items()})
    assert load("accuracy").compute(predictions=predictions, references=references) == pytest.approx(
        {"accuracy": share}
    )


@pytest.mark.filterwarnings("error")
def test_a_label_that_is_never_predicted_or_never_right_scores_nothing():
    given = dict(predictions=[0, 0, 1], references=[0, 2, 0])
    found = load("f1", per_label=True).compute(**given)
    assert found == pytest.approx({"macro_f1": 0.5 / 3, "micro_f1": 1 / 3, "f1_0": 0.5, "f1_1": 0, "f1_2": 0})
    assert load("f1", positive=7).compute(**given)["f1"] == 0
    assert load("recall", labels=4).compute(**given)["macro_recall"] == pytest.approx(0.5 / 4)


def test_labels_by_name_count_whether_they_occur_or_not():
    metric = load("f1", labels=["no", "maybe", "yes"], positive="yes", per_label=True)
    found = metric.compute(predictions=[0, 2, 2], references=[0, 0, 2])
    each = {"f1_no": 2 / 3, "f1_maybe": 0, "f1_yes": 2 / 3}
    assert found == pytest.approx({"macro_f1": 4 / 9, "micro_f1": 2 / 3, "f1": 2 / 3} | each)


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews_correlation"])
def test_a_label_outside_of_those_given_is_refused(name):
    metric = load(name, labels=3)
    with pytest.raises(InputError, match="The references hold the label 3, of 3 that count from 0"):
        metric.add_batch(predictions=[2], references=[3])
    with pytest.raises(InputError, match="The predictions hold the label 5"):
        metric.add_batch(predictions=[5], references=[2])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(positive=3, labels=3), "`positive` is 3, which is none of the `labels`: 0, 1, 2"),
        (dict(positive="y", labels=["no", "yes"]), "`positive` is 'y', which is none of the `labels`: no, yes"),
        (dict(positive="1", labels=["no", "yes"]), "`positive` is '1'"),
        (dict(positive="yes"), "`positive` is 'yes'"),
    ],
)
def test_a_positive_label_that_there_is_not_is_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        load("f1", **settings)


def slow_matthews(predictions, references):
    """Gorodkin's R_K: the covariance of what is one-hot, over all labels."""
    labels = sorted({*predictions, *references})
    predicted = np.array([[p == label for label in labels] for p in predictions], dtype=float)
    right = np.array([[r == label for label in labels] for r in references], dtype=float)

    def covariance(x, y):
        return ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).sum()

    return ratio(covariance(predicted, right), np.sqrt(covariance(predicted, predicted) * covariance(right, right)))


@pytest.mark.parametrize("seed", SEEDS)
def test_matthews_correlation_is_that_of_the_definition(seed):
    predictions, references = examples("matthews_correlation", seed=seed)
    found = load("matthews_correlation").compute(predictions=predictions, references=references)
    assert found == pytest.approx({"matthews_correlation": slow_matthews(predictions, references)})
    binary = [value > 1 for value in predictions], [value > 1 for value in references]
    found = load("matthews_correlation").compute(predictions=binary[0], references=binary[1])
    assert found["matthews_correlation"] == pytest.approx(np.corrcoef(*binary)[0, 1])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("references", [[0, 1, 1], [1, 1, 1], [0, 0, 0]])
def test_matthews_correlation_of_one_label_is_zero(references):
    assert load("matthews_correlation").compute(predictions=[1] * 3, references=references)["matthews_correlation"] == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("labels", [1, 2, 6])
def test_several_labels_per_example_are_counted_one_by_one(seed, labels):
    generator = np.random.default_rng(seed)
    predictions, references = (generator.random((2, 9, labels)) < 0.4).astype(int)
    columns = [counted(*pair, 1)["f1"] for pair in zip(predictions.T.tolist(), references.T.tolist(), strict=True)]
    expected = {
        "micro_f1": counted(predictions.ravel().tolist(), references.ravel().tolist(), 1)["f1"],
        "macro_f1": np.mean(columns),
        "subset_accuracy": np.mean([(p == r).all() for p, r in zip(predictions, references, strict=True)]),
    }
    for kind in (np.array, torch.tensor, lambda rows: torch.tensor(rows) > 0, lambda rows: rows.astype(float)):
        found = load("multilabel").compute(predictions=kind(predictions), references=kind(references))
        assert found == pytest.approx(expected)


def test_several_labels_are_what_scikit_learn_says():
    from sklearn.metrics import accuracy_score, f1_score

    predictions, references = examples("multilabel")
    found = load("multilabel").compute(predictions=predictions, references=references)
    expected = {f"{how}_f1": f1_score(references, predictions, average=how) for how in ("micro", "macro")}
    assert found == pytest.approx(expected | {"subset_accuracy": accuracy_score(references, predictions)})


@pytest.mark.filterwarnings("error")
def test_labels_that_are_nowhere_score_nothing_while_their_rows_are_right():
    found = load("multilabel").compute(predictions=[[0, 0]], references=[[0, 0]])
    assert found == {"micro_f1": 0, "macro_f1": 0, "subset_accuracy": 1}


def test_rows_of_other_numbers_or_widths_are_refused():
    metric = load("multilabel")
    with pytest.raises(InputError, match=r"predictions must be rows of 0 and 1, and there is 0\.7"):
        metric.add_batch(predictions=[[0.7, 1]], references=[[1, 1]])
    metric.add_batch(predictions=[[0, 1]], references=[[1, 1]])
    metric.add_batch(predictions=[[0, 1, 1]], references=[[1, 1, 1]])
    with pytest.raises(InputError, match="one width, the number of labels, not 2 and 3"):
        metric.compute()
