"""The memory that training takes, beside the stock models and plain torch, with a small and with a usual vocabulary.

    python -m benchmarks.memory --write docs/performance.md        # prints, and writes the table

Each number is from a process of its own: what a few steps on the first batches of `benchmarks.training` add to the peak
of an interpreter with torch and transformers loaded; on a GPU, the most that torch had allocated there.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from itertools import product
from pathlib import Path

import torch

from . import report
from .contenders import FAMILIES, OURS, SHAPES, build, stock
from .data import TEXTS, Batch, Corpus
from .training import VOCABULARY, Case, Way, make_step, ways

COLUMNS = ["family", "vocabulary", "text", "precision", "model", "fed", "MB", "ours to it"]


def measure(case: Case, way: Way, vocabulary: int, batches: list[Batch], folder: Path) -> float:
    """Megabytes that a way adds, measured in a process of its own."""
    file = folder / "batches.pt"
    torch.save(batches, file)
    command = [sys.executable, "-m", __spec__.name, "--measure", json.dumps([asdict(case), way, vocabulary]), str(file)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent.parent)
    return float(ran.stdout.split()[-1])


def print_peak(case: Case, way: Way, vocabulary: int, file: str) -> None:
    """What the process started by [`measure`] does."""
    batches = torch.load(file, weights_only=True)
    before = report.peak_resident()
    shape = dataclasses.replace(SHAPES[case.size], vocabulary=vocabulary)
    step = make_step(build(way.model, case.family, shape, case.length).to(case.device), case, way.mode)
    for batch in batches:
        step({key: value.to(case.device) for key, value in batch.items()})
    peak = torch.cuda.max_memory_allocated() / 2**20 if case.device == "cuda" else report.peak_resident() - before
    print(f"{peak:.1f}")


def rows_of(entry: dict) -> list[list[str]]:
    """The lines of one case: every way, with what ours takes of that; the stock model that takes least is marked."""
    case, found = Case(**entry["case"]), entry["megabytes"]
    ours = next(value for (model, *_), value in found if model == OURS)
    least = min(value for (model, *_), value in found if model in stock(case.family))
    rows = []
    for (model, fed, _), value in found:
        share = f"**{ours / value:.2f}**" if value == least else f"{ours / value:.2f}"
        vocabulary = f"{entry['vocabulary']:,}"
        rows.append([case.family, vocabulary, case.text, case.dtype, model, fed, f"{value:,.0f}", share])
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    parser = report.option_parser(__doc__, "memory on DEVICE", repetitions=3)
    parser.add_argument("--size", choices=SHAPES, default="5m")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--text", nargs="+", choices=TEXTS, default=["docstrings", "full rows"])
    parser.add_argument("--vocabulary", nargs="+", type=int, default=[8192, 50_304])
    parser.add_argument("--dtype", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rows", type=int, default=8, help="documents or rows of a batch")
    parser.add_argument("--length", type=int, default=512, help="tokens of a row, and the longest document")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        case, way, vocabulary = json.loads(options.measure[0])
        print_peak(Case(**case), Way(*way), vocabulary, options.measure[1])
        return
    if options.quick:
        options.size, options.rows, options.length, options.vocabulary, options.dtype = "toy", 2, 64, [512], ["fp32"]
    where, entries = report.machine(options.device), []
    with tempfile.TemporaryDirectory() as folder:
        for family, text in product(options.family, options.text):
            corpus = Corpus(family, text, 512 if options.quick else VOCABULARY, 40 if options.quick else None)
            layouts, _ = corpus.batches(options.rows, options.length, options.repetitions)
            for vocabulary, dtype in product(options.vocabulary, options.dtype):
                case = Case(options.size, family, text, dtype, options.device, options.length)
                kinds = [way for way in ways(family, text, ["eager"]) if way.fed != "grouped"]
                found = [(way, measure(case, way, vocabulary, layouts[way.fed], Path(folder))) for way in kinds]
                entries.append({"case": asdict(case), "vocabulary": vocabulary, "megabytes": found})
                print(*rows_of(entries[-1]), sep="\n", file=sys.stderr, flush=True)
    form = (
        f"Shape {options.size}; {options.repetitions} steps on {options.rows} documents or rows of at most "
        f"{options.length} tokens. Bold: against the stock model that takes least."
    )
    table = report.table(COLUMNS, [row for entry in entries for row in rows_of(entry)])
    section = f"memory on {options.device}"
    text = f"{report.describe(where)}\n\n{form}\n\n{table}"
    report.publish(options, section.replace(" on ", "-"), section, {"machine": where, "entries": entries}, text)


if __name__ == "__main__":
    main()
