import itertools

import numpy as np
import pytest
import torch

from trivium.configuration import InputError, TriviumDecoderConfig, TriviumEncoderDecoderConfig
from trivium.modeling import TriviumDecoderForCausalLM, TriviumEncoderDecoderForConditionalGeneration
from trivium.training.objectives.prefix_lm import (
    DecoderPrefixLMCollator,
    EncoderDecoderPrefixLMCollator,
    draw_prefixes,
    make_room,
)

TINY = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=128)
ROWS = [(40, 1, 20, 3), (64,), (1, 62, 1), (2, 3, 2, 57), (30, 34), (63, 1), (*(1,) * 20, 44)]


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers["encoder-decoder"]


@pytest.fixture(scope="module")
def collator(tokenizer):
    return EncoderDecoderPrefixLMCollator(tokenizer)


def row(tokenizer, lengths, index=0, cut=False):
    """Documents of tokens that occur once and </s>, which the last one lacks if it is cut."""
    ids = 110 + np.random.default_rng(index).permutation(400)[: sum(lengths)]
    ends = np.cumsum(lengths) - 1
    ids[ends[:-1] if cut else ends] = tokenizer.eos_token_id
    positions = np.concatenate([np.arange(length) for length in lengths])
    return {"input_ids": ids, "position_ids": positions, "place": (0, index)}


def split(ids, positions):
    return np.split(np.ravel(ids), np.flatnonzero(np.ravel(positions) == 0)[1:])


@pytest.mark.parametrize("lengths", ROWS, ids=str)
@pytest.mark.parametrize("cut", [True, False])
def test_an_encoder_reads_the_beginning_and_a_decoder_writes_the_rest(tokenizer, collator, lengths, cut):
    eos = tokenizer.eos_token_id
    for index in range(5):
        feature = row(tokenizer, lengths, index, cut)
        documents = np.cumsum(feature["position_ids"] == 0)
        place = {token: (documents[at], at) for at, token in enumerate(feature["input_ids"]) if token != eos}
        batch = collator([feature])
        sources = split(batch["input_ids"], batch["position_ids"])
        targets = split(batch["labels"], batch["decoder_position_ids"])
        given = split(batch["decoder_input_ids"], batch["decoder_position_ids"])
        assert sum(map(len, sources)) == sum(map(len, targets)) == 32
        assert len(sources) == len(targets) == len(given) == len(lengths) + (max(lengths) > 32)
        kept = []
        for source, target, start in zip(sources, targets, given, strict=True):
            assert source[-1] == eos and start.tolist() == [tokenizer.pad_token_id, *target[:-1]]
            text = [place[token] for token in (*source[:-1], *target[: len(target) - (target[-1] == eos)])]
            assert not text or text == [(text[0][0], text[0][1] + n) for n in range(len(text))], "of one document"
            kept += text
        assert kept == sorted(kept)
        assert sum(target[-1] == eos for target in targets) == len(lengths) - cut
        singles = lengths.count(1)
        assert len(kept) >= 64 - (len(lengths) - cut) - len(sources) - singles


def test_rows_of_every_kind_make_batches_of_one_size(tokenizer, collator):
    for rows in (ROWS[:3], ROWS[3:6], ROWS[:1] * 3):
        batch = collator([row(tokenizer, lengths, index) for index, lengths in enumerate(rows)])
        assert {tuple(tensor.shape) for tensor in batch.values()} == {(1, 96)}
        assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_every_choice_of_prefixes_that_has_the_sum_is_as_likely():
    for sizes in ([5, 5], [2, 6, 3], [7], [4, 3, 4], [2, 2, 2]):
        bounds = (range(1, size) for size in sizes)
        expected = [choice for choice in itertools.product(*bounds) if sum(choice) == sum(sizes) // 2]
        generator = np.random.default_rng(0)
        drawn = [tuple(draw_prefixes(np.array(sizes), generator)) for _ in range(1000 * len(expected))]
        assert set(drawn) == set(expected)
        assert all(abs(drawn.count(choice) - 1000) < 150 for choice in expected)


def test_one_long_document_is_split_at_many_places(tokenizer, collator):
    feature, lengths = row(tokenizer, (64,)), []
    for index in range(1000):
        batch = collator([{**feature, "place": (0, index)}])
        lengths += [len(source) for source in split(batch["input_ids"], batch["position_ids"])]
    assert min(lengths) == 1 and max(lengths) == 31
    assert np.bincount(np.array(lengths) // 8).min() > 300


def test_the_longest_make_room_for_single_tokens():
    assert make_room(np.array([1, 9, 1, 5])).tolist() == [2, 7, 2, 5]
    assert make_room(np.array([4, 4])).tolist() == [4, 4]
    with pytest.raises(InputError, match="a row of 3 tokens holds 2 pieces"):
        make_room(np.array([1, 2]))


@pytest.mark.parametrize("lengths", ROWS, ids=str)
def test_a_decoder_is_asked_for_the_rest_of_each_document_only(tokenizer, lengths):
    features = [row(tokenizer, lengths, index) for index in range(4)]
    batch = DecoderPrefixLMCollator()(features)
    for index, feature in enumerate(features):
        assert batch["input_ids"][index].tolist() == feature["input_ids"].tolist()
        assert batch["position_ids"][index].tolist() == feature["position_ids"].tolist()
        labels = split(batch["labels"][index], feature["position_ids"])
        for asked, document in zip(labels, split(feature["input_ids"], feature["position_ids"]), strict=True):
            prefix = (asked == -100).sum()
            assert prefix >= 1 and (prefix < len(document) or len(document) == 1)
            assert asked.tolist() == [-100] * prefix + document[prefix:].tolist()


def test_a_decoders_cuts_are_uniform(tokenizer):
    feature = row(tokenizer, (11,))
    rows = [{**feature, "place": (0, index)} for index in range(3000)]
    prefixes = (DecoderPrefixLMCollator()(rows)["labels"] == -100).sum(-1).numpy()
    counts = np.bincount(prefixes, minlength=11)
    assert counts[0] == 0 and np.abs(counts[1:] / 3000 - 0.1).max() < 0.02


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_choices_depend_on_the_place_and_the_seed_only(tokenizer, family):
    def made(features, seed=0):
        if family == "decoder":
            return DecoderPrefixLMCollator(seed)(features)["labels"].reshape(1, -1)
        return EncoderDecoderPrefixLMCollator(tokenizer, seed=seed)(features)["labels"]

    features = [row(tokenizer, ROWS[index], index) for index in range(5)]
    together = made(features)
    assert torch.equal(together, torch.cat([made([feature]) for feature in features], dim=1))
    assert not torch.equal(together, made(features, seed=1))
    assert not torch.equal(together, made([{**feature, "place": (1, feature["place"][1])} for feature in features]))


def test_without_place_and_positions_a_row_is_one_document(tokenizer, collator):
    features = [{"input_ids": list(range(110, 130))}, {"input_ids": torch.arange(110, 117)}]
    batch = collator(features)
    assert batch["input_ids"].shape == (1, 13) and batch["labels"].shape == (1, 14)
    labels = DecoderPrefixLMCollator()(features)["labels"]
    assert labels.shape == (1, 27) and (labels[0, [0, 20]] == -100).all() and (labels[0, [19, 26]] != -100).all()


def test_bad_settings(tokenizers, tokenizer):
    tokenizer_without = tokenizers["encoder"]
    with pytest.raises(InputError, match="needs a tokenizer with an end of sequence"):
        EncoderDecoderPrefixLMCollator(tokenizer_without)
    start = EncoderDecoderPrefixLMCollator(tokenizer, decoder_start_token_id=7)([row(tokenizer, (20,))])
    assert start["decoder_input_ids"][0, 0] == 7


def train(model, batch):
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for _ in range(30):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_thirty_steps_teach_a_decoder_the_rest(tokenizer):
    torch.manual_seed(0)
    model = TriviumDecoderForCausalLM(TriviumDecoderConfig(vocab_size=len(tokenizer), **TINY))
    losses = train(model, DecoderPrefixLMCollator()([row(tokenizer, lengths) for lengths in ROWS[:4]]))
    assert losses[-1] < losses[0] - 2


def test_thirty_steps_teach_an_encoder_decoder_the_rest(tokenizer, collator):
    torch.manual_seed(0)
    side = dict(vocab_size=len(tokenizer), **TINY)
    ids = dict(pad_token_id=tokenizer.pad_token_id, decoder_start_token_id=tokenizer.pad_token_id)
    model = TriviumEncoderDecoderForConditionalGeneration(TriviumEncoderDecoderConfig(**side, **ids))
    losses = train(model, collator([row(tokenizer, lengths) for lengths in ROWS[:4]]))
    assert losses[-1] < losses[0] - 2
