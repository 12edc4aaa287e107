"""List the architectures that made the field, or show in what some of them differ.

    trivium architectures                     all of them
    trivium architectures bert-base gpt2      what tells these apart, field by field

In Python, `trivium.architecture("gpt2", num_hidden_layers=2)` is the configuration of one.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from .configuration.architectures import CONFIG_CLASSES, PAGES, architecture, describe
from .configuration.base import TriviumConfig
from .configuration.families import TriviumEncoderDecoderConfig
from .training.verbs import run

INDENT = 2
# In the order in which the configurations declare them.
FIELDS = list(dict.fromkeys(name for cls in CONFIG_CLASSES.values() for name in cls.__dataclass_fields__))


def main(argv: list[str] | None = None) -> int:
    """`trivium architectures`: returns 0; raises `InputError` for a name that there is not."""
    parser = argparse.ArgumentParser(
        prog="trivium architectures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures to compare; none: the whole table")
    names = parser.parse_args(sys.argv[1:] if argv is None else argv).names
    print(comparison(names) if names else listing())
    return 0


def listing() -> str:
    """Every page, the oldest first: its sizes, and beside them the paper and what is particular."""
    left = [("name", "parameters", "family", "year", "paper and what is particular")]
    for page in PAGES:
        beside = [(page.family, str(page.year), page.paper), ("", "", page.url), ("", "", page.particular)]
        sizes = [(name, count(size.parameters)) for name, size in page.sizes.items()]
        for row in range(max(len(sizes), len(beside))):
            size = sizes[row] if row < len(sizes) else ("", "")
            left.append((*size, *(beside[row] if row < len(beside) else ("", "", ""))))
        left.append(("",) * 5)
    return table(left[:-1])


def comparison(names: Sequence[str]) -> str:
    """The fields in which some architectures differ, side by side; of one, those that are not the defaults."""
    configs = [architecture(name) for name in names]
    told = {name.rpartition(".")[2] for config in configs for name in describe(config)}
    rows = [["", *names]]
    for name in (name for name in FIELDS if name in told):
        values = [show(look_up(config, name)) for config in configs]
        if len(names) == 1 or len(set(values)) > 1:
            rows.append([name, *values])
    return table(rows)


def look_up(config: TriviumConfig | TriviumEncoderDecoderConfig, name: str) -> Any:
    """A field; of the two sides of an encoder-decoder, what both have or what each has, and `-` where there is none."""
    if isinstance(config, TriviumEncoderDecoderConfig) and name not in type(config).__dataclass_fields__:
        sides = [show(getattr(side, name, "-")) for side in (config.encoder, config.decoder)]
        return sides[0] if sides[0] == sides[1] else " / ".join(sides)
    return getattr(config, name, "-")


def show(value: Any) -> str:
    """A value in few words: layer types that repeat are said once."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        short = [item.removesuffix("_attention") for item in value]
        period = next(n for n in range(1, len(short) + 1) if all(x == short[i % n] for i, x in enumerate(short)))
        return ", ".join(short[:period]) + (", ..." if period < len(short) else "")
    if isinstance(value, dict):
        return ", ".join(f"{key} {show(item)}" for key, item in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def count(parameters: int) -> str:
    """124439808 -> 124M."""
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if parameters >= size:
            return f"{parameters / size:.3g}{unit}" if parameters < 1000 * size else f"{parameters / size:.0f}{unit}"
    return str(parameters)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns of text, the last as long as it likes."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    gap = " " * INDENT
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]] for row in rows)
    return "\n".join(gap.join(cells).rstrip() for cells in padded)


if __name__ == "__main__":
    raise SystemExit(run(main))
