"""Checkpoint folders: of which family, whole or not, and how a new one takes the place of an old one."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..configuration.errors import InputError

TRAINER_STATE = "trainer_state.json"
RUN_FILE = "trivium_run.json"  # the record of a run; of a finished one with its metrics
LAST = ("config.json", RUN_FILE)  # of a finished model: what makes it load, and what says that it is finished
RUN_STATE = "trivium_state.json"  # the last file of a checkpoint: where in the data, which settings, the other files

logger = logging.getLogger(__name__)


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
    try:
        with tempfile.TemporaryFile(dir=next(path for path in (folder, *folder.absolute().parents) if path.exists())):
            pass
    except OSError as error:
        raise InputError(f"nothing can be written to `output_dir` '{folder}': {error.strerror}.") from error
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


def checkpoint_to_resume(asked: str | None, folder: Path, model_type: str, fresh: bool = False) -> Path | None:
    """The checkpoint to go on from: the last whole one in `folder`, else the one asked for, if any.

    A checkpoint of another run is where this one begins; once it has one of its own, it goes on with that. One of
    `folder` itself that is asked for is taken. With `fresh`, those of `folder` do not count.

    Raises:
        InputError: the checkpoint asked for is not there, broken, or of another family.
    """
    named = asked is not None and Path(asked).absolute().parent == folder.absolute()
    for path in [] if fresh or named else reversed(checkpoints_in(folder)):
        broken = what_is_broken(path)
        if broken is None:
            return path
        logger.warning("%s; trying the checkpoint before", broken)
    if asked is None or asked.lower() in ("false", "no", "0"):
        return None
    if asked.lower() in ("true", "yes", "1"):
        raise InputError(f"'{folder}' holds no whole checkpoint to resume from: leave resume_from_checkpoint out.")
    path = Path(asked)
    if fresh and named:
        raise InputError(f"--fresh true deletes '{path}': leave one of the two out, or choose another output_dir.")
    if not path.is_dir():
        raise InputError(f"the checkpoint '{path}' does not exist.")
    check_family(path, model_type)
    broken = what_is_broken(path)
    if broken is not None:
        raise InputError(f"{broken}: resume from an earlier one.")
    return path


def what_is_broken(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint of a run, in words, or `None` if every file is there as it was written."""
    try:
        state = json.loads((checkpoint / RUN_STATE).read_text(encoding="utf-8"))
        sizes = state["files"]
        json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        return f"'{checkpoint}' lacks {missing}: its save was interrupted, or it is no checkpoint of a run"
    except (OSError, ValueError, KeyError, TypeError):
        return f"'{checkpoint}' is broken: its {RUN_STATE} or {TRAINER_STATE} cannot be read"
    for name, size in sizes.items():
        file = checkpoint / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            how = "is missing" if found is None else f"has {found:,} bytes, not {size:,}"
            return f"'{checkpoint}' is broken: {name} {how}"
    return None


def write_run_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes the last file of a checkpoint: `state`, and the size of each other file but the card, which may change."""
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "README.md"
    }
    (folder / RUN_STATE).write_text(json.dumps(state | {"files": files}, indent=1) + "\n", encoding="utf-8")


def read_run_state(checkpoint: Path) -> dict[str, Any]:
    """What [`write_run_state`] wrote; the checkpoint was found whole before."""
    return json.loads((checkpoint / RUN_STATE).read_text(encoding="utf-8"))


def _make_empty(folder: Path, is_main: bool, wait: Callable[[], None]) -> None:
    """Makes a folder for all processes to write into, without what a killed one left there."""
    if is_main:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    wait()


@contextmanager
def appearing(folder: Path, is_main: bool, wait: Callable[[], None]) -> Iterator[Path]:
    """Gives a folder to write into, which becomes `folder` at one stroke, or not at all if anything fails.

    Args:
        folder: where it belongs; what is there gives way.
        is_main: whether this process does the moving.
        wait: called where all processes must have come before any goes on.
    """
    aside = folder.with_name(f".saving-{folder.name}")
    _make_empty(aside, is_main, wait)
    try:
        yield aside
        wait()
        if is_main:
            remove(folder)
            aside.rename(folder)
        wait()
    finally:
        if is_main:
            shutil.rmtree(aside, ignore_errors=True)


def remove(folder: Path) -> None:
    """Deletes a folder so that at no moment a part of it goes by its name."""
    if folder.exists():
        aside = folder.with_name(f".deleting-{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        shutil.rmtree(aside)


def clear(folder: Path, fresh: bool) -> None:
    """Deletes what a process that was killed while saving or deleting left in the folder of a run.

    With `fresh` also the checkpoints of the run; the finished model stays until another takes its place.
    """
    if fresh:
        (folder / RUN_FILE).unlink(missing_ok=True)
        for path in checkpoints_in(folder):
            remove(path)
    for pattern in (".saving*", ".deleting-*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def keep_latest(folder: Path, limit: int | None, best: str | None) -> None:
    """Deletes all but the last `limit` checkpoints of a run, and never the best."""
    if limit is not None and limit > 0:
        for path in checkpoints_in(folder)[:-limit]:
            if best is None or path != Path(best):
                remove(path)


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
    _make_empty(aside, is_main, wait)
    try:
        yield aside
        wait()
        if is_main:
            for name in LAST:
                (folder / name).unlink(missing_ok=True)
            for stale in folder.glob("model*.safetensors*"):
                stale.unlink()
            files = [file for file in aside.rglob("*") if file.is_file()]
            for file in sorted(files, key=lambda file: LAST.index(file.name) if file.name in LAST else -1):
                target = folder / file.relative_to(aside)
                target.parent.mkdir(exist_ok=True)
                file.replace(target)
    finally:
        if is_main:
            shutil.rmtree(aside, ignore_errors=True)
            if is_new and not any(folder.iterdir()):
                folder.rmdir()
