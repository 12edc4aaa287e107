"""Models of ours go to the loopback Hub and come back."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import trivium
from tests.hub.server import OTHER_TOKEN

NAME = "ada/tiny"
PUSH_AND_LOAD = """
import json, sys
import torch, trivium
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
config = trivium.TriviumDecoderConfig(
    vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, "?")))
first, second = (trivium.TriviumDecoderForCausalLM(config) for _ in range(2))
first.save_pretrained(f"{sys.argv[1]}/main", push_to_hub=True, repo_id="ada/tiny", private=True)
second.save_pretrained(f"{sys.argv[1]}/step-1")
second.push_to_hub("ada/tiny", revision="step-1")
for revision in ["main", "step-1"]:
    tokenizer.push_to_hub("ada/tiny", revision=revision)
    model = AutoModelForCausalLM.from_pretrained("ada/tiny", revision=revision)
    ids = AutoTokenizer.from_pretrained("ada/tiny", revision=revision)("b", return_tensors="pt")
    print(json.dumps(model(**ids).logits.tolist()))
"""


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([[1]])).logits


def test_a_model_and_its_tokenizer_go_to_the_hub_and_come_back(hub, tmp_path):
    printed = hub.python(PUSH_AND_LOAD, tmp_path).splitlines()
    assert hub.repository(NAME).private and hub.branches(NAME).keys() == {"main", "step-1"}
    for line, revision in zip(printed, ["main", "step-1"], strict=True):
        saved, held = tmp_path / revision, hub.files(NAME, revision)
        assert held["model.safetensors"] == (saved / "model.safetensors").read_bytes()
        assert {"config.json", "tokenizer.json"} <= held.keys()
        expected = logits(trivium.TriviumDecoderForCausalLM.from_pretrained(saved))
        assert torch.equal(torch.tensor(json.loads(line)), expected)
    oid = hub.branches(NAME)["step-1"]
    hub.api().create_tag(NAME, tag="v1", revision="step-1")
    for revision in ("v1", oid):
        assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(NAME, revision=revision)), expected)


@pytest.mark.parametrize("token", [False, OTHER_TOKEN])
def test_a_private_model_is_not_shown_to_others(hub, tmp_path, token):
    hub.api().create_repo(NAME, private=True)
    config = trivium.TriviumDecoderConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    config.push_to_hub(NAME)
    assert AutoConfig.from_pretrained(NAME, cache_dir=tmp_path / "mine").hidden_size == 32
    with pytest.raises(OSError, match="is not a local folder and is not a valid model identifier"):
        AutoConfig.from_pretrained(NAME, token=token, cache_dir=tmp_path / "theirs")
