import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from accelerate import PartialState
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    GenerationConfig,
)

import trivium
from trivium.configuration import InputError
from trivium.training import pretrain as verb
from trivium.training.arguments import PretrainArguments, PretrainTrainingArguments
from trivium.training.objectives.choice import OBJECTIVES
from trivium.training.record import changed_settings
from trivium.training.verbs import run

AUTO = {
    "encoder": AutoModelForMaskedLM,
    "decoder": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
FAST = (
    "--max_steps 3 --per_device_train_batch_size 2 --max_length 32 --max_held_out_blocks 3 --disable_tqdm true".split()
)
SHAPE = "--model.hidden_size 32 --model.num_hidden_layers 1 --model.num_attention_heads 2".split()


@pytest.fixture
def argv(data_file, tokenizer_folders, tmp_path):
    """Arguments for a run of a moment, by family; more are appended and win."""

    def arguments(family, *more, shape=SHAPE):
        tokenizer = ["--tokenizer", str(tokenizer_folders[family])]
        fixed = ["--family", family, "--data", str(data_file), "--output_dir", str(tmp_path / "out")]
        return [*fixed, *tokenizer, *FAST, *shape, *more]

    return arguments


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("family", list(AUTO))
def test_three_steps_leave_a_checkpoint_that_the_auto_classes_load(family, argv, tmp_path, capsys):
    assert verb.main(argv(family, "--save_strategy", "no")) == 0
    folder = tmp_path / "out"
    model = AUTO[family].from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__.startswith("Trivium") and len(tokenizer) == model.config.vocab_size
    assert AutoModel.from_pretrained(folder) is not None
    batch = tokenizer(["a b c"], return_tensors="pt")
    if family == "encoder":
        assert model(**batch).logits.shape == (1, batch["input_ids"].shape[1], len(tokenizer))
    else:
        assert model.config.use_cache is True
        stop = GenerationConfig.from_pretrained(folder).eos_token_id
        assert stop in (tokenizer.eos_token_id, [tokenizer.eos_token_id])  # transformers 5.17 makes a list of it
        model.generate(**batch, max_new_tokens=3)
    record = json.loads((folder / "trivium_run.json").read_text())
    metrics = record["metrics"]
    assert metrics["steps"] == 3 and metrics["tokens"] > 0 and metrics["tokens_per_second"] > 0
    assert metrics["parameters"] == model.num_parameters()
    assert all(metrics[f"held_out_bits_per_byte_{which}"] > 1 for which in ("before", "after", "unigram"))
    assert metrics["held_out_bits_per_byte_after"] != metrics["held_out_bits_per_byte_before"]
    assert record["pretraining"]["family"] == family and record["training"]["max_steps"] == 3
    assert "Held-out bits per predicted byte" in capsys.readouterr().out
    assert not [name for name in files(folder) if name.endswith((".bin", ".pt")) or "saving" in name]


OTHERS = [
    (family, name)
    for family, objectives in OBJECTIVES.items()
    for name, objective in [*objectives.items()][1:]
    if not objective.pairs
]


@pytest.mark.parametrize(("family", "objective"), OTHERS)
def test_every_objective_is_pretrained_with_by_name(family, objective, argv, tmp_path):
    more = ["--objective", objective, "--save_strategy", "no", "--learning_rate", "0.01", "--muon", "true"]
    assert verb.main(argv(family, *more, "--max_steps", "12", "--max_length", "64")) == 0
    record = json.loads((tmp_path / "out" / "trivium_run.json").read_text())
    assert record["pretraining"]["objective"] == objective
    metrics = record["metrics"]
    assert 0 < metrics["held_out_bits_per_byte_after"] < metrics["held_out_bits_per_byte_before"]
    assert metrics["steps"] == 12 and metrics["flops"] > 0
    assert AUTO[family].from_pretrained(tmp_path / "out") is not None


@pytest.fixture
def pairs_file(documents, tmp_path):
    """Lines and the lines that follow them."""
    lines = [line for text in documents for line in text.splitlines() if line.strip()]
    path = tmp_path / "pairs.jsonl"
    rows = [json.dumps({"first": one, "then": other}) for one, other in pairwise(lines)]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_pairs_are_learnt_from(family, argv, pairs_file, tmp_path, capsys):
    more = ["--objective", "pairs", "--data", str(pairs_file), "--text_column", "first", "--target_column", "then"]
    more += ["--save_strategy", "no", "--learning_rate", "0.01", "--max_steps", "12", "--max_length", "96"]
    assert verb.main(argv(family, *more)) == 0
    metrics = json.loads((tmp_path / "out" / "trivium_run.json").read_text())["metrics"]
    assert 0 < metrics["held_out_bits_per_byte_after"] < metrics["held_out_bits_per_byte_before"]
    assert "% full; 0 pairs cut." in capsys.readouterr().out
    assert run(verb.main, argv(family, *more, "--target_column", "next", "--fresh", "true")) == 2
    assert "has no column 'next': it has first, then" in capsys.readouterr().err


ARCHITECTURES = {"encoder": "modernbert-base", "decoder": "gpt2", "encoder-decoder": "bart-base"}


@pytest.mark.parametrize("family", list(AUTO))
def test_a_named_architecture_is_pretrained_at_the_size_and_with_the_tokens_asked_for(family, argv, tmp_path):
    shape = [*SHAPE, "--model.intermediate_size", "48"]
    assert verb.main(argv(family, "--architecture", ARCHITECTURES[family], "--save_strategy", "no", shape=shape)) == 0
    config = AUTO[family].from_pretrained(tmp_path / "out").config
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    named = trivium.architecture(ARCHITECTURES[family])
    stack, expected = getattr(config, "decoder", config), getattr(named, "decoder", named)
    assert (stack.norm, stack.position_encoding, stack.hidden_act) == (
        expected.norm,
        expected.position_encoding,
        expected.hidden_act,
    )
    assert (stack.hidden_size, stack.vocab_size) == (32, len(tokenizer))
    assert (config.pad_token_id, config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    if config.is_encoder_decoder:
        assert config.decoder_start_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("family", list(AUTO))
def test_a_few_dozen_steps_teach_something(family, argv, tmp_path):
    verb.main(argv(family, "--max_steps", "40", "--muon", "true", "--learning_rate", "0.01", "--save_strategy", "no"))
    metrics = json.loads((tmp_path / "out" / "trivium_run.json").read_text())["metrics"]
    assert metrics["held_out_bits_per_byte_after"] < metrics["held_out_bits_per_byte_before"] - 0.1


def test_from_python_with_a_tokenizer_trained_on_the_way(data_file, tmp_path):
    result = verb.pretrain(
        PretrainArguments(
            family="decoder",
            data=[str(data_file)],
            vocab_size=400,
            max_length=32,
            max_held_out_blocks=2,
            model=dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2),
        ),
        PretrainTrainingArguments(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=1, disable_tqdm=True, eval_on_start=False
        ),
    )
    assert len(AutoTokenizer.from_pretrained(result.output_dir)) == 448  # the next multiple of 64
    assert result.metrics["held_out_bits_per_byte_before"] is None


def test_saving_between_and_resuming_ends_where_an_uninterrupted_run_ends(argv, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    steps = ["--max_steps", "6", "--save_steps", "2", "--muon", "true", "--lr_scheduler_type", "constant"]
    verb.main(argv("encoder", *steps, "--output_dir", str(whole)))
    assert {path.name for path in whole.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6"}
    verb.main(argv("encoder", *steps, "--output_dir", str(parts), "--max_steps", "4"))
    verb.main(argv("encoder", *steps, "--output_dir", str(parts)))  # goes on by itself
    one, other = (AutoModelForMaskedLM.from_pretrained(folder).state_dict() for folder in (whole, parts))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
    records = [json.loads((folder / "trivium_run.json").read_text())["metrics"] for folder in (whole, parts)]
    for name in ("steps", "tokens", "held_out_loss_before", "held_out_loss_after"):
        assert records[0][name] == records[1][name]


def test_going_on_from_a_checkpoint(argv, tmp_path):
    first, on = str(tmp_path / "first"), str(tmp_path / "on")
    verb.main(argv("decoder", "--output_dir", first))
    verb.main(argv("decoder", "--model_name_or_path", first, "--learning_rate", "0", "--output_dir", on, shape=[]))
    one, other = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (first, on))
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_broken_weights_are_said(argv, tmp_path, capsys):
    first = tmp_path / "first"
    verb.main(argv("decoder", "--output_dir", str(first)))
    weights = first / "model.safetensors"
    for content in (weights.read_bytes()[:1000], None):
        weights.unlink()
        if content is not None:
            weights.write_bytes(content)
        more = ["--model_name_or_path", str(first), "--output_dir", str(tmp_path / "on")]
        assert run(verb.main, argv("decoder", *more, shape=[])) == 2
        assert f"the weights of '{first}' cannot be read" in capsys.readouterr().err


@pytest.fixture
def bert(tmp_path):
    folder = tmp_path / "bert"
    BertConfig().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("family", "more", "sentence"),
    [
        ("decoder", ["--data", "gone.jsonl"], "'gone.jsonl' does not exist."),
        ("decoder", ["--text_column", "body"], "has no column 'body': it has text"),
        (
            "decoder",
            ["--objective", "masked"],
            "the objective 'masked' does not fit the family 'decoder': use causal or",
        ),
        ("encoder", ["--model.hidden_sise", "8"], "has no field `hidden_sise`: did you mean `hidden_size`?"),
        ("decoder", ["--model.vocab_size", "64"], "the model's vocab_size 64 is smaller than the tokenizer's"),
        ("decoder", ["--model.max_position_embeddings", "16"], "more than the model's 16 positions"),
        ("encoder-decoder", ["--model.encoder.max_position_embeddings", "16"], "more than the model's 16 positions"),
        ("decoder", ["--max_length", "4"], "`max_length` must be at least 8"),
        ("decoder", ["--tokenizer", "no/where"], "no tokenizer can be loaded from 'no/where'"),
        ("decoder", ["--model_name_or_path", "no/where"], "the checkpoint 'no/where' cannot be read"),
        ("decoder", ["--resume_from_checkpoint", "true"], "holds no whole checkpoint to resume from"),
        ("decoder", ["--resume_from_checkpoint", "no/where"], "the checkpoint 'no/where' does not exist"),
        ("decoder", ["--lerning_rate", "1"], "did you mean 'learning_rate'?"),
        ("encoder", ["--mlm_probability", "2"], "`mlm_probability` must lie in (0, 1], not 2.0."),
        ("decoder", ["--architecture", "bert-base"], "the architecture 'bert-base' is of the family encoder"),
        ("decoder", ["--architecture", "gtp2"], "there is no architecture 'gtp2': did you mean gpt2"),
        ("encoder", ["--objective", "next-sentence", "--label_smoothing_factor", "0.1"], "knows one loss"),
        ("encoder-decoder", ["--objective", "denoising", "--noises", "salt"], "there is no noise 'salt'"),
        ("decoder", ["--objective", "fill-in-the-middle", "--fim_rate", "2"], "`fim_rate`"),
        ("encoder-decoder", ["--mean_span_length", "0"], "`mean_span_length` must be at least 1"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2_and_writes_nothing(family, more, sentence, argv, tmp_path, capsys):
    assert run(verb.main, argv(family, *more)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("trivium: error: ") and sentence in said
    assert not (tmp_path / "out").exists()


def test_checkpoints_of_another_family_are_refused(argv, bert, tmp_path, capsys):
    assert run(verb.main, argv("decoder", "--model_name_or_path", bert)) == 2
    assert "is a bert checkpoint, but family 'decoder' goes on from a trivium_decoder one" in capsys.readouterr().err
    trivium.TriviumEncoderConfig().save_pretrained(tmp_path / "out")
    before = files(tmp_path / "out")
    assert run(verb.main, argv("decoder")) == 2
    assert "holds a trivium_encoder checkpoint, not a trivium_decoder" in capsys.readouterr().err
    assert files(tmp_path / "out") == before


def test_a_tokenizer_of_another_family_is_refused(argv, tokenizer_folders, capsys):
    for family, other, sentence in (
        ("encoder", "decoder", "needs a mask token"),
        ("decoder", "encoder", "needs an end-of-sequence token"),
        ("encoder-decoder", "decoder", "needs a tokenizer with sentinels"),
    ):
        assert run(verb.main, argv(family, "--tokenizer", str(tokenizer_folders[other]))) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("when", ["between", "end"])
def test_a_full_disk_is_one_sentence_and_leaves_no_half_checkpoint(argv, tmp_path, capsys, monkeypatch, when):
    """safetensors says so in words of its own; what was whole before stays."""
    verb.main(argv("decoder", "--save_strategy", "no"))
    before = files(tmp_path / "out")
    del before["trivium_run.json"]  # what is begun afresh is not finished
    real = trivium.TriviumDecoderForCausalLM.save_pretrained

    def full(self, folder, **kwargs):
        real(self, folder, **kwargs)
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(trivium.TriviumDecoderForCausalLM, "save_pretrained", full)
    more = ["--save_steps", "2"] if when == "between" else ["--save_strategy", "no"]
    assert run(verb.main, argv("decoder", "--fresh", "true", *more)) == 2
    assert "trivium: error: no space left on the device" in capsys.readouterr().err
    assert files(tmp_path / "out") == before


def test_an_interrupted_save_leaves_what_was_there(argv, tmp_path, monkeypatch):
    def interrupt(self, folder, **kwargs):
        os.makedirs(folder, exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(trivium.TriviumEncoderForMaskedLM, "save_pretrained", interrupt)
    assert run(verb.main, argv("encoder", "--save_strategy", "no")) == 130
    assert files(tmp_path / "out") == {}


@pytest.mark.slow
def test_as_a_command_and_under_a_launcher(argv, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    module = ["-m", "trivium.training.pretrain"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for command, processes in ((module, 1), ([*launcher, *module], 2)):
        folder = tmp_path / f"by-{processes}"
        done = subprocess.run(
            [sys.executable, *command, *argv("encoder-decoder", "--output_dir", str(folder))],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        record = json.loads((folder / "trivium_run.json").read_text())
        assert record["machine"]["processes"] == processes
        assert done.stdout.count("Held-out bits per predicted byte") == 1
        assert AutoModelForSeq2SeqLM.from_pretrained(folder) is not None
    bad = subprocess.run([sys.executable, *module, "--family", "x"], capture_output=True, text=True, env=environment)
    assert bad.returncode == 2 and bad.stderr.startswith("trivium: error:") and bad.stderr.count("\n") == 1


def test_the_record_holds_the_settings_that_were_changed_and_leaves_the_processes_alone(tmp_path):
    training = PretrainTrainingArguments(output_dir=str(tmp_path), muon=True, max_steps=3, hub_token="secret")
    state = dict(PartialState._shared_state)
    settings = changed_settings(training)
    assert PartialState._shared_state == state != {}
    assert settings["muon"] is True and settings["max_steps"] == 3 and settings["weight_decay"] == 0.1
    assert not {"hub_token", "per_device_train_batch_size", "gradient_checkpointing"} & set(settings)


def test_settings_that_do_not_fit_a_checkpoint_raise_in_python():
    with pytest.raises(InputError, match="does not exist"):
        verb.pretrain(
            PretrainArguments(family="decoder", data=["gone.txt"], model={}),
            PretrainTrainingArguments(disable_tqdm=True),
        )
