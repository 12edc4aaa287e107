import datasets
import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from trivium.configuration import InputError, TriviumDecoderConfig, TriviumEncoderDecoderConfig
from trivium.modeling import TriviumDecoderForCausalLM, TriviumEncoderDecoderForConditionalGeneration
from trivium.training.data.pairs import PackedPairs
from trivium.training.objectives.batches import Sizes, split_documents
from trivium.training.objectives.pairs import PairsCollator, PromptCollator

TINY = dict(
    vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=128,
)  # fmt: skip


@pytest.fixture(scope="module")
def raw():
    return datasets.Dataset.from_dict(
        {
            "source": [f"translate {'a word ' * (index % 5)}{index}" for index in range(40)],
            "target": [f"{'ein Wort ' * (index % 5)}{index}" for index in range(40)],
        }
    )


def features(raw, tokenizer, *lengths):
    packed = PackedPairs(raw, tokenizer, *lengths)
    return [packed[index] for index in range(len(packed))]


def texts(tensor, positions):
    return split_documents(tensor.flatten().numpy(), positions.flatten().numpy())


@pytest.fixture(scope="module")
def rows(raw, tokenizers):
    return features(raw, tokenizers["encoder-decoder"], 128, 96)


@pytest.fixture(scope="module")
def prompts(raw, tokenizers):
    return features(raw, tokenizers["decoder"], 128)


def test_batches_have_one_size_and_hold_the_pairs_in_order(rows, tokenizers):
    tokenizer = tokenizers["encoder-decoder"]
    collator = PairsCollator(tokenizer, 128, 96)
    assert collator.sizes() == Sizes(128, 96) and len(rows) > 3
    for row in rows:
        batch = collator([row])
        assert batch["input_ids"].shape == (1, 128) and batch["labels"].shape == (1, 96)
        sources = texts(batch["input_ids"], batch["position_ids"])
        targets = texts(batch["labels"], batch["decoder_position_ids"])
        given = texts(batch["decoder_input_ids"], batch["decoder_position_ids"])
        wanted_sources = split_documents(row["input_ids"], row["position_ids"])
        wanted_targets = split_documents(row["labels"], row["decoder_position_ids"])
        assert len(sources) == len(targets) == len(wanted_sources) + 1
        assert (targets[-1] == -100).all() and (sources[-1] == tokenizer.pad_token_id).all()
        for index, target in enumerate(wanted_targets):
            assert sources[index].tolist() == wanted_sources[index].tolist()
            assert targets[index].tolist() == target.tolist()
            assert given[index].tolist() == [tokenizer.pad_token_id, *target[:-1]]


def test_a_batch_is_its_rows_end_to_end(rows, tokenizers):
    collator = PairsCollator(tokenizers["encoder-decoder"], 128, 96, decoder_start_token_id=7)
    together, alone = collator(rows[:3]), [collator([row]) for row in rows[:3]]
    assert all(torch.equal(together[name], torch.cat([one[name] for one in alone], dim=1)) for name in together)
    assert together["decoder_input_ids"][0, 0] == 7


def test_an_encoder_decoders_loss_is_that_of_the_padded_pairs(rows, tokenizers):
    torch.manual_seed(0)
    config = TriviumEncoderDecoderConfig(**TINY, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    model = TriviumEncoderDecoderForConditionalGeneration(config).eval()
    tokenizer = tokenizers["encoder-decoder"]
    sources = [part for row in rows[:3] for part in split_documents(row["input_ids"], row["position_ids"])]
    targets = [part for row in rows[:3] for part in split_documents(row["labels"], row["decoder_position_ids"])]
    sources, targets = [[torch.from_numpy(text) for text in side] for side in (sources, targets)]
    with torch.no_grad():
        padded = model(
            input_ids=pad_sequence(sources, batch_first=True),
            attention_mask=pad_sequence([torch.ones_like(text) for text in sources], batch_first=True),
            labels=pad_sequence(targets, batch_first=True, padding_value=-100),
        ).loss
        for collator in (PairsCollator(tokenizer), PairsCollator(tokenizer, 128, 96)):
            torch.testing.assert_close(model(**collator(rows[:3])).loss, padded, rtol=1e-5, atol=1e-6)


def test_a_decoders_loss_is_that_of_the_padded_pairs_on_their_targets(prompts, tokenizers):
    torch.manual_seed(0)
    model = TriviumDecoderForCausalLM(TriviumDecoderConfig(**TINY, pad_token_id=0)).eval()
    tokens, labels = [], []
    for row in prompts[:3]:
        sides = (("input_ids", "position_ids"), ("labels", "decoder_position_ids"))
        for source, target in zip(
            *(split_documents(row[text], row[positions]) for text, positions in sides), strict=True
        ):
            tokens.append(torch.tensor([*source, *target]))
            labels.append(torch.tensor([-100] * len(source) + target.tolist()))
    with torch.no_grad():
        padded = model(
            input_ids=pad_sequence(tokens, batch_first=True),
            attention_mask=pad_sequence([torch.ones_like(text) for text in tokens], batch_first=True),
            labels=pad_sequence(labels, batch_first=True, padding_value=-100),
        ).loss
        for length in (None, 128):
            batch = PromptCollator(tokenizers["decoder"], length)(prompts[:3])
            torch.testing.assert_close(model(**batch).loss, padded, rtol=1e-5, atol=1e-6)


def test_prompts_have_no_labels_and_rows_one_size(prompts, tokenizers):
    tokenizer = tokenizers["decoder"]
    collator = PromptCollator(tokenizer, 128)
    batch = collator(prompts)
    assert all(tensor.shape == (len(prompts), 128) for tensor in batch.values()) and collator.sizes() == Sizes(128)
    for index, row in enumerate(prompts):
        assert (batch["labels"][index] != -100).sum() == len(row["labels"])
        assert batch["labels"][index][batch["labels"][index] != -100].tolist() == row["labels"].tolist()
        assert (batch["labels"][index][batch["position_ids"][index] == 0] == -100).all()
        kept = batch["labels"][index] != -100
        assert (batch["input_ids"][index][kept] == batch["labels"][index][kept]).all()


def test_a_row_without_positions_is_one_pair(tokenizers):
    pair = {"input_ids": [5, 6, 1], "labels": [7, 1]}
    batch = PairsCollator(tokenizers["encoder-decoder"])([pair])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 1]],
        "position_ids": [[0, 1, 2]],
        "labels": [[7, 1]],
        "decoder_input_ids": [[0, 7]],
        "decoder_position_ids": [[0, 1]],
    }
    batch = PromptCollator(tokenizers["decoder"])([pair])
    assert batch["input_ids"].tolist() == [[5, 6, 1, 7, 1]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 7, 1]]


def test_bad_settings(rows, tokenizers):
    tokenizer = tokenizers["encoder-decoder"]
    with pytest.raises(InputError, match="or neither"):
        PairsCollator(tokenizer, 128)
    with pytest.raises(InputError, match="cannot be filled up to 16 and 16"):
        PairsCollator(tokenizer, 16, 16)(rows[:1])
    bare = type("Bare", (), {"pad_token_id": None})()
    for collator in (PairsCollator, PromptCollator):
        with pytest.raises(InputError, match="padding token"):
            collator(bare)


def test_features_are_left_as_they_were(rows, tokenizers):
    before = {name: np.copy(rows[0][name]) for name in rows[0]}
    PairsCollator(tokenizers["encoder-decoder"], 128, 96)(rows[:1])
    assert all((before[name] == rows[0][name]).all() for name in before)
