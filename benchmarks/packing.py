"""How full batches are, what packing costs, and how soon a resumed run reads its first row.

    python -m benchmarks.packing --write docs/performance.md

The text is the embedded corpus, and docstrings of the packages that are installed. Going on from a checkpoint is
measured in a process of its own, on documents of random tokens that are as long as the docstrings are.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from trivium.tokenization import train_tokenizer
from trivium.training.arguments import PretrainArguments
from trivium.training.data.corpus import python_docs
from trivium.training.data.packing import WINDOW_TOKENS, PackedDataset
from trivium.training.data.pairs import PackedPairs
from trivium.training.data.sources import Texts
from trivium.training.model_flops import count_work
from trivium.training.objectives.choice import OBJECTIVES, Made, Objective, choose_objective
from trivium.training.pretrain import FAMILIES, new_config
from trivium.training.rows import make_rows, tokenized_documents, with_target_length

from . import report
from .data import docstrings

CHARACTERS = 30_000_000  # of docstrings
SHORTEST_TARGETS = 16  # tokens of a row's targets
VOCABULARY = 8192
SENTINELS = 400
TOKENIZER_DOCUMENTS = 2000
LENGTHS = (512, 2048)
BATCH = 16  # rows, and documents that the stock way pads to the longest of them
BATCHES = 64
COUNTS = (10_000, 100_000, 1_000_000, 10_000_000)
WINDOWS = 2  # that are planned and read for the speed
SEED = 0
VARYING = {("encoder-decoder", "ul2"), ("encoder-decoder", "pairs")}  # whose batches have many sizes


def corpora(folder: Path, quick: bool) -> dict[str, datasets.Dataset]:
    """The texts by name, memory-mapped under `folder`, where they stay: reading them takes minutes."""

    def embedded(documents: int | None) -> Iterator[dict[str, str]]:
        return ({"text": document["text"]} for document in islice(python_docs(), documents))

    makers: dict[str, tuple[Callable[..., Any], int | None]] = {
        "python-docs": (embedded, 40 if quick else None),
        "docstrings": (docstrings, 40_000 if quick else CHARACTERS),
    }
    return {
        name: datasets.Dataset.from_generator(partial(make, size), cache_dir=str(folder), fingerprint=f"{name}-{size}")
        for name, (make, size) in makers.items()
    }


def make_tokenizer(family: str, texts: list[str], vocabulary: int) -> Any:
    """A tokenizer of the family, an encoder-decoder's with sentinels enough for the longest rows."""
    tokenizer = train_tokenizer(texts, family, vocab_size=vocabulary, show_progress=False)
    if family == "encoder-decoder":
        more = {"extra_special_tokens": [f"<extra_id_{index}>" for index in range(SENTINELS)]}
        tokenizer.add_special_tokens(more, replace_extra_special_tokens=False)
    return tokenizer


def first_lines(texts: datasets.Dataset) -> datasets.Dataset:
    """Pairs of texts: a document without its first line is read, that line is written."""

    def split(batch: dict[str, list[str]]) -> dict[str, list[str]]:
        halves = [text.strip().partition("\n") for text in batch["text"]]
        halves = [(first, rest) for first, _, rest in halves if rest.strip()]
        return {"source": [rest for _, rest in halves], "target": [first for first, _ in halves]}

    return texts.map(split, batched=True, remove_columns="text")


def make_batches(
    args: PretrainArguments, objective: Objective, tokenizer: Any, texts: datasets.Dataset
) -> tuple[Any, Any]:
    """The rows of a run and its collator; pairs have the room for targets that fills both sides alike.

    Of one size, they have what a run gives them, in which the longest target has room too.
    """
    sources = {"data": Texts(texts, texts.select(range(1)))}
    args = with_target_length(args, objective, tokenizer, sources)
    rows, _ = make_rows(args, objective, tokenizer, sources, SEED)
    if objective.pairs and args.family == "encoder-decoder" and not args.pad_to_fixed_size:
        args.max_target_length = max(rows.balanced_target_length, SHORTEST_TARGETS)
        rows, _ = make_rows(args, objective, tokenizer, sources, SEED)
    documents = tokenized_documents(rows) if objective.other_documents else None
    return rows, objective.collator(Made(tokenizer, args, SEED, documents))


def measure_waste(
    family: str, name: str, tokenizer: Any, texts: datasets.Dataset, length: int, batches: int
) -> dict[str, float]:
    """Shares: of the positions of an objective's batches that are padding, of tokens left out, of documents cut.

    Of objectives whose batches vary in size also what is padding if they are filled up to one.
    """
    args = PretrainArguments(family=family, objective=name, data=["-"], max_length=length)
    objective = choose_objective(args)
    texts = first_lines(texts) if objective.pairs else texts
    rows, collate = make_batches(args, objective, tokenizer, texts)
    config = new_config(args, FAMILIES[family][0], tokenizer, objective)
    found = {"padding": _padding(rows, collate, config, batches)}
    if (family, name) in VARYING:
        fixed = dataclasses.replace(args, pad_to_fixed_size=True, max_target_length=None)
        found["one size"] = _padding(*make_batches(fixed, objective, tokenizer, texts), config, batches)
    return found | (_of_pairs(rows) if objective.pairs else _of_documents(rows))


def _padding(rows: Any, collate: Any, config: Any, batches: int) -> float:
    tokens = positions = 0
    for start in range(0, min(len(rows), BATCH * batches) - BATCH + 1, BATCH):
        work = count_work(config, collate([rows[index] for index in range(start, start + BATCH)]))
        tokens, positions = tokens + int(work["tokens"]), positions + int(work["positions"])
    return 1 - tokens / positions


def padded_to_longest(lengths: np.ndarray) -> float:
    """The share of padding if `BATCH` documents at a time, in random order, are padded to the longest of them.

    Args:
        lengths: (N, S), tokens of each document on each side; sides are padded apart.
    """
    count = len(lengths) // BATCH * BATCH
    batches = np.random.default_rng(SEED).permutation(lengths)[:count].reshape(-1, BATCH, lengths.shape[1])
    return 1 - batches.sum() / (BATCH * batches.max(axis=1).sum())


def _of_documents(rows: PackedDataset) -> dict[str, float]:
    wrapped = PackedDataset(rows.tokens.documents, rows.length, seed=SEED, packing="wrapped")
    return {
        "left out": 1 - rows.used_tokens / rows.num_tokens,
        "cut": rows.share_cut(),
        "cut wrapped": wrapped.share_cut(),
        "stock": padded_to_longest(np.minimum(rows.lengths, rows.length)[:, None]),
    }


def _of_pairs(rows: PackedPairs) -> dict[str, float]:
    lengths = rows.lengths[rows.order]
    uncut = (rows.sources.lengths + rows.targets.lengths)[rows.order].sum()
    return {
        "left out": 1 - lengths.sum() / uncut,
        "cut": rows.num_truncated / len(lengths),
        "stock": padded_to_longest(lengths if rows.max_target_length else lengths.sum(axis=1, keepdims=True)),
    }


def write_documents(path: Path, count: int, lengths: np.ndarray) -> None:
    """Writes `count` documents of random tokens, of lengths drawn from those given, as `datasets` would."""
    generator = np.random.default_rng(SEED)
    schema = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))}).arrow_schema
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for start in range(0, count, 1000):
            drawn = generator.choice(lengths, min(1000, count - start))
            tokens = generator.integers(0, VOCABULARY, drawn.sum(), dtype=np.int32)
            offsets = np.append(0, np.cumsum(drawn)).astype(np.int32)
            writer.write_batch(pa.record_batch([pa.ListArray.from_arrays(offsets, tokens)], schema=schema))


def measure_speed(path: Path, length: int) -> tuple[float, int, int]:
    """Seconds for the first windows of a pass, planned and read, with the rows that they hold; and a pass's rows.

    The order of the documents, which is made once for all windows of a pass, is left out: going on has to make it.
    """
    rows = PackedDataset(datasets.Dataset.from_file(str(path)), length, seed=SEED)
    count = min(len(rows), WINDOWS * WINDOW_TOKENS // length)
    rows._order(0)
    started = time.perf_counter()
    for index in range(count):
        rows[index]
    return time.perf_counter() - started, count, len(rows)


def measure_resuming(path: Path, length: int, row: int) -> tuple[float, float, float]:
    """Seconds from a checkpoint's state to the next row, in a process of its own, and what that holds in megabytes.

    Of memory the peak, in which pages of the mapped file count that the system can take back, and in the end its own.
    """
    documents = datasets.Dataset.from_file(str(path))
    state = PackedDataset(documents, length, seed=SEED).state_dict(row)
    command = [sys.executable, "-m", __spec__.name, "--resume", str(path), str(length), json.dumps(state)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent.parent)
    seconds, peak, own = map(float, ran.stdout.split()[-3:])
    return seconds, peak, own


def print_resuming(path: str, length: int, state: dict[str, Any]) -> None:
    """What the process started by `measure_resuming` does."""
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    small = datasets.Dataset.from_dict({"input_ids": [[1] * 9]}, features=features)
    PackedDataset(small, 8)[0]  # what libraries load at first use is not the data's
    peak, own, started = report.peak_resident(), report.own_memory(), time.perf_counter()
    rows = PackedDataset(datasets.Dataset.from_file(path), length, seed=SEED)
    rows.load_state_dict(state)
    rows[state["rows"]]
    seconds = time.perf_counter() - started
    print(f"{seconds:.4f} {report.peak_resident() - peak:.1f} {report.own_memory() - own:.1f}")


def waste_table(texts: dict[str, datasets.Dataset], quick: bool) -> tuple[list[dict], str]:
    """Every objective on every corpus at every length: the measurements, and the table."""
    entries, rows = [], []
    for corpus, documents in texts.items():
        sample = documents[:TOKENIZER_DOCUMENTS]["text"]
        size = 512 if quick else VOCABULARY
        tokenizers = {family: make_tokenizer(family, sample, size) for family in OBJECTIVES}
        for length in (64,) if quick else LENGTHS:
            for family, name in [(family, name) for family, names in OBJECTIVES.items() for name in names]:
                found = measure_waste(family, name, tokenizers[family], documents, length, 2 if quick else BATCHES)
                entries.append({"corpus": corpus, "length": length, "family": family, "objective": name} | found)
                names = ("padding", "one size", "stock", "left out", "cut", "cut wrapped")
                cells = [f"{found[share]:.2%}" if share in found else "" for share in names]
                rows.append([f"{family}, {name}", corpus, str(length), *cells])
    columns = [
        "objective",
        "text",
        "row",
        "padding",
        "of one size",
        "padded to longest",
        "left out",
        "cut",
        "cut if wrapped",
    ]
    return entries, report.table(columns, rows)


def cost_table(folder: str, lengths: np.ndarray, repetitions: int, quick: bool) -> tuple[list[dict], str]:
    """Speed and going on at every number of documents: the measurements, and the table."""
    entries, rows = [], []
    for count in (100, 1000) if quick else COUNTS:
        path = Path(folder) / f"{count}.arrow"
        write_documents(path, count, lengths)
        for length in (64,) if quick else LENGTHS:
            seconds, read, total = measure_speed(path, length)
            taken = [measure_resuming(path, length, int(2.5 * total)) for _ in range(repetitions)]
            again, peaks, own = zip(*taken, strict=True)
            entry = {"documents": count, "length": length, "rows": total, "seconds": seconds, "rows_read": read}
            entries.append(entry | {"resuming_seconds": again, "resuming_mb": max(peaks), "own_mb": max(own)})
            spread = f"{median(again):.2f} ({min(again):.2f}-{max(again):.2f})"
            speed = f"{read * length / seconds / 1e6:.1f}"
            memory = [f"{max(peaks):.0f}", f"{max(own):.0f}"]
            rows.append([f"{count:,}", str(length), speed, f"{1e6 * seconds / read:.0f}", spread, *memory])
        path.unlink()
    columns = [
        "documents",
        "row",
        "million tokens/s",
        "microseconds a row",
        "seconds to go on (range)",
        "MB",
        "of its own",
    ]
    return entries, report.table(columns, rows)


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the tables and saves the results."""
    parser = report.option_parser(__doc__, "packing", repetitions=3)
    parser.add_argument("--resume", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.resume:
        path, length, state = options.resume
        print_resuming(path, int(length), json.loads(state))
        return
    datasets.disable_progress_bars()
    where = report.machine()
    with tempfile.TemporaryDirectory() as folder:
        texts = corpora(options.output / "texts", options.quick)
        waste, first = waste_table(texts, options.quick)
        tokenizer = train_tokenizer(texts["docstrings"][:TOKENIZER_DOCUMENTS]["text"], "decoder", show_progress=False)
        tokens = tokenizer(texts["docstrings"][:20_000]["text"], verbose=False)["input_ids"]
        lengths = np.array([len(document) for document in tokens])
        costs, second = cost_table(folder, lengths, options.repetitions, options.quick)
        sizes = [f"{name}, {len(part):,} documents" for name, part in texts.items()]
    text = f"{report.describe(where)}\n\nText: {'; '.join(sizes)}.\n\n{first}\n\n{second}"
    report.publish(options, "packing", "packing", {"machine": where, "waste": waste, "costs": costs}, text)


if __name__ == "__main__":
    main()
