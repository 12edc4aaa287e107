"""Gradients of attention by products of matrices are those of torch."""

import pytest
import torch
from torch.nn import functional as F

from tests.families import LM_HEADS, draw_texts, make_model, padded, randomize
from trivium.modeling import narrow

BATCH, HEADS_OF, GROUPS, QUERIES, KEYS, WIDTH = 3, 4, 2, 37, 41, 16
MASKS = {
    "all": lambda: None,
    "causal": lambda: None,
    "padding": lambda: torch.rand(BATCH, 1, 1, KEYS) > 0.3,
    "of every query": lambda: torch.rand(BATCH, 1, QUERIES, KEYS) > 0.3,
    "the same for all": lambda: torch.rand(1, 1, QUERIES, KEYS) > 0.3,
}


def make_inputs(kind: str, dtype: torch.dtype) -> tuple:
    """Query, key, value, mask, scaling and whether it is causal; one query of a mask sees nothing."""
    torch.manual_seed(0)
    shapes = ((BATCH, QUERIES, HEADS_OF, WIDTH), (BATCH, KEYS, GROUPS, WIDTH), (BATCH, KEYS, GROUPS, WIDTH))
    tensors = [torch.randn(shape, dtype=dtype).transpose(1, 2).requires_grad_() for shape in shapes]
    mask = MASKS[kind]()
    if mask is not None and mask.shape[2] > 1:
        mask[0, 0, 3] = False
    return *tensors, mask, 0.3, kind == "causal"


def reference(query, key, value, mask, scaling, causal) -> torch.Tensor:
    options = {"attn_mask": mask, "is_causal": causal, "scale": scaling, "enable_gqa": True}
    return F.scaled_dot_product_attention(query, key, value, **options)


@pytest.mark.parametrize("multiple", [narrow.MULTIPLE, 1])
@pytest.mark.parametrize("at_once", [narrow.AT_ONCE, 2000, 300])
@pytest.mark.parametrize("kind", MASKS)
def test_gradients_are_those_of_torch(kind, at_once, multiple, monkeypatch):
    monkeypatch.setattr(narrow, "AT_ONCE", at_once)
    monkeypatch.setattr(narrow, "MULTIPLE", multiple)
    monkeypatch.setattr(narrow, "CAUSAL_ROWS", narrow.CAUSAL_ROWS if at_once == narrow.AT_ONCE else 7)
    inputs = make_inputs(kind, torch.float64)
    expected, found = reference(*inputs), narrow.attend_narrow(*inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    wanted, grads = (torch.autograd.grad(out.sin().sum(), inputs[:3]) for out in (expected, found))
    torch.testing.assert_close(grads, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", MASKS)
def test_half_precision_is_as_near_as_torch_gets(kind, dtype):
    inputs = make_inputs(kind, dtype)
    exact = [x.detach().double().requires_grad_() for x in inputs[:3]]
    wanted = torch.autograd.grad(reference(*exact, *inputs[3:]).sin().sum(), exact)
    for attend in (reference, narrow.attend_narrow):
        grads = torch.autograd.grad(attend(*inputs).float().sin().sum(), inputs[:3])
        for grad, want in zip(grads, wanted, strict=True):
            assert grad.dtype == dtype
            assert (grad.double() - want).norm() < (0.012 if dtype == torch.bfloat16 else 0.002) * want.norm()


@pytest.mark.parametrize("kind", ["causal", "padding"])
def test_the_operator_keeps_the_rules_of_torch(kind):
    torch.library.opcheck(narrow.attend_narrow, make_inputs(kind, torch.bfloat16))


@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("head", LM_HEADS, ids=lambda head: head.family)
def test_models_learn_the_same_either_way(head, side, monkeypatch):
    """Under autocast, from full and from padded batches: gradients are as near float32 as with torch's kernel."""
    model = make_model(head)
    randomize(model)
    texts = draw_texts(head, model.config, (6, 6, 6) if side is None else (6, 3, 5), labels=True)
    batch = padded(texts, side or "right")
    if side is None:
        batch = {name: value for name, value in batch.items() if "mask" not in name}
    used, real = [], narrow._backward_operator
    monkeypatch.setattr(narrow, "_backward_operator", lambda *inputs: used.append(inputs) or real(*inputs))

    def gradients(precision: torch.dtype, longest: int) -> torch.Tensor:
        monkeypatch.setattr(narrow, "LONGEST", longest)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            model(**batch).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    exact, theirs = gradients(torch.float32, 2**20), gradients(torch.bfloat16, 0)
    assert not used
    ours = gradients(torch.bfloat16, 2**20)
    assert len(used) >= model.config.get_text_config(decoder=True).num_hidden_layers
    assert (ours - exact).norm() < 1.5 * (theirs - exact).norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_query_that_sees_nothing_has_no_gradient_whatever_its_scores(dtype):
    """Which, added to what hides keys, would be infinite for all of them, and their probabilities not a number."""
    query, key, value = (torch.full((1, 1, 16, 8), number, dtype=dtype) for number in (-8.0, 8.0, 1.0))
    mask = torch.ones(16, 16, dtype=torch.bool)
    mask[1], mask[:, 2] = False, False
    grads = narrow.differentiate(torch.randn_like(query), query, key, value, mask[None, None], 1.0, False)
    assert all(grad.isfinite().all() for grad in grads)
    assert not grads[0][:, :, 1].any() and not grads[1][:, :, 2].any() and not grads[2][:, :, 2].any()
