"""A checkpoint loads where Trivium is not installed, computes the same, and can be saved from there."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from tests import remote
from tests.families import HEADS, draw_texts, main_outputs, make_model, padded
from trivium.tokenization import train_tokenizer


def auto_class_of(model) -> str:
    return next(auto for auto, name in model.config.auto_classes.items() if name == type(model).__name__)


@pytest.fixture(params=[pytest.param("folder", marks=pytest.mark.slow), "hub"])
def served(request):
    """The loopback Hub where the checkpoints are to come from it, else `None`."""
    return request.getfixturevalue("hub") if request.param == "hub" else None


def serve(hub, jobs):
    """Moves the checkpoints of all jobs to the Hub, if it is given."""
    for folder in sorted(jobs.iterdir()) if hub else []:
        name = f"ada/{folder.name}"
        hub.api().create_repo(name)
        hub.api().upload_folder(repo_id=name, folder_path=folder / "checkpoint")
        shutil.rmtree(folder / "checkpoint")
        torch.save(torch.load(folder / "job.pt") | {"name": name}, folder / "job.pt")


def run_elsewhere(folder, tmp_path, script=remote.__file__, hub=None) -> str:
    """Runs a script on the folder without the package, and with caches of its own."""
    environment = hub.environment() if hub else dict(os.environ, HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1")
    environment.pop("PYTHONPATH", None)
    ran = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@torch.no_grad()
@pytest.mark.parametrize("variant", ["plain", pytest.param("bert", marks=pytest.mark.slow)])
def test_every_head_computes_the_same_elsewhere_and_comes_back(variant, served, tmp_path):
    expected, jobs = {}, tmp_path / "jobs"
    for head in HEADS:
        model = make_model(head, variant)
        batch = padded(draw_texts(head, model.config))
        batch = {k: v.unflatten(0, (2, 2)) for k, v in batch.items()} if head.task == "choice" else batch
        writes = head.task == "lm" and model.can_generate()
        prompt = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]} if writes else None
        job = {"auto": auto_class_of(model), "forward": batch}
        job["generate"] = prompt and {**prompt, "max_new_tokens": 5, "do_sample": False}
        model.save_pretrained(jobs / str(head) / "checkpoint")
        torch.save(job, jobs / str(head) / "job.pt")
        expected[str(head)] = (head, main_outputs(model(**batch)), job, model)
    serve(served, jobs)
    run_elsewhere(jobs, tmp_path, hub=served)
    for name, (head, outputs, job, model) in expected.items():
        found = torch.load(jobs / name / "outputs.pt")
        again = head.model.from_pretrained(jobs / name / "again")
        for output, back in zip(outputs, main_outputs(again(**job["forward"])), strict=True):
            assert torch.equal(output, back)
            assert any(value.shape == output.shape and torch.equal(value, output) for value in found.values()), name
        if job["generate"] is not None:
            assert torch.equal(found["generated"], model.generate(**job["generate"]))
        model.save_pretrained(tmp_path / "here" / name)
        both = [
            (folder / "modeling_trivium.py").read_bytes()
            for folder in (tmp_path / "here" / name, jobs / name / "again")
        ]
        assert both[0] == both[1]
    assert len(expected) == len(HEADS) > 10


@torch.no_grad()
def test_what_trainer_and_peft_leave_loads_elsewhere_too(served, tmp_path):
    """With a tokenizer beside it, which needs nobody's trust."""
    text = "one two three"
    expected, jobs = {}, tmp_path / "jobs"
    for head in (head for head in HEADS if head.task == "lm"):
        tokenizer = train_tokenizer([text] * 9, head.family.replace("_", "-"), vocab_size=400, show_progress=False)
        model = make_model(head, vocab_size=400)
        batch = padded(draw_texts(head, model.config))
        examples = [{name: tensor[0] for name, tensor in padded(draw_texts(head, model.config, labels=True)).items()}]
        arguments = dict(max_steps=1, save_steps=1, learning_rate=0.1, use_cpu=True, report_to="none")
        with torch.enable_grad():
            trained = TrainingArguments(str(tmp_path / "run" / head.family), disable_tqdm=True, **arguments)
            Trainer(model, trained, train_dataset=examples, processing_class=tokenizer).train()
        shutil.copytree(tmp_path / "run" / head.family / "checkpoint-1", jobs / f"{head}-trainer" / "checkpoint")
        adapter = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
        base = f"ada/{head}-trainer" if served else str(jobs / f"{head}-trainer" / "checkpoint")
        adapter.peft_config["default"].base_model_name_or_path = base
        adapter.save_pretrained(jobs / f"{head}-adapter" / "checkpoint")
        tokenizer.save_pretrained(jobs / f"{head}-adapter" / "checkpoint")
        prompt = {"input_ids": batch["input_ids"], "max_new_tokens": 5, "do_sample": False}
        job = {"auto": auto_class_of(model), "forward": batch, "text": text}
        job["generate"] = prompt if model.can_generate() else None
        for name in (f"{head}-trainer", f"{head}-adapter"):
            torch.save(job, jobs / name / "job.pt")
        expected[head] = adapter.eval(), batch, job["generate"], tokenizer(text)["input_ids"]
    serve(served, jobs)
    run_elsewhere(jobs, tmp_path, hub=served)
    for head, (adapter, batch, prompt, tokens) in expected.items():
        for name, changed in ((f"{head}-trainer", adapter.disable_adapter()), (f"{head}-adapter", nullcontext())):
            found = torch.load(jobs / name / "outputs.pt")
            with changed:
                logits = adapter(**batch).logits
                assert torch.equal(found["logits"], logits) and found["tokens"] == tokens
                assert prompt is None or torch.equal(found["generated"], adapter.generate(**prompt))
            again = head.model.from_pretrained(jobs / name / "again").eval()
            assert torch.equal(again(**batch).logits, logits)
        with adapter.disable_adapter():
            assert not torch.equal(adapter(**batch).logits, logits)


@pytest.mark.parametrize("trust", [None, False, True])
@pytest.mark.parametrize("head", [head for head in HEADS if head.task == "lm"], ids=str)
def test_where_trivium_is_installed_its_code_runs_and_nobody_is_asked(head, trust, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    model = make_model(head)
    model.save_pretrained(tmp_path)
    loaded = getattr(transformers, auto_class_of(model)).from_pretrained(tmp_path, trust_remote_code=trust)
    assert type(loaded) is head.model and type(loaded.config) is head.model.config_class


TWO_VERSIONS = """
import sys, torch
from pathlib import Path
from transformers import AutoModel
sys.path.insert(0, {tests!r})
import remote
remote.forget_trivium()
folder = Path(sys.argv[1])
ids = torch.tensor([[5, 6, 7, 8, 9]])
positions = torch.tensor([[0, 1, 0, 1, 2]])  # two documents: the operator of its own, and the backend
models = [AutoModel.from_pretrained(folder / name, trust_remote_code=True).eval() for name in ("old", "new", "old")]
without = AutoModel.from_pretrained(folder / "old", trust_remote_code=True).eval()
with torch.no_grad():
    for name, weight in without.named_parameters():
        weight.mul_(0 if "o_proj" in name else 1)
    expected = without(input_ids=ids, position_ids=positions)[0]
for run in (lambda model: model, lambda model: torch.compile(model, backend="eager")):
    with torch.no_grad():
        states = [run(model)(input_ids=ids, position_ids=positions)[0] for model in models]
    assert torch.equal(states[0], states[2])
    assert torch.equal(states[1], expected) and not torch.equal(states[0], states[1])
assert type(models[0]) is not type(models[1])
"""


@pytest.mark.parametrize("family", [pytest.param("encoder", marks=pytest.mark.slow), "decoder"])
def test_two_versions_live_side_by_side_each_with_its_own_code(family, tmp_path):
    (head,) = [head for head in HEADS if head.family == family and head.task == "base"]
    for name in ("old", "new"):
        make_model(head).save_pretrained(tmp_path / "both" / name)
    attention = tmp_path / "both" / "new" / "modeling_varlen.py"
    text = attention.read_text(encoding="utf-8")
    # In the other version attention over documents finds nothing, as where its output matrix is zero.
    changed = text.replace("    return _join([(numbers, _attend(", "    return 0 * _join([(numbers, _attend(")
    assert changed != text
    attention.write_text(changed, encoding="utf-8")
    script = tmp_path / "two.py"
    script.write_text(TWO_VERSIONS.format(tests=os.path.dirname(remote.__file__)))
    run_elsewhere(tmp_path / "both", tmp_path, script)


def test_a_transformers_that_is_too_old_is_named(tmp_path):
    make_model(HEADS[0]).save_pretrained(tmp_path / "one")
    version = tmp_path / "one" / "configuration_version.py"
    text = version.read_text(encoding="utf-8")
    version.write_text(text.replace('OLDEST_TRANSFORMERS = "5.17"', 'OLDEST_TRANSFORMERS = "99.0"'), encoding="utf-8")
    script = tmp_path / "load.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {os.path.dirname(remote.__file__)!r})\n"
        "import remote\nremote.forget_trivium()\nfrom transformers import AutoModel\n"
        "try: AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "except ImportError as error: print(error)\n"
    )
    said = run_elsewhere(tmp_path / "one", tmp_path, script)
    assert "needs transformers 99.0 or newer, not" in said and "pip install --upgrade transformers" in said
    shutil.rmtree(tmp_path / "one")


def test_a_checkpoint_names_no_class_of_another_family(tmp_path):
    for head in (head for head in HEADS if head.task == "lm"):
        make_model(head).save_pretrained(tmp_path / str(head))
        names = json.loads((tmp_path / str(head) / "config.json").read_text())["auto_map"].values()
        assert all(name.startswith(f"modeling_trivium.{head.model.__name__.partition('For')[0]}") for name in names)
