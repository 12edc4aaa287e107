"""How the documents of a row share what the row as a whole hides, so that rows come out equally long."""

import numpy as np

GRID = 1024  # no sum of remainders comes this near to a whole number by rounding alone


def proportions(total: int, weights: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Numbers (D,) that sum to `total`, in proportion to `weights` as far as each stays between `least` and `most`.

    Args:
        total: at least the sum of `least` and at most that of `most`.
        weights: (D,); what weighs nothing gets its `least`.
        least, most: (D,) integers.
    """
    weights = np.where(weights > 0, weights, 1)
    # Weights times a factor, held within the limits, grow with the factor, piece by piece linearly.
    steps = np.sort(np.concatenate([least / weights, most / weights]))
    totals = np.clip(steps[:, None] * weights, least, most).sum(axis=1)
    return np.clip(np.interp(total, totals, steps) * weights, least, most)


def round_at_random(numbers: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Rounds numbers (D,), whose sum is whole, up or down and keeps that sum; on average each stays what it was.

    This is systematic sampling. Rounding up the largest remainders would favour the same documents in every epoch.
    """
    whole = np.floor(numbers + 1e-9).astype(np.int64)
    remainders = np.maximum(numbers - whole, 0)
    offset = generator.integers(1, GRID) / GRID
    return whole + np.diff(np.floor(np.cumsum(remainders) + offset), prepend=0).astype(np.int64)


def share(total: int, lengths: np.ndarray, most: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Integers (D,) in proportion to `lengths`, each at most its `most`; they sum to `total` or, if less, to `most`."""
    total = min(total, int(most.sum()))
    return round_at_random(proportions(total, lengths, np.zeros_like(lengths), most), generator)


def share_spans(
    lengths: np.ndarray, hidden: int, spans: int, generator: np.random.Generator, most_spans: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens each document hides, and in how many spans, if all together hide `hidden` in `spans`: (D,) each.

    A span holds at least one token and follows at least one that is shown; a document without a span hides nothing. As
    many spans and then as many tokens are shared out as that allows.

    Args:
        lengths: (D,), tokens of each document.
        hidden, spans: of all documents together, `hidden` at least `spans`; fewer than one span is none.
        most_spans: the most that one document may have; `None` = as many as fit.
    """
    most = lengths // 2 if most_spans is None else np.minimum(lengths // 2, most_spans)
    expected = proportions(min(max(spans, 0), int(most.sum())), lengths, np.zeros_like(lengths), most)
    given = round_at_random(expected, generator)
    room = np.where(given > 0, lengths - given, 0)
    # A short document that has a span only sometimes then hides as much more.
    weights = np.where(given > 0, lengths / np.clip(expected, 1e-9, 1), 0)
    return round_at_random(proportions(min(hidden, int(room.sum())), weights, given, room), generator), given
