"""Helper of the tests of this folder: random examples for every metric, and what one process of several makes of them.

As a program it is one of two processes: `python examples.py PROCESS RESULT`.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from trivium.training.metrics import METRICS, load
from trivium.training.metrics.classification import Accuracy

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
WORDS = "the a cat dog sat on mat, house. Big small ran".split()
ROUNDS = [(0, 7), (7, 30), (30, 32)]  # in the last, one process has nothing


def tags(generator, lengths):
    return [generator.choice(TAGS, size).tolist() for size in lengths]


def texts(generator, count, most=9):
    return [" ".join(generator.choice(WORDS, generator.integers(0, most))) for _ in range(count)]


def examples(name, count=32, seed=0):
    """Predictions and references for a metric, as lists."""
    generator = np.random.default_rng(seed)
    if name in ("accuracy", "f1", "precision", "recall", "matthews_correlation"):
        return generator.integers(0, 4, count).tolist(), generator.integers(0, 4, count).tolist()
    if name == "multilabel":
        return generator.integers(0, 2, (count, 5)).tolist(), generator.integers(0, 2, (count, 5)).tolist()
    if name == "correlation":
        return generator.normal(size=count).tolist(), generator.integers(0, 6, count).astype(float).tolist()
    if name == "seqeval":
        lengths = generator.integers(0, 12, count)
        return tags(generator, lengths), tags(generator, lengths)
    if name == "recall_at_k":
        return generator.integers(0, 9, (count, 20)).tolist(), generator.integers(0, 20, count).tolist()
    if name == "squad":
        return texts(generator, count), [texts(generator, generator.integers(0, 3)) for _ in range(count)]
    return texts(generator, count), [texts(generator, generator.integers(1, 4), 12) for _ in range(count)]


class SlowAccuracy(Accuracy):
    """Still reads the first round when the other process adds what comes next."""

    rested = False

    def score(self, predictions, references):
        if self.num_process > 1 and not self.rested:
            time.sleep(1.5)
            self.rested = True
        return super().score(predictions, references)


def results(num_process=1, process_id=0):
    """What every metric finds in each round; each process adds a part of the examples."""
    place = dict(num_process=num_process, process_id=process_id)
    metrics = {name: load(name, **place) for name in METRICS}
    metrics |= {"slow": SlowAccuracy(**place), "again": load("accuracy", **place)}
    found = {}
    for name, metric in metrics.items():
        predictions, references = examples(name if name in METRICS else "accuracy")
        found[name] = []
        for start, end in ROUNDS:
            half = min(start + 4, end)
            bounds = [start, half, end] if num_process == 2 else [start, end]
            part = slice(*bounds[process_id : process_id + 2])
            if part.start < part.stop:
                metric.add_batch(predictions=predictions[part], references=references[part])
            found[name].append(metric.compute())
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(results(2, int(sys.argv[1]))), encoding="utf-8")
