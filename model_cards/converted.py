"""The card of a converted checkpoint: what it was made of, and how sure it is that it says the same."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from transformers import PreTrainedModel

from . import card
from .text import line
from .vocabulary import HUB_NAME, licenses


def write_card(
    folder: Path, model: PreTrainedModel, source: str, kind: str, notes: list[str], difference: float
) -> None:
    """Writes README.md into `folder`.

    Args:
        model: what was saved there.
        source: the folder or Hub name that it was converted from.
        kind: the class and `model_type` there.
        notes: what else is to be said, a sentence each.
        difference: the largest difference between the two, relative to the largest output.
    """
    name = model.config.name_or_path or source
    conversion: dict[str, Any] = {"source": line(source), "kind": line(kind), "agreement": agreement(difference)}
    conversion["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    conversion["notes"] = list(map(line, notes))
    if HUB_NAME.fullmatch(name) and not Path(name).exists():
        conversion["base_model"] = name
    if license_of(Path(source)):
        conversion["license"] = license_of(Path(source))
    card.write_card(folder, conversion=conversion)


def agreement(difference: float) -> str:
    """How near two outputs are, in words."""
    return "the same to the last bit" if difference == 0 else f"apart by at most {difference:.1e} of the largest output"


def license_of(folder: Path) -> str | None:
    """The licence that the source's own card names, if there is a card that can be read and the Hub knows it."""
    path = folder / "README.md"
    try:
        named = ModelCard.load(path).data.get("license") if path.is_file() else None
    except Exception:  # YAML, encodings: whatever is wrong with their card is not this one's trouble
        return None
    return named if named in licenses() else None
