import json
import math
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCardData
from transformers import Trainer, TrainingArguments

import trivium
from trivium.configuration import InputError
from trivium.training.emissions import EmissionsCallback, check_country, describe

pytest.importorskip("codecarbon")


def train(folder, callback):
    torch.manual_seed(0)
    shape = dict(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = trivium.TriviumDecoderForCausalLM(trivium.TriviumDecoderConfig(**shape))
    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)}] * 4
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=2, use_cpu=True, save_strategy="no", disable_tqdm=True, report_to="none"
    )
    Trainer(model, arguments, train_dataset=rows, callbacks=[callback]).train()


def test_a_run_leaves_a_record_in_the_form_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    callback = EmissionsCallback("fra")
    assert callback.record is None
    train(tmp_path / "out", callback)
    record = json.loads(json.dumps(callback.record))
    block = record["co2_eq_emissions"]
    assert block["source"].startswith("codecarbon ") and block["geographical_location"] == "France"
    assert block["training_type"] == "pre-training" and "cores" in block["hardware_used"]
    assert record["country"] == "FRA" and record["seconds"] > 0 and record["steps"] == [0, 2]
    assert record["note"].startswith("an estimate")
    # France's electricity: some tens of grams a kilowatt hour, so grams it is.
    assert 20 < block["emissions"] / record["energy_kwh"] < 200
    assert not [path for path in tmp_path.rglob("*") if "emission" in path.name]
    assert "co2_eq_emissions" in ModelCardData(co2_eq_emissions=block).to_yaml()


def test_other_processes_measure_nothing():
    callback = EmissionsCallback("DEU")
    callback.on_train_begin(None, SimpleNamespace(is_world_process_zero=False, global_step=0), None)
    callback.on_train_end(None, None, None)
    assert callback.record is None


@pytest.mark.parametrize(
    ("country", "hint"), [("France", "did you mean FRA?"), ("FR", "did you mean "), ("??", "for example FRA.")]
)
def test_a_country_that_is_none_is_one_sentence(country, hint):
    with pytest.raises(InputError, match=f"'{country}' is no country known".replace("?", r"\?")) as error:
        EmissionsCallback(country)
    assert hint in str(error.value)
    assert check_country("deu") == "DEU"


def test_kilograms_become_grams_and_machines_that_were_not_measured_are_said():
    data = SimpleNamespace(
        emissions=0.5, energy_consumed=2.0, duration=61.23, country_name="France", country_iso_code="FRA",
        codecarbon_version="1.0", cpu_model="CPU", cpu_count=4, gpu_model="8 x H200",
    )  # fmt: skip
    record = describe(data, machines=3)
    assert math.isclose(record["co2_eq_emissions"]["emissions"], 500)
    assert record["co2_eq_emissions"]["hardware_used"] == "8 x H200; CPU, 4 cores"
    assert record["seconds"] == 61.23 and record["note"].endswith("of one of 3 machines")
