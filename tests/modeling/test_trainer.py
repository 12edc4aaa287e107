"""Through the stock `Trainer`: however a step is cut into micro-batches, it is the same step, for every head."""

import pytest
import torch
from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments

from tests.families import HEADS, TRAINED_HEADS, distance, draw_texts, flattened, make_model, padded

LENGTHS = (5, 9, 1, 7, 3, 8, 2, 6)


def questions(head, config) -> list:
    """Eight examples of unequal length, with unequal numbers of labels; two of them without any where that can be."""
    examples = draw_texts(head, config, LENGTHS if head.task != "choice" else (4,) * 16, seed=3, labels=True)
    if head.task == "choice":
        pairs = zip(examples[::2], examples[1::2], strict=True)
        return [
            {"input_ids": torch.stack([a["input_ids"], b["input_ids"]]), "labels": torch.tensor(i % 2)}
            for i, (a, b) in enumerate(pairs)
        ]
    if head.task in ("lm", "pretraining", "tokens"):
        examples[3]["labels"][:] = -100
        examples[5]["labels"][1:] = -100
    return examples


def choices(examples: list) -> dict:
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}


def end_to_end(examples: list) -> dict:
    """The stock collator for causal models, which says that nothing predicts the first token of a document."""
    if set(examples[0]) == {"input_ids", "labels"} and examples[0]["labels"].ndim == 1:
        lists = [{name: value.tolist() for name, value in example.items()} for example in examples]
        return DataCollatorWithFlattening(return_flash_attn_kwargs=True)(lists)
    return flattened(examples)


class Gradients(Trainer):
    """Keeps the gradients that the optimizer is about to use."""

    def create_optimizer(self, *args, **kwargs):
        optimizer = super().create_optimizer(*args, **kwargs)
        optimizer.register_step_pre_hook(self.keep)
        return optimizer

    def keep(self, *_):
        self.gradients = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}


def one_step(head, variant, collate, tmp_path, batch: int, accumulation: int):
    """The logged loss, the gradients and the parameters after one step of plain gradient descent on eight examples."""
    model = make_model(head, variant, torch.float64)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=0.1,
        optim="sgd",
        max_grad_norm=0.0,
        logging_steps=1,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Gradients(model, arguments, train_dataset=questions(head, model.config), data_collator=collate)
    trainer.train()
    loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return loss, trainer.gradients, {name: p.detach().clone() for name, p in model.named_parameters()}


CASES = [
    (head, "plain", layout)
    for head in TRAINED_HEADS
    for layout in ("padded", "flat")
    if head.task != "choice" or layout == "padded"
]
CASES += [
    (head, variant, "padded") for head in TRAINED_HEADS if head.task == "pretraining" for variant in ("bert", "pooler")
]


@pytest.mark.parametrize(("head", "variant", "layout"), CASES, ids=str)
def test_accumulation_is_one_large_batch(head, variant, layout, tmp_path):
    collate = choices if head.task == "choice" else {"padded": padded, "flat": end_to_end}[layout]
    whole = one_step(head, variant, collate, tmp_path, batch=8, accumulation=1)
    assert set(whole[1]) == {name for name, _ in make_model(head, variant).named_parameters()}
    moved = {name for name, gradient in whole[1].items() if gradient.any()}
    # What is added to every choice alike changes nothing.
    assert whole[0] > 0 and moved >= whole[1].keys() - ({"score.bias"} if head.task == "choice" else set())
    loss, gradients, parameters = one_step(head, variant, collate, tmp_path, batch=2, accumulation=4)
    assert loss == pytest.approx(whole[0], abs=2e-6)
    worst = max((distance(gradients[name], whole[1][name]), name) for name in whole[1])
    assert worst[0] < 1e-9, worst
    assert max(distance(parameters[name], whole[2][name]) for name in whole[2]) < 1e-9


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
@pytest.mark.parametrize("head", [head for head in HEADS if head.task == "sequence"], ids=str)
def test_accumulation_of_regression_and_multi_label(head, problem, tmp_path, monkeypatch):
    def with_numbers(head, config):
        config.problem_type = problem
        examples = draw_texts(head, config, LENGTHS, seed=3)
        for number, example in enumerate(examples):
            values = torch.tensor([number % 2, number % 3 == 0], dtype=torch.float64)
            example["labels"] = values if problem == "multi_label_classification" else values - 0.5 * number
        return examples

    monkeypatch.setitem(globals(), "questions", with_numbers)

    def collate(examples):
        labels = torch.stack([example["labels"] for example in examples])
        return padded([{k: v for k, v in e.items() if k != "labels"} for e in examples]) | {"labels": labels}

    whole = one_step(head, "plain", collate, tmp_path, 8, 1)
    cut = one_step(head, "plain", collate, tmp_path, 2, 4)
    assert cut[0] == pytest.approx(whole[0], abs=2e-6)
    assert max(distance(cut[1][name], whole[1][name]) for name in whole[1]) < 1e-9


@pytest.mark.parametrize("head", TRAINED_HEADS, ids=str)
def test_evaluation_gives_what_predictions_need(head, tmp_path):
    """Logits come back in evaluation, and the held-out loss is the loss of the whole set whatever the batch."""
    model = make_model(head, dtype=torch.float64)
    collate = choices if head.task == "choice" else padded
    losses = []
    for batch in (8, 4):
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            per_device_eval_batch_size=batch,
            use_cpu=True,
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
        )
        examples = questions(head, model.config)[:1] * 8
        trainer = Trainer(model, arguments, eval_dataset=examples, data_collator=collate)
        result = trainer.predict(examples)
        losses.append(result.metrics["test_loss"])
        predictions = result.predictions[0] if isinstance(result.predictions, tuple) else result.predictions
        assert len(predictions) == 8
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)
