"""What the Hub takes for licences, languages, tasks and relations between models, known without asking it."""

import difflib
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path

from ..configuration.errors import InputError

HERE = Path(__file__).parent
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
DATASET_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
RELATIONS = ("finetune", "adapter", "merge", "quantized")
# Those of the Hub's tasks that a model of text can have.
PIPELINE_TAGS = (
    "fill-mask text-generation text2text-generation text-classification token-classification question-answering "
    "zero-shot-classification feature-extraction sentence-similarity summarization translation multiple-choice "
    "text-ranking"
).split()
OTHER_LANGUAGES = {"code": "programs", "multilingual": "many languages"}


@cache
def licenses() -> tuple[str, ...]:
    """The identifiers of licences."""
    return tuple(_words((HERE / "licenses.txt").read_text(encoding="utf-8")))


@cache
def language_names() -> dict[str, str]:
    """Names of languages by their two letters (ISO 639-1), and what else the Hub knows."""
    return {two: name for two, _, name in _two_letters()} | OTHER_LANGUAGES


@cache
def language_codes() -> frozenset[str]:
    """Every code that is right: two letters where there are two (ISO 639-1), else three (ISO 639-3)."""
    rest = (HERE / "languages.txt").read_text(encoding="utf-8").partition("\n\n")[2]
    return frozenset(_words(rest)) | frozenset(language_names())


def language_name(code: str) -> str:
    """The language's name, or its code where none is known."""
    return language_names().get(code, code)


def check_license(value: str) -> str:
    """The licence; raises `InputError` with the nearest that the Hub knows."""
    return _check(value, licenses(), "is no licence that the Hub knows", "'other' with license_name and license_link")


def check_language(value: str) -> str:
    """The language's code; raises `InputError` with the right one if it is a name or a longer code."""
    if value in language_codes():
        return value
    names = {name.lower(): code for code, name in language_names().items()}
    names |= {three: two for two, three, _ in _two_letters()}
    nearest = difflib.get_close_matches(str(value).lower(), [*names, *language_names()], n=1, cutoff=0.6)
    hint = f"did you mean '{names.get(nearest[0], nearest[0])}'?" if nearest else "for example 'en', or 'multilingual'."
    raise InputError(f"'{value}' is no language code of ISO 639; {hint}")


def check_pipeline_tag(value: str) -> str:
    """The task; raises `InputError` with the nearest."""
    return _check(value, PIPELINE_TAGS, "is no task of text that the Hub knows", ", ".join(PIPELINE_TAGS[:4]) + ", ...")


def check_relation(value: str) -> str:
    """How a model came from its base; raises `InputError` with the nearest."""
    return _check(value, RELATIONS, "is no relation to a base model", ", ".join(RELATIONS))


def check_name(value: str, pattern: re.Pattern = HUB_NAME, example: str = "me/my-model") -> str:
    """A name on the Hub; raises `InputError` for what cannot be one."""
    if pattern.fullmatch(str(value)):
        return value
    raise InputError(f"'{value}' is no name on the Hub, which looks like {example}.")


def _check(value: str, known: Collection[str], what: str, others: str) -> str:
    if value in known:
        return value
    nearest = difflib.get_close_matches(str(value).lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"choose {others}."
    raise InputError(f"'{value}' {what}; {hint}")


def _two_letters() -> list[tuple[str, str, str]]:
    lines = (HERE / "languages.txt").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()[1:]
    return [(two, three, name) for two, three, name in (entry.split(" ", 2) for entry in lines)]


def _words(text: str) -> list[str]:
    return [word for entry in text.splitlines() if not entry.startswith("#") for word in entry.split()]
