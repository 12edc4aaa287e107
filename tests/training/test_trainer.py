import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import trivium
from trivium.configuration import InputError
from trivium.training.arguments import PretrainTrainingArguments
from trivium.training.data.packing import PackedDataset
from trivium.training.objectives.causal_lm import CausalLMCollator
from trivium.training.objectives.masked_lm import MaskedLMCollator
from trivium.training.pretraining import PretrainTrainer

TINY = dict(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)


def blocks(rows=6, length=16):
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    documents = [[(7 * row + place) % 60 + 1 for place in range(length - row)] for row in range(rows)]
    return PackedDataset(datasets.Dataset.from_dict({"input_ids": documents}, features=features), length)


def decoder(**fields):
    torch.manual_seed(0)
    return trivium.TriviumDecoderForCausalLM(trivium.TriviumDecoderConfig(**TINY, **fields))


def trainer_for(model, folder, collator=None, **arguments):
    defaults = dict(output_dir=str(folder), disable_tqdm=True, use_cpu=True, eval_on_start=False, max_steps=2)
    return PretrainTrainer(
        model=model,
        args=PretrainTrainingArguments(**defaults | dict(per_device_train_batch_size=2) | arguments),
        data_collator=collator or CausalLMCollator(),
        train_dataset=blocks(),
        eval_dataset=blocks(3),
        byte_lengths=[1] * 64,
    )


@pytest.mark.parametrize("use_cache", [True, False])
def test_saved_config_says_what_the_model_said_about_its_cache(tmp_path, use_cache):
    trainer = trainer_for(decoder(use_cache=use_cache), tmp_path)
    trainer.train()
    assert trainer.model.config.use_cache is False
    for folder in (tmp_path / "checkpoint-2", tmp_path / "saved"):
        if folder.name == "saved":
            trainer.save_model(str(folder))
        assert json.loads((folder / "config.json").read_text())["use_cache"] is use_cache
        assert AutoConfig.from_pretrained(folder).use_cache is use_cache


def test_an_encoder_is_saved_without_a_cache_setting_and_loads(tmp_path, tokenizers):
    model = trivium.TriviumEncoderForMaskedLM(trivium.TriviumEncoderConfig(**TINY | {"vocab_size": 512}))
    trainer = trainer_for(model, tmp_path, MaskedLMCollator(tokenizers["encoder"]))
    trainer.save_model()
    assert "use_cache" not in json.loads((tmp_path / "config.json").read_text())
    assert isinstance(AutoConfig.from_pretrained(tmp_path), trivium.TriviumEncoderConfig)


def test_the_collators_are_enough_for_the_stock_trainer(tmp_path, tokenizers):
    """Packed rows through transformers' own Trainer and a stock model, masks drawn anew each time."""
    collator = CausalLMCollator()
    model = LlamaForCausalLM(LlamaConfig(**TINY, intermediate_size=32))
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, disable_tqdm=True, use_cpu=True, save_strategy="no"
    )
    trainer = Trainer(model, arguments, collator, blocks(), eval_dataset=blocks(3))
    assert trainer.train().training_loss < 6
    assert trainer.evaluate()["eval_loss"] < 6


def test_a_stock_model_is_evaluated_like_ours(tmp_path):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**TINY, intermediate_size=32))
    result = trainer_for(model, tmp_path).evaluate()
    nats = tokens = 0
    for row in map(blocks(3).__getitem__, range(len(blocks(3)))):
        for document in np.split(row["input_ids"], np.flatnonzero(row["position_ids"] == 0)[1:]):
            ids = torch.tensor(document)[None]
            if ids.shape[1] > 1:
                nats += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
                tokens += ids.shape[1] - 1
    assert result["eval_predicted_tokens"] == tokens > 20
    assert result["eval_loss"] == pytest.approx(nats / tokens, rel=1e-5)


def test_a_checkpoint_whose_save_fails_is_removed_and_the_one_before_stays(tmp_path, monkeypatch):
    trainer = trainer_for(decoder(), tmp_path, max_steps=4, save_steps=2)
    saved = Trainer._save_optimizer_and_scheduler

    def fail_later(self, folder):
        if folder.endswith("-4"):
            raise OSError(28, os.strerror(28))
        saved(self, folder)

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", fail_later)
    with pytest.raises(OSError, match="No space left"):
        trainer.train()
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-2"]


def test_each_epoch_draws_new_masks_and_repeats_them_after_resuming(tmp_path, tokenizers):
    seen = []

    class Recording(MaskedLMCollator):
        def __call__(self, features):
            batch = super().__call__(features)
            seen.append(
                [(feature["place"], labels.tolist()) for feature, labels in zip(features, batch["labels"], strict=True)]
            )
            return batch

    def run(folder, **arguments):
        torch.manual_seed(0)
        model = trivium.TriviumEncoderForMaskedLM(trivium.TriviumEncoderConfig(**TINY | {"vocab_size": 512}))
        trainer = trainer_for(
            model, folder, Recording(tokenizers["encoder"]), max_steps=-1, num_train_epochs=2, save_steps=3, **arguments
        )
        trainer.train(resume_from_checkpoint=arguments.get("resume_from_checkpoint"))
        drawn = [dict(batch) for batch in seen]
        seen.clear()
        return {place: labels for batch in drawn for place, labels in batch.items()}, trainer

    whole, first = run(tmp_path)
    epochs = [{index: labels for (epoch, index), labels in whole.items() if epoch == number} for number in (0, 1)]
    assert epochs[0].keys() == epochs[1].keys() == set(range(len(blocks())))
    assert sum(epochs[0][index] != epochs[1][index] for index in epochs[0]) >= len(blocks()) - 1
    again, second = run(tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert again.items() <= whole.items() and len(again) == 2 * len(blocks()) - 3 * 2  # nothing is read twice
    for left, right in zip(first.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


class SometimesBad(PretrainTrainer):
    """Whose loss is no number in the steps `bad`."""

    bad: tuple[int, ...] = ()

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        return loss * float("nan") if self.state.global_step + 1 in self.bad else loss


def with_bad_steps(folder, bad, **arguments):
    made = trainer_for(decoder(), folder, **arguments)
    made.__class__, made.bad = SometimesBad, bad
    return made


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_whose_loss_is_no_number_changes_nothing_and_is_counted(tmp_path, caplog, muon, accumulation):
    arguments = dict(muon=muon, gradient_accumulation_steps=accumulation, save_steps=1, save_total_limit=9)
    trainer = with_bad_steps(tmp_path, (2, 3), max_steps=4, logging_steps=1, **arguments)
    trainer.train()
    kept = [torch.load(tmp_path / f"checkpoint-{step}" / "optimizer.pt", weights_only=True)["state"] for step in (1, 3)]
    torch.testing.assert_close(*kept, rtol=0, atol=0)
    weights = [AutoModelForCausalLM.from_pretrained(tmp_path / f"checkpoint-{step}") for step in (1, 3, 4)]
    for one, same, other in zip(*(model.parameters() for model in weights), strict=True):
        torch.testing.assert_close(one, same, rtol=0, atol=0)
        assert torch.isfinite(other).all()
    assert "step 2 is left out: its loss is nan" in caplog.text and trainer.guard.skipped == 2
    assert trainer.state.log_history[-2]["skipped_steps"] == 2
    assert all(math.isfinite(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)


def test_ten_bad_steps_in_a_row_stop_the_run_and_name_the_last_good_checkpoint(tmp_path):
    trainer = with_bad_steps(tmp_path, range(4, 100), max_steps=50, save_steps=3, save_total_limit=1)
    with pytest.raises(
        InputError, match="ten steps in a row were left out, the last, 13, because its loss is nan"
    ) as error:
        trainer.train()
    assert f"good checkpoint: {tmp_path / 'checkpoint-12'}" in str(error.value)


def test_a_spike_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("trivium.training.guard.NEEDED", 3)
    trainer = with_bad_steps(tmp_path, (), max_steps=8, save_strategy="no")
    real = PretrainTrainer.compute_loss
    monkeypatch.setattr(
        SometimesBad,
        "compute_loss",
        lambda self, *a, **k: real(self, *a, **k) * (9 if self.state.global_step == 6 else 1),
    )
    trainer.train()
    assert trainer.guard.skipped == 1


def test_several_held_out_sets_are_reported_each_and_together(tmp_path):
    trainer = trainer_for(decoder(), tmp_path)
    one, other = blocks(3), blocks(5, 12)
    parts = {"one": one, "other": other}
    metrics = trainer.evaluate(parts)
    alone = [trainer.evaluate(part) for part in parts.values()]
    for name, own in zip(parts, alone, strict=True):
        assert metrics[f"eval_{name}_loss"] == own["eval_loss"]
    tokens = [own["eval_predicted_tokens"] for own in alone]
    expected = sum(own["eval_loss"] * count for own, count in zip(alone, tokens, strict=True)) / sum(tokens)
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-12) and metrics["eval_predicted_tokens"] == sum(
        tokens
    )


def test_what_is_due_at_the_end_of_a_pass_is_done_there(tmp_path):
    """Of 5 rows, two a step: the second pass ends in step 5."""
    arguments = dict(eval_strategy="epoch", save_strategy="epoch", logging_strategy="epoch", save_total_limit=9)
    trainer = trainer_for(decoder(), tmp_path, max_steps=7, **arguments)
    assert len(trainer.train_dataset) == 5
    trainer.train()
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-3", "checkpoint-5", "checkpoint-7"]
    assert [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry] == [3, 5, 7]
    epochs = {entry["step"]: entry["epoch"] for entry in trainer.state.log_history if "loss" in entry}
    assert epochs == pytest.approx({3: 6 / 5, 5: 2, 7: 14 / 5})


def test_how_often_to_log_and_save_is_as_asked_after_resuming(tmp_path):
    trainer_for(decoder(), tmp_path, max_steps=2, save_steps=2, logging_steps=2).train()
    again = trainer_for(decoder(), tmp_path, max_steps=6, save_steps=1, logging_steps=1, save_total_limit=9)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert (tmp_path / "checkpoint-3").is_dir()
    assert [entry["step"] for entry in again.state.log_history if "loss" in entry] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("muon", [False, True])
def test_norms_biases_and_embeddings_do_not_decay(tmp_path, muon):
    model = decoder(attention_bias=True, tie_word_embeddings=False)
    trainer = trainer_for(model, tmp_path, muon=muon)
    trainer.create_optimizer()
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = trainer.optimizer.param_groups
    decays = {names[p] for group in groups if group["weight_decay"] for p in group["params"]}
    rest = {names[p] for group in groups if not group["weight_decay"] for p in group["params"]}
    assert decays | rest == set(names.values()) and not decays & rest
    assert all(name.endswith("_proj.weight") or (name == "lm_head.weight" and not muon) for name in decays)
    assert {"model.embed_tokens.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"} <= rest


def test_muon_is_one_flag_and_survives_a_checkpoint(tmp_path):
    whole = trainer_for(decoder(), tmp_path / "whole", muon=True, max_steps=4, save_steps=2)
    whole.train()
    assert type(whole.optimizer.optimizer).__name__ == "MuonAdamW"
    resumed = trainer_for(decoder(), tmp_path / "resumed", muon=True, max_steps=4, save_steps=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_shares_of_processes_cover_every_example_once(tmp_path):
    trainer = trainer_for(decoder(), tmp_path)
    dataset = blocks(12)
    shares = []
    for rank in range(3):
        trainer.args = SimpleNamespace(
            process_index=rank,
            world_size=3,
            per_device_eval_batch_size=2,
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
        )
        loader = trainer.get_eval_dataloader(dataset)
        assert len(loader) == math.ceil(math.ceil(len(dataset) / 3) / 2)
        indices = [index for batch in loader.batch_sampler for index in batch]
        shares.append(indices[: len(range(rank, len(dataset), 3))])
    assert len({len(share) for share in shares}) == 2, "here the shares should not be equal"
    assert sorted(index for share in shares for index in share) == list(range(len(dataset)))


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(tmp_path):
    script = tmp_path / "evaluate.py"
    script.write_text(
        "import json, sys\n"
        "import tests.training.test_trainer as here\n"
        "trainer = here.trainer_for(here.decoder(), sys.argv[1], per_device_eval_batch_size=2)\n"
        "trainer.eval_dataset = here.blocks(9)\n"
        "result = trainer.evaluate()\n"
        "if trainer.is_world_process_zero(): print(json.dumps([trainer.args.world_size, result]))\n"
    )
    results = []
    for processes in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd(), "ACCELERATE_USE_CPU": "true"}
        done = subprocess.run(
            [*command, str(script), str(tmp_path / "out")], capture_output=True, text=True, env=environment, check=True
        )
        world_size, result = json.loads(done.stdout.splitlines()[-1])
        assert world_size == processes
        results.append(result)
    assert results[0]["eval_predicted_tokens"] == results[1]["eval_predicted_tokens"]
    assert results[0]["eval_loss"] == pytest.approx(results[1]["eval_loss"], rel=1e-6)
