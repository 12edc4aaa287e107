"""Training speed of the three families beside the stock models of the same shape, and plain torch.

    python -m benchmarks.training                                  # on the CPU
    python -m benchmarks.training --size 30m --dtype bf16          # a larger model, under autocast
    python -m benchmarks.training --quick                          # a toy run
    python -m benchmarks.training --device cuda --size 125m        # on a GPU

A step is a forward pass, backward pass and optimizer step on one batch; a repetition is a pass over some batches, which
hold the same documents for everyone. All ways live in one process and take turns, so that whatever else the machine
does hits all. Counted are real tokens. Compared is with our faster way, eager or compiled.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import nn

from . import report
from .contenders import CONTENDERS, FAMILIES, FLATTENED, OURS, PLAIN, SHAPES, build, stock
from .data import TEXTS, Batch, Corpus

VOCABULARY = 8192  # of the tokenizer; a larger model vocabulary has rows that the corpus does not use
COLUMNS = ["family", "text", "precision", "model", "fed", "mode", "tokens/s", "to ours (range)"]
SUMMARY = [
    "family",
    "text",
    "precision",
    "against",
    "its fastest",
    "tokens/s",
    "ours, tokens/s",
    "times as fast (range)",
]


@dataclass(frozen=True)
class Case:
    """What all ways have in common."""

    size: str
    family: str
    text: str
    dtype: str
    device: str
    length: int


class Way(NamedTuple):
    """A model, how documents are given to it, and whether it is compiled."""

    model: str
    fed: str
    mode: str


def ways(family: str, text: str, modes: list[str]) -> list[Way]:
    """All that are measured: every model as it is used, and in every better way that it has."""
    found = []
    for model, mode in product(CONTENDERS[family], modes):
        if text == "full rows":
            found.append(Way(model, "full", mode))
            continue
        found += [Way(model, "padded", mode)] if mode == "eager" else []
        found.append(Way(model, "grouped", mode))
        found += [Way(model, "flattened", mode)] if model in FLATTENED else []
    return found


def make_step(model: nn.Module, case: Case, mode: str) -> Callable[[Batch], None]:
    """One training step of a model as a function of a batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model) if mode == "compiled" else model
    narrow = case.dtype == "bf16"

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(case.device, torch.bfloat16) if narrow else nullcontext():
            loss = forward(**batch).loss
        loss.backward()
        optimizer.step()
        if case.device == "cuda":
            torch.cuda.synchronize()

    return step


def make_model(case: Case, name: str) -> nn.Module:
    """A contender on its device, the same every time."""
    torch.manual_seed(0)
    return build(name, case.family, SHAPES[case.size], case.length).to(case.device)


def measure(case: Case, layouts: dict[str, list[Batch]], modes: list[str], tokens: int, repetitions: int) -> list[dict]:
    """Tokens per second of all ways, who take turns; the last is first every other time."""
    report.forget_compiled()
    gc.collect()
    models = {name: make_model(case, name) for name in CONTENDERS[case.family]}
    entries, passes = [], []
    for way in ways(case.family, case.text, modes):
        step, batches = make_step(models[way.model], case, way.mode), layouts[way.fed]
        passes.append(lambda step=step, batches=batches: [step(batch) for batch in batches])
        started = time.perf_counter()
        passes[-1]()  # shapes that vary make the compiler work more than once
        parameters = sum(p.numel() for p in models[way.model].parameters())
        entry: dict[str, Any] = {"way": way._asdict(), "parameters": parameters, "tokens_per_second": []}
        entries.append(entry | {"warm_up_seconds": time.perf_counter() - started})
    for repetition in range(repetitions):
        for number in sorted(range(len(passes)), reverse=repetition % 2 == 1):
            started = time.perf_counter()
            passes[number]()
            entries[number]["tokens_per_second"].append(tokens / (time.perf_counter() - started))
    return entries


def fastest(entries: list[dict]) -> dict:
    """That of the greatest median."""
    return max(entries, key=lambda entry: median(entry["tokens_per_second"]))


def compare(ours: dict, other: dict) -> str:
    """How many times as fast ours is: the median of neighbours with its range."""
    ratios = [a / b for a, b in zip(ours["tokens_per_second"], other["tokens_per_second"], strict=True)]
    return f"**{median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f})"


def rows_of(measured: dict) -> list[list[str]]:
    """The lines of one case in the long table."""
    case, entries = Case(**measured["case"]), measured["ways"]
    best = fastest([entry for entry in entries if entry["way"]["model"] == OURS])
    rows = []
    for entry in entries:
        way = Way(**entry["way"])
        shares = compare(entry, best).replace("**", "")
        speed = f"{median(entry['tokens_per_second']):,.0f}"
        rows.append([case.family, case.text, case.dtype, *way, speed, shares])
    return rows


def summary_of(measured: dict) -> list[list[str]]:
    """How ours compares with the fastest stock model as it is used, at its best, and with plain torch."""
    case, entries = Case(**measured["case"]), measured["ways"]
    mine = [entry for entry in entries if entry["way"]["model"] == OURS]
    others = [entry for entry in entries if entry["way"]["model"] in stock(case.family)]
    plain = [entry for entry in entries if entry["way"]["model"] == PLAIN]
    pairs: list[tuple[str, list[dict], list[dict]]] = []
    if case.text == "full rows":
        for mode in dict.fromkeys(entry["way"]["mode"] for entry in entries):
            sides = ([entry for entry in side if entry["way"]["mode"] == mode] for side in (mine, others))
            pairs.append((f"stock, both {mode}", *sides))
    else:
        pairs.append(("stock as it is used", mine, [entry for entry in others if entry["way"]["fed"] == "padded"]))
        pairs.append(("stock at its best", mine, others))
    pairs.append(("plain torch at its best", mine, plain))
    rows = []
    for against, side, rivals in pairs:
        ours, rival = fastest(side), fastest(rivals)
        speeds = [f"{median(entry['tokens_per_second']):,.0f}" for entry in (rival, ours)]
        named = ", ".join(Way(**rival["way"]))
        rows.append([case.family, case.text, case.dtype, against, named, *speeds, compare(ours, rival)])
    return rows


def as_markdown(results: dict) -> str:
    """What was measured on, and for each size who wins by how much, and all ways."""
    lines = [report.describe(results["machine"]), "", results["batch"]]
    for size in dict.fromkeys(one["case"]["size"] for one in results["cases"]):
        cases = [one for one in results["cases"] if one["case"]["size"] == size]
        sizes = {
            f"{one['case']['family']} {entry['way']['model']} {entry['parameters'] / 1e6:.1f}": None
            for one in cases
            for entry in one["ways"]
        }
        lines += ["", f"### {size}", "", f"Parameters in millions: {', '.join(sizes)}.", ""]
        lines += [report.table(SUMMARY, [row for one in cases for row in summary_of(one)]), ""]
        lines += [report.folded("All ways", report.table(COLUMNS, [row for one in cases for row in rows_of(one)]))]
    return "\n".join(lines)


def draw(results: dict, path: Path) -> None:
    """How many times as fast ours is, a bar for each line of the summaries."""
    import matplotlib
    from matplotlib.figure import Figure

    from trivium.training.compare import STYLE

    rows = [[one["case"]["size"], *row] for one in results["cases"] for row in summary_of(one)]
    ratios = [float(row[-1].split("**")[1]) for row in rows]
    names = [f"{size} {family}, {text}, {dtype}: {against}" for size, family, text, dtype, against, *_ in rows]
    colours = {against: f"C{number}" for number, against in enumerate(dict.fromkeys(row[4] for row in rows))}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 1 + 0.22 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(rows)), ratios, color=[colours[row[4]] for row in rows])
        axes.axvline(1, color="black", linewidth=1)
        axes.set_yticks(range(len(rows)), names, fontsize=7)
        axes.invert_yaxis()
        axes.set_xlabel("times as fast as the fastest of the others")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=130)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, with what depends on the device and on `--quick` filled in."""
    parser = report.option_parser(__doc__, "training on DEVICE", repetitions=5)
    parser.add_argument("--size", nargs="+", choices=SHAPES, help="5m; on a GPU 125m")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--text", nargs="+", choices=TEXTS, default=TEXTS)
    parser.add_argument("--dtype", nargs="+", choices=["fp32", "bf16"], help="both; on a GPU bf16, which is autocast")
    parser.add_argument("--mode", nargs="+", choices=["eager", "compiled"], default=["eager", "compiled"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rows", type=int, help="documents or rows of a batch")
    parser.add_argument("--batches", type=int, help="batches of a pass; with one, grouping changes nothing")
    parser.add_argument("--length", type=int, help="tokens of a row, and the longest document")
    options = parser.parse_args(arguments)
    usual = {"size": ["5m"], "dtype": ["fp32", "bf16"], "rows": 16, "length": 512, "batches": 4}
    if options.quick:
        usual |= {"size": ["toy"], "dtype": ["fp32"], "rows": 2, "length": 64, "batches": 2}
        options.mode = ["eager"]
    elif options.device == "cuda":
        usual |= {"size": ["125m"], "dtype": ["bf16"], "rows": 32, "length": 1024}
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def run(options: argparse.Namespace) -> dict:
    """Measures every case; returns everything that was seen."""
    batch = f"{options.batches} batches of {options.rows} documents or rows of at most {options.length} tokens"
    where, cases, filled = report.machine(options.device), [], {}
    for family, text in product(options.family, options.text):
        corpus = Corpus(family, text, 512 if options.quick else VOCABULARY, 40 if options.quick else None)
        layouts, tokens = corpus.batches(options.rows, options.length, options.batches)
        for fed, batches in layouts.items():
            if "attention_mask" in batches[0]:
                areas = [one["attention_mask"].float() for one in batches]
                share = sum(area.sum().item() for area in areas) / sum(area.numel() for area in areas)
                filled.setdefault((text, fed), []).append(share)
        moved = {fed: [_to(batch, options.device) for batch in batches] for fed, batches in layouts.items()}
        for size, dtype in product(options.size, options.dtype):
            case = Case(size, family, text, dtype, options.device, options.length)
            found = measure(case, moved, options.mode, tokens, options.repetitions)
            cases.append({"case": asdict(case), "tokens": tokens, "ways": found})
            for row in summary_of(cases[-1]):
                print(size, *row, sep="; ", file=sys.stderr, flush=True)
    shares = [f"{sum(v) / len(v):.0%} of {text}, {fed}" for (text, fed), v in filled.items()]
    tail = f"; real tokens are {', '.join(shares)}" if shares else ""
    return {
        "machine": where,
        "batch": f"{batch}{tail}; {options.repetitions} repetitions after the warm-up.",
        "cases": cases,
    }


def _to(batch: Batch, device: str) -> Batch:
    return {key: value.to(device) for key, value in batch.items()}


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the tables and saves the results."""
    options = parse(arguments)
    results, usual = run(options), (f"training-{options.device}", f"training on {options.device}")
    text, (name, _) = as_markdown(results), report.place(options, *usual)
    if options.write:
        draw(results, options.write.parent / "performance" / f"{name}.png")
        text += f"\n\n![How many times as fast](performance/{name}.png)"
    report.publish(options, *usual, results, text)


if __name__ == "__main__":
    main()
