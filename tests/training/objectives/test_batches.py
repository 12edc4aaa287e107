import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from trivium.configuration import InputError, TriviumDecoderConfig, TriviumEncoderDecoderConfig
from trivium.modeling import TriviumDecoderForCausalLM, TriviumEncoderDecoderForConditionalGeneration
from trivium.training.objectives.batches import Sizes, fill_up, fill_up_rows, flatten_pairs, join, split_documents
from trivium.training.objectives.denoising import DenoisingCollator
from trivium.training.objectives.span_corruption import SpanCorruptionCollator
from trivium.training.objectives.ul2 import UL2Collator

PAD = 0
TINY = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    pad_token_id=PAD,
    eos_token_id=2,
)


def texts(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(3, 96, length) for length in lengths]


def paired(seed=0):
    return flatten_pairs(texts([7, 1, 12], seed), texts([3, 5, 1], seed + 1), PAD)


def causal(seed=0):
    rows = texts([9, 4], seed)
    return {
        "input_ids": torch.from_numpy(np.concatenate(rows)[None]),
        "position_ids": torch.from_numpy(np.concatenate([np.arange(len(row)) for row in rows])[None]),
        "labels": torch.from_numpy(np.concatenate([np.append(-100, row[1:]) for row in rows])[None]),
    }


@pytest.fixture(scope="module", params=["rope", "learned", "relative", "alibi"])
def models(request):
    torch.manual_seed(0)
    fields = dict(TINY, position_encoding=request.param)
    pair = TriviumEncoderDecoderForConditionalGeneration(
        TriviumEncoderDecoderConfig(**fields, decoder_start_token_id=PAD)
    )
    return {"pair": pair.eval(), "decoder": TriviumDecoderForCausalLM(TriviumDecoderConfig(**fields)).eval()}


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    # Only what read a padding token may differ in which embeddings have a gradient at all, never in their values.
    return loss.detach(), {
        name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()
    }


@pytest.mark.parametrize(
    ("kind", "batch", "sizes"),
    [
        ("pair", paired(), (32, 16)),
        ("pair", paired(), (21, 10)),
        ("pair", paired(), (60, 10)),
        ("decoder", causal(), (20,)),
        ("decoder", causal(), (14,)),
    ],
)
def test_a_closing_document_changes_neither_loss_nor_gradients(models, kind, batch, sizes):
    filled = fill_up(batch, PAD, *sizes)
    loss, gradients = loss_and_gradients(models[kind], batch)
    filled_loss, filled_gradients = loss_and_gradients(models[kind], filled)
    torch.testing.assert_close(filled_loss, loss, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(filled_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients.values())


def test_sizes_become_exactly_those_wanted_and_the_document_has_no_labels():
    batch = paired()
    filled = fill_up(batch, PAD, 32, 16)
    for name, tensor in filled.items():
        wanted = 32 if name in ("input_ids", "position_ids") else 16
        assert tensor.shape == (1, wanted) and tensor.dtype == torch.int64
        assert torch.equal(tensor[:, : batch[name].shape[1]], batch[name])
    assert filled["position_ids"][0, 20:].tolist() == list(range(12))
    assert filled["decoder_position_ids"][0, 9:].tolist() == list(range(7))
    assert (filled["labels"][0, 9:] == -100).all()
    assert (filled["input_ids"][0, 20:] == PAD).all() and (filled["decoder_input_ids"][0, 9:] == PAD).all()
    assert (filled["position_ids"] == 0).sum() == (filled["decoder_position_ids"] == 0).sum() == 4


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows_are_filled_up_together_by_documents_no_longer_than_a_row(models, rows):
    sizes, batch = Sizes(30, 12), paired()
    filled = fill_up_rows(batch, PAD, sizes, rows)
    assert filled["input_ids"].shape == (1, 30 * rows) and filled["labels"].shape == (1, 12 * rows)
    sources = split_documents(filled["input_ids"][0].numpy(), filled["position_ids"][0].numpy())
    targets = split_documents(filled["labels"][0].numpy(), filled["decoder_position_ids"][0].numpy())
    assert len(sources) == len(targets) == 3 + rows
    assert max(map(len, sources[3:])) <= 30 and max(map(len, targets[3:])) <= 12
    loss, gradients = loss_and_gradients(models["pair"], batch)
    filled_loss, filled_gradients = loss_and_gradients(models["pair"], filled)
    torch.testing.assert_close(filled_loss, loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(filled_gradients, gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sizes", [Sizes(20, 12), Sizes(30, 9), Sizes(15, 7)])
def test_rows_that_take_too_much_have_the_room_of_more(sizes):
    filled = fill_up_rows(paired(), PAD, sizes, 1)
    source, target = filled["input_ids"].shape[1], filled["labels"].shape[1]
    rows = source // sizes.source
    assert rows > 1 and (source, target) == (rows * sizes.source, rows * sizes.target)
    assert (rows - 1) * sizes.source <= 20 or (rows - 1) * sizes.target <= 9


def test_token_types_are_filled_with_the_first():
    batch = {**causal(), "token_type_ids": torch.ones(1, 13, dtype=torch.int64)}
    assert fill_up(batch, 5, 15)["token_type_ids"][0, 13:].tolist() == [0, 0]


def test_a_full_batch_stays_as_it_is():
    batch = paired()
    assert fill_up(batch, PAD, 20, 9) is batch


@pytest.mark.parametrize("sizes", [(19, 16), (32, 8), (20, 16), (32, 9)])
def test_what_does_not_fit_is_refused(sizes):
    with pytest.raises(
        InputError, match=rf"a batch of 20 and 9 tokens cannot be filled up to {sizes[0]} and {sizes[1]}"
    ):
        fill_up(paired(), PAD, *sizes)
    with pytest.raises(InputError, match="a batch of 13 tokens cannot be filled up to 12"):
        fill_up(causal(), PAD, 12)


def test_joined_batches_are_the_documents_of_all():
    first, second = paired(0), paired(5)
    joined = join([first, second])
    assert all(torch.equal(joined[name], torch.cat([first[name], second[name]], 1)) for name in first)


def test_documents_are_split_where_positions_restart():
    row = np.arange(6)
    parts = split_documents(row, np.array([0, 1, 0, 0, 1, 2]))
    assert [part.tolist() for part in parts] == [[0, 1], [2], [3, 4, 5]]
    assert [part.tolist() for part in split_documents(row, np.array([4, 5, 0, 1, 2, 3]))] == [[0, 1], [2, 3, 4, 5]]


def padded(batch):
    """The same documents, one a row, padded: what any encoder-decoder of transformers takes."""
    sources = split_documents(batch["input_ids"][0].numpy(), batch["position_ids"][0].numpy())
    targets = split_documents(batch["labels"][0].numpy(), batch["decoder_position_ids"][0].numpy())
    sources, targets = [[torch.from_numpy(text) for text in side] for side in (sources, targets)]
    return {
        "input_ids": pad_sequence(sources, batch_first=True, padding_value=PAD),
        "attention_mask": pad_sequence([torch.ones_like(text) for text in sources], batch_first=True),
        "labels": pad_sequence(targets, batch_first=True, padding_value=-100),
    }


def test_the_flattened_loss_is_the_padded_one(models):
    with torch.no_grad():
        loss = models["pair"](**padded(paired())).loss
        torch.testing.assert_close(models["pair"](**paired()).loss, loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("collator", [SpanCorruptionCollator, DenoisingCollator, UL2Collator])
def test_nothing_passes_between_the_documents_of_an_objectives_batch(tokenizers, collator):
    """Each document alone, padded, gives the loss of all of them end to end, filled up where the objective does so."""
    torch.manual_seed(0)
    fields = dict(TINY, vocab_size=512, max_position_embeddings=512, eos_token_id=1, decoder_start_token_id=PAD)
    model = TriviumEncoderDecoderForConditionalGeneration(TriviumEncoderDecoderConfig(**fields)).eval()
    rows = []
    for index, lengths in enumerate(([30, 34], [5, 1, 58], [64])):
        positions = np.concatenate([np.arange(length) for length in lengths])
        rows.append({"input_ids": texts([64], index)[0] + 110, "position_ids": positions, "place": (0, index)})
    batch = collator(tokenizers["encoder-decoder"])(rows)
    with torch.no_grad():
        loss = model(**padded(batch)).loss
        torch.testing.assert_close(model(**batch).loss, loss, rtol=1e-5, atol=1e-6)
