"""What a fine-tuned checkpoint keeps of its task, so that it can be asked as it was taught."""

import dataclasses
import json
from pathlib import Path
from typing import Any

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


def write_task(folder: Path, name: str, form: Form) -> None:
    """Writes task.json."""
    (folder / TASK_FILE).write_text(json.dumps({"task": name, **dataclasses.asdict(form)}, indent=2) + "\n", "utf-8")


def read_task(folder: Path, config: Any) -> tuple[str, Form]:
    """The task of a checkpoint and its form, by task.json, or else by its head.

    Raises:
        InputError: a file that is broken, or a model without a head.
    """
    path = folder / TASK_FILE
    if path.is_file():
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            name = fields.pop("task")
            if name in TASKS:
                return name, Form(**fields)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise InputError(f"'{path}' is broken, or of another version: delete it, and the task is told by the head.")
    architecture = (config.architectures or [""])[0]
    if "ForSequenceClassification" in architecture:
        return PROBLEMS.get(config.problem_type or "", "text-classification"), Form()
    for ending, name in HEADS.items():
        if architecture.endswith(ending):
            return name, Form()
    raise InputError(
        f"'{folder}' is a {architecture or 'model without a head'}, which answers nothing: fine-tune it first."
    )
