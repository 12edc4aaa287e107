import json

import pytest

from trivium.configuration import InputError
from trivium.training.checkpoints import (
    TRAINER_STATE,
    check_output_dir,
    checkpoint_to_resume,
    checkpoints_in,
    replacing,
)


def checkpoint(folder, model_type="trivium_decoder", whole=True):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "model.safetensors").write_text("old")
    if whole:
        (folder / TRAINER_STATE).write_text("{}")
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
        "checkpoint-3", "config.json", "model.safetensors", "notes.txt", "tokenizer.json", TRAINER_STATE,
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


def test_checkpoints_are_ordered_by_their_number(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-last", "other"):
        checkpoint(tmp_path / name)
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-9", "checkpoint-10"]


def test_resuming_finds_the_last_whole_checkpoint(tmp_path):
    for number, whole in ((5, True), (10, True), (15, False)):
        checkpoint(tmp_path / f"checkpoint-{number}", whole=whole)
    for asked in ("true", "True"):
        assert checkpoint_to_resume(asked, tmp_path, "trivium_decoder") == tmp_path / "checkpoint-10"
    chosen = str(tmp_path / "checkpoint-5")
    assert checkpoint_to_resume(chosen, tmp_path, "trivium_decoder") == tmp_path / "checkpoint-5"
    assert checkpoint_to_resume(None, tmp_path, "trivium_decoder") is None
    assert checkpoint_to_resume("false", tmp_path, "trivium_decoder") is None


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
