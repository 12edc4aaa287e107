"""Checkpoint folders: of which family, whole or not, and how a new one takes the place of an old one."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..configuration.errors import InputError

TRAINER_STATE = "trainer_state.json"  # the last file that Trainer writes into a checkpoint


def model_type_of(folder: Path) -> str | None:
    """The `model_type` that the config.json in `folder` names, or `None` without one; refuses a broken file."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError, OSError):
        raise InputError(f"'{path}' is broken: delete it, or choose another folder.") from None


def check_output_dir(folder: Path, model_type: str) -> None:
    """Raises `InputError` if `folder` is no folder or holds a checkpoint of another family, not to mix them."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`output_dir` '{folder}' is a file: choose a folder.")
    for candidate in [folder, *checkpoints_in(folder)]:
        other = model_type_of(candidate)
        if other not in (None, model_type):
            raise InputError(
                f"'{candidate}' holds a {other} checkpoint, not a {model_type}: choose another output_dir."
            )


def checkpoints_in(folder: Path) -> list[Path]:
    """The folders checkpoint-N of a run, by N."""
    numbered = [(path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"), path) for path in folder.glob("checkpoint-*")]
    return [path for number, path in sorted((int(n), path) for n, path in numbered if n.isdecimal() and path.is_dir())]


def checkpoint_to_resume(asked: str | None, folder: Path, model_type: str) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint` means: a folder, or for "true" the last whole one in `folder`.

    Raises:
        InputError: there is none, it is of another family, or its save was interrupted.
    """
    if asked is None or asked.lower() in ("false", "no", "0"):
        return None
    if asked.lower() in ("true", "yes", "1"):
        whole = [path for path in checkpoints_in(folder) if (path / TRAINER_STATE).is_file()]
        if not whole:
            raise InputError(f"'{folder}' holds no whole checkpoint to resume from: leave resume_from_checkpoint out.")
        asked = str(whole[-1])
    path = Path(asked)
    if not path.is_dir():
        raise InputError(f"the checkpoint '{path}' does not exist.")
    check_family(path, model_type)
    if not (path / TRAINER_STATE).is_file():
        raise InputError(f"'{path}' lacks {TRAINER_STATE}: its save was interrupted, so resume from an earlier one.")
    return path


def check_family(folder: Path, model_type: str) -> None:
    """Raises `InputError` unless `folder` holds a checkpoint of `model_type`."""
    other = model_type_of(folder)
    if other != model_type:
        raise InputError(
            f"'{folder}' holds {f'a {other} checkpoint' if other else 'no checkpoint'}, but a {model_type} is needed."
        )


@contextmanager
def replacing(folder: Path, is_main: bool, wait: Callable[[], None]) -> Iterator[Path]:
    """Gives a folder to save into; what was saved then replaces the checkpoint in `folder`, or nothing does.

    An error or an interrupt while saving leaves the old checkpoint as it was. While the files change places there is no
    config.json, so that whatever stops the process there leaves no mixture that would load.

    Args:
        folder: where the checkpoint belongs; what else is in it stays.
        is_main: whether this process does the moving.
        wait: called where all processes must have come before any goes on.
    """
    aside, is_new = folder / ".saving", not folder.exists()
    if is_main:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    wait()
    try:
        yield aside
        wait()
        if is_main:
            (folder / "config.json").unlink(missing_ok=True)
            for stale in folder.glob("model*.safetensors*"):
                stale.unlink()
            for file in sorted(aside.iterdir(), key=lambda file: file.name == "config.json"):
                file.replace(folder / file.name)
    finally:
        if is_main:
            shutil.rmtree(aside, ignore_errors=True)
            if is_new and not any(folder.iterdir()):
                folder.rmdir()
