"""A padded batch is read without its padding where that is faster, and says the same."""

import math

import pytest
import torch
from accelerate.utils import send_to_device
from transformers import DynamicCache, StaticCache

from tests.families import (
    CASES,
    HEADS,
    IGNORE,
    case_name,
    distance,
    draw_texts,
    make_model,
    padded,
    per_text,
    run_one_by_one,
)
from tests.modeling.test_documents import count_items, loss_and_gradients
from trivium.modeling import decoder, stack, unpadding
from trivium.modeling.documents import find_documents
from trivium.modeling.varlen import starting_cost

DECODER = next(head for head in HEADS if str(head) == "decoder-lm")
ENCODER = next(head for head in HEADS if str(head) == "encoder-lm")
SEQ2SEQ = next(head for head in HEADS if str(head) == "encoder_decoder-lm")


SOURCES, TARGETS = [5, 9, 1, 5], [3, 2, 6, 1]


def lengths_of(found) -> list:
    """Tokens of each text, side by side."""
    return [real and real.documents.lengths for real in found]


@pytest.fixture
def found(monkeypatch):
    """What the stacks found of real tokens, call by call and side by side; no batch is too small."""
    sides = []

    def find(*batch):
        found = unpadding.find_real_tokens(*batch)
        sides.extend(found or [None])
        return found

    monkeypatch.setattr(unpadding, "LEAST_SIZE", 0)
    for module in (stack, decoder):
        monkeypatch.setattr(module, "find_real_tokens", find)
    return sides


def without_unpadding(model):
    """The same model, told to keep to sdpa."""
    model.set_attn_implementation("sdpa")
    return model


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("head", "variant"), CASES, ids=case_name)
def test_a_padded_batch_says_the_same(head, variant, side, found):
    """As each text alone; its loss and gradients as those of the batch with its padding."""
    if side == "left" and head.reads_source_twice:
        pytest.skip("an encoder-decoder that makes its decoder's input wants padding on the right")
    no_cache = {"use_cache": False} if head.has_target else {}
    model = make_model(head, variant, torch.float64, **no_cache)
    texts = draw_texts(head, model.config)
    with torch.no_grad():
        said = per_text(head, model(**padded(texts, side)), texts, side)
    reads = [SOURCES]
    if head.family == "encoder_decoder" and head.has_base:
        reads += [TARGETS if head.has_target else SOURCES, SOURCES]
    assert lengths_of(found) == reads
    with torch.no_grad():
        assert distance(said, run_one_by_one(model, head, texts)) < 1e-10
    if head.task == "base" or (side == "left" and head.has_target):
        return
    texts = draw_texts(head, model.config, labels=True)
    batch, items = padded(texts, side), count_items(head, texts)
    loss, gradients = loss_and_gradients(model.train(), [batch], items)
    reads = len(found)
    plain, plain_gradients = loss_and_gradients(without_unpadding(model), [batch], items)
    assert any(found[:reads]) and not any(found[reads:])
    assert loss == pytest.approx(plain, abs=1e-10)
    assert distance(list(gradients.values()), [plain_gradients[name] for name in gradients]) < 1e-9


@pytest.mark.parametrize("given", [True, False], ids=["input", "no-input"])
@pytest.mark.parametrize("variant", ["plain", "sliding", "relative", "learned", "softcaps", "mixed-positions"])
def test_labels_tell_what_a_decoder_has_to_read(variant, given, found):
    """Seq2seq collators send no mask for it, and pad it behind the labels that they fill up with -100."""
    model = make_model(SEQ2SEQ, variant, torch.float64).train()
    texts = draw_texts(SEQ2SEQ, model.config, labels=True)
    texts[0]["labels"] = torch.tensor([IGNORE, 7, IGNORE])
    texts[1]["labels"][:] = IGNORE
    batch = padded(texts)
    del batch["decoder_attention_mask"]
    if not given:
        del batch["decoder_input_ids"]
    items = count_items(SEQ2SEQ, texts)
    loss, gradients = loss_and_gradients(model, [batch], items)
    assert lengths_of(found) == [SOURCES, [2, 1, 6, 1], SOURCES]
    plain, plain_gradients = loss_and_gradients(without_unpadding(model), [batch], items)
    assert loss == pytest.approx(plain, abs=1e-10)
    assert distance(list(gradients.values()), [plain_gradients[name] for name in gradients]) < 1e-9


@pytest.mark.parametrize(
    "change",
    {
        "no labels": {"labels": None, "decoder_input_ids": torch.ones(2, 4).long(), "return_logits": False},
        "a cache": {"use_cache": True},
        "a mask": {"decoder_attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1]])},
        "positions": {"decoder_position_ids": torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]])},
        "logits": {"return_logits": True},
    }.values(),
    ids=["no labels", "a cache", "a mask", "positions", "logits"],
)
def test_what_is_said_of_the_target_or_asked_of_it_counts(change, found):
    """Then no label takes a token away, while the source loses its padding all the same."""
    model = make_model(SEQ2SEQ, use_cache=False).train()
    labels = torch.tensor([[5, 6, 7, 8], [5, IGNORE, IGNORE, IGNORE]])
    model(**pad_rows((5, 1)) | {"labels": labels} | change)
    assert lengths_of(found) == [[5, 1], *([] if change.get("use_cache") else [[4, 4], [5, 1]])]


@torch.no_grad()
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("variant", ["plain", "sliding", "relative", "learned", "grouped"])
def test_a_prompt_fills_the_cache_where_its_tokens_lie(variant, kind, side, found):
    """What is written after it is what is written after the prompt with its padding."""
    model = make_model(DECODER, variant, torch.float64)
    batch = padded(draw_texts(DECODER, model.config, (6, 2, 4)), side)
    mask = batch["attention_mask"]
    steps, logits = torch.randint(3, 90, (3, 5)), []
    for read in (model, without_unpadding(make_model(DECODER, variant, torch.float64))):
        cache = DynamicCache(config=model.config) if kind == "dynamic" else StaticCache(model.config, max_cache_len=11)
        first = read(**batch, past_key_values=cache, use_cache=True).logits[mask.bool()]
        further = torch.cat((mask, torch.ones_like(steps)), -1)
        positions = mask.sum(-1, keepdim=True) + torch.arange(5)
        second = read(steps, attention_mask=further, position_ids=positions, past_key_values=cache, use_cache=True)
        logits.append([first, second.logits])
    assert found[0] is not None and not any(found[1:])
    assert distance(*logits) < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("cache", [None, "static"])
def test_generation_reads_the_prompt_without_its_padding(cache, found):
    model = make_model(DECODER, dtype=torch.float64)
    batch = padded(draw_texts(DECODER, model.config, (6, 2, 4)), "left")
    extra = {} if cache is None else dict(cache_implementation=cache, disable_compile=True)
    model.generate(**batch, max_new_tokens=3, min_new_tokens=3, pad_token_id=0, use_cache=True, **extra)
    assert [real is not None for real in found] == [True, False, False]


def pad_rows(texts) -> dict:
    return padded(draw_texts(ENCODER, make_model(ENCODER).config, texts))


def hook(model):
    model.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output: None)
    return model


@torch.no_grad()
@pytest.mark.parametrize(
    ("batch", "change"),
    {
        "no padding": (lambda: pad_rows((5, 5)), None),
        "little padding": (lambda: pad_rows((16, 16, 15)), None),
        "no text": (lambda: {"input_ids": torch.ones(2, 3).long(), "attention_mask": torch.zeros(2, 3).long()}, None),
        "holes": (lambda: {"input_ids": torch.ones(1, 4).long(), "attention_mask": torch.tensor([[1, 0, 1, 1]])}, None),
        "another attention": (lambda: pad_rows((5, 1)), without_unpadding),
        "hooks": (lambda: pad_rows((5, 1)), hook),
    }.values(),
    ids=["no padding", "little padding", "no text", "holes", "another attention", "hooks"],
)
def test_some_keep_their_padding(batch, change, found):
    model = make_model(ENCODER)
    (change or (lambda model: model))(model)(**batch())
    assert found == [None]


@torch.no_grad()
def test_what_a_cache_holds_is_read(found):
    """Also where the mask, wrongly, is of the new tokens alone."""
    model = make_model(DECODER)
    batch = padded(draw_texts(DECODER, model.config, (5, 2)))
    cache = model(**batch).past_key_values
    model(**batch, past_key_values=cache)
    assert found[0] is not None and found[1] is None


@torch.no_grad()
def test_a_small_batch_keeps_its_padding(found, monkeypatch):
    monkeypatch.setattr(unpadding, "LEAST_SIZE", 4 * 32 + 1)
    model = make_model(ENCODER)
    model(**pad_rows((5, 1)))
    model(**pad_rows((6, 1)))
    assert found[0] is None and found[1] is not None


@torch.no_grad()
@pytest.mark.parametrize(
    ("dtype", "variant", "least"), [("half", "relative", 2**13), ("half", "plain", 0), ("float", "relative", 0)]
)
def test_documents_that_are_read_one_by_one_must_save_more(dtype, variant, least, found):
    """In half precision on a CPU, where neither rectangles nor float32's slowness make up for it."""
    model = make_model(ENCODER, variant, torch.bfloat16 if dtype == "half" else torch.float32)
    lengths = (2, 5, 512, 513, 514)
    for longest in lengths:
        ids = torch.full((2, longest), 3)
        mask = torch.ones_like(ids)
        mask[0, 1:] = 0
        model(ids, attention_mask=mask)
    assert [one is not None for one in found] == [32 * (n - 1) >= 2 * least for n in lengths]


def test_where_no_kernel_takes_documents_nothing_makes_up_for_it():
    """Neither is there one on a device that nobody knows, nor does anything wait for it."""
    states = torch.empty(2, 3, 32, device="meta")
    assert starting_cost(make_model(ENCODER).config, states, training=False) == math.inf


@torch.no_grad()
def test_segments_and_positions_may_be_those_of_all_rows(found):
    """Of one row, as other models take them too."""
    model, batch = make_model(ENCODER, "bert", torch.float64), pad_rows((5, 1, 3))
    shared = {"token_type_ids": torch.tensor([[0, 0, 1, 1, 1]]), "position_ids": torch.tensor([[0, 2, 4, 6, 8]])}
    said = model(**batch | shared).logits
    plain = without_unpadding(model)(**batch | shared).logits
    real = batch["attention_mask"].bool()
    assert found[0] is not None and distance(said[real], plain[real]) < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("side", ["source", "target"])
def test_where_one_side_has_an_empty_row_both_keep_their_padding(side, found):
    model = make_model(SEQ2SEQ, dtype=torch.float64, use_cache=False)
    texts = draw_texts(SEQ2SEQ, model.config)
    batch = padded(texts)
    batch["attention_mask" if side == "source" else "decoder_attention_mask"][1] = 0
    said = model(**batch).logits
    assert found[1] is None
    (third,), (fourth,) = run_one_by_one(model, SEQ2SEQ, texts[2:])
    assert distance([said[2, :6], said[3, :1]], [third, fourth]) < 1e-10


@torch.no_grad()
def test_an_empty_row_is_left_alone(found):
    """A row without a token is no document, and what stands beside it does not change."""
    model, batch = make_model(ENCODER, dtype=torch.float64), pad_rows((5, 3, 4))
    batch["attention_mask"][1] = 0
    states = model.model(**batch).last_hidden_state
    alone = model.model(batch["input_ids"][2:, :4]).last_hidden_state
    assert found[0].documents.lengths == [5, 4]
    assert not states[1].any() and distance(states[2:, :4], alone) < 1e-10


@torch.no_grad()
def test_states_that_are_asked_for_have_rows(found):
    model, batch = make_model(ENCODER, dtype=torch.float64), pad_rows((5, 1, 3))
    said = model(**batch).logits
    output = model(**batch, output_hidden_states=True)
    assert {state.shape for state in output.hidden_states} == {(3, 5, 32)}
    real = batch["attention_mask"].bool()
    assert distance(output.logits[real], said[real]) < 1e-10
    assert found[0] is not None and found[1] is None


@torch.no_grad()
def test_a_compiler_sees_rows(found):
    torch.compiler.reset()
    model, batch = make_model(ENCODER, dtype=torch.float64), pad_rows((5, 1, 3))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(**batch).logits
    real = batch["attention_mask"].bool()
    assert distance(model(**batch).logits[real], compiled[real]) < 1e-10 and found[-1] is not None


def test_documents_move_to_where_blocks_are():
    """As Accelerate moves what a block is given; documents that are there already stay what they are."""
    documents = find_documents((1, 5), torch.tensor([[0, 1, 0, 1, 2]]))
    assert send_to_device((documents,), "cpu")[0] is documents
    (moved,) = send_to_device((documents,), "meta")
    assert {x.device.type for x in (moved.ids, moved.starts, moved.position_ids)} == {"meta"}
    assert moved.lengths == [2, 3]
