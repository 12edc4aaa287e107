"""Write docs/results.md: for each set of `trivium fetch` what the baselines and the compared models reach.

    python -m benchmarks.baselines --data data
    trivium compare --task sentiment --models out/encoder out/decoder --output_dir out/results/sentiment
    python -m benchmarks.results --runs out/results/*/compare.json --write docs/results.md

Nothing is measured here: what was not run is said to be missing. Notes in the page, between their markers, are kept.
"""

import argparse
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trivium.model_cards.results import METRICS
from trivium.training.corpora.catalogue import CORPORA

from . import report

# Losses of different vocabularies do not compare; the others differ little from those beside them.
LEFT_OUT = {"loss", "HasAns_exact", "NoAns_exact", "rougeLsum"}
SAYS_THE_SAME = {"micro_f1": "accuracy", "f1": "macro_f1"}  # where the other is there
IN_PERCENT = {"bleu", "chrf"}
NAMES = METRICS | {"HasAns_f1": "F1, answerable", "NoAns_f1": "F1, unanswerable"}
PICTURE = "compare.png"
NOTE = re.compile(r"<!-- note on (\S+) -->\n(.*?)<!-- /note on \1 -->", re.DOTALL)
INTRODUCTION = """# Results

What fine-tuned models reach on the [data of `trivium fetch`](finetuning.md#data-to-fine-tune-on), beside what counting
words, or a rule, reaches. All is measured on the test split by the same metrics and written here by these commands:

    trivium fetch sentiment ... minilm
    trivium convert data/minilm out/minilm
    python -m benchmarks.baselines --data data
    trivium compare ...                        # what it was is said below for each set
    python -m benchmarks.results --runs out/results/*/compare.json --write docs/results.md

[Baselines](../benchmarks/baselines.py) learn from the train split, with the same settings for every set; models are
chosen by the validation split too, and theirs are means ± standard deviations over seeds. BLEU and chrF go from 0 to
100, correlations from -1 to 1, all else from 0 to 1.
"""


class Comparison(NamedTuple):
    """What `trivium compare` left in a folder.

    Attributes:
        folder: where.
        result: compare.json.
        records: trivium_run.json of every run.
    """

    folder: Path
    result: dict[str, Any]
    records: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "Comparison":
        """From the path of compare.json."""
        records = [json.loads(record.read_text()) for record in sorted(path.parent.glob("*/trivium_run.json"))]
        return cls(path.parent, json.loads(path.read_text()), records)

    @property
    def data(self) -> str:
        """The name of the set: that of the folder which the data lie in."""
        path = Path(self.result["data"][0])
        return path.parent.name if path.suffix else path.name


def main(arguments: list[str] | None = None) -> None:
    """Writes, or prints, the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baselines", type=Path, default=Path("out/baselines.json"))
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="compare.json of one comparison or several")
    parser.add_argument("--write", type=Path, help="file to write; by default the page is printed")
    options = parser.parse_args(arguments)
    if missing := [path for path in [options.baselines, *options.runs] if not path.is_file()]:
        parser.error(f"there is no file {missing[0]}")
    comparisons = [Comparison.read(path) for path in sorted(options.runs)]
    before = options.write.read_text(encoding="utf-8") if options.write and options.write.exists() else ""
    text = page(json.loads(options.baselines.read_text()), comparisons, dict(NOTE.findall(before)))
    if not options.write:
        print(text, end="")
        return
    options.write.write_text(text, encoding="utf-8")
    for folder, link in pictures(comparisons).items():
        place = options.write.parent / link
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / PICTURE, place)


def page(baselines: dict[str, Any], comparisons: list[Comparison], notes: dict[str, str]) -> str:
    """The page: a section for each set that can be fetched, and for each other one that something was run on."""
    names = dict.fromkeys([*CORPORA, *baselines, *(one.data for one in comparisons), *notes])
    shown = pictures(comparisons)
    parts = [section(name, baselines.get(name), comparisons, notes.get(name, ""), shown) for name in names]
    return "\n".join([INTRODUCTION, *parts])


def section(
    name: str, measured: dict[str, Any] | None, comparisons: list[Comparison], note: str, shown: dict[Path, str]
) -> str:
    """One set: what it is, the table, where the numbers are from, plots, and the note."""
    mine = [one for one in comparisons if one.data == name]
    parts = [f"## {name}", about(name, measured)]
    if measured or mine:
        parts.append(table(measured, mine))
    parts.append(baselines_run(measured))
    parts += [run(one, measured) for one in mine] or ["Fine-tuned models: not run yet."]
    parts += [f"![{name}]({shown[one.folder]})" for one in mine if one.folder in shown]
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
        *(["examples"] if any(row["examples"] for row in rows) else []),
        *metrics,
        *(["seeds"] if comparisons else []),
    ]
    cells = [[row["name"], *(cell(row, column) for column in columns)] for row in rows]
    return report.table(["", *(NAMES.get(name, name.replace("_", " ")) for name in columns)], cells)


def cell(row: dict[str, Any], column: str) -> str:
    """A number with its spread, "undefined" for a metric that could not be computed, nothing for one that was not."""
    if column in ("examples", "seeds"):
        return f"{row[column]:,}" if row[column] else ""
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
            name = f"`{one.folder.name}`: {row['model']}" if len(comparisons) > 1 else row["model"]
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
    command = comparison.result.get("command")
    circumstances = {_circumstances(record): None for record in comparison.records}
    ended = max((str(record.get("ended", ""))[:10] for record in comparison.records), default="")
    tested = {record["finetuning"]["examples"].get("test") for record in comparison.records}
    others = tested - {None, measured["rows"]["test"]} if measured else set()
    parts = [
        f"Models: `{command}`" if command else f"Models of `{comparison.folder}`, whose command was not recorded",
        *filter(None, [ended]),
        *(circumstances or ["machine and versions were not recorded"]),
        *(f"tested on other rows than the baselines, {count:,}" for count in sorted(others)),
    ]
    return "; ".join(parts) + "."


def _circumstances(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in record.get("versions", {}).items())
    return "; ".join(filter(None, [record.get("machine", {}).get("processor"), versions]))


def pictures(comparisons: list[Comparison]) -> dict[Path, str]:
    """Where the page keeps the plot of each comparison that has one, by the folder of the comparison."""
    drawn = [one for one in comparisons if (one.folder / PICTURE).exists()]
    counts: Counter[str] = Counter()
    links = {}
    for one in drawn:
        counts[one.data] += 1
        number = f"-{counts[one.data]}" if counts[one.data] > 1 else ""
        links[one.folder] = f"images/results-{one.data}{number}.png"
    return links


if __name__ == "__main__":
    main()
