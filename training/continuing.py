"""The same command again: an interrupted run goes on, a finished one says so, a recipe that changed is told apart."""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

from ..configuration.errors import InputError
from ..model_cards.answers import read_answers
from .arguments import RunArguments
from .checkpoints import RUN_FILE, check_output_dir, checkpoint_to_resume, read_run_state
from .tensor_parallel import tensor_parallel_size
from .trackers import check_trackers

# Without these being as they were a checkpoint does not fit: its weights, its optimizer, or its place in the data.
FIXED = frozenset(
    "family objective max_length packing tokenizer tokenizer_algorithm vocab_size model architecture "
    "data streaming mixture text_column target_column data_config data_split held_out_fraction "
    "seed data_seed muon optim task columns validation_data max_target_length stride pieces prompt pooling "
    "head_learning_rate from_scratch config_overrides max_train_examples max_eval_examples lora lora_config".split()
)
# How long to train; a run may be prolonged.
DURATION = frozenset("max_steps max_tokens num_train_epochs cooldown_steps".split())
OTHER = frozenset(
    "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps decay_steps weight_decay adam_beta1 adam_beta2 "
    "adam_epsilon max_grad_norm label_smoothing_factor spike_threshold bf16 fp16".split()
)
# What else the verbs take does not change what is learnt.
IRRELEVANT = frozenset(["max_held_out_blocks", "skip_bad", "test_data", "num_beams", "merge"])

logger = logging.getLogger(__name__)


class Beginning(NamedTuple):
    """Where a run begins.

    Attributes:
        settings: what decides what it learns; see [`settings_of`].
        answers: what the user says for the card.
        resumed: the checkpoint that it goes on from, if any.
        metrics: what was measured, if there is nothing left to do.
    """

    settings: dict[str, Any]
    answers: dict[str, Any]
    resumed: Path | None
    metrics: dict[str, Any] | None


def find_beginning(args: Any, training_args: RunArguments, model_type: str) -> Beginning:
    """What of the run in `training_args.output_dir` has been done; `args` are those of the verb.

    Raises:
        InputError: a folder, a tracker, a card's answers or a checkpoint that cannot be used, or with other settings.
    """
    output_dir = Path(training_args.output_dir or "")
    check_output_dir(output_dir, model_type)
    check_trackers(training_args.report_to)
    answers = read_answers(Path(training_args.card)) if training_args.card else {}
    settings = settings_of(args, training_args)
    resumed = find_checkpoint(training_args, output_dir, model_type, settings)
    finished = None if training_args.fresh else finished_run(output_dir, settings, resumed is not None)
    if finished:
        print(f"The run in '{output_dir}' is finished; --fresh true trains anew, another output_dir keeps it.")
    return Beginning(settings, answers, resumed, finished and finished["metrics"])


def settings_of(args: Any, training_args: RunArguments) -> dict[str, Any]:
    """What decides what a run learns, by name, as JSON keeps it; `args` are those of the verb."""
    training = training_args.to_dict()
    settings = {name: value for name, value in vars(args).items() if name not in IRRELEVANT}
    settings |= {name: training[name] for name in sorted((FIXED | DURATION | OTHER) & set(training))}
    shares = training_args.world_size // tensor_parallel_size(training_args)
    settings["rows_per_step"] = training_args.train_batch_size * training_args.gradient_accumulation_steps * shares
    return json.loads(json.dumps(settings, default=str))


def changes(then: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What differs, in words, by the setting's name."""
    return {
        name: f"{name} {json.dumps(then[name])} -> {json.dumps(now[name])}"
        for name in now
        if name in then and then[name] != now[name]
    }


def check_continues(checkpoint: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Says what has changed since a checkpoint was written; raises `InputError` if it does not fit any more."""
    changed = changes(then, now)
    if broken := [words for name, words in changed.items() if name in FIXED]:
        raise InputError(
            f"the recipe has changed since '{checkpoint}' was written: {'; '.join(broken)}. Change it back, choose "
            "another output_dir, or start over with --fresh true."
        )
    if changed:
        logger.warning("Changed since '%s' was written: %s.", checkpoint, "; ".join(changed.values()))


def find_checkpoint(
    training_args: RunArguments, output_dir: Path, model_type: str, settings: dict[str, Any]
) -> Path | None:
    """The checkpoint that this run goes on from, if any; raises `InputError` if it does not fit the settings."""
    asked = training_args.resume_from_checkpoint
    found = checkpoint_to_resume(asked, output_dir, model_type, training_args.fresh)
    if found is not None:
        check_continues(found, read_run_state(found)["settings"], settings)
    elif getattr(training_args, "cooldown_steps", None):
        raise InputError("`cooldown_steps` needs a checkpoint to cool down from: name it in resume_from_checkpoint.")
    return found


def finished_run(folder: Path, now: dict[str, Any], resumable: bool) -> dict[str, Any] | None:
    """The record of the finished run in `folder` if these settings ask for nothing more, else `None`.

    Raises:
        InputError: a run with other settings is finished there.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        then = record["settings"]
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"'{path}' is broken, or of another version: choose another output_dir, or --fresh true."
        ) from None
    changed = changes(then, now)
    if not changed:
        return record
    if resumable and set(changed) <= DURATION:
        return None
    raise InputError(
        f"'{folder}' holds a finished run, and since then has changed: {'; '.join(changed.values())}. Choose another "
        "output_dir to keep both, or --fresh true to train anew."
    )
