"""Where the time of a training step goes, and what would be left of it if only products of matrices took time.

    python -m benchmarks.floors --write docs/performance.md
    python -m benchmarks.floors --size 30m --dtype fp32

The same ways as in `benchmarks.training`, eager, or with `--mode compiled` as the compiler makes them, whose operations
cannot be counted. The time of products, of attention's kernels and of the optimizer is
what the profiler sees; the rest is what the step takes beyond them when nobody looks. Two rates of the machine,
measured between the steps, say what hardware asks: operations over the rate of a large product, and the bytes that all
other operations read and write over the rate of a large copy.
"""

import argparse
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import product
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import report
from .contenders import FAMILIES, OURS, PLAIN, SHAPES
from .data import TEXTS, Batch, Corpus
from .training import VOCABULARY, Case, Way, make_model, make_step, ways

IN_PLACE = "aten::baddbmm_"
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", IN_PLACE}
KINDS = dict.fromkeys(PRODUCTS, "products")
KINDS |= dict.fromkeys(
    [f"aten::_scaled_dot_product_flash_attention_for_cpu{end}" for end in ("", "_backward")], "attention"
)
KINDS["aten::_fused_adamw_"] = "optimizer"
COLUMNS = ["family", "text", "precision", "model", "fed", "ms a step", "products", "of them at best", "attention"]
COLUMNS += ["optimizer", "the rest", "of it at best", "operations"]
SUMMARY = ["family", "text", "precision", "against", "ours takes, ms", "it takes, ms", "times as fast"]
SUMMARY += ["if only products took time", "if all ran at its best"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Traffic(TorchDispatchMode):
    """Counts operations, and the bytes that those which are neither products nor views read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.bytes_moved = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Counts one operation, and runs it."""
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        if not func.is_view and f"aten::{func.overloadpacket.__name__}" not in KINDS:
            touched = [x for x in tree_leaves([args, kwargs, out]) if isinstance(x, torch.Tensor)]
            self.bytes_moved += sum(x.numel() * x.element_size() for x in touched)
        return out


@dataclass
class Measured:
    """What is known of one way, for a pass over its batches."""

    way: Way
    operations: int | None
    bytes_moved: int | None
    flops: int = 0
    seconds: list[float] = field(default_factory=list)
    kinds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in set(KINDS.values())})

    def milliseconds(self, steps: int) -> dict[str, float]:
        """Of a step: the whole, each kind, and the rest."""
        parts = {kind: median(values) for kind, values in self.kinds.items()} | {"whole": median(self.seconds)}
        parts["rest"] = max(parts["whole"] - sum(value for kind, value in parts.items() if kind != "whole"), 0)
        return {kind: 1e3 * value / steps for kind, value in parts.items()}


def product_rate(dtype: str, size: int = 2048) -> float:
    """Operations a second of a large product, the best of five."""
    a = torch.randn(size, size).to(DTYPES[dtype])
    return 2 * size**3 / min(_seconds(lambda: a @ a) for _ in range(5))


def copy_rate(megabytes: int = 256) -> float:
    """Bytes read and written a second by a large copy, the best of five."""
    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * source.numel() * 4 / min(_seconds(lambda: target.copy_(source)) for _ in range(5))


def _seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(
    case: Case, layouts: dict[str, list[Batch]], mode: str, repetitions: int
) -> tuple[list[Measured], dict[str, float]]:
    """All ways of a mode but plain torch's, who take turns; and the two rates, measured between them."""
    report.forget_compiled()
    found, passes = [], []
    models: dict[str, torch.nn.Module] = {}
    for way in ways(case.family, case.text, [mode]):
        if way.model == PLAIN:
            continue
        if way.model not in models:
            models[way.model] = make_model(case, way.model)
        step, batches = make_step(models[way.model], case, mode), layouts[way.fed]
        passes.append(lambda step=step, batches=batches: [step(batch) for batch in batches])
        passes[-1]()
        with Traffic() if mode == "eager" else nullcontext() as traffic:
            passes[-1]()
        counted = (traffic.operations, traffic.bytes_moved) if traffic else (None, None)
        found.append(Measured(way, *counted))
    rates: dict[str, list[float]] = {"products": [], "copies": []}
    for _ in range(repetitions):
        rates["products"].append(product_rate(case.dtype))
        rates["copies"].append(copy_rate())
        for one, run in zip(found, passes, strict=True):
            one.seconds.append(_seconds(run))
            with torch.profiler.profile(record_shapes=True, with_flops=True) as profile:
                run()
            events, spent = profile.key_averages(group_by_input_shape=True), Counter()
            for event in events:
                spent[KINDS.get(event.key)] += event.self_cpu_time_total / 1e6
            for kind, values in one.kinds.items():
                values.append(spent[kind])
            one.flops = sum(map(_operations_of, events))
    return found, {name: max(values) for name, values in rates.items()}


def _operations_of(event: Any) -> int:
    """What all calls of a product count, of which the profiler does not know those in place."""
    if event.key != IN_PLACE:
        return event.flops if event.key in PRODUCTS else 0
    (batch, rows, inner), (*_, columns) = event.input_shapes[1:3]
    return 2 * event.count * batch * rows * inner * columns


def rows_of(case: Case, found: list[Measured], rates: dict[str, float], steps: int) -> list[list[str]]:
    """A line for each way."""
    rows = []
    for one in found:
        parts = one.milliseconds(steps)
        numbers = [parts["whole"], parts["products"], 1e3 * one.flops / rates["products"] / steps, parts["attention"]]
        numbers += [parts["optimizer"], parts["rest"]]
        if one.operations is not None and one.bytes_moved is not None:
            numbers += [1e3 * one.bytes_moved / rates["copies"] / steps, one.operations / steps]
        cells = [f"{number:,.0f}" for number in numbers] + [""] * (8 - len(numbers))
        rows.append([case.family, case.text, case.dtype, one.way.model, one.way.fed, *cells])
    return rows


def summary_of(case: Case, found: list[Measured], rates: dict[str, float], steps: int) -> list[list[str]]:
    """How many times as fast ours is, and would be if only its products took time, or all as little as it can."""
    ours = min((one for one in found if one.way.model == OURS), key=lambda one: median(one.seconds))
    whole = ours.milliseconds(steps)
    floors = [whole["products"] + whole["attention"]]
    if ours.bytes_moved is not None:
        at_best = 1e3 * (ours.flops / rates["products"] + ours.bytes_moved / rates["copies"]) / steps
        floors.append(at_best + whole["attention"] + whole["optimizer"])
    rows, peers = [], [one for one in found if one.way.model != OURS]
    for fed in dict.fromkeys(one.way.fed for one in peers):
        others = [one for one in peers if one.way.fed == fed]
        rival = min(others, key=lambda one: median(one.seconds))
        theirs = rival.milliseconds(steps)["whole"]
        cells = [f"{whole['whole']:,.0f}", f"{theirs:,.0f}"]
        cells += [f"{theirs / mine:.2f}" for mine in (whole["whole"], *floors)] + [""] * (2 - len(floors))
        rows.append([case.family, case.text, case.dtype, f"{rival.way.model}, {fed}", *cells])
    return rows


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; `--quick` makes all of it small."""
    parser = report.option_parser(__doc__, "floors on cpu", repetitions=5)
    parser.add_argument("--size", nargs="+", choices=SHAPES, default=["5m"])
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--text", nargs="+", choices=TEXTS, default=["docstrings", "full rows"])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["bf16"])
    parser.add_argument("--mode", choices=["eager", "compiled"], default="eager")
    parser.add_argument("--rows", type=int, default=16, help="documents or rows of a batch")
    parser.add_argument("--batches", type=int, default=2, help="batches of a pass; with one, grouping changes nothing")
    parser.add_argument("--length", type=int, default=512, help="tokens of a row, and the longest document")
    options = parser.parse_args(arguments)
    if options.quick:
        options.size, options.dtype, options.rows, options.length = ["toy"], ["fp32"], 2, 64
    return options


def measure_size(size: str, options: argparse.Namespace) -> tuple[list[str], list[dict]]:
    """The lines of one size, and what they were made of."""
    rows, summary, cases = [], [], []
    for family, text in product(options.family, options.text):
        corpus = Corpus(family, text, 512 if options.quick else VOCABULARY, 40 if options.quick else None)
        layouts, _ = corpus.batches(options.rows, options.length, options.batches)
        for dtype in options.dtype:
            case = Case(size, family, text, dtype, "cpu", options.length)
            found, rates = measure(case, layouts, options.mode, options.repetitions)
            compared = summary_of(case, found, rates, options.batches)
            for row in compared:
                print(size, *row, sep="; ", file=sys.stderr, flush=True)
            summary += compared
            rows += rows_of(case, found, rates, options.batches)
            cases.append({"case": asdict(case), "rates": rates, "ways": [asdict(one) for one in found]})
    fastest = "; ".join(_fastest(cases, dtype) for dtype in options.dtype)
    lines = ["", f"### Where the time of {size} goes", "", f"The best rates seen: {fastest}.", ""]
    lines += [report.table(SUMMARY, summary), "", report.folded("All ways", report.table(COLUMNS, rows))]
    return lines, cases


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the tables and saves the results."""
    options = parse(arguments)
    machine = report.machine()
    sizes = [measure_size(size, options) for size in options.size]
    head = f"{options.batches} batches of {options.rows} documents or rows of at most {options.length} tokens, "
    head += f"{options.mode}, medians of {options.repetitions}."
    text = "\n".join([report.describe(machine), "", head, *(line for lines, _ in sizes for line in lines)])
    cases = [one for _, cases in sizes for one in cases]
    report.publish(options, "floors", "floors on cpu", {"machine": machine, "cases": cases}, text)


def _fastest(cases: list[dict], dtype: str) -> str:
    rates = [one["rates"] for one in cases if one["case"]["dtype"] == dtype]
    products, copies = (max(rate[name] for rate in rates) / 1e9 for name in ("products", "copies"))
    return f"{dtype} {products:,.0f} billion operations and {copies:,.0f} GB a second"


if __name__ == "__main__":
    main()
