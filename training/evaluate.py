"""Measure a checkpoint on text: bits per byte and perplexity, every document to its end.

    trivium evaluate --model out/decoder --data heldout.jsonl
    trivium evaluate --model out/encoder --data wiki.txt code.jsonl --batch_size 32 --dtype bfloat16 --json results.json

What is predicted is what the checkpoint was pretrained to predict. Bits per byte compare models of different
tokenizers, as long as they predict the same: a decoder with a decoder.
"""

import dataclasses
import json
import os
import shlex
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from accelerate import PartialState
from transformers import PreTrainedConfig
from transformers.utils import cached_file

from ..configuration.errors import InputError
from ..model_cards.text import redact
from ..tokenization import token_byte_lengths
from .arguments import PretrainArguments, PretrainTrainingArguments, parse
from .checkpoints import RUN_FILE
from .data.sources import load_documents
from .data.tokenizing import tokenize_documents
from .evaluation import HeldOutLoss
from .objectives.choice import OBJECTIVES, Made, choose_objective
from .pretrain import FAMILIES, check_fit, choose_tokenizer, load_config, load_model
from .pretraining import PretrainTrainer
from .record import now
from .verbs import run
from .whole import WholeDocuments

COLUMNS = {
    "data": "data",
    "documents": "documents",
    "predicted_tokens": "tokens",
    "predicted_bytes": "bytes",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
}


def _field(default: Any, help: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(kw_only=True)
class EvaluateArguments:
    """Which checkpoint to measure, on which text, and how."""

    model: str = dataclasses.field(metadata={"help": "folder or Hub name of a checkpoint"})
    data: list[str] = dataclasses.field(
        metadata={"help": "Hub datasets, files or python-docs, as `trivium pretrain` takes them; each is a row"}
    )
    data_config: str | None = _field(None, "configuration of a Hub dataset")
    data_split: str = _field("train", "split of a Hub dataset")
    text_column: str = _field("text", "column that holds the text")
    objective: str | None = _field(None, "what to predict; by default what the checkpoint was pretrained for")
    max_length: int | None = _field(None, "tokens that the model reads at once; by default as it was pretrained")
    batch_size: int = _field(8, "rows of max_length tokens at a time; changes the speed only")
    dtype: Literal["float32", "bfloat16", "float16"] = _field("float32", "of the weights and of what is computed")
    seed: int = _field(42, "of what is masked")
    use_cpu: bool = _field(False, "leave the GPU alone")
    json: str | None = _field(None, "file for the results too")


class Evaluation(NamedTuple):
    """What was measured.

    Attributes:
        settings: the checkpoint, and how it was measured.
        rows: of each source its name, its documents and the metrics of [`HeldOutLoss`].
        total: the same of all sources together.
    """

    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    total: dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """`trivium evaluate`: returns 0; raises `InputError` for whatever the user can mend."""
    given = sys.argv[1:] if argv is None else argv
    (args,) = parse(
        given,
        (EvaluateArguments,),
        prog="trivium evaluate",
        description=(__doc__ or "").partition("\n")[0],
    )
    result = evaluate(args)
    if PartialState().is_main_process:
        print(summary(result))
        if args.json is not None:
            when = {"command": redact(shlex.join(["trivium", "evaluate", *given])), "date": now()}
            write_whole(Path(args.json), json.dumps(result._asdict() | when) + "\n")
    return 0


def evaluate(args: EvaluateArguments) -> Evaluation:
    """Measures a checkpoint of one of the three families on all of the given text.

    The figures depend neither on the batch size nor on the number of processes.

    Raises:
        InputError: no checkpoint of ours, or data or settings that cannot be used or do not fit it.
    """
    if args.json is not None and not Path(args.json).absolute().parent.is_dir():
        raise InputError(f"there is no folder '{Path(args.json).parent}' for `json`: make it first.")
    if args.batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1, not {args.batch_size}.")
    training = pretraining_of(args)
    objective = choose_objective(training)
    config_class, model_class = FAMILIES[training.family]
    config = load_config(training, config_class)
    with tempfile.TemporaryDirectory() as folder:
        how = PretrainTrainingArguments(
            output_dir=folder, per_device_eval_batch_size=args.batch_size, use_cpu=args.use_cpu, seed=args.seed
        )
        tokenizer = choose_tokenizer(training, how, {}, None)
        check_fit(training, objective, tokenizer, config)
        with how.main_process_first(desc="reading the data"):
            form = {"special_tokens": objective.special_tokens, "append_eos": objective.append_eos}
            where = partial(load_documents, text_column=args.text_column, data_config=args.data_config)
            texts = {source: where(source, data_split=args.data_split) for source in args.data}
            tokens = {name: tokenize_documents(documents, tokenizer, **form) for name, documents in texts.items()}
        length, overlap = objective.lengths(training)[0], int(training.family == "decoder")
        trainer = PretrainTrainer(
            model=load_model(training, model_class).to(getattr(torch, args.dtype)),
            args=how,
            data_collator=objective.collator(Made(tokenizer, training, args.seed)),
            processing_class=tokenizer,
            byte_lengths=token_byte_lengths(tokenizer),
        )
        rows: list[dict[str, Any]] = []
        total = HeldOutLoss(trainer.byte_lengths, how.device)
        for name, documents in tokens.items():
            measured = measure(trainer, WholeDocuments(documents, length, overlap), name)
            rows.append({"data": name, "documents": len(documents), **measured.metrics()})
            total.nats += measured.nats
            total.counts += measured.counts
    settings = {"model": args.model, "objective": training.objective, "max_length": training.max_length}
    settings |= {"dtype": args.dtype, "seed": args.seed}
    everything = {"data": "total", "documents": sum(row["documents"] for row in rows), **total.metrics()}
    return Evaluation(settings, rows, everything)


def measure(trainer: PretrainTrainer, rows: WholeDocuments, name: str) -> HeldOutLoss:
    """The sums of loss and targets over all rows and processes; raises `InputError` if there was nothing to predict."""
    trainer.evaluation_loop(trainer.get_eval_dataloader(rows), name)
    trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, {})  # closes the progress bar
    if not int(trainer.held_out.counts.sum()):
        raise InputError(f"'{name}' holds nothing to predict: give more data.")
    return trainer.held_out


def pretraining_of(args: EvaluateArguments) -> PretrainArguments:
    """How the checkpoint was pretrained as far as it matters to measure it, by its record or else by the defaults.

    Raises:
        InputError: there is no checkpoint of that name, or it is none of ours.
    """
    try:
        fields, _ = PreTrainedConfig.get_config_dict(args.model)
    except (OSError, ValueError) as error:
        raise InputError(f"the checkpoint '{args.model}' cannot be read: {' '.join(str(error).split())}") from error
    families = {config_class.model_type: family for family, (config_class, _) in FAMILIES.items()}
    if fields.get("model_type") not in families:
        raise InputError(
            f"'{args.model}' is a {fields.get('model_type')} checkpoint, not one of Trivium's: `trivium convert` may "
            "make one of it."
        )
    known = {field.name for field in dataclasses.fields(PretrainArguments)}
    recorded = {name: value for name, value in read_record(args.model).items() if name in known}
    recorded |= {"family": families[fields["model_type"]], "data": args.data, "mixture": None}
    recorded |= {"model_name_or_path": args.model, "tokenizer": None, "model": None, "architecture": None}
    recorded["pad_to_fixed_size"] = False  # nothing is compiled here
    training = PretrainArguments(**recorded)
    training.objective = measurable(args.objective or training.objective) or next(iter(OBJECTIVES[training.family]))
    training.max_length = args.max_length or training.max_length
    if choose_objective(training).pairs:
        others = [name for name, objective in OBJECTIVES[training.family].items() if not objective.pairs]
        raise InputError(
            f"'{training.objective}' predicts one text from another, which is not measured here: say --objective "
            f"{' or '.join(others)}."
        )
    return training


def measurable(objective: str | None) -> str | None:
    """What of an objective has bits: of BERT's two tasks the masks."""
    return "masked" if objective == "next-sentence" else objective


def read_record(model: str) -> dict[str, Any]:
    """What `trivium_run.json` of a checkpoint says about its pretraining; nothing if it has none."""
    path = cached_file(
        model,
        RUN_FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return {}
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8"))["pretraining"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"'{path}' is broken: delete it to measure by the family's defaults.") from None


def summary(result: Evaluation) -> str:
    """A table with a row for each source and the total, and how it was measured."""
    s = result.settings
    rows = [*result.rows, result.total] if len(result.rows) > 1 else result.rows
    how = f"{s['model']}: {s['objective']}, {s['max_length']} tokens at a time, {s['dtype']}."
    return f"{markdown(rows, COLUMNS)}\n\n{how}"


def markdown(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """A table of the entries of `rows` that `columns` names, under its headings."""
    shown = [list(columns.values()), *([_cell(row[key]) for key in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    shown.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in shown)


def _cell(value: Any) -> str:
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there whole or not at all; raises `InputError` where none can be written."""
    try:
        handle, aside = tempfile.mkstemp(dir=path.absolute().parent)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error.strerror}.") from error
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    raise SystemExit(run(main))
