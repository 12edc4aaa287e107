"""Cached == uncached, step by step, for every cache that transformers has and every variant."""

import copy

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache
from transformers.cache_utils import DynamicLayer

from tests.families import LM_HEADS, VARIANTS, distance, draw_texts, make_config, make_model, padded, randomize
from trivium.modeling import TriviumDecoderForCausalLM
from trivium.modeling.cache import ROOM, GrowingLayer

DECODER = next(head for head in LM_HEADS if head.family == "decoder")
ENCODER_DECODER = next(head for head in LM_HEADS if head.family == "encoder_decoder")
STEPS, SOURCE = 12, 6  # beyond every window


def causal_case(variant: str, **changes):
    """A model, its ids, a function that runs it on ids with a cache, and the configuration of what is cached."""
    model = make_model(DECODER, variant, torch.float64, **changes)
    ids = torch.randint(3, 90, (2, STEPS), generator=torch.Generator().manual_seed(1))
    return model, ids, lambda ids, **kwargs: model(ids, **kwargs), model.config


def cross_attending_case(variant: str, **changes):
    config = make_config("decoder", variant, add_cross_attention=True, **changes)
    model = TriviumDecoderForCausalLM(config)
    randomize(model)
    model = model.double().eval()
    states = torch.randn(2, SOURCE, config.hidden_size, dtype=torch.float64)
    mask = torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
    ids = torch.randint(3, 90, (2, STEPS))
    return (
        model,
        ids,
        lambda ids, **kwargs: model(ids, encoder_hidden_states=states, encoder_attention_mask=mask, **kwargs),
        config,
    )


def seq2seq_case(variant: str, **changes):
    model = make_model(ENCODER_DECODER, variant, torch.float64, **changes)
    source = padded(draw_texts(DECODER, model.config.encoder, lengths=(SOURCE, 3)))
    encoded = model.get_encoder()(**source)
    ids = torch.randint(3, 90, (2, STEPS))
    return (
        model,
        ids,
        lambda ids, **kwargs: model(
            decoder_input_ids=ids, encoder_outputs=encoded, attention_mask=source["attention_mask"], **kwargs
        ),
        model.config.decoder,
    )


FAMILIES = {"decoder": causal_case, "cross-attending": cross_attending_case, "encoder-decoder": seq2seq_case}
CASES = [(family, variant) for family in FAMILIES for variant in VARIANTS]


def make_cache(kind: str, config, family: str):
    if kind == "made by the model":
        return None
    if kind == "dynamic":
        own, other = DynamicCache(config=config), DynamicCache()
    else:
        own = StaticCache(config=config, max_cache_len=STEPS)
        whole = make_config("decoder", num_hidden_layers=config.num_hidden_layers)
        other = StaticCache(config=whole, max_cache_len=SOURCE)
    return own if family == "decoder" else EncoderDecoderCache(own, other)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["made by the model", "dynamic", "static"])
@pytest.mark.parametrize(("family", "variant"), CASES)
def test_cached_steps_equal_one_pass(family, variant, kind):
    """A prompt of 3, then tokens singly, then 2 and 3 at once, against one pass without a cache."""
    _, ids, run, config = FAMILIES[family](variant)
    whole = run(ids, use_cache=False)
    assert whole.past_key_values is None
    cache, done, pieces = make_cache(kind, config, family), 0, []
    for width in (3, 1, 1, 1, 2, 1, 3):
        positions = {} if family == "encoder-decoder" else {"position_ids": torch.arange(done, done + width)[None]}
        output = run(ids[:, done : done + width], past_key_values=cache, use_cache=True, **positions)
        cache, done = output.past_key_values, done + width
        pieces.append(output.logits)
    assert done == STEPS and cache.get_seq_length() == STEPS
    assert distance(torch.cat(pieces, 1), whole.logits) < 1e-10
    assert distance(run(ids[:, -1:], use_cache=False).logits, whole.logits[:, -1:]) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_steps_of_left_padded_texts(variant):
    """With a mask alone: positions are counted over the real tokens."""
    model = make_model(DECODER, variant, torch.float64)
    texts = draw_texts(DECODER, model.config, lengths=(9, 4, 6))
    batch = padded(texts, "left", pad_token=7)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    cache, pieces = None, []
    for start, end in ((0, 6), (6, 7), (7, 9)):
        output = model(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        pieces.append(output.logits)
    logits = torch.cat(pieces, 1)
    for row, text in zip(logits, texts, strict=True):
        alone = model(text["input_ids"][None]).logits[0]
        assert distance(row[-len(alone) :], alone) < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("variant", ["sliding", "all-sliding", "sliding-alibi"])
def test_sliding_layers_forget(variant):
    """A sliding layer keeps no more than its window, and what it forgot was not needed."""
    model = make_model(DECODER, variant, torch.float64)
    ids = torch.randint(3, 90, (1, 20))
    cache = model(ids[:, :1]).past_key_values
    for step in range(1, 20):
        output = model(ids[:, step : step + 1], past_key_values=cache)
    assert distance(output.logits, model(ids).logits[:, -1:]) < 1e-10
    for layer, kind in zip(cache.layers, model.config.layer_types, strict=True):
        held = layer.keys.shape[-2]
        assert held == 20 if kind == "full_attention" else held <= model.config.sliding_window


@pytest.mark.parametrize("head", [DECODER, ENCODER_DECODER], ids=str)
def test_training_on_labels_keeps_no_cache_unless_asked(head):
    """Behind labels nobody goes on writing; what is evaluated may be."""
    model = make_model(head)
    batch = padded(draw_texts(head, model.config, labels=True))

    def cached(training, **asked):
        return model.train(training)(**batch, **asked).past_key_values is not None

    assert model.config.use_cache and cached(False) and not cached(True)
    assert cached(True, use_cache=True) and not cached(False, use_cache=False)


@torch.no_grad()
def test_logits_to_keep():
    for head in (DECODER, ENCODER_DECODER):
        model = make_model(head)
        batch = padded(draw_texts(head, model.config))
        every = model(**batch).logits
        assert torch.equal(model(**batch, logits_to_keep=1).logits, every[:, -1:])
        assert torch.equal(model(**batch, logits_to_keep=torch.tensor([0, 2])).logits, every[:, [0, 2]])


def add(tokens: int, *layers, rows: int = 2, learns: bool = False, dtype=torch.float32) -> list[torch.Tensor]:
    """The same keys and values of so many tokens for all layers, which must then hold the same."""
    new = torch.randn(2, rows, 3, tokens, 4, requires_grad=learns, dtype=dtype).unbind()
    held = [layer.update(*new) for layer in layers]
    for keys, values in held:
        assert torch.equal(keys, held[0][0]) and torch.equal(values, held[0][1])
    return [*new, *(tensor for pair in held for tensor in pair)]


def test_a_written_token_copies_itself_alone():
    """Into room that is there; the layer of transformers moves with every token."""
    layer, theirs, places = GrowingLayer(), DynamicLayer(), set()
    for tokens in (5, *[1] * ROOM, 1, 3):
        add(tokens, layer, theirs)
        places.add(layer.keys.data_ptr())
    assert len(places) == 2 and layer.get_seq_length() == 5 + ROOM + 4


CHANGES = {
    "crop": lambda layer: layer.crop(-2),
    "beams": lambda layer: layer.reorder_cache(torch.tensor([1, 1])),
    "repeat": lambda layer: layer.batch_repeat_interleave(2),
    "select": lambda layer: layer.batch_select_indices(torch.tensor([1])),
    "one row": lambda layer: (setattr(layer, "keys", layer.keys[:1]), setattr(layer, "values", layer.values[:1])),
    "the last": lambda layer: (
        setattr(layer, "keys", layer.keys[..., 1:, :]),
        setattr(layer, "values", layer.values[..., 1:, :]),
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_a_growing_layer_holds_what_the_layer_of_transformers_holds(change):
    """Whatever is done to it between tokens, and a copy goes its own way."""
    layers = GrowingLayer(), DynamicLayer()
    add(4, *layers)
    for layer in layers:
        CHANGES[change](layer)
    rows = len(layers[0].keys)
    copies = copy.deepcopy(layers)
    before = copies[0].keys.clone()
    add(1, *layers, rows=rows)
    add(2, *layers, rows=rows)
    assert torch.equal(copies[0].keys, before)
    add(2, *copies, rows=rows)
    add(1, *layers, rows=rows)


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_a_growing_layer_takes_the_wider_precision(dtypes):
    """Where autocast ends, or begins, between two tokens."""
    layers = GrowingLayer(), DynamicLayer()
    for dtype in (*dtypes, *dtypes):
        add(2, *layers, dtype=dtype)
    assert layers[0].keys.dtype == layers[1].keys.dtype == torch.float32


def test_a_growing_layer_is_differentiated():
    """Through what was read at one token, after a further one was written."""
    layers, leaves, totals = (GrowingLayer(), DynamicLayer()), [], [0.0, 0.0]
    add(3, *layers)
    for _ in range(2):
        keys, values, *held = add(2, *layers, learns=True)
        leaves += [keys, values]
        totals = [total + (held[2 * i] * held[2 * i + 1]).sin().sum() for i, total in enumerate(totals)]
    assert all(map(torch.equal, *(torch.autograd.grad(total, leaves) for total in totals)))


def test_a_growing_layer_goes_on_after_inference_mode():
    layers = GrowingLayer(), DynamicLayer()
    with torch.inference_mode():
        add(3, *layers)
    with torch.no_grad():
        add(1, *layers)
        add(1, *layers)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["made by the model", "dynamic", "generate"])
def test_models_let_their_caches_grow(kind):
    model = make_model(DECODER, "sliding")
    ids = torch.randint(3, 90, (2, 5))
    if kind == "generate":
        cache = model.generate(ids, max_new_tokens=2, return_dict_in_generate=True).past_key_values
    else:
        cache = model(
            ids, past_key_values=None if kind[0] == "m" else DynamicCache(config=model.config)
        ).past_key_values
    assert [type(layer) is GrowingLayer for layer in cache.layers] == [True, False]
