"""Metrics by the names of the field."""

import difflib
import importlib
import importlib.util
from typing import Any

from ...configuration.errors import InputError

# The module and the class of each; a module is imported when one of its metrics is asked for.
METRICS: dict[str, tuple[str, str]] = {
    "accuracy": ("classification", "Accuracy"),
    "f1": ("classification", "F1"),
    "precision": ("classification", "Precision"),
    "recall": ("classification", "Recall"),
    "matthews_correlation": ("classification", "MatthewsCorrelation"),
    "multilabel": ("classification", "MultiLabel"),
    "correlation": ("correlation", "Correlation"),
    "seqeval": ("sequence_labels", "SequenceLabels"),
    "squad": ("answers", "SquadMatch"),
    "exact_match": ("generated_text", "ExactMatch"),
    "recall_at_k": ("retrieval", "RecallAtK"),
    "bleu": ("generated_text", "Bleu"),
    "chrf": ("generated_text", "ChrF"),
    "rouge": ("generated_text", "Rouge"),
}


def load(name: str, **settings: Any) -> Any:
    """A metric by its name, as `evaluate.load` gives one, but without the Hub.

    Args:
        name: a key of [`METRICS`].
        settings: those of the metric's class, and those of `evaluate.Metric`: `num_process`, `process_id`,
            `experiment_id`, `cache_dir`, ...; see [`Metric`].

    Raises:
        InputError: no such metric or setting, or a library that it needs is not installed.
    """
    if name not in METRICS:
        nearest = difflib.get_close_matches(str(name), METRICS, n=1, cutoff=0.6)
        hint = f"did you mean '{nearest[0]}'? " if nearest else ""
        raise InputError(f"There is no metric '{name}'; {hint}there are {', '.join(METRICS)}.")
    require("evaluate")
    module, class_name = METRICS[name]
    return getattr(importlib.import_module(f".{module}", __package__), class_name)(**settings)


def require(library: str) -> None:
    """Raises `InputError` if a library of the extra `finetune` is not installed."""
    found = importlib.util.find_spec(library)
    if found is None or found.origin is None:  # a folder of its name is none
        raise InputError(f'{library} is not installed; get it with: pip install "trivium[finetune]"')
