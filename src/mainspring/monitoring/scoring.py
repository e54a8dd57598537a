"""Losses per row within [0, 1], as bets need them: realised and expected, by metric."""

import numpy as np
from numpy.typing import NDArray

from mainspring.monitoring.spec import CLIP, Metric
from mainspring.stats.calibration import CalibrationMap
from mainspring.stats.estimation import bounded_expected_log_loss_rows, expected_brier_rows
from mainspring.stats.loss import bounded_log_loss_rows, brier_rows, log_loss_range

Floats = NDArray[np.float64]


def realised(metric: Metric, y: Floats, score: Floats) -> Floats:
    """Loss of each row, scaled into [0, 1]; multiply by `unit` for the metric's own unit."""
    if metric == "brier":
        return brier_rows(y, clipped(score))
    return bounded_log_loss_rows(y, score, clip=CLIP)


def expected(metric: Metric, calibrated: Floats, score: Floats) -> Floats:
    """Loss each row is expected to cost when `calibrated` is its probability, in [0, 1]."""
    if metric == "brier":
        return expected_brier_rows(calibrated, clipped(score))
    return bounded_expected_log_loss_rows(calibrated, score, clip=CLIP)


def unit(metric: Metric) -> float:
    """Largest loss of a row in the metric's own unit (nats for log loss)."""
    return 1.0 if metric == "brier" else log_loss_range(CLIP)


def calibrated(calibration: CalibrationMap | None, score: Floats) -> Floats:
    """Probability the version means by a score; without a map it is taken at its word."""
    return clipped(score if calibration is None else calibration.apply(score))


def clipped(score: Floats) -> Floats:
    """Keep probabilities within the clip."""
    return np.clip(score, CLIP, 1 - CLIP)
