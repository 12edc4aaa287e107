"""Real text that every Python carries: its language reference and the docstrings of its standard library.

Both are part of CPython and under the PSF licence (https://docs.python.org/3/license.html), which allows training on
them and passing the result on. About 2 MB of technical English with code in between: enough for a demonstration that
needs no network, too little for a model of any use.
"""

import ast
import inspect
import re
import sysconfig
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

from ...configuration.errors import InputError

# Test suites, IDLE and lib2to3 are for Python's own developers; what is installed beside the library is not its text.
SKIPPED_FOLDERS = frozenset("__pycache__ _bundled idlelib lib2to3 site-packages test tests turtledemo".split())
MIN_DOCUMENT_CHARACTERS = 200
# Paragraphs at least this long occur once in the corpus: topics quote each other, and what is held out must be unseen.
MIN_UNIQUE_CHARACTERS = 60
# A line at least this long ended because the page did, so the next one goes on with its sentence.
MIN_WRAPPED_CHARACTERS = 50
# What begins a line of its own all the same: items of lists, rules, tables, directives.
NEW_LINE = re.compile(r"[-*+] |[-*=~^]{4}|[|.#@]|\w{1,2}[.)] ")


def python_docs() -> Iterator[dict[str, str]]:
    """Yields the documents `{"name", "text"}` of the embedded corpus, in the same order every time.

    A document is one topic of the language reference (`help("for")`), or all docstrings of one module in the order of
    its source, each headed by the name of what it describes.

    Raises:
        InputError: this Python was installed without either (some distributions strip it).
    """
    seen: set[str] = set()
    count = 0
    for name, sections in chain(_topics(), _modules()):
        unseen = ((heading, _without_repeats(body, seen)) for heading, body in sections)
        text = "\n\n".join(heading + body for heading, body in unseen if body)
        if len(text) >= MIN_DOCUMENT_CHARACTERS:
            count += 1
            yield {"name": name, "text": text}
    if not count:
        raise InputError("this Python carries neither pydoc topics nor docstrings: give --data a file of your own.")


def _topics() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    # Long topics quote short ones ("compound" has all of "for"), so the short ones come first and stay whole.
    for name in sorted(topics, key=lambda name: (len(topics[name]), name)):
        yield f"help({name!r})", [("", topics[name].strip())]


def _modules() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if SKIPPED_FOLDERS.isdisjoint(parts):
            module = ".".join(parts).removesuffix(".__init__")
            yield module, [(f"{name or module}\n\n", text) for name, text in _docstrings(path)]


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yields `(qualified name, docstring)` of one source file, which is parsed but never run; "" names the module."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):  # a template, another Python's file, an unreadable one: no text for us
        return
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        name, node = stack.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text and text.strip():
                yield name, inspect.cleandoc(text).strip()
            members = [child for child in node.body if hasattr(child, "name")]
            stack.extend((f"{name}.{child.name}".lstrip("."), child) for child in reversed(members))


def _without_repeats(text: str, seen: set[str]) -> str:
    """`text` without the longer paragraphs that are in `seen` already; adds those that it keeps."""
    kept = []
    for paragraph in re.split(r"\n\s*\n", text):
        key = " ".join(paragraph.split())
        if len(key) >= MIN_UNIQUE_CHARACTERS:
            if key in seen:
                continue
            seen.add(key)
        kept.append(_unwrap(paragraph.rstrip()))
    return "\n\n".join(kept)


def _unwrap(paragraph: str) -> str:
    """`paragraph` without the line breaks that only fit it to a page, unless it is a session of the interpreter."""
    if ">>>" in paragraph:
        return paragraph
    lines = paragraph.split("\n")
    text = lines[0]
    for before, line in pairwise(lines):
        start = line.lstrip()
        goes_on = len(before) >= MIN_WRAPPED_CHARACTERS and not NEW_LINE.match(start)
        alike = len(line) - len(start) == len(before) - len(before.lstrip())
        text += f" {start}" if goes_on and alike else f"\n{line}"
    return text
