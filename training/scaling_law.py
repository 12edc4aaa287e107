"""The law by which loss falls with compute, fitted to a few small runs (Kaplan et al., 2020; Hoffmann et al., 2022).

    loss = E + A * compute ** -alpha

E is what no model of the family could get below on this text, and the part of the law that few and small runs say least
about. What the fit is worth shows where it is made without one of the runs, and asked about that one.
"""

from typing import Any, NamedTuple

import numpy as np

ALPHAS = np.geomspace(0.01, 1.0, 1001)
PARAMETERS = 3


class ScalingLaw(NamedTuple):
    """A fitted law; see [`fit`].

    Attributes:
        irreducible: E, in the units of the loss.
        scale: A, the reducible loss at one unit of compute.
        exponent: alpha.
    """

    irreducible: float
    scale: float
    exponent: float

    def __call__(self, compute: Any) -> Any:
        """The loss at this compute, a number or an array of them."""
        return self.irreducible + self.scale * np.asarray(compute, dtype=float) ** -self.exponent


def fit(compute: Any, loss: Any) -> ScalingLaw:
    """The law with the least squares of the relative errors, E and A being no less than nothing.

    For one exponent the other two follow by linear least squares, so only exponents need trying out: there is no start
    to choose, and no better law to miss.

    Args:
        compute: floating point operations of each run, at least three different numbers.
        loss: what each came to.

    Raises:
        ValueError: fewer than three runs, or numbers that are not positive.
    """
    compute, loss = np.asarray(compute, dtype=float), np.asarray(loss, dtype=float)
    if len(np.unique(compute)) < PARAMETERS or compute.shape != loss.shape:
        raise ValueError(f"a law of {PARAMETERS} numbers needs runs at {PARAMETERS} computes or more.")
    if not (np.isfinite(loss).all() and (loss > 0).all() and (compute > 0).all()):
        raise ValueError("compute and loss must be positive numbers.")
    unit = np.exp(np.log(compute).mean())  # near one, so that squares neither overflow nor vanish
    falls = (compute / unit) ** -ALPHAS[:, None]  # (exponents, runs)
    scales, floors = _lines(falls / loss, np.broadcast_to(1 / loss, falls.shape))
    errors = ((floors[:, None] + scales[:, None] * falls) / loss - 1) ** 2
    best = errors.sum(1).argmin()
    return ScalingLaw(float(floors[best]), float(scales[best] * unit ** ALPHAS[best]), float(ALPHAS[best]))


def _lines(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the non-negative (a, b) with the least squares of `a x + b y - 1`."""
    xx, xy, yy, x1, y1 = (x * x).sum(1), (x * y).sum(1), (y * y).sum(1), x.sum(1), y.sum(1)
    determinant = np.maximum(xx * yy - xy**2, np.finfo(float).tiny)
    a, b = (x1 * yy - y1 * xy) / determinant, (y1 * xx - x1 * xy) / determinant
    only_x, only_y = b < 0, a < 0
    return np.where(only_y, 0, np.where(only_x, x1 / xx, a)), np.where(only_x, 0, np.where(only_y, y1 / yy, b))


def leave_one_out(compute: Any, loss: Any) -> list[ScalingLaw]:
    """The laws fitted without the first run, without the second, ...; none if too few runs would be left."""
    compute, loss = np.asarray(compute, dtype=float), np.asarray(loss, dtype=float)
    if len(np.unique(compute)) <= PARAMETERS:
        return []
    return [fit(np.delete(compute, run), np.delete(loss, run)) for run in range(len(compute))]


def spread(laws: list[ScalingLaw], compute: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """The lowest and the highest loss that laws say at this compute; `None` of no laws."""
    if not laws:
        return None
    said = np.stack([law(compute) for law in laws])
    return said.min(0), said.max(0)
