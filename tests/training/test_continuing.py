"""The same command again, as its user runs it: after an interruption, after the end, and with something changed."""

import dataclasses
import json
import random
import signal
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file

import trivium
from tests.training.interrupted import KILLED_IN_A_SAVE, running, stop_at, stop_two_processes, wait_for_steps
from trivium.configuration import InputError
from trivium.training import pretrain as verb
from trivium.training.arguments import PretrainArguments, PretrainTrainingArguments, parse
from trivium.training.checkpoints import checkpoints_in, read_run_state, what_is_broken
from trivium.training.continuing import DURATION, FIXED, OTHER, changes, settings_of
from trivium.training.finetune_arguments import FinetuneArguments, FinetuneTrainingArguments
from trivium.training.stopping import STOPPED
from trivium.training.verbs import run

RECIPE = dict(
    max_steps=6,
    save_steps=2,
    per_device_train_batch_size=2,
    max_length=32,
    max_held_out_blocks=2,
    disable_tqdm=True,
    eval_on_start=False,
    save_total_limit=10,
    model=dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, hidden_dropout=0.1),
)


@pytest.fixture
def argv(data_file, tokenizer_folders, tmp_path):
    def arguments(*more, family="decoder", out="out", **changed):
        fields = {"family": family, "data": str(data_file), "tokenizer": str(tokenizer_folders[family])}
        recipe = tmp_path / f"recipe-{len(list(tmp_path.iterdir()))}.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE | fields | {"output_dir": str(tmp_path / out)} | changed))
        return [str(recipe), *more]

    return arguments


def weights(folder):
    return trivium.TriviumDecoderForCausalLM.from_pretrained(folder).state_dict()


def same_weights(one, other):
    one, other = weights(one), weights(other)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


def test_sigterm_saves_and_exits_and_the_same_command_ends_where_it_would_have(argv, tmp_path, monkeypatch, capsys):
    assert run(verb.main, argv(out="whole")) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, verb.PretrainTrainer, 3)
        assert run(verb.main, argv()) == STOPPED == 143
    assert "stopped after step 3 as SIGTERM asked; the same command goes on" in capsys.readouterr().err
    assert [path.name for path in checkpoints_in(tmp_path / "out")] == ["checkpoint-2", "checkpoint-3"]
    assert not (tmp_path / "out" / "trivium_run.json").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert run(verb.main, argv()) == 0
    same_weights(tmp_path / "whole", tmp_path / "out")
    logs = []
    for name in ("whole", "out"):
        state = json.loads((tmp_path / name / "checkpoint-6" / "trainer_state.json").read_text())
        logs.append([entry["step"] for entry in state["log_history"]])
    assert logs[0] == logs[1]


def test_a_finished_run_says_so_and_does_nothing(argv, tmp_path, capsys):
    verb.main(argv())
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert verb.main(argv()) == 0
    again = capsys.readouterr().out
    assert f"The run in '{tmp_path / 'out'}' is finished; --fresh true trains anew" in again
    assert first.splitlines()[-3:] == again.splitlines()[-3:]  # the same summary
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_finished_run_can_be_prolonged_and_begun_afresh(argv, tmp_path, capsys):
    verb.main(argv(out="whole", max_steps=8, lr_scheduler_type="constant"))
    verb.main(argv(lr_scheduler_type="constant"))
    verb.main(argv(max_steps=8, lr_scheduler_type="constant"))
    same_weights(tmp_path / "whole", tmp_path / "out")
    verb.main(argv("--fresh", "true", save_strategy="no", max_steps=2))
    assert checkpoints_in(tmp_path / "out") == []
    assert json.loads((tmp_path / "out" / "trivium_run.json").read_text())["metrics"]["steps"] == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (dict(max_length=16), "max_length 32 -> 16"),
        (dict(seed=7), "seed 42 -> 7"),
        (dict(model=dict(hidden_size=64)), "model {"),
        (dict(muon=True), "muon false -> true"),
        (dict(packing="wrapped"), 'packing "best-fit" -> "wrapped"'),
    ],
    ids=str,
)
def test_a_change_that_does_not_fit_the_checkpoint_is_refused(argv, tmp_path, monkeypatch, capsys, changed, words):
    stop_at(monkeypatch, verb.PretrainTrainer, 3)
    run(verb.main, argv())
    monkeypatch.undo()
    capsys.readouterr()
    assert run(verb.main, argv(**changed)) == 2
    said = capsys.readouterr().err
    assert f"the recipe has changed since '{tmp_path / 'out' / 'checkpoint-3'}' was written: {words}" in said
    assert "or start over with --fresh true" in said


def test_a_change_that_fits_is_said(argv, monkeypatch, capsys, caplog):
    stop_at(monkeypatch, verb.PretrainTrainer, 3)
    run(verb.main, argv())
    monkeypatch.undo()
    assert run(verb.main, argv(learning_rate=1e-4, max_steps=7)) == 0
    assert "learning_rate 0.001 -> 0.0001" in caplog.text and "max_steps 6 -> 7" in caplog.text


def test_a_change_after_the_end_is_refused_until_said(argv, capsys):
    verb.main(argv())
    assert run(verb.main, argv(learning_rate=1e-4)) == 2
    said = capsys.readouterr().err
    assert "holds a finished run, and since then has changed: learning_rate 0.001 -> 0.0001" in said


def test_data_that_changed_since_is_refused(argv, data_file, tmp_path, monkeypatch, capsys):
    own = tmp_path / "own.jsonl"
    own.write_bytes(data_file.read_bytes())
    stop_at(monkeypatch, verb.PretrainTrainer, 3)
    run(verb.main, argv(data=str(own)))
    monkeypatch.undo()
    with open(own, "a") as file:
        file.write(json.dumps({"text": "One more document, which was not there before."}) + "\n")
    assert run(verb.main, argv(data=str(own))) == 2
    assert "the data is not what the checkpoint was trained on" in capsys.readouterr().err


def test_a_truncated_checkpoint_is_said_and_the_one_before_taken(argv, tmp_path, monkeypatch, caplog):
    verb.main(argv(out="whole"))
    stop_at(monkeypatch, verb.PretrainTrainer, 5)
    run(verb.main, argv())
    monkeypatch.undo()
    broken = tmp_path / "out" / "checkpoint-5" / "optimizer.pt"
    broken.write_bytes(broken.read_bytes()[:100])
    assert run(verb.main, argv()) == 0
    assert "checkpoint-5' is broken: optimizer.pt has 100 bytes" in caplog.text
    same_weights(tmp_path / "whole", tmp_path / "out")


def test_cooling_down_from_a_checkpoint_of_another_run(argv, tmp_path, capsys):
    verb.main(argv(lr_scheduler_type="constant", learning_rate=0.002))
    cool = ["--resume_from_checkpoint", str(tmp_path / "out" / "checkpoint-4"), "--cooldown_steps", "4"]
    fields = dict(lr_scheduler_type="constant", learning_rate=0.002, logging_steps=1, max_steps=100, out="cooled")
    assert verb.main(argv(*cool, **fields)) == 0
    state = json.loads((tmp_path / "cooled" / "checkpoint-8" / "trainer_state.json").read_text())
    rates = {entry["step"]: entry["learning_rate"] for entry in state["log_history"] if "learning_rate" in entry}
    expected = {step: 0.002 * (1 - ((step - 5) / 4) ** 0.5) for step in (5, 6, 7, 8)}
    assert {step: rates[step] for step in expected} == pytest.approx(expected)
    assert state["global_step"] == 8 and read_run_state(tmp_path / "cooled" / "checkpoint-8")["cooldown"]["start"] == 4
    assert run(verb.main, argv("--cooldown_steps", "4", out="new")) == 2
    assert "`cooldown_steps` needs a checkpoint to cool down from" in capsys.readouterr().err


def test_a_run_that_goes_on_with_larger_steps_reads_as_much_in_all(argv, tmp_path, monkeypatch):
    fields = dict(max_steps=-1, num_train_epochs=0.02)
    verb.main(argv(out="whole", **fields))
    stop_at(monkeypatch, verb.PretrainTrainer, 5)
    assert run(verb.main, argv(**fields)) == STOPPED
    monkeypatch.undo()
    assert run(verb.main, argv(per_device_train_batch_size=4, **fields)) == 0
    read = [json.loads((tmp_path / out / "trivium_run.json").read_text())["metrics"] for out in ("whole", "out")]
    assert 0 <= read[1]["tokens"] - read[0]["tokens"] < 4 * 32 and read[1]["steps"] < read[0]["steps"]


@pytest.mark.parametrize("muon", [False, True])
def test_settings_of_the_optimizer_that_changed_take_effect(argv, tmp_path, monkeypatch, muon):
    fields = dict(lr_scheduler_type="constant", warmup_steps=0, muon=muon, logging_steps=1)
    stop_at(monkeypatch, verb.PretrainTrainer, 3)
    run(verb.main, argv(**fields))
    monkeypatch.undo()
    assert run(verb.main, argv(learning_rate=1e-4, weight_decay=0.3, **fields)) == 0
    state = json.loads((tmp_path / "out" / "checkpoint-6" / "trainer_state.json").read_text())
    rates = [entry["learning_rate"] for entry in state["log_history"] if "learning_rate" in entry]
    assert rates == pytest.approx([1e-3] * 3 + [1e-4] * 3)
    groups = torch.load(tmp_path / "out" / "checkpoint-6" / "optimizer.pt", weights_only=True)["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]


def test_what_would_leave_nothing_to_go_on_from_is_refused(argv, tmp_path, monkeypatch, capsys):
    verb.main(argv())
    own = str(tmp_path / "out" / "checkpoint-4")
    for more, words in (
        (["--fresh", "true", "--resume_from_checkpoint", own], f"--fresh true deletes '{own}'"),
        (["--save_only_model", "true"], "checkpoints that no run can go on from"),
        (["--auto_find_batch_size", "true"], "`auto_find_batch_size` has no effect"),
        (["--max_tokens", "-5"], "`max_tokens` must be above 0"),
    ):
        assert run(verb.main, argv(*more)) == 2
        assert words in capsys.readouterr().err
    assert len(checkpoints_in(tmp_path / "out")) == 3
    cooled = ["--resume_from_checkpoint", own, "--cooldown_steps", "2", "--output_dir", str(tmp_path / "cooled")]
    assert run(verb.main, argv(*cooled)) == 0
    assert run(verb.main, argv("--output_dir", str(tmp_path / "cooled"), max_steps=20)) == 2
    assert "cooldown" in capsys.readouterr().err


def test_null_in_a_recipe_is_none_and_sources_inherit_from_the_run(argv, data_file):
    kinds = (PretrainArguments, PretrainTrainingArguments)
    mixture = {"a": {"data": str(data_file)}, 7: {"data": str(data_file), "skip_bad": False}}
    recipe = argv(spike_threshold=None, save_total_limit=None, data=None, mixture=mixture, skip_bad=True)
    args, training_args = parse(recipe, kinds)
    assert training_args.spike_threshold is None and training_args.save_total_limit is None
    assert {name: source.skip_bad for name, (source, _) in args.sources.items()} == {"a": True, "7": False}


def test_a_budget_of_tokens_and_passes_become_steps(argv, tmp_path):
    for changed, steps in ((dict(max_tokens=321.0), 6), (dict(max_tokens=320.0), 5), (dict(num_train_epochs=0.01), 8)):
        verb.main(argv("--fresh", "true", max_steps=-1, save_strategy="no", **changed))
        metrics = json.loads((tmp_path / "out" / "trivium_run.json").read_text())["metrics"]
        assert metrics["steps"] == steps  # of 2 x 32 tokens


def test_every_setting_is_told_apart_by_name():
    kinds = (PretrainArguments, PretrainTrainingArguments)
    every = (*kinds, FinetuneArguments, FinetuneTrainingArguments)
    fields = {field.name for kind in every for field in dataclasses.fields(kind)}
    assert (FIXED | DURATION | OTHER) - {"target_column"} <= fields
    args, training_args = parse(["decoder-tiny"], kinds)
    settings = settings_of(args, training_args)
    assert json.loads(json.dumps(settings)) == settings and changes(settings, settings) == {}
    assert changes(settings, settings | {"muon": False}) == {"muon": "muon true -> false"}


def test_streams_need_an_end(argv, capsys):
    assert run(verb.main, argv("--streaming", "true", max_steps=-1)) == 2
    assert "the end of a stream is not known: say max_steps or max_tokens" in capsys.readouterr().err


CASES = [(family, "memory-mapped", (2,)) for family in ("encoder", "encoder-decoder")]
CASES += [("decoder", "memory-mapped", (1, 2, 3, 4)), ("decoder", "streamed", (3,)), ("decoder", "mixture", (3,))]


@pytest.mark.parametrize(("family", "source", "steps"), CASES)
def test_stopped_at_any_step_and_resumed_is_bit_for_bit_uninterrupted(
    argv, data_file, tmp_path, monkeypatch, family, source, steps
):
    changed = dict(max_steps=5, gradient_accumulation_steps=2, lr_scheduler_type="linear", muon=True)
    if source == "streamed":
        changed["streaming"] = True
    if source == "mixture":
        halves = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
        lines = data_file.read_text(encoding="utf-8").splitlines(keepends=True)
        for half, part in zip(halves, (lines[::2], lines[1::2]), strict=True):
            half.write_text("".join(part), encoding="utf-8")
        sources = {
            half.stem: {"data": str(half), "weight": weight} for half, weight in zip(halves, (3, 1), strict=True)
        }
        changed |= dict(mixture=sources, data=None)
    verb.main(argv(family=family, out="whole", **changed))
    for step in steps:
        with monkeypatch.context() as patch:
            stop_at(patch, verb.PretrainTrainer, step)
            assert run(verb.main, argv(family=family, out=f"stopped-{step}", **changed)) == STOPPED
        assert verb.main(argv(family=family, out=f"stopped-{step}", **changed)) == 0
        final = [tmp_path / name / "checkpoint-5" for name in ("whole", f"stopped-{step}")]
        one, other = (torch.load(folder / "optimizer.pt", weights_only=True) for folder in final)
        torch.testing.assert_close(one["state"], other["state"], rtol=0, atol=0)
        one, other = (load_file(folder / "model.safetensors") for folder in final)
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        one, other = (read_run_state(folder) for folder in final)
        own = dict(files=0, tracked_as=0)  # each run has a name of its own in trackers
        assert one | own == other | own


MODULE = "trivium.training.pretrain"


@pytest.mark.slow
def test_killed_at_ten_random_moments_a_run_always_goes_on_and_loses_only_steps_since_its_last_checkpoint(
    argv, tmp_path
):
    fields = dict(max_steps=60, logging_steps=1, save_total_limit=2)
    verb.main(argv(out="whole", **fields))
    recipe, folder, chance = argv(**fields), tmp_path / "out", random.Random(0)
    reached = inside_a_save = 0
    for kill in range(10):
        how = ["-c", KILLED_IN_A_SAVE.format(module=MODULE), str(chance.randrange(80))] if kill % 2 else ["-m", MODULE]
        with running(*how, *recipe) as process:
            if kill % 2 == 0:
                wait_for_steps(process, chance.randint(1, 6))
                time.sleep(chance.uniform(0, 0.05))
                process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        inside_a_save += any(folder.glob(".saving-*")) or any(folder.glob(".deleting-*"))
        checkpoints = checkpoints_in(folder)
        assert all(what_is_broken(path) is None for path in checkpoints)  # what goes by the name of one is one
        latest = int(checkpoints[-1].name.rpartition("-")[2]) if checkpoints else 0
        assert latest >= reached
        reached = latest
    assert inside_a_save >= 3 and 0 < reached < 60
    verb.main(recipe)
    same_weights(tmp_path / "whole", tmp_path / "out")


@pytest.mark.slow
def test_stopped_in_two_processes_a_run_goes_on_in_one_and_in_two_again(argv, tmp_path, monkeypatch, caplog):
    model = RECIPE["model"] | {"hidden_dropout": 0.0}  # each process draws its own
    fields = dict(max_steps=40, save_steps=40, logging_steps=1, gradient_accumulation_steps=4, model=model)
    one, two = (argv(per_device_train_batch_size=rows, **fields) for rows in (4, 2))
    verb.main(argv(out="whole", per_device_train_batch_size=4, **fields))
    stop_two_processes(MODULE, two, "launcher")
    (first,) = checkpoints_in(tmp_path / "out")
    with monkeypatch.context() as patch:
        stop_at(patch, verb.PretrainTrainer, read_run_state(first)["step"] + 3)
        assert run(verb.main, one) == STOPPED
    stop_two_processes(MODULE, two, "worker")
    verb.main(one)
    assert "Changed since" not in caplog.text
    *stops, last = checkpoints_in(tmp_path / "out")
    assert len(stops) == 3 and last.name == "checkpoint-40"
    for stop in stops:
        state = read_run_state(stop)
        assert state["data"]["rows"] == 16 * state["step"]
    expected, losses = (logged_losses(tmp_path / name) for name in ("whole", "out"))
    assert len(expected) == 40 and losses == pytest.approx(expected, rel=1e-5)


def logged_losses(folder):
    """By step."""
    state = json.loads((folder / "checkpoint-40" / "trainer_state.json").read_text())
    return {entry["step"]: entry["loss"] for entry in state["log_history"] if "grad_norm" in entry}


def test_arguments_of_a_mixture_are_checked():
    for mixture, words in (
        ({"a": {"weight": 1}}, "source 'a' of the mixture has no `data`"),
        ({"a": {"data": "x", "wieght": 1}}, "did you mean 'weight'"),
        ([1], "`mixture` must map names"),
    ):
        with pytest.raises(InputError, match=words):
            PretrainArguments(family="decoder", mixture=mixture).sources  # noqa: B018
    with pytest.raises(InputError, match="give `data`, or `mixture`"):
        PretrainArguments(family="decoder")
