"""A fine-tuning that a signal stopped goes on by itself and ends where it would have."""

import json
import random
import signal
import time

import pytest
import torch

from tests.training.finetuned import write_base, write_data
from tests.training.interrupted import KILLED_IN_A_SAVE, running, stop_at, stop_two_processes, wait_for_steps
from trivium.training import finetune as verb
from trivium.training.checkpoints import checkpoints_in, read_run_state, what_is_broken
from trivium.training.predict import load_task
from trivium.training.stopping import STOPPED
from trivium.training.verbs import run

MODULE = "trivium.training.finetune"
SETTINGS = dict(max_steps=6, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, logging_steps=1)
SETTINGS |= dict(per_device_train_batch_size=8, learning_rate=1e-3, max_length=64, disable_tqdm=True)
ADAPTER = {"lora_config.r": 4, "packing": True}
KINDS = [("text-classification", {}), pytest.param("token-classification", ADAPTER, marks=pytest.mark.slow)]


@pytest.fixture
def argv(tokenizers, tmp_path):
    base = write_base(tmp_path / "base", "encoder", tokenizers["encoder"], hidden_dropout=0.1)

    def arguments(task, out="out", **changed):
        data = tmp_path / task if (tmp_path / task).is_dir() else write_data(tmp_path / task, task)
        fields = {"task": task, "model": base, "data": data, "output_dir": tmp_path / out}
        return [f"--{name}={value}" for name, value in (fields | SETTINGS | changed).items()]

    return arguments


def same_answers(one, other):
    one, other = (load_task(str(folder))[1].state_dict() for folder in (one, other))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("task, changed", KINDS)
def test_sigterm_saves_and_the_same_command_ends_where_it_would_have(
    argv, tmp_path, monkeypatch, capsys, task, changed
):
    assert run(verb.main, argv(task, "whole", **changed)) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, verb.FinetuneTrainer, 3)
        assert run(verb.main, argv(task, **changed)) == STOPPED
    assert "stopped after step 3 as SIGTERM asked; the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "out" / "trivium_run.json").exists()
    assert run(verb.main, argv(task, **changed)) == 0
    same_answers(tmp_path / "whole", tmp_path / "out")
    logs = []
    for name in ("whole", "out"):
        history = json.loads((tmp_path / name / "trainer_state.json").read_text())["log_history"]
        logs.append([(entry["step"], entry[key]) for entry in history for key in ("loss", "eval_loss") if key in entry])
    assert len(logs[0]) == 9 and logs[0] == logs[1]


@pytest.mark.slow
def test_killed_at_random_moments_a_run_always_goes_on(argv, tmp_path):
    task, _ = KINDS[0]
    fields = dict(max_steps=60, save_total_limit=2)
    assert run(verb.main, argv(task, "whole", **fields)) == 0
    folder, chance, reached = tmp_path / "out", random.Random(0), 0
    for kill in range(6):
        killed = ["-c", KILLED_IN_A_SAVE.format(module=MODULE), str(chance.randrange(80))]
        with running(*(killed if kill % 2 else ["-m", MODULE]), *argv(task, **fields)) as process:
            if kill % 2 == 0:
                wait_for_steps(process, chance.randint(1, 6))
                time.sleep(chance.uniform(0, 0.05))
                process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        checkpoints = checkpoints_in(folder)
        assert all(what_is_broken(path) is None for path in checkpoints)  # what goes by the name of one is one
        latest = int(checkpoints[-1].name.rpartition("-")[2]) if checkpoints else 0
        assert latest >= reached
        reached = latest
    assert 0 < reached < 60
    assert run(verb.main, argv(task, **fields)) == 0
    same_answers(tmp_path / "whole", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["launcher", "worker"])
def test_stopped_in_two_processes_a_run_goes_on_in_one(argv, tmp_path, which):
    """Without dropout, of which each process draws its own."""
    task = "text-classification"
    fields = {"max_steps": 30, "save_steps": 30, "eval_steps": 30, "config_overrides.hidden_dropout": 0}
    assert run(verb.main, argv(task, "whole", **fields)) == 0
    stop_two_processes(MODULE, argv(task, per_device_train_batch_size=4, **fields), which)
    (stop,) = checkpoints_in(tmp_path / "out")
    state = read_run_state(stop)
    assert 0 < state["step"] < 30 and state["data"]["rows"] == 8 * state["step"]
    assert run(verb.main, argv(task, **fields)) == 0
    one, other = (load_task(str(tmp_path / name))[1].state_dict() for name in ("whole", "out"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
