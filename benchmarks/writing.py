"""Attention of one new token a row to a cache in bfloat16, on a CPU: torch's kernel, and ours, widened to float32.

    python -m benchmarks.writing --write docs/performance.md

One repetition is a layer's attention while one token is written after each text. Texts are of one length, or of lengths
from a sixteenth of the longest up to it, with padding in front. The ways take turns in one process.
"""

from collections.abc import Callable
from itertools import product
from statistics import median
from typing import NamedTuple

import torch
from torch.nn import functional as F

from trivium.modeling import writing

from . import report

ROOM = 64  # places behind the tokens of a cache


class Case(NamedTuple):
    """Texts of the longest length, or up to it, and the heads that attend to them."""

    texts: int
    heads: int
    width: int
    longest: int
    lengths: str


SIZES = [(1, 4, 64, 512), (1, 12, 64, 4096), (16, 4, 64, 64), (16, 4, 64, 512), (16, 12, 64, 512), (4, 16, 128, 2048)]
CASES = [
    Case(*size, lengths)
    for size, lengths in product(SIZES, ("equal", "different"))
    if lengths == "equal" or size[0] > 1
]
QUICK = [Case(3, 2, 8, 16, lengths) for lengths in ("equal", "different")]
WAYS = {
    "torch's kernel": lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask),
    "ours": lambda q, k, v, mask: writing.attend_one(q, k, v, mask, q.shape[-1] ** -0.5),
}


def make_steps(case: Case) -> dict[str, Callable[[], torch.Tensor]]:
    """One repetition of each way as a function, which returns what attention does (B, H, 1, D)."""
    torch.manual_seed(0)
    query = torch.randn(case.texts, case.heads, 1, case.width)
    rooms = [torch.randn(case.texts, case.heads, case.longest + ROOM, case.width) for _ in range(2)]
    query, key, value = (x.bfloat16() for x in (query, *(room[:, :, : case.longest] for room in rooms)))
    mask = None
    if case.lengths == "different":
        lengths = torch.linspace(case.longest // 16, case.longest, case.texts).long()
        mask = (torch.arange(case.longest) >= case.longest - lengths[:, None])[:, None, None]
    return {way: lambda attend=attend: attend(query, key, value, mask) for way, attend in WAYS.items()}


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    options = report.option_parser(__doc__, "writing on cpu", repetitions=31).parse_args(arguments)
    where, entries, rows = report.machine(), [], []
    for case in QUICK if options.quick else CASES:
        with torch.inference_mode():
            seconds = report.take_turns(make_steps(case), options.repetitions)
        entries.append(case._asdict() | {"seconds": seconds})
        spreads = [f"{1e3 * median(s):.2f} ({1e3 * min(s):.2f}-{1e3 * max(s):.2f})" for s in seconds.values()]
        ratio = median(a / b for a, b in zip(*seconds.values(), strict=True))
        rows.append([*map(str, case), *spreads, f"{ratio:.2f}"])
    columns = ["texts", "heads", "head width", "longest, tokens", "lengths"]
    columns += [*(f"{way}, ms (range)" for way in WAYS), "times as fast"]
    text = f"{report.describe(where)}\n\n{report.table(columns, rows)}"
    report.publish(options, "writing-cpu", "writing on cpu", {"machine": where, "entries": entries}, text)


if __name__ == "__main__":
    main()
