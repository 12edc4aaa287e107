"""Padded on either side or laid end to end, a batch has the same loss, and its texts the same answers."""

import datasets
import pytest
import torch
import transformers

from tests.families import TOLERANCE, make_config, randomize
from tests.training.finetuned import CASES, TEMPLATE, examples
from trivium.configuration.errors import InputError
from trivium.training.tasks.examples import Examples
from trivium.training.tasks.table import TASKS
from trivium.training.tasks.task import IGNORED, Form, flatten

PACKED = [(task, family) for task, family in CASES if TASKS[task].packs]
POOLED = [("text-embedding", family, pooling) for family in ("encoder", "decoder") for pooling in ("mean", "first")]


def make_tasks(name, tokenizer, family, **form):
    """The task with padded batches, and with packing."""
    tokenizer.chat_template = TEMPLATE
    tasks = [
        TASKS[name](tokenizer, family, Form(max_length=32, stride=4, max_target_length=8, packing=packing, **form))
        for packing in (False, True)
    ]
    for task in tasks:
        task.learn(Examples(datasets.Dataset.from_list(examples(name, 12)), "data"))
    return tasks


def make_model(task, family, **fields):
    """A model that is far from saying the same of all texts."""
    shape = dict(vocab_size=len(task.tokenizer), pad_token_id=task.tokenizer.pad_token_id, type_vocab_size=2)
    config = make_config(family.replace("-", "_"), **shape | task.head_fields() | fields)
    model = getattr(transformers, task.heads[family]).from_config(config)
    randomize(model)
    return model.eval()


@pytest.fixture(params=[*PACKED, *POOLED], ids="-".join)
def made(request, tokenizers):
    """A task padded, the same packed, a model, and examples."""
    name, family, *pooling = request.param
    padded, packed = make_tasks(name, tokenizers[family], family, **({"pooling": pooling[0]} if pooling else {}))
    return padded, packed, make_model(padded, family), examples(name, 7, seed=5)


def test_the_loss_of_a_batch_is_the_same_in_every_layout(made, monkeypatch):
    padded, packed, model, rows = made
    for features in (padded.encode(rows), padded.encode(rows[:1])):
        found = []
        for task, side in ((padded, "right"), (padded, "left"), (packed, "right")):
            monkeypatch.setattr(task.tokenizer, "padding_side", side)
            batch = task.collate(features)
            items = task.items(batch)
            found.append([task.loss(model, batch).item(), task.loss(model, batch, 3 * items).item(), items])
        tokens = sum(len(text["input_ids"]) for row in features for text in row.get("texts", [row]))
        assert batch["input_ids"].shape == (1, tokens) and not any("mask" in name for name in batch)
        for other in found[1:]:
            assert other == pytest.approx(found[0], abs=1e-5, rel=1e-5)


def test_the_answers_are_the_same_in_every_layout(made, monkeypatch):
    padded, packed, model, rows = made
    alone = padded.predict(model, rows, 1)
    for task, side, size in ((padded, "left", 3), (packed, "right", 1), (packed, "right", 3), (packed, "left", 16)):
        monkeypatch.setattr(task.tokenizer, "padding_side", side)
        for one, other in zip(alone, task.predict(model, rows, size), strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                numbers = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, float)]
                assert other[name] == (pytest.approx(value, abs=1e-5) if numbers else value)


def test_a_text_alone_ends_with_its_last_token_though_that_one_also_pads(tokenizers):
    """GPT-2's habit: nothing but the lengths says where such a text ends."""
    family = "decoder"
    padded, packed = make_tasks("text-classification", tokenizers[family], family)
    model = make_model(padded, family, pad_token_id=7)
    feature = {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "target": 0}
    logits = [model(**task.collate([feature])).logits for task in (padded, packed)]
    torch.testing.assert_close(*logits, atol=TOLERANCE[torch.float32], rtol=0)


def test_sides_of_their_own_lengths_have_positions_of_their_own():
    features = [{"input_ids": [1, 2, 3], "labels": [4], "start": 9}, {"input_ids": [5], "labels": [6, IGNORED]}]
    features[1]["start"] = 8
    batch = {name: values.tolist() for name, values in flatten(features, "labels").items()}
    assert batch == {
        "input_ids": [[1, 2, 3, 5]],
        "labels": [[4, 6, IGNORED]],
        "start": [9, 8],
        "position_ids": [[0, 1, 2, 0]],
        "decoder_position_ids": [[0, 0, 1]],
        "cu_seq_lens_k": [0, 3, 4],
        "cu_seq_lens_q": [0, 1, 3],
    }


def test_a_head_that_reads_rows_refuses_packing(tokenizers):
    with pytest.raises(InputError) as caught:
        TASKS["multiple-choice"](tokenizers["encoder"], "encoder", Form(packing=True))
    said = "`packing` lays texts end to end, but this task's head reads them in rows: leave it out."
    assert str(caught.value) == said
