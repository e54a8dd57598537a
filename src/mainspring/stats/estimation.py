"""Performance before labels arrive, from calibrated probabilities (CBPE).

Honest while the relation between score and label is what it was, worthless when that relation
itself changes: then only labels tell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mainspring.core.errors import InvalidInput
from mainspring.stats.calibration import CalibrationMap
from mainspring.stats.loss import CLIP, log_loss_range

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Expected rows of each kind; fractions, because no label is known."""

    tp: float
    fp: float
    fn: float
    tn: float

    @property
    def accuracy(self) -> float:
        return (self.tp + self.tn) / (self.tp + self.fp + self.fn + self.tn)

    @property
    def precision(self) -> float:
        return self.tp / (self.tp + self.fp)

    @property
    def recall(self) -> float:
        return self.tp / (self.tp + self.fn)

    @property
    def f1(self) -> float:
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn)


@dataclass(frozen=True, slots=True)
class Estimate:
    """An expected metric with its 95 % band under an unchanged relation."""

    metric: str
    value: float
    low: float
    high: float
    rows: int


def expected_confusion(calibrated: ArrayLike, decision: ArrayLike) -> Confusion:
    """Expect the confusion counts of 0/1 decisions."""
    c, yes = np.asarray(calibrated, np.float64), np.asarray(decision) == 1
    tp, fn = float(c[yes].sum()), float(c[~yes].sum())
    return Confusion(tp, float(yes.sum()) - tp, fn, float((~yes).sum()) - fn)


def expected_log_loss_rows(
    calibrated: ArrayLike, probability: ArrayLike, *, clip: float = CLIP
) -> Floats:
    """Log loss each row is expected to cost, in nats.

    >>> round(float(expected_log_loss_rows([0.5], [0.8])[0]), 4)
    0.9163
    """
    c = np.asarray(calibrated, np.float64)
    s = np.clip(np.asarray(probability, np.float64), clip, 1 - clip)
    return -(c * np.log(s) + (1 - c) * np.log(1 - s))


def bounded_expected_log_loss_rows(
    calibrated: ArrayLike, probability: ArrayLike, *, clip: float = 0.01
) -> Floats:
    """Expected counterpart of `loss.bounded_log_loss_rows`, in [0, 1]."""
    return expected_log_loss_rows(calibrated, probability, clip=clip) / log_loss_range(clip)


def expected_brier_rows(calibrated: ArrayLike, probability: ArrayLike) -> Floats:
    """Squared error each row is expected to cost."""
    c, s = np.asarray(calibrated, np.float64), np.asarray(probability, np.float64)
    rows: Floats = c * (1 - c) + (s - c) ** 2
    return rows


def expected_auc(calibrated: ArrayLike, score: ArrayLike) -> float:
    """Expect the area under the ROC curve; biased by about 1/rows, so use 300 rows or more.

    Equal scores are taken as one step of the curve, so the order of rows does not matter.
    """
    c, s = np.asarray(calibrated, np.float64), np.asarray(score, np.float64)
    _, index = np.unique(-s, return_inverse=True)
    positives = np.concatenate(([0.0], np.cumsum(np.bincount(index, weights=c))))
    negatives = np.concatenate(([0.0], np.cumsum(np.bincount(index, weights=1 - c))))
    if positives[-1] == 0 or negatives[-1] == 0:
        raise InvalidInput("expected AUC: found one class only, expected mass on both")
    heights = (positives[1:] + positives[:-1]) / 2
    return float(np.sum(heights * np.diff(negatives)) / (positives[-1] * negatives[-1]))


def estimate(
    metric: str,
    score: ArrayLike,
    calibration: CalibrationMap,
    curves: Sequence[CalibrationMap],
    *,
    cut: float = 0.5,
) -> Estimate:
    """Expect a metric of a window with its band.

    Args:
        metric: "accuracy", "log_loss", "brier" or "auc".
        score: The window's probabilities.
        calibration: Fitted on labelled reference rows.
        curves: The same, refitted on resamples (`bootstrap_maps`), at least two. Without this
            part of the variance the band is too narrow.
        cut: Decision at or above it.
    """
    s = np.asarray(score, np.float64)
    if metric not in _VALUE:
        raise InvalidInput(f"metric {metric!r}: expected one of {', '.join(_VALUE)}")
    if s.size == 0 or len(curves) < 2:
        raise InvalidInput(
            f"estimate: found {s.size} rows and {len(curves)} curves, expected rows and at least 2"
        )
    c = calibration.apply(s)
    value = _VALUE[metric](c, s, cut)
    spread = float(np.var([_VALUE[metric](curve.apply(s), s, cut) for curve in curves], ddof=1))
    half = 1.96 * sqrt(_label_variance(metric, c, s) + spread)
    return Estimate(metric, value, value - half, value + half, s.size)


def _label_variance(metric: str, c: Floats, s: Floats) -> float:
    """Variance of the metric when each label is drawn with its probability c."""
    p = np.clip(s, CLIP, 1 - CLIP)
    match metric:
        case "accuracy":
            weight = np.ones(c.size)
        case "log_loss":
            weight = np.log(p) - np.log(1 - p)
        case "brier":
            weight = 1 - 2 * s
        case _:
            # Each row's part in the area is its distance from the mean placement.
            weight = _area_weight(c, s) * c.size
    return float(np.sum(weight**2 * c * (1 - c))) / c.size**2


def _area_weight(c: Floats, s: Floats) -> Floats:
    """Derivative of the expected area by each row's probability."""
    _, index = np.unique(s, return_inverse=True)
    pos, neg = np.bincount(index, weights=c), np.bincount(index, weights=1 - c)
    below = (np.cumsum(neg) - neg / 2)[index] / neg.sum()
    above = (pos.sum() - np.cumsum(pos) + pos / 2)[index] / pos.sum()
    area = expected_auc(c, s)
    weight: Floats = (below - area) / pos.sum() - (above - area) / neg.sum()
    return weight


def _accuracy(c: Floats, s: Floats, cut: float) -> float:
    return expected_confusion(c, s >= cut).accuracy


def _log_loss(c: Floats, s: Floats, _cut: float) -> float:
    return float(expected_log_loss_rows(c, s).mean())


def _brier(c: Floats, s: Floats, _cut: float) -> float:
    return float(expected_brier_rows(c, s).mean())


def _auc(c: Floats, s: Floats, _cut: float) -> float:
    return expected_auc(c, s)


_VALUE: dict[str, Callable[[Floats, Floats, float], float]] = {
    "accuracy": _accuracy,
    "log_loss": _log_loss,
    "brier": _brier,
    "auc": _auc,
}
