"""The loss of a language model from hidden states, four ways: which is fast, and which is small.

    python -m benchmarks.linear_cross_entropy --write docs/performance.md

One repetition is the loss of N tokens over V words at hidden size D with the gradients of states and weights. The ways
take turns in one process; memory is what each adds to the peak of a process of its own.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from trivium.modeling.losses import LinearCrossEntropy, chunk_rows

from . import report

SHAPES = {"1024 x 8192": (1024, 8192, 256), "4096 x 32768": (4096, 32_768, 512), "2048 x 50304": (2048, 50_304, 768)}
QUICK = {"64 x 512": (64, 512, 16)}


def logits(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """All logits at once, as stock models do."""
    return F.cross_entropy(F.linear(hidden, weight).float(), labels)


def checkpointed(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Chunks whose logits are computed again in the backward pass."""
    rows = chunk_rows(len(weight))
    pieces = zip(hidden.split(rows), labels.split(rows), strict=True)
    losses = [checkpoint(logits, h, weight, t, use_reentrant=False) * len(t) for h, t in pieces]
    return torch.stack(losses).sum() / len(labels)


def ours(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Chunks whose gradients are computed with the loss."""
    items = torch.tensor(len(labels))
    return LinearCrossEntropy.apply(hidden, weight, None, labels, items, 1.0, None, chunk_rows(len(weight)))


def torchs(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Torch's own chunks, with its default options."""
    if torch.is_autocast_enabled("cpu"):  # it is not on autocast's list
        hidden, weight = hidden.bfloat16(), weight.bfloat16()
    return F.linear_cross_entropy(hidden, weight, labels, options=torch.nn.LinearCrossEntropyOptions())


WAYS = {"logits": logits, "torch's `linear_cross_entropy`": torchs, "checkpointed chunks": checkpointed, "ours": ours}
if not hasattr(F, "linear_cross_entropy"):
    del WAYS["torch's `linear_cross_entropy`"]


def make_step(shape: tuple[int, int, int], dtype: str, way: str) -> Callable[[], None]:
    """One repetition as a function."""
    tokens, words, width = shape
    torch.manual_seed(0)
    hidden = torch.randn(tokens, width, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(words, width) / width**0.5)
    labels = torch.randint(words, (tokens,))

    def step() -> None:
        hidden.grad = weight.grad = None
        with torch.autocast("cpu", torch.bfloat16) if dtype == "bf16" else nullcontext():
            loss = WAYS[way](hidden, weight, labels)
        loss.backward()

    return step


def measure_seconds(shape: tuple[int, int, int], dtype: str, repetitions: int) -> dict[str, list[float]]:
    """Seconds of every repetition of each way, which take turns; one of each before goes uncounted."""
    steps = {way: make_step(shape, dtype, way) for way in WAYS}
    return report.take_turns(steps, repetitions)


def measure_memory(shape: tuple[int, int, int], dtype: str, way: str) -> float:
    """Megabytes that a way adds, measured in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--memory_of", json.dumps(shape), dtype, way]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent.parent)
    return float(ran.stdout.split()[-1])


def print_memory(shape: tuple[int, int, int], dtype: str, way: str) -> None:
    """What the process started by `measure_memory` does."""
    before = report.peak_resident()
    make_step(shape, dtype, way)()
    print(f"{report.peak_resident() - before:.1f}")


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    parser = report.option_parser(__doc__, "loss on cpu", repetitions=7)
    parser.add_argument("--memory_of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory_of:
        shape, dtype, way = options.memory_of
        print_memory(json.loads(shape), dtype, way)
        return
    where, entries, rows = report.machine(), [], []
    for (name, shape), dtype in [
        (item, dtype) for item in (QUICK if options.quick else SHAPES).items() for dtype in ("fp32", "bf16")
    ]:
        seconds = measure_seconds(shape, dtype, options.repetitions)
        for way, taken in seconds.items():
            entry = {
                "shape": name,
                "dtype": dtype,
                "way": way,
                "seconds": taken,
                "mb": measure_memory(shape, dtype, way),
            }
            entries.append(entry)
            relative = median(a / b for a, b in zip(taken, seconds["logits"], strict=True))
            spread = f"{median(taken):.3f} ({min(taken):.3f}-{max(taken):.3f})"
            rows.append([way, name, str(shape[2]), dtype, spread, f"{relative:.2f}", f"{entry['mb']:,.0f}"])
    columns = ["way", "tokens x words", "width", "precision", "seconds (range)", "to logits", "MB"]
    text = f"{report.describe(where)}\n\n{report.table(columns, rows)}"
    results = {"machine": where, "entries": entries}
    report.publish(options, "linear-cross-entropy", "loss on cpu", results, text)


if __name__ == "__main__":
    main()
