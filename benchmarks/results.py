"""Write docs/results.md: for each set of `trivium fetch` what the baselines and the compared models reach.

    python -m benchmarks.baselines --data data
    trivium compare --task sentiment --models out/encoder out/decoder --output_dir out/results/sentiment
    python -m benchmarks.results --baselines out/baselines.json --runs out/results/*/compare.json

What is named is kept beside the page, in docs/results, under the name of its folder, and the page is made of all that
is kept there; without arguments it is made anew. Nothing is measured here: what was not run is said to be missing.
Notes in the page, between their markers, stay.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trivium.model_cards.results import METRICS
from trivium.training.compare import SCRATCH, STYLE
from trivium.training.corpora.catalogue import CORPORA
from trivium.training.evaluate import write_whole

from . import report

# Losses of different vocabularies do not compare; the others differ little from those beside them.
LEFT_OUT = {"loss", "HasAns_exact", "NoAns_exact", "rougeLsum"}
SAYS_THE_SAME = {"micro_f1": "accuracy", "f1": "macro_f1"}  # where the other is there
IN_PERCENT = {"bleu", "chrf"}
NAMES = METRICS | {"HasAns_f1": "F1, answerable", "NoAns_f1": "F1, unanswerable"}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
BASELINES, PLOT = "baselines.json", "side-by-side.png"
NOTE = re.compile(r"<!-- note on (\S+) -->\n(.*?)<!-- /note on \1 -->", re.DOTALL)
INTRODUCTION = """# Results

What fine-tuned models reach on the [data of `trivium fetch`](finetuning.md#data-to-fine-tune-on), beside what counting
words, or a rule, reaches. All is measured on the test split by the same metrics and written here by these commands:

    trivium fetch sentiment ... minilm smollm2
    trivium convert data/minilm out/minilm     # and smollm2; the families of ours are those of benchmarks/families.yaml
    python -m benchmarks.baselines --data data
    trivium compare ...                        # what it was is said below for each set
    python -m benchmarks.results --baselines out/baselines.json --runs out/results/*/compare.json

[Baselines](../benchmarks/baselines.py) learn from the train split, with the same settings for every set; models are
chosen by the validation split too, and theirs are means ± standard deviations over seeds. BLEU and chrF go from 0 to
100, correlations from -1 to 1, all else from 0 to 1.
"""

SIDE_BY_SIDE = """## Which family suits which task

The three families, pretrained alike: 3.4 million parameters on the same text, 2 million tokens of it
([families.yaml](../benchmarks/families.yaml) says how). Fine-tuned alike too, on the sets that they share, they reach
what follows. Words, of addresses and parts of speech, the encoder-decoder labels by its encoder alone, 1.9 million
parameters.
"""


class Comparison(NamedTuple):
    """What `trivium compare` has left.

    Attributes:
        name: that of its folder.
        result: compare.json.
        picture: where its plot is kept, if there is one.
    """

    name: str
    result: dict[str, Any]
    picture: Path | None

    @classmethod
    def read(cls, path: Path) -> "Comparison":
        """From the path of what is kept of compare.json."""
        picture = path.with_suffix(".png")
        return cls(path.stem, json.loads(path.read_text(encoding="utf-8")), picture if picture.exists() else None)

    @property
    def metric(self) -> str:
        """What the models are compared by: losses of different vocabularies do not compare."""
        return "chrf" if self.result["metric"] == "loss" else self.result["metric"]

    @property
    def data(self) -> str:
        """The name of the set: that of the folder which the data lie in."""
        path = Path(self.result["data"][0])
        return path.parent.name if path.suffix else path.name


def main(arguments: list[str] | None = None) -> None:
    """Keeps what is named, and writes the page of all that is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baselines", type=Path, help="what `python -m benchmarks.baselines` has left")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="compare.json of one comparison or several")
    parser.add_argument("--write", type=Path, default=PAGE, help="the page; default: %(default)s")
    options = parser.parse_args(arguments)
    named = [*filter(None, [options.baselines]), *options.runs]
    if missing := [path for path in named if not path.is_file()]:
        parser.error(f"there is no file {missing[0]}")
    kept = options.write.with_suffix("")
    keep(kept, options.baselines, options.runs)
    baselines = json.loads((kept / BASELINES).read_text(encoding="utf-8")) if (kept / BASELINES).exists() else {}
    comparisons = [Comparison.read(path) for path in sorted(kept.glob("*.json")) if path.name != BASELINES]
    before = options.write.read_text(encoding="utf-8") if options.write.exists() else ""
    if abreast(comparisons)[1]:
        draw(comparisons, kept / PLOT)
    write_whole(options.write, page(baselines, comparisons, dict(NOTE.findall(before))))


def keep(folder: Path, baselines: Path | None, runs: list[Path]) -> None:
    """Copies results into a folder: baselines beside those of other sets that it holds; plots of several rows."""
    folder.mkdir(parents=True, exist_ok=True)
    if baselines:
        held = folder / BASELINES
        before = json.loads(held.read_text(encoding="utf-8")) if held.exists() else {}
        write_whole(held, json.dumps(before | json.loads(baselines.read_text(encoding="utf-8")), indent=2) + "\n")
    for run in runs:
        result = run.read_text(encoding="utf-8")
        write_whole(folder / f"{run.parent.name}.json", result)
        if len(json.loads(result)["rows"]) > 1 and (picture := run.with_suffix(".png")).exists():
            (folder / f"{run.parent.name}.png").write_bytes(picture.read_bytes())


def page(baselines: dict[str, Any], comparisons: list[Comparison], notes: dict[str, str]) -> str:
    """The page: a section for each set that can be fetched, and for each other one that something was run on."""
    names = dict.fromkeys([*CORPORA, *baselines, *(one.data for one in comparisons), *notes])
    parts = [section(name, baselines.get(name), comparisons, notes.get(name, "")) for name in names]
    return "\n".join([INTRODUCTION, *filter(None, [side_by_side(comparisons)]), *parts])


def side_by_side(comparisons: list[Comparison]) -> str:
    """One metric of every comparison of several models, a column each, and the plot of that; empty without one."""
    models, several = abreast(comparisons)
    if not several:
        return ""
    rows = []
    for one in several:
        metric, found = one.metric, {row["model"]: row for row in one.result["rows"]}
        best = max(row["mean"][metric] for row in found.values())
        cells = {model: cell(row, metric) for model, row in found.items()}
        cells |= {model: f"**{cells[model]}**" for model, row in found.items() if row["mean"][metric] == best}
        name = NAMES.get(metric, metric.replace("_", " "))
        rows.append([f"[{one.data}](#{one.data})", name, *(cells.get(model, "") for model in models)])
    return f"{SIDE_BY_SIDE}\n{report.table(['', 'metric', *models], rows)}\n\n![side by side]({PAGE.stem}/{PLOT})\n"


def abreast(comparisons: list[Comparison]) -> tuple[list[str], list[Comparison]]:
    """The comparisons of several models as they are, on one number of examples; and all these models."""
    several = []
    for one in comparisons:
        names = [row["model"] for row in one.result["rows"]]
        if len(names) == len({*names}) > 1 and not any(SCRATCH in name for name in names):
            several.append(one)
    return [*dict.fromkeys(row["model"] for one in several for row in one.result["rows"])], several


def draw(comparisons: list[Comparison], path: Path) -> None:
    """Bars of what [`side_by_side`] shows, a group for each comparison; what is in percent as a share."""
    import matplotlib
    from matplotlib.figure import Figure

    models, several = abreast(comparisons)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.2 + 0.5 * len(several)), layout="constrained")
        axes = figure.subplots()
        width = 1 / (len(models) + 1)
        for place, model in enumerate(models):
            bars = []
            for group, one in enumerate(several):
                unit = 100 if one.metric in IN_PERCENT else 1
                for row in (row for row in one.result["rows"] if row["model"] == model):
                    value, spread = row["mean"][one.metric], row["deviation"].get(one.metric) or 0
                    bars.append((group + (place - (len(models) - 1) / 2) * width, value / unit, spread / unit))
            places, values, spreads = zip(*bars, strict=True)
            axes.barh(places, values, width, xerr=spreads, label=model)
        axes.set_yticks(range(len(several)), [f"{one.data}\n{NAMES.get(one.metric, one.metric)}" for one in several])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        figure.legend(loc="outside upper center", ncols=len(models), frameon=False)
        figure.savefig(path, format="png", dpi=130)


def section(name: str, measured: dict[str, Any] | None, comparisons: list[Comparison], note: str) -> str:
    """One set: what it is, the table, where the numbers are from, plots, and the note."""
    mine = [one for one in comparisons if one.data == name]
    parts = [f"## {name}", about(name, measured)]
    if measured or mine:
        parts.append(table(measured, mine))
    parts.append(baselines_run(measured))
    parts += [run(one, measured) for one in mine] or ["Fine-tuned models: not run yet."]
    parts += [f"![{one.name}]({one.picture.parent.name}/{one.picture.name})" for one in mine if one.picture]
    return "\n\n".join([*filter(None, parts), f"<!-- note on {name} -->\n{note}<!-- /note on {name} -->"]) + "\n"


def about(name: str, measured: dict[str, Any] | None) -> str:
    """What the set is, and how many rows it has."""
    said = CORPORA[name].summary if name in CORPORA else ""
    said = said[:1].upper() + said[1:] + ("" if said.endswith("?") or not said else ".")
    counts = measured["rows"] if measured else {}
    rows = ", ".join(f"{count:,} rows to {split} on" for split, count in counts.items() if count)
    return f"{said} {rows}." if rows else said


def table(measured: dict[str, Any] | None, comparisons: list[Comparison]) -> str:
    """A row for each baseline and each model."""
    rows = [*_baseline_rows(measured), *_model_rows(comparisons)]
    present = dict.fromkeys(metric for row in rows for metric in row["mean"])
    metrics = [name for name in present if name not in LEFT_OUT and SAYS_THE_SAME.get(name) not in present]
    columns = [
        *(["parameters"] if comparisons else []),
        *(["examples"] if any(row["examples"] is not None for row in rows) else []),
        *metrics,
        *(["seeds"] if comparisons else []),
    ]
    cells = [[row["name"], *(cell(row, column) for column in columns)] for row in rows]
    return report.table(["", *(NAMES.get(name, name.replace("_", " ")) for name in columns)], cells)


def cell(row: dict[str, Any], column: str) -> str:
    """A number with its spread, "undefined" for a metric that could not be computed, nothing for one that was not."""
    if column in ("examples", "seeds"):
        return "" if row[column] is None else f"{row[column]:,}"
    if column == "parameters":
        return f"{row[column] / 1e6:.1f} M" if row[column] else ""
    if column not in row["mean"]:
        return ""
    places, spread = 1 if column in IN_PERCENT else 3, row["deviation"].get(column)
    if not is_number(row["mean"][column]):
        return "undefined"
    return f"{row['mean'][column]:.{places}f}" + (f" ± {spread:.{places}f}" if is_number(spread) else "")


def is_number(value: float | None) -> bool:
    """Whether there is a value, and it is not `nan`."""
    return value is not None and value == value


def _baseline_rows(measured: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    for one in measured["baselines"] if measured else ():
        nothing = {"parameters": None, "examples": None, "seeds": None, "deviation": {}}
        yield {"name": one["baseline"], "mean": one["metrics"]} | nothing


def _model_rows(comparisons: list[Comparison]) -> Iterator[dict[str, Any]]:
    for one in comparisons:
        for row in one.result["rows"]:
            name = f"`{one.name}`: {row['model']}" if len(comparisons) > 1 else row["model"]
            yield row | {"name": name if row["split"] == "test" else f"{name} ({row['split']} split)"}


def baselines_run(measured: dict[str, Any] | None) -> str:
    """Where the baselines were measured."""
    if not measured:
        return "Baselines: not run yet."
    where, seconds = measured["machine"], sum(one["seconds"] for one in measured["baselines"])
    threads = f"{where['threads']} thread{'s' if where['threads'] != 1 else ''}"
    versions = ", ".join(f"{name} {where[name]}" for name in ("python", "scikit-learn") if name in where)
    return f"Baselines: {where['date']}, {where['device']}, {threads}, {seconds:.1f} s; {versions}."


def run(comparison: Comparison, measured: dict[str, Any] | None) -> str:
    """Where and with what the models were fine-tuned, and whether the rows to test on are those of the baselines."""
    result = comparison.result
    command = result.get("command")
    versions = (", ".join(f"{name} {number}" for name, number in one.items()) for one in result["versions"])
    others = {*result["tested"]} - {measured["rows"]["test"]} if measured else set()
    parts = [
        f"Models: `{command}`" if command else f"Models of `{comparison.name}`, whose command was not recorded",
        result["ended"][:10],
        *result["machines"],
        *versions,
        *(f"tested on other rows than the baselines, {count:,}" for count in sorted(others)),
    ]
    return "; ".join(parts) + "."


if __name__ == "__main__":
    main()
