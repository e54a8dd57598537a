"""Metrics and their differences on a slice, each with its interval."""

from dataclasses import dataclass
from math import sqrt
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from mainspring.stats.auc import delong, delong_difference
from mainspring.stats.interval import normal_quantile
from mainspring.stats.loss import brier_rows, log_loss_rows
from mainspring.stats.paired import BlockMean, block_mean
from mainspring.validation.slice import Scores, Slice
from mainspring.validation.spec import ALPHA, Metric


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with its standard error and its two one-sided bounds."""

    value: float
    se: float
    low: float
    high: float
    rows: int
    method: str


def measure(
    metric: Metric, rows: Slice, scores: Scores, *, seed: int, alpha: float = ALPHA
) -> Measured:
    """Measure one version."""
    if metric == "auc":
        area = delong(rows.y, scores.clipped)
        return _normal(area.value, area.se, rows.rows, alpha)
    losses = _loss_rows(metric, rows, scores)
    return of_blocks(block_mean(losses, rows.blocks, level=1 - 2 * alpha, seed=seed))


def improvement(
    metric: Metric,
    rows: Slice,
    scores: Scores,
    than: Scores,
    *,
    seed: int,
    alpha: float = ALPHA,
) -> Measured:
    """Compare two versions on the same rows; positive when the first is better."""
    if metric == "auc":
        found = delong_difference(rows.y, scores.clipped, than.clipped)
        return _normal(found.difference, found.se, rows.rows, alpha)
    gains = _loss_rows(metric, rows, than) - _loss_rows(metric, rows, scores)
    return of_blocks(block_mean(gains, rows.blocks, level=1 - 2 * alpha, seed=seed))


def of_blocks(found: BlockMean) -> Measured:
    """Take over a mean of blocks and name its method with their number."""
    method = f"{found.method} over {found.blocks} blocks"
    return Measured(found.mean, found.se, found.low, found.high, found.rows, method)


def row_sd(found: Measured) -> float:
    """Sd of one row that would give this standard error, blocks and all."""
    return found.se * sqrt(found.rows)


def _loss_rows(metric: Metric, rows: Slice, scores: Scores) -> NDArray[np.float64]:
    match metric:
        case "log_loss":
            return log_loss_rows(rows.y, scores.clipped)
        case "brier":
            return brier_rows(rows.y, scores.clipped)
        case "auc":
            raise AssertionError("the area under a curve is no mean over rows")
    assert_never(metric)


def _normal(value: float, se: float, rows: int, alpha: float) -> Measured:
    half = normal_quantile(1 - alpha) * se
    return Measured(value, se, value - half, value + half, rows, "DeLong")
