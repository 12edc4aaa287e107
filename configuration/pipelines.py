"""The pipelines that transformers 5 no longer has, under names that it leaves free.

transformers answers `question-answering`, `text2text-generation`, `summarization` and `translation` with an error
before it looks at what was registered, so those names cannot be given back.
"""

from typing import Any, NamedTuple


class Task(NamedTuple):
    """What does a task.

    Attributes:
        auto_class: the Auto class of transformers that loads its models.
        module: of `modeling/pipelines/`.
        pipeline: the class in it.
    """

    auto_class: str
    module: str
    pipeline: str


TASKS = {
    "extractive-question-answering": Task(
        "AutoModelForQuestionAnswering", "question_answering", "QuestionAnsweringPipeline"
    ),
    "text-to-text": Task("AutoModelForSeq2SeqLM", "text_to_text", "TextToTextPipeline"),
    "text-summarization": Task("AutoModelForSeq2SeqLM", "text_to_text", "SummarizationPipeline"),
    "text-translation": Task("AutoModelForSeq2SeqLM", "text_to_text", "TranslationPipeline"),
}


def tasks_of(auto_classes: dict[str, str], architectures: list[str] | None = None) -> dict[str, Task]:
    """The tasks of a family with these Auto classes; if given, only those that one of `architectures` was made for."""
    return {
        name: task
        for name, task in TASKS.items()
        if task.auto_class in auto_classes and (architectures is None or auto_classes[task.auto_class] in architectures)
    }


def custom_pipelines(tasks: dict[str, Task], module: str) -> dict[str, dict[str, Any]]:
    """The entry of config.json by which transformers finds the tasks in `module` beside it."""
    return {
        name: {"impl": f"{module}.{task.pipeline}", "pt": [task.auto_class], "type": "text"}
        for name, task in tasks.items()
    }
