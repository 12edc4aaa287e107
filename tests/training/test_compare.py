"""Models are compared alike, over seeds and numbers of examples, and what was run is not run again."""

import json
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.training.finetuned import write_base, write_data
from trivium.configuration import InputError
from trivium.training import compare


@pytest.fixture
def command(tokenizers, tmp_path):
    models = [str(write_base(tmp_path / name, name, tokenizers[name])) for name in ("encoder", "decoder")]
    data = write_data(tmp_path / "data", "text-classification")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"task: text-classification\ndata: {data}\nmax_steps: 2\nmax_length: 64\n")
    strategies = ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    return ["--task", str(recipe), "--models", *models, "--output_dir", str(tmp_path / "out"), *strategies]


def test_models_are_compared_over_seeds_and_examples(command, tmp_path, capsys):
    more = ["--seeds", "1", "2", "--examples", "12", "24", "--from_scratch_too", "true", "--disable_tqdm", "true"]
    more += ["--config_overrides.hidden_dropout", "0.2"]
    assert compare.main([*command, *more]) == 0
    result = json.loads((tmp_path / "out" / "compare.json").read_text())
    rows = {(row["model"].removeprefix(f"{tmp_path}/"), row["examples"]): row for row in result["rows"]}
    names = ["encoder", "encoder, from scratch", "decoder", "decoder, from scratch"]
    assert rows.keys() == {(name, count) for name in names for count in (12, 24)}
    assert all(row["seeds"] == 2 and row["split"] == "test" for row in rows.values())
    folder = tmp_path / "out"
    one = [json.loads(path.read_text())["metrics"] for path in sorted(folder.glob("*encoder_12_*/trivium_run.json"))]
    recorded = [json.loads(path.read_text())["finetuning"] for path in folder.glob("*/trivium_run.json")]
    assert all(record["config_overrides"] == {"hidden_dropout": 0.2} for record in recorded)
    measured = [metrics["test_loss"] for metrics in one]
    assert rows["encoder", 12]["mean"]["loss"] == pytest.approx(sum(measured) / 2) and measured[0] != measured[1]
    assert rows["encoder", 12]["deviation"]["loss"] == pytest.approx(abs(measured[0] - measured[1]) / 2**0.5)
    assert rows["encoder", 12]["mean"] != rows["encoder, from scratch", 12]["mean"]
    assert (folder / "compare.png").stat().st_size > 5000 and not list(folder.rglob("*.safetensors"))
    assert "±" in (folder / "compare.md").read_text()
    ended = max(json.loads(path.read_text())["ended"] for path in folder.glob("*/trivium_run.json"))
    assert result["ended"] == ended and len(result["machines"]) == len(result["versions"]) == 1
    assert result["tested"] == [recorded[0]["examples"]["test"]]
    before = time.time()
    assert compare.main([*command, *more]) == 0
    assert json.loads((folder / "compare.json").read_text()) == result
    assert max(path.stat().st_mtime for path in folder.rglob("trivium_run.json")) < before


def test_the_number_of_examples_is_that_of_fine_tuning_too(command, tmp_path):
    saving = ["--save_strategy", "steps", "--save_steps", "1"]
    compare.main([*command, *saving, "--seeds", "1", "--max_train_examples", "12", "--disable_tqdm", "true"])
    assert not list((tmp_path / "out").glob("*/checkpoint-*"))
    result = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [row["examples"] for row in result["rows"]] == [12, 12]
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/trivium_run.json")]
    assert all(record["finetuning"]["examples"]["train"] == 12 for record in records)
    with pytest.raises(InputError, match="`max_train_examples` is one number of `examples`: give one of the two"):
        compare.main([*command, "--max_train_examples", "12", "--examples", "12"])


@pytest.mark.parametrize(
    "change, said",
    [
        (["--models"], "expected at least one argument"),
        (["--seeds"], "expected at least one argument"),
        (["--from_scratch", "true"], "`from_scratch_too` compares each model with itself"),
    ],
)
def test_nothing_to_compare_is_said(command, change, said):
    with pytest.raises(InputError, match=said):
        compare.main([*command, *change])


def test_a_model_is_measured_as_it_is(tokenizers, tmp_path):
    """No examples: nothing is trained, and nothing depends on a seed."""
    base = write_base(tmp_path / "decoder", "decoder", tokenizers["decoder"])
    data = write_data(tmp_path / "data", "text-to-text")
    command = ["--task", "text-to-text", "--models", str(base), "--data", str(data), "--output_dir"]
    some = ["--examples", "0", "8", "--seeds", "1", "2", "--max_eval_examples", "5", "--max_target_length", "4"]
    some += ["--max_steps", "2", "--keep_models", "true", "--disable_tqdm", "true"]
    compare.main([*command, str(tmp_path / "out"), *some])
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    assert [(row["examples"], row["seeds"]) for row in rows] == [(0, 1), (8, 2)]
    assert rows[0]["mean"]["loss"] != rows[1]["mean"]["loss"]
    assert "| 0  " in (tmp_path / "out" / "compare.md").read_text()
    (untouched,) = (tmp_path / "out").glob("*_0_1")
    record = json.loads((untouched / "trivium_run.json").read_text())
    assert record["metrics"]["steps"] == record["metrics"]["tokens"] == 0
    assert record["finetuning"]["examples"]["train"] == 0 and record["finetuning"]["examples"]["test"] == 5
    weights, same = (load_file(folder / "model.safetensors") for folder in (untouched, base))
    assert all(torch.equal(weights[name], same[name]) for name in same)


def test_a_head_that_is_new_is_not_measured_as_it_is(command):
    with pytest.raises(InputError, match=r"no weights for 'score.*above 0"):
        compare.main([*command, "--examples", "0"])
