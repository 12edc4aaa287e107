"""The card of a converted checkpoint: what it was made of, and how sure it is that it says the same."""

import re
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from transformers import PreTrainedModel

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

TEXT = """---
{metadata}
---

# {title}

The weights of `{source}`, a {kind}, under other names: a `{model}` with {parameters:,} parameters in {dtype}, not
trained any further.

On random tokens the outputs of the two models are {agreement}.
{notes}
## How to load it

```python
{load}
```
"""


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
    ours = model.config.model_type.startswith("trivium")
    name = model.config.name_or_path or source
    data = ModelCardData(
        library_name="transformers",
        tags=["trivium"] if ours else None,
        base_model=name if HUB_NAME.fullmatch(name) and not Path(name).exists() else None,
        license=_license(Path(source)),
    )
    load = ["import trivium"] if ours else []
    load += [f"from transformers import {type(model).__name__}"] if not ours else []
    holder = "trivium." if ours else ""
    load += ["", f'model = {holder}{type(model).__name__}.from_pretrained("path/to/this/folder")']
    text = TEXT.format(
        metadata=data.to_yaml(),
        title=f"{Path(source).name}, converted",
        source=source,
        kind=kind,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype=str(model.dtype).removeprefix("torch."),
        model=type(model).__name__,
        agreement=agreement(difference),
        notes="".join(f"\n- {note}" for note in notes) + "\n" if notes else "",
        load="\n".join(load).strip(),
    )
    ModelCard(text).save(folder / "README.md")


def agreement(difference: float) -> str:
    """How near two outputs are, in words."""
    return "the same to the last bit" if difference == 0 else f"apart by at most {difference:.1e} of the largest output"


def _license(folder: Path) -> str | None:
    """The licence that the source's own card names, if there is a card that can be read."""
    card = folder / "README.md"
    try:
        return ModelCard.load(card).data.get("license") if card.is_file() else None
    except Exception:  # YAML, encodings: whatever is wrong with their card is not this one's trouble
        return None
