"""Bad steps are left out under DeepSpeed as they are without it; see `distributed.py` for how it runs on the CPU."""

import importlib.util
import math

import pytest
import torch
from safetensors.torch import load_file

from tests.training.distributed import launch, run_poisoned

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed"),
]
POISON = {"5": "loss", "8": "spike", "11": "gradient"}
BAD = [int(step) for step in POISON]


@pytest.fixture(scope="module")
def job(tokenizer_folders):
    return dict(
        tokenizer=str(tokenizer_folders["decoder"]),
        max_steps=14,
        gradient_accumulation_steps=2,
        learning_rate=0.01,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=20,
    )


@pytest.fixture(scope="module")
def alone(job, tmp_path_factory):
    """One process's report and folder, without DeepSpeed."""
    folder = tmp_path_factory.mktemp("alone")
    return run_poisoned(**job | {"folder": str(folder), "poison": POISON}), folder


def states(checkpoint):
    """Whatever the processes keep for the optimizer in a checkpoint: moments, counts, master weights."""
    files = sorted(checkpoint.glob("global_step*/*optim_states.pt"))
    assert len(files) == 2
    return [torch.load(file, weights_only=False)["optimizer_state_dict"] for file in files]


def tensors(part):
    """All tensors and numbers in nested dictionaries and lists, in order."""
    if isinstance(part, dict):
        return [found for value in part.values() for found in tensors(value)]
    if isinstance(part, list | tuple):
        return [found for value in part for found in tensors(value)]
    return [part] if isinstance(part, torch.Tensor) else []


@pytest.mark.parametrize("engine", ["zero2", "zero3"])
def test_bad_steps_are_left_out_as_by_one_process_without_deepspeed(engine, job, alone, tmp_path):
    """Loss no number, spike of the loss, gradient no number; in one of the two processes, which both agree."""
    expected, folder = alone
    report = launch(engine, job | {"task": "poison", "folder": str(tmp_path), "poison": POISON})
    assert (report["processes"], report["engine"], report["error"]) == (2, "DEEPSPEED", None)
    assert report["skipped"] == expected["skipped"] == [sum(bad <= step for bad in BAD) for step in range(1, 15)]
    assert report["learning_rates"] == pytest.approx(expected["learning_rates"], rel=1e-6)
    for step in set(range(14)) - {bad - 1 for bad in BAD}:
        for name in ("losses", "norms"):
            assert report[name][step] == pytest.approx(expected[name][step], rel=1e-5)
    assert report["held_out"] == pytest.approx(expected["held_out"], rel=1e-5)
    ours, theirs = (load_file(path / "decoder" / "checkpoint-14" / "model.safetensors") for path in (tmp_path, folder))
    for name, weight in theirs.items():
        assert (ours[name] - weight).abs().max() < 1e-4, name


@pytest.mark.parametrize("engine", ["zero2", "zero3"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_step_left_out_changes_no_bit(engine, precision, job, tmp_path):
    task = {"task": "poison", "folder": str(tmp_path), "poison": POISON, "bf16": precision == "bf16"}
    launch(engine, job | task, options=("--mixed_precision", precision))
    for step in range(2, 15):
        before, after = (tmp_path / "decoder" / f"checkpoint-{number}" for number in (step - 1, step))
        kept = [
            [*tensors(states(folder)), *load_file(folder / "model.safetensors").values()] for folder in (before, after)
        ]
        assert len(kept[0]) == len(kept[1]) > 10
        same = all(torch.equal(one, other) for one, other in zip(*kept, strict=True))
        assert same == (step in BAD), step


@pytest.mark.parametrize("engine", ["zero2", "zero3"])
def test_ten_bad_steps_in_a_row_end_all_processes(engine, job, tmp_path):
    poison = {str(step): "loss" if step % 2 else "spike" for step in range(4, 15)}
    report = launch(engine, job | {"task": "poison", "folder": str(tmp_path), "poison": poison})
    assert report["error"].startswith("ten steps in a row were left out, the last, 13, because its loss")
    assert f"good checkpoint: {tmp_path / 'decoder' / 'checkpoint-12'}" in report["error"]
    assert report["ended"] == [12, 12] and report["skipped"][-1] == 9
    assert math.isfinite(report["held_out"])
