"""The cards that lie beside what was fetched: what it is, where from, under which licence, how it was split."""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from .checkpoints import Checkpoint
from .corpus import Corpus
from .packages import Package

# What says that a folder is ours, and may be replaced.
MARK = "Made by `trivium fetch {name}`"
FETCHED = re.compile(
    r"---\n(?P<metadata>.*?)---\n.*\nMade by `trivium fetch [\w-]+`.*\n## Licence\n\n(?P<terms>[^\n]+)\n*", re.DOTALL
)


def corpus_card(name: str, corpus: Corpus, rows: dict[str, int], packages: list[Package]) -> str:
    """The card of a data set in Markdown, with the metadata that the Hub reads.

    Args:
        name: of the set.
        corpus: how it is made.
        rows: how many each split has.
        packages: what it was made of.
    """
    metadata = {
        "pretty_name": name,
        "license": corpus.license,
        "language": list(corpus.language),
        "task_categories": [corpus.task],
    }
    shares = ", ".join(f"{share:.0%} {split}" for split, share in corpus.shares.items())
    split = (
        f"Never torn apart: {corpus.group}. A hash (BLAKE2) of that chooses the split ({shares}), so it is the same "
        "every time. Rows lie in an order that follows from their content: the first n are a fair sample."
    )
    return _card(
        name,
        metadata,
        f"{_sentence(corpus.summary)} {corpus.notes}".strip(),
        {
            "Rows": _table("split", "rows", {split: f"{count:,}" for split, count in rows.items()}),
            "Columns": _table("column", "holds", dict(corpus.columns)),
            "How it was split": split,
        },
        corpus.terms,
        packages,
    )


def checkpoint_card(name: str, checkpoint: Checkpoint, packages: list[Package]) -> str:
    """The card of a model; arguments as of [`corpus_card`]."""
    metadata = {"license": checkpoint.license, "library_name": "transformers", "pipeline_tag": checkpoint.task}
    about = f"{_sentence(checkpoint.summary)} {checkpoint.notes}".strip()
    return _card(name, metadata, about, {}, checkpoint.terms, packages)


def stated_of(data: Sequence[str]) -> dict[str, Any]:
    """What the card beside fetched data states: `license`, in words, and `languages`; nothing without such a card.

    Args:
        data: a folder, or files of one.
    """
    folders = {path if path.is_dir() else path.parent for path in map(Path, data)}
    card = folders.pop() / "README.md" if len(folders) == 1 else Path()
    if not card.is_file():
        return {}
    text = card.read_text(encoding="utf-8", errors="replace")
    parts = FETCHED.fullmatch(text)
    try:
        languages = yaml.safe_load(parts["metadata"])["language"] if parts else None
    except (yaml.YAMLError, KeyError, TypeError):
        return {}
    return {"license": parts["terms"].strip().rstrip("."), "languages": languages} if parts else {}


def _card(name: str, metadata: dict, about: str, sections: dict[str, str], terms: str, packages: list[Package]) -> str:
    made = f"{MARK.format(name=name)} on {datetime.date.today()} from {', '.join(map(str, packages))}."
    sections = sections | {"Where it comes from": made, "Licence": _sentence(terms)}
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n# {name}\n\n{about}\n\n{body}\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "." if not text.endswith("?") else text[0].upper() + text[1:]


def _table(left: str, right: str, rows: dict[str, str]) -> str:
    return "\n".join([f"| {left} | {right} |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])
