"""One step of Muon: torch's, one matrix at a time in bfloat16, and ours, those of one shape together.

    python -m benchmarks.muon --write docs/performance.md

The ways take turns in one process on the matrices of a decoder, with random gradients.
"""

import time
from statistics import median
from unittest.mock import patch

import torch

from trivium.configuration import TriviumDecoderConfig
from trivium.modeling import TriviumDecoderModel
from trivium.training import optimizer

from . import report

SHAPES = {"128 x 4": (128, 4), "256 x 6": (256, 6), "512 x 8": (512, 8)}
QUICK = {"32 x 2": (32, 2)}
WAYS = {
    "torch.optim.Muon": (torch.optim.Muon, torch.bfloat16),
    "ours, float32": (optimizer.Muon, torch.float32),
    "ours, bfloat16": (optimizer.Muon, torch.bfloat16),
}


def measure(shape: tuple[int, int], repetitions: int) -> tuple[int, dict[str, list[float]]]:
    """How many matrices a decoder of a width and depth has, and seconds of every step of each way."""
    width, depth = shape
    model = TriviumDecoderModel(TriviumDecoderConfig(hidden_size=width, num_hidden_layers=depth, vocab_size=64))
    matrices, _ = optimizer.split_parameters(model)
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    steppers = {way: cls(matrices, lr=1e-3) for way, (cls, _) in WAYS.items()}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for repetition in range(repetitions + 1):
        for way, stepper in steppers.items():
            with patch.object(optimizer, "iteration_dtype", return_value=WAYS[way][1]):
                started = time.perf_counter()
                stepper.step()
            if repetition:
                seconds[way].append(time.perf_counter() - started)
    return len(matrices), seconds


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    options = report.option_parser(__doc__, "muon on cpu", repetitions=9).parse_args(arguments)
    where, entries, rows = report.machine(), [], []
    for name, shape in (QUICK if options.quick else SHAPES).items():
        count, seconds = measure(shape, options.repetitions)
        for way, taken in seconds.items():
            entries.append({"shape": name, "way": way, "seconds": taken})
            ratio = median(a / b for a, b in zip(taken, seconds["torch.optim.Muon"], strict=True))
            spread = f"{1e3 * median(taken):.0f} ({1e3 * min(taken):.0f}-{1e3 * max(taken):.0f})"
            rows.append([way, name, str(count), spread, f"{ratio:.2f}"])
    columns = ["way", "width x layers", "matrices", "milliseconds (range)", "to torch"]
    text = f"{report.describe(where)}\n\n{report.table(columns, rows)}"
    report.publish(options, "muon", "muon on cpu", {"machine": where, "entries": entries}, text)


if __name__ == "__main__":
    main()
