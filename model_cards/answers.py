"""What only the user knows of a model: asked once, kept in `card.yaml` beside the checkpoint, read at every save."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..configuration.errors import InputError
from .vocabulary import DATASET_NAME, check_language, check_license, check_name, check_pipeline_tag, check_relation

ANSWERS = "card.yaml"
HEADER = "# What only people know of this model; `trivium card` reads it whenever it writes README.md.\n"
Answers = dict[str, Any]


class Question(NamedTuple):
    """Something that only the user knows.

    Attributes:
        what: what is asked, as a clause.
        example: an answer.
        asked: whether it is missing from a card as long as it is not answered.
        many: whether the answer is a list.
        check: returns a part of the answer, or raises `InputError` for what cannot be right.
    """

    what: str
    example: str
    asked: bool = True
    many: bool = False
    check: Callable[[str], str] = str


def _dataset(value: str) -> str:
    return check_name(value, DATASET_NAME, "org/data-set")


def _tag(value: str) -> str:
    return value if value.strip() == value and "\n" not in value and len(value) < 100 else _refuse(value)


def _refuse(value: str) -> str:
    raise InputError(f"'{value}' is no tag: give a word or two.")


QUESTIONS = {
    "license": Question("under which licence others may use the model", "apache-2.0", check=check_license),
    "language": Question("which languages the model is for", "en", many=True, check=check_language),
    "data_description": Question("what the training text is, who wrote it, how it was chosen", "Articles of ..."),
    "data_license": Question("under which licence or with which right the training text was used", "CC BY-SA 4.0"),
    "intended_use": Question("what the model is meant for", "To be fine-tuned for ..."),
    "out_of_scope": Question("what it should not be used for", "Medical advice."),
    "limitations": Question("what it does badly", "It was trained on few texts and ..."),
    "biases": Question(
        "whom or what it treats unfairly, and how that was looked at", "Not examined yet; the texts ..."
    ),
    "contact": Question("who made it and answers questions", "Ada Lovelace, ada@example.org"),
    "name": Question("its name, if not that of the folder", "My decoder", asked=False),
    "repo_id": Question("where it is on the Hub", "me/my-decoder", asked=False, check=check_name),
    "license_name": Question("with license 'other': its name", "my-license", asked=False),
    "license_link": Question("with license 'other': where it is to be read", "LICENSE", asked=False),
    "datasets": Question(
        "data sets on the Hub that it was trained on", "org/texts", asked=False, many=True, check=_dataset
    ),
    "base_model": Question("model on the Hub that it was made of", "org/model", asked=False, check=check_name),
    "base_model_relation": Question("how it was made of that", "finetune", asked=False, check=check_relation),
    "pipeline_tag": Question("its task, if not that of its class", "fill-mask", asked=False, check=check_pipeline_tag),
    "tags": Question("more words to find it by", "physics", asked=False, many=True, check=_tag),
}


def check_answers(given: Mapping[str, Any], where: str = ANSWERS) -> Answers:
    """The answers that were given, lists where there are several; empty ones are left out.

    Raises:
        InputError: a field that is not asked for, or a value that cannot be right.
    """
    from difflib import get_close_matches

    answers: Answers = {}
    for name, value in given.items():
        if name not in QUESTIONS:
            nearest = get_close_matches(str(name), QUESTIONS, n=1)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"it may hold {', '.join(QUESTIONS)}."
            raise InputError(f"{where}: there is no field '{name}'; {hint}")
        question = QUESTIONS[name]
        parts = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
            example = f"[{question.example}]" if question.many else question.example
            raise InputError(f"{where}: `{name}` is not understood: {value!r}; write for example {example!r}.")
        if len(parts) > 1 and not question.many:
            raise InputError(f"{where}: `{name}` takes one answer, not {len(parts)}.")
        checked = [question.check(str(part)) for part in parts if str(part).strip()]
        if checked:
            answers[name] = checked if question.many else checked[0]
    return answers


def read_answers(path: Path) -> Answers:
    """The answers in a YAML file; raises `InputError` for one that is not there, or that holds anything else."""
    import yaml

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"'{path}' with the answers for the card does not exist.") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given or {}, dict):
        raise InputError(f"'{path}' must map fields such as license to answers.")
    return check_answers(given or {}, str(path))


def kept_answers(place: Path) -> Answers:
    """The answers that lie beside a checkpoint; those of a run hold for its checkpoints too, unless they say more."""
    folders = [place.parent, place] if place.name.startswith("checkpoint-") else [place]
    found = [read_answers(folder / ANSWERS) for folder in folders if (folder / ANSWERS).is_file()]
    return {name: value for answers in found for name, value in answers.items()}


def as_yaml(answers: Answers) -> str:
    """The text of `card.yaml`."""
    import yaml

    return HEADER + yaml.safe_dump(answers, sort_keys=False, allow_unicode=True, width=100)
