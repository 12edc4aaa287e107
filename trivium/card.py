"""Write or refresh the model card (README.md) of a checkpoint, and say what is missing from it.

    trivium card out/decoder
    trivium card out/decoder --license apache-2.0 --language en de --intended_use "To be fine-tuned for ..."

The card is made of what training recorded beside the weights. What only you know is kept in card.yaml beside them and
never asked again; a question that is not answered stays visible as that. A README.md written by hand is left alone.
"""

import argparse
import sys
from pathlib import Path

from .configuration.errors import InputError
from .model_cards.answers import ANSWERS, QUESTIONS
from .model_cards.card import write_card
from .training.verbs import run


def main(argv: list[str] | None = None) -> int:
    """`trivium card`: returns 0; raises `InputError` for whatever the user can mend."""
    parser = argparse.ArgumentParser(
        prog="trivium card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="OUT", type=Path, help="folder of a checkpoint, or of an adapter of PEFT")
    parser.add_argument("--overwrite", action="store_true", help="replace a README.md that was written by hand")
    for name, question in QUESTIONS.items():
        text = f"{question.what}; for example {question.example}"
        parser.add_argument(f"--{name}", nargs="+" if question.many else None, metavar="ANSWER", help=text)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if not args.folder.is_dir():
        raise InputError(f"'{args.folder}' is no folder: give that of a checkpoint.")
    given = {name: value for name in QUESTIONS if (value := getattr(args, name)) is not None}
    card = write_card(args.folder, given=given, overwrite=args.overwrite)
    print(f"Wrote {card.path}.")
    if card.missing:
        print(f"Missing from it ({ANSWERS} beside it may say what only you know):")
        print("\n".join(f"- {clause}" for clause in card.missing))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
