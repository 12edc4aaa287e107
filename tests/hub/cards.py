"""What the Hub reads in a README.md: the YAML between its first two lines of dashes."""

import re
from collections.abc import Mapping

import yaml

from tests.hub.store import File

SHOWN = ("pipeline_tag", "library_name", "tags")


def metadata(text: str) -> object:
    """What the YAML says, None if there is none; raises yaml.YAMLError."""
    match = re.match(r"---\r?\n(.*?)\r?\n---\s*(?:\n|$)", text, re.DOTALL)
    return yaml.safe_load(match[1]) if match else None


def problems(text: str) -> tuple[list[str], list[str]]:
    """Errors, for which the Hub refuses a card, and warnings. The Hub knows more of them, above all lists of values."""
    try:
        said = metadata(text)
    except yaml.YAMLError as error:
        return [f"YAML metadata is not valid: {error}"], []
    if said is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(said, dict):
        return ["YAML metadata must be an object"], []
    index = said.get("model-index", [])
    if not isinstance(index, list):
        return ['"model-index" must be an array'], []
    missing = [
        f'"model-index[{position}].{name}" is required'
        for position, model in enumerate(index)
        for name in ("name", "results")
        if not isinstance(model, dict) or name not in model
    ]
    return missing, []


def facts(files: Mapping[str, File]) -> dict:
    """What a repository's information says of its card."""
    card = files.get("README.md")
    said = metadata(card.data.decode()) if card else None
    return {"cardData": said} | {name: said[name] for name in SHOWN if name in said} if isinstance(said, dict) else {}
