"""Fine-tune an encoder, a decoder or an encoder-decoder for a task.

    trivium finetune --config sentiment --model out/encoder --data data/sentiment --output_dir out/sentiment
    trivium finetune --task text-to-text --model out/decoder --data pairs.jsonl --columns.source question --lora

In Python: `finetune(FinetuneArguments(task="regression", model="out/encoder", data=["data/valence"]),
FinetuneTrainingArguments())`.
"""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoTokenizer, EarlyStoppingCallback, PreTrainedConfig, set_seed
from transformers.trainer import TRAINING_ARGS_NAME

from ..configuration.errors import InputError
from ..model_cards.weights import weights_stamp
from .arguments import parse
from .checkpoints import RUN_FILE, TRAINER_STATE, clear, replacing
from .continuing import find_beginning
from .corpora.card import stated_of
from .emissions import EmissionsCallback
from .finetune_arguments import NESTED, FinetuneArguments, FinetuneTrainingArguments
from .finetuning import FinetuneTrainer, Measured, ShuffledExamples
from .lora import add_adapter, new_heads
from .overriding import override
from .pretrain import FAMILIES
from .record import finetune_record, now
from .stopping import Stopped
from .tasks.examples import Examples, hold_out, read_splits
from .tasks.stored import Stored, write_task
from .tasks.table import roles_of, task_named
from .tasks.task import Row, Task
from .trackers import one_run
from .verbs import run

FAMILY_OF = {config.model_type: family for family, (config, _) in FAMILIES.items()}


class FinetuneResult(NamedTuple):
    """What a run left.

    Attributes:
        output_dir: a checkpoint that the task's Auto class and its pipeline load.
        metrics: what was measured: `validation_...` and, if there is a test split, `test_...`.
    """

    output_dir: str
    metrics: dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """`trivium finetune`: returns 0; raises `InputError` for whatever the user can mend."""
    given = sys.argv[1:] if argv is None else argv
    args, training_args = parse(
        given,
        (FinetuneArguments, FinetuneTrainingArguments),
        nested=NESTED,
        prog="trivium finetune",
        description=(__doc__ or "").partition("\n")[0],
    )
    result = finetune(args, training_args, shlex.join(["trivium", "finetune", *given]))
    if training_args.should_log:
        print(summary(result))
    return 0


def finetune(
    args: FinetuneArguments, training_args: FinetuneTrainingArguments, command: str | None = None
) -> FinetuneResult:
    """Fine-tunes one model and leaves it in `training_args.output_dir`; a run that was interrupted there goes on.

    Args:
        command: what was typed, for the record.

    Raises:
        InputError: examples, checkpoint or settings that cannot be used or do not fit each other.
        Stopped: SIGTERM came; a checkpoint was saved.
    """
    output_dir = Path(training_args.output_dir or "")
    config = config_of(args)
    settings, answers, resumed, finished = find_beginning(args, training_args, config.model_type)
    if finished is not None:
        return FinetuneResult(str(output_dir), finished)
    emissions = EmissionsCallback(training_args.emissions_country) if training_args.emissions_country else None
    trainer, test, counts = make_trainer(args, training_args, config)
    trainer.settings, trainer.answers = settings, answers
    trainer.record |= finetune_record(args, training_args, counts, command) | {"settings": settings}
    trainer.record["data"][0] |= stated_of(args.data)
    if emissions:
        trainer.add_callback(emissions)
    if training_args.should_save:
        clear(output_dir, training_args.fresh)
    with one_run(trainer, resumed):
        metrics = train_and_measure(trainer, resumed, test)
    record = {"metrics": metrics} | trainer.record | {"ended": now()}
    if emissions:
        record["emissions"] = emissions.record
    save(trainer, args, record, output_dir)
    return FinetuneResult(str(output_dir), metrics)


def make_trainer(
    args: FinetuneArguments, training_args: FinetuneTrainingArguments, config: Any
) -> tuple[FinetuneTrainer, Measured | None, dict[str, int]]:
    """Reads the examples and loads the model; also returns what to measure on at the end, and counts of examples."""
    kind, family = task_named(args.task), FAMILY_OF[config.model_type]
    if config.is_encoder_decoder and args.max_target_length > config.decoder.max_position_embeddings:
        raise InputError(
            f"`max_target_length` is {args.max_target_length}, but the decoder writes at most "
            f"{config.decoder.max_position_embeddings} tokens."
        )
    if args.packing and (gpus := training_args.n_gpu) > 1:
        raise InputError(
            f"`packing` makes one row of a batch, which a process cannot deal out to {gpus} GPUs: start one for each, "
            f"torchrun --nproc_per_node {gpus} -m trivium.training.finetune."
        )
    tokenizer = load_tokenizer(str(args.model))
    task = kind(tokenizer, family, args.form, positions_of(config))
    with training_args.main_process_first(desc="reading the examples"):
        splits, skipped = read_examples(args, kind, task, training_args.seed)
        measured = {name: Measured(split, features_of(task, split)) for name, split in splits.items()}
    set_seed(training_args.seed)
    auto = kind.heads[family]
    model = load_model(args, auto, task, tokenizer, measured["train"].features)
    if training_args.head_learning_rate is not None and not new_heads(model):
        raise InputError(f"`head_learning_rate` is that of a new head, which {args.task} has not: leave it out.")
    if args.lora:
        model = add_adapter(model, auto, dict(args.lora_config or {}))  # type: ignore[arg-type]
    if training_args.asked_metric is None:
        training_args.metric_for_best_model, training_args.greater_is_better = task.best, task.best != "loss"
    patience = training_args.early_stopping_patience
    seed = training_args.seed if training_args.data_seed is None else training_args.data_seed
    trainer = FinetuneTrainer(
        model=model,
        args=training_args,
        task=task,
        data_collator=task.collate,
        train_dataset=ShuffledExamples(measured["train"].features, seed),
        eval_dataset=measured["validation"],
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(patience)] if patience else None,
    )
    return trainer, measured.get("test"), {name: len(split) for name, split in splits.items()} | skipped


def load_config(name: str | None) -> Any:
    """The configuration of the checkpoint; raises `InputError` if there is none, or it is not one of ours."""
    if name is None:
        raise InputError("name the checkpoint to fine-tune: --model FOLDER.")
    try:
        fields, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        raise InputError(f"the checkpoint '{name}' cannot be read: {' '.join(str(error).split())}") from error
    kind = fields.get("model_type")
    if kind not in FAMILY_OF:
        raise InputError(f"'{name}' is a {kind} checkpoint, not one of Trivium: `trivium convert` may make one of it.")
    return FAMILIES[FAMILY_OF[kind]][0].from_pretrained(name)


def config_of(args: FinetuneArguments) -> Any:
    """The configuration to fine-tune with; raises what [`load_config`] and [`override`] raise."""
    config = load_config(args.model)
    overrides: dict[str, Any] = args.config_overrides or {}  # type: ignore[assignment]
    family = FAMILY_OF[config.model_type]
    return override(config, overrides, task_named(args.task).heads.get(family, "AutoModel"))


def load_tokenizer(name: str) -> Any:
    """The tokenizer beside a checkpoint, with a token to pad with; raises `InputError` if there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"no tokenizer can be loaded from '{name}': {' '.join(str(error).split())}") from error
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # what is padded has no labels, and is not attended to
    return tokenizer


def positions_of(config: Any) -> int | None:
    """The most tokens that a model, or its encoder, reads at once."""
    return getattr(config.encoder if config.is_encoder_decoder else config, "max_position_embeddings", None)


def read_examples(
    args: FinetuneArguments, kind: type[Task], task: Task, seed: int
) -> tuple[dict[str, Examples], dict[str, int]]:
    """The examples to train on (`train`), to choose by (`validation`), if there are any `test`; and what was left out.

    Raises:
        InputError: nothing to train on, or an example that cannot be used, with its place.
    """
    roles, columns = roles_of(kind), {role: str(name) for role, name in (args.columns or {}).items()}  # type: ignore[union-attr]
    splits = read_splits(args.data, roles, columns, args.data_config, args.skip_bad)
    for name, paths in (("validation", args.validation_data), ("test", args.test_data)):
        if paths:
            found = read_splits(paths, roles, columns, args.data_config, args.skip_bad)
            splits[name] = found.get(name) or next(iter(found.values()))
    if "train" not in splits:
        raise InputError(f"'{', '.join(args.data)}' has no split to train on.")
    task.learn(splits["train"])
    skipped: dict[str, int] = {}
    for name, examples in splits.items():
        splits[name], left_out = examples.checked(task.check, args.skip_bad)
        if left_out:
            skipped[f"{name}_left_out"] = left_out
    if "validation" not in splits:
        splits["train"], splits["validation"] = hold_out(
            splits["train"],
            args.held_out_fraction,
            [role for role in kind.reads if role in splits["train"].rows.features],
        )
    limits = dict.fromkeys(splits, (args.max_eval_examples, 0)) | {"train": (args.max_train_examples, seed)}
    for name, (most, drawn_by) in limits.items():
        if most is not None and most < len(splits[name]):
            chosen = np.random.default_rng(drawn_by).permutation(len(splits[name]))[:most]
            splits[name] = Examples(splits[name].rows.select(chosen), splits[name].name)
    return splits, skipped


def features_of(task: Task, examples: Examples) -> datasets.Dataset:
    """What a task makes of examples, memory-mapped."""

    def encode(batch: Mapping[str, list]) -> dict[str, list]:
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        features = task.encode(rows)
        return {name: [feature[name] for feature in features] for name in features[0]}

    rows = examples.rows
    return rows.map(encode, batched=True, batch_size=100, remove_columns=rows.column_names, desc="Tokenizing")


def load_model(args: FinetuneArguments, auto: str, task: Task, tokenizer: Any, features: Sequence[Row]) -> Any:
    """The model with the task's head, in float32; a new head begins as the task says of `features` to train on.

    Raises:
        InputError: its weights cannot be read, or the head is new and there is nothing to train on.
    """
    config = config_of(args)
    config.update(task.head_fields() | {"pad_token_id": tokenizer.pad_token_id})
    model_class = getattr(transformers, auto)
    if args.from_scratch:
        model, new = model_class.from_config(config), {"all"}
    else:
        model, new = read_model(args.model, model_class, config)
    if new and len(features):
        task.begin_head(model, features)
    elif new and not args.from_scratch:
        raise InputError(
            f"'{args.model}' has no weights for '{min(new)}' of this task's head, so that there is nothing to measure "
            "without training: give `max_train_examples` above 0."
        )
    return model


def read_model(name: str | None, model_class: Any, config: Any) -> tuple[Any, set[str]]:
    """A checkpoint's model and the names of what it had no weights for; raises `InputError` if it cannot be read."""
    try:
        # A head for other labels is another head.
        model, loaded = model_class.from_pretrained(
            name, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"the weights of '{name}' cannot be read: {' '.join(str(error).split())}") from error
    return model, {*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])}


def train_and_measure(trainer: FinetuneTrainer, resumed: Path | None, test: Measured | None) -> dict[str, Any]:
    """Trains, and measures the best model: loss and answers, on what it was chosen by and on the test split."""
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    if len(trainer.train_dataset):
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if trainer.stopped and trainer.state.global_step < trainer.state.max_steps:
        raise Stopped(trainer.state.global_step)
    work = trainer.throughput.totals(trainer.sum_over_processes)
    metrics = {
        "parameters": parameters,
        "trained_parameters": trained,
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step or trainer.state.global_step,
        "tokens": work.tokens,
        "flops": work.flops,
        "seconds": round(trainer.throughput.seconds, 2),
    }
    trainer.answers_too = True
    for name, measured in (("validation", trainer.eval_dataset), ("test", test)):
        if measured is not None:
            metrics |= trainer.evaluate(measured, metric_key_prefix=name)
    return metrics


def save(trainer: FinetuneTrainer, args: FinetuneArguments, record: dict[str, Any], output_dir: Path) -> None:
    """Leaves the model, whole or as it was before."""
    training_args = trainer.args
    if args.lora and args.merge:
        trainer.model = trainer.model_wrapped = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
    with replacing(output_dir, training_args.should_save, trainer.accelerator.wait_for_everyone) as folder:
        trainer.save_model(str(folder), _internal_call=True)
        if training_args.should_save:
            (folder / TRAINING_ARGS_NAME).unlink()  # a pickle; the run's record says the same in JSON
            labels = trainer.task.head_fields().get("id2label")
            trainer.task.write(folder, trainer.model.config)
            write_task(folder, Stored(args.task, trainer.task.form, labels and [*labels.values()]))
            record["weights"] = weights_stamp(folder)
            (folder / RUN_FILE).write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
            trainer.state.save_to_json(str(folder / TRAINER_STATE))
            trainer.write_card(folder, output_dir)


def summary(result: FinetuneResult) -> str:
    """What a user wants to know at the end: a table of what was measured."""
    splits = [split for split in ("validation", "test") if f"{split}_loss" in result.metrics]
    names = [name.removeprefix("validation_") for name in result.metrics if name.startswith("validation_")]
    width = max(map(len, names))
    lines = [" " * width + "".join(f"{split:>12}" for split in splits)]
    for name in names:
        values = [result.metrics.get(f"{split}_{name}") for split in splits]
        lines.append(
            f"{name:{width}}" + "".join(f"{value:12.4f}" if value is not None else " " * 12 for value in values)
        )
    m = result.metrics
    lines.append(
        f"{m['trained_parameters']:,} of {m['parameters']:,} parameters trained, best at step {m['best_step']}."
    )
    return "\n".join([*lines, f"Saved to {result.output_dir}: trivium predict --model {result.output_dir} answers."])


if __name__ == "__main__":
    raise SystemExit(run(main))
