"""Ask a fine-tuned model: labels, numbers, tags, answers, vectors or texts, a line for each example.

    trivium predict --model out/sentiment --input reviews.txt
    trivium predict --model out/names --input people.jsonl --columns.tokens words --output answers.jsonl

A .txt file holds a text a line; other files have columns. Answers are JSON, in the order of the examples. Where the
columns that the task learns from are there too, `--measure true` says how good the answers are.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils.logging import tqdm

from ..configuration.errors import InputError
from ..model_cards.adapters import read_adapter
from .arguments import mapping, parse, setting
from .finetune import FAMILY_OF, load_config, load_tokenizer, positions_of
from .tasks.examples import Examples, read_splits
from .tasks.labels import Labels
from .tasks.stored import read_task
from .tasks.table import roles_of, task_named
from .tasks.task import Row, Task
from .verbs import run

TOGETHER = 64  # batches whose examples are sorted by length, and after which answers are written


@dataclasses.dataclass(kw_only=True)
class PredictArguments:
    """Which model to ask what."""

    model: str = dataclasses.field(metadata={"help": "folder of a fine-tuned checkpoint, or its name on the Hub"})
    input: list[str] = dataclasses.field(
        metadata={"help": "files: .txt with a text a line, .jsonl, .csv, .parquet, ..."}
    )
    output: str | None = setting(None, "file to write the answers to, as JSON lines; by default they are printed")
    columns: dict[str, Any] | str | None = setting(None, "names of the columns: --columns.text sentence")
    batch_size: int = setting(32, "examples that are read at once; it changes no answer")
    measure: bool = setting(False, "say how good the answers are")
    skip_bad: bool = setting(False, "leave out examples that cannot be used")

    def __post_init__(self) -> None:
        self.columns = mapping("columns", self.columns, "the task's columns to those of the data")
        if self.batch_size < 1:
            raise InputError(f"`batch_size` must be at least 1, not {self.batch_size}.")


def main(argv: list[str] | None = None) -> int:
    """`trivium predict`: returns 0; raises `InputError` for whatever the user can mend."""
    given = sys.argv[1:] if argv is None else argv
    (args,) = parse(
        given,
        (PredictArguments,),
        nested=("columns",),
        prog="trivium predict",
        description=(__doc__ or "").partition("\n")[0],
    )
    task, model = load_task(args.model)
    examples = read_input(args, task)
    answers = answers_to(task, model, list(examples), args.batch_size)
    lines = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    if args.output is None:
        print(lines, end="")
    else:
        aside = Path(f"{args.output}.{os.getpid()}")
        try:
            aside.write_text(lines, encoding="utf-8")
            os.replace(aside, args.output)
        except OSError as error:
            raise InputError(f"'{args.output}' cannot be written: {error.strerror}.") from error
        finally:
            aside.unlink(missing_ok=True)
    if args.measure:
        for name, value in task.measure(answers, list(examples)).items():
            print(f"{name:20}{value:.4f}", file=sys.stderr)
    return 0


def load_task(name: str) -> tuple[Task, Any]:
    """A fine-tuned checkpoint as the task that it was taught, and the model with its head, on the device that there is.

    Raises:
        InputError: no checkpoint of Trivium, or one without the head of a task.
    """
    adapter = read_adapter(Path(name), Path(name))
    config = load_config(adapter.base.folder if adapter and adapter.base.folder else name)
    kind, form, labels = read_task(Path(name), config)
    task_class, family = task_named(kind), FAMILY_OF[config.model_type]
    task = task_class(load_tokenizer(name), family, form, positions_of(config))
    fields = Labels(labels).fields() if adapter and labels else {}
    for field, value in fields.items():
        setattr(config, field, value)
    task.recall(config)
    model_class = getattr(transformers, task_class.heads[family])
    try:
        model, found = model_class.from_pretrained(name, output_loading_info=True, **fields)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"the weights of '{name}' cannot be read: {' '.join(str(error).split())}") from error
    if found["missing_keys"] and not adapter:  # whose head is its own
        raise InputError(f"'{name}' has no head for {kind}: fine-tune it for that first.")
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return task, model.to(device or "cpu").eval()


def answers_to(task: Task, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
    """The answers to all rows, with a progress bar."""
    answers: list[Row] = []
    with tqdm(total=len(rows), unit="examples") as bar:
        for start in range(0, len(rows), TOGETHER * batch_size):
            part = rows[start : start + TOGETHER * batch_size]
            answers += task.predict(model, part, batch_size)
            bar.update(len(part))
    return answers


def read_input(args: PredictArguments, task: Task) -> Examples:
    """The examples to answer; raises `InputError` for what cannot be read, or an empty one, with its place."""
    columns = {role: str(name) for role, name in (args.columns or {}).items()}  # type: ignore[union-attr]
    roles = roles_of(type(task), with_targets=args.measure)
    if all(path.endswith(".txt") for path in args.input):
        return _read_lines(args.input, next(iter(roles)), roles)
    examples = read_splits(args.input, roles, columns, skip_bad=args.skip_bad)
    found = examples.get("train") or next(iter(examples.values()))
    return found.checked(task.check if args.measure else task.check_read, args.skip_bad)[0]


def _read_lines(paths: list[str], role: str, roles: dict[str, bool]) -> Examples:
    """The lines of text files that are not blank; of words, those between spaces."""
    import datasets

    needed = [name for name, required in roles.items() if required]
    if needed != [role]:
        raise InputError(
            f"'{paths[0]}' holds texts only, but the task reads {', '.join(needed)}: give a .jsonl or .csv."
        )
    texts = []
    for path in paths:
        try:
            texts += [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not texts:
        raise InputError(f"'{', '.join(paths)}' holds no text.")
    values: list[Any] = [text.split() for text in texts] if role == "tokens" else texts
    if role == "messages":
        values = [[{"role": "user", "content": text}] for text in texts]
    return Examples(datasets.Dataset.from_dict({role: values}), ", ".join(paths))


if __name__ == "__main__":
    raise SystemExit(run(main))
