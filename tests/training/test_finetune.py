"""Every task of every family is learnt, kept, answered as it was measured, and the same however it is computed."""

import json
import shutil

import pytest
import torch
from transformers import pipeline

from tests.training.finetuned import CASES, examples, finetune, write_base, write_data
from trivium.training import predict

IDS = [f"{task}-{family}" for task, family in CASES]


@pytest.fixture(scope="session")
def bases(tokenizers, tmp_path_factory):
    """A checkpoint of each family to begin with."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bases")
    return {family: write_base(folder / family, family, tokenizer) for family, tokenizer in tokenizers.items()}


@pytest.fixture(scope="module", params=CASES, ids=IDS)
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
    assert predict.main(["--model", str(folder), "--input", str(data), *arguments]) == 0
    said = capsys.readouterr()
    return [json.loads(line) for line in said.out.splitlines()], said.err


def test_what_was_measured_is_what_the_model_answers(tuned, capsys):
    task, folder, metrics, data = tuned
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
