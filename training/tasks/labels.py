"""The labels of a task, and the numbers that a model has for them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from .examples import Examples


class Labels:
    """Names in the order of their numbers.

    Args:
        names: by number.
        numbered: data may say a label by its number, as columns of `datasets.ClassLabel` do; otherwise a number is a
            name like others, and 7 is the label "7".
    """

    def __init__(self, names: Sequence[str], numbered: bool = False):
        self.names, self.numbered = list(names), numbered
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def learn(cls, examples: Examples, role: str) -> "Labels":
        """Those of a column of labels or of lists of labels: in the dataset's own order if it has one."""
        feature = examples.rows.features[role]
        feature = getattr(feature, "feature", feature)
        if hasattr(feature, "names"):
            return cls(feature.names, numbered=True)
        found = {label_name(label) for value in examples.rows[role] for label in _each(value)}
        return cls(sorted((name for name in found if name is not None), key=_order))

    @classmethod
    def recall(cls, config: Any) -> "Labels":
        """Those of a model's configuration, which does not say whether data numbered them: it can if no name is one."""
        names = [config.id2label[number] for number in range(config.num_labels)]
        return cls(names, numbered=not any(map(_is_number, names)))

    def number(self, label: Any) -> int | None:
        """The number of a label as data have it; `None` for one that is not known."""
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if self.numbered and isinstance(label, int):
            return int(label) if 0 <= label < len(self.names) else None
        name = label_name(label)
        return None if name is None else self._numbers.get(name)

    def fields(self) -> dict[str, Any]:
        """What a configuration says of them."""
        return {"id2label": dict(enumerate(self.names)), "label2id": dict(self._numbers)}

    def __str__(self) -> str:
        return ", ".join(self.names[:10]) + (", ..." if len(self.names) > 10 else "")


def label_name(label: Any) -> str | None:
    """The name of a label: a text, a whole number (also one that a table keeps as 3.0), or true and false as 1 and 0.

    `None` for anything else, which is no label.
    """
    if isinstance(label, str):
        return label if label.strip() else None
    if isinstance(label, int) or (isinstance(label, float) and label.is_integer()):
        return str(int(label))
    return None


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]


def _is_number(name: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", name) is not None


def _order(name: str) -> tuple[bool, int, str]:
    """Numbers by their value, then words by the alphabet."""
    return (False, int(name), name) if _is_number(name) else (True, 0, name)
