"""Flattened == padded, on either side == one text at a time: for every family, head, variant and backend."""

import pytest
import torch

from tests.families import (
    CASES,
    HEADS,
    LM_HEADS,
    TOLERANCE,
    case_name,
    distance,
    draw_texts,
    flattened,
    make_model,
    padded,
    per_text,
    run_one_by_one,
)
from trivium.configuration import InputError

DECODER_CLASSIFIER = next(head for head in HEADS if str(head) == "decoder-sequence")
BACKENDS = [
    ("default", torch.float32),
    ("sdpa", torch.float32),
    ("eager", torch.float64),
    ("trivium_varlen", torch.float64),
]


@torch.no_grad()
@pytest.mark.parametrize(("backend", "dtype"), BACKENDS, ids=str)
@pytest.mark.parametrize(("head", "variant"), CASES, ids=case_name)
def test_every_layout_gives_what_each_text_gives_alone(head, variant, backend, dtype):
    model = make_model(head, variant, dtype)
    if backend != "default":
        model.set_attn_implementation(backend)
    texts = draw_texts(head, model.config)
    alone = run_one_by_one(model, head, texts)
    layouts = {
        "right": padded(texts, "right"),
        "left": padded(texts, "left", pad_token=5),
        "flat": flattened(texts),
    }
    found = {name: per_text(head, model(**batch), texts, name) for name, batch in layouts.items()}
    found = {name: distance(outputs, alone) for name, outputs in found.items()}
    assert max(found.values()) < TOLERANCE[dtype], found


@torch.no_grad()
@pytest.mark.parametrize("variant", ["plain", "sliding-relative", "bert"])
def test_padding_is_told_by_its_token_where_there_is_no_mask(variant):
    """A decoder that classifies finds the last real token; without a mask and a padding token it asks for one."""
    model = make_model(DECODER_CLASSIFIER, variant)
    texts = draw_texts(DECODER_CLASSIFIER, model.config)
    batch = padded(texts)
    del batch["attention_mask"]
    found = per_text(DECODER_CLASSIFIER, model(**batch), texts, "right")
    assert distance(found, run_one_by_one(model, DECODER_CLASSIFIER, texts)) < 1e-5
    model.config.pad_token_id = None
    with pytest.raises(InputError, match="attention_mask"):
        model(**batch)
    assert model(batch["input_ids"][:1]).logits.shape == (1, 2)


@torch.no_grad()
@pytest.mark.parametrize("backend", ["sdpa", "eager"])
@pytest.mark.parametrize("variant", ["plain", "relative", "sliding"])
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_a_row_of_padding_alone_harms_nobody(head, variant, backend):
    model = make_model(head, variant)
    model.set_attn_implementation(backend)
    texts = draw_texts(head, model.config)
    batch = padded(texts)
    expected = model(**batch).logits
    batch["attention_mask"][2] = 0
    found = model(**batch).logits
    assert torch.isfinite(found).all()
    assert distance(found[[0, 1, 3]], expected[[0, 1, 3]]) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize(("head", "variant"), CASES, ids=case_name)
def test_texts_would_be_told_apart_from_a_leak(head, variant):
    """The test above can fail: without its documents the flattened batch says something else."""
    model = make_model(head, variant)
    texts = draw_texts(head, model.config)
    if head.task in ("sequence", "next"):
        batch = padded(texts)
        batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
        layout = "right"
    else:
        batch = {name: value for name, value in flattened(texts).items() if not name.endswith("position_ids")}
        layout = "flat"
    if head.task == "pretraining" or "pooler" in variant:
        pytest.skip("one row has one pooled vector")
    assert distance(per_text(head, model(**batch), texts, layout), run_one_by_one(model, head, texts)) > 1e-2
