"""Fine-tune several models for one task, alike, and set what they reach side by side.

    trivium compare --task sentiment --models out/encoder out/decoder out/encoder-decoder --seeds 1 2 3
    trivium compare --task sentiment --models out/encoder --from_scratch_too true --examples 100 300 1000 3000

All are trained by the same recipe, which `--task` names, on the same examples, and chosen by the same validation split;
whatever `trivium finetune` takes may be given too. The same command again goes on where it stopped.
"""

import copy
import dataclasses
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from ..configuration.errors import InputError
from ..model_cards.results import METRICS
from ..model_cards.text import redact
from .arguments import parse, setting
from .checkpoints import RUN_FILE
from .evaluate import markdown, write_whole
from .finetune import finetune
from .finetune_arguments import NESTED, FinetuneArguments, FinetuneTrainingArguments
from .tasks.table import TASKS, task_named
from .verbs import run

SCRATCH = "from scratch"
STYLE = {"backend": "agg", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}


@dataclasses.dataclass(kw_only=True)
class CompareArguments:
    """What to compare."""

    _argument_group_name = "comparison"

    models: list[str] = dataclasses.field(metadata={"help": "checkpoints of Trivium, folders or names on the Hub"})
    seeds: list[int] = dataclasses.field(
        default_factory=lambda: [1, 2, 3], metadata={"help": "of the head, the order and the choice of examples"}
    )
    examples: list[int] | None = setting(
        None, "numbers of examples to train on; 0 measures a model as it is; by default all, once"
    )
    from_scratch_too: bool = setting(False, "train each model also with random weights instead of its own")
    keep_models: bool = setting(False, "keep the weights of every run")


class Run(NamedTuple):
    """One model fine-tuned once; `examples` is `None` for all."""

    model: str
    from_scratch: bool
    examples: int | None
    seed: int

    @property
    def name(self) -> str:
        """The model, and whether its weights were used."""
        return f"{self.model}, {SCRATCH}" if self.from_scratch else self.model

    @property
    def folder(self) -> str:
        """What the folder of the run is called."""
        model = self.model.strip("/").replace("/", "-")
        count = "all" if self.examples is None else self.examples
        return "_".join([model, *(["scratch"] if self.from_scratch else []), f"{count}_{self.seed}"])


def main(argv: list[str] | None = None) -> int:
    """`trivium compare`: returns 0; raises `InputError` for whatever the user can mend."""
    given = list(sys.argv[1:] if argv is None else argv)
    if "--task" in given[:-1] and given[given.index("--task") + 1] not in TASKS:
        given[given.index("--task")] = "--config"  # the name of a recipe, which says the task
    comparison, args, training_args = parse(
        given,
        (CompareArguments, FinetuneArguments, FinetuneTrainingArguments),
        nested=NESTED,
        prog="trivium compare",
        description=(__doc__ or "").partition("\n")[0],
    )
    typed = sys.argv[1:] if argv is None else argv
    compare(comparison, args, training_args, shlex.join(["trivium", "compare", *typed]))
    return 0


def compare(
    comparison: CompareArguments,
    args: FinetuneArguments,
    training_args: FinetuneTrainingArguments,
    command: str | None = None,
) -> dict[str, Any]:
    """Runs what has not been run yet, and leaves compare.md, .json and .png in `output_dir`.

    Args:
        command: what was typed, for the record.

    Raises:
        InputError: nothing to compare, or whatever [`finetune`] refuses.
    """
    if args.max_train_examples is not None:
        if comparison.examples:
            raise InputError("`max_train_examples` is one number of `examples`: give one of the two.")
        comparison = dataclasses.replace(comparison, examples=[args.max_train_examples])
    if args.from_scratch:
        raise InputError(
            "`from_scratch` is of one run: `from_scratch_too` compares each model with itself from scratch."
        )
    folder = Path(training_args.output_dir or "")
    metric = task_named(args.task).best
    planned = plan(comparison)
    runs = [
        {"run": one, "metrics": fine_tune_once(one, folder, args, training_args, comparison.keep_models)}
        for one in planned
    ]
    result = {
        "command": command and redact(command),
        "task": args.task,
        "data": args.data,
        "metric": metric,
        "rows": list(summarize(runs)),
    }
    if training_args.should_save:
        result |= circumstances([folder / one.folder / RUN_FILE for one in planned])
        text = report(result)
        write_whole(folder / "compare.json", json.dumps(result, indent=2) + "\n")
        write_whole(folder / "compare.md", text + "\n")
        drawn = draw(result, folder / "compare.png") if find_spec("matplotlib") else False
        print(f"\n{text}\n\nSaved to {folder}" + ("." if drawn else '; a plot needs pip install "trivium[plot]".'))
    return result


def plan(comparison: CompareArguments) -> list[Run]:
    """The runs, the fewest examples first."""
    if not comparison.models or not comparison.seeds:
        raise InputError("name the `models` to compare, and at least one of `seeds`.")
    if len({path.rstrip("/") for path in comparison.models}) < len(comparison.models):
        raise InputError("one of `models` is named twice.")
    sizes: list[int | None] = sorted(comparison.examples) if comparison.examples else [None]  # type: ignore[assignment]
    beginnings = (False, True) if comparison.from_scratch_too else (False,)
    return [
        Run(model, scratch, size, seed)
        for size, model, scratch, seed in product(sizes, comparison.models, beginnings, comparison.seeds)
        if size != 0 or (seed == comparison.seeds[0] and not scratch)  # nothing is drawn where nothing is trained
    ]


def fine_tune_once(
    planned: Run, folder: Path, args: FinetuneArguments, training_args: FinetuneTrainingArguments, keep: bool
) -> dict[str, float]:
    """What one run measured; its weights are deleted unless they are to be kept."""
    mine = dataclasses.replace(
        args, model=planned.model, from_scratch=planned.from_scratch, max_train_examples=planned.examples
    )
    training = copy.copy(training_args)
    training.output_dir, training.seed = str(folder / planned.folder), planned.seed
    metrics = finetune(mine, training).metrics
    if training_args.should_save and not keep:
        place = Path(training.output_dir)
        for checkpoint in place.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        for path in place.rglob("*.safetensors"):
            path.unlink()
    return metrics


def circumstances(records: list[Path]) -> dict[str, Any]:
    """When the last run ended, on which machines and versions they ran, and how many rows they were tested on."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in records]
    tested = {record["finetuning"]["examples"].get("test") for record in read} - {None}
    return {
        "ended": max(record["ended"] for record in read),
        "machines": sorted({record["machine"]["processor"] for record in read}),
        "versions": [*map(dict, sorted({tuple(record["versions"].items()) for record in read}))],
        "tested": sorted(tested),
    }


def summarize(runs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each model and number of examples the mean and the spread of each metric over the seeds."""
    groups: dict[tuple[str, int | None], list[dict[str, float]]] = {}
    for one in runs:
        groups.setdefault((one["run"].name, one["run"].examples), []).append(one["metrics"])
    for (name, examples), found in groups.items():
        split = "test" if "test_loss" in found[0] else "validation"
        values = {
            key.removeprefix(f"{split}_"): [float(metrics[key]) for metrics in found]
            for key in found[0]
            if key.startswith(f"{split}_")
        }
        yield {
            "model": name,
            "examples": examples,
            "parameters": found[0]["parameters"],
            "split": split,
            "seeds": len(found),
            "mean": {key: mean(numbers) for key, numbers in values.items()},
            "deviation": {key: stdev(numbers) if len(numbers) > 1 else None for key, numbers in values.items()},
        }


def report(result: dict[str, Any]) -> str:
    """The table, in Markdown."""
    names = [name for name in result["rows"][0]["mean"] if name != "loss"] + ["loss"]
    some = ["examples"] if any(row["examples"] is not None for row in result["rows"]) else []
    head = ["model", "parameters", *some, *names]
    rows = []
    for row in result["rows"]:
        cells = {"model": row["model"], "parameters": f"{row['parameters'] / 1e6:.1f} M", "examples": row["examples"]}
        for name in names:
            spread = row["deviation"][name]
            cells[name] = f"{row['mean'][name]:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
        rows.append(cells)
    split, seeds = result["rows"][0]["split"], max(row["seeds"] for row in result["rows"])
    note = f"{result['task']} on {', '.join(result['data'])}: the {split} split"
    note += f", mean ± standard deviation over {seeds} seeds." if seeds > 1 else ", one seed."
    return f"{markdown(rows, {name: METRICS.get(name, name.replace('_', ' ')) for name in head})}\n\n{note}"


def draw(result: dict[str, Any], path: Path) -> bool:
    """Draws bars, or over several numbers of examples curves, with the spread over seeds."""
    import matplotlib
    from matplotlib.figure import Figure

    metric = result["metric"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        models = list(dict.fromkeys(row["model"] for row in result["rows"]))
        counts = sorted({row["examples"] for row in result["rows"]} - {None})
        if len(counts) > 1:
            colours = {model: f"C{place}" for place, model in enumerate(m for m in models if not m.endswith(SCRATCH))}
            for model in models:
                rows = [row for row in result["rows"] if row["model"] == model]
                points = [(row["examples"], row["mean"][metric], row["deviation"][metric] or 0) for row in rows]
                x, y, spread = zip(*points, strict=True)
                axes.errorbar(
                    x,
                    y,
                    spread,
                    marker="o",
                    markersize=4,
                    capsize=3,
                    label=model,
                    color=colours[model.removesuffix(f", {SCRATCH}")],
                    linestyle="--" if model.endswith(SCRATCH) else "-",
                )
            axes.set_xscale("symlog", linthresh=min(filter(None, counts)))  # so that 0 has a place
            axes.set_xticks(counts, [f"{count:,}" for count in counts])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("examples to train on")
            axes.legend(frameon=False)
        else:
            heights = [row["mean"][metric] for row in result["rows"]]
            spreads = [row["deviation"][metric] or 0 for row in result["rows"]]
            axes.barh(models, heights, xerr=spreads, color="#4c72b0", capsize=3)
            axes.invert_yaxis()
        (axes.set_ylabel if len(counts) > 1 else axes.set_xlabel)(metric)
        axes.set_title(f"{result['task']}, {', '.join(result['data'])}")
        aside = path.with_name(f".{path.name}")
        figure.savefig(aside, format="png", dpi=130)
    aside.replace(path)
    return True


if __name__ == "__main__":
    raise SystemExit(run(main))
