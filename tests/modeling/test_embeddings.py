"""Resizing embeddings, replacing them, and what is tied to them afterwards."""

import pytest
import torch

from tests.families import HEADS, LM_HEADS, VOCAB, case_name, distance, draw_texts, main_outputs, make_model, padded

TYINGS = {
    "tied": {},
    "untied": dict(tie_word_embeddings=False),
    "own embeddings": dict(share_embeddings=False),
    "all apart": dict(share_embeddings=False, tie_word_embeddings=False),
}
CASES = [
    (head, tying, variant)
    for head in HEADS
    for tying, fields in TYINGS.items()
    for variant in ("sinusoidal", "bert")
    if "share_embeddings" not in fields or head.family == "encoder_decoder"
    if head.task in ("lm", "base", "pretraining")
]
SIZES = [VOCAB + 33, VOCAB - 20]


def vocabularies(model) -> dict[str, int]:
    """How many tokens each end of the model knows."""
    ends = {"in": model.get_input_embeddings().weight.shape[0], "config": model.config.get_text_config().vocab_size}
    ends["embedding"] = model.get_input_embeddings().num_embeddings
    if model.config.is_encoder_decoder:
        decoder = model.get_decoder()
        ends |= {"decoder": decoder.embed_tokens.weight.shape[0], "decoder config": decoder.config.vocab_size}
        ends |= {"encoder config": model.config.encoder.vocab_size, "whole config": model.config.vocab_size}
    if (output := model.get_output_embeddings()) is not None:
        ends |= {"out": output.weight.shape[0], "linear": output.out_features}
        if output.bias is not None:
            ends["bias"] = output.bias.shape[0]
    return ends


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("head", "tying", "variant"), CASES, ids=case_name)
def test_resizing(head, tying, variant, size, tmp_path):
    """Every end follows, old rows stay, the scale of the embedding stays, and the checkpoint knows."""
    model = make_model(head, variant, **TYINGS[tying])
    texts = draw_texts(head, model.config)
    for text in texts:
        for name in ("input_ids", "decoder_input_ids"):
            if name in text:
                text[name] %= VOCAB - 20
    batch = padded(texts)
    before = main_outputs(model(**batch))
    model.resize_token_embeddings(size, mean_resizing=False)
    assert set(vocabularies(model).values()) == {size}, vocabularies(model)
    after, kept = main_outputs(model(**batch)), min(size, VOCAB)
    for first, second in zip(before, after, strict=True):
        vocabulary = first.shape[-1] == VOCAB
        assert distance(second[..., :kept] if vocabulary else second, first[..., :kept] if vocabulary else first) < 1e-6
    model.save_pretrained(tmp_path)
    loaded = head.model.from_pretrained(tmp_path)
    assert set(vocabularies(loaded).values()) == {size}
    assert all(torch.equal(a, b) for a, b in zip(after, main_outputs(loaded(**batch)), strict=True))


@pytest.mark.parametrize("tying", TYINGS)
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_resized_models_train(head, tying):
    """What was tied is tied still: one tensor, one gradient; and the mean resizing of transformers works."""
    if head.family != "encoder_decoder" and "share_embeddings" in TYINGS[tying]:
        pytest.skip("has one side")
    model = make_model(head, **TYINGS[tying])
    model.resize_token_embeddings(VOCAB + 5, pad_to_multiple_of=8)
    assert set(vocabularies(model).values()) == {104}
    tied = model.get_output_embeddings().weight is model.get_decoder().get_input_embeddings().weight
    assert tied is TYINGS[tying].get("tie_word_embeddings", True)
    texts = draw_texts(head, model.config, labels=True)
    texts[0]["labels"][1] = 103
    model.train()
    model(**padded(texts)).loss.backward()
    assert model.get_output_embeddings().weight.grad[103].any()


@torch.no_grad()
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_replacing_embeddings(head):
    """A new embedding is used, on both sides where they share one, and the output follows where it is tied."""
    model = make_model(head)
    new = torch.nn.Embedding(VOCAB, 32)
    model.set_input_embeddings(new)
    model.tie_weights()
    assert model.get_input_embeddings() is new
    if head.family == "encoder_decoder":
        assert model.get_decoder().embed_tokens.weight is new.weight
    assert model.get_output_embeddings().weight is new.weight
    model.set_output_embeddings(torch.nn.Linear(32, VOCAB, bias=False))
    assert model.lm_head.weight is not new.weight
