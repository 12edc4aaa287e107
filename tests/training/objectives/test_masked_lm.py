import numpy as np
import pytest
import torch

from trivium.configuration import InputError
from trivium.tokenization import train_tokenizer
from trivium.training.objectives.masked_lm import MaskedLMCollator, choose_words
from trivium.training.objectives.words import Words


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers["encoder"]


def row(tokenizer, length, seed=0, index=0):
    """[CLS] ordinary tokens [SEP], two documents."""
    ids = np.random.default_rng(seed).integers(len(tokenizer.all_special_ids), len(tokenizer), length)
    half = length // 2
    ids[0], ids[half], ids[half - 1], ids[-1] = [tokenizer.cls_token_id] * 2 + [tokenizer.sep_token_id] * 2
    positions = np.concatenate([np.arange(half), np.arange(length - half)])
    return {"input_ids": ids, "position_ids": positions, "place": (0, index)}


@pytest.mark.parametrize("probability", [0.15, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("length", [8, 64, 513])
def test_the_share_of_ordinary_tokens_is_masked_and_only_they_are_predicted(tokenizer, probability, length):
    features = [row(tokenizer, length, seed, seed) for seed in range(4)]
    batch = MaskedLMCollator(tokenizer, probability)(features)
    for index, feature in enumerate(features):
        original = torch.tensor(feature["input_ids"])
        labels, shown = batch["labels"][index], batch["input_ids"][index]
        chosen = labels != -100
        assert chosen.sum() == max(1, round(probability * (length - 4)))
        assert (labels[chosen] == original[chosen]).all()
        assert (shown[chosen] == tokenizer.mask_token_id).all()
        assert (shown[~chosen] == original[~chosen]).all()
        assert not torch.isin(labels[chosen], torch.tensor(tokenizer.all_special_ids)).any()
        assert batch["position_ids"][index].tolist() == feature["position_ids"].tolist()


def test_berts_scheme_masks_80_swaps_10_keeps_10_per_cent(tokenizer):
    """Devlin et al.: of the chosen tokens 80% become [MASK], 10% a random token, 10% stay; here over 20,000 choices."""
    features = [row(tokenizer, 1004, seed, seed) for seed in range(140)]
    batch = MaskedLMCollator(tokenizer, 0.15, "80-10-10")(features)
    original = torch.tensor(np.stack([feature["input_ids"] for feature in features]))
    chosen = batch["labels"] != -100
    assert chosen.sum() == 140 * 150
    shown, kept = batch["input_ids"][chosen], original[chosen]
    masked = (shown == tokenizer.mask_token_id).float().mean()
    same = (shown == kept).float().mean()
    assert abs(masked - 0.8) < 0.01 and abs(same - 0.1) < 0.01
    swapped = shown[(shown != tokenizer.mask_token_id) & (shown != kept)]
    assert not torch.isin(swapped, torch.tensor(tokenizer.all_special_ids)).any()
    assert len(swapped.unique()) > 400
    assert (batch["input_ids"][~chosen] == original[~chosen]).all()


def test_every_ordinary_position_is_as_likely(tokenizer):
    chosen = np.zeros(32)
    collator = MaskedLMCollator(tokenizer, 0.3)
    for index in range(3000):
        chosen += (collator([row(tokenizer, 32, 0, index)])["labels"][0] != -100).numpy()
    ordinary = np.delete(chosen, [0, 15, 16, 31])
    assert chosen.sum() == ordinary.sum()
    assert np.abs(ordinary / 3000 - 8 / 28).max() < 0.04


def test_masks_depend_on_the_place_and_the_seed_only(tokenizer):
    def masks(features, seed=1):
        return MaskedLMCollator(tokenizer, seed=seed)(features)["labels"]

    features = [row(tokenizer, 64, 0, index) for index in range(4)]
    together = masks(features)
    assert torch.equal(together, torch.cat([masks([feature]) for feature in features]))
    assert torch.equal(together[[2, 0]], masks([features[2], features[0]]))
    assert not torch.equal(together, masks(features, seed=2))
    assert not torch.equal(together, masks([{**feature, "place": (1, feature["place"][1])} for feature in features]))
    assert not torch.equal(together[0], together[1])


def test_without_a_place_torchs_generator_decides(tokenizer):
    feature = {"input_ids": row(tokenizer, 64)["input_ids"]}
    collator = MaskedLMCollator(tokenizer)
    torch.manual_seed(3)
    first, second = collator([feature])["labels"], collator([feature])["labels"]
    torch.manual_seed(3)
    assert torch.equal(collator([feature])["labels"], first) and not torch.equal(first, second)


def test_the_examples_are_left_as_they_were(tokenizer):
    feature = row(tokenizer, 64)
    before = feature["input_ids"].copy()
    MaskedLMCollator(tokenizer, 1.0, "80-10-10")([feature])
    assert (feature["input_ids"] == before).all()


@pytest.fixture(scope="module", params=["bpe", "wordpiece", "unigram"])
def text_rows(request, documents):
    """A tokenizer and rows of real text, two documents in each, the second one cut anywhere."""
    tokenizer = train_tokenizer(documents, "encoder", request.param, vocab_size=1024, show_progress=False)
    encoded = [np.array(tokenizer(text)["input_ids"]) for text in documents if len(text) > 2000]
    rows = []
    for index in range(20):
        first, second = encoded[index % len(encoded)][-100:], encoded[(index + 1) % len(encoded)][:156]
        positions = np.concatenate([np.arange(100), np.arange(156)])
        rows.append({"input_ids": np.concatenate([first, second]), "position_ids": positions, "place": (index, index)})
    return tokenizer, rows


def words_of(feature, tokenizer):
    """The indices of each word's tokens, special tokens left out."""
    starts = Words.of(tokenizer).starts(feature["input_ids"], feature["position_ids"] == 0)
    groups = np.split(np.arange(len(starts)), np.flatnonzero(starts)[1:])
    return [group for group in groups if feature["input_ids"][group[0]] not in tokenizer.all_special_ids]


@pytest.mark.parametrize("scheme", ["mask", "80-10-10"])
@pytest.mark.parametrize("probability", [0.15, 0.3])
def test_whole_words_are_predicted_or_not_at_all(text_rows, probability, scheme):
    tokenizer, rows = text_rows
    labels = MaskedLMCollator(tokenizer, probability, scheme, whole_word=True)(rows)["labels"].numpy()
    several = 0
    for row_labels, feature in zip(labels, rows, strict=True):
        groups = words_of(feature, tokenizer)
        for group in groups:
            chosen = row_labels[group] != -100
            assert chosen.all() or not chosen.any()
            several += chosen.all() and len(group) > 1
        budget = round(probability * sum(map(len, groups)))
        assert budget - 3 <= (row_labels != -100).sum() <= budget
        assert not np.isin(row_labels, tokenizer.all_special_ids).any()
    assert several > 20


def test_fates_of_a_words_tokens_are_drawn_one_by_one(text_rows):
    tokenizer, rows = text_rows
    batch = MaskedLMCollator(tokenizer, 0.15, "80-10-10", whole_word=True)(rows)
    fates = [
        {bool(shown == tokenizer.mask_token_id) for shown in batch["input_ids"][index][group]}
        for index, feature in enumerate(rows)
        for group in words_of(feature, tokenizer)
        if len(group) > 1 and (batch["labels"][index][group] != -100).all()
    ]
    assert 0.05 < np.mean([len(fate) == 2 for fate in fates]) < 0.9
    share = (batch["input_ids"] == tokenizer.mask_token_id).sum() / (batch["labels"] != -100).sum()
    assert abs(share - 0.8) < 0.05


def test_choice_of_words_follows_berts_rule():
    """Words in random order; one that would exceed the budget is passed over, and the first that fits goes on."""
    lengths = np.array([1, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    for seed in range(50):
        for count in (1, 2, 7, 15, 30):
            slow, tokens = set(), 0
            for index in np.random.default_rng(seed).permutation(len(lengths)):
                if tokens + lengths[index] <= count:
                    slow.add(index)
                    tokens += lengths[index]
            chosen = choose_words(lengths, count, np.random.default_rng(seed))
            assert set(np.flatnonzero(chosen)) == slow and lengths[chosen].sum() == tokens <= count
    assert choose_words(np.array([4, 3]), 2, np.random.default_rng(0)).tolist() == [False, True]


def test_whole_words_depend_on_the_place_only(text_rows):
    tokenizer, rows = text_rows
    collator = MaskedLMCollator(tokenizer, whole_word=True)
    together = collator(rows[:4])["labels"]
    assert torch.equal(together, torch.cat([collator([feature])["labels"] for feature in rows[:4]]))
    assert not torch.equal(together[0], collator([{**rows[0], "place": (7, 0)}])["labels"][0])


def test_special_tokens_end_words(tokenizers):
    tokenizer = tokenizers["encoder"]
    collator = MaskedLMCollator(tokenizer, 0.5, whole_word=True)
    inside, mark = np.flatnonzero(Words.of(tokenizer).inside)[0], tokenizer.sep_token_id
    feature = {"input_ids": np.array([mark, inside, mark, inside]), "place": (0, 0)}
    assert (collator([feature])["labels"] != -100).sum() == 1


def test_rows_of_special_tokens_only_predict_nothing(tokenizer):
    feature = {"input_ids": [tokenizer.cls_token_id, tokenizer.sep_token_id], "place": (0, 0)}
    for whole_word in (False, True):
        assert (MaskedLMCollator(tokenizer, whole_word=whole_word)([feature])["labels"] == -100).all()


def test_bad_settings(tokenizers, tokenizer):
    with pytest.raises(InputError, match="needs a mask token"):
        MaskedLMCollator(tokenizers["decoder"])
    with pytest.raises(InputError, match=r"`mlm_probability` must lie in \(0, 1\], not 0"):
        MaskedLMCollator(tokenizer, 0)
    with pytest.raises(InputError, match="`mask_scheme` is 'mask' or '80-10-10', not 'bert'"):
        MaskedLMCollator(tokenizer, scheme="bert")
