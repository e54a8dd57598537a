"""Means of rows that come in blocks, and how many rows a margin needs.

Rows of one block (a day, a customer) resemble each other: treating them as independent covers
56 % where 95 % is promised. So the block is the unit that is drawn or counted.
"""

from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mainspring.core.errors import InvalidInput
from mainspring.stats.interval import normal_quantile

Floats = NDArray[np.float64]

FEW_BLOCKS = 30
"""Below this the bootstrap is too narrow and the t form is used."""

DRAWS = 2000
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class BlockMean:
    """A mean over rows with the uncertainty of its blocks."""

    mean: float
    se: float
    low: float
    high: float
    rows: int
    blocks: int
    method: str


def block_mean(
    values: ArrayLike, blocks: ArrayLike, *, level: float = 0.9, seed: int, draws: int = DRAWS
) -> BlockMean:
    """Bound a mean: block bootstrap with 30 blocks or more, cluster t below.

    Args:
        values: One number per row, such as a paired difference of losses.
        blocks: Integer id of each row's block.
        level: Two-sided; 0.9 leaves 5 % on each side.
        seed: Of the bootstrap. Equal blocks and seed draw the same blocks, so differences of
            several metrics or models stay paired.
        draws: Bootstrap samples.
    """
    sums, counts = _block_sums(values, blocks)
    if counts.size < FEW_BLOCKS:
        return _cluster_t(sums, counts, level)
    return _bootstrap(sums, counts, level=level, seed=seed, draws=draws)


def cluster_t(values: ArrayLike, blocks: ArrayLike, *, level: float = 0.9) -> BlockMean:
    """Bound a mean by the t law over blocks; without a second block the bounds are infinite."""
    return _cluster_t(*_block_sums(values, blocks), level)


def block_bootstrap(
    values: ArrayLike, blocks: ArrayLike, *, level: float = 0.9, seed: int, draws: int = DRAWS
) -> BlockMean:
    """Bound a mean by drawing whole blocks with replacement (percentile interval)."""
    sums, counts = _block_sums(values, blocks)
    return _bootstrap(sums, counts, level=level, seed=seed, draws=draws)


def rows_for_margin(sd: float, margin: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Rows that show a difference to lie above -margin when it is 0.

    Args:
        sd: Standard deviation of one row's paired difference (se * sqrt(rows) of an earlier one).
        margin: Largest harm accepted, in the unit of sd.
        alpha: One-sided error.
        power: Chance to show it.

    >>> rows_for_margin(0.1**0.5, 0.02)
    1546
    """
    if not (margin > 0 and sd >= 0):
        raise InvalidInput(f"margin {margin}, sd {sd}: expected a positive margin and sd >= 0")
    return ceil(((normal_quantile(1 - alpha) + normal_quantile(power)) * sd / margin) ** 2)


def supported_margin(se: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest margin that a comparison with this standard error can decide."""
    return (normal_quantile(1 - alpha) + normal_quantile(power)) * se


def _block_sums(values: ArrayLike, blocks: ArrayLike) -> tuple[Floats, Floats]:
    rows, ids = np.asarray(values, np.float64), np.asarray(blocks)
    if rows.shape != ids.shape or rows.ndim != 1 or rows.size == 0:
        raise InvalidInput(
            f"block mean: found {rows.size} values and {ids.size} block ids, "
            "expected as many of each and at least one"
        )
    if not np.isfinite(rows).all():
        raise InvalidInput("block mean: found values that are not finite; drop or count them first")
    _, index = np.unique(ids, return_inverse=True)
    sums = np.asarray(np.bincount(index, weights=rows), np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _cluster_t(sums: Floats, counts: Floats, level: float) -> BlockMean:
    from scipy.special import stdtrit

    rows, groups = int(counts.sum()), counts.size
    mean = float(sums.sum() / rows)
    if groups < 2:
        return BlockMean(mean, inf, -inf, inf, rows, groups, "cluster t")
    residuals = sums - counts * mean
    se = sqrt(groups / (groups - 1) * float(residuals @ residuals)) / rows
    half = float(stdtrit(groups - 1, 0.5 + level / 2)) * se
    return BlockMean(mean, se, mean - half, mean + half, rows, groups, "cluster t")


def _bootstrap(sums: Floats, counts: Floats, *, level: float, seed: int, draws: int) -> BlockMean:
    rng = np.random.default_rng(seed)
    groups = counts.size
    shares = np.full(groups, 1 / groups)
    means = np.empty(draws)
    step = max(1, _CELLS_AT_ONCE // groups)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        weights = rng.multinomial(groups, shares, size=size).astype(np.float64)
        means[start : start + size] = (weights @ sums) / (weights @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    rows = int(counts.sum())
    mean, se = float(sums.sum() / rows), float(means.std(ddof=1))
    return BlockMean(mean, se, float(low), float(high), rows, groups, "block bootstrap")
