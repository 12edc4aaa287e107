"""Strings of others in Markdown: shown as what they are, whatever they hold.

A card repeats names of data sets, settings, commands and answers. None of them may become a link, a tag, a row of a
table, a comment that hides what follows or a second block of metadata, and none may show a secret.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from .vocabulary import HUB_NAME

REMOVED = "REDACTED"
# Tokens of the Hub and of others; what an option or a variable named like a secret is set to; a password in an address.
_SECRETS = (
    (re.compile(r"\b(?:hf|api_org|gh[opsu]|github_pat)_[A-Za-z0-9]{8,}|\b(?:sk|glpat)-[\w-]{20,}"), REMOVED),
    (
        re.compile(r"(?i)(--[\w-]*(?:token|password|secret|api[_-]?key)['\"]?(?:\s*[=,]\s*|\s+))[^\s,]+"),
        rf"\1{REMOVED}",
    ),
    (re.compile(r"(?i)(\b\w*(?:token|password|secret|api_?key)=)[^\s&]+"), rf"\1{REMOVED}"),
    (re.compile(r"(\w://)[^\s/@]+@"), rf"\1{REMOVED}@"),
)
# Categories of characters that are not seen but change what is: controls, the order of letters, lines, private ones.
_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
_SEEN = "\n\u200c\u200d"  # joiners are part of the spelling of Persian and of Indian scripts
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")
_BLOCK = re.compile(r"^([#+=-]|\d+(?=[.)]))")  # what makes a line a heading, a rule, a list
_BULLET = re.compile(r"[-*] +(?=\S)")


class Markdown(str):
    """Text that is Markdown already and is not to be escaped once more."""


def redact(text: str) -> str:
    """The text without the secrets that can be told by their form."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def visible(value: object) -> str:
    """The text without secrets, with its code in place of every character that would not be seen."""
    text = redact(str(value).replace("\r\n", "\n").replace("\t", " "))
    return "".join(
        char if char in _SEEN or unicodedata.category(char) not in _UNSEEN else _code_of(char) for char in text
    )


def line(value: object) -> str:
    """[`visible`] in one line."""
    return " ".join(visible(value).split())


def escape(value: object) -> Markdown:
    """Markdown that shows a text as it is, in one line; what is Markdown already stays."""
    return value if isinstance(value, Markdown) else Markdown(_SPECIAL.sub(r"\\\g<0>", line(value)))


def code(value: object) -> Markdown:
    """The text as code within a line."""
    text = line(value)
    if not text or "|" in text:  # which code could not hold in every table
        return escape(text)
    fence = "`" * (_longest_run(text) + 1)
    space = " " if "`" in (text[0], text[-1]) else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def link(name: object) -> Markdown:
    """A name on the Hub as a link to its page, any other as code."""
    text = str(name)
    return Markdown(f"[{escape(text)}](https://huggingface.co/{text})") if HUB_NAME.fullmatch(text) else code(text)


def block(value: object, language: str = "") -> Markdown:
    """The text as a block of code, line for line."""
    text = visible(value).strip("\n")
    fence = "`" * max(3, _longest_run(text) + 1)
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def prose(value: object) -> Markdown:
    """Paragraphs and simple lists of a text of several lines; everything else in it is shown as it is."""
    return Markdown("\n".join(_prose_line(one) for one in visible(value).strip().split("\n")))


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markdown:
    """A table of cells that are escaped unless they are Markdown; a number goes with separators of thousands."""
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join("| " + " | ".join(_cell(cell) for cell in cells) + " |" for cells in lines))


def number(value: object) -> str:
    """A number as people read it; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _cell(value: object) -> str:
    return str(Markdown("---") if value == "---" else escape(value if isinstance(value, str) else number(value)))


def _prose_line(text: str) -> str:
    text = text.strip()
    bullet = _BULLET.match(text)
    body = escape(text[bullet.end() :] if bullet else text)
    return ("- " if bullet else "") + _BLOCK.sub(_escape_start, body)


def _escape_start(match: re.Match) -> str:
    start = match[0]
    return f"{start}\\" if start.isdigit() else f"\\{start}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _code_of(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
