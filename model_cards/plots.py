"""The curves of a run as a picture."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from .text import number

PICTURE = Path("assets") / "loss.png"
DRAWN = 3  # of this version of the drawing


class Curves(NamedTuple):
    """Pairs of a step and a value.

    Attributes:
        loss, held_out, learning_rate: as logged; `loss` and `held_out` in nats per predicted token.
    """

    loss: list[tuple[int, float]]
    held_out: list[tuple[int, float]]
    learning_rate: list[tuple[int, float]]

    @property
    def words(self) -> str:
        """What the curves show, for those who cannot see them."""
        return "; ".join(
            f"{name} {number(curve[0][1])} at step {curve[0][0]:,}, {number(curve[-1][1])} at step {curve[-1][0]:,}"
            for name, curve in (("training loss", self.loss), ("held-out loss", self.held_out))
            if len(curve) > 1
        )


def curves(log: list[dict[str, Any]]) -> Curves:
    """The curves in what `Trainer` logged."""
    return Curves(*(_curve(log, name) for name in ("loss", "eval_loss", "learning_rate")))


def _curve(log: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    # One value a step: a run that was resumed may have logged some twice.
    found = {entry["step"]: float(entry[name]) for entry in log if "step" in entry and _is_number(entry.get(name))}
    return sorted(found.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def draw(found: Curves, folder: Path) -> str | None:
    """Draws the curves into `folder` unless they are drawn there already.

    Returns:
        `None` if there is a picture of these curves now; else why not, as a clause. An older picture is taken away.
    """
    path = folder / PICTURE
    stamp = hashlib.sha256(json.dumps([DRAWN, found]).encode()).hexdigest()
    if path.is_file() and stamp.encode() in path.read_bytes():
        return None
    path.unlink(missing_ok=True)
    if max(len(found.loss), len(found.held_out)) < 2:
        return "too little was logged for curves"
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return 'there is no picture of the curves, since matplotlib is not installed: pip install "trivium[plot]"'
    with matplotlib.rc_context(
        {"backend": "agg", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    ):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        _draw(figure, found)
        path.parent.mkdir(exist_ok=True)
        aside = path.with_name(f".{path.name}")
        # The stamp says which curves these are; without the library's name and version equal curves are equal files.
        figure.savefig(aside, format="png", dpi=130, metadata={"Software": None, "Comment": stamp})
    os.replace(aside, path)
    return None


def _draw(figure: Any, found: Curves) -> None:
    has_rate = len(found.learning_rate) > 1
    loss, *rest = figure.subplots(1 + has_rate, 1, sharex=True, squeeze=False, height_ratios=[3, 1][: 1 + has_rate])[
        :, 0
    ]
    if found.loss:
        loss.plot(*zip(*found.loss, strict=True), color="#4c72b0", linewidth=1.4, label="training loss")
    if found.held_out:
        style = "o-" if len(found.held_out) > 2 else "o"  # a line between start and end would say what nobody measured
        loss.plot(*zip(*found.held_out, strict=True), style, color="#dd8452", markersize=4, label="held-out loss")
    loss.set_ylabel("nats per token")
    loss.legend(frameon=False)
    loss.grid(alpha=0.25)
    if rest:
        rest[0].plot(*zip(*found.learning_rate, strict=True), color="#55a868", linewidth=1.4)
        rest[0].set_ylabel("learning rate")
        rest[0].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        rest[0].grid(alpha=0.25)
    (rest or [loss])[-1].set_xlabel("step")
