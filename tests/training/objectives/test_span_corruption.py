import itertools

import numpy as np
import pytest
import torch

from trivium.configuration import InputError
from trivium.training.objectives.span_corruption import (
    SpanCorruptionCollator,
    corrupt_spans,
    random_partition,
    raw_length,
    row_counts,
    sentinel_ids,
    span_counts,
)

SENTINELS = np.arange(1000, 1100)
EOS = 1


def replace_spans(tokens, hidden):
    """The paper's text, slowly: each run of hidden tokens becomes one sentinel, each time another, in their order."""
    source, target, runs = [], [], 0
    for index, token in enumerate(tokens):
        if hidden[index]:
            if index == 0 or not hidden[index - 1]:
                source.append(SENTINELS[runs])
                target.append(SENTINELS[runs])
                runs += 1
            target.append(token)
        else:
            source.append(token)
    return [*source, EOS], [*target, EOS], runs


def t5_lengths(inputs_length, noise_density, mean_span_length):
    """Lengths as T5 computes them: the raw tokens whose corruption fills `inputs_length`, and the target's length."""

    def lengths(tokens):
        noise = round(tokens * noise_density)
        spans = round(noise / mean_span_length)
        return tokens - noise + spans + 1, noise + spans + 1

    tokens = inputs_length - 1
    while lengths(tokens + 1)[0] <= inputs_length:
        tokens += 1
    return tokens, lengths(tokens)[1]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 20, 100, 568, 569])
@pytest.mark.parametrize("density", [0.15, 0.5])
def test_equals_the_slow_text_of_the_paper(length, density):
    for seed in range(20):
        tokens = np.random.default_rng(seed).permutation(900)[:length] + 10  # each occurs once
        generator = np.random.default_rng(seed)
        source, target = corrupt_spans(tokens, SENTINELS, EOS, generator, density, 3.0)
        hidden = np.isin(tokens, target)
        slow_source, slow_target, runs = replace_spans(tokens, hidden)
        assert source.tolist() == slow_source and target.tolist() == slow_target
        assert (hidden.sum(), runs) == span_counts(length, density, 3.0)
        assert length == 1 or (not hidden[0] and hidden[-1])


def test_rates_of_the_paper():
    assert span_counts(568, 0.15, 3.0) == (85, 28)
    source, target = corrupt_spans(np.arange(568), SENTINELS, EOS, np.random.default_rng(0))
    assert (len(source), len(target)) == (512, 114)


@pytest.mark.parametrize("density", [0.15, 0.3])
@pytest.mark.parametrize("span", [3.0, 5.0])
def test_lengths_without_padding_are_those_of_t5(density, span):
    for max_length in (32, 64, 128, 512, 1024):
        tokens, target = t5_lengths(max_length, density, span)
        hidden, spans = span_counts(tokens, density, span)
        assert raw_length(max_length, density, span) == tokens
        assert hidden + spans + 1 == target
        assert max_length - 2 <= tokens - hidden + spans + 1 <= max_length


def test_every_partition_is_as_likely():
    expected = [cut for cut in itertools.product(range(1, 5), repeat=3) if sum(cut) == 6]
    generator = np.random.default_rng(0)
    drawn = [tuple(random_partition(6, 3, generator)) for _ in range(10_000)]
    assert set(drawn) == set(expected)
    assert all(abs(drawn.count(cut) - 1000) < 150 for cut in expected)
    assert random_partition(5, 1, generator).tolist() == [5]
    assert random_partition(5, 5, generator).tolist() == [1] * 5


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers["encoder-decoder"]


def feature(tokenizer, lengths, index=0):
    generator = np.random.default_rng(index)
    documents = [generator.integers(110, len(tokenizer), length) for length in lengths]
    positions = np.concatenate([np.arange(length) for length in lengths])
    return {"input_ids": np.concatenate(documents), "position_ids": positions, "place": (0, index)}, documents


def split(tensor, positions):
    return np.split(tensor[0].numpy(), np.flatnonzero(positions[0].numpy() == 0)[1:])


def restored(source, target, sentinels, eos):
    """The document that a source and a target were made of: spans put in for the sentinels that stand for them."""
    assert source[-1] == target[-1] == eos
    spans = np.split(target[:-1], np.flatnonzero(np.isin(target[:-1], sentinels)))[1:]
    hidden = {span[0]: span[1:] for span in spans}
    assert list(hidden) == sentinels[: len(spans)].tolist()
    return np.concatenate([hidden.get(token, [token]) for token in source[:-1]]).tolist()


LAYOUTS = [[568], [300, 268], [40, 1, 7, 520], [100] * 5 + [68], [2] * 3 + [562], [568 // 8] * 8, [35] * 16 + [8]]


@pytest.mark.parametrize("lengths", [[40, 1, 7], [2, 90], [1], [1, 1], [3] * 40, [5, 2, 1] * 9, *LAYOUTS])
def test_documents_stay_apart_and_are_restored(tokenizer, lengths):
    sentinels = sentinel_ids(tokenizer)
    for index in range(3):
        row, documents = feature(tokenizer, lengths, index)
        batch = SpanCorruptionCollator(tokenizer)([row])
        sources = split(batch["input_ids"], batch["position_ids"])
        targets = split(batch["labels"], batch["decoder_position_ids"])
        given = split(batch["decoder_input_ids"], batch["decoder_position_ids"])
        assert len(sources) == len(targets) == len(given) == len(documents)
        for source, target, start, document in zip(sources, targets, given, documents, strict=True):
            assert start.tolist() == [tokenizer.pad_token_id, *target[:-1]]
            assert restored(source, target, sentinels, tokenizer.eos_token_id) == document.tolist()
        assert all(tensor.shape[0] == 1 and tensor.dtype == torch.int64 for tensor in batch.values())


@pytest.mark.parametrize("lengths", LAYOUTS)
def test_whatever_documents_a_row_holds_its_size_is_that_of_one(tokenizer, lengths):
    collator = SpanCorruptionCollator(tokenizer)
    assert sum(lengths) == raw_length(512) and collator.sizes(568) == (512, 114)
    for index in range(20):
        batch = collator([feature(tokenizer, lengths, index)[0]])
        assert (batch["input_ids"].shape[1], batch["labels"].shape[1]) == (512, 114)


@pytest.mark.parametrize("density", [0.15, 0.3, 0.5])
@pytest.mark.parametrize("span", [3.0, 8.0])
def test_random_rows_hide_the_rate_in_the_spans_that_the_ends_leave(density, span):
    generator = np.random.default_rng(0)
    for _ in range(300):
        lengths = random_partition(400, generator.integers(1, 5), generator)
        hidden, spans = row_counts(lengths, density, span, generator)
        total, runs = span_counts(400, density, span)
        assert hidden.sum() == total and spans.sum() == runs + 1 - len(lengths)
        assert ((spans <= hidden) & (spans <= lengths - hidden)).all()
        assert (hidden[spans == 0] == 0).all()


def test_rows_of_very_short_documents_keep_the_rate_and_come_out_longer(tokenizer):
    collator = SpanCorruptionCollator(tokenizer)
    lengths = [10] * 50
    batch = collator([feature(tokenizer, lengths)[0]])
    hidden = ~np.isin(batch["labels"][0].numpy(), [*sentinel_ids(tokenizer), tokenizer.eos_token_id])
    assert hidden.sum() == span_counts(500, 0.15, 3.0)[0]
    assert batch["input_ids"].shape[1] > collator.sizes(500).source
    assert batch["labels"].shape[1] > collator.sizes(500).target


def test_documents_share_in_proportion_to_their_lengths_on_average():
    lengths = np.array([7, 30, 63, 100])
    generator = np.random.default_rng(0)
    drawn = np.array([row_counts(lengths, 0.3, 3.0, generator) for _ in range(4000)])
    hidden, spans = drawn.mean(axis=0)
    np.testing.assert_allclose(spans, lengths / 200 * (20 - 3), atol=0.03)
    np.testing.assert_allclose(hidden, lengths * 0.3, atol=0.35)


def test_full_blocks_leave_no_padding(tokenizer):
    length = raw_length(128)
    rows = [feature(tokenizer, [length], index)[0] for index in range(4)]
    batch = SpanCorruptionCollator(tokenizer)(rows)
    assert batch["input_ids"].shape == (1, 4 * 128)
    assert not (batch["input_ids"] == tokenizer.pad_token_id).any()


def test_spans_depend_on_the_place_and_the_seed_only(tokenizer):
    rows = [feature(tokenizer, [60, 30], index)[0] for index in range(3)]
    together = SpanCorruptionCollator(tokenizer)(rows)["labels"]
    alone = [SpanCorruptionCollator(tokenizer)([row])["labels"] for row in rows]
    assert torch.equal(together, torch.cat(alone, dim=1))
    moved = [{**row, "place": (1, index)} for index, row in enumerate(rows)]
    assert not torch.equal(SpanCorruptionCollator(tokenizer)(moved)["labels"], together)
    assert not torch.equal(SpanCorruptionCollator(tokenizer, seed=5)(rows)["labels"], together)


def test_bad_settings(tokenizers, tokenizer):
    with pytest.raises(InputError, match="needs a tokenizer with sentinels"):
        SpanCorruptionCollator(tokenizers["decoder"])
    with pytest.raises(InputError, match="`noise_density`"):
        SpanCorruptionCollator(tokenizer, noise_density=1.0)
    with pytest.raises(InputError, match="`mean_span_length`"):
        SpanCorruptionCollator(tokenizer, mean_span_length=0.5)
    with pytest.raises(InputError, match="has 100 sentinels"):
        SpanCorruptionCollator(tokenizer)([feature(tokenizer, [3000])[0]])
    with pytest.raises(InputError, match="has 100 sentinels"):
        corrupt_spans(np.arange(3000), sentinel_ids(tokenizer), EOS, np.random.default_rng(0))
