"""Pretrain an encoder, a decoder or an encoder-decoder on text.

    trivium pretrain --config decoder-tiny --output_dir out/decoder
    accelerate launch -m trivium.training.pretrain --config my-recipe.yaml --learning_rate 5e-4

In Python: `pretrain(PretrainArguments(family="decoder", data=["python-docs"]), PretrainTrainingArguments())`.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedConfig, set_seed
from transformers.trainer import TRAINING_ARGS_NAME

from .. import modeling
from ..configuration import TriviumDecoderConfig, TriviumEncoderConfig, TriviumEncoderDecoderConfig
from ..configuration.architectures import architecture, find_architecture
from ..configuration.errors import InputError
from ..configuration.validation import TOKEN_IDS
from ..model_cards.weights import weights_stamp
from ..modeling import (
    TriviumDecoderForCausalLM,
    TriviumEncoderDecoderForConditionalGeneration,
    TriviumEncoderForMaskedLM,
)
from ..tokenization import special_token_ids, token_byte_lengths, train_tokenizer
from .arguments import PretrainArguments, PretrainTrainingArguments, parse
from .checkpoints import (
    RUN_FILE,
    TRAINER_STATE,
    clear,
    read_run_state,
    replacing,
)
from .continuing import find_beginning
from .data.sources import Texts
from .emissions import EmissionsCallback
from .objectives.choice import Made, Objective, choose_objective
from .pretraining import PretrainTrainer
from .record import data_record, now, run_record
from .rows import describe, make_rows, read_sources, sample_texts, tokenized_documents, with_target_length
from .sharded import check_resumable
from .stopping import Stopped
from .trackers import one_run
from .verbs import run

FAMILIES: dict[str, tuple[Any, Any]] = {
    "encoder": (TriviumEncoderConfig, TriviumEncoderForMaskedLM),
    "decoder": (TriviumDecoderConfig, TriviumDecoderForCausalLM),
    "encoder-decoder": (TriviumEncoderDecoderConfig, TriviumEncoderDecoderForConditionalGeneration),
}


class PretrainResult(NamedTuple):
    """What a run left.

    Attributes:
        output_dir: a checkpoint that the Auto classes load, with its tokenizer and `trivium_run.json`.
        metrics: what was measured; see [`train_and_measure`].
    """

    output_dir: str
    metrics: dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """`trivium pretrain`: returns 0; raises `InputError` for whatever the user can mend."""
    given = sys.argv[1:] if argv is None else argv
    args, training_args = parse(
        given,
        (PretrainArguments, PretrainTrainingArguments),
        prog="trivium pretrain",
        description=(__doc__ or "").partition("\n")[0],
    )
    result = pretrain(args, training_args, shlex.join(["trivium", "pretrain", *given]))
    if training_args.should_log:
        print(summary(result))
    return 0


def pretrain(
    args: PretrainArguments, training_args: PretrainTrainingArguments, command: str | None = None
) -> PretrainResult:
    """Trains one model and leaves it in `training_args.output_dir`; a run that was interrupted there goes on.

    Args:
        command: what was typed, for the record.

    Raises:
        InputError: data, tokenizer, checkpoint or settings that cannot be used or do not fit each other.
        Stopped: SIGTERM came; a checkpoint was saved.
    """
    output_dir = Path(training_args.output_dir or "")
    objective = choose_objective(args)
    config_class, _ = FAMILIES[args.family]
    if objective.head and training_args.label_smoothing_factor:
        raise InputError(f"`label_smoothing_factor` knows one loss, but '{args.objective}' has two: leave it out.")
    settings, answers, resumed, finished = find_beginning(args, training_args, config_class.model_type)
    if finished is not None:
        return PretrainResult(str(output_dir), finished)
    country = training_args.emissions_country
    emissions = EmissionsCallback(country) if country else None
    trainer, skipped = make_trainer(args, training_args, objective, resumed)
    trainer.settings, trainer.answers = settings, answers
    trainer.record |= run_record(args, training_args, command) | {"settings": settings, "skipped": skipped}
    if resumed:
        trainer.record["resumed_from"] = read_run_state(resumed)["step"]
        check_resumable(resumed, trainer.accelerator)
    if emissions:
        trainer.add_callback(emissions)
    if training_args.should_save:
        clear(output_dir, training_args.fresh)
    if training_args.should_log:
        print(describe(trainer.train_dataset))
    with one_run(trainer, resumed):
        metrics = train_and_measure(trainer, resumed)
    record = {"metrics": metrics} | trainer.record | {"ended": now()}
    if emissions:
        record["emissions"] = emissions.record
    with replacing(output_dir, training_args.should_save, trainer.accelerator.wait_for_everyone) as folder:
        trainer.save_model(str(folder), _internal_call=True)
        if training_args.should_save:
            (folder / TRAINING_ARGS_NAME).unlink()  # a pickle; the run's record says the same in JSON
            record["weights"] = weights_stamp(folder)
            (folder / RUN_FILE).write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
            trainer.state.save_to_json(str(folder / TRAINER_STATE))
            trainer.write_card(folder, output_dir)
    return PretrainResult(str(output_dir), metrics)


def make_trainer(
    args: PretrainArguments, training_args: PretrainTrainingArguments, objective: Objective, resumed: Path | None
) -> tuple[PretrainTrainer, dict[str, dict[str, int]]]:
    """Reads the data, makes tokenizer, model and trainer; also returns what of the data was left out as unreadable."""
    config_class, model_class = FAMILIES[args.family]
    model_class = getattr(modeling, objective.head) if objective.head else model_class
    make_config(args, config_class, **objective.fields)  # a misspelt field should be said before the data is read
    config = load_config(args, config_class) if args.model_name_or_path else None

    with training_args.main_process_first(desc="loading the data"):
        sources = read_sources(args, objective)
    tokenizer = choose_tokenizer(args, training_args, sources, resumed)
    made = Made(tokenizer, args, training_args.seed)
    objective.collator(made)  # what the tokenizer lacks should be said before the data is tokenized
    config = config or new_config(args, config_class, tokenizer, objective)
    check_fit(args, objective, tokenizer, config)
    with training_args.main_process_first(desc="tokenizing the data"):
        args = with_target_length(args, objective, tokenizer, sources)
        made = made._replace(args=args)
        seed = training_args.seed if training_args.data_seed is None else training_args.data_seed
        train_rows, held_out_rows = make_rows(args, objective, tokenizer, sources, seed)
    if objective.other_documents:
        made = made._replace(documents=tokenized_documents(train_rows))

    set_seed(training_args.seed)
    trainer = PretrainTrainer(
        model=load_model(args, model_class) if args.model_name_or_path else model_class(config),
        args=training_args,
        data_collator=objective.collator(made),
        train_dataset=train_rows,
        eval_dataset=held_out_rows,
        processing_class=tokenizer,
        byte_lengths=token_byte_lengths(tokenizer),
    )
    if training_args.should_save:
        trainer.record["data"] = data_record(args, sources, train_rows)
    return trainer, {name: dict(texts.skipped) for name, texts in sources.items() if texts.skipped}


def load_config(args: PretrainArguments, config_class: Any) -> Any:
    """The configuration of the checkpoint to go on from; raises `InputError` if it is missing or of another family."""
    name = args.model_name_or_path
    try:
        fields, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        raise InputError(f"the checkpoint '{name}' cannot be read: {' '.join(str(error).split())}") from error
    if fields.get("model_type") != config_class.model_type:
        way_out = (
            "" if str(fields.get("model_type")).startswith("trivium") else " `trivium convert` may make one of it."
        )
        raise InputError(
            f"'{name}' is a {fields.get('model_type')} checkpoint, but family '{args.family}' goes on from a "
            f"{config_class.model_type} one.{way_out}"
        )
    if args.shape or args.architecture:
        what = f"`model` out ({', '.join(args.shape)})" if args.shape else "`architecture` out"
        raise InputError(f"the checkpoint '{name}' has its shape: leave {what}.")
    return config_class.from_pretrained(name)


def load_model(args: PretrainArguments, model_class: Any) -> Any:
    """The model of the checkpoint to go on from, in float32; raises `InputError` if its weights cannot be read."""
    try:
        return model_class.from_pretrained(args.model_name_or_path, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the weights of '{args.model_name_or_path}' cannot be read: {reason}") from error


def choose_tokenizer(
    args: PretrainArguments,
    training_args: PretrainTrainingArguments,
    sources: dict[str, Texts],
    resumed: Path | None,
) -> Any:
    """The tokenizer that was named, that of the checkpoint to go on from, or one trained on the training text."""
    name = args.tokenizer or resumed or args.model_name_or_path
    if name is not None:
        try:
            return AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise InputError(f"no tokenizer can be loaded from '{name}': {' '.join(str(error).split())}") from error
    trained = [None]
    if training_args.process_index == 0:
        trained[0] = train_tokenizer(
            sample_texts(sources),
            args.family,
            args.tokenizer_algorithm,
            args.vocab_size,
            model_max_length=max(args.max_length, args.shape.get("max_position_embeddings", 0)),
            show_progress=not training_args.disable_tqdm,
        )
    return broadcast_object_list(trained)[0]


def new_config(args: PretrainArguments, config_class: Any, tokenizer: Any, objective: Objective) -> Any:
    """The configuration of a new model: the fields given, the tokenizer's ids, the architecture's or the defaults."""
    known = config_class.known_arguments()
    ids = dict.fromkeys((*TOKEN_IDS, "decoder_start_token_id")) | special_token_ids(tokenizer)
    ids = {name: token for name, token in ids.items() if name in known}
    return make_config(args, config_class, vocab_size=len(tokenizer), **ids, **objective.fields)


def make_config(args: PretrainArguments, config_class: Any, **fields: Any) -> Any:
    """The configuration with these fields and those that were given, which win."""
    if args.architecture is None:
        return config_class(**fields | args.shape)
    family = find_architecture(args.architecture).page.family
    if family != args.family:
        raise InputError(f"the architecture '{args.architecture}' is of the family {family}: set family to that.")
    return architecture(args.architecture, **fields | args.shape)


def check_fit(args: PretrainArguments, objective: Objective, tokenizer: Any, config: Any) -> None:
    """Raises `InputError` if the model's vocabulary or positions are too few for the tokenizer or the sequences."""
    _, longest = objective.lengths(args)
    for stack in (config.encoder, config.decoder) if config.is_encoder_decoder else (config,):
        if stack.vocab_size < len(tokenizer):
            raise InputError(
                f"the model's vocab_size {stack.vocab_size} is smaller than the tokenizer's {len(tokenizer)}: leave "
                "model.vocab_size out, it follows."
            )
        for name, needed in objective.fields.items():
            if not getattr(stack, name, None):
                raise InputError(
                    f"the objective '{args.objective}' needs a model with {name} {needed}, not {getattr(stack, name)}."
                )
        if stack.max_position_embeddings < longest:
            raise InputError(
                f"max_length {args.max_length} makes sequences of {longest} tokens, more than the model's "
                f"{stack.max_position_embeddings} positions: lower it, or raise model.max_position_embeddings."
            )


def train_and_measure(trainer: PretrainTrainer, resumed: Path | None) -> dict[str, Any]:
    """Trains, evaluates, and returns what was measured.

    `tokens` are those that the model read in all, on both sides of an encoder-decoder and before a resumed checkpoint
    too; `seconds` and `tokens_per_second` are of this process's training, evaluations and saves not counted.
    """
    earlier = read_run_state(resumed)["work"]["tokens"] if resumed else 0
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())  # before an engine takes them apart
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if trainer.stopped and trainer.state.global_step < trainer.state.max_steps:
        raise Stopped(trainer.state.global_step)
    seconds, work = trainer.throughput.seconds, trainer.throughput.totals(trainer.sum_over_processes)
    at_the_start = (entry for entry in trainer.state.log_history if "eval_loss" in entry and not entry["step"])
    before: dict[str, float] = next(at_the_start, {})
    after = trainer.evaluate()
    held_out = {
        f"{name}_{when}": entry.get(f"eval_{name}")
        for when, entry in (("before", before), ("after", after))
        for name in ("loss", "bits_per_byte")
    }
    training_counts = trainer.train_dataset.token_counts(len(trainer.byte_lengths))
    return {
        "parameters": parameters,
        "steps": trainer.state.global_step,
        "tokens": work.tokens,
        "flops": work.flops,
        "seconds": round(seconds, 2),
        "tokens_per_second": round((work.tokens - earlier) / seconds) if seconds else 0,
        **{f"held_out_{name}": value for name, value in held_out.items()},
        "held_out_bits_per_byte_unigram": trainer.held_out.unigram_bits_per_byte(training_counts),
        "held_out_predicted_tokens": after["eval_predicted_tokens"],
        "held_out_predicted_bytes": after["eval_predicted_bytes"],
    }


def summary(result: PretrainResult) -> str:
    """What a user wants to know at the end, in three lines."""
    m = result.metrics
    before = m["held_out_bits_per_byte_before"]
    return (
        f"{m['parameters'] / 1e6:.2f} M parameters read {m['tokens']:,} tokens, {m['tokens_per_second']:,} a second.\n"
        f"Held-out bits per predicted byte: {m['held_out_bits_per_byte_after']:.3f}"
        + (f", from {before:.3f} before training" if before is not None else "")
        + f"; by token frequencies alone {m['held_out_bits_per_byte_unigram']:.3f}.\n"
        f"Saved to {result.output_dir}: AutoModel.from_pretrained('{result.output_dir}') loads it."
    )


if __name__ == "__main__":
    raise SystemExit(run(main))
