"""Attention with capped scores: written out (eager), and in blocks whose probabilities are computed again.

    python -m benchmarks.softcap --write docs/performance.md

One repetition is the forward and backward pass of one layer's attention, causal, over padded rows (a boolean mask) or
over full ones (none); `sdpa` is torch's kernel, which leaves the cap out, for comparison. The ways take turns in one
process; memory is what each adds to the peak of a process of its own.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from torch.nn import functional as F

from trivium.modeling.attention import eager_attention_forward
from trivium.modeling.softcap import capped_attention

from . import report

# Rows, heads, tokens and head width.
SHAPES = {"128": (2, 8, 128, 64), "512": (2, 8, 512, 64), "2048": (2, 8, 2048, 64)}
QUICK = {"16": (1, 2, 16, 4)}
CAP = 50.0
MODULE = SimpleNamespace(num_key_value_groups=1, training=True)


def eager(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """As the paper writes it, all probabilities at once."""
    visible = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril() if mask is None else mask
    added = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(query.dtype).min)
    scaling = query.shape[-1] ** -0.5
    return eager_attention_forward(MODULE, query, key, value, added, scaling, softcap=CAP)[0].transpose(1, 2)


def blocks(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Ours."""
    return capped_attention(query, key, value, mask, query.shape[-1] ** -0.5, CAP, causal=mask is None)


def uncapped(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Torch's kernel, without the cap."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)


WAYS = {"eager": eager, "blocks": blocks, "sdpa, no cap": uncapped}


def make_step(shape: tuple[int, int, int, int], padded: bool, way: str) -> Callable[[], None]:
    """One repetition as a function."""
    torch.manual_seed(0)
    rows, _, length, _ = shape
    leaves = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    cotangent, mask = torch.randn(shape), None
    if padded:
        real = torch.arange(length) < torch.linspace(length / 2, length, rows).long()[:, None, None, None]
        mask = real & torch.ones(length, length, dtype=torch.bool).tril()

    def step() -> None:
        torch.autograd.grad(WAYS[way](*leaves, mask), leaves, cotangent)

    return step


def measure_seconds(shape: tuple[int, int, int, int], padded: bool, repetitions: int) -> dict[str, list[float]]:
    """Seconds of every repetition of each way, which take turns; one of each before goes uncounted."""
    steps = {way: make_step(shape, padded, way) for way in WAYS}
    return report.take_turns(steps, repetitions)


def measure_memory(shape: tuple[int, int, int, int], padded: bool, way: str) -> float:
    """Megabytes that a way adds, measured in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--memory_of", json.dumps(shape), json.dumps(padded), way]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent.parent)
    return float(ran.stdout.split()[-1])


def print_memory(shape: tuple[int, int, int, int], padded: bool, way: str) -> None:
    """What the process started by `measure_memory` does."""
    make_step((1, 1, 8, shape[-1]), padded, way)()  # what torch loads at first use is not the layer's
    step, before = make_step(shape, padded, way), report.peak_resident()
    step()
    print(f"{report.peak_resident() - before:.1f}")


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    parser = report.option_parser(__doc__, "softcap on cpu", repetitions=7)
    parser.add_argument("--memory_of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory_of:
        shape, padded, way = options.memory_of
        print_memory(json.loads(shape), json.loads(padded), way)
        return
    where, entries, rows = report.machine(), [], []
    shapes = QUICK if options.quick else SHAPES
    for (name, shape), padded in [(item, padded) for item in shapes.items() for padded in (True, False)]:
        seconds = measure_seconds(shape, padded, options.repetitions)
        for way, taken in seconds.items():
            megabytes = measure_memory(shape, padded, way)
            entries.append({"tokens": name, "padded": padded, "way": way, "seconds": taken, "mb": megabytes})
            ratio = median(a / b for a, b in zip(taken, seconds["eager"], strict=True))
            spread = f"{1e3 * median(taken):.1f} ({1e3 * min(taken):.1f}-{1e3 * max(taken):.1f})"
            rows.append([way, name, "padded" if padded else "full", spread, f"{ratio:.2f}", f"{megabytes:,.0f}"])
    columns = ["way", "tokens", "rows", "milliseconds (range)", "to eager", "MB"]
    text = f"{report.describe(where)}\n\n{report.table(columns, rows)}"
    report.publish(options, "softcap", "softcap on cpu", {"machine": where, "entries": entries}, text)


if __name__ == "__main__":
    main()
