"""Intervals for shares, their differences and their ratios."""

from dataclasses import dataclass
from math import exp, inf, log, sqrt
from statistics import NormalDist

from mainspring.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Interval:
    """A range that holds the true value with the stated probability."""

    low: float
    high: float


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal law."""
    return NormalDist().inv_cdf(probability)


def normal_tail(z: float) -> float:
    """Two-sided tail probability of a standard normal value."""
    return 2 * NormalDist().cdf(-abs(z))


def wilson(k: int, n: int, *, level: float = 0.95) -> Interval:
    """Bound a share of k in n (Wilson 1927).

    >>> found = wilson(320, 900)
    >>> round(found.low, 4), round(found.high, 4)
    (0.325, 0.3874)
    """
    _check_count(k, n)
    z = normal_quantile(0.5 + level / 2)
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def clopper_pearson(k: int, n: int, *, level: float = 0.95) -> Interval:
    """Bound a share of k in n exactly (never covers less than stated)."""
    from scipy.special import betaincinv

    _check_count(k, n)
    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return Interval(low, high)


def newcombe(k1: int, n1: int, k2: int, n2: int, *, level: float = 0.95) -> Interval:
    """Bound the difference of two independent shares, first minus second (Newcombe 1998)."""
    first, second = wilson(k1, n1, level=level), wilson(k2, n2, level=level)
    p1, p2 = k1 / n1, k2 / n2
    difference = p1 - p2
    return Interval(
        difference - sqrt((p1 - first.low) ** 2 + (second.high - p2) ** 2),
        difference + sqrt((first.high - p1) ** 2 + (p2 - second.low) ** 2),
    )


def katz(k1: int, n1: int, k2: int, n2: int, *, level: float = 0.95) -> Interval:
    """Bound the ratio of two independent shares, first to second (Katz and others 1978).

    A count of zero on either side is met by adding a half to both counts.
    """
    _check_count(k1, n1)
    _check_count(k2, n2)
    extra = 0.5 if k1 == 0 or k2 == 0 else 0.0
    a, b = k1 + extra, k2 + extra
    centre = log((a / n1) / (b / n2))
    spread = normal_quantile(0.5 + level / 2) * sqrt(max(0.0, 1 / a - 1 / n1 + 1 / b - 1 / n2))
    return Interval(exp(centre - spread), exp(centre + spread))


def proportions_z(k1: int, n1: int, k2: int, n2: int) -> float:
    """Standardise the difference of two shares by their pooled variance.

    Two shares that are both 0 or both 1 differ by 0.
    """
    _check_count(k1, n1)
    _check_count(k2, n2)
    pooled = (k1 + k2) / (n1 + n2)
    variance = pooled * (1 - pooled) * (1 / n1 + 1 / n2)
    difference = k1 / n1 - k2 / n2
    if variance == 0:
        return 0.0 if difference == 0 else inf
    return difference / sqrt(variance)


def _check_count(k: int, n: int) -> None:
    if n <= 0 or not 0 <= k <= n:
        raise InvalidInput(f"share: found {k} of {n}, expected 0 <= count <= rows and rows > 0")
