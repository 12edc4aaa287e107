"""What a forward returns beside the answer, and ways to run it that must not change the answer."""

import pytest
import torch

from tests.families import (
    BASE_HEADS,
    CASES,
    HEADS,
    LM_HEADS,
    TRAINED_HEADS,
    case_name,
    distance,
    draw_texts,
    flattened,
    main_outputs,
    make_model,
    padded,
)

VARIANTS = ["plain", "sliding-relative", "softcaps", "bert"]
# Those whose gradients take different ways: through biases, masks, embeddings and cross-attention.
CHECKPOINTED = [
    (head, variant) for head in LM_HEADS for variant in ("relative", "sliding-relative", "bert", "softcaps")
]
CHECKPOINTED += [case for case in CASES if case[0] in LM_HEADS and case[1] in ("mixed-positions", "unequal-sides")]


def sides(output, base: str) -> list:
    """The tuples called `base` of every side that the output speaks of."""
    names = (base, f"encoder_{base}", f"decoder_{base}")
    return [output[name] for name in names if output.get(name) is not None]


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("head", [*BASE_HEADS, *LM_HEADS], ids=str)
def test_hidden_states_and_attentions(head, variant):
    """Shapes; the last state is the answer; weights sum to one; eager says what sdpa says."""
    model = make_model(head, variant, torch.float64)
    batch = padded(draw_texts(head, model.config))
    plain = model(**batch)
    assert not sides(plain, "hidden_states") and not sides(plain, "attentions")
    model.set_attn_implementation("eager")
    output = model(**batch, output_hidden_states=True, output_attentions=True)
    assert distance(main_outputs(output), main_outputs(plain)) < 1e-10
    layers, heads = 2, 4
    rows = len(batch["input_ids"])
    lengths = [batch[name].shape[1] for name in ("input_ids", "decoder_input_ids") if name in batch]
    states, weights = sides(output, "hidden_states"), sides(output, "attentions")
    assert len(states) == len(weights) == len(lengths)
    for side, length in zip(states, lengths, strict=True):
        assert [tuple(state.shape) for state in side] == [(rows, length, 32)] * (layers + 1)
    for side, length in zip(weights, lengths, strict=True):
        assert [tuple(weight.shape) for weight in side] == [(rows, heads, length, length)] * layers
    if head.task == "base":
        assert torch.equal(states[-1][-1], output.last_hidden_state)
    if head.family == "encoder_decoder":
        assert [tuple(x.shape) for x in output.cross_attentions] == [(rows, heads, lengths[1], lengths[0])] * layers
        weights.append(output.cross_attentions)
        assert all(x[1][..., -1].abs().max() > 0 for x in output.cross_attentions), "the longest source is read whole"
    for side in weights:
        assert all(torch.allclose(weight.sum(-1), torch.ones((), dtype=torch.float64)) for weight in side)
    source_padding = batch["attention_mask"] == 0
    for side in [weights[0], *weights[2:]]:
        for weight in side:
            real = weight * batch["attention_mask"][:, None, :, None] if side is weights[0] else weight
            assert real.masked_select(source_padding[:, None, None, :]).abs().sum() == 0


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_tuples_and_embeddings(head):
    """`return_dict=False` gives the same tensors; `inputs_embeds` the same answer as `input_ids`."""
    model = make_model(head, "sinusoidal")
    batch = padded(draw_texts(head, model.config))
    if head.task == "choice":
        batch = {name: value.unflatten(0, (2, 2)) for name, value in batch.items()}
    output = model(**batch)
    listed = model(**batch, return_dict=False)
    assert isinstance(listed, tuple)
    assert all(torch.equal(a, b) for a, b in zip(main_outputs(output)[:1], listed, strict=False))
    batch |= {"inputs_embeds": model.get_input_embeddings()(batch.pop("input_ids"))}
    if head.reads_source_twice:
        batch |= {"decoder_input_ids": torch.ones(4, 3, dtype=torch.long)}
        assert torch.isfinite(main_outputs(model(**batch))[0]).all()
        return
    assert distance(main_outputs(model(**batch)), main_outputs(output)) < 1e-6
    if "decoder_input_ids" in batch:
        embeds = model.get_decoder().get_input_embeddings()(batch.pop("decoder_input_ids"))
        assert distance(main_outputs(model(**batch, decoder_inputs_embeds=embeds)), main_outputs(output)) < 1e-6


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("layout", ["padded", "flat"])
@pytest.mark.parametrize(("head", "variant"), CHECKPOINTED, ids=case_name)
def test_checkpointed_activations_change_no_gradient(head, variant, layout, reentrant):
    model = make_model(head, variant, torch.float64).train()
    texts = draw_texts(head, model.config, labels=True)
    batch = {"padded": padded, "flat": flattened}[layout](texts)
    losses, gradients = [], []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            if reentrant:
                model.enable_input_require_grads()
            assert all(layer.gradient_checkpointing for layer in model.get_decoder().layers)
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert torch.allclose(*losses, rtol=0, atol=1e-12)
    assert gradients[0].keys() == gradients[1].keys() == {name for name, _ in model.named_parameters()}
    assert max(distance(gradients[1][name], gradients[0][name]) for name in gradients[0]) < 1e-10


@pytest.mark.parametrize("head", TRAINED_HEADS, ids=str)
def test_dropout_is_drawn_in_training_only(head):
    """Each kind alone changes what training sees, and none what evaluation sees."""
    kinds = ["hidden_dropout", "attention_dropout", "activation_dropout", "embedding_dropout"]
    if head.task in ("sequence", "tokens", "choice", "pretraining"):
        kinds.append("classifier_dropout")
    reference = make_model(head)
    texts = draw_texts(head, reference.config)
    batch = padded(texts)
    if head.task == "choice":
        batch = {name: value.unflatten(0, (2, 2)) for name, value in batch.items()}
    expected = main_outputs(reference(**batch))
    for kind in kinds:
        model = make_model(head, **{kind: 0.5})
        assert distance(main_outputs(model(**batch)), expected) == 0.0
        model.train()
        torch.manual_seed(0)
        first, second = main_outputs(model(**batch)), main_outputs(model(**batch))
        assert max(map(distance, first, second)) > 1e-3, kind
        assert distance(main_outputs(model.eval()(**batch)), expected) == 0.0


@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_dropout_of_flattened_batches(head):
    """Our own backend drops attention probabilities too, and averages to what it gives without."""
    model = make_model(head, attention_dropout=0.3, num_hidden_layers=1).train()
    batch = flattened(draw_texts(head, model.config))
    torch.manual_seed(0)
    assert distance(model(**batch).logits, model(**batch).logits) > 1e-3
