"""What arrives at the trackers is what the checkpoints say was logged, in one run; read back from their own files."""

import json
import sqlite3
import struct
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from transformers.integrations import rewrite_logs

from trivium.configuration import InputError
from trivium.training import pretrain as verb
from trivium.training import trackers
from trivium.training.trackers import check_trackers, new_name
from trivium.training.verbs import run

# What a run logs of its training and of each of its two sources; each must be among what arrives.
TRAINING = "loss grad_norm learning_rate tokens_seen tokens_per_second waste mfu".split()
HELD_OUT = "loss perplexity bits_per_byte predicted_tokens".split()
EXPECTED = {f"train/{name}" for name in TRAINING} | {f"eval/{s}{name}" for name in HELD_OUT for s in ("", "a_", "b_")}


@pytest.fixture
def argv(data_file, tokenizer_folders, tmp_path):
    """Arguments for a run of a moment on two sources; more are appended and win."""
    sources = [f"--mixture.{name}={json.dumps({'data': str(data_file), 'weight': 1})}" for name in "ab"]
    fixed = f"--family decoder --output_dir {tmp_path / 'out'} --tokenizer {tokenizer_folders['decoder']}".split()
    fixed += "--per_device_train_batch_size 2 --max_length 32 --max_held_out_blocks 3 --disable_tqdm true".split()
    fixed += "--max_steps 3 --logging_steps 1 --save_steps 1 --eval_strategy steps --eval_steps 2".split()
    fixed += "--model.hidden_size 32 --model.num_hidden_layers 1 --model.num_attention_heads 2".split()
    return lambda *more: [*fixed, *sources, *more]


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """Keeps what the trackers write in the folder of the test, and them off the network."""
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": tmp_path, "TRACKIO_DIR": tmp_path / "trackio"}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("WANDB_RUN_ID", "TENSORBOARD_LOGGING_DIR", "TRACKIO_SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # or it would keep the folder of its first run


def from_tensorboard(folder):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for path in (folder / "out" / "runs").iterdir():
        events = accumulators.EventAccumulator(str(path)).Reload()
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):
                yield path.name, name, event.step, event.value


def from_trackio(folder):
    import trackio

    with sqlite3.connect(trackio.utils.TRACKIO_DIR / f"{folder.name}.db") as database:
        for name, step, metrics in database.execute("select run_name, step, metrics from metrics order by id"):
            yield from ((name, metric, step, value) for metric, value in json.loads(metrics).items())


def from_wandb(folder):
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # what writes the file is a process of its own, which may still be at it
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        name = None
        for data in leveldb_records(path.read_bytes()):
            record = Record.FromString(data)
            name = record.run.run_id or name
            items = record.history.item
            entry = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
            yield from ((name, metric, entry["train/global_step"], value) for metric, value in entry.items())


def leveldb_records(data, block=32 * 1024, header=7):
    """The records of a log of LevelDB, whose first block begins with as many bytes of wandb's own as a header has."""
    place, record = header, b""
    while place + header <= len(data):
        left = block - place % block
        if left < header:
            place += left
            continue
        size, kind = struct.unpack("<4xHB", data[place : place + header])
        record += data[place + header : place + header + size]
        place += header + size
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


READERS = {"tensorboard": from_tensorboard, "trackio": from_trackio, "wandb": from_wandb}


@pytest.mark.parametrize("tracker", READERS)
def test_all_that_is_logged_arrives_at_its_step_in_one_run_also_after_an_interruption(tracker, argv, stores):
    pytest.importorskip(tracker)
    more = ("--report_to", tracker, "--project", stores.name)
    assert verb.main(argv(*more)) == 0
    assert verb.main(argv(*more, "--max_steps", "5")) == 0  # goes on from the third
    reported, runs = defaultdict(dict), set()
    for name, metric, step, value in READERS[tracker](stores):
        runs.add(name)
        reported[metric][step] = value
    assert len(runs) == 1 and runs.pop().startswith("out-20")
    assert reported.keys() >= EXPECTED
    history = json.loads((stores / "out" / "checkpoint-5" / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4, 5]
    measured_again = "per_second", "runtime"  # after training
    for entry in history:
        for metric, value in rewrite_logs({k: v for k, v in entry.items() if k != "step"}).items():
            if not metric.startswith("eval/") or not metric.endswith(measured_again):
                assert reported[metric][entry["step"]] == pytest.approx(value, rel=1e-6), metric


@pytest.mark.parametrize("tracker", READERS)
def test_every_run_of_a_process_is_reported_apart(tracker, argv, stores):
    pytest.importorskip(tracker)
    more = ("--report_to", tracker, "--project", stores.name, "--eval_strategy", "no", "--eval_on_start", "false")
    for _ in range(2):
        assert verb.main(argv(*more, "--fresh", "true")) == 0
    assert len({name for name, *_ in READERS[tracker](stores)}) == 2


def test_a_tracker_that_is_missing_or_unknown_is_said_in_one_sentence_before_anything_is_done(
    argv, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(trackers, "_is_installed", lambda name: False)
    for name, sentence in {
        "wandb": 'wandb is not installed; get it with: pip install "trivium[trackers]"',
        "trackio": 'trackio is not installed; get it with: pip install "trivium[trackers]"',
        "trakio": "`report_to` knows no 'trakio'; did you mean 'trackio'?",
    }.items():
        assert run(verb.main, argv("--report_to", "tensorboard", name)) == 2
        assert capsys.readouterr().err == f"trivium: error: {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_what_another_tracker_lacks_is_said_in_the_words_of_transformers(monkeypatch):
    def lacking():
        raise RuntimeError("LacksCallback requires lacks to be installed. Run `pip install lacks`.")

    monkeypatch.setitem(trackers.INTEGRATION_TO_CALLBACK, "lacks", lacking)
    with pytest.raises(InputError, match=r"nothing can be reported to lacks: .* Run `pip install lacks`\."):
        check_trackers(["lacks"])


def test_a_folder_that_a_tracker_left_behind_is_not_taken_for_the_tracker(tmp_path, monkeypatch):
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not trackers._is_installed("left_behind") and trackers._is_installed("json")


@pytest.mark.parametrize("folder", ["out", "runs/a b:c?#", "/", "x" * 300])
def test_names_are_ones_that_wandb_takes_and_differ(folder):
    names = {new_name(Path(folder)) for _ in range(20)}
    assert len(names) > 15 and all(len(name) <= 128 and not set(name) & set(r"/\#?%: ") for name in names)


def test_a_run_that_the_user_has_chosen_is_left_alone(argv, stores):
    wandb = pytest.importorskip("wandb")
    mine = wandb.init(project=stores.name, id="mine")
    assert verb.main(argv("--report_to", "wandb")) == 0
    assert wandb.run is mine
    wandb.finish()
    assert {name for name, *_ in from_wandb(stores)} == {"mine"}
