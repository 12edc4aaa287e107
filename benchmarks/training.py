"""Training speed and memory of the three families against Llama, ModernBERT and T5 of the same shape.

    python -m benchmarks.training                                  # on the CPU, about half an hour on two cores
    python -m benchmarks.training --size 30m --dtype bf16          # a larger model, under autocast
    python -m benchmarks.training --quick                          # a toy run
    python -m benchmarks.training --device cuda --size 125m        # on a GPU

A repetition is one forward pass, backward pass and optimizer step on one batch. Both contenders live in one process and
take turns on the same documents, so that whatever else the machine does hits both. Counted are real tokens. Memory is
measured in a process of its own for each contender: what training adds to the peak of an interpreter with torch and
transformers loaded.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median

import torch

from . import report
from .contenders import FAMILIES, PEERS, SHAPES, build
from .data import LAYOUTS, Corpus

CONTENDERS = ("ours", "peer")
VOCABULARY = 8192  # of the tokenizer; a larger model vocabulary has rows that the corpus does not use
MEMORY_STEPS = 3
COLUMNS = ["family (peer)", "data", "precision", "mode", "ours, tokens/s", "peer, tokens/s", "ratio (range)"]
COLUMNS += ["ours, MB", "peer, MB", "ratio"]


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    size: str
    family: str
    data: str
    dtype: str
    mode: str
    device: str
    length: int

    def describe(self) -> str:
        """For the progress line."""
        return f"{self.size} {self.family}, {self.data}, {self.dtype}, {self.mode}"


def make_step(case: Case, name: str) -> tuple[Callable[[dict], None], int]:
    """One training step of a contender as a function of a batch, and the number of its parameters."""
    torch.manual_seed(0)
    model = build(name, case.family, SHAPES[case.size], case.length).to(case.device)
    parameters = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model) if case.mode == "compiled" else model
    narrow = case.dtype == "bf16"

    def step(batch: dict) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(case.device, torch.bfloat16) if narrow else nullcontext():
            loss = forward(**batch).loss
        loss.backward()
        optimizer.step()
        if case.device == "cuda":
            torch.cuda.synchronize()

    return step, parameters


def measure_speed(case: Case, batches: list[dict], repetitions: int) -> dict:
    """Seconds and tokens per second of both contenders, who take turns; the first is first every other time."""
    torch._dynamo.reset()
    gc.collect()
    steps, result = {}, {}
    for name in CONTENDERS:
        started = time.perf_counter()
        steps[name], parameters = make_step(case, name)
        for batch in batches:  # all of them: shapes that vary make the compiler work more than once
            steps[name](batch[name])
        warm_up = time.perf_counter() - started
        result[name] = {"parameters": parameters, "warm_up_seconds": warm_up, "seconds": [], "tokens_per_second": []}
    for repetition in range(repetitions):
        batch = batches[repetition % len(batches)]
        for name in CONTENDERS if repetition % 2 == 0 else reversed(CONTENDERS):
            started = time.perf_counter()
            steps[name](batch[name])
            seconds = time.perf_counter() - started
            result[name]["seconds"].append(seconds)
            result[name]["tokens_per_second"].append(batch["tokens"] / seconds)
    ours, peer = (result[name]["tokens_per_second"] for name in CONTENDERS)
    return result | {"ratios": [a / b for a, b in zip(ours, peer, strict=True)]}


def measure_memory(case: Case, batches: list[dict], folder: Path) -> dict[str, float]:
    """Megabytes that each contender adds, measured in a process of its own."""
    file = folder / "batches.pt"
    torch.save([{name: batch[name] for name in CONTENDERS} for batch in batches[:MEMORY_STEPS]], file)
    used = {}
    for name in CONTENDERS:
        command = [sys.executable, "-m", __spec__.name, "--memory_of", name, json.dumps(asdict(case)), str(file)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent.parent)
        used[name] = float(ran.stdout.split()[-1])
    return used


def print_memory(name: str, case: Case, file: str) -> None:
    """What the process started by `measure_memory` does."""
    batches = [batch[name] for batch in torch.load(file, weights_only=True)]
    before = report.peak_resident()
    step, _ = make_step(case, name)
    for batch in batches:
        step({key: value.to(case.device) for key, value in batch.items()})
    peak = torch.cuda.max_memory_allocated() / 2**20 if case.device == "cuda" else report.peak_resident() - before
    print(f"{peak:.1f}")


def as_row(entry: dict) -> list[str]:
    """One line of the table."""
    case, speed, memory = Case(**entry["case"]), entry["speed"], entry["memory"]
    ours, peer = (median(speed[name]["tokens_per_second"]) for name in CONTENDERS)
    ratios = speed["ratios"]
    cells = [f"{case.family} ({PEERS[case.family]})", case.data, case.dtype, case.mode, f"{ours:,.0f}", f"{peer:,.0f}"]
    cells.append(f"**{median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f})")
    if not memory:
        return [*cells, "", "", ""]
    ours, peer = (memory[name] for name in CONTENDERS)
    return [*cells, f"{ours:,.0f}", f"{peer:,.0f}", f"{ours / peer:.2f}" if peer else ""]


def as_markdown(results: dict) -> str:
    """The tables, one for each size, below what they were measured on."""
    lines = [report.describe(results["machine"]), "", results["batch"]]
    for size in dict.fromkeys(entry["case"]["size"] for entry in results["entries"]):
        entries = [entry for entry in results["entries"] if entry["case"]["size"] == size]
        counts = {e["case"]["family"]: [e["speed"][name]["parameters"] / 1e6 for name in CONTENDERS] for e in entries}
        sizes = "; ".join(f"{family} {ours:.1f} against {peer:.1f}" for family, (ours, peer) in counts.items())
        lines += ["", f"### {size}", "", f"Parameters in millions: {sizes}.", ""]
        lines.append(report.table(COLUMNS, [as_row(entry) for entry in entries]))
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, with what depends on the device and on `--quick` filled in."""
    parser = report.option_parser(__doc__, "training on DEVICE", repetitions=7)
    parser.add_argument("--size", nargs="+", choices=SHAPES, help="5m; on a GPU 125m")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--data", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--dtype", nargs="+", choices=["fp32", "bf16"], help="fp32; on a GPU bf16, which is autocast")
    parser.add_argument("--mode", nargs="+", choices=["eager", "compiled"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rows", type=int, help="documents or rows of a batch")
    parser.add_argument("--length", type=int, help="tokens of a row, and the longest document")
    parser.add_argument("--no_memory", action="store_true", help="leave the memory out")
    parser.add_argument("--memory_of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    gpu = options.device == "cuda"
    usual = {"size": ["5m"], "dtype": ["fp32"], "mode": ["eager", "compiled"], "rows": 8, "length": 512}
    if options.quick:
        usual = {"size": ["toy"], "dtype": ["fp32"], "mode": ["eager"], "rows": 2, "length": 64}
    elif gpu:
        usual |= {"size": ["125m"], "dtype": ["bf16"], "rows": 32, "length": 1024}
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def run(options: argparse.Namespace) -> dict:
    """Measures every case; returns everything that was seen."""
    batch = f"{options.rows} documents or rows of at most {options.length} tokens a batch"
    where, entries, filled = report.machine(options.device), [], []
    with tempfile.TemporaryDirectory() as folder:
        for family in options.family:
            corpus = Corpus(family, 512 if options.quick else VOCABULARY, 40 if options.quick else None)
            for data, size, dtype, mode in product(options.data, options.size, options.dtype, options.mode):
                case = Case(size, family, data, dtype, mode, options.device, options.length)
                batches = corpus.batches(data, options.rows, options.length, options.repetitions)
                if data == "real lengths":
                    filled += [(batch["peer"]["attention_mask"].float().mean()).item() for batch in batches]
                print(f"{case.describe()} ...", end=" ", file=sys.stderr, flush=True)
                entry = {"case": asdict(case), "memory": None}
                moved = [_to(batch, options.device) for batch in batches]
                entry["speed"] = measure_speed(case, moved, options.repetitions)
                if not options.no_memory:
                    entry["memory"] = measure_memory(case, batches, Path(folder))
                entries.append(entry)
                print(as_row(entry)[6], file=sys.stderr, flush=True)
    if filled:
        batch += f"; padded to the longest, {sum(filled) / len(filled):.0%} of the area is real tokens"
    batch += f"; {options.repetitions} repetitions after the warm-up."
    return {"machine": where, "batch": batch, "entries": entries}


def _to(batch: dict, device: str) -> dict:
    moved = {name: {key: value.to(device) for key, value in batch[name].items()} for name in CONTENDERS}
    return batch | moved


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the tables and saves the results."""
    options = parse(arguments)
    if options.memory_of:
        name, case, file = options.memory_of
        print_memory(name, Case(**json.loads(case)), file)
        return
    results = run(options)
    where = f"training on {options.device}"
    report.publish(options, f"training-{options.device}", where, results, as_markdown(results))


if __name__ == "__main__":
    main()
