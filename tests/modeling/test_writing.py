"""Attention of one new token a row is that of torch, whatever hides keys, and models write with it."""

import pytest
import torch
from torch.nn import functional as F
from transformers import StaticCache

from tests.families import LM_HEADS, distance, draw_texts, make_model, padded
from trivium.modeling import narrow, writing

ROWS, HEADS, GROUPS, KEYS, WIDTH = 5, 6, 2, 41, 16
WRITERS = [head for head in LM_HEADS if head.family != "encoder"]


def spanned(*spans: tuple[int, int]) -> torch.Tensor:
    """Of each row the keys from one to another."""
    places = torch.arange(KEYS)
    return torch.stack([(places >= start) & (places < stop) for start, stop in spans])[:, None, None]


MASKS = {
    "none": None,
    "left": spanned((0, 41), (3, 41), (40, 41), (3, 41), (20, 41)),
    "right": spanned((0, 41), (0, 12), (0, 12), (0, 1), (0, 30)),
    "middle": spanned((2, 30), (0, 41), (7, 9), (7, 9), (40, 41)),
    "one for all": spanned((5, 9)),
    "holes": torch.rand(ROWS, 1, 1, KEYS, generator=torch.Generator().manual_seed(3)) > 0.5,
    "of every head": torch.rand(ROWS, HEADS, 1, KEYS, generator=torch.Generator().manual_seed(4)) > 0.5,
    "added": torch.randn(1, HEADS, 1, KEYS, generator=torch.Generator().manual_seed(5)),
    "added to every row": torch.randn(ROWS, 1, 1, KEYS, generator=torch.Generator().manual_seed(6)),
    "an empty row": spanned((0, 41), (3, 3), (0, 1), (0, 1), (20, 41)),
}
# Where a row alone is taken: always, or only where more than a row's keys are saved, which is never.
SAVINGS = {"alone": 0, "together": KEYS * GROUPS * WIDTH}


def make_inputs(kind: str, dtype: torch.dtype) -> tuple:
    """Query, the beginnings of two rooms as a cache has them, mask and scaling."""
    torch.manual_seed(0)
    query = torch.randn(ROWS, HEADS, 1, WIDTH)
    rooms = [torch.randn(ROWS, GROUPS, KEYS + 7, WIDTH) for _ in range(2)]
    tensors = (query, *(room[:, :, :KEYS] for room in rooms))
    mask = MASKS[kind]
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(dtype)
    return *(x.to(dtype) for x in tensors), mask, 0.3


def reference(query, key, value, mask, scaling) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=True)


@pytest.fixture
def small(monkeypatch):
    """No cache is too small, no row too short and, so that nothing is taken for rounding, no precision too wide."""
    monkeypatch.setattr(writing, "HALF", (torch.float64, torch.float32, *writing.HALF))
    monkeypatch.setattr(writing, "LEAST", 0)
    monkeypatch.setattr(writing, "ONE_MORE", 0)


@pytest.mark.parametrize("saving", SAVINGS)
@pytest.mark.parametrize("at_once", [writing.AT_ONCE, 2000, 1])
@pytest.mark.parametrize("kind", MASKS)
def test_attention_is_that_of_torch(kind, at_once, saving, monkeypatch):
    monkeypatch.setattr(writing, "AT_ONCE", at_once)
    monkeypatch.setattr(writing, "ONE_MORE", SAVINGS[saving])
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        inputs = make_inputs(kind, dtype)
        torch.testing.assert_close(writing.attend_one(*inputs), reference(*inputs), rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", MASKS)
def test_half_precision_is_rounded_once(kind, dtype, small):
    """What is said is the nearest number to what is right."""
    *tensors, scaling = make_inputs(kind, dtype)
    wide = [x.double() if x is not None and x.dtype == dtype else x for x in tensors]
    exact, said = reference(*wide, scaling), writing.attend_one(*tensors, scaling)
    assert said.dtype == dtype
    nearest = exact.to(dtype)
    assert (said != nearest).float().mean() < 0.01  # where float32 and float64 fall on two sides of the middle
    torch.testing.assert_close(said, nearest, rtol=torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [("left", [(0, 41), (3, 41), (40, 41), (3, 41), (20, 41)]), ("one for all", [(5, 9)] * ROWS)]
    + [(kind, None) for kind in ("none", "holes", "of every head", "added", "an empty row")],
)
def test_rows_are_read_from_their_first_token_to_their_last(mask, expected, small):
    assert writing._spans(MASKS[mask], ROWS, KEYS, GROUPS * WIDTH) == expected


def test_heads_are_taken_as_many_as_fit(monkeypatch):
    monkeypatch.setattr(writing, "AT_ONCE", 3 * 41 * WIDTH)
    blocks = list(writing._blocks([(0, 41), (0, 41), (40, 41)], GROUPS, WIDTH))
    assert [(heads.start, heads.stop) for heads, _ in blocks] == [(0, 3), (3, 4), (4, 6)]
    assert [(seen.start, seen.stop) for _, seen in blocks] == [(0, 41), (0, 41), (40, 41)]


@pytest.mark.parametrize("kind", ["none", "left", "added"])
def test_the_operator_keeps_the_rules_of_torch(kind):
    torch.library.opcheck(writing.attend_one_operator, make_inputs(kind, torch.bfloat16))


@pytest.fixture
def attended(monkeypatch):
    """How many keys each call had."""
    calls = []
    real = writing.attend_one

    def attend(query, key, *rest):
        calls.append(key.shape[2])
        return real(query, key, *rest)

    monkeypatch.setattr(narrow, "attend_one", attend)
    return calls


@torch.no_grad()
@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("variant", ["plain", "grouped", "sliding", "relative"])
@pytest.mark.parametrize("head", WRITERS, ids=lambda head: head.family)
def test_models_write_the_same_either_way(head, variant, cache, small, attended, monkeypatch):
    """Bit for bit in tokens, and in logits as near as float64 gets."""
    model = make_model(head, variant, torch.float64)
    batch = padded(draw_texts(head, model.config, (6, 2, 4)), "left" if head.family == "decoder" else "right")
    options = dict(
        max_new_tokens=5, min_new_tokens=5, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    options |= {} if cache is None else dict(cache_implementation=cache, disable_compile=True)
    said = model.generate(**batch, pad_token_id=0, use_cache=True, **options)
    count = len(attended)
    assert count >= 8  # layers and tokens after the first
    monkeypatch.setattr(narrow, "is_written", lambda *inputs: False)
    plain = model.generate(**batch, pad_token_id=0, use_cache=True, **options)
    assert len(attended) == count
    assert torch.equal(said.sequences, plain.sequences)
    assert distance(list(said.logits), list(plain.logits)) < 1e-10


def written(dtype=torch.bfloat16, queries=1, keys=1024, dropout=0.0, learns=False) -> bool:
    """Whether a new token of four heads of 64 is attended from by ours."""
    query = torch.ones(1, 4, queries, 64, dtype=dtype, requires_grad=learns)
    key = torch.ones(1, 4, keys, 64, dtype=dtype)
    return writing.is_written(query, key, key, dropout)


def test_some_are_left_to_torch():
    """Other precisions, several queries, small caches, dropout, and what learns."""
    assert written() and written(torch.float16)
    assert not written(torch.float32) and not written(queries=2) and not written(keys=1023) and not written(dropout=0.1)
    assert not written(learns=True)
    with torch.no_grad():
        assert written(learns=True)


class Step(torch.nn.Module):
    """One more token after those in a static cache."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model
        self.cache = StaticCache(model.config, max_cache_len=8)

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids, attention_mask=attention_mask, past_key_values=self.cache, use_cache=True).logits


@torch.no_grad()
def test_a_compiler_keeps_the_operator_and_an_exporter_does_not(small):
    model = make_model(WRITERS[0])
    inputs = torch.tensor([[5], [6]]), torch.tensor([[0, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]])
    seen = []

    def look(graph, example_inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch.compiler.reset()
    torch.compile(Step(model), backend=look, fullgraph=True)(*inputs)
    assert any("attend_one" in target for target in seen)
    for strict in (False, True):
        exported = torch.export.export(Step(model), inputs, strict=strict)
        assert not any("trivium" in str(node.target) for node in exported.graph.nodes)
