"""`trivium push`: what it prints, what it refuses, and that a rehearsal asks nobody anything."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.hub.fixtures import hub as hub
from tests.hub.server import OTHER_TOKEN, TOKEN
from trivium import cli


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    sizes = dict(vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "optimizer.pt").write_bytes(b"a pickle")
    return tmp_path / "model"


def push(*arguments):
    return cli.main(["push", *map(str, arguments)])


def test_a_rehearsal_lists_and_proves_and_sends_nothing(hub, folder, capsys):
    assert push(folder, "ada/model", "--dry-run") == 0
    said = capsys.readouterr().out
    for words in ("model.safetensors\n", "files, ", "pickles", ": optimizer.pt", "the card does not say"):
        assert words in said
    assert "proved: a copy of it loads with transformers alone, outputs equal bit for bit on 2 x 32" in said
    assert said.endswith("Nothing was sent.\n") and hub.requests == [] and hub.repositories == {}


def test_a_push_says_what_was_proved_and_where_it_is(hub, folder, capsys):
    assert push(folder, "model", "--private", "--revision", "step-1000", "--no-proof") == 0
    said = capsys.readouterr().out
    assert "not proved: nobody asked to load it; what arrived is what was sent, byte for byte\n" in said
    assert said.endswith(f"Pushed to {hub.url}/ada/model/tree/step-1000.\n")
    assert hub.repository("ada/model").private and "model.safetensors" in hub.files("ada/model", "step-1000")
    assert hub.files("ada/model") == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "ada/model"], "'nowhere' is no folder"),
        (["{folder}", "a/b/c"], "'a/b/c' cannot be the name of a repository"),
        (["{folder}", "ada/model", "--revision", "a b"], "'a b' cannot be the name of a branch"),
        (["{folder}", "bob/model", "--no-proof"], "the access token has no right to write to 'bob/model'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(hub, folder, capsys, arguments, words):
    hub.api(OTHER_TOKEN).create_repo("bob/model")
    before = hub.state()
    assert push(*(argument.format(folder=folder) for argument in arguments)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("trivium: error: ") and words in said and TOKEN not in said
    assert hub.state() == before
