"""`README.md` of a checkpoint: written from what lies beside it, and again whenever that changes.

The card says of itself which text it is. One that somebody has changed by hand is not overwritten.
"""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CardData, ModelCard, ModelCardData

from ..configuration.errors import InputError
from .answers import ANSWERS, Answers, as_yaml, check_answers, kept_answers
from .facts import Facts
from .metadata import CONVERSION, make_metadata
from .plots import curves, draw
from .render import render, template_stamp
from .text import Markdown
from .values import make_values

logger = logging.getLogger(__name__)

README = "README.md"
MARK = re.compile(
    r"\n<!-- trivium card: template ([0-9a-f]{12}), content ([0-9a-f]{12}), (with|without) a record -->\n?\Z"
)
# What transformers writes of a model that it pushes into a template with nothing but gaps, ...
PUSHED = (
    "This is the model card of a 🤗 transformers model that has been pushed on the Hub. This model card has been "
    "automatically generated."
)
# ... and in the comment on a card of `Trainer`'s, which says that whoever proofreads it should remove that.
TRAINERS = "<!-- This model card has been generated automatically according to the information the Trainer had"
# What PEFT adds to the template of huggingface_hub: at its end, and at its head.
PEFT_VERSION = re.compile(r"\n### Framework versions\n\n(- PEFT \S+\n?)+\Z")
PEFT_FIELDS = {"base_model", "library_name", "pipeline_tag", "tags"}


class Card(NamedTuple):
    """A card that was written.

    Attributes:
        path: the README.md.
        missing: what is not answered or not known, a clause each.
    """

    path: Path
    missing: list[str]


def write_card(
    folder: Path,
    place: Path | None = None,
    given: Mapping[str, Any] | None = None,
    conversion: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Card:
    """Writes or refreshes README.md, the picture of the curves and `card.yaml` in the folder of a checkpoint.

    Each is there whole or as it was before.

    Args:
        folder: holds the checkpoint.
        place: where the folder will lie, if it is written aside: its name is the model's, and answers given there
            before hold on.
        given: more answers, which win; see [`QUESTIONS`](answers.py).
        conversion: what a conversion was; by default as the card that is there says.
        overwrite: replace a README.md that is not ours, or that was changed by hand.

    Raises:
        InputError: no checkpoint, a broken record, an answer that cannot be right, or a README.md written by hand.
    """
    folder, place = Path(folder), Path(place or folder)
    standing = place / README
    if not overwrite and is_by_hand(standing):
        raise InputError(
            f"'{standing}' was written or changed by hand and is left as it is: --overwrite replaces it, and what "
            f"it says and this cannot know belongs into '{place / ANSWERS}'."
        )
    facts = Facts(folder, place)
    if not overwrite and not facts.record and _had_record(standing):
        raise InputError(
            f"'{standing}' says how the model was trained, and no record of these weights is beside it: it is left as "
            "it is; --overwrite writes one without."
        )
    answers: Answers = kept_answers(place) | check_answers(given or {})
    conversion = conversion or ({} if facts.record else conversion_in(standing))  # trained since, it is no conversion
    named = f"{Path(str(conversion.get('source'))).name}, converted" if conversion else name_of(place)
    name = str(answers.get("name") or answers.get("repo_id") or named)
    data = make_metadata(facts, answers, conversion, name)
    no_picture = draw(curves(facts.log), folder)
    values, missing = make_values(facts, answers, conversion, name, no_picture)
    text = render(values | {"metadata": Markdown(data.to_yaml())})
    if answers:
        _write(folder / ANSWERS, as_yaml(answers))
    card = ModelCard(text)
    card.text = f"{card.text}{_mark(card, facts)}"
    _save(card, folder / README)
    return Card(place / README, missing)


def card_beside(folder: Path, place: Path | None = None, repo_id: str | None = None) -> None:
    """Writes or refreshes the card of a model that was just saved; one written by hand stays.

    Saving does not fail by it: whatever is wrong is a warning. A hidden folder whose `place` is not given is left to
    whoever writes a checkpoint aside, with more to say of it.

    Args:
        folder: what it was saved to.
        place: where the folder will lie, if it is written aside.
        repo_id: where on the Hub it will be, if it is pushed.
    """
    if is_by_hand((place or folder) / README) or (place is None and folder.absolute().name.startswith(".")):
        return
    try:
        # What another model in this place was trained on is no matter now.
        write_card(folder, place, given={"repo_id": repo_id} if repo_id else None, overwrite=True)
    except (InputError, OSError) as error:
        logger.warning("The card was not written: %s", error)


def name_of(place: Path) -> str:
    """What a checkpoint is called: as its folder, a checkpoint of a run with the run's name."""
    place = place.absolute()
    return f"{place.parent.name}, {place.name}" if place.name.startswith("checkpoint-") else place.name


def is_by_hand(path: Path) -> bool:
    """Whether a README.md is there that is not ours, or not as it was written."""
    if not path.is_file():
        return False
    card = _read(path)
    if card is None:
        return True
    found = MARK.search(card.text)
    return not is_stock(card) if found is None else found[2] != _stamp(card.data, card.text[: found.start()])


def is_stock(card: ModelCard) -> bool:
    """Whether a library wrote a card, and nobody touched it: transformers' `push_to_hub` or `Trainer`, or PEFT."""
    pushed, empty = (ModelCard.from_template(ModelCardData(), model_description=said).text for said in (PUSHED, ""))
    by_peft = PEFT_VERSION.sub("", card.text).split() == empty.split() and card.data.to_dict().keys() <= PEFT_FIELDS
    return TRAINERS in card.text or card.text == pushed or by_peft


def template_of(path: Path) -> str | None:
    """The stamp of the template that a card was written with; `None` if it is none of ours."""
    card = _read(path)
    found = MARK.search(card.text) if card else None
    return found[1] if found else None


def conversion_in(path: Path) -> dict[str, Any]:
    """What the card of a converted checkpoint keeps of its conversion; nothing of any other."""
    card = _read(path) if path.is_file() else None
    kept = card.data.get(CONVERSION) if card else None
    return kept if isinstance(kept, dict) else {}


def _read(path: Path) -> ModelCard | None:
    try:
        return ModelCard.load(path)
    except Exception:  # YAML, encodings: whatever is wrong with it, it is not ours
        return None


def _had_record(path: Path) -> bool:
    card = _read(path) if path.is_file() else None
    found = MARK.search(card.text) if card else None
    return found is not None and found[3] == "with"


def _mark(card: ModelCard, facts: Facts) -> str:
    record, content = "with" if facts.record else "without", _stamp(card.data, card.text)
    return f"\n<!-- trivium card: template {template_stamp()}, content {content}, {record} a record -->\n"


def _stamp(data: CardData, text: str) -> str:
    """What a card says, in a few letters, whatever its YAML looks like."""
    said = json.dumps(data.to_dict(), sort_keys=True, default=str) + text.strip()
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _save(card: ModelCard, path: Path) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        card.save(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    handle, aside = tempfile.mkstemp(dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
