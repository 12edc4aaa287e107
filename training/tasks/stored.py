"""What a fine-tuned checkpoint keeps of its task, so that it can be asked as it was taught."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from ...configuration.errors import InputError
from .table import TASKS
from .task import Form

TASK_FILE = "task.json"
# The task of a checkpoint that says none, by what its head is called.
HEADS = {
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForConditionalGeneration": "text-to-text",
    "ForCausalLM": "text-to-text",
}
PROBLEMS = {"multi_label_classification": "multi-label-classification", "regression": "regression"}


class Stored(NamedTuple):
    """What a checkpoint says of its task: the name, the form, and the names of the labels, which an adapter has not."""

    name: str
    form: Form
    labels: list[str] | None = None


def write_task(folder: Path, stored: Stored) -> None:
    """Writes task.json."""
    fields = {"task": stored.name, "labels": stored.labels, **dataclasses.asdict(stored.form)}
    (folder / TASK_FILE).write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_task(folder: Path, config: Any) -> Stored:
    """The task of a checkpoint, by task.json, or else by its head.

    Raises:
        InputError: a file that is broken, or a model without a head.
    """
    path = folder / TASK_FILE
    if path.is_file():
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            name, labels = fields.pop("task"), fields.pop("labels", None)
            if name in TASKS:
                return Stored(name, Form(**fields), labels)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise InputError(f"'{path}' is broken, or of another version: delete it, and the task is told by the head.")
    architecture = (config.architectures or [""])[0]
    if "ForSequenceClassification" in architecture:
        return Stored(PROBLEMS.get(config.problem_type or "", "text-classification"), Form())
    for ending, name in HEADS.items():
        if architecture.endswith(ending):
            return Stored(name, Form())
    raise InputError(
        f"'{folder}' is a {architecture or 'model without a head'}, which answers nothing: fine-tune it first."
    )
