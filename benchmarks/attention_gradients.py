"""The backward pass of attention in bfloat16 on a CPU: torch's kernel, and products of matrices.

    python -m benchmarks.attention_gradients --write docs/performance.md

One repetition is the backward pass of one layer of 4 heads over 4,096 tokens, cut into documents of one length. The
ways take turns in one process.
"""

from collections.abc import Callable
from itertools import product
from statistics import median

import torch

from trivium.modeling import narrow

from . import report

TOKENS, HEADS = 4096, 4
CASES = [*product((32, 64), (16, 64, 128, 256, 512, 1024, 2048), (False, True))]
QUICK = [(4, 8, False), (4, 8, True)]
WAYS = {"torch's kernel": narrow.flash_backward, "products": narrow.differentiate}
Gradients = tuple[torch.Tensor, ...]


def make_steps(width: int, length: int, causal: bool) -> dict[str, Callable[[], Gradients]]:
    """One repetition of each way as a function, which returns the gradients of query, key and value (N, H, L, D)."""
    torch.manual_seed(0)
    shape = (TOKENS // length, HEADS, length, width)
    tensors = [torch.randn(shape, dtype=torch.bfloat16) for _ in range(4)]
    rule = None, width**-0.5, causal
    return {way: lambda backward=backward: backward(*tensors, *rule) for way, backward in WAYS.items()}


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    options = report.option_parser(__doc__, "attention gradients on cpu", repetitions=9).parse_args(arguments)
    where, entries, rows = report.machine(), [], []
    for width, length, causal in QUICK if options.quick else CASES:
        seconds = report.take_turns(make_steps(width, length, causal), options.repetitions)
        entries.append({"length": length, "width": width, "causal": causal, "seconds": seconds})
        spreads = [f"{1e3 * median(s):.1f} ({1e3 * min(s):.1f}-{1e3 * max(s):.1f})" for s in seconds.values()]
        ratio = median(a / b for a, b in zip(*seconds.values(), strict=True))
        rows.append([str(width), str(length), "causal" if causal else "all", *spreads, f"{ratio:.2f}"])
    columns = ["head width", "tokens of a document", "sees", *(f"{way}, ms (range)" for way in WAYS), "times as fast"]
    text = f"{report.describe(where)}\n\n{report.table(columns, rows)}"
    name = "attention gradients on cpu"
    report.publish(options, "attention-gradients", name, {"machine": where, "entries": entries}, text)


if __name__ == "__main__":
    main()
