"""Each choice is read beside the text, and others change nothing."""

import datasets
import pytest
import torch
from transformers import AutoModelForMultipleChoice

from tests.families import make_config, randomize
from trivium.configuration.errors import InputError
from trivium.training.tasks.choice import MultipleChoice
from trivium.training.tasks.examples import Examples, Unusable
from trivium.training.tasks.task import Form

ROWS = [
    {"text": "the statement", "choices": ["a", "the object with a value", "x"], "label": 2},
    {"text": "an object of some kind that raises", "choices": ["import it", "no"], "label": 0},
    {"text": "x", "choices": ["a b c d", "true", "false", "list"], "label": 3},
]


@pytest.fixture
def task(tokenizers):
    return MultipleChoice(tokenizers["encoder"], "encoder", Form(max_length=24))


@pytest.fixture
def model(task):
    model = AutoModelForMultipleChoice.from_config(make_config("encoder", vocab_size=len(task.tokenizer)))
    randomize(model)
    return model.eval()


@torch.no_grad()
def test_answers_are_those_of_each_choice_read_alone(task, model, monkeypatch):
    expected = []
    for row in ROWS:
        logits = [
            model(**{k: torch.tensor([[v]]) for k, v in task.tokenizer(row["text"], choice).items()}).logits.item()
            for choice in row["choices"]
        ]
        score, label = torch.tensor(logits).softmax(-1).max(-1)
        expected.append({"label": label.item(), "score": pytest.approx(score.item(), abs=1e-5)})
    for side in ("left", "right"):
        monkeypatch.setattr(task.tokenizer, "padding_side", side)
        for size in (1, 2, 9):
            assert task.predict(model, ROWS, size) == expected
    assert task.predict(model, [], 2) == []
    assert task.measure(ROWS, ROWS)["accuracy"] == 1.0


def test_a_batch_holds_the_choices_of_a_text_side_by_side(task):
    rows = [row | {"choices": row["choices"][:2], "label": 1} for row in ROWS]
    batch = task.collate(task.encode(rows))
    assert batch["input_ids"].shape[:2] == (3, 2) and batch["labels"].tolist() == [1, 1, 1]
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"].bool(), strict=True):
        for choice, one, kept in zip(row["choices"], ids, mask, strict=True):
            assert one[kept].tolist() == task.tokenizer(row["text"], choice)["input_ids"]


def test_other_choices_than_most_examples_have_are_told(task):
    rows = [ROWS[1], ROWS[1], ROWS[0]]
    task.learn(Examples(datasets.Dataset.from_list(rows), "some"))
    task.check(rows[0])
    with pytest.raises(Unusable, match=r"^there are 3 choices, but 2 elsewhere$"):
        task.check(rows[2])


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"text": ""}, "the text is empty"),
        ({"choices": "ab"}, "`choices` holds no list of two texts or more"),
        ({"choices": ["a"]}, "`choices` holds no list of two texts or more"),
        ({"choices": ["a", 3]}, "choice 1 is 3, no text"),
        ({"label": 3}, "the label is 3, but the choices are 0 to 2"),
        ({"label": -1}, "the label is -1, but the choices are 0 to 2"),
        ({"label": True}, "the label is True, but the choices are 0 to 2"),
        ({"label": "a"}, "the label is 'a', but the choices are 0 to 2"),
        ({"label": None}, "the label is None, but the choices are 0 to 2"),
    ],
)
def test_what_cannot_be_used_is_told(task, change, reason):
    with pytest.raises(Unusable) as caught:
        task.check(ROWS[0] | change)
    assert caught.value.reason == reason


def test_a_family_without_a_head_is_told(tokenizers):
    with pytest.raises(InputError) as caught:
        MultipleChoice(tokenizers["decoder"], "decoder", Form())
    assert str(caught.value) == "this task has no head for the family decoder: take one of encoder."
