"""Which of several texts goes with a text (Zellers et al., 2018; Devlin et al., 2019)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from .examples import Examples, Unusable
from .metrics import measure
from .task import Row, Task, by_length, pad, text_in, tokens_of


class MultipleChoice(Task):
    """`text`, `choices`, a list of texts, and `label`, the number of the right one.

    Each choice is read beside the text.
    """

    reads = {"text": "the text", "choices": "the texts to choose from"}
    targets = {"label": "the number of the right one"}
    heads = {"encoder": "AutoModelForMultipleChoice"}
    packs = False
    best = "accuracy"
    count: int | None = None  # of the choices; a model that was fine-tuned reads any number of them

    def learn(self, examples: Examples) -> None:
        """Finds how many choices most examples have: the loss of all is over as many."""
        counts = Counter(len(choices) for choices in examples.rows["choices"] if isinstance(choices, list))
        self.count = max(counts, key=lambda count: counts[count], default=None)

    def check_read(self, row: Row) -> None:
        """Raises `Unusable` for texts that are empty, or fewer than two choices."""
        text_in(row, "text", "text")
        choices = row["choices"]
        if not isinstance(choices, list) or len(choices) < 2:
            raise Unusable("`choices` holds no list of two texts or more")
        for number, choice in enumerate(choices):
            if not isinstance(choice, str) or not choice.strip():
                raise Unusable(f"choice {number} is {choice!r}, no text")

    def check_target(self, row: Row) -> None:
        """Raises `Unusable` for other choices than elsewhere, or a label that is none of them."""
        count = len(row["choices"])
        if self.count not in (None, count):
            raise Unusable(f"there are {count} choices, but {self.count} elsewhere", "give as many everywhere")
        if isinstance(row["label"], bool) or not isinstance(row["label"], int) or not 0 <= row["label"] < count:
            raise Unusable(f"the label is {row['label']!r}, but the choices are 0 to {count - 1}")

    def read(self, row: Row) -> Row:
        """The tokens of the text with each choice: lists of rows."""
        sides = [row["text"]] * len(row["choices"]), row["choices"]
        read = tokens_of(self.tokenizer, *sides, max_length=self.max_length)
        return {name: [tokens[name] for tokens in read] for name in read[0]}

    def encode(self, rows: Sequence[Row]) -> list[Row]:
        """The tokens, and the label."""
        return [{**self.read(row), "labels": row["label"]} for row in rows]

    def collate(self, features: list[Row]) -> dict[str, torch.Tensor]:
        """(B, C, T) each, with rows of nothing where a text has fewer choices than another; labels (B,)."""
        names = [name for name in features[0] if name != "labels"]
        counts = [len(feature["input_ids"]) for feature in features]
        most = max(counts)
        # What is missing is read as the first choice once more; its logit is taken away by `predict`.
        flat = [
            {name: feature[name][number if number < count else 0] for name in names}
            for feature, count in zip(features, counts, strict=True)
            for number in range(most)
        ]
        batch = {name: value.unflatten(0, (len(features), most)) for name, value in pad(self.tokenizer, flat).items()}
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        return batch

    @torch.no_grad()
    def predict(self, model: Any, rows: Sequence[Row], batch_size: int) -> list[Row]:
        """The number of the likeliest choice, `label`, and its probability, `score`."""
        features = [self.read(row) for row in rows]
        lengths = [{"input_ids": max(feature["input_ids"], key=len)} for feature in features]
        answers: list[Row] = [{} for _ in rows]
        for numbers in by_length(lengths, batch_size):
            batch = self.collate([features[number] for number in numbers])
            logits = model(**{name: value.to(model.device) for name, value in batch.items()}).logits.float().cpu()
            for number, row in zip(numbers, logits, strict=True):
                score, label = row[: len(rows[number]["choices"])].softmax(-1).max(-1)
                answers[number] = {"label": int(label), "score": float(score)}
        return answers

    def measure(self, predictions: Sequence[Row], rows: Sequence[Row]) -> dict[str, float]:
        """Accuracy."""
        return measure(("accuracy",), [row["label"] for row in predictions], [row["label"] for row in rows])
