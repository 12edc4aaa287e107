from collections import Counter
from copy import deepcopy

import numpy as np
import pytest
import torch

from trivium.configuration import InputError
from trivium.training.objectives.batches import split_documents
from trivium.training.objectives.span_corruption import sentinel_ids
from trivium.training.objectives.ul2 import UL2_DENOISERS, Denoiser, UL2Collator, mode_ids

LENGTH = 256


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers["encoder-decoder"]


@pytest.fixture(scope="module")
def with_modes(tokenizer):
    tokenizer = deepcopy(tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": ["[R]", "[S]", "[X]"]}, replace_extra_special_tokens=False)
    return tokenizer


def row(tokenizer, lengths, index=0):
    generator = np.random.default_rng(index)
    ids = np.arange(104, 500)
    documents = [generator.choice(ids, length) for length in lengths]
    positions = np.concatenate([np.arange(length) for length in lengths])
    return {"input_ids": np.concatenate(documents), "position_ids": positions, "place": (0, index)}, documents


def sides(batch):
    sources = split_documents(batch["input_ids"][0].numpy(), batch["position_ids"][0].numpy())
    targets = split_documents(batch["labels"][0].numpy(), batch["decoder_position_ids"][0].numpy())
    return sources, targets


def spans_of(target, sentinels):
    """The hidden spans of a target, slowly."""
    spans = []
    for token in target[:-1].tolist():
        if token in sentinels:
            spans.append([])
        else:
            spans[-1].append(token)
    return spans


def restored(source, target, sentinels, eos):
    assert source[-1] == target[-1] == eos
    spans = dict(zip(sentinels.tolist(), spans_of(target, sentinels), strict=False))
    return [hidden for token in source[:-1].tolist() for hidden in spans.get(token, [token])]


@pytest.mark.parametrize("denoiser", UL2_DENOISERS, ids=str)
@pytest.mark.parametrize("lengths", [[LENGTH], [156, 100], [1, 5, 50, 200], [16] * 16])
def test_each_denoiser_hides_its_share_in_spans_of_its_length(tokenizer, denoiser, lengths):
    sentinels, eos = sentinel_ids(tokenizer), tokenizer.eos_token_id
    collator = UL2Collator(tokenizer, denoisers=[denoiser])
    for index in range(5):
        feature, documents = row(tokenizer, lengths, index)
        sources, targets = sides(collator([feature]))
        assert len(sources) == len(targets) == len(documents)
        for source, target, document in zip(sources, targets, documents, strict=True):
            assert restored(source, target, sentinels, eos) == document.tolist()
        spans = [span for target in targets for span in spans_of(target, sentinels)]
        hidden = sum(map(len, spans))
        assert hidden == round(LENGTH * denoiser.noise_density)
        if denoiser.mean_span_length is None:
            longer = sum(length > 1 for length in lengths)
            assert len(spans) == longer and all(np.isin(source, sentinels).sum() <= 1 for source in sources)
        else:
            assert len(spans) == max(round(hidden / denoiser.mean_span_length), 1, len(lengths))


def test_the_sequential_denoiser_hides_the_end(tokenizer):
    collator = UL2Collator(tokenizer, denoisers=[Denoiser("S", None, 0.25)])
    feature, documents = row(tokenizer, [40, 216])
    for source, target, document in zip(*sides(collator([feature])), documents, strict=True):
        shown = len(source) - 2
        assert source[:-2].tolist() == document[:shown].tolist() and target[1:-1].tolist() == document[shown:].tolist()
        assert abs(len(target) - 2 - len(document) / 4) <= 1


@pytest.mark.parametrize("lengths", [[LENGTH], [156, 100], [1, 5, 50, 200], [16] * 16])
def test_nothing_is_padded(tokenizer, with_modes, lengths):
    for collator, marks in ((UL2Collator(tokenizer), 0), (UL2Collator(with_modes), 1)):
        sizes = set()
        for index in range(30):
            batch = collator([row(tokenizer, lengths, index)[0]])
            sources, targets = sides(batch)
            spans = sum(len(spans_of(target, sentinel_ids(tokenizer))) for target in targets)
            # Each token is on one side; each span has a sentinel on both, each document an end, and its mode once.
            assert sum(map(len, sources + targets)) == LENGTH + 2 * spans + (2 + marks) * len(lengths)
            assert (batch["labels"] != -100).all()
            sizes.add(batch["input_ids"].shape[1])
        assert len(sizes) > 3


def test_denoisers_are_drawn_as_often_as_their_rates_say(with_modes):
    rates = [1, 1, 4, 0.5, 0.5, 0.5, 0.5]
    collator = UL2Collator(with_modes, rates=rates)
    modes = {token: mode for mode, token in mode_ids(with_modes).items()}
    drawn = Counter(modes[int(collator([row(with_modes, [40], index)[0]])["input_ids"][0, 0])] for index in range(2000))
    assert drawn.total() == 2000
    for mode, rate in (("R", 2 / 8), ("S", 4 / 8), ("X", 2 / 8)):
        assert abs(drawn[mode] / 2000 - rate) < 0.04


def test_each_document_begins_with_the_mode_of_the_row(tokenizer, with_modes):
    assert mode_ids(tokenizer) == {} and set(mode_ids(with_modes)) == {"R", "S", "X"}
    for denoiser in UL2_DENOISERS:
        feature, _ = row(with_modes, [100, 156])
        given = UL2Collator(with_modes, denoisers=[denoiser])([feature])
        plain = UL2Collator(tokenizer, denoisers=[denoiser])([feature])
        for source, bare in zip(sides(given)[0], sides(plain)[0], strict=True):
            assert source.tolist() == [with_modes.convert_tokens_to_ids(f"[{denoiser.mode}]"), *bare]
        assert torch.equal(given["labels"], plain["labels"])


def test_choices_depend_on_the_place_and_the_seed_only(tokenizer):
    rows = [row(tokenizer, [60, 30], index)[0] for index in range(6)]
    together = UL2Collator(tokenizer)(rows)
    alone = [UL2Collator(tokenizer)([one]) for one in rows]
    assert all(torch.equal(together[name], torch.cat([one[name] for one in alone], dim=1)) for name in together)
    assert not torch.equal(UL2Collator(tokenizer, seed=1)(rows)["labels"], together["labels"])
    moved = [{**one, "place": (1, 0)} for one in rows]
    assert not torch.equal(UL2Collator(tokenizer)(moved)["labels"], together["labels"])
    assert UL2Collator(tokenizer)([{"input_ids": rows[0]["input_ids"].tolist()}])["input_ids"].shape[0] == 1


def test_bad_settings(tokenizers, tokenizer):
    with pytest.raises(InputError, match="needs a tokenizer with sentinels"):
        UL2Collator(tokenizers["decoder"])
    for rates in ([1, 2], [0] * 7, [-1, *[1] * 6]):
        with pytest.raises(InputError, match="`rates` must be 7 numbers"):
            UL2Collator(tokenizer, rates=rates)


@pytest.mark.parametrize("modes", [False, True])
@pytest.mark.parametrize("lengths", [[LENGTH], [100, 156], [40, 60, 70, 86], [64] * 4])
def test_batches_of_one_size_hold_the_same_documents(tokenizer, with_modes, modes, lengths):
    tokenizer = with_modes if modes else tokenizer
    features = [row(tokenizer, lengths, index)[0] for index in range(40)]
    vary, fixed = UL2Collator(tokenizer), UL2Collator(tokenizer, row_length=LENGTH)
    sizes = fixed.sizes(LENGTH)
    shapes = set()
    for start in range(40):
        batch, filled = vary(features[start : start + 2]), fixed(features[start : start + 2])
        if start < 39:
            shapes.add((filled["input_ids"].shape, filled["labels"].shape))
        for plain, side in zip(sides(batch), sides(filled), strict=True):
            assert all((one == other).all() for one, other in zip(plain, side[: len(plain)], strict=True))
        assert all((target == -100).all() for target in sides(filled)[1][len(sides(batch)[1]) :])
        assert all((source == tokenizer.pad_token_id).all() for source in sides(filled)[0][len(sides(batch)[0]) :])
    assert shapes == {((1, 2 * sizes.source), (1, 2 * sizes.target))}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_sizes_are_the_most_that_a_row_takes(tokenizer, count):
    lengths = [LENGTH // count] * (count - 1) + [LENGTH - LENGTH // count * (count - 1)]
    sizes = UL2Collator(tokenizer).sizes(LENGTH)
    collators = [UL2Collator(tokenizer, denoisers=[denoiser]) for denoiser in UL2_DENOISERS]
    batches = [collator([row(tokenizer, lengths)[0]]) for collator in collators]
    source = max(batch["input_ids"].shape[1] for batch in batches)
    target = max(batch["labels"].shape[1] for batch in batches)
    assert source < sizes.source and target < sizes.target
    if count == 4:
        assert (source + 1, target + 1) == sizes


def test_a_batch_of_many_short_documents_has_the_room_of_more_rows(tokenizer):
    collator = UL2Collator(tokenizer, denoisers=[UL2_DENOISERS[0]], row_length=LENGTH)
    batch = collator([row(tokenizer, [8] * (LENGTH // 8))[0]])
    assert batch["input_ids"].shape[1] == 2 * collator.sizes(LENGTH).source
