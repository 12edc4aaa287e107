"""BERT's pairs: what each piece becomes, how labels are drawn, and what the model makes of them when flattened."""

import numpy as np
import pytest
import torch

from trivium.configuration import InputError, TriviumEncoderConfig
from trivium.modeling import TriviumEncoderForPreTraining
from trivium.training.objectives.next_sentence import NextSentenceCollator
from trivium.training.objectives.words import Words


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return tokenizers["encoder"]


@pytest.fixture(scope="module")
def corpus(tokenizer, documents):
    """The tokenized documents, long and very short ones."""
    return [{"input_ids": np.array(tokenizer(text)["input_ids"])} for text in documents]


@pytest.fixture(scope="module")
def rows(corpus):
    """Rows of 128 tokens cut from the documents laid end to end: pieces that are whole, cut before, cut after."""
    ids = np.concatenate([document["input_ids"] for document in reversed(corpus)])[: 128 * 200]
    positions = np.concatenate([np.arange(len(document["input_ids"])) for document in reversed(corpus)])
    rows = []
    for index, row in enumerate(ids[: len(ids) // 128 * 128].reshape(-1, 128)):
        starts = np.flatnonzero(positions[128 * index : 128 * (index + 1)] == 0)
        starts = np.unique(np.append(0, starts))
        restarted = np.arange(128) - np.repeat(starts, np.diff(starts, append=128))
        rows.append({"input_ids": row, "position_ids": restarted, "place": (0, index)})
    return rows


def unmasked(batch):
    """The tokens before masking."""
    return torch.where(batch["labels"] != -100, batch["labels"], batch["input_ids"])


def pieces(tensor, positions):
    return np.split(tensor.flatten().numpy(), np.flatnonzero(positions.flatten() == 0)[1:])


def contains(text, part):
    windows = np.lib.stride_tricks.sliding_window_view(text, len(part)) if len(text) >= len(part) else np.zeros((0, 1))
    return bool((windows == part).all(-1).any())


def test_each_piece_becomes_a_pair_of_the_same_length(tokenizer, corpus, rows):
    """Slowly from the paper: [CLS] A [SEP] B [SEP], where A and B are one text, or B is of the corpus."""
    batch = NextSentenceCollator(tokenizer, corpus)(rows)
    positions, pairs = batch["position_ids"], {0: 0, 1: 0, -100: 0}
    assert positions.tolist() == [row["position_ids"].tolist() for row in rows]
    labels = batch["next_sentence_label"].tolist()
    made, segments = pieces(unmasked(batch), positions), pieces(batch["token_type_ids"], positions)
    given = pieces(torch.tensor(np.stack([row["input_ids"] for row in rows])), positions)
    assert len(made) == len(given) == len(labels)
    assert batch["cu_seq_lens_q"].tolist() == [0, *np.cumsum([len(piece) for piece in made])]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for label, piece, types, original in zip(labels, made, segments, given, strict=True):
        pairs[label] += 1
        if label == -100:
            assert len(piece) < 8 and piece.tolist() == original.tolist() and not types.any()
            continue
        assert piece[0] == cls and piece[-1] == sep and (piece == cls).sum() == 1 and (piece == sep).sum() == 2
        border = np.flatnonzero(piece == sep)[0]
        assert types.tolist() == [0] * (border + 1) + [1] * (len(piece) - border - 1)
        first, second = piece[1:border], piece[border + 1 : -1]
        assert len(first) and len(second)
        text = original[~np.isin(original, [cls, sep])]
        assert text[: len(first)].tolist() == first.tolist()
        if label == 0:
            assert text[len(first) : len(piece) - 3].tolist() == second.tolist()
        else:
            assert any(contains(document["input_ids"], second) for document in corpus)
    assert pairs[-100] >= 1 and pairs[0] > 50 and pairs[1] > 50


def test_half_of_the_pairs_are_random_and_neither_lengths_nor_cuts_tell_which(tokenizer, corpus, rows):
    collator = NextSentenceCollator(tokenizer, corpus)
    words, labels, lengths, sentences = collator.words, [], [], []
    for epoch in range(5):
        batch = collator([{**row, "place": (epoch, row["place"][1])} for row in rows])
        ids = pieces(unmasked(batch), batch["position_ids"])
        for label, piece in zip(batch["next_sentence_label"].tolist(), ids, strict=True):
            if label != -100:
                border = np.flatnonzero(piece == tokenizer.sep_token_id)[0]
                labels.append(label)
                lengths.append(len(piece) - border)
                sentences.append(words.stops[piece[border - 1]] or words.breaks[piece[border - 1]])
    labels, lengths, sentences = map(np.array, (labels, lengths, sentences))
    assert len(labels) > 900 and abs(labels.mean() - 0.5) < 0.06
    assert abs(np.corrcoef(labels, lengths)[0, 1]) < 0.1
    assert sentences.mean() > 0.9 and abs(np.corrcoef(labels, sentences)[0, 1]) < 0.1


def test_second_segments_begin_where_sentences_do(tokenizer, corpus, rows):
    batch = NextSentenceCollator(tokenizer, corpus)(rows)
    words, seen = Words.of(tokenizer), 0
    begins = {tuple(d["input_ids"][at : at + 6]) for d in corpus for at in words.sentences(d["input_ids"])}
    for label, piece in zip(
        batch["next_sentence_label"].tolist(), pieces(unmasked(batch), batch["position_ids"]), strict=True
    ):
        second = piece[np.flatnonzero(piece == tokenizer.sep_token_id)[0] + 1 : -1] if label == 1 else ()
        if len(second) >= 6:
            seen += tuple(second[:6]) in begins
    assert seen > 40


def test_pairs_depend_on_the_place_and_the_seed_only(tokenizer, corpus, rows):
    def made(features, seed=0):
        batch = NextSentenceCollator(tokenizer, corpus, seed=seed)(features)
        return [batch[name] for name in ("input_ids", "token_type_ids", "labels")]

    together, alone = made(rows[:4]), [made([row]) for row in rows[:4]]
    for number, tensor in enumerate(together):
        assert torch.equal(tensor, torch.cat([batch[number] for batch in alone]))
    assert torch.equal(made([rows[2], rows[0]])[0], together[0][[2, 0]])
    assert not torch.equal(made(rows[:4], seed=1)[0], together[0])
    assert not torch.equal(made([{**row, "place": (1, row["place"][1])} for row in rows[:4]])[0], together[0])


def test_without_a_corpus_random_texts_come_from_the_other_rows(tokenizer, rows):
    collator = NextSentenceCollator(tokenizer)
    batch = collator(rows[:3])
    assert (batch["next_sentence_label"] != -100).any()
    others = np.concatenate([row["input_ids"] for row in rows[1:3]])
    made = pieces(unmasked(batch)[0], batch["position_ids"][0])
    for label, piece in zip(batch["next_sentence_label"].tolist(), made, strict=False):
        if label == 1:
            assert contains(others, piece[np.flatnonzero(piece == tokenizer.sep_token_id)[0] + 1 : -1])
    alone = collator(rows[:1])
    assert (alone["next_sentence_label"] == -100).all() and torch.equal(
        unmasked(alone)[0], torch.tensor(rows[0]["input_ids"])
    )


def test_rows_without_place_and_positions_and_of_different_lengths(tokenizer, corpus):
    features = [{"input_ids": corpus[0]["input_ids"][:50].tolist()}, {"input_ids": corpus[1]["input_ids"][:31]}]
    batch = NextSentenceCollator(tokenizer, corpus, whole_word=True)(features)
    assert batch["token_type_ids"].shape == (1, 81) and len(batch["next_sentence_label"]) == 2
    assert batch.pop("cu_seq_lens_q").dtype == torch.int32  # as flash attention wants it
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_bad_settings(tokenizers, tokenizer):
    with pytest.raises(InputError, match="needs a classification and a separator token"):
        NextSentenceCollator(tokenizers["decoder"])
    with pytest.raises(InputError, match="`mlm_probability`"):
        NextSentenceCollator(tokenizer, probability=0)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return TriviumEncoderForPreTraining(
        TriviumEncoderConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            type_vocab_size=2,
            pooler=True,
            max_position_embeddings=128,
        )
    )


def test_flattened_pairs_give_what_each_pair_gives_alone(tokenizer, corpus, rows, model):
    """Segments, labels and sentence labels of a flattened batch, -100 among them, against one text at a time."""
    batch = NextSentenceCollator(tokenizer, corpus)(rows[:4])
    assert (batch["next_sentence_label"] == -100).any() and (batch["next_sentence_label"] >= 0).sum() >= 3
    model = model.double().eval()
    output = model(**batch)
    names = ("input_ids", "token_type_ids", "labels")
    texts = [pieces(batch[name], batch["position_ids"]) for name in names]
    states, wrong = [], []
    for *text, label in zip(*texts, batch["next_sentence_label"], strict=True):
        single = {name: torch.tensor(part)[None] for name, part in zip(names, text, strict=True)}
        alone = model(**single)
        states.append(alone.seq_relationship_logits)
        if label != -100:
            wrong.append(torch.nn.functional.cross_entropy(alone.seq_relationship_logits, label[None]))
    torch.testing.assert_close(output.seq_relationship_logits, torch.cat(states), atol=1e-9, rtol=0)
    masked = torch.nn.functional.cross_entropy(output.prediction_logits.flatten(0, 1), batch["labels"].flatten())
    assert output.loss.item() == pytest.approx((masked + torch.stack(wrong).mean()).item(), abs=1e-9)
    swapped = model(**{**batch, "token_type_ids": 1 - batch["token_type_ids"]})
    assert not torch.allclose(swapped.seq_relationship_logits, output.seq_relationship_logits)


@pytest.mark.parametrize("chunks", [2, 3])
def test_micro_batches_add_up_to_the_loss_and_gradient_of_the_whole(tokenizer, corpus, rows, model, chunks):
    collator = NextSentenceCollator(tokenizer, corpus)
    model = model.double()

    def step(batches):
        model.zero_grad()
        items = sum((batch["labels"] != -100).sum() for batch in batches)
        losses = [model(**batch, num_items_in_batch=items).loss for batch in batches]
        sum(losses).backward()
        return sum(losses).item(), torch.cat([weight.grad.flatten() for weight in model.parameters()])

    whole, gradient = step([collator(rows[:6])])
    parts, added = step([collator(list(part)) for part in np.array_split(np.array(rows[:6], dtype=object), chunks)])
    assert parts == pytest.approx(whole, abs=1e-9)
    torch.testing.assert_close(added, gradient, atol=1e-9, rtol=0)


def test_thirty_steps_lower_both_losses(tokenizer, corpus, rows, model):
    collator = NextSentenceCollator(tokenizer, corpus)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch, losses = collator(rows[:8]), []
    for _ in range(30):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    sentences = model(**{**batch, "labels": None}).loss.item()
    assert losses[-1] < losses[0] - 2 and sentences < 0.4
