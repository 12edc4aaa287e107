"""`torch.compile(fullgraph=True)` == eager, forward and backward, and what is saved afterwards has the plain names."""

import pytest
import torch

from tests.families import LM_HEADS, distance, draw_texts, flattened, make_model, padded

LAYOUTS = {
    "padded": padded,
    "flat": flattened,
    "plain": lambda texts: {k: v for k, v in padded(texts).items() if not k.endswith("mask")},
}
# Compiling takes up to a minute: two that stop before code is generated stand for all; `make test-slow` has the others.
QUICK = [("decoder", "plain", "flat"), ("encoder_decoder", "sliding-relative", "flat")]
SLOW = [(head.family, variant, layout) for head in LM_HEADS for variant in ("plain", "relative") for layout in LAYOUTS]
SLOW += [
    ("encoder_decoder", "softcap-sliding-alibi", "flat"),
    ("decoder", "rope-per-type", "flat"),
    ("decoder", "learned", "flat"),
    ("encoder", "bert", "padded"),
]
CASES = [(*case, "aot_eager") for case in QUICK]
CASES += [pytest.param(*case, "inductor", marks=pytest.mark.slow) for case in SLOW]


@pytest.mark.parametrize(("family", "variant", "layout", "backend"), CASES)
def test_compiled_is_eager(family, variant, layout, backend, tmp_path):
    torch.compiler.reset()
    head = next(head for head in LM_HEADS if head.family == family)
    model = make_model(head, variant).train()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for seed, lengths in enumerate([(6, 9, 2), (5, 8, 7, 3)][: 1 if backend == "aot_eager" else 2]):
        batch = LAYOUTS[layout](draw_texts(head, model.config, lengths, seed, labels=True))
        results = []
        for candidate in (model, compiled):
            model.zero_grad()
            output = candidate(**batch, return_logits=True)
            output.loss.backward()
            results.append(
                (output.loss.detach(), output.logits.detach(), {n: p.grad for n, p in model.named_parameters()})
            )
        (loss, logits, grads), (compiled_loss, compiled_logits, compiled_grads) = results
        assert distance(compiled_loss, loss) < 1e-5
        assert distance(compiled_logits, logits) < 1e-4
        assert max(distance(compiled_grads[name], grads[name]) for name in grads) < 1e-4
    assert {key.removeprefix("_orig_mod.") for key in compiled.state_dict()} == model.state_dict().keys()
    compiled.save_pretrained(tmp_path)
    loaded = head.model.from_pretrained(tmp_path).state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_compiled_under_autocast_is_eager():
    """Queries and keys leave their norms in float32, values do not: an operator must not see the difference."""
    torch.compiler.reset()
    head = next(head for head in LM_HEADS if head.family == "decoder")
    model = make_model(head).train()
    batch = flattened(draw_texts(head, model.config, (6, 9, 2), labels=True))
    losses, grads = [], []
    for candidate in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(candidate(**batch).loss)
        grads.append(torch.autograd.grad(losses[-1], list(model.parameters())))
    assert distance(*losses) < 1e-2
    assert distance(*grads) < 2e-2


@pytest.mark.slow
def test_a_new_cut_into_documents_compiles_nothing_anew():
    """Lengths change with every batch; as long as the total stays, the compiled code does."""
    torch.compiler.reset()
    head = next(head for head in LM_HEADS if head.family == "decoder")
    model = make_model(head).train()
    compiled = torch.compile(model, fullgraph=True)
    for seed, lengths in enumerate([(6, 9, 5), (5, 8, 4, 3), (20,), (1,) * 20]):
        batch = flattened(draw_texts(head, model.config, lengths, seed, labels=True))
        with torch.compiler.set_stance("default" if seed == 0 else "fail_on_recompile"):
            loss = compiled(**batch).loss
        assert distance(loss, model(**batch).loss) < 1e-5


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("layout", ["flat", "padded"])
@pytest.mark.parametrize("variant", ["plain", "sliding", "softcaps"])
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_flex_attention_is_sdpa(head, variant, layout):
    """Forward only: on CPU flex has no backward."""
    model = make_model(head, variant)
    batch = LAYOUTS[layout](draw_texts(head, model.config))
    expected = model(**batch).logits
    model.set_attn_implementation("flex_attention")
    found = model(**batch).logits
    mask = batch.get("decoder_attention_mask", batch.get("attention_mask", torch.ones(found.shape[:2]))).bool()
    assert distance(found[mask], expected[mask]) < 1e-5
