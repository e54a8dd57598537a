"""How far a column moved from its reference, from counts and sums per bin alone.

`reference` and `window` are counts over the same bins, or two
profiles with the same edges.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mainspring.core.errors import InvalidInput
from mainspring.stats.interval import Interval
from mainspring.stats.profile import NumericProfile, same_edges

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Test:
    """A statistic, its degrees of freedom and its p-value."""

    # The name must not make pytest collect it.
    __test__ = False

    statistic: float
    df: int
    p: float


def psi(reference: ArrayLike, window: ArrayLike, *, smoothing: float = 0.5) -> float:
    """Measure the divergence of Jeffreys between smoothed shares (population stability index).

    Both sides get half a row per bin; bins empty on both sides are left out.

    >>> round(psi([250, 250, 250, 250], [60, 90, 110, 140], smoothing=0), 7)
    0.0897466
    """
    a, b = _occupied(*_counts(reference, window))
    p = (a + smoothing) / (a.sum() + smoothing * a.size)
    q = (b + smoothing) / (b.sum() + smoothing * b.size)
    return float(np.sum((q - p) * np.log(q / p)))


def null_psi(reference: ArrayLike, window: ArrayLike) -> float:
    """Give the index to expect without any drift: (bins - 1)(1/n + 1/m).

    The same number is expected of 8 JSD, 8 H^2 and 2 KL: they are one test in disguise.
    """
    a, b = _occupied(*_counts(reference, window))
    return float((a.size - 1) * (1 / a.sum() + 1 / b.sum()))


def excess_psi(reference: ArrayLike, window: ArrayLike) -> float:
    """Give the index above what sampling noise alone explains, at least 0."""
    return max(0.0, psi(reference, window) - null_psi(reference, window))


def kl(p_counts: ArrayLike, q_counts: ArrayLike) -> float:
    """Relative entropy sum q ln(q/p) of the second to the first in nats, unsmoothed.

    Infinite where the second has rows in a bin that the first left empty.
    """
    p, q = _shares(p_counts, q_counts)
    filled = q > 0
    if np.any(p[filled] == 0):
        return float("inf")
    return float(np.sum(q[filled] * np.log(q[filled] / p[filled])))


def js_distance(reference: ArrayLike, window: ArrayLike, *, base: float = np.e) -> float:
    """Square root of the Jensen-Shannon divergence; 0 when equal, sqrt(ln 2 / ln base) at most."""
    p, q = _shares(reference, window)
    mid = (p + q) / 2
    divergence = 0.0
    for side in (p, q):
        filled = side > 0
        divergence += 0.5 * float(np.sum(side[filled] * np.log(side[filled] / mid[filled])))
    return float(np.sqrt(max(0.0, divergence) / np.log(base)))


def hellinger(reference: ArrayLike, window: ArrayLike) -> float:
    """Hellinger distance, 0 to 1."""
    p, q = _shares(reference, window)
    return float(np.sqrt(max(0.0, 1 - float(np.sum(np.sqrt(p * q))))))


def tvd(reference: ArrayLike, window: ArrayLike) -> float:
    """Total variation distance: the share of rows that would have to move, 0 to 1."""
    p, q = _shares(reference, window)
    return float(np.abs(p - q).sum() / 2)


def l_infinity(reference: ArrayLike, window: ArrayLike) -> float:
    """Largest change of one bin's share."""
    p, q = _shares(reference, window)
    return float(np.abs(p - q).max())


def chi_square(reference: ArrayLike, window: ArrayLike) -> Test:
    """Two-sample chi-square test over the bins that hold any row."""
    a, b = _occupied(*_counts(reference, window))
    n, m = a.sum(), b.sum()
    statistic = float(np.sum((np.sqrt(m / n) * a - np.sqrt(n / m) * b) ** 2 / (a + b)))
    return _tested(statistic, a.size - 1)


def g_test(reference: ArrayLike, window: ArrayLike) -> Test:
    """Two-sample likelihood-ratio test over the bins that hold any row."""
    a, b = _occupied(*_counts(reference, window))
    n, m, c = a.sum(), b.sum(), a + b
    statistic = 0.0
    for side, total in ((a, n), (b, m)):
        filled = side > 0
        expected = total * c[filled] / (n + m)
        statistic += 2 * float(np.sum(side[filled] * np.log(side[filled] / expected)))
    return _tested(statistic, a.size - 1)


def ks_of_counts(reference: ArrayLike, window: ArrayLike) -> float:
    """Largest difference of the two distribution functions at the cuts."""
    p, q = _shares(reference, window)
    return float(np.abs(np.cumsum(p - q)).max())


def ks_p(statistic: float, n: int, m: int) -> float:
    """Asymptotic p-value of a Kolmogorov-Smirnov distance (conservative with ties)."""
    from scipy.special import kolmogorov

    return float(kolmogorov(statistic * np.sqrt(n * m / (n + m))))


def ks(reference: NumericProfile, window: NumericProfile) -> Interval:
    """Bound the Kolmogorov-Smirnov distance of the rows: at the cuts, and at most anywhere.

    Bins with a single value (atoms) add nothing to the upper bound.
    """
    same_edges(reference, window)
    p, q = _shares(reference.count, window.count)
    after = np.cumsum(p - q)
    before = np.concatenate(([0.0], after[:-1]))
    inside = np.maximum(before + p, q - before)
    inside[_atom_bins(reference)] = 0.0
    low = float(np.abs(after).max())
    return Interval(low, max(low, float(inside.max())))


def wasserstein(reference: NumericProfile, window: NumericProfile) -> Interval:
    """Bound the Wasserstein-1 distance of the rows, in the column's unit.

    The lower end is the estimate: with sums per bin the signed area of every bin is known, so it
    is wrong only where the two distribution functions cross inside a bin.
    """
    same_edges(reference, window)
    p, q = _shares(reference.count, window.count)
    ends = _bin_ends(reference, window)
    width = np.diff(ends)
    before = np.concatenate(([0.0], np.cumsum(p - q)[:-1]))
    # Distances to the bin's upper end, not to zero: large offsets would cancel badly.
    short_p = p * ends[1:] - np.array(reference.sum) / reference.present
    short_q = q * ends[1:] - np.array(window.sum) / window.present
    area = before * width + short_p - short_q
    area[_atom_bins(reference)] = 0.0
    lowest, highest = before - q, before + p
    crossing = (lowest < 0) & (highest > 0) & (width > 0)
    crossing[_atom_bins(reference)] = False
    upper = np.abs(area)
    w, lo, hi = width[crossing], lowest[crossing], highest[crossing]
    theta = np.clip((area[crossing] / w - lo) / (hi - lo), 0.0, 1.0)
    upper[crossing] = np.maximum(upper[crossing], w * (theta * hi + (1 - theta) * np.abs(lo)))
    return Interval(float(np.abs(area).sum()), float(upper.sum()))


def mean_shift(reference: NumericProfile, window: NumericProfile) -> float:
    """Difference of means, window minus reference, in the reference's standard deviations."""
    return (window.mean - reference.mean) / max(reference.sd, 1e-3)


def permutation_p(
    reference: ArrayLike,
    window: ArrayLike,
    statistic: Callable[[NDArray[np.int64], NDArray[np.int64]], float],
    *,
    draws: int = 999,
    seed: int,
) -> float:
    """Exact p-value of any statistic of two count vectors under exchangeable rows.

    Shuffling rows only moves counts, so the draws are multivariate hypergeometric: the cost does
    not depend on the number of rows. Never 0 (Phipson and Smyth 2010).
    """
    a, b = (np.asarray(side, dtype=np.int64) for side in _counts(reference, window))
    observed = statistic(a, b)
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_hypergeometric(a + b, int(b.sum()), size=draws, method="marginals")
    # A permutation that repeats the observed table must count although it rounds differently.
    floor = observed - 1e-12 * abs(observed)
    reached = sum(statistic(a + b - other, other) >= floor for other in drawn)
    return (1 + reached) / (draws + 1)


def bins_used(window_rows: int, bins: int = 64) -> int:
    """Bins a window of this size can bear: its null index then stays at about 0.05."""
    return min(bins, max(2, window_rows // 20))


def coarsen(reference: ArrayLike, window: ArrayLike, bins: int) -> tuple[Floats, Floats]:
    """Merge neighbouring bins into at most `bins` of about equal reference mass."""
    a, b = _counts(reference, window)
    middle = np.cumsum(a) - a / 2
    groups = np.minimum((middle / a.sum() * bins).astype(np.int64), bins - 1)
    _, index = np.unique(groups, return_inverse=True)
    merged = [np.asarray(np.bincount(index, weights=side), np.float64) for side in (a, b)]
    return merged[0], merged[1]


def _counts(reference: ArrayLike, window: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise InvalidInput(
            f"histograms: found {a.size} and {b.size} bins, expected the same; "
            "count both over the reference's edges"
        )
    if not a.sum() > 0 or not b.sum() > 0:
        raise InvalidInput(
            f"histograms: found {a.sum():g} and {b.sum():g} rows, expected at least one in each; "
            "a column without values is a finding of its own, not a distance"
        )
    return a, b


def _shares(reference: ArrayLike, window: ArrayLike) -> tuple[Floats, Floats]:
    a, b = _counts(reference, window)
    return a / a.sum(), b / b.sum()


def _occupied(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    filled = a + b > 0
    return a[filled], b[filled]


def _tested(statistic: float, df: int) -> Test:
    from scipy.special import chdtrc

    return Test(statistic, df, float(chdtrc(df, statistic)) if df > 0 else 1.0)


def _atom_bins(profile: NumericProfile) -> NDArray[np.bool_]:
    atoms = set(profile.edges.atoms)
    return np.array([*(cut in atoms for cut in profile.edges.cuts), False])


def _bin_ends(reference: NumericProfile, window: NumericProfile) -> Floats:
    lows = [x for x in (reference.min, window.min) if x is not None]
    highs = [x for x in (reference.max, window.max) if x is not None]
    cuts = reference.edges.cuts
    return np.array([min((*lows, *cuts[:1])), *cuts, max((*highs, *cuts[-1:]))])
