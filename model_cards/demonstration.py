"""The cards of the models that `make demo` makes, and how they get here.

python -m trivium.model_cards.demonstration out/demo   # after `trivium demo --output_dir out/demo`
"""

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from ..configuration.errors import InputError
from .card import README
from .plots import PICTURE

HERE = Path(__file__).parent / "demo"
ANSWERED = HERE / "card.yaml"
FAMILIES = ("encoder", "decoder", "encoder-decoder")


def copy_cards(source: Path, target: Path = HERE, families: Iterable[str] = FAMILIES) -> None:
    """Copies the card of each family, with its picture, from `source/FAMILY` to `target/FAMILY`.

    Raises:
        InputError: there is no such card.
    """
    for family in families:
        if not (source / family / README).is_file():
            raise InputError(f"'{source / family}' holds no {README}: make it with trivium demo --output_dir {source}.")
        for name in (README, PICTURE):
            if (source / family / name).is_file():
                (target / family / name).parent.mkdir(parents=True, exist_ok=True)
                aside = target / family / f"{name}.new"
                shutil.copyfile(source / family / name, aside)
                os.replace(aside, target / family / name)


if __name__ == "__main__":
    copy_cards(Path(sys.argv[1]))
