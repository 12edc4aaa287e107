"""The template: whatever goes into it is escaped, unless it was made to be Markdown."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .text import escape

TEMPLATE = Path(__file__).with_name("card.md.jinja")


@cache
def template_stamp() -> str:
    """Which template this is, in a few letters."""
    return hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()[:12]


def render(values: Mapping[str, Any]) -> str:
    """The template with these values; every string is escaped but [`Markdown`](text.py)."""
    text = _template().render(values)
    return _squeezed(text)


@cache
def _template() -> Any:
    import jinja2

    # `finalize` sees whatever is written in braces: what nobody thought of is escaped too.
    environment = jinja2.Environment(
        finalize=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _squeezed(text: str) -> str:
    """Without the runs of empty lines that parts of the template which are left out leave behind; code stays."""
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        opening = line[: len(line) - len(line.lstrip("`"))]
        if fence:
            fence = "" if line == fence else fence
        elif len(opening) >= 3:
            fence = opening
        if fence or line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip("\n") + "\n"
