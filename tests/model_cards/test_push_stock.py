"""What transformers itself pushes is whole too: its Trainer, a model's and a configuration's own `push_to_hub`."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments, default_data_collator

from tests.families import HEADS, make_config, make_model
from trivium.configuration.bundle import write_code

(DECODER,) = [head for head in HEADS if str(head) == "decoder-lm"]
IDS = [[5, 6, 7, 8, 9]]
LOAD_ELSEWHERE = """
import json, sys
sys.modules["trivium"] = None
import torch
from transformers import AutoConfig, AutoModelForCausalLM
for name in sys.argv[1:]:
    if name == "ada/config":
        config = AutoConfig.from_pretrained(name, trust_remote_code=True)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
    else:
        model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules.")
    with torch.no_grad():
        print(json.dumps(model.eval()(torch.tensor([[5, 6, 7, 8, 9]])).logits.tolist()))
"""


@torch.no_grad()
def logits(model):
    return model.eval()(torch.tensor(IDS)).logits


def train(folder, name, callbacks=(), **settings):
    """Two steps of the stock trainer, with a tokenizer, pushed."""
    model = make_model(DECODER)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "?": 2}, "?")))
    rows = Dataset.from_dict({"input_ids": IDS * 8, "labels": IDS * 8})
    arguments = TrainingArguments(
        str(folder), push_to_hub=True, hub_model_id=name, max_steps=2, use_cpu=True, disable_tqdm=True, **settings
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=default_data_collator,
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer


def test_what_transformers_pushes_loads_elsewhere_bit_for_bit(hub, tmp_path):
    trainer = train(tmp_path / "run", "ada/trained", save_strategy="no")
    trainer.push_to_hub()
    model = make_model(DECODER, seed=1)
    model.push_to_hub("ada/model")
    saved = make_model(DECODER, seed=2)
    saved.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="ada/saved")
    config = make_config("decoder")
    config.architectures = ["TriviumDecoderForCausalLM"]
    config.push_to_hub("ada/config")
    torch.manual_seed(0)
    expected = {
        "ada/trained": logits(trainer.model),
        "ada/model": logits(model),
        "ada/saved": logits(saved),
        "ada/config": logits(DECODER.model(config)),
    }
    assert not torch.equal(expected["ada/trained"], logits(make_model(DECODER)))
    printed = hub.python(LOAD_ELSEWHERE, *expected).splitlines()
    for line, value in zip(printed, expected.values(), strict=True):
        assert torch.equal(torch.tensor(json.loads(line)), value)
    assert "tokenizer.json" in hub.files("ada/trained")
    for name in ("ada/model", "ada/saved"):
        card = hub.files(name)["README.md"].decode()
        assert "`TriviumDecoderForCausalLM`" in card and f"# {name}" in card and f'name = "{name}"' in card


def test_a_push_refreshes_our_card_on_the_hub_and_leaves_one_that_a_hand_wrote(hub):
    make_model(DECODER).push_to_hub("ada/model")
    first = hub.files("ada/model")["README.md"]
    make_model(DECODER, "transform").push_to_hub("ada/model")
    second = hub.files("ada/model")["README.md"]
    assert first != second and b"`TriviumDecoderForCausalLM`" in second
    hub.api().upload_file(
        repo_id="ada/model", path_in_repo="README.md", path_or_fileobj=b"---\ntags: [a]\n---\n# Mine\n"
    )
    make_model(DECODER).push_to_hub("ada/model")
    assert "# Mine" in hub.files("ada/model")["README.md"].decode()


class SendCode(TrainerCallback):
    """The trainer copies weights and configuration into the folder that it pushes in between, and nothing else."""

    def on_push_begin(self, args, state, control, model, **others):
        write_code(Path(args.output_dir), type(model.config))


@pytest.mark.parametrize("callbacks", [[], [SendCode]], ids=["stock", "with-callback"])
def test_a_trainer_pushes_the_code_at_the_end_and_with_a_callback_each_time(hub, tmp_path, callbacks):
    often = dict(save_strategy="steps", save_steps=1, hub_strategy="every_save", hub_always_push=True)
    train(tmp_path / "run", "ada/trained", callbacks, **often).push_to_hub()
    commits = [commit for commit in hub.commits("ada/trained") if "model.safetensors" in commit.files]
    assert len(commits) > 2
    for commit in commits if callbacks else commits[:1]:
        assert {"config.json", "modeling_trivium.py"} <= commit.files.keys(), commit.title
