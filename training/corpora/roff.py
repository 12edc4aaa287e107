"""The plain text of a section of a manual page, out of the macros of man(7)."""

import re
from typing import NamedTuple

# Macros that set their arguments in one font, and those that alternate between two and join them.
FONTS = frozenset("B I SM SB".split())
ALTERNATING = frozenset("BR IR RB RI BI IB".split())
# Names of characters (groff_char(7)) and what they print; a name without any prints nothing.
CHARACTERS = {
    **{name: name for name in "- \\ ' ` .".split()},
    **dict(pair.split("=") for pair in "aq=' bv=| ga=` ha=^ hy=- lB=[ lC={ mi=- rB=] rC=} ti=~ dq=\"".split()),
    **dict(bu="\u2022", co="\u00a9", em="\u2014", en="\u2013", la="\u27e8", ra="\u27e9", mu="\u00d7"),
    **dict(lq="\u201c", rq="\u201d", oq="\u2018", cq="\u2019", e="\\", rs="\\"),
    **{"<=": "\u2264", ">=": "\u2265", "!=": "\u2260", "+-": "\u00b1", "->": "\u2192", "if": "\u221e"},
    **{"~": " ", " ": " ", "0": " "},
}
# Fonts, sizes and strings have no text of their own; of characters it is the name that counts.
ESCAPE = re.compile(r"\\(?:[f*](?:\[[^]]*\]|\(..|.)|s[-+]?\d|\[(?P<long>[^]]*)\]|\((?P<two>..)|(?P<one>.))")
COMMENT = re.compile(r"""^[.']?\\".*\n|\\".*""", re.MULTILINE)
ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|((?:\\.|[^ \t\\])+)')


class Paragraph(NamedTuple):
    """A paragraph, and the tag that it stands beside, or "" for none."""

    tag: str
    text: str


def section(page: str, heading: str) -> list[Paragraph]:
    """The paragraphs of the section under `.SH heading`, none if there is no such section.

    What is indented below a tag is part of its paragraph.
    """
    page = COMMENT.sub("", page).replace("\\\n", "")
    found = re.search(rf'^\.SH "?{heading}"?[ \t]*\n(.*?)(?=^\.SH|\Z)', page, re.MULTILINE | re.DOTALL)
    return _paragraphs(found[1].splitlines()) if found else []


def _paragraphs(lines: list[str]) -> list[Paragraph]:
    tags, texts = [""], [[""]]
    depth = 0
    awaits_tag = ""  # the macro whose tag the next text is
    for macro, text in map(read_line, lines):
        if macro in ("TP", "TQ"):
            awaits_tag = macro
        elif macro in ("RS", "RE"):
            depth += 1 if macro == "RS" else -1
        elif macro in ("PP", "P", "LP", "SS") and not depth:
            tags.append("")
            texts.append([text])
        elif awaits_tag == "TQ" and text:
            tags[-1], awaits_tag = f"{tags[-1]}, {text}", ""
        elif awaits_tag == "TP" and text:
            tags.append(text)
            texts.append([])
            awaits_tag = ""
        elif macro in ("", "IP"):
            texts[-1].append(text)
    joined = [Paragraph(tag, " ".join(" ".join(text).split())) for tag, text in zip(tags, texts, strict=True)]
    return [paragraph for paragraph in joined if any(paragraph)]


def read_line(line: str) -> tuple[str, str]:
    """The macro of a line, or "" where it only sets text, and the text: of `.IP` the mark, of `.SS` the heading."""
    if not line.startswith((".", "'")):
        return "", characters(line)
    macro, _, rest = line[1:].strip().partition(" ")
    arguments = [match[2] or (match[1] or "").replace('""', '"') for match in ARGUMENT.finditer(rest)]
    if macro in ALTERNATING:
        return "", characters("".join(arguments))
    if macro in FONTS:
        return "", characters(" ".join(arguments))
    kept = {"IP": arguments[:1], "SS": arguments}.get(macro, [])
    return macro, characters(" ".join(kept))


def characters(text: str) -> str:
    """`text` with its escapes replaced by what they print."""
    return ESCAPE.sub(lambda match: CHARACTERS.get(match["long"] or match["two"] or match["one"] or "", ""), text)
