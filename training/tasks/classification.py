"""One label, several labels or a number for a text, or for a pair of texts (Devlin et al., 2019)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from ...configuration.errors import InputError
from .examples import Examples, Unusable
from .labels import Labels
from .metrics import measure
from .task import Row, Task, by_length, number_in, text_in, tokens_of

AUTO = "AutoModelForSequenceClassification"
ANY_FAMILY = dict.fromkeys(("encoder", "decoder", "encoder-decoder"), AUTO)


class ReadingTask(Task):
    """What a classifier reads: a text, or two; a text that is longer than the model reads is cut."""

    reads = {"text": "the text", "text_pair": "the other text of a pair"}
    optional = frozenset({"text_pair"})
    heads = ANY_FAMILY

    def check_read(self, row: Row) -> None:
        """Raises `Unusable` for an empty text."""
        for role in ("text", "text_pair"):
            if role in row:
                text_in(row, role, self.reads[role].removeprefix("the "))

    def check_target(self, row: Row) -> None:
        """Raises what [`target`] raises."""
        self.target(row)

    def read(self, rows: Sequence[Row]) -> list[Row]:
        """The tokens of rows, at least one of them; of a pair the longer text is cut first."""
        sides = [[row[role] for row in rows] for role in ("text", "text_pair") if role in rows[0]]
        return tokens_of(self.tokenizer, *sides, max_length=self.max_length)

    def target(self, row: Row) -> Any:
        """What is learnt of a row; raises `Unusable` if there is nothing."""
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

    def items(self, batch: dict[str, torch.Tensor]) -> int:
        """Each label or number has a loss: -100 is a number like others."""
        return batch["labels"].numel()

    @torch.no_grad()
    def logits(self, model: Any, rows: Sequence[Row], batch_size: int) -> torch.Tensor:
        """The logits of rows, (N, C) in float32 on the CPU, computed in batches of texts of about one length."""
        features = self.read(rows) if rows else []
        found: list[Any] = [None] * len(rows)
        for numbers in by_length(features, batch_size):
            batch = self.collate([features[number] for number in numbers])
            logits = model(**{name: value.to(model.device) for name, value in batch.items()}).logits.float().cpu()
            for number, values in zip(numbers, logits, strict=True):
                found[number] = values
        return torch.stack(found) if rows else torch.zeros(0, 1)


class LabellingTask(ReadingTask):
    """What answers with labels that the examples to train on have.

    Attributes:
        role: the column of the labels.
        problem_type: what the configuration of the model calls the task.
        known: the labels.
    """

    role: ClassVar[str]
    problem_type: ClassVar[str]
    known: Labels

    @property
    def labels(self) -> list[str]:
        """The names of the labels."""
        return self.known.names

    def learn(self, examples: Examples) -> None:
        """Finds the labels: in the dataset's order if it has one, else numbers by their value, then words."""
        self.known = Labels.learn(examples, self.role)

    def recall(self, config: Any) -> None:
        """The labels of the model."""
        self.known = Labels.recall(config)

    def head_fields(self) -> dict[str, Any]:
        """The labels, and how many of them a text has."""
        return {"problem_type": self.problem_type, **self.known.fields()}

    def number(self, label: Any) -> int:
        """The number of a label; raises `Unusable` for one that was not among those to train on."""
        number = self.known.number(label)
        if number is None:
            raise Unusable(f"the label is {label!r}, and those to train on are {self.known}")
        return number


class TextClassification(LabellingTask):
    """One of several labels: `label`, a text or a number."""

    targets = {"label": "the label"}
    best = "accuracy"
    role, problem_type = "label", "single_label_classification"

    def learn(self, examples: Examples) -> None:
        """Finds the labels; raises `InputError` unless there are two or more."""
        super().learn(examples)
        if not self.labels:
            raise InputError(f"no example of '{examples.name}' has a label: give texts or whole numbers.")
        if len(self.labels) < 2:
            raise InputError(f"'{examples.name}' has one label only, '{self.labels[0]}': give examples of others too.")

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
        return measure(
            ("accuracy", "f1"), *([self.number(row["label"]) for row in side] for side in (predictions, rows))
        )


class MultiLabelClassification(LabellingTask):
    """Any number of labels: `labels`, a list."""

    targets = {"labels": "the labels"}
    best = "micro_f1"
    role, problem_type = "labels", "multi_label_classification"

    def learn(self, examples: Examples) -> None:
        """Finds the labels; raises `InputError` if there is none."""
        super().learn(examples)
        if not self.labels:
            raise InputError(f"no example of '{examples.name}' has a label: give lists of texts or whole numbers.")

    def target(self, row: Row) -> list[float]:
        """Zeros and ones, a number for each label."""
        if not isinstance(row["labels"], list):
            raise Unusable(f"`labels` is {row['labels']!r}, no list")
        numbers = [self.number(label) for label in row["labels"]]
        if len({*numbers}) < len(numbers):
            twice = next(label for place, label in enumerate(row["labels"]) if numbers[place] in numbers[:place])
            raise Unusable(f"`labels` names {twice!r} twice", "name each label that a text has once")
        return [float(number in numbers) for number in range(len(self.labels))]

    @torch.no_grad()
    def begin_head(self, model: Any, features: Any) -> None:
        """Each label begins as likely as it is (Lin et al., 2017), where the head has a bias.

        Else all begin at one half, and what many rare labels teach first, to say no to everything, undoes the encoder.
        """
        if (bias := model.score.bias) is not None:
            given = torch.tensor(features["target"]).sum(0)
            bias.copy_(torch.logit((given + 1) / (len(features) + 2)))

    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """The `labels` that are likelier than not, and their probabilities, `scores`."""
        answers = []
        for scores in self.logits(model, rows, batch_size).sigmoid().tolist():
            chosen = [(label, score) for label, score in zip(self.labels, scores, strict=True) if score > 0.5]
            answers.append({"labels": [label for label, _ in chosen], "scores": [score for _, score in chosen]})
        return answers

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Micro and macro F1, and the share of texts of which all labels are right."""
        sides = ([[int(value) for value in self.target(row)] for row in side] for side in (predictions, rows))
        return measure(("multilabel",), *sides)


class Regression(ReadingTask):
    """A number: `score`."""

    targets = {"score": "the number"}
    best = "pearson"

    def head_fields(self) -> dict[str, Any]:
        """That a text has a number."""
        return {"problem_type": "regression", **Labels(["score"]).fields()}

    def target(self, row: Row) -> float:
        """The number."""
        return number_in(row, "score", "score")

    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """The number, `score`."""
        return [{"score": score} for score in self.logits(model, rows, batch_size)[:, 0].tolist()]

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Pearson's and Spearman's correlation."""
        return measure(("correlation",), [row["score"] for row in predictions], [self.target(row) for row in rows])
