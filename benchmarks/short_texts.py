"""The backward pass of attention within short documents in bfloat16 on a CPU: torch's kernel, and matrix products.

    python -m benchmarks.short_texts --write docs/performance.md

One repetition is the forward and the backward pass of one layer over a flattened batch of 2,048 tokens, 12 heads, cut
into documents of one length each. The ways take turns in one process.
"""

from collections.abc import Callable
from statistics import median
from unittest import mock

import torch

from trivium.modeling import varlen

from . import report

TOKENS, HEADS = 2048, 12
CASES = [(length, width) for width in (32, 64) for length in (16, 32, 64, 128, 256)]
QUICK = [(8, 4)]
# The most scores of a head for which matrix products are taken.
WAYS = {"torch's kernel": 0, "matrix products": 2**40}


def make_step(length: int, width: int, few: int) -> Callable[[], list[torch.Tensor]]:
    """One repetition as a function, which returns the gradients of query, key and value (T, H, D)."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(TOKENS, HEADS, width, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    ids = (torch.arange(TOKENS) // length)[None]

    def step() -> list[torch.Tensor]:
        with mock.patch.object(varlen, "FEW_SCORES", few):
            out = varlen.attend_documents(q, k, v, ids, ids, None, width**-0.5, False, 0, 0.0)
            return list(torch.autograd.grad(out.float().square().sum(), (q, k, v)))

    return step


def measure(length: int, width: int, repetitions: int) -> dict[str, list[float]]:
    """Seconds of every repetition of each way, which take turns; one of each before goes uncounted."""
    steps = {way: make_step(length, width, few) for way, few in WAYS.items()}
    return report.take_turns(steps, repetitions)


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    options = report.option_parser(__doc__, "short texts on cpu", repetitions=7).parse_args(arguments)
    where, entries, rows = report.machine(), [], []
    for length, width in QUICK if options.quick else CASES:
        seconds = measure(length, width, options.repetitions)
        entries.append({"length": length, "width": width, "seconds": seconds})
        spreads = [f"{1e3 * median(s):.1f} ({1e3 * min(s):.1f}-{1e3 * max(s):.1f})" for s in seconds.values()]
        ratio = median(a / b for a, b in zip(*seconds.values(), strict=True))
        rows.append([str(length), str(width), *spreads, f"{ratio:.2f}"])
    columns = ["tokens of a document", "head width", *(f"{way}, ms (range)" for way in WAYS), "times as fast"]
    text = f"{report.describe(where)}\n\n{report.table(columns, rows)}"
    report.publish(options, "short-texts", "short texts on cpu", {"machine": where, "entries": entries}, text)


if __name__ == "__main__":
    main()
