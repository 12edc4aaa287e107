import numpy as np
import pytest

from tests.training.metrics.examples import examples
from trivium.configuration import InputError
from trivium.training.metrics import load
from trivium.training.metrics.answers import match, normalize_answer


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The Cat", "cat"),
        ("  a   cat\tand an\napple ", "cat and apple"),
        ("The-cat", "thecat"),
        ("the, cat", "cat"),
        ("U.S.A.", "usa"),
        ("$1,000.50", "100050"),
        ("theatre another banana", "theatre another banana"),
        ("A", ""),
        ("...", ""),
        ("Élan «vital»", "élan «vital»"),
        ("it's Anne's", "its annes"),
    ],
)
def test_what_counts_of_an_answer(text, left):
    assert normalize_answer(text) == left


@pytest.mark.parametrize(
    ("answer", "accepted", "exact", "f1"),
    [
        ("the Denver Broncos!", ["Denver Broncos"], 1, 1),
        ("Denver", ["Denver Broncos"], 0, 2 / 3),
        ("in 1066 at Hastings", ["1066", "Hastings", "at Hastings"], 0, 2 * 0.5 * 1 / 1.5),
        ("cat cat dog", ["cat dog dog"], 0, 2 / 3),
        ("dog bites man", ["man bites dog"], 0, 1),
        ("fish", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("", [], 1, 1),
        ("the", [], 1, 1),
        ("cat", [], 0, 0),
        ("the", ["The"], 1, 1),
        ("cat", ["the", "cat"], 1, 1),
        ("", ["the", "cat"], 0, 0),
    ],
)
def test_cases_worked_by_hand(answer, accepted, exact, f1):
    assert match(answer, accepted) == (exact, pytest.approx(f1))


def slow_f1(answer, right):
    words, left = normalize_answer(answer).split(), normalize_answer(right).split()
    if not words or not left:
        return float(words == left)
    total, common = len(words) + len(left), 0
    for word in words:
        if word in left:
            left.remove(word)
            common += 1
    return 2 * common / total


@pytest.mark.parametrize("seed", range(5))
def test_means_are_over_all_questions_and_over_each_kind(seed):
    predictions, references = examples("squad", 60, seed)
    scores = []
    for answer, accepted in zip(predictions, references, strict=True):
        right = [text for text in accepted if normalize_answer(text)] or [""]
        exact = normalize_answer(answer) in [normalize_answer(text) for text in right]
        scores.append((exact, max(slow_f1(answer, text) for text in right)))
    scores, some = np.array(scores), np.array([len(accepted) > 0 for accepted in references])
    names = ["exact_match", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1"]
    means = [*scores.mean(axis=0), *scores[some].mean(axis=0), *scores[~some].mean(axis=0)]
    found = load("squad").compute(predictions=predictions, references=references)
    assert found == pytest.approx(dict(zip(names, means, strict=True)))


def test_references_may_be_what_squad_has_and_kinds_are_told_apart_only_where_there_are_two():
    answers = [{"text": ["cat", "a dog"], "answer_start": [0, 9]}, {"text": ["mat"], "answer_start": [3]}]
    found = load("squad").compute(predictions=["dog", "red mat"], references=answers)
    assert found == {"exact_match": 0.5, "f1": pytest.approx(5 / 6)}
    assert load("squad").compute(predictions=["", "x"], references=[[], []]) == {"exact_match": 0.5, "f1": 0.5}
    with pytest.raises(InputError, match=r"references must be a list with one value per example, not {'answer': 'x'}"):
        load("squad").add_batch(predictions=["x"], references=[{"answer": "x"}])
