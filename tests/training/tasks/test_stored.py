"""A checkpoint says how it was taught, by its file or by its head."""

import pytest

from tests.families import HEADS, make_config
from trivium.configuration.errors import InputError
from trivium.training.tasks.stored import TASK_FILE, Stored, read_task, write_task
from trivium.training.tasks.table import TASKS, roles_of, task_named
from trivium.training.tasks.task import Form


@pytest.mark.parametrize("name", TASKS)
def test_a_task_comes_back_as_it_was_written(tmp_path, name):
    form = Form(
        max_length=77, stride=3, pieces="all", prompt="ü {source}", num_beams=4, pooling="last", temperature=0.5
    )
    for stored in (Stored(name, form), Stored(name, form, ["a", "ü"])):
        write_task(tmp_path, stored)
        assert read_task(tmp_path, make_config("encoder")) == stored


# What the heads of `tests.families` are for; others answer nothing.
BY_HEAD = {
    "lm": "text-to-text",
    "tokens": "token-classification",
    "answer": "question-answering",
    "choice": "multiple-choice",
    "sequence": "text-classification",
}


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_without_the_file_the_head_tells(tmp_path, head):
    config = make_config(head.family)
    config.architectures = [head.model.__name__]
    expected = None if head.family == "encoder" and head.task == "lm" else BY_HEAD.get(head.task)
    if expected is None:
        with pytest.raises(InputError) as caught:
            read_task(tmp_path, config)
        assert str(caught.value) == (
            f"'{tmp_path}' is a {head.model.__name__}, which answers nothing: fine-tune it first."
        )
        return
    assert read_task(tmp_path, config) == Stored(expected, Form())
    config.problem_type = "multi_label_classification"
    assert read_task(tmp_path, config)[0] == ("multi-label-classification" if head.task == "sequence" else expected)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"task": "poetry"}',
        '{"task": "regression", "verse": 1}',
        '{"task": "regression", "stride": "x"}',
        '{"task": "regression", "stride": -2}',
        b'{"task": "\xe9"}',
    ],
)
def test_a_broken_file_is_told(tmp_path, content):
    path = tmp_path / TASK_FILE
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_task(tmp_path, make_config("encoder"))
    assert str(caught.value) == (
        f"'{path}' is broken, or of another version: delete it, and the task is told by the head."
    )


def test_a_task_that_there_is_not_is_told():
    with pytest.raises(
        InputError, match=r"^there is no task 'poetry': take text-classification, .*, instruction-following"
    ):
        task_named("poetry")


def test_roles_are_what_a_task_reads_and_learns_from():
    squad = TASKS["question-answering"]
    assert roles_of(squad) == {"question": True, "context": True, "answers": True, "id": False}
    assert roles_of(squad, with_targets=False) == {"question": True, "context": True}
