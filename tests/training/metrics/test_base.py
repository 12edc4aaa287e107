import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

from tests.training.metrics import examples as helper
from tests.training.metrics.examples import examples, results
from trivium.configuration import InputError
from trivium.training.metrics import METRICS, base, load
from trivium.training.metrics.classification import Accuracy

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = ["accuracy", "f1", "matthews_correlation", "multilabel", "correlation", "recall_at_k"]


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where metrics keep their files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "shared")
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.filterwarnings("error")
def test_batches_and_single_examples_give_what_all_at_once_gives(name):
    predictions, references = examples(name)
    expected = load(name).compute(predictions=predictions, references=references)
    metric = load(name)
    for start, end in [(0, 1), (1, 1), (1, 20), (20, 32)]:
        metric.add_batch(predictions=predictions[start:end], references=references[start:end])
    assert metric.compute() == expected
    for prediction, reference in zip(predictions, references, strict=True):
        metric.add(prediction=prediction, reference=reference)
    assert metric.compute() == expected
    assert load(name, keep_in_memory=True).compute(predictions=predictions, references=references) == expected


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("kind", [np.array, torch.tensor, lambda rows: [torch.tensor(row) for row in rows]])
def test_arrays_of_numpy_and_torch_are_taken_as_lists_are(name, kind):
    predictions, references = examples(name)
    expected = load(name).compute(predictions=predictions, references=references)
    found = load(name).compute(predictions=kind(predictions), references=kind(references))
    assert found == pytest.approx(expected, rel=1e-6)  # torch makes single precision of a list


@pytest.mark.parametrize("name", METRICS)
def test_results_are_plain_values_that_evaluate_saves(name, tmp_path):
    predictions, references = examples(name)
    result = load(name).compute(predictions=predictions, references=references)
    assert {type(value) for value in result.values()} <= {float, str}
    path = evaluate.save(tmp_path / "result.json", **result)
    assert json.loads(Path(path).read_text()).items() >= result.items()


def test_metrics_of_evaluate_combine():
    predictions, references = examples("accuracy")
    names = ["accuracy", "f1", "recall"]
    expected = {
        key: value
        for name in names
        for key, value in load(name).compute(predictions=predictions, references=references).items()
    }
    together = evaluate.combine([load(name) for name in names])
    assert together.compute(predictions=predictions, references=references) == expected
    together.add_batch(predictions=predictions[:-1], references=references[:-1])
    together.add(prediction=predictions[-1], reference=references[-1])
    assert together.compute() == expected
    named = evaluate.combine({"one": load("accuracy"), "two": load("accuracy")}, force_prefix=True)
    named.add_batch(predictions=predictions, references=references)
    assert named.compute() == dict.fromkeys(["one_accuracy", "two_accuracy"], expected["accuracy"])


def test_two_processes_give_one_result_which_is_that_of_one(tmp_path):
    shared = tmp_path / "shared"
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "HF_METRICS_CACHE": str(shared)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    reports = [tmp_path / "0.json", tmp_path / "1.json"]
    processes = []
    for number, report in enumerate(reports):
        command = [sys.executable, helper.__file__, str(number), str(report)]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        for process in processes:
            errors = process.communicate(timeout=200)[1]
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    first, second = (json.loads(report.read_text()) for report in reports)
    assert first == results()
    assert second == {name: [None] * len(helper.ROUNDS) for name in first}
    assert list(shared.iterdir()) == []


def test_the_examples_of_a_round_go_with_it_whether_it_ends_well_or_not(temporary):
    metric = load("correlation")
    for _ in range(2):
        metric.add_batch(predictions=[1.0], references=[2.0])
        assert len(files(temporary)) == 1
        with pytest.raises(InputError, match="at least two examples"):
            metric.compute()
        assert files(temporary) == []
        assert metric.compute(predictions=[1, 2], references=[2, 4])["pearson"] == pytest.approx(1)
        assert files(temporary) == []
    del metric
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_what_is_refused_leaves_what_was_added_before():
    metric = load("accuracy")
    metric.add_batch(predictions=[1, 1, 1], references=[1, 1, 0])
    for wrong in ([1, 2], [0.5], [-1], None):
        with pytest.raises(InputError):
            metric.add_batch(predictions=wrong, references=[1])
        with pytest.raises(InputError):
            metric.compute(predictions=wrong, references=[1])
    assert metric.compute() == {"accuracy": pytest.approx(2 / 3)}


def test_metrics_that_share_a_folder_do_not_mix(tmp_path):
    metrics = [load("accuracy", cache_dir=tmp_path / "mine") for _ in range(3)]
    for number, metric in enumerate(metrics):
        metric.add_batch(predictions=[1, 1], references=[number, 1])
    assert [metric.compute()["accuracy"] for metric in metrics] == [0.5, 1, 0.5]
    assert files(tmp_path) == [] and (tmp_path / "mine").is_dir()


@pytest.mark.parametrize("name", METRICS)
def test_no_examples_and_unequal_numbers_of_them_are_said_in_one_sentence(name):
    predictions, references = examples(name)
    metric = load(name)
    with pytest.raises(InputError, match="has nothing to measure: there are no predictions"):
        metric.compute()
    with pytest.raises(InputError, match="has nothing to measure: there are no predictions"):
        metric.compute(predictions=[], references=[])
    with pytest.raises(InputError, match="There are 31 predictions for 32 references"):
        metric.add_batch(predictions=predictions[:-1], references=references)
    with pytest.raises(InputError, match="predictions must be"):
        metric.add_batch(references=references)
    with pytest.raises(InputError, match="references must be"):
        metric.compute(predictions=predictions)


def test_settings_that_there_are_not_are_refused():
    with pytest.raises(InputError, match="F1 has no setting 'per_lable'"):
        load("f1", per_lable=True)
    with pytest.raises(InputError, match="'average' are given when F1 is made"):
        load("f1").compute(predictions=[1], references=[1], average="macro")


@pytest.mark.parametrize("name", METRICS)
def test_a_missing_library_is_said_when_the_metric_is_made(name, monkeypatch):
    metric = type(load(name))
    monkeypatch.setattr(metric, "libraries", ("not_there",))
    with pytest.raises(
        InputError, match=r'^not_there is not installed; get it with: pip install "trivium\[finetune\]"$'
    ):
        load(name)


def test_several_processes_meet_by_the_launcher_or_by_a_name(monkeypatch, tmp_path):
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(InputError, match="needs an `experiment_id`"):
        Accuracy(num_process=2, process_id=1)
    assert Accuracy(num_process=2, process_id=1, experiment_id="mine").experiment_id == "mine-0"
    monkeypatch.setenv("MASTER_PORT", "1234")
    names = []
    for address in ("node7", "localhost"):
        monkeypatch.setenv("MASTER_ADDR", address)
        names.append(Path(Accuracy(num_process=2, process_id=1).data_dir).relative_to(tmp_path / "shared").parts[0])
    assert names[0].startswith("node7-1234-") and names[1].startswith(f"{base.socket.gethostname()}-1234-")
