"""Inference speed of the three families beside the stock models of the same shape, on texts of real lengths.

    python -m benchmarks.inference --write docs/performance.md     # prints, and writes the table
    python -m benchmarks.inference --quick                         # a toy run

embed   an encoder reads texts into vectors, batch after batch as they come, or sorted by length first
read    a decoder reads texts, and says what comes next
write   a decoder or an encoder-decoder reads texts and writes tokens after them, greedily, with its cache

The number behind is that of texts in a batch. Stock models get them padded to the longest, ours what it takes best: end
to end where nothing is written, padded too where something is. *Compiled* is `torch.compile` of the model; written is
then with a static cache, and *tokens compiled* is that with all but the prompt compiled, as transformers does it on a
GPU. All take turns in one process. Counted are real tokens that were read, or of writing those that were written.
"""

import gc
import sys
from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import CompileConfig

from . import report
from .contenders import FAMILIES, OURS, SHAPES, build, stock
from .data import Corpus
from .training import VOCABULARY

WORK = {
    "encoder": ("embed 32", "embed 32 sorted"),
    "decoder": ("read 16", "write 1", "write 16"),
    "encoder-decoder": ("write 1", "write 16"),
}
WRITING = {
    "eager": {},
    "compiled": {"cache_implementation": "static"},
    "tokens compiled": {
        "cache_implementation": "static",
        "compile_config": CompileConfig(fullgraph=False, mode="default"),
    },
}
WRITING["tokens compiled"]["compile_config"]._compile_all_devices = True  # else on a GPU alone
COLUMNS = ["family", "work", "precision", "model", "mode", "tokens/s", "ours to it (range)"]
EMBEDDED = 4  # batches
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def flattened(texts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Texts (L,) end to end in one row."""
    positions = torch.cat([torch.arange(len(text)) for text in texts])
    return {"input_ids": torch.cat(texts)[None], "position_ids": positions[None]}


def padded(texts: list[torch.Tensor], family: str) -> dict[str, torch.Tensor]:
    """Texts (L,) in rows, a decoder's against the right edge, where it goes on."""
    side = "left" if family == "decoder" else "right"
    values = {"input_ids": texts, "attention_mask": [torch.ones_like(text) for text in texts]}
    return {name: pad_sequence(rows, batch_first=True, padding_side=side) for name, rows in values.items()}


def make_work(
    name: str, family: str, work: str, model: Any, texts: list[torch.Tensor], new: int, mode: str = "eager"
) -> Callable[[], Any]:
    """One repetition of a contender as a function."""
    if mode == "compiled":
        for part in (model, model.base_model):
            part.forward = torch.compile(part.forward)
    if work.startswith("write"):
        options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "use_cache": True} | WRITING[mode]
        return lambda: model.generate(**padded(texts, family), **options)
    if work.startswith("embed"):
        texts = sorted(texts, key=len) if work.endswith("sorted") else texts
        size = len(texts) // EMBEDDED
        batches = [texts[start : start + size] for start in range(0, len(texts), size)]
        made = [flattened(batch) if name == OURS else padded(batch, family) for batch in batches]
        return lambda: [model.base_model(**batch).last_hidden_state for batch in made]
    batch = flattened(texts) if name == OURS else padded(texts, family)
    ends = torch.tensor([len(text) for text in texts]).cumsum(0) - 1
    kept = ends if name == OURS else 1
    return lambda: model(**batch, logits_to_keep=kept, use_cache=False).logits


def measure(
    family: str,
    work: str,
    modes: list[str],
    size: str,
    dtype: str,
    texts: list[torch.Tensor],
    new: int,
    repetitions: int,
) -> list[dict]:
    """Tokens a second of all contenders in all modes, in every repetition."""
    gc.collect()
    report.forget_compiled()
    steps = {}
    for name, mode in product((OURS, *stock(family)), modes):
        if mode == "tokens compiled" and not work.startswith("write"):
            continue
        torch.manual_seed(0)
        model = build(name, family, SHAPES[size], 2 * max(map(len, texts)) + new).eval().to(DTYPES[dtype])
        steps[name, mode] = make_work(name, family, work, model, texts, new, mode)
        with torch.no_grad():
            steps[name, mode]()  # shapes that vary make the compiler work more than once
    counted = new * len(texts) if work.startswith("write") else sum(map(len, texts))
    with torch.no_grad():
        seconds = report.take_turns(steps, repetitions)
    return [
        {"model": name, "mode": mode, "tokens_per_second": [counted / one for one in values]}
        for (name, mode), values in seconds.items()
    ]


def rows_of(entry: dict) -> list[list[str]]:
    """The lines of one kind of work, compared with our fastest way; the fastest of stock models is marked."""
    speeds = {(way["model"], way["mode"]): way["tokens_per_second"] for way in entry["ways"]}
    best, rival = (
        max((way for way in speeds if (way[0] == OURS) is mine), key=lambda way: median(speeds[way]))
        for mine in (True, False)
    )
    rows = []
    for way, values in speeds.items():
        ratios = [ours / other for ours, other in zip(speeds[best], values, strict=True)]
        ratio = f"**{median(ratios):.2f}**" if way == rival else f"{median(ratios):.2f}"
        spread = f"{ratio} ({min(ratios):.2f}-{max(ratios):.2f})"
        rows.append([entry["family"], entry["work"], entry["dtype"], *way, f"{median(values):,.0f}", spread])
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    parser = report.option_parser(__doc__, "inference on cpu", repetitions=7)
    parser.add_argument("--size", choices=SHAPES, default="5m")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--mode", nargs="+", choices=WRITING, default=[*WRITING])
    parser.add_argument("--length", type=int, default=512, help="tokens of the longest text")
    parser.add_argument("--new", type=int, default=64, help="tokens to write after each text")
    options = parser.parse_args(arguments)
    if options.quick:
        options.size, options.length, options.new, options.dtype, options.mode = "toy", 48, 3, ["fp32"], ["eager"]
    where, entries = report.machine(), []
    for family in options.family:
        corpus = Corpus(family, "docstrings", 512 if options.quick else VOCABULARY, 40 if options.quick else None)
        for work in WORK[family]:
            count = 2 if options.quick else int(work.split()[1])
            count *= EMBEDDED if work.startswith("embed") else 1
            documents = corpus.documents[:: len(corpus.documents) // count][:count]
            texts = [torch.as_tensor(tokens[: options.length]) for tokens in documents]
            for dtype in options.dtype:
                size = (options.size, dtype, texts, options.new, options.repetitions)
                found = measure(family, work, options.mode, *size)
                entries.append({"family": family, "work": work, "dtype": dtype, "ways": found})
                print(*rows_of(entries[-1]), sep="\n", file=sys.stderr, flush=True)
    form = (
        f"Shape {options.size}; docstrings of at most {options.length} tokens, {options.new} written after each. "
        "To our fastest way; bold: the fastest of stock models."
    )
    table = report.table(COLUMNS, [row for entry in entries for row in rows_of(entry)])
    text = f"{report.describe(where)}\n\n{form}\n\n{table}"
    report.publish(options, "inference-cpu", "inference on cpu", {"machine": where, "entries": entries}, text)


if __name__ == "__main__":
    main()
