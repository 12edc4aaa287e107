from collections import Counter

import numpy as np
import pytest
import torch

from trivium.configuration import InputError
from trivium.training.objectives.batches import split_documents
from trivium.training.objectives.denoising import (
    NOISES,
    DenoisingCollator,
    delete_tokens,
    infill_text,
    mask_tokens,
    permute_sentences,
    rotate_document,
    sentence_end_ids,
)
from trivium.training.objectives.span_corruption import sentinel_ids

MASK, END, STOP = 1, 2, 3
LENGTHS = [1, 2, 5, 40, 200]


def document(length, seed=0):
    """Every token once, from 10 on."""
    return np.random.default_rng(seed).permutation(length) + 10


def runs_between(tokens, shown):
    """The runs of tokens before, between and after those shown, slowly."""
    runs, run = [], []
    for token in tokens.tolist():
        if token in shown:
            runs.append(run)
            run = []
        else:
            run.append(token)
    return [*runs, run]


@pytest.mark.parametrize("length", LENGTHS)
def test_masking_replaces_so_many_tokens_where_they_stand(length):
    for count in {0, length // 3, length}:
        tokens = document(length)
        noisy = mask_tokens(tokens, count, MASK, np.random.default_rng(count))
        assert len(noisy) == length and (noisy == MASK).sum() == count
        assert all(new in (old, MASK) for new, old in zip(noisy, tokens, strict=True))
        assert MASK not in tokens


@pytest.mark.parametrize("length", LENGTHS)
def test_deletion_leaves_out_so_many_tokens_and_keeps_the_order(length):
    for count in {0, length // 3, length - 1}:
        tokens = document(length)
        noisy = delete_tokens(tokens, count, np.random.default_rng(count))
        assert len(noisy) == length - count
        assert noisy.tolist() == [token for token in tokens if token in noisy]


@pytest.mark.parametrize("length", LENGTHS)
def test_infilling_puts_one_mask_for_each_span(length):
    """Between two tokens that are shown lies one mask for what the document had there, or nothing, or one inserted."""
    for seed in range(20):
        tokens = document(length, seed)
        hidden = length // 3
        spans = max(hidden // 3, 1) if hidden else 0
        noisy = infill_text(tokens, hidden, spans, MASK, np.random.default_rng(seed))
        shown = noisy[noisy != MASK].tolist()
        assert len(noisy) == length - hidden + spans and len(shown) == length - hidden
        assert shown == [token for token in tokens if token in shown]
        for masks, run in zip(runs_between(noisy, shown), runs_between(tokens, shown), strict=True):
            assert masks == [MASK] if run else masks in ([], [MASK])


def test_the_lengths_of_spans_are_poisson():
    """Of text that is long enough, as in the paper: P(length) = 3^n e^-3 / n!, spans of no tokens included."""
    counts = Counter()
    for seed in range(60):
        tokens = document(1000, seed)
        noisy = infill_text(tokens, 300, 100, MASK, np.random.default_rng(seed))
        shown = set(noisy[noisy != MASK].tolist())
        gaps = zip(runs_between(noisy, shown), runs_between(tokens, shown), strict=True)
        counts.update(len(run) for masks, run in gaps if masks)
    assert counts.total() == 6000
    expected = np.exp(-3.0)
    for length in range(8):
        assert abs(counts[length] / 6000 - expected) < 0.02
        expected *= 3 / (length + 1)


def test_spans_are_as_likely_everywhere():
    begun = np.zeros(13)
    for seed in range(4000):
        noisy = infill_text(np.arange(10, 25), 3, 1, MASK, np.random.default_rng(seed))
        begun[np.flatnonzero(noisy == MASK)[0]] += 1
    assert np.abs(begun / 4000 - 1 / 13).max() < 0.02


def test_more_spans_than_gaps_all_the_same_give_a_mask_each():
    noisy = infill_text(np.arange(10, 14), 3, 3, MASK, np.random.default_rng(0))
    assert len(noisy) == 4 and (noisy == MASK).sum() == 3


def test_sentences_are_permuted_whole():
    sentences = [[10, 11, END], [12, END, STOP], [13, STOP], [14, 15, 16]]
    tokens = np.concatenate(sentences)
    found = Counter()
    for seed in range(3000):
        noisy = permute_sentences(tokens, np.array([END, STOP]), np.random.default_rng(seed)).tolist()
        order = sorted(range(4), key=lambda index: noisy.index(sentences[index][0]))
        assert noisy == [token for index in order for token in sentences[index]]
        found[tuple(order)] += 1
    assert len(found) == 24 and all(abs(count - 125) < 50 for count in found.values())


def test_rotation_begins_anywhere_and_keeps_the_order():
    tokens = document(9)
    first = Counter()
    for seed in range(2000):
        noisy = rotate_document(tokens, np.random.default_rng(seed)).tolist()
        turn = tokens.tolist().index(noisy[0])
        assert noisy == [*tokens[turn:], *tokens[:turn]]
        first[turn] += 1
    assert len(first) == 9 and all(abs(count - 2000 / 9) < 70 for count in first.values())


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers["encoder-decoder"]


def row(tokenizer, lengths, index=0):
    """Documents that end in </s>, the last cut; ordinary tokens, sentence ends among them."""
    generator = np.random.default_rng(index)
    ids = np.arange(104, len(tokenizer))
    documents = [np.append(generator.choice(ids, length - 1), tokenizer.eos_token_id) for length in lengths]
    documents[-1] = generator.choice(ids, lengths[-1])
    positions = np.concatenate([np.arange(length) for length in lengths])
    return {"input_ids": np.concatenate(documents), "position_ids": positions, "place": (0, index)}, documents


def sides(batch):
    sources = split_documents(batch["input_ids"][0].numpy(), batch["position_ids"][0].numpy())
    targets = split_documents(batch["labels"][0].numpy(), batch["decoder_position_ids"][0].numpy())
    return sources, targets


LAYOUTS = [[256], [100, 156], [1, 2, 3, 250], [40] * 6 + [16], [8] * 32]


@pytest.mark.parametrize(
    "noises", [*[(noise,) for noise in NOISES], NOISES, ("text-infilling", "sentence-permutation")]
)
@pytest.mark.parametrize("lengths", LAYOUTS)
def test_rows_have_one_size_and_targets_are_the_documents(tokenizer, noises, lengths):
    collator = DenoisingCollator(tokenizer, noises)
    for index in range(5):
        feature, documents = row(tokenizer, lengths, index)
        batch = collator([feature])
        sources, targets = sides(batch)
        assert collator.sizes(256) == (batch["input_ids"].shape[1], batch["labels"].shape[1])
        assert len(sources) == len(targets) == len(documents)
        for source, target, original in zip(sources, targets, documents, strict=True):
            assert target.tolist() == original.tolist()
            assert (source[-1] == tokenizer.eos_token_id) == (original[-1] == tokenizer.eos_token_id)
            assert not Counter(source[source != collator.mask].tolist()) - Counter(original.tolist())
        starts = split_documents(batch["decoder_input_ids"][0].numpy(), batch["decoder_position_ids"][0].numpy())
        assert all(given.tolist() == [0, *target[:-1]] for given, target in zip(starts, targets, strict=True))


@pytest.mark.parametrize("lengths", LAYOUTS)
def test_the_papers_recipe_masks_30_per_cent_in_spans_of_3(tokenizer, lengths):
    collator = DenoisingCollator(tokenizer)
    for index in range(5):
        source = collator([row(tokenizer, lengths, index)[0]])["input_ids"]
        masks = (source == collator.mask).sum()
        assert source.shape[1] - masks == 256 - round(0.3 * 256) and masks == round(0.3 * 256 / 3)


def test_sentences_are_permuted_before_their_ends_are_hidden(tokenizer):
    feature, _ = row(tokenizer, [120, 136])
    first = DenoisingCollator(tokenizer, ("text-infilling", "sentence-permutation"))([feature])
    second = DenoisingCollator(tokenizer, ("sentence-permutation", "text-infilling"))([feature])
    assert torch.equal(first["input_ids"], second["input_ids"])


def test_very_short_documents_keep_something_on_both_sides(tokenizer):
    feature, documents = row(tokenizer, [1, 1, 2, 2, 1, 3])
    for noise in NOISES:
        sources, targets = sides(DenoisingCollator(tokenizer, (noise,), mask_ratio=0.9)([feature]))
        assert len(sources) == len(targets) == 6 and all(map(len, sources))
        assert [target.tolist() for target in targets] == [text.tolist() for text in documents]


def test_noise_depends_on_the_place_and_the_seed_only(tokenizer):
    def noisy(features, seed=0):
        return DenoisingCollator(tokenizer, NOISES, seed=seed)(features)["input_ids"]

    rows = [row(tokenizer, [60, 30], index)[0] for index in range(3)]
    assert torch.equal(noisy(rows), torch.cat([noisy([one]) for one in rows], dim=1))
    assert torch.equal(noisy([rows[2], rows[0]]), torch.cat([noisy([rows[2]]), noisy([rows[0]])], dim=1))
    assert not torch.equal(noisy(rows), noisy(rows, seed=1))
    assert not torch.equal(noisy(rows), noisy([{**one, "place": (1, 0)} for one in rows]))
    bare = {"input_ids": rows[0]["input_ids"].tolist()}
    assert DenoisingCollator(tokenizer)([bare])["labels"].tolist() == [bare["input_ids"]]


def test_the_examples_are_left_as_they_were(tokenizer):
    feature, _ = row(tokenizer, [64])
    before = feature["input_ids"].copy()
    DenoisingCollator(tokenizer, NOISES)([feature])
    assert (feature["input_ids"] == before).all()


def test_the_mask_is_the_mask_token_or_the_first_sentinel(tokenizers, tokenizer):
    assert DenoisingCollator(tokenizers["encoder"]).mask == tokenizers["encoder"].mask_token_id
    assert tokenizer.mask_token_id is not None or DenoisingCollator(tokenizer).mask == sentinel_ids(tokenizer)[0]


def test_sentence_ends_are_found_in_the_vocabulary(tokenizers):
    for tokenizer in tokenizers.values():
        ends = sentence_end_ids(tokenizer)
        text = "One sentence. Another!\nIs this a third? Yes"
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert {tokenizer.decode([token]).strip(" ") for token in tokens if token in ends} >= {".", "?"}
        assert sum(character in ".!?\n" for character in text) >= np.isin(tokens, ends).sum() >= 3
        assert not np.isin(tokenizer.all_special_ids, ends).any()


def test_bad_settings(tokenizers, tokenizer):
    with pytest.raises(InputError, match="a mask token or sentinels"):
        DenoisingCollator(tokenizers["decoder"])
    with pytest.raises(InputError, match="there is no noise 'masking': use sentence-permutation"):
        DenoisingCollator(tokenizer, ("masking",))
    with pytest.raises(InputError, match=r"`mask_ratio` must lie between 0 and 1, not 1.0"):
        DenoisingCollator(tokenizer, mask_ratio=1.0)
    with pytest.raises(InputError, match=r"`poisson_lambda` must be at least 1, not 0.5"):
        DenoisingCollator(tokenizer, poisson_lambda=0.5)
