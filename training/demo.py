"""Pretrain one small model of each family on text that is on every machine, and show what they learnt.

    trivium demo --output_dir out/demo
    trivium demo --output_dir out/demo --cards model_cards/demo     # keeps the cards of the three

Trains an encoder, a decoder and an encoder-decoder by the recipes `*-tiny`, loads the three checkpoints in a new
process through the Auto classes, and prints a table. Takes a few minutes on two cores.
"""

import dataclasses
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import transformers

from ..configuration.errors import InputError
from ..model_cards.demonstration import ANSWERED, copy_cards
from .arguments import PretrainArguments, PretrainTrainingArguments, parse
from .pretrain import FAMILIES, pretrain
from .verbs import run

COLUMNS = {
    "family": "family",
    "parameters": "parameters",
    "tokens": "tokens read",
    "tokens_per_second": "tokens/s",
    "held_out_bits_per_byte_before": "before",
    "held_out_bits_per_byte_after": "after",
    "held_out_bits_per_byte_unigram": "unigram",
}
NOTE = (
    "before, after: held-out bits per predicted byte; unigram: the same by the frequencies of the tokens alone. The "
    "three families predict different positions from different context (the decoder every token from those before it, "
    "the encoder 30% of the tokens from both sides, the encoder-decoder as many in spans): compare along a row, "
    "never down a column."
)


@dataclasses.dataclass
class DemoArguments:
    """Where the demonstration goes, and how long it trains."""

    output_dir: str = dataclasses.field(default="out/demo", metadata={"help": "folder for checkpoints and results"})
    cards: str | None = dataclasses.field(default=None, metadata={"help": "folder to copy the three model cards to"})
    max_steps: int | None = dataclasses.field(default=None, metadata={"help": "steps instead of the recipes'"})


def main(argv: list[str] | None = None) -> int:
    """`trivium demo`: returns 0."""
    (args,) = parse(
        sys.argv[1:] if argv is None else argv,
        (DemoArguments,),
        prog="trivium demo",
        description=(__doc__ or "").partition("\n")[0],
    )
    started = time.perf_counter()
    transformers.logging.set_verbosity_error()
    folder = Path(args.output_dir)
    rows = []
    for number, family in enumerate(FAMILIES, 1):
        print(f"\n[{number}/3] Pretraining a small {family} on Python's own documentation ...", flush=True)
        rows.append({"family": family, **train(family, folder / family, args.max_steps)})
    print("\nLoading the three checkpoints in a new process ...", flush=True)
    samples = show(folder)
    table = markdown(rows, samples)
    seconds = time.perf_counter() - started
    (folder / "results.md").write_text(table + "\n", encoding="utf-8")
    results = {"families": rows, "samples": samples, "seconds": round(seconds, 1)}
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if args.cards is not None:
        copy_cards(folder, Path(args.cards), FAMILIES)
    print(f"\n{table}\n\n{seconds / 60:.1f} minutes in all. The checkpoints and this table are in {folder}.")
    return 0


def train(family: str, folder: Path, max_steps: int | None) -> dict[str, Any]:
    """Pretrains one family by its tiny recipe; returns what was measured."""
    argv = ["--config", f"{family}-tiny", "--output_dir", str(folder), "--save_strategy", "no"]
    argv += ["--fresh", "true"]  # whatever an earlier demonstration left
    argv += ["--logging_steps", "10"]  # enough for the curves of the card
    if max_steps is not None:
        argv += ["--max_steps", str(max_steps)]
    args, training_args = parse(argv, (PretrainArguments, PretrainTrainingArguments))
    datasets.disable_progress_bars()
    training_args.card = str(ANSWERED)
    return pretrain(args, training_args, shlex.join(["trivium", "pretrain", *argv])).metrics


def show(folder: Path) -> dict[str, str]:
    """Runs [`showcase`](showcase.py) on the checkpoints; raises `InputError` if they do not load there."""
    command = [sys.executable, "-m", f"{__package__}.showcase", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"the checkpoints in {folder} do not load in a new process:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def markdown(rows: list[dict[str, Any]], samples: dict[str, str]) -> str:
    """The table, what its columns mean, and the samples."""
    shown = [list(COLUMNS.values()), *([_cell(row[key]) for key in COLUMNS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    shown.insert(1, ["-" * width for width in widths])
    lines = ["| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in shown]
    return "\n".join([*lines, "", NOTE, "", *(f"- {family}: {sample}" for family, sample in samples.items())])


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    raise SystemExit(run(main))
