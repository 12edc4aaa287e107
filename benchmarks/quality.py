"""How many tokens ours needs to predict held-out text as well as a stock model does when its training ends.

    python -m benchmarks.quality --write docs/performance.md
    python -m benchmarks.quality --family decoder --tokens 2e6 --size 30m

A stock model is trained on `--tokens` with AdamW at several learning rates, and its best end is what counts. Ours is
trained by Muon at the rate of the recipes, once for each share of those tokens, every time with a whole schedule. All
read the same rows of text in the same order, with the same hidden tokens or spans. The tokens at which ours is as good
are read off the line between two of its runs.
"""

import argparse
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from trivium.training.optimizer import MuonAdamW

from . import report
from .contenders import FAMILIES, OURS, SHAPES, build, stock
from .data import Batch, Corpus

VOCABULARY = 8192
HELD_OUT = 64  # rows
WARM_UP, CLIP = 0.05, 1.0
BETAS, DECAY = (0.9, 0.95), 0.1
RATES = [2.5e-4, 5e-4, 1e-3, 2e-3]
OUR_RATE = 5e-3  # between those of the recipes that are smaller and larger
SHARES = [0.25, 0.5, 0.75, 1.0]


class Run(NamedTuple):
    """One training from a fresh model to the end of its schedule.

    Attributes:
        loss: nats for each predicted token of the held-out rows.
    """

    model: str
    rate: float
    tokens: int
    loss: float
    seconds: float


class Text:
    """Rows to train on and rows to measure on, each a batch of a family's objective."""

    def __init__(self, family: str, rows: int, length: int, tokens: float, quick: bool):
        characters = int(min(tokens, 2e4) * 8 if quick else tokens * 8)
        self.corpus = Corpus(family, "docstrings", 512 if quick else VOCABULARY, characters=characters)
        drawn = self.corpus.full_rows(length)
        drawn = drawn[np.random.default_rng(0).permutation(len(drawn))]
        self.held_out, self.rows, self.size = drawn[:HELD_OUT], drawn[HELD_OUT:], rows
        self.row_tokens = drawn.shape[1]

    def steps(self, tokens: float) -> int:
        """How many batches hold so many tokens of text."""
        return max(1, round(tokens / (self.size * self.row_tokens)))

    def batches(self, steps: int) -> Iterable[Batch]:
        """The first so many to train on; the text begins anew where it ends."""
        for step in range(steps):
            numbers = np.arange(step * self.size, (step + 1) * self.size) % len(self.rows)
            yield self.corpus.full_batch(self.rows[numbers], seed=step + 1)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> float:
        """Nats for each predicted token of the held-out rows, which are hidden alike for everyone."""
        model.eval()
        total = predicted = 0.0
        for start in range(0, len(self.held_out), self.size):
            batch = self.corpus.full_batch(self.held_out[start : start + self.size], seed=start)
            labels = batch["labels"][:, 1:] if self.corpus.family == "decoder" else batch["labels"]
            count = int((labels != -100).sum())
            total, predicted = total + model(**batch).loss.item() * count, predicted + count
        return total / predicted


read = cache(Text)


def train(name: str, family: str, size: str, length: int, text: Text, tokens: float, rate: float, narrow: bool) -> Run:
    """Trains a fresh model and measures it."""
    torch.manual_seed(0)
    model = build(name, family, SHAPES[size], length)
    steps, started = text.steps(tokens), time.perf_counter()
    optimizer: torch.optim.Optimizer
    if name == OURS:
        optimizer = MuonAdamW(model, lr=rate, betas=BETAS, weight_decay=DECAY)
    else:
        optimizer = torch.optim.AdamW(decayed(model), lr=rate, betas=BETAS, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(WARM_UP * steps), steps)
    for batch in text.batches(steps):
        with torch.autocast("cpu", torch.bfloat16) if narrow else nullcontext():
            loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    seen = steps * text.size * text.row_tokens
    return Run(name, rate, seen, text.measure(model), time.perf_counter() - started)


def decayed(model: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups in which norms and biases do not decay, as `Trainer` has it."""
    parameters = list(model.parameters())
    sides = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    return [{"params": side, "weight_decay": decay} for side, decay in zip(sides, (DECAY, 0.0), strict=True)]


def tokens_needed(ours: list[Run], loss: float) -> float | None:
    """Where the line through our runs, over the logarithm of their tokens, comes down to this loss; `None`: nowhere."""
    runs = sorted(ours, key=lambda run: run.tokens)
    if runs[0].loss <= loss:
        return float(runs[0].tokens)
    for before, after in pairwise(runs):
        if after.loss <= loss:
            share = (before.loss - loss) / (before.loss - after.loss)
            return math.exp(math.log(before.tokens) + share * math.log(after.tokens / before.tokens))
    return None


def summary_of(case: dict) -> list[list[str]]:
    """A line for each stock model: its best end, ours on as many tokens, and the share of them that ours needs."""
    runs = [Run(*run) for run in case["runs"]]
    ours = [run for run in runs if run.model == OURS]
    last = max(ours, key=lambda run: run.tokens)
    rows = []
    for name in stock(case["family"]):
        best = min((run for run in runs if run.model == name), key=lambda run: run.loss)
        needed = tokens_needed(ours, best.loss)
        share = "more" if needed is None else f"{'at most ' * (needed == min(r.tokens for r in ours))}"
        share = share if needed is None else f"{share}**{needed / best.tokens:.2f}**"
        tried = ", ".join(f"{run.loss:.3f} ({run.rate:g})" for run in runs if run.model == name)
        rows.append([case["family"], name, f"{best.tokens:,}", tried, f"{last.loss:.3f}", share])
    return rows


def as_markdown(results: dict) -> str:
    """What was measured on, who needs how many tokens, and all of our runs."""
    columns = ["family", "stock model", "tokens", "its loss (learning rate)", "ours on as many", "ours needs of them"]
    lines = [report.describe(results["machine"]), "", results["setting"], ""]
    lines += [report.table(columns, [row for case in results["cases"] for row in summary_of(case)]), ""]
    ours = [
        [case["family"], f"{run[2]:,}", f"{run[3]:.3f}"]
        for case in results["cases"]
        for run in case["runs"]
        if run[0] == OURS
    ]
    return "\n".join([*lines, report.table(["family", "our runs, tokens", "loss"], ours)])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = report.option_parser(__doc__, "quality", repetitions=None)
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--size", choices=SHAPES, default="5m")
    parser.add_argument("--tokens", type=float, default=1e6, help="of text, that stock models are trained on")
    parser.add_argument("--rows", type=int, default=8, help="of a batch")
    parser.add_argument("--length", type=int, default=256, help="tokens of a row")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates of stock models")
    parser.add_argument("--our-rate", type=float, default=OUR_RATE)
    parser.add_argument(
        "--shares", type=float, nargs="+", default=SHARES, help="of the tokens, that ours is trained on"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time, each on one core")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="bf16", help="bf16 is autocast")
    options = parser.parse_args(arguments)
    if options.quick:
        options.size, options.tokens, options.rows, options.length, options.dtype = "toy", 4e3, 4, 32, "fp32"
    return options


class Job(NamedTuple):
    """What a run is made of; see `train`, and [`parse`] for the rest."""

    family: str
    name: str
    rate: float
    tokens: float


def do(job: Job, options: argparse.Namespace) -> Run:
    """Trains in a process of one thread."""
    torch.set_num_threads(1)
    text = read(job.family, options.rows, options.length, options.tokens, options.quick)
    narrow = options.dtype == "bf16"
    return train(job.name, job.family, options.size, options.length, text, job.tokens, job.rate, narrow)


def run(options: argparse.Namespace) -> dict:
    """Trains everything, several at a time; returns everything that was seen."""
    where, jobs = report.machine(), []
    for family in options.family:
        jobs += [Job(family, OURS, options.our_rate, options.tokens * share) for share in options.shares]
        jobs += [Job(family, name, rate, options.tokens) for name in stock(family) for rate in options.rates]
    cases: dict[str, list[Run]] = {family: [] for family in options.family}
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        done = pool.map(do, jobs, [options] * len(jobs))
        for job, one in zip(jobs, tqdm(done, "runs", len(jobs)), strict=True):
            cases[job.family].append(one)
            print(job.family, *one, sep="; ", file=sys.stderr, flush=True)
    setting = (
        f"Shape {options.size}, {options.dtype}, batches of {options.rows} rows of {options.length} tokens of "
        f"docstrings, cosine schedules; ours by Muon at {options.our_rate:g}. Losses are nats for each predicted token "
        f"of {HELD_OUT} held-out rows."
    )
    return {
        "machine": where,
        "setting": setting,
        "cases": [{"family": family, "runs": runs} for family, runs in cases.items()],
    }


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the tables and saves the results."""
    options = parse(arguments)
    results = run(options)
    report.publish(options, "quality", "quality", results, as_markdown(results))


if __name__ == "__main__":
    main()
