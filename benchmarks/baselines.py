"""What counting words reaches on the data of `trivium fetch`, to know what a fine-tuned model is worth.

    python -m benchmarks.baselines --data data [NAME ...]

Each baseline learns from the train split and is measured on the test split by the metrics of `trivium finetune`. Prints
a table of each set; `--json` keeps the numbers, beside those of other sets that it already holds.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from trivium.training.metrics import load

from . import lexical, report, taggers
from .lexical import Rows, column, target

# Rows to train on and rows to answer in, an answer for each of the latter out.
Baseline = Callable[[Rows, Rows], Sequence[Any]]
# How good answers are: of the rows to train on, the rows that were answered, and the answers.
Measure = Callable[[Rows, Rows, Sequence[Any]], dict[str, float]]


class Labelled(NamedTuple):
    """How the answers for one set of data are measured, and what is measured, by its name in the tables."""

    measure: Measure
    baselines: dict[str, Baseline]


def measure_labels(train: Rows, test: Rows, answers: Sequence[Any]) -> dict[str, float]:
    """Accuracy and macro F1 of a label each."""
    return _of_names(answers, column(test, "label"))


def measure_label_sets(train: Rows, test: Rows, answers: Sequence[Any]) -> dict[str, float]:
    """F1 of any number of labels each, over the labels that there are to train on."""
    names = sorted({label for row in train for label in row["labels"]})
    sides = ([[int(name in labels) for name in names] for labels in side] for side in (answers, column(test, "labels")))
    return scores("multilabel", *sides)


def measure_numbers(train: Rows, test: Rows, answers: Sequence[Any]) -> dict[str, float]:
    """Correlations."""
    return scores("correlation", answers, column(test, "score"))


def measure_numbers_within(train: Rows, test: Rows, answers: Sequence[Any]) -> dict[str, float]:
    """Correlations within each `subset`, whose name stands before theirs."""
    found: dict[str, float] = {}
    for subset in dict.fromkeys(column(test, "subset")):
        pairs = [(answer, row["score"]) for answer, row in zip(answers, test, strict=True) if row["subset"] == subset]
        values = scores("correlation", *zip(*pairs, strict=True))
        found |= {f"{subset} {name}": value for name, value in values.items()}
    return found


def measure_tags(train: Rows, test: Rows, answers: Sequence[Any]) -> dict[str, float]:
    """F1 of spans where tags are in BIO; else accuracy and macro F1 of words."""
    expected = column(test, "tags")
    if any(tag.startswith("B-") for tags in expected for tag in tags):
        return scores("seqeval", answers, expected)
    return _of_names([*chain(*answers)], [*chain(*expected)])


def measure_answers(train: Rows, test: Rows, answers: Sequence[Any]) -> dict[str, float]:
    """Exact match and F1 of answers to questions."""
    return scores("squad", answers, [row["answers"]["text"] for row in test])


def measure_choices(train: Rows, test: Rows, answers: Sequence[Any]) -> dict[str, float]:
    """Accuracy of the numbers of choices."""
    return scores("accuracy", answers, column(test, "label"))


def measure_ranks(train: Rows, test: Rows, answers: Sequence[Any]) -> dict[str, float]:
    """How often the right text came first, or nearly."""
    return scores("recall_at_k", answers, None)


def measure_texts(train: Rows, test: Rows, answers: Sequence[Any], metrics: Sequence[str]) -> dict[str, float]:
    """How near texts are to those that people wrote."""
    return {name: value for metric in metrics for name, value in scores(metric, answers, [*map(target, test)]).items()}


def scores(metric: str, answers: Any, expected: Any) -> dict[str, float]:
    """What a metric says, the numbers of it."""
    found = load(metric).compute(predictions=answers, references=expected)
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _of_names(answers: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    numbers = {name: number for number, name in enumerate(sorted({*answers, *expected}))}
    sides = [[numbers[name] for name in side] for side in (answers, expected)]
    return scores("accuracy", *sides) | scores("f1", *sides)


LINEAR = "TF-IDF, logistic regression"
COMMONEST = "the commonest label"
NEAREST = "the target of the nearest source (TF-IDF)"
TAGGERS: dict[str, Baseline] = {
    "the commonest tag of a word, or of its ending": taggers.most_frequent_tag,
    "logistic regression of a word and its neighbours": taggers.tag_by_features,
}
measure_written = partial(measure_texts, metrics=("bleu", "chrf", "rouge"))
TRANSLATION = Labelled(measure_written, {"the source": lexical.copy_source, NEAREST: lexical.nearest_target})
SETS: dict[str, Labelled] = {
    "sentiment": Labelled(measure_labels, {COMMONEST: lexical.most_frequent_label, LINEAR: lexical.classify}),
    "valence": Labelled(measure_numbers, {"TF-IDF, ridge regression": lexical.regress}),
    "topic": Labelled(measure_labels, {COMMONEST: lexical.most_frequent_label, LINEAR: lexical.classify}),
    "tags": Labelled(measure_label_sets, {COMMONEST: lexical.most_frequent_labels, LINEAR: lexical.classify_into_many}),
    "summaries": Labelled(
        measure_written,
        {
            "the first sentence": lexical.first_sentence,
            "the first 8 words": lexical.first_words,
            NEAREST: lexical.nearest_target,
        },
    ),
    "descriptions": Labelled(measure_ranks, {"TF-IDF": lexical.rank_by_tfidf, "BM25": lexical.rank_by_bm25}),
    "translation-descriptions": TRANSLATION,
    "addresses": Labelled(measure_tags, TAGGERS),
    "parts-of-speech": Labelled(measure_tags, TAGGERS),
    "man-errors": Labelled(
        measure_answers,
        {
            "the line most like the question (TF-IDF)": lexical.nearest_line,
            "the line that begins with the error": lexical.line_of_the_error,
        },
    ),
    "translation": TRANSLATION,
    "verses": Labelled(
        measure_labels,
        {
            COMMONEST: lexical.most_frequent_label,
            "TF-IDF, a threshold of the cosine": partial(lexical.classify_pairs, cosine_only=True),
            "TF-IDF of both and cosine, logistic regression": lexical.classify_pairs,
        },
    ),
    "glosses": Labelled(
        measure_choices,
        {
            "the first choice": lexical.first_choice,
            "letters in common (TF-IDF)": lexical.choose_by_spelling,
            "letters in common, also with known definitions": partial(lexical.choose_by_spelling, definitions=True),
        },
    ),
    "similarity": Labelled(
        measure_numbers_within,
        {
            "TF-IDF of words but stop words": partial(lexical.cosines, stop_words="english"),
            "TF-IDF of 3 to 5 letters": partial(lexical.cosines, analyzer="char_wb", ngram_range=(3, 5)),
        },
    ),
    "dialogues": Labelled(
        partial(measure_texts, metrics=("chrf",)),
        {"what was said": lexical.copy_source, "the answer to the nearest message (TF-IDF)": lexical.nearest_target},
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints the tables and keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SETS)}; by default all")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder that `trivium fetch` wrote into")
    parser.add_argument("--json", type=Path, default=Path("out/baselines.json"))
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - SETS.keys():
        parser.error(f"there are no baselines for '{min(unknown)}'; there are for {', '.join(SETS)}")
    names = options.names or list(SETS)
    for name in names:
        if not (options.data / name / "test.jsonl").exists():
            parser.error(f"{options.data / name} holds no test.jsonl: trivium fetch {name}")
    for name in names:
        results = json.loads(options.json.read_text()) if options.json.exists() else {}
        results[name] = run(options.data / name, SETS[name])
        report.save_json(options.json, results)
        print(f"{name}\n\n{table(results[name])}\n", flush=True)


def run(folder: Path, labelled: Labelled) -> dict[str, Any]:
    """The numbers of all baselines of one set, with machine and versions."""
    where = report.machine() | {"scikit-learn": version("scikit-learn")}
    splits = {split: read(folder / f"{split}.jsonl") for split in ("train", "test")}
    found = [
        {"baseline": name, **measure(labelled.measure, baseline, splits)}
        for name, baseline in labelled.baselines.items()
    ]
    return {"machine": where, "rows": {split: len(rows) for split, rows in splits.items()}, "baselines": found}


def read(path: Path) -> Rows:
    """The rows of a file of JSON lines; none where there is no file, as of a set that is only to test with."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def measure(how: Measure, baseline: Baseline, splits: dict[str, Rows]) -> dict[str, Any]:
    """What a baseline reaches, `None` for what is not defined, and the seconds that its answers took."""
    started = time.perf_counter()
    answers = baseline(splits["train"], splits["test"])
    seconds = round(time.perf_counter() - started, 1)
    metrics = how(splits["train"], splits["test"], answers)
    return {"seconds": seconds, "metrics": {name: v if math.isfinite(v) else None for name, v in metrics.items()}}


def table(result: dict[str, Any]) -> str:
    """The numbers of one set, in Markdown."""
    names = list(result["baselines"][0]["metrics"])
    return report.table(["baseline", *names, "seconds"], [*_cells(result, names)])


def _cells(result: dict[str, Any], names: list[str]) -> Iterator[list[str]]:
    for one in result["baselines"]:
        values = ["undefined" if one["metrics"][name] is None else f"{one['metrics'][name]:.3f}" for name in names]
        yield [one["baseline"], *values, f"{one['seconds']:.1f}"]


if __name__ == "__main__":
    main()
