"""The tasks by name."""

from typing import Any

from ...configuration.errors import InputError
from .answering import QuestionAnswering
from .choice import MultipleChoice
from .classification import MultiLabelClassification, Regression, TextClassification
from .embedding import TextEmbedding
from .tagging import TokenClassification
from .task import Task
from .writing import InstructionFollowing, TextToText

TASKS: dict[str, type[Task]] = {
    "text-classification": TextClassification,
    "multi-label-classification": MultiLabelClassification,
    "regression": Regression,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
    "multiple-choice": MultipleChoice,
    "text-embedding": TextEmbedding,
    "text-to-text": TextToText,
    "instruction-following": InstructionFollowing,
}


def task_named(name: str) -> type[Task]:
    """The task of a name; raises `InputError` for one that is not there."""
    if name not in TASKS:
        raise InputError(f"there is no task '{name}': take {', '.join(TASKS)}.")
    return TASKS[name]


def roles_of(task: type[Task], with_targets: bool = True) -> dict[str, bool]:
    """The columns that a task reads, and whether each must be there."""
    columns: dict[str, Any] = task.reads | (task.targets if with_targets else {})
    return {role: role not in task.optional for role in columns}
