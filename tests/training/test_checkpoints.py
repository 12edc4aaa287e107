import contextlib
import json

import pytest

from trivium.configuration import InputError
from trivium.training.checkpoints import (
    RUN_FILE,
    RUN_STATE,
    TRAINER_STATE,
    appearing,
    check_output_dir,
    checkpoint_to_resume,
    checkpoints_in,
    clear,
    keep_latest,
    replacing,
    what_is_broken,
    write_run_state,
)


def checkpoint(folder, model_type="trivium_decoder", whole=True):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "model.safetensors").write_text("old")
    if whole:
        (folder / TRAINER_STATE).write_text("{}")
        write_run_state(folder, {"step": 1})
    return folder


def test_a_new_checkpoint_takes_the_place_of_the_old_and_leaves_the_rest(tmp_path):
    folder = checkpoint(tmp_path / "out")
    (folder / "model-00001-of-00002.safetensors").write_text("older")
    checkpoint(folder / "checkpoint-3")
    (folder / "notes.txt").write_text("mine")
    with replacing(folder, True, lambda: None) as aside:
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (aside / name).write_text("new")
        assert (folder / "model.safetensors").read_text() == "old"
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint-3", "config.json", "model.safetensors", "notes.txt", "tokenizer.json", TRAINER_STATE, RUN_STATE,
    }  # fmt: skip
    assert (folder / "model.safetensors").read_text() == (folder / "config.json").read_text() == "new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_save_changes_nothing(tmp_path, error):
    folder = checkpoint(tmp_path / "out")
    before = {path.name: path.read_text() for path in folder.iterdir()}
    with pytest.raises(error), replacing(folder, True, lambda: None) as aside:
        (aside / "config.json").write_text("half")
        raise error
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


def test_an_interrupted_first_save_leaves_no_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "new", True, lambda: None) as aside:
        (aside / "config.json").write_text("half")
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()


def test_a_crash_between_the_moves_leaves_nothing_that_loads(tmp_path, monkeypatch):
    folder = checkpoint(tmp_path / "out")
    real, moved = type(folder).replace, []

    def crash_at_the_second(self, target):
        moved.append(target)
        if len(moved) == 2:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(type(folder), "replace", crash_at_the_second)
    with pytest.raises(KeyboardInterrupt), replacing(folder, True, lambda: None) as aside:
        for name in ("config.json", "a.json", "model.safetensors"):
            (aside / name).write_text("new")
    assert not (folder / "config.json").exists()


@pytest.mark.parametrize("moves", range(6))
def test_stopped_at_any_move_a_model_that_says_it_is_finished_loads(tmp_path, monkeypatch, moves):
    folder = checkpoint(tmp_path / "out")
    (folder / RUN_FILE).write_text("old")
    real, left = type(folder).replace, [None] * moves

    def crash(self, target):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return real(self, target)

    monkeypatch.setattr(type(folder), "replace", crash)
    with contextlib.suppress(KeyboardInterrupt), replacing(folder, True, lambda: None) as aside:
        for name in ("config.json", "a.json", "model.safetensors", RUN_FILE):
            (aside / name).write_text("new")
    if (folder / RUN_FILE).exists():
        assert {(folder / name).read_text() for name in ("config.json", "model.safetensors", RUN_FILE)} == {"new"}
        assert moves >= 4


def test_checkpoints_are_ordered_by_their_number(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-last", "other"):
        checkpoint(tmp_path / name)
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-9", "checkpoint-10"]


def test_a_run_goes_on_from_its_last_whole_checkpoint(tmp_path, caplog):
    for number, whole in ((5, True), (10, True), (15, False)):
        checkpoint(tmp_path / f"checkpoint-{number}", whole=whole)
    for asked in (None, "true", "True", "false", str(tmp_path / "of" / "another" / "run")):
        assert checkpoint_to_resume(asked, tmp_path, "trivium_decoder") == tmp_path / "checkpoint-10"
    assert f"'{tmp_path / 'checkpoint-15'}' lacks {RUN_STATE}" in caplog.text
    chosen = str(tmp_path / "checkpoint-5")
    assert checkpoint_to_resume(chosen, tmp_path, "trivium_decoder") == tmp_path / "checkpoint-5"
    assert checkpoint_to_resume(None, tmp_path, "trivium_decoder", fresh=True) is None
    assert checkpoint_to_resume(chosen, tmp_path / "elsewhere", "trivium_decoder") == tmp_path / "checkpoint-5"
    assert checkpoint_to_resume(None, tmp_path / "elsewhere", "trivium_decoder") is None


def test_a_truncated_missing_or_broken_file_is_named(tmp_path):
    folder = checkpoint(tmp_path / "checkpoint-5")
    assert what_is_broken(folder) is None
    for name, content, words in (
        ("model.safetensors", "o", "model.safetensors has 1 bytes, not 3"),
        ("config.json", None, "config.json is missing"),
        (TRAINER_STATE, "{", "cannot be read"),
        (RUN_STATE, "{", "cannot be read"),
        (RUN_STATE, "[]", "cannot be read"),
        (RUN_STATE, None, f"lacks {RUN_STATE}"),
    ):
        before = (folder / name).read_bytes()
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_text(content)
        assert words in what_is_broken(folder)
        with pytest.raises(InputError, match="resume from an earlier one"):
            checkpoint_to_resume(str(folder), tmp_path, "trivium_decoder" if name != "config.json" else None)
        (folder / name).write_bytes(before)
    assert what_is_broken(folder) is None


def test_a_folder_appears_whole_and_replaces_the_one_before(tmp_path):
    folder = checkpoint(tmp_path / "checkpoint-5")
    with appearing(folder, True, lambda: None) as aside:
        (aside / "a").write_text("new")
        assert (folder / "model.safetensors").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoint-5", "a"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_folder_that_cannot_be_written_does_not_appear(tmp_path, error):
    with pytest.raises(error), appearing(tmp_path / "checkpoint-5", True, lambda: None) as aside:
        (aside / "a").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_old_checkpoints_give_way_but_not_the_best(tmp_path):
    folders = [checkpoint(tmp_path / f"checkpoint-{number}") for number in (1, 2, 10, 11)]
    keep_latest(tmp_path, None, None)
    assert checkpoints_in(tmp_path) == folders
    keep_latest(tmp_path, 2, str(folders[0]))
    assert checkpoints_in(tmp_path) == [folders[0], *folders[2:]]


def test_what_a_killed_process_left_is_cleared_and_starting_over_clears_the_run(tmp_path):
    for name in (".saving", ".saving-checkpoint-4", ".deleting-checkpoint-1", "checkpoint-3", "notes"):
        checkpoint(tmp_path / name)
    (tmp_path / RUN_FILE).write_text("{}")
    clear(tmp_path, fresh=False)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-3", "notes", RUN_FILE}
    clear(tmp_path, fresh=True)
    assert {path.name for path in tmp_path.iterdir()} == {"notes"}


def test_what_cannot_be_resumed_is_said(tmp_path):
    half = checkpoint(tmp_path / "half", whole=False)
    other = checkpoint(tmp_path / "other", "trivium_encoder")
    for asked, sentence in (
        (str(half), "its save was interrupted"),
        (str(other), "holds a trivium_encoder checkpoint, but a trivium_decoder is needed"),
        (str(tmp_path / "gone"), "does not exist"),
        ("true", "holds no whole checkpoint"),
    ):
        with pytest.raises(InputError, match=sentence):
            checkpoint_to_resume(asked, tmp_path, "trivium_decoder")


def test_an_output_folder_of_another_family_is_refused(tmp_path):
    check_output_dir(tmp_path / "new", "trivium_decoder")
    check_output_dir(checkpoint(tmp_path / "same"), "trivium_decoder")
    checkpoint(tmp_path / "between" / "checkpoint-4", "trivium_encoder")
    (tmp_path / "file").write_text("")
    broken = checkpoint(tmp_path / "broken")
    (broken / "config.json").write_text("{")
    for name, sentence in (
        ("between", "holds a trivium_encoder checkpoint, not a trivium_decoder"),
        ("file", "is a file: choose a folder"),
        ("broken", "is broken"),
    ):
        with pytest.raises(InputError, match=sentence):
            check_output_dir(tmp_path / name, "trivium_decoder")
