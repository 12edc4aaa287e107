"""Every task of every family is learnt, kept, answered as it was measured, and the same however it is computed."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import pipeline

from tests.training.finetuned import CASES, examples, finetune, write_base, write_data
from trivium.configuration import InputError
from trivium.training import finetune as verb
from trivium.training import predict
from trivium.training.finetune_arguments import FinetuneArguments, FinetuneTrainingArguments
from trivium.training.finetuning import FinetuneTrainer
from trivium.training.tasks.table import TASKS

# Of the tasks that all families have heads for, the slow tests try the other two.
PARAMETERS = [
    pytest.param((task, family), marks=[pytest.mark.slow] if family != next(iter(TASKS[task].heads)) else [])
    for task, family in CASES
]
OTHERS = ("decoder", "encoder-decoder")
IDS = [f"{task}-{family}" for task, family in CASES]


@pytest.fixture(scope="session")
def bases(tokenizers, tmp_path_factory):
    """A checkpoint of each family to begin with."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bases")
    return {family: write_base(folder / family, family, tokenizer) for family, tokenizer in tokenizers.items()}


@pytest.fixture(scope="module", params=PARAMETERS, ids=IDS)
def tuned(request, bases, tmp_path_factory):
    """A model that was fine-tuned for a moment: the task, the folder, what was measured, and the data."""
    task, family = request.param
    folder = tmp_path_factory.mktemp("tuned")
    data = write_data(folder / "data", task)
    result = finetune(task, bases[family], data, folder / "model")
    yield task, folder / "model", result.metrics, data
    shutil.rmtree(folder)


def answers(folder, data, capsys, *arguments):
    """What `trivium predict` prints."""
    capsys.readouterr()
    assert predict.main(["--model", str(folder), "--input", str(data), *arguments]) == 0
    said = capsys.readouterr()
    return [json.loads(line) for line in said.out.splitlines()], said.err


def test_what_was_measured_is_what_the_model_answers(tuned, capsys):
    _, folder, metrics, data = tuned
    found, said = answers(folder, data / "test.jsonl", capsys, "--measure", "true", "--batch_size", "5")
    assert len(found) == 12
    measured = {line.split()[0]: float(line.split()[1]) for line in said.splitlines() if len(line.split()) == 2}
    assert measured and measured.keys() == {name[5:] for name in metrics if name.startswith("test_")} - {"loss"}
    for name, value in measured.items():
        assert metrics[f"test_{name}"] == pytest.approx(value, abs=1e-3, nan_ok=True), name
    assert metrics["validation_loss"] > 0 and metrics["steps"] == 4


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_size_and_padding_side_change_no_answer(tuned, side):
    task_name, folder, _, _ = tuned
    rows = examples(task_name, 9, seed=3)
    task, model = predict.load_task(str(folder))
    alone = task.predict(model, rows, 1)
    task.tokenizer.padding_side = side
    for size in (2, 16):
        for one, together in zip(alone, task.predict(model, rows, size), strict=True):
            assert one.keys() == together.keys()
            for name, value in one.items():
                if isinstance(value, str | int) or (isinstance(value, list) and isinstance(value[:1] or [""], str)):
                    assert together[name] == value
                else:
                    assert together[name] == pytest.approx(value, abs=1e-5)


def test_the_pipeline_of_the_task_names_the_labels(tuned):
    task, folder, _, data = tuned
    names = {
        "text-classification": "text-classification",
        "token-classification": "token-classification",
        "question-answering": "extractive-question-answering",
        "text-to-text": "text-to-text",
    }
    config = json.loads((folder / "config.json").read_text())
    if task not in names or (task == "text-to-text" and config["model_type"] == "trivium_decoder"):
        assert "id2label" not in config or task in ("multi-label-classification", "regression", "multiple-choice")
        return
    pipe = pipeline(names[task], model=str(folder))
    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    if task == "question-answering":
        found = pipe(question=rows[1]["question"], context=rows[1]["context"])
        assert rows[1]["context"][found["start"] : found["end"]] == found["answer"]
    else:
        text = rows[0].get("text") or rows[0].get("source") or " ".join(rows[0]["tokens"])
        for found in pipe(text):
            named = found.get("label") or found.get("entity")
            assert named is None or named in {"kind", "unkind", "none", "B-THING", "I-THING", "O"}


@pytest.mark.parametrize("family", ["encoder", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_what_can_be_learnt_is_learnt_and_the_best_is_kept(family, bases, tmp_path):
    data = write_data(tmp_path / "data", "text-classification", train=240)
    training = dict(max_steps=400, eval_steps=80, save_steps=80, learning_rate=3e-3)
    metrics = finetune("text-classification", bases[family], data, tmp_path / "model", training).metrics
    assert metrics["test_accuracy"] > 0.9
    history = json.loads((tmp_path / "model" / "trainer_state.json").read_text())["log_history"]
    measured = {entry["step"]: entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry}
    assert measured[metrics["best_step"]] == max(measured.values()) == metrics["validation_accuracy"]


def test_training_ends_early_where_nothing_gets_better(bases, tmp_path):
    data = write_data(tmp_path / "data", "text-classification")
    training = dict(max_steps=100, learning_rate=1e-12, early_stopping_patience=2)
    assert finetune("text-classification", bases["encoder"], data, tmp_path / "model", training).metrics["steps"] == 6


def test_a_bad_end_is_not_kept(bases, tmp_path):
    """The learning rate wrecks the model in the second half; the answer is that of the first."""
    data = write_data(tmp_path / "data", "text-classification", train=60)
    training = dict(max_steps=60, eval_steps=20, save_steps=20, learning_rate=3e-3, lr_scheduler_type="constant")
    training["save_total_limit"] = 9
    good = finetune("text-classification", bases["encoder"], data, tmp_path / "good", training)
    other = shutil.copytree(tmp_path / "good" / "checkpoint-60", tmp_path / "kept")
    wreck = training | dict(max_steps=120, learning_rate=30.0, resume_from_checkpoint=str(other))
    bad = finetune("text-classification", bases["encoder"], data, tmp_path / "bad", wreck)
    history = json.loads((tmp_path / "bad" / "trainer_state.json").read_text())["log_history"]
    losses = {entry["step"]: entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry}
    assert losses[120] < losses[60] and bad.metrics["best_step"] <= 60
    assert bad.metrics["validation_accuracy"] == max(losses.values()) == good.metrics["validation_accuracy"]


@pytest.mark.parametrize(
    "task, family, lora",
    [
        ("text-classification", "encoder", {"r": 4, "lora_dropout": 0.0}),
        ("token-classification", "decoder", None),
        ("text-to-text", "encoder-decoder", None),
        pytest.param("text-embedding", "encoder", None, marks=pytest.mark.slow),
        pytest.param("question-answering", "encoder-decoder", {"r": 4, "lora_dropout": 0.0}, marks=pytest.mark.slow),
    ],
)
def test_packing_changes_neither_what_is_learnt_nor_what_is_measured(task, family, lora, bases, tmp_path):
    data = write_data(tmp_path / "data", task)
    found = []
    for packing in (False, True):
        training = dict(gradient_accumulation_steps=2, logging_steps=1, per_device_train_batch_size=4)
        more = {"lora_config": lora} if lora else {}
        finetune(task, bases[family], data, tmp_path / str(packing), training, packing=packing, **more)
        log = json.loads((tmp_path / str(packing) / "trainer_state.json").read_text())["log_history"]
        found.append([entry[name] for entry in log for name in ("loss", "eval_loss", "test_loss") if name in entry])
        waste = [entry["waste"] for entry in log if "waste" in entry]
        assert (max(waste) == 0) == packing
    assert len(found[0]) == 7 and found[1] == pytest.approx(found[0], abs=1e-4)


def test_one_row_is_not_dealt_out_to_several_devices(bases, tmp_path, monkeypatch):
    monkeypatch.setattr(FinetuneTrainingArguments, "n_gpu", 2)
    data = write_data(tmp_path / "data", "text-classification")
    with pytest.raises(InputError, match="`packing` makes one row of a batch, which a process cannot deal out to 2"):
        finetune("text-classification", bases["encoder"], data, tmp_path / "model", packing=True)


@pytest.mark.parametrize("lora", [None, {"r": 4}])
@pytest.mark.parametrize("task", ["token-classification", "text-to-text"])
def test_stopped_and_resumed_is_uninterrupted(task, lora, bases, tmp_path):
    data = write_data(tmp_path / "data", task)
    settings = dict(
        max_steps=12, eval_steps=6, save_steps=6, load_best_model_at_end=False, lr_scheduler_type="constant"
    )
    more = {"lora_config": lora} if lora else {}
    finetune(task, bases["decoder"], data, tmp_path / "whole", settings, **more)
    finetune(task, bases["decoder"], data, tmp_path / "parts", settings | {"max_steps": 6}, **more)
    finetune(task, bases["decoder"], data, tmp_path / "parts", settings, **more)
    whole, parts = (predict.load_task(str(tmp_path / name))[1].state_dict() for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_two_processes_measure_what_one_does(bases, tmp_path):
    data = write_data(tmp_path / "data", "token-classification", test=13)
    common = ["-m", "trivium.training.finetune", "--task", "token-classification", "--model", str(bases["encoder"])]
    common += ["--data", str(data), "--max_steps", "4", "--eval_strategy", "no", "--save_strategy", "no"]
    common += ["--load_best_model_at_end", "false", "--learning_rate", "1e-3", "--disable_tqdm", "true"]
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
        command = [sys.executable, *launcher, *common, "--output_dir", str(folder)]
        command += ["--per_device_train_batch_size", str(8 // processes), "--per_device_eval_batch_size", "5"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        record = json.loads((folder / "trivium_run.json").read_text())
        assert record["machine"]["processes"] == processes
        found.append(record["metrics"])
    for name in (name for name in found[0] if name.startswith(("validation", "test"))):
        assert found[0][name] == pytest.approx(found[1][name], abs=1e-5), name


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", ["encoder", *OTHERS])
def test_a_new_head_has_a_learning_rate_of_its_own(bases, tmp_path, family, lora):
    data = write_data(tmp_path / "data", "text-classification")
    args = FinetuneArguments(task="text-classification", model=str(bases[family]), data=[str(data)], lora=lora)
    training = FinetuneTrainingArguments(output_dir=str(tmp_path / "out"), max_steps=4, head_learning_rate=0.5)
    trainer, _, _ = verb.make_trainer(args, training, verb.load_config(args.model))
    groups = trainer.create_optimizer().param_groups
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert len(found) == len(trained) == sum(len(group["params"]) for group in groups)
    for name, p in trained.items():
        assert found[id(p)] == (
            0.5 if ".score." in f".{name}" else 1e-4,
            0.01 if p.ndim > 1 and "embed" not in name else 0.0,
        )
    scheduler = trainer.create_scheduler(num_training_steps=10)
    assert {*scheduler.base_lrs} == {0.5, 1e-4}


def test_a_task_without_a_new_head_has_no_learning_rate_for_it(bases, tmp_path):
    data = write_data(tmp_path / "data", "text-to-text")
    args = FinetuneArguments(task="text-to-text", model=str(bases["decoder"]), data=[str(data)], max_target_length=16)
    training = FinetuneTrainingArguments(output_dir=str(tmp_path / "out"), head_learning_rate=0.5)
    with pytest.raises(InputError, match="a new head, which text-to-text has not"):
        verb.make_trainer(args, training, verb.load_config(args.model))


@pytest.mark.parametrize("from_scratch", [False, True])
def test_the_head_of_several_labels_begins_with_how_likely_they_are(bases, tmp_path, from_scratch):
    task = "multi-label-classification"
    data = write_data(tmp_path / "data", task)
    lines = (data / "train.jsonl").read_text().splitlines()
    rare = [line for line in lines if "good" not in json.loads(line)["labels"]]  # of labels that are common alike
    (data / "train.jsonl").write_text("\n".join([*lines, *rare, *rare]))
    args = FinetuneArguments(task=task, model=str(bases["encoder"]), data=[str(data)], from_scratch=from_scratch)
    training = FinetuneTrainingArguments(output_dir=str(tmp_path / "out"), max_steps=1)
    trainer, _, _ = verb.make_trainer(args, training, verb.load_config(args.model))
    targets = torch.tensor(trainer.train_dataset.features["target"])
    expected = (targets.sum(0) + 1) / (len(targets) + 2)
    assert (expected - 0.5).abs().max() > 0.1
    torch.testing.assert_close(trainer.model.score.bias.detach().sigmoid(), expected, atol=1e-6, rtol=0)
    trainer.model.score.bias.data.fill_(0.25)
    trainer.model.save_pretrained(tmp_path / "tuned")
    trainer.processing_class.save_pretrained(tmp_path / "tuned")
    again = FinetuneArguments(task=task, model=str(tmp_path / "tuned"), data=[str(data)])
    trainer, _, _ = verb.make_trainer(again, training, verb.load_config(again.model))
    assert (trainer.model.score.bias == 0.25).all()  # a head that has weights keeps them


def test_hyperparameters_are_searched(bases, tokenizers, tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = write_data(tmp_path / "data", "text-classification")
    args = FinetuneArguments(task="text-classification", model=str(bases["encoder"]), data=[str(data)])
    training = FinetuneTrainingArguments(
        output_dir=str(tmp_path / "search"),
        max_steps=4,
        eval_steps=4,
        eval_strategy="steps",
        save_strategy="no",
        load_best_model_at_end=False,
        disable_tqdm=True,
    )
    config = verb.load_config(args.model)
    first, _, _ = verb.make_trainer(args, training, config)
    trainer = FinetuneTrainer(
        model_init=lambda trial: verb.load_model(
            args, "AutoModelForSequenceClassification", first.task, tokenizers["encoder"], first.train_dataset.features
        ),
        args=training,
        task=first.task,
        data_collator=first.task.collate,
        train_dataset=first.train_dataset,
        eval_dataset=first.eval_dataset,
        processing_class=tokenizers["encoder"],
    )
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_categorical("learning_rate", [1e-12, 1e-2])},
        compute_objective=lambda metrics: metrics["eval_loss"],
        backend="optuna",
        n_trials=2,
        sampler=optuna.samplers.GridSampler({"learning_rate": [1e-12, 1e-2]}),
    )
    assert best.hyperparameters == {"learning_rate": 1e-2}


def test_every_pass_is_measured_once_and_a_part_of_one_at_the_end(bases, tmp_path):
    data = write_data(tmp_path / "data", "text-classification", train=24)
    for passes, steps in ((2, [3, 6]), (1.5, [3, 5])):
        settings = dict(max_steps=-1, num_train_epochs=passes, eval_strategy="epoch", save_strategy="epoch")
        folder = tmp_path / str(passes)
        finetune("text-classification", bases["encoder"], data, folder, settings)
        history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        assert [entry["step"] for entry in history if "eval_loss" in entry] == steps


@pytest.mark.parametrize("task", ["text-classification", "question-answering", "text-to-text"])
def test_an_adapter_left_alone_answers_as_the_merged_model(task, bases, tmp_path, capsys):
    data = write_data(tmp_path / "data", task)
    config = {"r": 4, "lora_alpha": 64}
    for merge in (True, False):
        finetune(task, bases["decoder"], data, tmp_path / str(merge), {}, lora_config=config, merge=merge)
    assert (tmp_path / "False" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "False" / "config.json").exists() and (tmp_path / "True" / "config.json").is_file()
    found = [answers(tmp_path / str(merge), data / "test.jsonl", capsys)[0] for merge in (True, False)]
    plain = {
        name: pytest.approx(value, abs=1e-4) if isinstance(value, float) else value
        for name, value in found[1][0].items()
    }
    assert found[0][0] == plain
    assert [{k: v for k, v in row.items() if k != "score"} for row in found[0]] == [
        {k: v for k, v in row.items() if k != "score"} for row in found[1]
    ]
    card = (tmp_path / "False" / "README.md").read_text()
    assert "An adapter of PEFT (LoRA)" in card and "Parameters trained" in card
