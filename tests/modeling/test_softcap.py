"""Capped attention in blocks against eager attention, which writes every probability out; and what it holds at most."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache, StaticCache

from tests.families import (
    LM_HEADS,
    TOLERANCE,
    distance,
    draw_texts,
    flattened,
    make_config,
    make_model,
    padded,
)
from trivium.configuration import InputError
from trivium.modeling import softcap, stack
from trivium.modeling.attention import eager_attention_forward

HEADS = {head.family: head for head in LM_HEADS}
BATCH, HEAD_COUNT, LENGTH, WIDTH = 2, 4, 10, 6
LOWEST = torch.finfo(torch.float64).min
STEP = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
REAL = torch.arange(LENGTH) < torch.tensor([7, 10])[:, None, None, None]  # padding on the right of the first text

# Key tokens, key-value heads and who sees whom, for every form in which masks come.
CASES = {
    "bidirectional": {},
    "causal": dict(causal=True),
    "cross": dict(keys=7),
    "grouped": dict(groups=2, causal=True),
    "one group": dict(groups=1),
    "padding on the right": dict(mask=REAL & (STEP >= 0)),
    "padding on the left": dict(mask=REAL.flip(-1) & (STEP >= 0)),
    "padding alone": dict(mask=REAL.flip(-1).expand(-1, -1, LENGTH, -1), groups=2),
    "padding for every query": dict(mask=REAL),
    "sliding": dict(mask=((STEP >= 0) & (STEP < 3))[None, None]),
    "sliding both ways": dict(mask=REAL & (STEP.abs() <= 2), groups=2),
    "each head its own": dict(mask=STEP + torch.arange(HEAD_COUNT)[None, :, None, None] >= 0),
    "bias": dict(biased=True, groups=2),
    "bias and padding": dict(biased=True, mask=REAL & (STEP >= 0)),
    "one query": dict(queries=1, causal=True),
    "one query of a static cache": dict(queries=1, mask=(torch.arange(LENGTH) < 6)[None, None, None], biased=True),
    "an empty static cache": dict(queries=4, causal=True),
}


def make_inputs(case: str, dtype: torch.dtype, seed: int = 0):
    """Leaves (query, key, value and the bias if there is one), the mask that they make, and whether causal."""
    given = dict(queries=LENGTH, keys=LENGTH, groups=HEAD_COUNT, causal=False, mask=None, biased=False) | CASES[case]
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return (2 * torch.randn(shape, generator=generator)).to(dtype).requires_grad_()

    query = draw(BATCH, HEAD_COUNT, given["queries"], WIDTH)
    leaves = [query, *(draw(BATCH, given["groups"], given["keys"], WIDTH) for _ in range(2))]
    mask = given["mask"]
    if given["biased"]:
        leaves.append(draw(1, HEAD_COUNT, given["queries"], given["keys"]))
        mask = leaves[-1] if mask is None else torch.where(mask, leaves[-1], torch.finfo(dtype).min)
    return leaves, mask, given["causal"] and given["queries"] > 1


def attend_eagerly(query, key, value, mask, causal, cap=1.5):
    module = SimpleNamespace(num_key_value_groups=HEAD_COUNT // key.shape[1], training=False)
    if causal:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    return eager_attention_forward(module, query, key, value, mask, 0.4, softcap=cap)[0].transpose(1, 2)


def seeing(mask, causal, queries) -> torch.Tensor:
    """(B or 1, 1 or H, T or 1, 1): whether a query sees anything; what others get is nobody's business."""
    if mask is None or causal:
        return torch.ones(1, 1, queries, 1, dtype=torch.bool)
    return (mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2).any(-1, keepdim=True)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rows", [1, 3, LENGTH, None])
@pytest.mark.parametrize("case", CASES)
def test_blocks_give_what_eager_attention_gives(case, rows, dtype):
    """And the gradients of query, key, value and bias; blocks of three do not divide ten queries."""
    for seed in range(3):
        leaves, mask, causal = make_inputs(case, dtype, seed)
        expected = attend_eagerly(*leaves[:3], mask, causal)
        found = softcap.capped_attention(*leaves[:3], mask, 0.4, 1.5, causal, rows=rows)
        seen = seeing(mask, causal, found.shape[2])
        assert torch.isfinite(found).all()
        assert distance(found * seen, expected * seen) < TOLERANCE[dtype]
        weight = torch.randn(found.shape, dtype=dtype) * seen
        grads = torch.autograd.grad(found, leaves, weight, retain_graph=True)
        assert distance(grads, torch.autograd.grad(expected, leaves, weight, retain_graph=True)) < TOLERANCE[dtype]


def test_without_a_cap_it_is_plain_attention():
    leaves, mask, causal = make_inputs("grouped", torch.float64)
    expected = attend_eagerly(*leaves, mask, causal, cap=None)
    found = softcap.capped_attention(*leaves, mask, 0.4, None, causal, rows=3)
    assert distance(found, expected) < 1e-12
    grads = [torch.autograd.grad(x.sin().sum(), leaves) for x in (found, expected)]
    assert distance(*grads) < 1e-12


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("case", ["grouped", "padding on the left", "bias and padding"])
def test_the_operator_keeps_the_rules_of_torch(case, dropout):
    """Schema, shapes without data, and gradients under tracing, as `torch.library` checks them."""
    leaves, mask, causal = make_inputs(case, torch.float64)
    mask = None if mask is None else mask.detach().requires_grad_(mask.requires_grad)
    seed = torch.tensor(5) if dropout else None
    torch.library.opcheck(softcap.attend_operator, (*leaves[:3], mask, seed, 0.4, 1.5, causal, dropout, 3))


def test_dropout_drops_probabilities():
    """With the identity as values the answer is the probabilities: some gone, the others larger."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 2, HEAD_COUNT, 50, 50, dtype=torch.float64)
    value = torch.eye(50, dtype=torch.float64).expand(2, HEAD_COUNT, -1, -1)
    whole = softcap.capped_attention(query, key, value, None, 0.4, 1.5, rows=7)
    dropped = softcap.capped_attention(query, key, value, None, 0.4, 1.5, dropout=0.25, rows=7)
    gone = dropped == 0
    assert gone.double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert all(not torch.equal(gone[:, :, :7], gone[:, :, i : i + 7]) for i in range(7, 43, 7)), "blocks drop alike"
    torch.testing.assert_close(dropped[~gone], whole[~gone] / 0.75, rtol=1e-12, atol=0)
    torch.manual_seed(0)
    draws = [torch.randn(2, 2, HEAD_COUNT, 50, 50, dtype=torch.float64)]
    draws.append(softcap.capped_attention(*draws[0], value, None, 0.4, 1.5, rows=7))
    again = softcap.capped_attention(*draws[0], value, None, 0.4, 1.5, dropout=0.25, rows=7)
    assert torch.equal(again, dropped), "the seed of torch decides"


@pytest.mark.parametrize("case", ["causal", "grouped", "bias and padding"])
def test_the_gradient_drops_what_the_answer_dropped(case):
    """Differences of the answer, each time from the same random state."""

    def answer(*leaves):
        mask = leaves[3] if case == "bias and padding" else None
        torch.manual_seed(3)
        mask = mask if mask is None else torch.where(REAL & (STEP >= 0), mask, LOWEST)
        return softcap.capped_attention(*leaves[:3], mask, 0.4, 1.5, mask is None, dropout=0.4, rows=3)

    leaves, _, _ = make_inputs(case, torch.float64)
    torch.autograd.gradcheck(answer, leaves, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["grouped", "bias and padding", "padding on the right"])
def test_half_precision(case, dtype):
    leaves, mask, causal = make_inputs(case, dtype)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    bias = torch.where(REAL & (STEP >= 0), wide[3], LOWEST) if len(wide) > 3 else mask
    found = softcap.capped_attention(*leaves[:3], mask, 0.4, 1.5, causal, rows=3)
    expected = attend_eagerly(*wide[:3], bias, causal)
    assert found.dtype == dtype
    assert distance(found, expected) < 0.02
    grads, wanted = torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(expected.sum(), wide)
    assert [grad.dtype for grad in grads] == [dtype] * len(leaves)
    assert distance(grads, wanted) < 0.05


class Largest(TorchDispatchMode):
    """The most numbers that a tensor made meanwhile has, those inside our operators included."""

    INSIDE = {
        torch.ops.trivium.attend_blocks.default: softcap.attend_blocks,
        torch.ops.trivium.attend_blocks_backward.default: softcap.attend_blocks_backward,
    }

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in self.INSIDE:
            with self:
                return self.INSIDE[func](*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, torch.Tensor):
                self.numel = max(self.numel, x.untyped_storage().nbytes() // x.itemsize)
        return out


def most_made_and_saved(run) -> tuple[int, int]:
    """The largest tensor that `run()` and the backward pass of what it returns make, and the largest that is saved."""
    saved = []
    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
            out = run()
        out.sum().backward()
    return largest.numel, max(saved)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_no_more_than_a_block_of_probabilities_is_held(dropout):
    length, rows = 64, 5
    leaves = [torch.randn(BATCH, heads, length, 4, requires_grad=True) for heads in (HEAD_COUNT, 2, 2)]
    mask = torch.ones(1, 1, length, length, dtype=torch.bool)
    block, all_scores = BATCH * HEAD_COUNT * rows * length, BATCH * HEAD_COUNT * length * length
    made, saved = most_made_and_saved(
        lambda: softcap.capped_attention(*leaves, mask, 0.4, 1.5, dropout=dropout, rows=rows)
    )
    assert made <= max(block, mask.numel()) < all_scores
    assert saved <= max(mask.numel(), leaves[0].numel())
    assert most_made_and_saved(lambda: attend_eagerly(*leaves, mask, causal=False)) == (all_scores, all_scores)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks that do not divide the texts of the tests."""
    monkeypatch.setattr(softcap, "block_rows", lambda query, key: 4)


@pytest.mark.parametrize("layout", [padded, flattened])
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_no_model_makes_all_scores_at_once(head, layout, small_blocks):
    """Unless somebody asks for eager attention."""
    model = make_model(head, "softcaps", attention_dropout=0.1, max_position_embeddings=100).train()
    texts = draw_texts(head, model.config, (80, 80), labels=True)
    batch = layout(texts)
    all_scores = 2 * 4 * 80 * 80
    made, saved = most_made_and_saved(lambda: model(**batch).loss)
    assert max(made, saved) < all_scores / 2
    model.set_attn_implementation("eager")
    made, saved = most_made_and_saved(lambda: model(**batch).loss)
    assert min(made, saved) >= all_scores


MODELS = {
    "softcaps": {},
    "softcap-sliding-alibi": {},
    "sliding-relative": dict(attn_logit_softcapping=2.0),
    "sliding": dict(attn_logit_softcapping=2.0),
}


@pytest.mark.parametrize(("backend", "dtype"), [(None, torch.float64), ("sdpa", torch.float32)], ids=str)
@pytest.mark.parametrize("layout", ["right", "left", "flat", "unpadded"])
@pytest.mark.parametrize("variant", MODELS)
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_a_model_computes_what_it_computes_eagerly(head, variant, layout, backend, dtype, small_blocks):
    """Loss and the gradient of every weight."""
    model = make_model(head, variant, dtype, **MODELS[variant]).train()
    if backend:
        model.set_attn_implementation(backend)
    lengths = (9, 9, 9) if layout == "unpadded" else (5, 9, 1, 5)
    texts = draw_texts(head, model.config, lengths, labels=True)
    batch = flattened(texts) if layout == "flat" else padded(texts, "left" if layout == "left" else "right")
    if layout == "unpadded" and head.family != "encoder_decoder":
        del batch["attention_mask"]
    results = []
    for implementation in (model.config._attn_implementation, "eager"):
        model.set_attn_implementation(implementation) if implementation == "eager" else None
        loss = model(**batch).loss
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    assert distance(*results) < TOLERANCE[dtype]


@pytest.mark.parametrize("cache", [DynamicCache, StaticCache, None])
@pytest.mark.parametrize("variant", MODELS)
@torch.no_grad()
def test_greedy_tokens_are_those_of_eager_attention(variant, cache, small_blocks):
    head = HEADS["decoder"]
    model = make_model(head, variant, torch.float64, tie_word_embeddings=False, **MODELS[variant])
    batch = padded(draw_texts(head, model.config, (7, 3, 5)), "left")
    options = dict(max_new_tokens=10, min_new_tokens=10, return_dict_in_generate=True, output_logits=True)
    written = []
    for backend in ("sdpa", "eager"):
        model.set_attn_implementation(backend)
        sizes = dict(max_cache_len=20) if cache is StaticCache else {}
        caching = {"past_key_values": cache(config=model.config, **sizes)} if cache else {"use_cache": False}
        written.append(model.generate(**batch, **options, **caching, disable_compile=True))
    ours, eager = written
    assert torch.equal(ours.sequences, eager.sequences) and len(ours.sequences[:, 7:].unique()) > 5
    assert distance(ours.logits, eager.logits) < 1e-6  # `generate` keeps them in float32


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("variant", ["softcaps", "sliding-relative"])
def test_compiled_is_eager(variant, dropout, small_blocks):
    """In one graph, dropout included."""
    torch.compiler.reset()
    head = HEADS["decoder"]
    model = make_model(head, variant, attention_dropout=dropout, **MODELS[variant]).train()
    batch = padded(draw_texts(head, model.config, (6, 9, 2), labels=True), "left")
    results = []
    for candidate in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)
        loss = candidate(**batch).loss
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    assert distance(*results) < 1e-5


def test_autocast_reaches_the_blocks(small_blocks):
    model = make_model(HEADS["decoder"], "softcaps").train()
    batch = padded(draw_texts(HEADS["decoder"], model.config, labels=True))
    results = []
    for backend in ("sdpa", "eager"):
        model.set_attn_implementation(backend)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    assert distance(*results) < 0.03


def test_who_asks_for_sdpa_is_told_once(monkeypatch):
    said = []
    monkeypatch.setattr(stack.logger, "warning_once", said.append)
    config = make_config("encoder_decoder", "softcaps")
    model = HEADS["encoder_decoder"].model(config)
    assert model.config.decoder._attn_implementation == "sdpa" and not said, "nobody chose"
    for backend in ("eager", "trivium_varlen"):
        model.set_attn_implementation(backend)
    assert not said
    model.set_attn_implementation("sdpa")
    HEADS["decoder"].model(make_config("decoder", "softcaps", attn_implementation="sdpa"))
    assert len(set(said)) == 1 and said[0].count(".") == 1


@torch.no_grad()
def test_weights_are_for_eager_attention_to_give(monkeypatch):
    """As with sdpa in transformers: none of them, and a sentence that says why."""
    said = []
    monkeypatch.setattr(softcap.logger, "warning_once", said.append)
    model = make_model(HEADS["decoder"], "softcaps")
    batch = padded(draw_texts(HEADS["decoder"], model.config))
    assert not model(**batch, output_attentions=True).attentions and len(set(said)) == 1
    model.set_attn_implementation("eager")
    assert len(model(**batch, output_attentions=True).attentions) == 2


def test_flex_attention_cannot_learn_on_a_cpu():
    model = make_model(HEADS["decoder"], "softcaps")
    model.set_attn_implementation("flex_attention")
    with pytest.raises(InputError, match="has no backward pass on a CPU"):
        model.model.layers[0].self_attn(torch.randn(1, 4, model.config.hidden_size))
