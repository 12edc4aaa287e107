"""Labels and numbers of texts: learnt as they are given, and found whatever the batch."""

import datasets
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.families import make_config, randomize
from trivium.configuration.errors import InputError
from trivium.training.tasks.classification import MultiLabelClassification, Regression, TextClassification
from trivium.training.tasks.examples import Examples, Unusable
from trivium.training.tasks.task import Form

FAMILIES = ("encoder", "decoder", "encoder-decoder")


def make_task(kind, tokenizer, rows, family="encoder", features=None, **form):
    task = kind(tokenizer, family, Form(**form))
    task.learn(Examples(datasets.Dataset.from_list(rows, features), "some"))
    return task


def make_model(task):
    sizes = {"vocab_size": len(task.tokenizer), "pad_token_id": task.tokenizer.pad_token_id}
    config = make_config(task.family.replace("-", "_"), **sizes, **task.head_fields())
    model = AutoModelForSequenceClassification.from_config(config)
    randomize(model)
    return model.eval()


TEXTS = ["the statement", "an object with a value of some kind", "x", "raises import " * 9, "true or false"]
CASES = {
    "one": (TextClassification, [{"text": text, "label": number % 3} for number, text in enumerate(TEXTS)]),
    "several": (
        MultiLabelClassification,
        [{"text": text, "labels": [*"abc"][:number]} for number, text in enumerate(TEXTS)],
    ),
    "number": (Regression, [{"text": text, "score": number} for number, text in enumerate(TEXTS)]),
    "pair": (TextClassification, [{"text": text, "text_pair": text[::-1], "label": text[0]} for text in TEXTS]),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_batch_size_and_padding_side_change_no_answer(tokenizers, monkeypatch, case, family):
    kind, rows = CASES[case]
    task = make_task(kind, tokenizers[family], rows, family, max_length=24)
    model = make_model(task)
    alone = task.predict(model, rows, 1)
    for side in ("left", "right"):
        monkeypatch.setattr(task.tokenizer, "padding_side", side)
        for size in (2, 8):
            for one, other in zip(alone, task.predict(model, rows, size), strict=True):
                assert one.keys() == other.keys()
                assert all(one[name] == pytest.approx(other[name], abs=1e-5) for name in one)
        assert task.predict(model, [], 3) == []


@pytest.mark.parametrize("case", CASES)
def test_the_targets_are_what_is_learnt_and_measured(tokenizers, case):
    kind, rows = CASES[case]
    task = make_task(kind, tokenizers["encoder"], rows)
    batch = task.collate(task.encode(rows))
    expected = {
        "one": [0, 1, 2, 0, 1],
        "several": [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]],
        "number": [0, 1, 2, 3, 4],
        "pair": [2, 0, 3, 1, 2],
    }[case]
    assert batch["labels"].tolist() == expected
    assert batch["labels"].dtype == (torch.int64 if kind is TextClassification else torch.float32)
    assert task.items(batch) == batch["labels"].numel()
    assert task.measure(rows, rows)[task.best] == pytest.approx(1.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_begin_as_likely_as_they_are(tokenizers, family):
    kind, rows = CASES["several"]
    task = make_task(kind, tokenizers[family], rows, family)
    model = make_model(task)
    task.begin_head(model, datasets.Dataset.from_list(task.encode(rows)))
    if family == "decoder":  # whose head has no bias, like Llama's
        assert model.score.bias is None
    else:
        shares = torch.tensor([4 + 1, 3 + 1, 2 + 1]) / (5 + 2)  # "a" to "c", of five texts
        torch.testing.assert_close(model.score.bias.sigmoid(), shares, atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", ["one", "several", "pair"])
def test_a_model_that_was_saved_knows_its_labels(tokenizers, tmp_path, case):
    kind, rows = CASES[case]
    task = make_task(kind, tokenizers["encoder"], rows)
    model = make_model(task)
    model.save_pretrained(tmp_path)
    again = kind(tokenizers["encoder"], "encoder", Form())
    again.recall(type(model.config).from_pretrained(tmp_path))
    assert again.labels == task.labels and again.head_fields() == task.head_fields()
    assert [again.target(row) for row in rows] == [task.target(row) for row in rows]


@pytest.mark.parametrize(
    "labels, target",
    [(["b", "a"], [1, 0]), ([10, 9], [1, 0]), ([True, False], [1, 0]), ([2.0, 1.0], [1, 0]), (["0", "01"], [0, 1])],
)
def test_labels_of_every_type_are_learnt(tokenizers, labels, target):
    rows = [{"text": "a", "label": label} for label in labels]
    task = make_task(TextClassification, tokenizers["encoder"], rows)
    assert [task.target(row) for row in rows] == target
    assert task.measure([{"label": task.labels[number]} for number in target], rows)["accuracy"] == 1.0


def test_labels_that_a_dataset_numbers_may_be_named_elsewhere(tokenizers):
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "7"]))
    task = make_task(TextClassification, tokenizers["encoder"], [{"text": "a", "label": 1}], features=features)
    assert [task.number(label) for label in (0, 1, "neg", "7")] == [0, 1, 0, 1]
    for label in (2, -1, "pos", None):
        with pytest.raises(Unusable, match=r"^the label is .*, and those to train on are neg, 7$"):
            task.number(label)


@pytest.mark.parametrize(
    "kind, row, sentence",
    [
        (TextClassification, {"label": "a"}, "'some' has one label only, 'a': give examples of others too."),
        (TextClassification, {"label": None}, "no example of 'some' has a label: give texts or whole numbers."),
        (
            MultiLabelClassification,
            {"labels": []},
            "no example of 'some' has a label: give lists of texts or whole numbers.",
        ),
    ],
)
def test_examples_without_labels_to_tell_apart_are_told(tokenizers, kind, row, sentence):
    with pytest.raises(InputError) as caught:
        make_task(kind, tokenizers["encoder"], [{"text": "x"} | row])
    assert str(caught.value) == sentence


@pytest.mark.parametrize("score, number", [(3, 3.0), (-100, -100.0), ("2.5", 2.5), ("1e3", 1000.0)])
def test_numbers_may_be_whole_or_text(tokenizers, score, number):
    task = make_task(Regression, tokenizers["encoder"], [{"text": "a", "score": score}])
    batch = task.collate(task.encode([{"text": "a", "score": score}]))
    assert batch["labels"].tolist() == [number] and task.items(batch) == 1  # -100 too


@pytest.mark.parametrize("score", [True, "one", "nan", "", float("inf"), 1e39, 10**400, None, [1]])
def test_what_is_no_number_is_told(tokenizers, score):
    task = Regression(tokenizers["encoder"], "encoder", Form())
    with pytest.raises(Unusable, match=r"no number to learn$"):
        task.check({"text": "a", "score": score})
