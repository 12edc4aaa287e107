"""Milliseconds of RMSNorm and its gradients on the CPU, beside its formula, torch's function and LayerNorm.

    python -m benchmarks.norms --write docs/performance.md

All take turns in one process, in float32, for the output and the gradients of both inputs.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional as F

from trivium.modeling.rms_norm import divide, rms_norm

from . import report

EPS = 1e-6
WARM_UP = 3
SHAPES = {
    "states, 256 wide": (8, 512, 256),
    "states, 768 wide": (8, 512, 768),
    "4 heads, 64 wide": (8, 512, 4, 64),
}
WAYS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "ours": lambda x, weight: rms_norm(x, weight, EPS),
    "the formula": lambda x, weight: weight * divide(x, EPS),
    "torch's function": lambda x, weight: F.rms_norm(x, weight.shape, weight, EPS),
    "LayerNorm": lambda x, weight: F.layer_norm(x, weight.shape, weight, None, EPS),
}


def measure(shape: tuple[int, ...], repetitions: int) -> dict[str, list[float]]:
    """Milliseconds of each way, who take turns, for the output and both gradients."""
    torch.manual_seed(0)
    x, weight, grad = torch.randn(shape).requires_grad_(), torch.randn(shape[-1]).requires_grad_(), torch.randn(shape)
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for repetition in range(WARM_UP + repetitions):
        for name, way in WAYS.items():
            started = time.perf_counter()
            torch.autograd.grad(way(x, weight), (x, weight), grad)
            if repetition >= WARM_UP:
                found[name].append(1000 * (time.perf_counter() - started))
    return found


def as_markdown(results: dict) -> str:
    """A line for each shape, and how many times our time the others take."""
    rows = []
    for shape, milliseconds in results["milliseconds"].items():
        ours, *others = (median(milliseconds[name]) for name in WAYS)
        rows.append([shape, f"{ours:.2f}", *(f"{other:.2f} ({other / ours:.1f})" for other in others)])
    header = ["shape", "ours, ms", *(f"{name} (to ours)" for name in list(WAYS)[1:])]
    return f"{report.describe(results['machine'])}\n\n{report.table(header, rows)}"


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    options = report.option_parser(__doc__, "norms", repetitions=50).parse_args(arguments)
    shapes = SHAPES if not options.quick else {"toy": (2, 8)}
    results = {"machine": report.machine("cpu")}
    results["milliseconds"] = {name: measure(shape, options.repetitions) for name, shape in shapes.items()}
    report.publish(options, "norms", "norms", results, as_markdown(results))


if __name__ == "__main__":
    main()
