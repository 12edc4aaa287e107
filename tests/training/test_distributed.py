"""Two processes that share a model, its data or both give what one gives.

The launch files of the package, on the CPU over gloo; see `distributed.py` for how. Each launch imports everything
twice over, so one does all families.
"""

import importlib.util
import shutil

import pytest
from safetensors.torch import load_file

from tests.training.distributed import FAMILIES, SHAPE, gradients, launch, run
from trivium.configuration import InputError
from trivium.training.consolidate import consolidate
from trivium.training.sharded import saved_under

# What a launch file should lead to: the kind of distribution, and the class that holds a decoder.
ENGINES = {
    "ddp": ("MULTI_CPU", "DistributedDataParallel"),
    "fsdp2": ("FSDP", "FSDPTriviumDecoderForCausalLM"),
    "fsdp2-checkpointing": ("FSDP", "FSDPTriviumDecoderForCausalLM"),
    "fsdp2-offload": ("FSDP", "FSDPTriviumDecoderForCausalLM"),
    "tensor-parallel": ("MULTI_GPU", "TriviumDecoderForCausalLM"),
    "zero2": ("DEEPSPEED", "DeepSpeedEngine"),
    "zero3": ("DEEPSPEED", "DeepSpeedEngine"),
}
needs_deepspeed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")
marks = {name: [pytest.mark.slow] for name in ENGINES if name not in ("ddp", "fsdp2")}
marks["zero2"] = marks["zero3"] = [pytest.mark.slow, needs_deepspeed]
# Of which dimension each process has its half where matrices are spread; the rest it has whole.
HALVED = dict.fromkeys(("embed_tokens", "lm_head", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), 0)
HALVED |= dict.fromkeys(("o_proj", "down_proj"), 1)
# Untied and after the norm: no module is both the first and the last that reads the vocabulary.
POST_NORM = dict(tie_word_embeddings=False, norm_placement="post", norm="layernorm")


@pytest.fixture(scope="module")
def job(tokenizer_folders):
    folders = {family: str(folder) for family, folder in tokenizer_folders.items()}
    return dict(
        tokenizers=folders,
        max_steps=20,
        gradient_accumulation_steps=2,
        learning_rate=0.01,
        save_strategy="steps",
        save_steps=10,
        muon=True,
    )


@pytest.fixture(scope="module")
def alone(job, tmp_path_factory):
    """One process's report and folder, with Muon and with AdamW."""
    reports = {}
    for muon in (True, False):
        folder = tmp_path_factory.mktemp("alone")
        reports[muon] = run(**job | {"folder": str(folder), "muon": muon}), folder
    return reports


def assert_equal_reports(reports, expected, engine=None):
    for family, report in expected.items():
        assert report["losses"][-1] < report["losses"][0] - 0.1, "nothing was learnt that could differ"
        for name in ("losses", "norms"):
            assert reports[family][name] == pytest.approx(report[name], rel=1e-5)
        assert reports[family]["held_out"] == pytest.approx(report["held_out"], rel=1e-5)
        assert reports[family]["tokens"] == report["tokens"], "tokens were counted twice, or not at all"
    if engine is not None:
        ran = reports["decoder"]
        assert (ran["processes"], ran["engine"], ran["wrapper"]) == (2, *ENGINES[engine])


def assert_spread(reports):
    for family, (config_class, model_class, _) in FAMILIES.items():
        for name, parameter in model_class(config_class(**SHAPE)).named_parameters():
            dimension = HALVED.get(name.split(".")[-2])
            half = list(parameter.shape)
            if dimension is not None:
                half[dimension] //= 2
            assert reports[family]["spread"][name] == (None if dimension is None else half), name


def assert_equal_weights(folder, expected):
    ours, theirs = (load_file(path / "model.safetensors") for path in (folder, expected))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert (ours[name] - weight).abs().max() < 1e-4, name


@pytest.mark.parametrize("engine", [pytest.param(name, marks=marks.get(name, ())) for name in ENGINES])
def test_two_processes_train_as_one_and_leave_whole_checkpoints(engine, job, alone, tmp_path):
    """Losses, gradients and held-out loss of every family, with packed rows, accumulation and (not DeepSpeed) Muon."""
    muon = not engine.startswith("zero")
    expected, folder = alone[muon]
    reports = launch(engine, job | {"folder": str(tmp_path), "muon": muon})
    assert_equal_reports(reports, expected, engine)
    if engine == "tensor-parallel":
        assert_spread(reports)
    for family, (_, model_class, _) in FAMILIES.items():
        for name in (".", "checkpoint-10"):
            assert_equal_weights(tmp_path / family / name, folder / family / name)
            _, notes = model_class.from_pretrained(tmp_path / family / name, output_loading_info=True)
            assert not notes["missing_keys"] and not notes["unexpected_keys"]
        checkpoint = tmp_path / family / "checkpoint-10"
        if saved_under(checkpoint) != "no engine":
            with pytest.raises(InputError, match="is whole already"):
                consolidate(checkpoint, tmp_path / "whole")
            consolidate(checkpoint, tmp_path / "whole" / family, parts=True)
            assert_equal_weights(tmp_path / "whole" / family, folder / family / "checkpoint-10")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp2", "tensor-parallel"])
def test_a_run_goes_on_with_another_number_of_processes(engine, job, alone, tmp_path):
    """From two to one and back to two; a report has the steps before the checkpoint too."""
    often = job | {"save_steps": 5, "save_total_limit": 4}
    launch(engine, often | {"folder": str(tmp_path / "two")})
    hand_over(tmp_path / "two", tmp_path / "one", "checkpoint-5")
    one = often | {"folder": str(tmp_path / "one"), "resume": "checkpoint-5"}
    reports = launch(engine, one, processes=1) if engine == "fsdp2" else run(**one)
    assert_equal_reports(reports, alone[True][0])
    assert {report["processes"] for report in reports.values()} == {1}
    hand_over(tmp_path / "one", tmp_path / "back", "checkpoint-10")
    reports = launch(engine, often | {"folder": str(tmp_path / "back"), "resume": "checkpoint-10"})
    assert_equal_reports(reports, alone[True][0], engine)


@pytest.mark.slow
def test_adamw_goes_on_where_the_matrices_are_spread(job, alone, tmp_path):
    """From a checkpoint of one process, and from one of its own."""
    expected, folder = alone[False]
    spread = job | {"muon": False}
    for number, source in enumerate((folder, tmp_path / "0")):
        hand_over(source, tmp_path / str(number), "checkpoint-10")
        reports = launch("tensor-parallel", spread | {"folder": str(tmp_path / str(number)), "resume": "checkpoint-10"})
        assert_equal_reports(reports, expected, "tensor-parallel")


def hand_over(source, target, name):
    """Copies one checkpoint of every family into a fresh folder."""
    for family in FAMILIES:
        shutil.copytree(source / family / name, target / family / name)


@pytest.mark.slow
def test_models_without_ties_and_after_the_norm_are_sharded_right(job, tmp_path):
    shapes = job | {"shape": POST_NORM, "max_steps": 6, "save_strategy": "no"}
    expected = run(**shapes | {"folder": str(tmp_path / "alone")})
    reports = launch("fsdp2", shapes | {"folder": str(tmp_path / "two")})
    for family, report in expected.items():
        assert reports[family]["losses"] == pytest.approx(report["losses"], rel=1e-5)
        assert reports[family]["norms"] == pytest.approx(report["norms"], rel=1e-5)


@pytest.mark.slow
def test_models_whose_matrices_are_spread_compute_the_same(alone, tmp_path):
    """Tensor parallelism as `from_pretrained` offers it, by the plans of the configurations."""
    _, folder = alone[True]
    for family in FAMILIES:
        shutil.copytree(folder / family, tmp_path / family, ignore=shutil.ignore_patterns("checkpoint-*"))
    task = {"task": "shard_tensors", "folder": str(tmp_path), "families": list(FAMILIES)}
    reports = launch("ddp", task)
    for family, (_, model_class, _) in FAMILIES.items():
        expected = gradients(model_class.from_pretrained(folder / family).train())
        assert reports[family]["spread"] > 10 and expected["spread"] == 0
        assert reports[family]["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert reports[family]["norms"] == pytest.approx(expected["norms"], rel=1e-4, abs=1e-6)
