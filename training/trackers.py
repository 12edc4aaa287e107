"""What `report_to` names: each run is one run there too, however often it is stopped and goes on."""

import difflib
import importlib.util
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.integrations import INTEGRATION_TO_CALLBACK, TensorBoardCallback, TrackioCallback, rewrite_logs

from ..configuration.errors import InputError
from .checkpoints import read_run_state

IN_EXTRA = ("trackio", "wandb")  # of `pip install trivium[trackers]`; others come with instructions of their own


def check_trackers(names: list[str]) -> None:
    """Raises `InputError` for a tracker that transformers does not know or that is not installed."""
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            nearest = difflib.get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1, cutoff=0.5)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"it is one of {', '.join(INTEGRATION_TO_CALLBACK)}."
            raise InputError(f"`report_to` knows no '{name}'; {hint}")
        if name in IN_EXTRA and not _is_installed(name):
            raise InputError(f'{name} is not installed; get it with: pip install "trivium[trackers]"')
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (ImportError, RuntimeError) as error:
            raise InputError(f"nothing can be reported to {name}: {' '.join(str(error).split())}") from error


@contextmanager
def one_run(trainer: Any, resumed: Path | None) -> Iterator[None]:
    """Makes all that is reported within one run of each tracker: that of the checkpoint that is gone on from, if any.

    Trackio and wandb get a name of their own for each run, or `run_name`; wandb's run is found again by its id, unless
    WANDB_RUN_ID is set or a run is open already; TensorBoard's is a folder in runs/ of `output_dir`. Trackio counts in
    steps of training, not in calls.

    Args:
        trainer: a `TriviumTrainer`, whose checkpoints keep the name.
        resumed: the checkpoint. One in another folder is another run's.
    """
    args, folder = trainer.args, Path(trainer.args.output_dir)
    if resumed is not None and resumed.absolute().parent == folder.absolute():
        trainer.tracked_as = read_run_state(resumed).get("tracked_as")
    trainer.tracked_as = trainer.tracked_as or new_name(folder)
    if trainer.pop_callback(TrackioCallback):
        trainer.add_callback(TrackioBySteps)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder / "runs" / trainer.tracked_as)
    given, args.run_name = args.run_name, args.run_name or trainer.tracked_as
    try:
        with _wandb_run(trainer):
            yield
        _finish_trackio(args)
    finally:
        args.run_name = given


def new_name(folder: Path) -> str:
    """What to call a new run: its folder, the minute, and two bytes by which runs of one minute differ."""
    name = re.sub(r"[^\w.-]+", "-", folder.absolute().name) or "run"  # wandb takes no other signs in an id
    return f"{name[:80]}-{datetime.now():%Y%m%d-%H%M}-{secrets.token_hex(2)}"


class TrackioBySteps(TrackioCallback):
    """Logs at the step of training, which is what trackio draws over; transformers' own leaves it to count calls."""

    def on_log(self, args: Any, state: Any, control: Any, model: Any = None, logs: Any = None, **kwargs: Any) -> None:
        """All but the sums at the end, which belong to no step."""
        if not self._initialized:
            self.setup(args, state, model)
        if state.is_world_process_zero and "train_runtime" not in logs:
            self._trackio.log(rewrite_logs(logs), step=state.global_step)


@contextmanager
def _wandb_run(trainer: Any) -> Iterator[None]:
    """Opens the run that the callback of wandb then logs to, and closes it; leaves it to users who have chosen one."""
    chosen = "WANDB_RUN_ID" in os.environ or ("wandb" in sys.modules and sys.modules["wandb"].run is not None)
    if "wandb" not in trainer.args.report_to or chosen or not trainer.is_world_process_zero():
        yield
        return
    wandb: Any = sys.modules["wandb"]  # which its callback has imported
    project, resume = os.environ.get("WANDB_PROJECT", "huggingface"), os.environ.get("WANDB_RESUME", "allow")
    wandb.init(project=project, id=trainer.tracked_as, name=trainer.args.run_name, resume=resume)
    yield
    wandb.finish()


def _finish_trackio(args: TrainingArguments) -> None:
    """Ends the run that `TrackioCallback` opens again for what is measured after training."""
    trackio: Any = sys.modules.get("trackio")
    if "trackio" in args.report_to and trackio.context_vars.current_run.get() is not None:
        trackio.finish()


def _is_installed(name: str) -> bool:
    """Whether a package is there; a folder of its name, as trackers leave behind, is none."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None
