"""Conversations to tune a chat model on: small talk (chatterbot-corpus), and instructions over other corpora."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import yaml

from ...configuration.errors import InputError
from . import debian, libreoffice
from .corpus import Corpus, Example, draw
from .packages import Source

FILES = "chatterbot_corpus/data/english/*.yml"
IN_TURNS = "conversations"  # the one file whose lists are turns; elsewhere they are a question and its answers
MAX_ANSWERS = 10
INSTRUCTED = 10  # one row in so many of the other corpora becomes an instruction
SUMMARIZE = (
    "Summarise this description of a software package in one line:\n\n{text}",
    "{text}\n\nWhat is this package, in a few words?",
    "Write a one-line description of the following package.\n\n{text}",
    "Give a short title to this text:\n\n{text}",
)
TRANSLATE = (
    "Translate into French: {text}",
    "How do you say this in French?\n\n{text}",
    "{text}\n\nTranslate the text above into French.",
)


def dialogues(talk: Path, lists: Path, english: Path, french: Path) -> Iterator[Example]:
    """Rows `{"messages"}` that begin with the user and end with the assistant."""
    return chain(
        small_talk(talk),
        instructions(debian.summaries(lists), SUMMARIZE),
        instructions(libreoffice.translations(english, french), TRANSLATE),
    )


def small_talk(folder: Path) -> Iterator[Example]:
    """The English conversations; the group is what is said first."""
    seen = set()
    for path in sorted(folder.glob(FILES)):
        for conversation in _read(path):
            turns = [" ".join(str(turn).split(" ")).strip() for turn in conversation]
            for said in [turns] if path.stem == IN_TURNS else ([turns[0], answer] for answer in turns[1:MAX_ANSWERS]):
                said = said[: len(said) // 2 * 2]
                if said and all(said) and tuple(said) not in seen:
                    seen.add(tuple(said))
                    yield said[0].casefold(), _row(said)


def instructions(examples: Iterator[Example], templates: tuple[str, ...]) -> Iterator[Example]:
    """A part of the examples of pairs as instructions, each in a form drawn by its text; groups stay what they are."""
    for group, row in examples:
        if draw(f"{row['source']} chosen", INSTRUCTED) == 0:
            request = templates[draw(row["source"], len(templates))].format(text=row["source"])
            yield group, _row([request, row["target"]])


def _read(path: Path) -> list[list[str]]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"'{path.name}' holds no conversations: {' '.join(str(error).split())}") from error


def _row(turns: list[str]) -> dict:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]}


CORPORA = {
    "dialogues": Corpus(
        summary="small talk, questions with answers, and instructions, to tune a chat model on",
        task="text-generation",
        columns={"messages": "turns, each a role (user or assistant) and its content"},
        sources=(Source("PyPI", "chatterbot-corpus==1.3.3", (FILES,)), debian.LISTS, *libreoffice.HELP),
        license="other",
        terms="BSD (chatterbot-corpus); as `summaries` and `translation` for what is made of these",
        group="first turn of small talk, source package or page of the help",
        examples=dialogues,
        language=("en", "fr"),
        notes=f"One in {INSTRUCTED} rows of `summaries` and `translation` is an instruction in one of several forms, "
        "in the same split as there.",
    )
}
