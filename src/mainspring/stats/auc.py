"""Area under the ROC curve with its variance (DeLong, DeLong and Clarke-Pearson 1988).

Computed from midranks in O(n log n) as by Sun and Xu 2014. Rows must be independent.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mainspring.core.errors import InvalidInput
from mainspring.stats.interval import normal_quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Area:
    """One area and its standard error over `rows` rows."""

    value: float
    se: float
    rows: int


@dataclass(frozen=True, slots=True)
class AreaDifference:
    """Two models' areas on the same rows; the difference is first minus second."""

    first: float
    second: float
    difference: float
    se: float
    rows: int


def auc(y: ArrayLike, score: ArrayLike) -> float:
    """Probability that a positive row scores above a negative one, ties counting half.

    >>> auc([1, 0, 1, 0], [0.9, 0.1, 0.4, 0.4])
    0.875
    """
    return delong(y, score).value


def delong(y: ArrayLike, score: ArrayLike) -> Area:
    """Estimate one model's area with its standard error.

    Raises:
        InvalidInput: One class is missing, or the lengths differ.
    """
    positive, scores = _checked(y, score)
    area, v01, v10 = _placements(positive, scores)
    return Area(area, sqrt(_variance(v01, v10)), positive.size)


def delong_difference(y: ArrayLike, first: ArrayLike, second: ArrayLike) -> AreaDifference:
    """Compare two models on the same rows; se is 0 when their rankings agree."""
    positive, scores_a = _checked(y, first)
    _, scores_b = _checked(y, second)
    area_a, v01_a, v10_a = _placements(positive, scores_a)
    area_b, v01_b, v10_b = _placements(positive, scores_b)
    se = sqrt(_variance(v01_a - v01_b, v10_a - v10_b))
    return AreaDifference(area_a, area_b, area_a - area_b, se, positive.size)


def supported_area_margin(
    area: float,
    rows: int,
    *,
    positive_share: float,
    correlation: float,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Smallest margin a paired comparison of areas can support (Hanley and McNeil 1982).

    >>> round(supported_area_margin(0.75, 20_000, positive_share=0.2, correlation=0.9), 4)
    0.0053
    """
    m, n = positive_share * rows, (1 - positive_share) * rows
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    rest = area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)
    se = sqrt(rest / (m * n)) * sqrt(2 * (1 - correlation))
    return (normal_quantile(1 - alpha) + normal_quantile(power)) * se


def _placements(positive: NDArray[np.bool_], scores: Floats) -> tuple[float, Floats, Floats]:
    above, below = scores[positive], scores[~positive]
    m, n = above.size, below.size
    pooled = _midranks(scores)
    v01 = (pooled[positive] - _midranks(above)) / n
    v10 = 1 - (pooled[~positive] - _midranks(below)) / m
    return float(v01.mean()), v01, v10


def _variance(v01: Floats, v10: Floats) -> float:
    # One row of a class has no variance to estimate; it is infinite, not zero.
    if v01.size < 2 or v10.size < 2:
        return float("inf")
    return float(v01.var(ddof=1) / v01.size + v10.var(ddof=1) / v10.size)


def _midranks(values: Floats) -> Floats:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.append(starts, values.size))
    ranks = np.empty(values.size)
    ranks[order] = np.repeat(starts + (sizes + 1) / 2, sizes)
    return ranks


def _checked(y: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    labels, scores = np.asarray(y), np.asarray(score, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise InvalidInput(f"AUC: found {labels.size} labels and {scores.size} scores")
    if not np.isfinite(scores).all():
        raise InvalidInput("AUC: found scores that are not finite, expected numbers; drop them")
    positive = labels == 1
    if positive.all() or not positive.any():
        raise InvalidInput(
            f"AUC: found {int(positive.sum())} positives in {positive.size} rows, expected both "
            "classes; take a longer slice"
        )
    return positive, scores
