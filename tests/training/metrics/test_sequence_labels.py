from itertools import chain

import numpy as np
import pytest

from tests.training.metrics.examples import tags
from trivium.configuration import InputError
from trivium.training.metrics import load


def spans(sequence, strict):
    """Beginnings, ends and types of all spans, found from each place anew."""
    found = set()
    for start, tag in enumerate(sequence):
        if tag == "O":
            continue
        before = sequence[start - 1] if start else "O"
        begins = tag[0] == "B" or (not strict and (before == "O" or before[2:] != tag[2:]))
        if begins:
            end = start + 1
            while end < len(sequence) and sequence[end] == f"I-{tag[2:]}":
                end += 1
            found.add((start, end, tag[2:]))
    return found


def slow(predictions, references, strict):
    predicted = {(i, *span) for i, sequence in enumerate(predictions) for span in spans(sequence, strict)}
    right = {(i, *span) for i, sequence in enumerate(references) for span in spans(sequence, strict)}
    both, flat = len(predicted & right), (list(chain(*predictions)), list(chain(*references)))
    return {
        "precision": both / len(predicted),
        "recall": both / len(right),
        "f1": 2 * both / (len(predicted) + len(right)),
        "accuracy": np.equal(*flat).mean(),
    }


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_spans_are_those_found_from_each_place(seed, strict):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, 15, 40)
    predictions, references = tags(generator, lengths), tags(generator, lengths)
    for sequence, right in zip(predictions, references, strict=True):
        if generator.random() < 0.5:
            sequence[: len(right) // 2] = right[: len(right) // 2]
    found = load("seqeval", strict=strict).compute(predictions=predictions, references=references)
    assert found == pytest.approx(slow(predictions, references, strict))


def test_the_example_that_seqeval_gives():
    references = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    predictions = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    found = load("seqeval").compute(predictions=predictions, references=references)
    assert found == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "accuracy": 0.8}


@pytest.mark.parametrize(("strict", "right"), [(False, 1.0), (True, 0.0)])
def test_a_span_that_begins_inside_counts_unless_strict(strict, right):
    found = load("seqeval", strict=strict).compute(predictions=[["O", "I-LOC", "O"]], references=[["O", "B-LOC", "O"]])
    assert found["f1"] == right


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("predicted", ["O", "B-A"])
def test_without_spans_every_score_is_zero_but_that_of_tags(predicted, strict):
    found = load("seqeval", strict=strict).compute(predictions=[[predicted, "O"]], references=[["O", "O"]])
    assert found == {"precision": 0, "recall": 0, "f1": 0, "accuracy": 1 if predicted == "O" else 0.5}


def test_spans_without_a_type_are_spans():
    found = load("seqeval").compute(predictions=[["B", "I", "O", "B"]], references=[["B", "I", "O", "O"]])
    assert found == pytest.approx({"precision": 0.5, "recall": 1, "f1": 2 / 3, "accuracy": 0.75})


@pytest.mark.parametrize("tag", ["PER", "E-PER", "S-PER", "B_PER", "I-", "b-PER", "", 3, None])
def test_what_is_no_tag_is_named_with_its_sequence(tag):
    with pytest.raises(
        InputError, match=r"predictions must be tags in BIO, .* and sequence 1 of a batch has"
    ) as caught:
        load("seqeval").add_batch(predictions=[["O"], ["O", tag]], references=[["O"], ["O", "O"]])
    assert str(caught.value).endswith(f"has {tag!r}.")


def test_sequences_of_unequal_length_and_empty_ones_are_refused():
    metric = load("seqeval")
    with pytest.raises(InputError, match="Sequence 1 of a batch has 1 predicted tags and 2 right ones"):
        metric.add_batch(predictions=[["O"], ["O"]], references=[["O"], ["O", "O"]])
    with pytest.raises(InputError, match="all sequences are empty"):
        metric.compute(predictions=[[], []], references=[[], []])
    with pytest.raises(InputError, match="one value per example, not 'B-PER'"):
        metric.add_batch(predictions=["B-PER"], references=["B-PER"])
