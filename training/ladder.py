"""Train a few small sizes within a budget of tokens, and tell from them what a larger one would reach.

    trivium ladder --config decoder-tiny --tokens 2e6 --output_dir out/ladder
    trivium ladder --config my-recipe.yaml --tokens 1e9 --sizes 128x4 192x6 256x8 384x8

All sizes are trained by the same recipe on the same text. The same command again goes on where it stopped.
"""

import copy
import dataclasses
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from transformers import AutoTokenizer

from ..configuration.errors import InputError
from .arguments import PretrainArguments, PretrainTrainingArguments, parse
from .evaluate import markdown, write_whole
from .pretrain import FAMILIES, make_config, pretrain
from .scaling_law import PARAMETERS, ScalingLaw, fit, leave_one_out, spread
from .tensor_parallel import tensor_parallel_size
from .verbs import run

FRACTIONS = (0.25, 0.375, 0.5, 0.75, 1.0)  # of the recipe's width and depth
REACH = (10, 100)  # times the compute of the largest size
MIN_STEPS = 20
COLUMNS = {
    "size": "width x depth",
    "parameters": "parameters",
    "tokens": "tokens",
    "compute": "FLOPs",
    "measured": "bits per byte",
    "law": "by the law",
    "range": "by the laws of one run less",
}
NOTE = (
    "The law: {irreducible:.3f} + {scale:.3g} * FLOPs ** -{exponent:.3f}, fitted to the measured runs. Of a run, the "
    "last column is what the law fitted to the other runs says; beyond them, the range of what these laws say: the "
    "least that can be wrong. The recipe's learning rate and batch are the same for all sizes and best for one at most."
)


@dataclasses.dataclass(kw_only=True)
class LadderArguments:
    """Which sizes to train, and for how long."""

    _argument_group_name = "ladder"

    tokens: float = dataclasses.field(metadata={"help": "tokens to train on, of all sizes together"})
    sizes: list[str] | None = dataclasses.field(
        default=None, metadata={"help": "WIDTHxDEPTH, three or more; by default a quarter of the recipe's model and up"}
    )
    split: Literal["ratio", "equal"] = dataclasses.field(
        default="ratio", metadata={"help": "tokens of a size: in proportion to its parameters, or as many for each"}
    )


class Rung(NamedTuple):
    """One size: its name, the fields of its configuration, its parameters, and the tokens to train it on."""

    size: str
    shape: dict[str, Any]
    parameters: int
    tokens: float


def main(argv: list[str] | None = None) -> int:
    """`trivium ladder`: returns 0; raises `InputError` for whatever the user can mend."""
    ladder, args, training_args = parse(
        sys.argv[1:] if argv is None else argv,
        (LadderArguments, PretrainArguments, PretrainTrainingArguments),
        prog="trivium ladder",
        description=(__doc__ or "").partition("\n")[0],
    )
    climb(ladder, args, training_args)
    return 0


def climb(ladder: LadderArguments, args: PretrainArguments, training_args: PretrainTrainingArguments) -> dict[str, Any]:
    """Trains what is not trained yet, fits the law, and leaves ladder.md, .json and .png in `output_dir`.

    Raises:
        InputError: sizes or a budget that no law can be fitted with, or whatever [`pretrain`] refuses.
    """
    folder = Path(training_args.output_dir or "")
    rungs = plan(ladder, args, training_args)
    runs = []
    for rung in rungs:
        mine, training = dataclasses.replace(args, model=args.shape | rung.shape), copy.copy(training_args)
        mine.tokenizer = args.tokenizer or (str(folder / rungs[0].size) if rung is not rungs[0] else None)
        training.output_dir, training.max_steps, training.max_tokens = str(folder / rung.size), -1, rung.tokens
        metrics = pretrain(mine, training).metrics
        compute = metrics["flops"]
        loss = metrics["held_out_bits_per_byte_after"]
        read = {name: metrics[name] for name in ("parameters", "tokens")}
        runs.append({"size": rung.size, **read, "compute": compute, "measured": loss})
    result = extrapolate(runs, ladder.split)
    if training_args.should_save:
        text = report(result)
        write_whole(folder / "ladder.json", json.dumps(result, indent=2) + "\n")
        write_whole(folder / "ladder.md", text + "\n")
        drawn = draw(result, folder / "ladder.png") if find_spec("matplotlib") else False
        print(f"\n{text}\n\nSaved to {folder}" + ("." if drawn else '; a plot needs pip install "trivium[plot]".'))
    return result


def plan(ladder: LadderArguments, args: PretrainArguments, training_args: PretrainTrainingArguments) -> list[Rung]:
    """The sizes from the smallest on, with their share of the budget; raises `InputError` for what is too little."""
    if {"encoder", "decoder"} & set(args.shape):
        raise InputError(
            "a ladder scales both sides alike: say in `model` itself what holds, not in encoder or decoder."
        )
    if args.model_name_or_path:
        raise InputError("a ladder begins with new models: leave model_name_or_path out.")
    config_class, model_class = FAMILIES[args.family]
    vocabulary = len(AutoTokenizer.from_pretrained(args.tokenizer)) if args.tokenizer else args.vocab_size
    base = make_config(args, config_class, vocab_size=vocabulary).get_text_config(decoder=True)
    rungs = []
    for size in dict.fromkeys(ladder.sizes or default_sizes(base)):
        shape = scale(base, size)
        config = make_config(dataclasses.replace(args, model=args.shape | shape), config_class, vocab_size=vocabulary)
        with torch.device("meta"):
            rungs.append(Rung(size, shape, model_class(config).num_parameters(), 0.0))
    if len(rungs) < PARAMETERS:
        raise InputError(f"a law needs {PARAMETERS} sizes or more, not {len(rungs)}: give more `sizes`.")
    rungs.sort(key=lambda rung: rung.parameters)
    weights = [rung.parameters if ladder.split == "ratio" else 1 for rung in rungs]
    rungs = [
        rung._replace(tokens=ladder.tokens * weight / sum(weights)) for rung, weight in zip(rungs, weights, strict=True)
    ]
    check_budget(rungs, ladder, args, training_args)
    return rungs


def check_budget(rungs: list[Rung], ladder: LadderArguments, args: PretrainArguments, training_args: Any) -> None:
    """Raises `InputError` if some size would be trained for too few steps to say anything."""
    if ladder.tokens <= 0:
        raise InputError(f"`tokens` must be positive, not {ladder.tokens:g}.")
    shares = training_args.world_size // tensor_parallel_size(training_args)
    rows = training_args.train_batch_size * training_args.gradient_accumulation_steps * shares
    least = min(rungs, key=lambda rung: rung.tokens)
    steps = least.tokens / (rows * args.max_length)
    if steps < MIN_STEPS:
        raise InputError(
            f"`tokens` {ladder.tokens:,.0f} make {steps:.1f} steps for the size {least.size}, and {MIN_STEPS} are the "
            f"least: raise it to {ladder.tokens * MIN_STEPS / steps:,.0f}, or lower the batch."
        )


def default_sizes(base: Any) -> list[str]:
    """Sizes from a quarter of a stack's width and depth to the whole, in whole heads."""
    heads = [max(1, round(fraction * base.hidden_size / base.head_dim)) for fraction in FRACTIONS]
    depths = [max(1, round(fraction * base.num_hidden_layers)) for fraction in FRACTIONS]
    return [f"{count * base.head_dim}x{depth}" for count, depth in zip(heads, depths, strict=True)]


def scale(base: Any, size: str) -> dict[str, Any]:
    """The fields that make a stack of WIDTHxDEPTH out of another: heads as wide, layer types in the same order."""
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None or not all(map(int, match.groups())):
        raise InputError(f"the size '{size}' is not understood: give WIDTHxDEPTH, such as 128x4.")
    width, depth = map(int, match.groups())
    heads = max(1, round(width / base.head_dim))
    groups = min(heads, max(1, round(heads * base.num_key_value_heads / base.num_attention_heads)))
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "head_dim": base.head_dim,
        "num_attention_heads": heads,
        "num_key_value_heads": max(count for count in range(1, groups + 1) if heads % count == 0),
        "intermediate_size": 8 * max(1, round(base.intermediate_size * width / base.hidden_size / 8)),
        "layer_types": [base.layer_types[layer] for layer in _spread_out(base.num_hidden_layers, depth)],
    }


def _spread_out(layers: int, depth: int) -> list[int]:
    """`depth` of the numbers below `layers` at equal distances, the last among them."""
    return [layers - 1 - round(layer * (layers - 1) / max(depth - 1, 1)) for layer in reversed(range(depth))]


def extrapolate(runs: list[dict[str, Any]], split: str) -> dict[str, Any]:
    """The runs with what the law says of each, the law, and what it says beyond the largest run."""
    compute, loss = (np.array([run[name] for run in runs]) for name in ("compute", "measured"))
    law, others = fit(compute, loss), leave_one_out(compute, loss)
    largest = runs[int(compute.argmax())]
    measured = [
        run | {"law": float(law(run["compute"])), "range": [float(others[row](run["compute"]))] * 2 if others else None}
        for row, run in enumerate(runs)
    ]
    beyond = []
    for factor in REACH:
        growth = factor**0.5 if split == "ratio" else factor
        at, band = factor * largest["compute"], spread(others, factor * largest["compute"])
        tokens = largest["tokens"] * (growth if split == "ratio" else 1)
        beyond.append(
            {
                "size": f"{factor} x compute",
                "parameters": round(largest["parameters"] * growth),
                "tokens": round(tokens),
            }
            | {"compute": at, "measured": None, "law": float(law(at)), "range": band and [float(end) for end in band]}
        )
    return {"runs": measured, "law": law._asdict(), "beyond": beyond}


def report(result: dict[str, Any]) -> str:
    """A table of the runs and of what the law says beyond them, and what to think of it."""
    rows = []
    for row in [*result["runs"], *result["beyond"]]:
        low, high = row["range"] or (None, None)
        ends = "" if low is None else f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
        measured = "" if row["measured"] is None else f"{row['measured']:.3f}"
        rows.append(row | {"compute": f"{row['compute']:.2e}", "measured": measured, "law": f"{row['law']:.3f}"})
        rows[-1]["range"] = ends
    notes = [NOTE.format(**result["law"])]
    if all(run["range"] is None for run in result["runs"]):
        notes.append("Three runs fit a law of three numbers whatever they are: how far it can be trusted is not known.")
    losses = [run["measured"] for run in sorted(result["runs"], key=lambda run: run["compute"])]
    if losses != sorted(losses, reverse=True):
        notes.append("A larger run came out worse than a smaller one: train longer, or trust none of this.")
    return "\n\n".join([markdown(rows, COLUMNS), *notes])


def draw(result: dict[str, Any], path: Path) -> bool:
    """Plots runs, law and range as a PNG; needs the extra `plot`."""
    from matplotlib.figure import Figure

    runs, beyond = result["runs"], result["beyond"]
    compute, loss = ([row[name] for row in runs] for name in ("compute", "measured"))
    law, others = ScalingLaw(**result["law"]), leave_one_out(compute, loss)
    curve = np.geomspace(min(compute), max(row["compute"] for row in beyond), 100)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    if (band := spread(others, curve)) is not None:
        axes.fill_between(curve, *band, alpha=0.2, linewidth=0, label="laws of one run less")
    axes.plot(curve, law(curve), label="law")
    axes.plot(compute, loss, "o", color="black", label="measured")
    for row in [*runs, *beyond]:
        axes.annotate(row["size"], (row["compute"], row["law"]), textcoords="offset points", xytext=(4, 6), fontsize=8)
    axes.set(xscale="log", xlabel="training compute (FLOPs)", ylabel="held-out bits per byte")
    axes.legend()
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return True


if __name__ == "__main__":
    raise SystemExit(run(main))
