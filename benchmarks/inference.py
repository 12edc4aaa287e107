"""Inference speed of the three families against ModernBERT, Llama and T5 of the same shape, on texts of real lengths.

    python -m benchmarks.inference --write docs/performance.md     # prints, and writes the table
    python -m benchmarks.inference --quick                         # a toy run

embed   an encoder reads texts into vectors
read    a decoder reads texts, and says what comes next
write   a decoder or an encoder-decoder reads texts and writes tokens after them, greedily, with its cache

The number behind is that of texts in a batch. The peer gets them padded to the longest, ours what it takes best: end
to end where nothing is written, padded like the peer's where something is. Both take turns in one process. Counted are
real tokens that were read, or of writing those that were written.
"""

import gc
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from . import report
from .contenders import FAMILIES, PEERS, SHAPES, build
from .data import Corpus
from .training import CONTENDERS, VOCABULARY

WORK = {
    "encoder": ("embed 32",),
    "decoder": ("read 16", "write 1", "write 16"),
    "encoder-decoder": ("write 1", "write 16"),
}
COLUMNS = ["family (peer)", "work", "precision", "ours, tokens/s", "peer, tokens/s", "ratio (range)"]
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


def make_work(name: str, family: str, work: str, model: Any, texts: list[torch.Tensor], new: int) -> Callable[[], Any]:
    """One repetition of a contender as a function."""
    if work.startswith("write"):
        length = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
        return lambda: model.generate(**padded(texts, family), **length)
    batch = flattened(texts) if name == "ours" else padded(texts, family)
    if work.startswith("embed"):
        return lambda: model.base_model(**batch).last_hidden_state
    ends = torch.tensor([len(text) for text in texts]).cumsum(0) - 1
    kept = ends if name == "ours" else 1
    return lambda: model(**batch, logits_to_keep=kept, use_cache=False).logits


def measure(
    family: str, work: str, size: str, dtype: str, texts: list[torch.Tensor], new: int, repetitions: int
) -> dict:
    """Tokens a second of both contenders in every repetition."""
    gc.collect()
    steps = {}
    for name in CONTENDERS:
        torch.manual_seed(0)
        model = build(name, family, SHAPES[size], 2 * max(map(len, texts)) + new).eval().to(DTYPES[dtype])
        steps[name] = make_work(name, family, work, model, texts, new)
    counted = new * len(texts) if work.startswith("write") else sum(map(len, texts))
    with torch.no_grad():
        seconds = report.take_turns(steps, repetitions)
    return {name: [counted / one for one in values] for name, values in seconds.items()}


def as_row(entry: dict) -> list[str]:
    """One line of the table."""
    ours, peer = (entry["tokens_per_second"][name] for name in CONTENDERS)
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    spread = f"**{median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f})"
    named = f"{entry['family']} ({PEERS[entry['family']]})"
    return [named, entry["work"], entry["dtype"], f"{median(ours):,.0f}", f"{median(peer):,.0f}", spread]


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark, prints the table and saves the results."""
    parser = report.option_parser(__doc__, "inference on cpu", repetitions=7)
    parser.add_argument("--size", choices=SHAPES, default="5m")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--length", type=int, default=512, help="tokens of the longest text")
    parser.add_argument("--new", type=int, default=64, help="tokens to write after each text")
    options = parser.parse_args(arguments)
    if options.quick:
        options.size, options.length, options.new, options.dtype = "toy", 48, 3, ["fp32"]
    where, entries = report.machine(), []
    for family in options.family:
        corpus = Corpus(family, 512 if options.quick else VOCABULARY, 40 if options.quick else None)
        for work in WORK[family]:
            count = 2 if options.quick else int(work.split()[1])
            documents = corpus.documents[:: max(1, len(corpus.documents) // count)][:count]
            texts = sorted((torch.as_tensor(tokens[: options.length]) for tokens in documents), key=len)
            for dtype in options.dtype:
                found = measure(family, work, options.size, dtype, texts, options.new, options.repetitions)
                entries.append({"family": family, "work": work, "dtype": dtype, "tokens_per_second": found})
                print(*as_row(entries[-1]), sep="; ", file=sys.stderr, flush=True)
    form = f"Shape {options.size}; texts of at most {options.length} tokens, {options.new} written after each."
    text = f"{report.describe(where)}\n\n{form}\n\n{report.table(COLUMNS, [*map(as_row, entries)])}"
    report.publish(options, "inference-cpu", "inference on cpu", {"machine": where, "entries": entries}, text)


if __name__ == "__main__":
    main()
