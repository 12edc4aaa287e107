"""From text to rows: whether tokens a second stay what they are, and memory too, as documents become more.

    python -m benchmarks.preparing --write docs/performance.md

The documents are drawn from the docstrings of the packages that are installed, as often as it takes. Each measurement
is a process of its own, which maps their text into memory, tokenizes it as pretraining does, and reads every row of a
pass.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
from transformers import AutoTokenizer

from trivium.training.data.packing import PackedDataset
from trivium.training.data.tokenizing import tokenize_documents

from . import report
from .packing import SEED, VOCABULARY, corpora, make_tokenizer

REPETITIONS = {10_000: 9, 100_000: 5, 1_000_000: 2, 10_000_000: 1}  # of each number of documents
QUICK = {100: 2, 1000: 1}
LENGTH = 512
AT_ONCE = 1000  # documents that are written together
COLUMNS = [
    "documents",
    "million tokens",
    "tokenizing, million tokens/s",
    "packing",
    "both (range)",
    "to the fewest documents",
    "MB of its own",
]


def write_texts(path: Path, count: int, texts: list[str]) -> None:
    """Writes `count` documents, drawn from `texts`, as `datasets` would."""
    generator = np.random.default_rng(SEED)
    schema = datasets.Features({"text": datasets.Value("string")}).arrow_schema
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for start in range(0, count, AT_ONCE):
            drawn = generator.integers(0, len(texts), min(AT_ONCE, count - start))
            writer.write_batch(pa.record_batch([pa.array([texts[index] for index in drawn])], schema=schema))


class Prepared(NamedTuple):
    """What a process counted: tokens, the seconds to tokenize and to pack and read them all, megabytes held after."""

    tokens: int
    tokenizing: float
    packing: float
    own: float

    def speeds(self) -> tuple[float, float, float]:
        """Million tokens a second, tokenized, packed, and both."""
        seconds = (self.tokenizing, self.packing, self.tokenizing + self.packing)
        return tuple(self.tokens / part / 1e6 for part in seconds)


def measure(path: Path, tokenizer: Path) -> Prepared:
    """Tokenizes and packs the texts of a file in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--prepare", str(path), str(tokenizer)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent.parent)
    return Prepared(*json.loads(ran.stdout.splitlines()[-1]))


def print_preparing(path: str, tokenizer_path: str) -> None:
    """What the process started by `measure` does."""
    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
    warm = tokenize_documents(datasets.Dataset.from_dict({"text": ["loaded at first use"] * AT_ONCE}), tokenizer)
    PackedDataset(warm, 8)[0]
    own, started = report.own_memory(), time.perf_counter()
    documents = tokenize_documents(datasets.Dataset.from_file(path), tokenizer)
    tokenized = time.perf_counter()
    rows = PackedDataset(documents, LENGTH, seed=SEED)
    for _ in rows:
        pass
    packed = time.perf_counter()
    print(json.dumps([rows.num_tokens, tokenized - started, packed - tokenized, report.own_memory() - own]))


def take_all(counts: dict[int, int], texts: list[str], tokenizer: Path) -> dict[int, list[Prepared]]:
    """What was measured of each number of documents; these take turns."""
    found: dict[int, list[Prepared]] = {count: [] for count in counts}
    for turn in range(max(counts.values())):
        for count in [count for count, repetitions in counts.items() if turn < repetitions]:
            with tempfile.TemporaryDirectory() as folder:  # where `datasets` keeps the tokens too
                path = Path(folder) / "texts.arrow"
                write_texts(path, count, texts)
                found[count].append(measure(path, tokenizer))
    return found


def make_table(found: dict[int, list[Prepared]]) -> str:
    """The medians of what was measured."""
    rows, fewest = [], None
    for count, measured in found.items():
        tokenizing, packing, both = zip(*(one.speeds() for one in measured), strict=True)
        fewest = fewest or median(both)
        rows.append(
            [
                f"{count:,}",
                f"{measured[0].tokens / 1e6:,.1f}",
                f"{median(tokenizing):.2f}",
                f"{median(packing):.1f}",
                f"{median(both):.2f} ({min(both):.2f}-{max(both):.2f})",
                f"**{median(both) / fewest:.2f}**",
                f"{median(one.own for one in measured):.0f}",
            ]
        )
    return report.table(COLUMNS, rows)


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    parser = report.option_parser(__doc__, "preparing", repetitions=None)
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.prepare:
        print_preparing(*options.prepare)
        return
    datasets.disable_progress_bars()
    where = report.machine()
    texts = list(corpora(options.output / "texts", options.quick)["docstrings"]["text"])
    with tempfile.TemporaryDirectory() as folder:
        make_tokenizer("decoder", texts[:2000], VOCABULARY).save_pretrained(folder)
        found = take_all(QUICK if options.quick else REPETITIONS, texts, Path(folder))
    text = f"{report.describe(where)}\n\n{make_table(found)}"
    results = {str(count): [one._asdict() for one in measured] for count, measured in found.items()}
    report.publish(options, "preparing", "preparing", {"machine": where, "measured": results}, text)


if __name__ == "__main__":
    main()
