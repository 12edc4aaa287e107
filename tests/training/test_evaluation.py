import math

import datasets
import numpy as np
import pytest
import torch

import trivium
from trivium.tokenization import special_token_ids, token_byte_lengths
from trivium.training.arguments import PretrainTrainingArguments
from trivium.training.data.packing import PackedDataset
from trivium.training.data.tokenizing import tokenize_documents
from trivium.training.evaluation import HeldOutLoss, only_text
from trivium.training.objectives.causal_lm import CausalLMCollator
from trivium.training.objectives.masked_lm import MaskedLMCollator
from trivium.training.objectives.span_corruption import SpanCorruptionCollator
from trivium.training.pretraining import PretrainTrainer

TINY = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=8192)
MODELS = {
    "encoder": (trivium.TriviumEncoderConfig, trivium.TriviumEncoderForMaskedLM),
    "decoder": (trivium.TriviumDecoderConfig, trivium.TriviumDecoderForCausalLM),
    "encoder-decoder": (trivium.TriviumEncoderDecoderConfig, trivium.TriviumEncoderDecoderForConditionalGeneration),
}


def build(family, documents, tokenizer, folder, batch_size, length=64):
    form = {"special_tokens": family != "encoder-decoder", "append_eos": family == "decoder"}
    tokens = tokenize_documents(datasets.Dataset.from_dict({"text": documents}), tokenizer, **form)
    collator = {
        "encoder": lambda: MaskedLMCollator(tokenizer),
        "decoder": CausalLMCollator,
        "encoder-decoder": lambda: SpanCorruptionCollator(tokenizer),
    }[family]()
    config_class, model_class = MODELS[family]
    torch.manual_seed(0)
    model = model_class(config_class(vocab_size=len(tokenizer), **TINY, **special_token_ids(tokenizer)))
    with torch.no_grad():  # far from uniform, so that an error in the weighting shows
        for parameter in model.parameters():
            parameter.mul_(5)
    return PretrainTrainer(
        model=model,
        args=PretrainTrainingArguments(
            output_dir=str(folder), per_device_eval_batch_size=batch_size, disable_tqdm=True, use_cpu=True
        ),
        data_collator=collator,
        eval_dataset=PackedDataset(tokens, length),
        processing_class=tokenizer,
        byte_lengths=token_byte_lengths(tokenizer),
    )


@pytest.mark.parametrize("family", list(MODELS))
def test_the_result_does_not_depend_on_the_batch_size(family, documents, tokenizers, tmp_path):
    results = [build(family, documents[:3], tokenizers[family], tmp_path, size).evaluate() for size in (1, 2, 5, 64)]
    for result in results[1:]:
        assert result["eval_predicted_tokens"] == results[0]["eval_predicted_tokens"] > 100
        assert result["eval_predicted_bytes"] == results[0]["eval_predicted_bytes"]
        assert result["eval_loss"] == pytest.approx(results[0]["eval_loss"], rel=1e-5)
        assert result["eval_bits_per_byte"] == pytest.approx(results[0]["eval_bits_per_byte"], rel=1e-5)


@pytest.mark.parametrize("family", list(MODELS))
def test_masks_are_the_same_before_and_after(family, documents, tokenizers, tmp_path):
    trainer = build(family, documents[:2], tokenizers[family], tmp_path, 4)
    before = trainer.evaluate()
    counts = trainer.held_out.counts
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.mul_(0.2)
    after = trainer.evaluate()
    assert torch.equal(trainer.held_out.counts, counts)
    assert after["eval_loss"] < before["eval_loss"]


def test_bits_per_byte_of_a_decoder_by_hand(documents, tokenizers, tmp_path):
    """The sum of -log2 p(token | tokens before it) over each document, divided by the bytes of the documents."""
    tokenizer = tokenizers["decoder"]
    texts = [*documents[:2], *documents[-3:]]
    trainer = build("decoder", texts, tokenizer, tmp_path, 3, length=10_000)
    result = trainer.evaluate()
    bits = tokens = 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            log_probabilities = trainer.model(input_ids=ids).logits[0].double().log_softmax(-1)
        for position in range(ids.shape[1] - 1):
            bits -= log_probabilities[position, ids[0, position + 1]].item() / math.log(2)
            tokens += 1
    assert result["eval_predicted_tokens"] == tokens
    assert result["eval_predicted_bytes"] == sum(len(text.encode()) for text in texts)
    assert result["eval_bits_per_byte"] == pytest.approx(bits / result["eval_predicted_bytes"], rel=1e-5)
    assert result["eval_perplexity"] == pytest.approx(2 ** (bits / tokens), rel=1e-4)


def test_unigram_baseline_by_hand():
    held_out = HeldOutLoss([0, 1, 2, 3])
    held_out.add(torch.tensor(2.0), torch.tensor([1, 1, 3]))
    held_out.add(torch.tensor(1.0), torch.tensor([2]))
    held_out.add(
        torch.tensor(torch.nan), torch.tensor([], dtype=torch.int64)
    )  # nothing to predict: the mean of nothing
    training = np.array([50, 3, 0, 5])  # with one added: 4, 1 and 6 of 11
    bits = -2 * math.log2(4 / 11) - math.log2(1 / 11) - math.log2(6 / 11)
    assert held_out.unigram_bits_per_byte(training) == pytest.approx(bits / 7)
    metrics = held_out.metrics()
    assert metrics["loss"] == pytest.approx(7 / 4) and metrics["predicted_tokens"] == 4
    assert metrics["predicted_bytes"] == 7
    assert metrics["bits_per_byte"] == pytest.approx(7 / math.log(2) / 7)
    assert metrics["perplexity"] == pytest.approx(math.exp(7 / 4))


def test_nothing_predicted_is_not_a_number_and_not_an_error():
    metrics = HeldOutLoss([1, 1]).metrics()
    assert metrics["predicted_tokens"] == 0 and math.isnan(metrics["bits_per_byte"])


def test_only_text_is_counted():
    labels = torch.tensor([[2, 0, -100], [1, 2, 0]])
    assert only_text(labels, torch.tensor([0, 4, 1])).tolist() == [[2, -100, -100], [1, 2, -100]]


def test_sums_of_processes_are_added():
    mine, other = HeldOutLoss([1, 2]), HeldOutLoss([1, 2])
    mine.add(torch.tensor(1.0), torch.tensor([0, 0]))
    other.add(torch.tensor(4.0), torch.tensor([1]))
    theirs = iter([other.nats, other.counts])
    mine.reduce(lambda total: total + next(theirs))
    assert mine.metrics()["loss"] == pytest.approx(2.0) and mine.metrics()["predicted_bytes"] == 4
