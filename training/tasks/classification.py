"""One label, several labels or a number for a text, or for a pair of texts (Devlin et al., 2019)."""

from collections.abc import Sequence
from typing import Any

import torch

from ...configuration.errors import InputError
from .examples import Examples, Unusable
from .metrics import measure
from .task import Row, Task, by_length, number_in, text_in, tokens_of

AUTO = "AutoModelForSequenceClassification"
ANY_FAMILY = dict.fromkeys(("encoder", "decoder", "encoder-decoder"), AUTO)


class ReadingTask(Task):
    """What a classifier reads: a text, or two; a text that is longer than the model reads is cut."""

    reads = {"text": "the text", "text_pair": "the other text of a pair"}
    optional = frozenset({"text_pair"})
    heads = ANY_FAMILY

    def check_text(self, row: Row) -> None:
        """Raises `Unusable` for an empty text."""
        for role in ("text", "text_pair"):
            if role in row:
                text_in(row, role, self.reads[role])

    def read(self, rows: Sequence[Row]) -> list[Row]:
        """The tokens of rows; of a pair the longer text is cut first."""
        sides = [[row[role] for row in rows] for role in ("text", "text_pair") if role in rows[0]]
        return tokens_of(self.tokenizer, *sides, max_length=self.max_length)

    def target(self, row: Row) -> Any:
        """What is learnt of a row."""
        raise NotImplementedError

    def encode(self, rows: Sequence[Row]) -> list[Row]:
        """The tokens, and what is learnt."""
        return [{**tokens, "target": self.target(row)} for tokens, row in zip(self.read(rows), rows, strict=True)]

    def collate(self, features: list[Row]) -> dict[str, torch.Tensor]:
        """A padded batch with `labels`, (N,) or (N, C)."""
        batch = super().collate(features)
        if "target" in batch:
            batch["labels"] = batch.pop("target")
        return batch

    @torch.no_grad()
    def logits(self, model: Any, rows: Sequence[Row], batch_size: int) -> torch.Tensor:
        """The logits of rows, (N, C) in float32 on the CPU, computed in batches of texts of about one length."""
        features = self.read(rows)
        found: list[Any] = [None] * len(rows)
        for numbers in by_length(features, batch_size):
            batch = self.collate([features[number] for number in numbers])
            logits = model(**{name: value.to(model.device) for name, value in batch.items()}).logits.float().cpu()
            for number, values in zip(numbers, logits, strict=True):
                found[number] = values
        return torch.stack(found)


class TextClassification(ReadingTask):
    """One of several labels: `label`, a text or a number."""

    targets = {"label": "the label"}
    best = "accuracy"
    problem_type = "single_label_classification"
    labels: list[str]

    def learn(self, examples: Examples) -> None:
        """Finds the labels, in the order of their numbers if the dataset has one, else of the alphabet."""
        feature = examples.rows.features["label"]
        if hasattr(feature, "names"):
            self.labels = list(feature.names)
        else:
            found = {_name(value) for value in examples.rows["label"] if value is not None}
            self.labels = sorted(
                found, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
            )
        if len(self.labels) < 2:
            raise InputError(f"'{examples.name}' has one label only, '{self.labels[0]}': give examples of others too.")
        self._numbers = {label: number for number, label in enumerate(self.labels)}
        self._named = hasattr(feature, "names")

    def head_fields(self) -> dict[str, Any]:
        """The labels, and that a text has one of them."""
        return {"problem_type": self.problem_type, **label_fields(self.labels)}

    def recall(self, config: Any) -> None:
        """The labels of the model."""
        self.labels = [config.id2label[number] for number in range(config.num_labels)]
        self._numbers, self._named = {label: number for number, label in enumerate(self.labels)}, False

    def check(self, row: Row) -> None:
        """Raises `Unusable` for an empty text, or a label that was not among those to train on."""
        self.check_text(row)
        self.number(row["label"])

    def number(self, label: Any) -> int:
        """The number of a label; raises `Unusable` for one that is not known."""
        if self._named and isinstance(label, int) and 0 <= label < len(self.labels):
            return label
        if label is None or isinstance(label, float) or _name(label) not in self._numbers or self._named:
            known = ", ".join(self.labels[:10]) + (", ..." if len(self.labels) > 10 else "")
            raise Unusable(f"the label is {label!r}, and those to train on are {known}", "mend it")
        return self._numbers[_name(label)]

    def target(self, row: Row) -> int:
        """The label's number."""
        return self.number(row["label"])

    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """The likeliest `label` and its probability, `score`."""
        scores, numbers = self.logits(model, rows, batch_size).softmax(-1).max(-1)
        pairs = zip(numbers.tolist(), scores.tolist(), strict=True)
        return [{"label": self.labels[number], "score": score} for number, score in pairs]

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Accuracy and macro F1."""
        found = [self._numbers[prediction["label"]] for prediction in predictions]
        return measure(("accuracy", "f1"), found, [self.number(row["label"]) for row in rows])


class MultiLabelClassification(ReadingTask):
    """Any number of labels: `labels`, a list."""

    targets = {"labels": "the labels"}
    best = "micro_f1"
    labels: list[str]

    def learn(self, examples: Examples) -> None:
        """Finds the labels."""
        self.labels = sorted({_name(label) for labels in examples.rows["labels"] for label in labels or []})
        if not self.labels:
            raise InputError(f"no example of '{examples.name}' has a label.")
        self._numbers = {label: number for number, label in enumerate(self.labels)}

    def head_fields(self) -> dict[str, Any]:
        """The labels, and that a text has any number of them."""
        return {"problem_type": "multi_label_classification", **label_fields(self.labels)}

    def recall(self, config: Any) -> None:
        """The labels of the model."""
        self.labels = [config.id2label[number] for number in range(config.num_labels)]
        self._numbers = {label: number for number, label in enumerate(self.labels)}

    def check(self, row: Row) -> None:
        """Raises `Unusable` for an empty text, or a label that was not among those to train on."""
        self.check_text(row)
        self.target(row)

    def target(self, row: Row) -> list[float]:
        """Zeros and ones, a number for each label; raises `Unusable` for a label that is not known."""
        if not isinstance(row["labels"], list):
            raise Unusable(f"`labels` is {row['labels']!r}, no list", "mend it")
        if unknown := [label for label in row["labels"] if _name(label) not in self._numbers]:
            raise Unusable(f"the label {unknown[0]!r} is none of the {len(self.labels)} to train on", "mend it")
        given = {self._numbers[_name(label)] for label in row["labels"]}
        return [float(number in given) for number in range(len(self.labels))]

    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """The `labels` that are likelier than not, and their probabilities, `scores`."""
        answers = []
        for scores in self.logits(model, rows, batch_size).sigmoid().tolist():
            chosen = [(label, score) for label, score in zip(self.labels, scores, strict=True) if score > 0.5]
            answers.append({"labels": [label for label, _ in chosen], "scores": [score for _, score in chosen]})
        return answers

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Micro and macro F1, and the share of texts of which all labels are right."""
        found = [[int(value) for value in self.target(prediction)] for prediction in predictions]
        expected = [[int(value) for value in self.target(row)] for row in rows]
        return measure(("multilabel",), found, expected)


class Regression(ReadingTask):
    """A number: `score`."""

    targets = {"score": "the number"}
    best = "pearson"

    def head_fields(self) -> dict[str, Any]:
        """That a text has a number."""
        return {"problem_type": "regression", **label_fields(["score"])}

    def check(self, row: Row) -> None:
        """Raises `Unusable` for an empty text, or what is no number."""
        self.check_text(row)
        number_in(row, "score", "score")

    def target(self, row: Row) -> float:
        """The number."""
        return number_in(row, "score", "score")

    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """The number, `score`."""
        return [{"score": score} for score in self.logits(model, rows, batch_size)[:, 0].tolist()]

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Pearson's and Spearman's correlation."""
        return measure(("correlation",), [row["score"] for row in predictions], [float(row["score"]) for row in rows])


def label_fields(labels: list[str]) -> dict[str, Any]:
    """What a configuration says of labels."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def _name(label: Any) -> str:
    return str(int(label)) if isinstance(label, bool) else str(label)
