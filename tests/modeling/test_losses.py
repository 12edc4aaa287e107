"""Losses against plain references: logits, then `F.cross_entropy`; and the chunks that do without logits."""

import pytest
import torch
from torch.nn import functional as F

from tests.families import LM_HEADS, TRAINED_HEADS, distance, draw_texts, flattened, make_model, padded
from trivium.configuration.errors import InputError
from trivium.modeling import losses
from trivium.modeling.losses import LinearCrossEntropy

HEAD_VARIANTS = ["plain", "transform", "softcaps", "bert"]
CHOICES = 2
ONE = torch.tensor(1)


def labelled(head, model, layout=padded) -> dict:
    """A padded or flattened batch with labels; two questions of two choices where a head chooses."""
    batch = layout(draw_texts(head, model.config, labels=True))
    if head.task == "choice":
        batch = {name: value.unflatten(0, (-1, CHOICES)) for name, value in batch.items()}
        batch["labels"] = torch.tensor([0, 1])
    return batch


def reference_loss(head, model, output, batch) -> torch.Tensor:
    """From logits alone, as a textbook has it."""
    labels = batch.get("labels")
    if head.task == "answer":
        padding = batch["attention_mask"] == 0
        logits = [output[f"{end}_logits"].masked_fill(padding, -1e30) for end in ("start", "end")]
        return (
            sum(F.cross_entropy(x, batch[f"{end}_positions"]) for x, end in zip(logits, ("start", "end"), strict=True))
            / 2
        )
    if head.task == "pretraining":
        sentences = F.cross_entropy(output.seq_relationship_logits, batch["next_sentence_label"])
        return F.cross_entropy(output.prediction_logits.flatten(0, 1), labels.flatten()) + sentences
    logits = output.logits
    if str(head) == "decoder-lm":
        logits, labels = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten())


@pytest.mark.parametrize("num_labels", [2, 5])
@pytest.mark.parametrize("head", TRAINED_HEADS, ids=str)
def test_loss_is_the_reference(head, num_labels):
    model = make_model(head, dtype=torch.float64, num_labels=num_labels)
    batch = labelled(head, model)
    output = model(**batch)
    assert output.loss.item() == pytest.approx(reference_loss(head, model, output, batch).item(), abs=1e-10)
    doubled = model(**batch, num_items_in_batch=1).loss
    assert doubled > 1.5 * output.loss, "the sum is divided by what the caller says"


SEQUENCE_HEADS = [head for head in TRAINED_HEADS if head.task == "sequence"]


@pytest.mark.parametrize("problem", ["regression", "many regressions", "multi-label"])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("head", SEQUENCE_HEADS, ids=str)
def test_regression_and_multi_label(head, problem, declared):
    classes = 1 if problem == "regression" else 3
    kind = "multi_label_classification" if problem == "multi-label" else "regression"
    if problem == "many regressions" and not declared:
        pytest.skip("several numbers cannot be told from several labels")
    model = make_model(head, dtype=torch.float64, num_labels=classes)
    model.config.problem_type = kind if declared else None
    batch = padded(draw_texts(head, model.config))
    labels = torch.rand(4, classes).round() if problem == "multi-label" else torch.randn(4, classes)
    labels = labels.squeeze(1) if classes == 1 else labels
    output = model(**batch, labels=labels)
    wanted = labels.double().view_as(output.logits)
    reference = F.mse_loss if kind == "regression" else F.binary_cross_entropy_with_logits
    assert output.loss.item() == pytest.approx(reference(output.logits, wanted).item(), abs=1e-10)
    divided = model(**batch, labels=labels, num_items_in_batch=torch.tensor(4 * classes)).loss
    assert divided.item() == pytest.approx(output.loss.item(), abs=1e-10)


@pytest.mark.parametrize("layout", [padded, flattened])
@pytest.mark.parametrize("head", TRAINED_HEADS, ids=str)
def test_a_batch_without_labels_costs_nothing(head, layout):
    if head.task == "choice" or (layout is flattened and head.task == "pretraining"):
        pytest.skip("always has labels")
    model = make_model(head).train()
    batch = labelled(head, model, layout)
    for name in ("labels", "start_positions", "end_positions"):
        if name in batch:
            batch[name] = torch.full_like(batch[name], -100)
    batch.pop("next_sentence_label", None)
    for items in ({}, {"num_items_in_batch": torch.tensor(0)}):
        model.zero_grad()
        loss = model(**batch, **items).loss
        loss.backward()
        assert loss.item() == 0.0
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("layout", [padded, flattened])
@pytest.mark.parametrize("variant", HEAD_VARIANTS)
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_chunks_change_nothing(head, variant, layout, wrapped, monkeypatch):
    """With the product fused into the loss, and with a head whose own forward must be called."""
    model = make_model(head, variant, torch.float64).train()
    if wrapped:
        model.lm_head.register_forward_hook(lambda *_: None)
    batch = layout(draw_texts(head, model.config, (9, 5, 12, 7), labels=True))
    whole = model(**batch, return_logits=True)
    expected = torch.autograd.grad(whole.loss, list(model.parameters()))
    reference = F.cross_entropy(*aligned(head, whole.logits, batch))
    assert whole.loss.item() == pytest.approx(reference.item(), abs=1e-10)
    calls = []
    monkeypatch.setattr(losses, "chunk_rows", lambda vocabulary: 3)
    apply = LinearCrossEntropy.apply
    monkeypatch.setattr(LinearCrossEntropy, "apply", lambda *given: calls.append(given) or apply(*given))
    output = model(**batch)
    assert bool(calls) is not wrapped
    assert output.logits is None
    assert output.loss.item() == pytest.approx(whole.loss.item(), abs=1e-10)
    found = torch.autograd.grad(output.loss, list(model.parameters()))
    assert distance(found, expected) < 1e-10


def aligned(head, logits, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and the labels that they predict, in one row each."""
    labels = batch["labels"].clone()
    if str(head) == "decoder-lm":
        if "position_ids" in batch:
            labels[batch["position_ids"] == 0] = -100
        logits, labels = logits[:, :-1], labels[:, 1:]
    return logits.flatten(0, 1), labels.flatten()


@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_when_there_are_logits(head):
    model = make_model(head)
    batch = padded(draw_texts(head, model.config, labels=True))
    unlabelled = {name: value for name, value in batch.items() if name != "labels"}
    assert model(**batch).logits is not None, "in evaluation"
    model.train()
    assert model(**batch).logits is None, "in training nobody reads them"
    assert model(**unlabelled).logits is not None and model(**unlabelled).loss is None
    for answer in (True, False):
        output = model(**batch, return_logits=answer)
        assert (output.logits is not None) is answer
        assert output.loss.item() == pytest.approx(model(**batch).loss.item(), rel=1e-6)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("biased", [True, False])
def test_gradient_of_the_fused_loss(biased, scale, softcap, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(losses, "CACHED", 10)  # two rows of five words at once
    monkeypatch.setattr(losses, "WORDS", 2)
    labels, items = torch.tensor([0, 4, -100, 2, 1]), torch.tensor(3)
    hidden, weight = (torch.randn(5, size, dtype=torch.float64, requires_grad=True) for size in (3, 3))
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True) if biased else None
    for rows in (1, 2, 5, 9):
        rest = (labels, items, scale, softcap, rows)
        fused = lambda h, w, b, rest=rest: LinearCrossEntropy.apply(h, w, b, *rest)  # noqa: E731
        logits = F.linear(hidden, weight, bias) * scale
        logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
        expected = F.cross_entropy(logits, labels, reduction="sum") / 3
        assert fused(hidden, weight, bias).item() == pytest.approx(expected.item(), abs=1e-12)
        assert torch.autograd.gradcheck(fused, (hidden, weight, bias))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_loss_in_bfloat16(dtype, autocast):
    """As near the exact loss as logits in bfloat16 are; gradients come in the dtype of what they belong to."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(40, 16, dtype=dtype), torch.randn(64, 16, dtype=dtype) / 4
    hidden.requires_grad_(), weight.requires_grad_()
    labels = torch.randint(0, 64, (40,))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        total = LinearCrossEntropy.apply(hidden, weight, None, labels, ONE, 1.0, None, 7)
    assert total.dtype == torch.float32
    exact_inputs = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    exact = F.cross_entropy(F.linear(*exact_inputs), labels, reduction="sum")
    narrow = autocast or dtype == torch.bfloat16
    assert total.item() == pytest.approx(exact.item(), rel=1e-2 if narrow else 1e-6)
    found, expected = torch.autograd.grad(total, (hidden, weight)), torch.autograd.grad(exact, exact_inputs)
    assert all(gradient.dtype == dtype for gradient in found)
    assert distance(found, expected) < (3e-2 if narrow else 1e-6)


@pytest.mark.parametrize("gap", [0.0, 1e-3, 8.0, 60.0, 75.0, 86.0, 88.0, 100.0, 1000.0])
def test_the_fused_loss_is_right_where_probabilities_vanish(gap):
    """Behind the most likely word by `gap`, also where `exp(-gap)` is no number of float32."""
    hidden, labels = torch.tensor([[gap], [0.5]], requires_grad=True), torch.tensor([1, 2])
    weight = torch.randn(20, 1).clamp(-1, 0.5)
    weight[:2, 0] = torch.tensor([1.0, 0.0])
    loss = LinearCrossEntropy.apply(hidden, weight, None, labels, ONE, 1.0, None, 8)
    (gradient,) = torch.autograd.grad(loss, hidden)
    wide = hidden.double().detach().requires_grad_()
    reference = F.cross_entropy(wide @ weight.double().t(), labels, reduction="sum")
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
    assert distance(gradient, torch.autograd.grad(reference, wide)[0]) < 1e-6


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_the_fused_loss_goes_backward_twice(factor):
    """What it keeps is what it gives: neither sums of gradients nor what is done to them may reach it."""
    hidden, weight = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    loss = LinearCrossEntropy.apply(hidden, weight, None, torch.tensor([0, 1, 2, 3]), ONE, 1.0, None, 2) * factor
    expected = [x.clone() for x in torch.autograd.grad(loss, (hidden, weight), retain_graph=True)]
    for times in (1, 2, 3):
        loss.backward(retain_graph=True)
        assert distance([hidden.grad, weight.grad], [times * x for x in expected]) < 1e-6
    hidden.grad.zero_(), weight.grad.zero_()
    loss.backward()
    assert distance([hidden.grad, weight.grad], expected) < 1e-6


def test_the_fused_loss_has_no_second_derivative():
    hidden, weight, labels = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3), torch.tensor([0, 1, 2, 3])
    total = LinearCrossEntropy.apply(hidden, weight, None, labels, ONE, 1.0, None, 2)
    with pytest.raises(InputError, match="no second derivative: compute it from the logits"):
        torch.autograd.grad(total, hidden, create_graph=True)


@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_gradients_by_torch_func(head, monkeypatch):
    monkeypatch.setattr(losses, "chunk_rows", lambda vocabulary: 3)
    model = make_model(head, dtype=torch.float64).train()
    batch = padded(draw_texts(head, model.config, labels=True))
    weights = dict(model.named_parameters())
    expected = torch.autograd.grad(model(**batch).loss, list(weights.values()))
    found = torch.func.grad(lambda w: torch.func.functional_call(model, w, kwargs=batch).loss)(weights)
    assert distance([found[name] for name in weights], expected) < 1e-12
    read = model.get_input_embeddings()(batch.pop("input_ids")).detach().requires_grad_()
    expected = torch.autograd.grad(model(inputs_embeds=read, **batch).loss, read)
    found = torch.func.grad(lambda x: model(inputs_embeds=x, **batch).loss)(read.detach())
    assert distance([found], expected) < 1e-12


@torch.no_grad()
def test_the_fused_loss_without_gradients():
    hidden, weight, labels = torch.randn(4, 3), torch.randn(5, 3), torch.tensor([0, 1, 2, 3])
    total = LinearCrossEntropy.apply(hidden, weight, None, labels, ONE, 1.0, None, 2)
    assert torch.allclose(total, F.cross_entropy(hidden @ weight.T, labels, reduction="sum"))


@pytest.mark.parametrize("head", LM_HEADS, ids=str)
@pytest.mark.parametrize("chunked", [False, True])
def test_losses_of_half_precision_are_summed_in_float32(head, chunked, monkeypatch):
    model = make_model(head, dtype=torch.bfloat16).train()
    if chunked:
        monkeypatch.setattr(losses, "chunk_rows", lambda vocabulary: 2)
    batch = padded(draw_texts(head, model.config, labels=True))
    loss = model(**batch).loss
    exact = make_model(head).train()(**batch).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.03)
    loss.backward()
    assert all(p.grad.dtype == torch.bfloat16 for p in model.parameters())


@pytest.mark.parametrize("head", [head for head in TRAINED_HEADS if head.task == "answer"], ids=str)
@pytest.mark.parametrize("position", [-1, 4, 99])
def test_answers_outside_the_text_are_ignored(head, position):
    """Before it, in the padding after it, or beyond the batch: in every layout."""
    model = make_model(head, dtype=torch.float64)
    texts = draw_texts(head, model.config, labels=True)
    rest = texts[:2] + texts[3:]
    texts[2] |= dict.fromkeys(("start_positions", "end_positions"), torch.tensor(position))
    expected = model(**padded(rest)).loss.item()
    for layout in (padded, flattened):
        assert model(**layout(texts)).loss.item() == pytest.approx(expected, abs=1e-12)


def test_shifted_labels_are_taken_as_they_are():
    head = next(head for head in LM_HEADS if head.family == "decoder")
    model = make_model(head, dtype=torch.float64)
    batch = padded(draw_texts(head, model.config, labels=True))
    shifted = F.pad(batch["labels"], (0, 1), value=-100)[:, 1:]
    expected = model(**batch).loss.item()
    batch.pop("labels")
    assert model(**batch, labels=shifted, shift_labels=shifted).loss.item() == pytest.approx(expected, abs=1e-12)
    assert model(**batch, shift_labels=shifted).loss.item() == pytest.approx(expected, abs=1e-12)
