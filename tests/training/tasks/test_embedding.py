"""Vectors of texts are those of each text alone, and the loss is that of a slow reimplementation."""

import math

import pytest
import torch
from transformers import AutoModel

from tests.families import make_config, randomize
from trivium.configuration.errors import InputError
from trivium.training.tasks.embedding import TextEmbedding
from trivium.training.tasks.examples import Unusable
from trivium.training.tasks.task import Form

CHOICES = [(family, pooling) for family in ("encoder", "decoder") for pooling in (None, "mean", "first", "last")]
ROWS = [
    {"text": "the statement", "positive": "a statement of some kind"},
    {"text": "x", "positive": "import raises value"},
    {"text": "an object with a long name that goes on", "positive": "y"},
    {"text": "true", "positive": "a statement of some kind"},
]


@pytest.fixture(params=CHOICES, ids=str)
def made(request, tokenizers):
    """A task and a model."""
    family, pooling = request.param
    task = TextEmbedding(tokenizers[family], family, Form(max_length=24, pooling=pooling, temperature=0.2))
    model = AutoModel.from_config(make_config(family, vocab_size=len(task.tokenizer)))
    randomize(model)
    return task, model.eval()


@torch.no_grad()
def slow_vector(task, model, text):
    states = model(**task.tokenizer([text], return_tensors="pt")).last_hidden_state[0]
    pooling = task.form.pooling or {"encoder": "mean", "decoder": "last"}[task.family]
    vector = {"mean": states.mean(0), "first": states[0], "last": states[-1]}[pooling]
    return vector / vector.square().sum().sqrt()


def test_vectors_are_those_of_each_text_alone_and_of_length_one(made, monkeypatch):
    task, model = made
    texts = [row["text"] for row in ROWS]
    expected = torch.stack([slow_vector(task, model, text) for text in texts])
    for side in ("left", "right"):
        monkeypatch.setattr(task.tokenizer, "padding_side", side)
        for size in (1, 3, 8):
            vectors = task.embed(model, texts, size)
            torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(4))
    assert task.predict(model, [], 2) == []
    assert [*task.predict(model, [{"text": "x"}], 2)[0]] == ["vector"]


def test_the_loss_is_that_of_finding_each_partner_both_ways(made):
    task, model = made
    sides = [[slow_vector(task, model, row[role]) for row in ROWS] for role in ("text", "positive")]
    total = 0.0
    for here, there in (sides, sides[::-1]):
        for number, vector in enumerate(here):
            similarities = [float(vector @ other) / 0.2 for other in there]
            total += math.log(sum(map(math.exp, similarities))) - similarities[number]
    batch = task.collate(task.encode(ROWS))
    assert task.items(batch) == 4
    assert task.loss(model, batch).item() == pytest.approx(total / 8, abs=1e-4)
    assert task.loss(model, batch, 16).item() == pytest.approx(total / 8 / 4, abs=1e-4)


def test_ranks_are_those_among_all_partners_each_of_which_counts_once(made):
    task, model = made
    answers = task.predict(model, ROWS, 3)
    partners = list(dict.fromkeys(row["positive"] for row in ROWS))
    ranks = []
    for row in ROWS:
        own = slow_vector(task, model, row["text"])
        near = {text: float(own @ slow_vector(task, model, text)) for text in partners}
        ranks.append(1 + sum(near[text] > near[row["positive"]] - 1e-6 for text in partners if text != row["positive"]))
    scores = task.measure(answers, ROWS)
    assert scores["mrr"] == pytest.approx(sum(1 / rank for rank in ranks) / 4)
    assert scores["recall_at_1"] == pytest.approx(sum(rank == 1 for rank in ranks) / 4)


@pytest.mark.parametrize("rounding", [0.0, 6e-8, -6e-8])
def test_a_model_that_finds_all_alike_is_not_praised(tokenizers, rounding):
    task = TextEmbedding(tokenizers["encoder"], "encoder", Form())
    partners = [[1 + number * rounding, 0.0] for number in range(4)]
    scores = task.measure([{"vector": [1.0, 0.0], "partner": partner} for partner in partners], ROWS)
    assert scores["mrr"] == pytest.approx(1 / 3) and scores["recall_at_1"] == 0


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"text": " "}, "the text is empty"),
        ({"positive": None}, "the partner is empty"),
        ({"positive": 3}, "the partner is 3, no text"),
        ({"positive": "x"}, "the text and its partner are the same"),
    ],
)
def test_what_cannot_be_used_is_told(tokenizers, change, reason):
    with pytest.raises(Unusable) as caught:
        TextEmbedding(tokenizers["encoder"], "encoder", Form()).check(ROWS[1] | change)
    assert caught.value.reason == reason


def test_a_pooling_that_there_is_not_is_told(tokenizers):
    with pytest.raises(InputError) as caught:
        TextEmbedding(tokenizers["encoder"], "encoder", Form(pooling="max"))
    assert str(caught.value) == "`pooling` is mean, first, last, not 'max'."
