import copy
import itertools

import numpy as np
import pytest
import torch

from trivium.configuration import InputError, TriviumDecoderConfig
from trivium.modeling import TriviumDecoderForCausalLM
from trivium.training.objectives.causal_lm import CausalLMCollator
from trivium.training.objectives.fill_in_the_middle import FIM_TOKENS, FillInTheMiddleCollator


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    """A decoder's, with the marks."""
    tokenizer = copy.deepcopy(tokenizers["decoder"])
    tokenizer.add_special_tokens({"extra_special_tokens": list(FIM_TOKENS)}, replace_extra_special_tokens=False)
    assert "<|im_start|>" in tokenizer.all_special_tokens
    return tokenizer


def row(tokenizer, lengths=(60, 7, 8, 50), index=0, bos=True, eos=True):
    """Documents of different tokens, the last one cut by the row's end if it has no end of sequence."""
    generator = np.random.default_rng(index)
    ids = 10 + generator.permutation(400)[: sum(lengths)]
    starts = np.cumsum([0, *lengths[:-1]])
    if bos:
        ids[starts] = tokenizer.bos_token_id
    if eos:
        ids[[*starts[1:] - 1, -1]] = tokenizer.eos_token_id
    return {
        "input_ids": ids,
        "position_ids": np.concatenate([np.arange(length) for length in lengths]),
        "place": (0, index),
    }


def pieces(ids, feature):
    return np.split(np.asarray(ids), np.flatnonzero(feature["position_ids"] == 0)[1:])


def rearranged(tokenizer, piece):
    """All that a piece may become, slowly from the paper's text: by order, {tokens: the two cuts}."""
    pre, suf, mid = tokenizer.convert_tokens_to_ids(list(FIM_TOKENS))
    begin = [tokenizer.bos_token_id] if piece[0] == tokenizer.bos_token_id else []
    text = [token for token in piece if token not in (tokenizer.bos_token_id, tokenizer.eos_token_id)]
    text = text[: len(piece) - len(begin) - 4]
    psm, spm = {}, {}
    for first, second in itertools.combinations_with_replacement(range(len(text) + 1), 2):
        prefix, middle, suffix = text[:first], text[first:second], text[second:]
        psm[(*begin, pre, *prefix, suf, *suffix, mid, *middle, tokenizer.eos_token_id)] = (first, second)
        spm[(*begin, pre, suf, *suffix, mid, *prefix, *middle, tokenizer.eos_token_id)] = (first, second)
    return psm, spm


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("eos", [True, False])
@pytest.mark.parametrize("spm_rate", [0.0, 0.5, 1.0])
def test_pieces_are_rearranged_as_in_the_paper_and_keep_their_length(tokenizer, bos, eos, spm_rate):
    found = {"psm": 0, "spm": 0}
    for index in range(10):
        feature = row(tokenizer, index=index, bos=bos, eos=eos)
        batch = FillInTheMiddleCollator(tokenizer, 1.0, spm_rate)([feature])
        assert batch["position_ids"][0].tolist() == feature["position_ids"].tolist()
        made = pieces(batch["input_ids"][0], feature)
        for after, before in zip(made, pieces(feature["input_ids"], feature), strict=True):
            if len(before) < 8:
                assert after.tolist() == before.tolist()
                continue
            orders = dict(zip(("psm", "spm"), rearranged(tokenizer, before.tolist()), strict=True))
            fitting = [order for order, results in orders.items() if tuple(after) in results]
            assert fitting
            found[fitting[-1]] += 1  # SPM is PSM with an empty prefix, whose middle is prefix and middle
    assert spm_rate == 1 or found["psm"] > 5
    assert spm_rate == 0 or found["spm"] > 5
    assert spm_rate != 1 or not found["psm"]


@pytest.mark.parametrize(("rate", "spm_rate"), [(0.5, 0.5), (0.9, 0.0), (0.0, 1.0)])
def test_rates_are_met_and_cuts_are_uniform(tokenizer, rate, spm_rate):
    collator, made = FillInTheMiddleCollator(tokenizer, rate, spm_rate), []
    feature = row(tokenizer, (16,))
    for index in range(3000):
        made.append(tuple(collator([{**feature, "place": (0, index)}])["input_ids"][0].tolist()))
    psm, spm = rearranged(tokenizer, feature["input_ids"].tolist())
    changed = [tokens for tokens in made if tokens in psm]
    assert abs(len(changed) / 3000 - rate) < 0.03
    assert set(made) - set(changed) == {tuple(feature["input_ids"].tolist())}
    if rate:
        empty = 1 - (11 / 12) ** 2  # of PSM's prefixes, if either cut is uniform on 0 to 11
        share = np.mean([tokens in spm for tokens in changed])
        assert abs(share - (spm_rate + (1 - spm_rate) * empty)) < 0.04
    if spm_rate == 0:
        cuts = np.bincount(np.ravel([psm[tokens] for tokens in changed]), minlength=12) / (2 * len(changed))
        assert len(cuts) == 12 and np.abs(cuts - 1 / 12).max() < 0.02


def test_pieces_that_are_not_rearranged_are_as_in_causal_language_modelling(tokenizer):
    features = [row(tokenizer, index=index) for index in range(3)]
    batch, plain = FillInTheMiddleCollator(tokenizer, 0.0)(features), CausalLMCollator()(features)
    assert batch.keys() == plain.keys() and all(torch.equal(batch[name], plain[name]) for name in plain)


def test_all_tokens_are_predicted_but_the_first_of_each_document(tokenizer):
    features = [row(tokenizer, index=index) for index in range(3)]
    batch = FillInTheMiddleCollator(tokenizer, 1.0)(features)
    expected = torch.where(batch["position_ids"] == 0, -100, batch["input_ids"])
    assert torch.equal(batch["labels"], expected) and batch["input_ids"].shape == (3, 125)


def test_no_token_moves_to_another_document(tokenizer):
    for index in range(20):
        feature = row(tokenizer, index=index)
        made = FillInTheMiddleCollator(tokenizer, 1.0)([feature])["input_ids"][0]
        for after, before in zip(pieces(made, feature), pieces(feature["input_ids"], feature), strict=True):
            marks = {*tokenizer.convert_tokens_to_ids(list(FIM_TOKENS)), tokenizer.eos_token_id}
            assert set(after.tolist()) <= set(before.tolist()) | marks


def test_choices_depend_on_the_place_and_the_seed_only(tokenizer):
    def made(features, seed=0):
        return FillInTheMiddleCollator(tokenizer, seed=seed)(features)["input_ids"]

    features = [row(tokenizer, index=index) for index in range(6)]
    together = made(features)
    assert torch.equal(together, torch.cat([made([feature]) for feature in features]))
    assert torch.equal(together[[3, 1]], made([features[3], features[1]]))
    assert not torch.equal(together, made(features, seed=1))
    assert not torch.equal(together, made([{**feature, "place": (1, feature["place"][1])} for feature in features]))


def test_without_place_and_positions_a_row_is_one_document(tokenizer):
    ids = list(range(20, 60))
    torch.manual_seed(0)
    made = FillInTheMiddleCollator(tokenizer, 1.0)([{"input_ids": ids}, {"input_ids": ids[:20]}])
    assert made["input_ids"].shape == (1, 60) and (made["labels"] == -100).sum() == 2
    assert tuple(made["input_ids"][0, :40].tolist()) in rearranged(tokenizer, ids)[0]


def test_bad_settings(tokenizers, tokenizer):
    with pytest.raises(InputError, match=r"needs the tokens <\|fim_prefix\|> .* `tokenizer.add_special_tokens"):
        FillInTheMiddleCollator(tokenizers["encoder"])
    with pytest.raises(InputError, match=r"`fim_rate` must lie in \[0, 1\], not 2"):
        FillInTheMiddleCollator(tokenizer, 2)
    with pytest.raises(InputError, match="`fim_spm_rate`"):
        FillInTheMiddleCollator(tokenizer, spm_rate=-0.1)
    assert FillInTheMiddleCollator(tokenizers["decoder"], tokens=("<|im_start|>", "<|im_end|>", "<|pad|>"))


def test_thirty_steps_teach_what_stands_in_the_middle(tokenizer):
    torch.manual_seed(0)
    config = TriviumDecoderConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    model = TriviumDecoderForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch, losses = FillInTheMiddleCollator(tokenizer, 1.0)([row(tokenizer, index=index) for index in range(4)]), []
    for _ in range(30):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 2
