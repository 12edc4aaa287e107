"""What a proof says of a checkpoint: that clean processes load it and compute what was computed here, or why not."""

import json

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from tests.families import HEADS, make_model
from trivium.configuration.errors import InputError
from trivium.model_cards.adapters import find_base
from trivium.model_cards.contents import survey
from trivium.model_cards.prove import examine, largest_difference, prove

(DECODER,) = [head for head in HEADS if str(head) == "decoder-lm"]
WORDS = "loads with and without trivium, outputs equal bit for bit on 2 x 32 random tokens"


def save(head, folder, dtype=torch.float32):
    make_model(head, dtype=dtype).save_pretrained(folder)
    return folder


def save_tokenizer(folder):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, "?"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)


def prove_folder(folder, tmp_path, trust=False):
    return prove(examine(survey(folder), trust), str(folder), None, tmp_path / "home")


def run_the_proof_alone(monkeypatch):
    """Leaves the processes out of a proof: what is tested comes before them."""
    monkeypatch.setattr("subprocess.run", lambda *arguments, **options: pytest.fail("something was run"))


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_every_head_is_proved_in_every_type(head, tmp_path):
    folder = save(head, tmp_path / "model", torch.bfloat16 if head.task == "lm" else torch.float32)
    save_tokenizer(folder)
    said = prove_folder(folder, tmp_path)
    tokens = 64 if head.task == "choice" else 32
    assert said == WORDS.replace("32", str(tokens)) + ", tokenizer too"


@pytest.mark.slow
def test_a_model_of_transformers_is_proved_with_transformers_alone(tmp_path):
    sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = BertForSequenceClassification(BertConfig(vocab_size=64, max_position_embeddings=20, **sizes))
    model.save_pretrained(tmp_path / "model")
    save_tokenizer(tmp_path / "model")
    said = prove_folder(tmp_path / "model", tmp_path)
    assert said == "loads with transformers alone, outputs equal bit for bit on 2 x 20 random tokens, tokenizer too"


@pytest.mark.slow
def test_an_adapter_is_proved_on_its_base(tmp_path):
    from peft import LoraConfig, get_peft_model

    base = make_model(DECODER)
    base.save_pretrained(tmp_path / "base")
    settings = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=2, init_lora_weights=False)
    model = get_peft_model(DECODER.model.from_pretrained(tmp_path / "base"), settings)
    model.save_pretrained(tmp_path / "adapter")
    assert find_base(tmp_path / "adapter").folder == str(tmp_path / "base")
    contents = survey(tmp_path / "adapter")
    (first, *_), (bare, *_) = (examine(survey(tmp_path / name)).answer.values() for name in ("adapter", "base"))
    assert contents.is_adapter and not torch.equal(first, bare)
    assert prove_folder(tmp_path / "adapter", tmp_path) == WORDS


@pytest.mark.slow
def test_code_that_fails_elsewhere_fails_the_proof(tmp_path):
    folder = save(DECODER, tmp_path / "model")
    with (folder / "modeling_stack.py").open("a") as file:
        file.write("raise ImportError('of all places')\n")
    with pytest.raises(InputError, match=r"does not load without trivium: ImportError: of all places$"):
        prove_folder(folder, tmp_path, trust=True)


@pytest.mark.slow
def test_code_that_computes_something_else_fails_the_proof(tmp_path):
    folder = save(DECODER, tmp_path / "model")
    with (folder / "modeling_decoder.py").open("a") as file:
        file.write("\nclass TriviumDecoderForCausalLM(TriviumDecoderForCausalLM):\n")
        file.write("    def forward(self, *args, **kwargs):\n        output = super().forward(*args, **kwargs)\n")
        file.write("        output.logits = output.logits * 1.001\n        return output\n")
    with pytest.raises(
        InputError, match=r"without trivium the outputs are apart by 1\.0e-03 of the largest, more than"
    ):
        prove_folder(folder, tmp_path, trust=True)


def test_the_processes_of_a_proof_have_no_token_and_no_network(tmp_path, monkeypatch):
    seen = []

    def run(command, **options):
        seen.append(options["env"])
        return type("Ran", (), {"returncode": 1, "stderr": "Traceback:\n  File\nOSError: no hf_x\nTry again.\n"})

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_secret")
    expected = examine(survey(save(DECODER, tmp_path / "model")))
    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(InputError, match="it does not load with trivium: OSError: no"):
        prove(expected, "ada/model", "0" * 40, tmp_path / "home")
    assert seen and all("hf_secret" not in environment.values() for environment in seen)
    assert all(environment["HF_HUB_OFFLINE"] == "1" for environment in seen)
    assert all(environment["HF_HOME"] == str(tmp_path / "home") for environment in seen)


@pytest.mark.parametrize("name", ["modeling_stack.py", "evil.py"])
def test_code_of_somebody_else_is_not_run_without_a_word(tmp_path, monkeypatch, name):
    folder = save(DECODER, tmp_path / "model")
    with (folder / name).open("a") as file:
        file.write("raise SystemExit('it was run')\n")
    run_the_proof_alone(monkeypatch)
    with pytest.raises(InputError, match=rf"carries code that Trivium .* did not write \({name}\).*--trust"):
        examine(survey(folder))
    assert examine(survey(folder), trust=True).is_ours


def test_code_that_a_config_names_elsewhere_is_not_run_without_a_word(tmp_path):
    folder = save(DECODER, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoModelForCausalLM"] = "eve/model--modeling_trivium.TriviumDecoderForCausalLM"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"did not write \(eve/model--modeling_trivium"):
        examine(survey(folder))


def test_the_code_of_an_adapters_base_is_not_run_without_a_word_either(tmp_path):
    base, adapter = save(DECODER, tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    (base / "modeling_stack.py").write_text("raise SystemExit('it was run')\n")
    with pytest.raises(InputError, match=r"base' carries code that .* did not write \(modeling_stack\.py\)"):
        examine(survey(adapter))


def test_a_model_whose_code_is_not_beside_it_is_refused(tmp_path):
    folder = save(DECODER, tmp_path / "model")
    (folder / "modeling_stack.py").unlink()
    with pytest.raises(InputError, match=r"lacks the code .* \(modeling_stack.py\): load it and save it again"):
        examine(survey(folder))


@pytest.mark.parametrize("trouble", ["weights", "architecture", "config", "type", "tensor", "tokenizer"])
def test_what_does_not_load_here_is_refused_in_one_sentence(tmp_path, trouble):
    folder = save(DECODER, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    if trouble == "weights":
        (folder / "model.safetensors").write_bytes(b"no weights")
    if trouble == "tensor":
        state = DECODER.model(make_model(DECODER).config).state_dict()
        from safetensors.torch import save_file

        kept = {name: value for name, value in state.items() if "layers.1" not in name and "lm_head" not in name}
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
    if trouble == "tokenizer":
        (folder / "tokenizer_config.json").write_text("{}")
        (folder / "tokenizer.json").write_text("{}")
    changes = {"architecture": {"architectures": ["Nobody"]}, "type": {"model_type": "nobody"}}
    text = "{" if trouble == "config" else json.dumps(config | changes.get(trouble, {}))
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError) as error:
        examine(survey(folder))
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_differences_are_relative_and_none_is_overlooked():
    one = {"logits": torch.tensor([1.0, -4.0]), "tokens": []}
    assert largest_difference(one, one) == 0
    assert largest_difference(one, {"logits": torch.tensor([1.0, -5.0])}) == 0.25
    assert largest_difference(one, {"logits": torch.tensor([1.0])}) == float("inf")
    assert largest_difference(one, {}) == float("inf")
    assert not largest_difference(one, {"logits": torch.tensor([1.0, float("nan")])}) <= 1
