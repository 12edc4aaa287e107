"""The `trivium` command: each verb is a module with a `main(argv)`."""

import ast
import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from . import __version__
from .configuration.errors import InputError
from .training.verbs import BAD_INPUT, run

VERBS = {
    "architectures": "trivium.architectures",
    "card": "trivium.card",
    "compare": "trivium.training.compare",
    "consolidate": "trivium.training.consolidate",
    "convert": "trivium.convert",
    "demo": "trivium.training.demo",
    "evaluate": "trivium.training.evaluate",
    "fetch": "trivium.training.fetch",
    "finetune": "trivium.training.finetune",
    "ladder": "trivium.training.ladder",
    "predict": "trivium.training.predict",
    "pretrain": "trivium.training.pretrain",
    "push": "trivium.push",
    "tokenizer": "trivium.training.tokenizer",
}


def main(argv: list[str] | None = None) -> int:
    """Run `trivium VERB [arguments]`.

    Args:
        argv: the arguments after the command's name; `None` = those of the process.

    Returns:
        The exit code: 0, 2 for bad input, 130 for an interrupt, or what the verb returned.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        print(usage(), file=sys.stderr)
        return BAD_INPUT
    if arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(f"trivium {__version__}")
        return 0
    return run(_dispatch, arguments)


def usage() -> str:
    """The verbs with one line each, and an example."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {summary(verb)}" for verb in VERBS]
    return "\n".join(
        [
            "usage: trivium VERB [arguments]",
            "",
            *lines,
            "",
            "trivium VERB --help says what a verb takes. For example:",
            "  trivium pretrain --config encoder-tiny --output_dir out/encoder",
        ]
    )


def summary(verb: str) -> str:
    """The first line of a verb's docstring, read from its source: importing every verb would take seconds."""
    spec = find_spec(VERBS[verb])
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the verb {verb} has no module", name=VERBS[verb])
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def _dispatch(arguments: list[str]) -> int | None:
    verb, *rest = arguments
    if verb not in VERBS:
        nearest = get_close_matches(verb, VERBS, n=1)
        way_out = f"did you mean {nearest[0]!r}?" if nearest else f"choose one of {', '.join(VERBS)}."
        raise InputError(f"there is no verb {verb!r}; {way_out}")
    code: int | None = import_module(VERBS[verb]).main(rest)
    return code
