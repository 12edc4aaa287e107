import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, LlamaConfig

import trivium
from trivium.training.model_flops import count_work, model_flops, price_work, visible_pairs

SHAPE = dict(vocab_size=48, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)
SHAPE |= dict(intermediate_size=40, max_position_embeddings=64, pad_token_id=0, eos_token_id=1)
SLIDING = dict(sliding_window=2, layer_types=["sliding_attention", "sliding_attention", "full_attention"])
VARIANTS = {
    "plain": {},
    "sliding": SLIDING,
    "ungated with a transform": dict(gated_mlp=False, lm_head_transform=True, num_key_value_heads=4),
    "narrow heads": dict(head_dim=4),
}
MODELS = {
    "encoder": (trivium.TriviumEncoderConfig, trivium.TriviumEncoderForMaskedLM),
    "decoder": (trivium.TriviumDecoderConfig, trivium.TriviumDecoderForCausalLM),
    "encoder-decoder": (trivium.TriviumEncoderDecoderConfig, trivium.TriviumEncoderDecoderForConditionalGeneration),
}
LENGTHS = [7, 1, 12, 3]  # of the documents that a model reads first, and those that an encoder-decoder writes
WRITTEN = [2, 5, 1, 6]


def build(family, **fields):
    torch.manual_seed(0)
    config_class, model_class = MODELS[family]
    model = model_class(config_class(**SHAPE | fields))
    model.set_attn_implementation("eager")
    return model


def texts(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 48, (length,), generator=generator) for length in lengths]


def flattened(family):
    """Documents end to end, some tokens of which have labels."""
    source = texts(LENGTHS, 1)
    batch = {
        "input_ids": torch.cat(source)[None],
        "position_ids": torch.cat([torch.arange(len(text)) for text in source])[None],
    }
    batch["labels"] = torch.where(batch["input_ids"] % 3 == 0, -100, batch["input_ids"])
    if family == "encoder-decoder":
        written = texts(WRITTEN, 2)
        batch["labels"] = torch.cat(written)[None]
        batch["decoder_position_ids"] = torch.cat([torch.arange(len(text)) for text in written])[None]
    return batch


def padded(family, side="right"):
    """The same documents, one a row."""

    def pad(rows, value):
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)

    flat = flattened(family)
    source = flat["input_ids"][0].split(LENGTHS)
    batch = {"input_ids": pad(source, 0), "attention_mask": pad([torch.ones_like(text) for text in source], 0)}
    if family == "encoder-decoder":
        written = flat["labels"][0].split(WRITTEN)
        batch["labels"] = pad(written, -100)
        batch["decoder_attention_mask"] = pad([torch.ones_like(text) for text in written], 0)
        batch["decoder_input_ids"] = batch["labels"].clamp(min=0)
    else:
        batch["labels"] = pad(flat["labels"][0].split(LENGTHS), -100)
    return batch


def attention_by_hand(config, lengths, is_causal):
    """Products of a forward and a backward pass over every pair that is visible."""
    pairs = 0
    for kind, length in itertools.product(config.layer_types, lengths):
        for query, key in itertools.product(range(length), repeat=2):
            near = True
            if kind == "sliding_attention":
                near = abs(query - key) < config.sliding_window + (not is_causal)
            pairs += near and not (is_causal and key > query)
    return 3 * 2 * 2 * config.num_attention_heads * config.head_dim * pairs


def price_loss(hidden, weight, *_, **__):
    """Of the fused loss, which the counter cannot look into: logits, and the gradients of both, given their shapes."""
    return 3 * 2 * hidden[0] * weight[0] * weight[1]


def count(model, batch):
    """The products that are computed: of weights, and of attention."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.trivium.linear_cross_entropy: price_loss}) as counter:
        model(**batch).loss.backward()
    counts = counter.get_flop_counts()["Global"]
    attention = counts.pop(torch.ops.aten.bmm, 0)
    return sum(counts.values()), attention


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("family", list(MODELS))
def test_the_count_is_what_is_computed_with_attention_where_it_is_visible(family, variant):
    model, batch = build(family, **VARIANTS[variant]), flattened(family)
    weights, _ = count(model, batch)
    attention = 0
    if family != "decoder":
        stack = getattr(model.config, "encoder", model.config)
        attention += attention_by_hand(stack, LENGTHS, is_causal=False)
    if family != "encoder":
        stack = getattr(model.config, "decoder", model.config)
        attention += attention_by_hand(stack, LENGTHS if family == "decoder" else WRITTEN, is_causal=True)
    if family == "encoder-decoder":
        pairs = sum(read * written for read, written in zip(LENGTHS, WRITTEN, strict=True))
        attention += 3 * 3 * 2 * 2 * stack.num_attention_heads * stack.head_dim * pairs
    assert attention > 0 and weights > 0
    assert model_flops(model, batch) == weights + attention


def test_where_every_token_sees_every_other_all_that_is_computed_counts():
    model = build("encoder")
    ids = torch.randint(2, 48, (3, 10))
    batch = {"input_ids": ids, "labels": ids}
    assert model_flops(model, batch) == sum(count(model, batch)) > 1e6


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("variant", ["plain", "sliding"])
@pytest.mark.parametrize("family", list(MODELS))
def test_a_padded_batch_asks_as_much_as_the_flattened_one(family, variant, side):
    model, batch = build(family, **VARIANTS[variant]), padded(family, side)
    assert model_flops(model, batch) == model_flops(model, flattened(family))
    work = count_work(model.config, batch)
    sizes = LENGTHS + (WRITTEN if family == "encoder-decoder" else [])
    assert work["tokens"] == sum(sizes)
    assert work["positions"] == sum(batch[name].numel() for name in batch if name.endswith("input_ids"))
    # Without the masks the padding token tells, for which labels say nothing.
    told = {name: value for name, value in batch.items() if not name.endswith("_mask")}
    if family != "encoder-decoder" and side == "right":
        assert model_flops(model, told) == model_flops(model, batch)


def test_a_document_of_padding_at_the_end_counts_as_good_as_nothing():
    model, batch = build("decoder"), flattened("decoder")
    filled = {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 9)),
        "position_ids": torch.cat([batch["position_ids"], torch.arange(9)[None]], dim=1),
        "labels": torch.nn.functional.pad(batch["labels"], (0, 9), value=-100),
    }
    work = count_work(model.config, filled)
    assert work["tokens"] == sum(LENGTHS) + 1 and work["positions"] == sum(LENGTHS) + 9
    assert model_flops(model, filled) == pytest.approx(model_flops(model, batch), rel=0.05)


def test_a_padding_token_that_also_ends_texts_is_no_padding():
    config = trivium.TriviumDecoderConfig(**SHAPE | dict(eos_token_id=0))
    assert count_work(config, {"input_ids": torch.tensor([[5, 0, 7, 0]])})["tokens"] == 4


def test_the_decoder_reads_its_shifted_labels_where_it_is_given_nothing():
    model, batch = build("encoder-decoder"), flattened("encoder-decoder")
    starts = batch["decoder_position_ids"] == 0
    shifted = torch.where(starts, 0, batch["labels"].roll(1, dims=-1))  # begins with the padding token, as T5 does
    assert model_flops(model, batch | {"decoder_input_ids": shifted}) == model_flops(model, batch)


def test_labels_that_are_shifted_already_all_count():
    model, batch = build("decoder"), flattened("decoder")
    labels = batch.pop("labels")
    work = count_work(model.config, batch | {"labels": labels, "shift_labels": labels})
    assert work["labels"] == (labels != -100).sum() > count_work(model.config, batch | {"labels": labels})["labels"]


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("window", [None, 1, 3, 100])
def test_visible_pairs_by_hand(is_causal, window):
    expected = []
    for length in range(12):
        pairs = itertools.product(range(length), repeat=2)
        reach = 1000 if window is None else window - is_causal
        expected.append(sum(abs(q - k) <= reach and not (is_causal and k > q) for q, k in pairs))
    assert visible_pairs(torch.arange(12), is_causal, window).tolist() == expected


@pytest.mark.parametrize("config", [LlamaConfig(), BertConfig()])
def test_of_other_models_only_the_tokens_are_counted(config):
    batch = {"input_ids": torch.tensor([[3, 4, 5]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    assert price_work(config) == {}
    work = count_work(config, batch)
    assert work["tokens"] == 2 and work["positions"] == 3
