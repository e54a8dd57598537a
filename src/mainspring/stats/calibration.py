"""Whether probabilities mean what they say, and the map that makes them do so."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mainspring.core.errors import InvalidInput

Floats = NDArray[np.float64]

CLIP = 1e-4
FEW_LABELS = 1000
FEW_OF_A_CLASS = 100


@dataclass(frozen=True, slots=True)
class CalibrationMap:
    """A rising curve from score to probability; beyond its ends the end values hold.

    Attributes:
        knots: Scores, strictly rising.
        values: Probability at each knot, never falling, within [1e-4, 1 - 1e-4].
        rows: Labelled rows it was fitted on.
        method: "isotonic" or "platt".
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]
    rows: int
    method: str

    def apply(self, scores: ArrayLike) -> Floats:
        """Turn scores into calibrated probabilities, linear between knots."""
        return np.interp(np.asarray(scores, np.float64), self.knots, self.values)


@dataclass(frozen=True, slots=True)
class CalibrationLine:
    """Logistic regression of the label on the logit of the score: (0, 1) is perfect."""

    intercept: float
    slope: float
    slope_se: float
    converged: bool


@dataclass(frozen=True, slots=True)
class BrierParts:
    """Brier score = reliability - resolution + uncertainty, over distinct scores."""

    reliability: float
    resolution: float
    uncertainty: float


def fit_calibration(y: ArrayLike, score: ArrayLike) -> CalibrationMap:
    """Fit a map on held-out rows, later in time than the training rows.

    Isotonic, or Platt's line below 1,000 labels or 100 of the rarer class, where isotonic steps
    would follow single rows.
    """
    positive, scores = _checked(y, score)
    rarer = min(int(positive.sum()), int(positive.size - positive.sum()))
    if positive.size < FEW_LABELS or rarer < FEW_OF_A_CLASS:
        return platt(positive, scores)
    return isotonic(positive, scores)


def isotonic(y: ArrayLike, score: ArrayLike) -> CalibrationMap:
    """Fit the best rising curve by pooling adjacent violators; equal scores are pooled first."""
    from scipy.optimize import isotonic_regression

    positive, scores = _checked(y, score)
    knots, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=positive) / counts
    fitted = np.asarray(isotonic_regression(means, weights=counts).x, np.float64)
    # Inside a flat run only its two ends shape the curve.
    changes = fitted[1:] != fitted[:-1]
    keep = np.concatenate(([True], changes)) | np.concatenate((changes, [True]))
    values = np.clip(fitted[keep], CLIP, 1 - CLIP)
    return CalibrationMap(
        tuple(knots[keep].tolist()), tuple(values.tolist()), positive.size, "isotonic"
    )


def platt(y: ArrayLike, score: ArrayLike) -> CalibrationMap:
    """Fit a line on the logit scale, kept as 101 knots; a falling line becomes the base rate."""
    positive, scores = _checked(y, score)
    line = calibration_line(positive, scores)
    knots = np.linspace(float(scores.min()), float(scores.max()), 101)
    if not line.converged or line.slope <= 0 or knots[0] == knots[-1]:
        knots, values = scores[:1], np.array([positive.mean()])
    else:
        values = _expit(line.intercept + line.slope * _logit(knots))
    values = np.clip(values, CLIP, 1 - CLIP)
    return CalibrationMap(tuple(knots.tolist()), tuple(values.tolist()), positive.size, "platt")


def bootstrap_maps(
    y: ArrayLike, score: ArrayLike, *, draws: int = 40, seed: int
) -> tuple[CalibrationMap, ...]:
    """Refit the map on resampled rows: the spread is the map's own uncertainty."""
    positive, scores = _checked(y, score)
    rng = np.random.default_rng(seed)
    picks = (rng.integers(0, positive.size, positive.size) for _ in range(draws))
    return tuple(fit_calibration(positive[pick], scores[pick]) for pick in picks)


def calibration_line(
    y: ArrayLike, probability: ArrayLike, blocks: ArrayLike | None = None
) -> CalibrationLine:
    """Fit intercept and slope; with blocks the slope's standard error allows for them.

    Not converged (separated classes, one class, or constant scores): the numbers mean nothing.
    """
    positive, p = _checked(y, probability)
    design = np.column_stack((np.ones(p.size), _logit(p)))
    beta, converged = np.zeros(2), False
    for _ in range(50):
        fitted = _expit(design @ beta)
        weights = fitted * (1 - fitted)
        hessian = design.T @ (design * weights[:, None])
        if np.linalg.cond(hessian) > 1e12:
            break
        step = np.linalg.solve(hessian, design.T @ (positive - fitted))
        beta = beta + np.clip(step, -5.0, 5.0)
        if np.abs(step).max() < 1e-10:
            converged = True
            break
    if not converged:
        return CalibrationLine(float(beta[0]), float(beta[1]), float("inf"), False)
    covariance = np.linalg.inv(hessian)
    if blocks is not None:
        _, index = np.unique(np.asarray(blocks), return_inverse=True)
        gradient = design * (positive - fitted)[:, None]
        per_block = np.column_stack([np.bincount(index, weights=part) for part in gradient.T])
        covariance = covariance @ (per_block.T @ per_block) @ covariance
    return CalibrationLine(float(beta[0]), float(beta[1]), sqrt(float(covariance[1, 1])), True)


def squared_calibration_error(y: ArrayLike, probability: ArrayLike, *, bins: int = 15) -> float:
    """Debiased squared calibration error over equal-mass bins.

    The usual ECE of a perfect model at 1,000 rows is .034, not 0; this form has mean 0, so it may
    be slightly negative (Kumar, Liang and Ma 2019).
    """
    positive, p = _checked(y, probability)
    order = np.argsort(p, kind="stable")
    total = 0.0
    for part in np.array_split(order, min(bins, max(1, p.size // 2))):
        rate = positive[part].mean()
        noise = rate * (1 - rate) / (part.size - 1) if part.size > 1 else 0.0
        total += part.size / p.size * ((p[part].mean() - rate) ** 2 - noise)
    return float(total)


def spiegelhalter_z(y: ArrayLike, probability: ArrayLike) -> float:
    """Standardised distance of the Brier score from that of a calibrated model.

    0 when no probability differs from one half, where the Brier score cannot tell.
    """
    positive, p = _checked(y, probability)
    variance = float(np.sum((1 - 2 * p) ** 2 * p * (1 - p)))
    if variance == 0:
        return 0.0
    return float(np.sum((positive - p) * (1 - 2 * p))) / sqrt(variance)


def brier_parts(y: ArrayLike, probability: ArrayLike) -> BrierParts:
    """Split the Brier score over distinct probabilities."""
    positive, p = _checked(y, probability)
    distinct, index, counts = np.unique(p, return_inverse=True, return_counts=True)
    rates = np.bincount(index, weights=positive) / counts
    base, shares = positive.mean(), counts / p.size
    return BrierParts(
        float(np.sum(shares * (distinct - rates) ** 2)),
        float(np.sum(shares * (rates - base) ** 2)),
        float(base * (1 - base)),
    )


def _expit(value: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(value), np.float64)


def _logit(probability: Floats) -> Floats:
    from scipy.special import logit

    return np.asarray(logit(np.clip(probability, 1e-9, 1 - 1e-9)), np.float64)


def _checked(y: ArrayLike, probability: ArrayLike) -> tuple[Floats, Floats]:
    positive = (np.asarray(y) == 1).astype(np.float64)
    p = np.asarray(probability, np.float64)
    if positive.shape != p.shape or p.ndim != 1 or p.size == 0:
        raise InvalidInput(
            f"calibration: found {positive.size} labels and {p.size} probabilities, "
            "expected as many of each and at least one"
        )
    if not bool(np.all((p >= 0) & (p <= 1))):
        raise InvalidInput("calibration: found values outside 0 to 1, expected probabilities")
    return positive, p
