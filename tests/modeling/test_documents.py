"""Flattened batches: every way to say where documents lie, and nothing that passes from one document to another."""

import pytest
import torch

from tests.families import (
    CASES,
    TEXT_HEADS,
    TRAINED_HEADS,
    case_name,
    distance,
    draw_texts,
    flattened,
    make_config,
    make_model,
    one,
    padded,
    per_text,
    run_one_by_one,
)
from trivium.configuration import InputError
from trivium.modeling import TriviumDecoderForCausalLM, TriviumDecoderModel

EXACT = dict(rtol=0.0, atol=1e-10)
LOSS_HEADS = [head for head in TRAINED_HEADS if head.task != "choice"]


@torch.no_grad()
@pytest.mark.parametrize("lengths", ["cu_seq_lens", "both", "mask"])
@pytest.mark.parametrize("variant", ["plain", "sliding-relative", "learned"])
@pytest.mark.parametrize("head", TEXT_HEADS, ids=str)
def test_every_way_to_tell_documents_is_the_same(head, variant, lengths):
    model = make_model(head, variant)
    texts = draw_texts(head, model.config)
    flat = per_text(head, model(**flattened(texts, lengths)), texts, "flat")
    assert distance(flat, run_one_by_one(model, head, texts)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("lengths", ["position_ids", "cu_seq_lens"])
@pytest.mark.parametrize("variant", ["plain", "sliding-relative", "softcaps"])
@pytest.mark.parametrize("head", TEXT_HEADS, ids=str)
def test_rows_of_packed_documents(head, variant, lengths):
    """Two rows of equal length, each of several documents; a text never goes over the end of its row."""
    model = make_model(head, variant)
    texts = draw_texts(head, model.config, lengths=[5, 4, 3, 1, 11])
    if head.has_target:
        for text, size in zip(texts, (4, 2, 3, 8, 1), strict=True):
            text["decoder_input_ids"] = torch.randint(3, 90, (size,))
    batch = flattened(texts, lengths)
    batch = {
        name: value.view(2, -1) if value.ndim == 2 and not name.startswith("cu_seq") else value
        for name, value in batch.items()
    }
    output = model(**batch)
    for name in ("logits", "prediction_logits", "start_logits", "end_logits", "last_hidden_state"):
        if output.get(name) is not None and head.task not in ("sequence", "next"):
            output[name] = output[name].flatten(0, 1)[None]
    assert distance(per_text(head, output, texts, "flat"), run_one_by_one(model, head, texts)) < 1e-5


def embedded(model, batch: dict) -> tuple[dict, list[torch.Tensor]]:
    """The batch with embeddings, which can be differentiated, in place of ids."""
    batch, leaves = dict(batch), []
    for prefix in ("", "decoder_"):
        if f"{prefix}input_ids" in batch:
            embedding = model.get_decoder() if prefix else model
            embeds = embedding.get_input_embeddings()(batch.pop(f"{prefix}input_ids")).detach().requires_grad_()
            batch[f"{prefix}inputs_embeds"] = embeds
            leaves.append(embeds)
    return batch, leaves


@pytest.mark.parametrize(("head", "variant"), CASES, ids=case_name)
def test_a_document_leaves_all_others_unchanged(head, variant):
    """Outputs of the others do not move when one document changes, and their gradient at it is zero."""
    model = make_model(head, variant, torch.float64)
    if head.reads_source_twice:
        pytest.skip("makes its decoder's input from ids; what it reads is tested with the base model")
    texts = draw_texts(head, model.config)
    changed = 1
    other = [dict(text) for text in texts]
    other[changed] = draw_texts(head, model.config, seed=1)[changed]

    before = per_text(head, model(**flattened(texts)), texts, "flat")
    after = per_text(head, model(**flattened(other)), other, "flat")
    for number, (first, second) in enumerate(zip(before, after, strict=True)):
        assert (distance(first, second) < 1e-12) is (number != changed), number

    batch, leaves = embedded(model, flattened(texts))
    outputs = per_text(head, model(**batch), texts, "flat")
    for number in (0, changed, 3):
        total = sum(tensor.sin().sum() for tensor in outputs[number])
        grads = torch.autograd.grad(total, leaves, retain_graph=True)
        for name, grad in zip(("input_ids", "decoder_input_ids")[: len(grads)], grads, strict=True):
            pieces = grad[0].split([len(text[name]) for text in texts])
            for index, piece in enumerate(pieces):
                assert (piece.abs().max() > 0) == (index == number), (name, number, index)


def loss_and_gradients(model, batches: list[dict], items: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The summed loss of micro-batches that are divided by `items`, and the gradient of every parameter."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model(**batch, num_items_in_batch=torch.tensor(items)).loss
        loss.backward()
        total += loss.item()
    return total, {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }


def count_items(head, texts: list[dict]) -> int:
    """What `Trainer` would count: labels that are not -100 (shifted for a causal model), or texts."""
    if "labels" not in texts[0] or texts[0]["labels"].ndim == 0:
        return len(texts)
    first = 1 if str(head) == "decoder-lm" else 0
    return sum(int((text["labels"][first:] != -100).sum()) for text in texts)


GRADIENT_CASES = [(head, variant) for head, variant in CASES if head.task != "base"]
SHIFTS = ("qa_outputs.bias", "k_proj.bias")  # may move all that a softmax compares alike: then it is rounding


@pytest.mark.parametrize(("head", "variant"), GRADIENT_CASES, ids=case_name)
def test_loss_and_gradients_of_every_layout(head, variant):
    """In training mode, where language models compute no logits."""
    model = make_model(head, variant, torch.float64).train()
    texts = draw_texts(head, model.config, labels=True)
    items = count_items(head, texts)
    loss, gradients = loss_and_gradients(model, [one(text) for text in texts], items)
    assert set(gradients) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert loss > 0 and all(gradients[name].abs().max() > 0 for name in gradients if not name.endswith(SHIFTS))
    for name, batch in {"right": padded(texts), "left": padded(texts, "left"), "flat": flattened(texts)}.items():
        if name == "left" and head.has_target and "decoder_input_ids" not in batch:
            continue
        found, found_gradients = loss_and_gradients(model, [batch], items)
        assert found == pytest.approx(loss, abs=1e-10), name
        assert found_gradients.keys() == gradients.keys()
        worst = max((distance(found_gradients[key], gradients[key]), key) for key in gradients)
        assert worst[0] < 1e-9, (name, worst)


@pytest.mark.parametrize("variant", ["plain", "relative"])
def test_the_decoder_input_is_made_within_documents(variant):
    """An encoder-decoder that is given labels only shifts them inside each document."""
    head = next(head for head in LOSS_HEADS if str(head) == "encoder_decoder-lm")
    model = make_model(head, variant, torch.float64)
    texts = draw_texts(head, model.config, labels=True)
    for text in texts:
        del text["decoder_input_ids"]
    batch = flattened(texts)
    batch["decoder_position_ids"] = torch.cat([torch.arange(len(text["labels"])) for text in texts])[None]
    alone = torch.cat([model(**one(text)).logits[0] for text in texts])
    torch.testing.assert_close(model(**batch).logits[0], alone, **EXACT)
    torch.testing.assert_close(model(**padded(texts)).loss, model(**batch).loss, **EXACT)


@pytest.mark.parametrize("backend", ["default", "eager"])
def test_a_decoder_that_attends_to_flattened_states(backend):
    """Cross-attention of the stand-alone decoder: document i sees document i of the states."""
    config = make_config("decoder", add_cross_attention=True, cross_attention_hidden_size=16)
    torch.manual_seed(0)
    model = TriviumDecoderForCausalLM(config).double().eval()
    if backend != "default":
        model.set_attn_implementation(backend)
    sizes, sources = (4, 1, 6), (2, 5, 3)
    ids = [torch.randint(0, 96, (size,)) for size in sizes]
    states = [torch.randn(size, 16, dtype=torch.float64) for size in sources]
    alone = torch.cat(
        [model(i[None], encoder_hidden_states=s[None]).logits[0] for i, s in zip(ids, states, strict=True)]
    )
    flat = model(
        torch.cat(ids)[None],
        position_ids=torch.cat([torch.arange(n) for n in sizes])[None],
        encoder_hidden_states=torch.cat(states)[None],
        encoder_position_ids=torch.cat([torch.arange(n) for n in sources])[None],
    ).logits[0]
    torch.testing.assert_close(flat, alone, **EXACT)
    lengths = {"q": sizes, "k": sources}
    lengths = {f"cu_seq_lens_{k}": torch.tensor([0, *v]).cumsum(0).int() for k, v in lengths.items()}
    flat = model(torch.cat(ids)[None], encoder_hidden_states=torch.cat(states)[None], **lengths).logits[0]
    torch.testing.assert_close(flat, alone, **EXACT)


@torch.no_grad()
def test_a_flattened_batch_fills_no_cache():
    config = make_config("decoder")
    model = TriviumDecoderModel(config).eval()
    batch = dict(input_ids=torch.arange(8)[None], position_ids=torch.tensor([[0, 1, 2, 0, 1, 0, 1, 2]]))
    assert config.use_cache and model(**batch).past_key_values is None
    assert model(batch["input_ids"]).past_key_values is not None
    assert model(**batch, use_cache=True).past_key_values is None


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "batch", "words"),
    [
        ("decoder", dict(cu_seq_lens_q=torch.tensor([0, 3, 7])), "must run from 0 to 8"),
        ("encoder", dict(cu_seq_lens_q=torch.tensor([1, 3, 8])), "must run from 0 to 8"),
        (
            "decoder",
            dict(cu_seq_lens_q=torch.tensor([0, 8]), attention_mask=torch.tensor([[0] + [1] * 7])),
            "without padding",
        ),
        (
            "encoder_decoder",
            dict(
                decoder_input_ids=torch.ones(1, 4, dtype=torch.long),
                position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]]),
            ),
            "the encoder's batch is flattened but the decoder's is not",
        ),
        (
            "encoder_decoder",
            dict(
                decoder_input_ids=torch.ones(1, 4, dtype=torch.long),
                position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]]),
                decoder_position_ids=torch.tensor([[0, 0, 0, 1]]),
            ),
            "numbers must be equal",
        ),
    ],
)
def test_what_cannot_be_a_flattened_batch_is_refused(family, batch, words):
    head = next(head for head in TEXT_HEADS if str(head) == f"{family}-base")
    with pytest.raises(InputError, match=words):
        make_model(head)(torch.ones(1, 8, dtype=torch.long), **batch)
