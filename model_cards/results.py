"""What was measured: rows of a table, and the same as the Hub's `model-index`."""

import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from huggingface_hub import EvalResult

from .facts import Facts
from .text import line

# Names of metrics, and the identifiers that the Hub has for them or that we give.
HELD_OUT = "held out"  # what a run set apart
LANGUAGE_METRICS = {
    "bits_per_byte": "bits per predicted byte",
    "perplexity": "perplexity per token",
}
METRICS = {
    **LANGUAGE_METRICS,
    "f1": "F1",
    "macro_f1": "F1, the mean over labels",
    "micro_f1": "F1 of all labels together",
    "pearson": "Pearson's correlation",
    "spearman": "Spearman's correlation",
    "mrr": "mean of 1 / rank",
    "bleu": "BLEU",
    "chrf": "chrF",
    **{f"rouge{kind}": f"ROUGE-{kind}" for kind in ("1", "2", "L", "Lsum")},
}
FINETUNED = ("validation", "test")  # the splits that fine-tuning measures on
OF_THE_RUN = (HELD_OUT, *FINETUNED)


class Result(NamedTuple):
    """One number.

    Attributes:
        metric: a key of [`METRICS`], or another name.
        data: names of what it was measured on.
        split: which part of it.
        command: what measures it.
    """

    metric: str
    value: float
    data: str
    split: str
    command: str

    @property
    def name(self) -> str:
        """The metric in words."""
        return METRICS.get(self.metric, self.metric.replace("_", " "))


def results(facts: Facts) -> list[Result]:
    """What the run measured at these weights on what it had held out, and what `trivium evaluate` did."""
    found = [result for evaluation in facts.evaluations for result in _evaluated(evaluation)]
    return [*_held_out(facts), *_finetuned(facts), *found]


def measured_at_the_end(facts: Facts) -> dict[str, Any]:
    """What was logged of the held-out text at these very weights; empty if it was not measured then."""
    found = [entry for entry in facts.log if "eval_loss" in entry and entry.get("step") == facts.step]
    return found[-1] if found else {}


def _held_out(facts: Facts) -> Iterator[Result]:
    names = [str(name) for source in facts.record.get("data") or [] for name in source.get("data") or []]
    command = str(facts.record.get("command") or "trivium pretrain")
    measured = measured_at_the_end(facts)
    for metric in LANGUAGE_METRICS:
        value = measured.get(f"eval_{metric}", facts.metrics.get(f"held_out_{metric}_after"))
        if isinstance(value, float):
            yield Result(metric, value, ", ".join(names) or "the training data", HELD_OUT, command)


def _finetuned(facts: Facts) -> Iterator[Result]:
    data, command = ", ".join(map(str, facts.settings.get("data") or [])), str(facts.record.get("command") or "")
    for split in FINETUNED if facts.verb == "finetune" else ():
        for name, value in facts.metrics.items():
            metric = name.removeprefix(f"{split}_")
            if name != metric and metric != "loss" and isinstance(value, int | float):
                yield Result(metric, float(value), data, split, command or "trivium finetune")


def _evaluated(evaluation: dict[str, Any]) -> Iterator[Result]:
    settings = evaluation.get("settings") or {}
    for row in evaluation["rows"]:
        command = evaluation.get("command") or _command(settings, str(row.get("data")))
        for metric in LANGUAGE_METRICS:
            if isinstance(row.get(metric), float):
                split = str(settings.get("data_split") or "all of it")
                yield Result(metric, row[metric], str(row.get("data")), split, command)


def _command(settings: dict[str, Any], data: str) -> str:
    options = {"model": settings.get("model"), "data": data} | settings
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["trivium", "evaluate", *words])


def eval_results(found: list[Result], task: str) -> list[EvalResult]:
    """The results as `model-index` holds them."""
    return [
        EvalResult(
            task_type=task,
            dataset_type=re.sub(r"[^A-Za-z0-9_./-]+", "-", line(result.data)).strip("-") or "text",
            dataset_name=line(result.data),
            dataset_split=line(result.split),
            metric_type=result.metric,
            metric_name=result.name,
            metric_value=round(result.value, 4),
            metric_args={"command": line(result.command)},
        )
        for result in found
    ]
