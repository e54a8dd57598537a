"""Losses of predicted probabilities, per row: means, differences and tests build on them."""

from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1: one row costs at most 13.8 nats."""


def log_loss_rows(y: ArrayLike, probability: ArrayLike, *, clip: float = CLIP) -> Floats:
    """Negative log likelihood per row in nats.

    >>> [round(float(x), 4) for x in log_loss_rows([1, 0], [0.8, 0.8])]
    [0.2231, 1.6094]
    """
    positive = np.asarray(y) == 1
    p = np.clip(np.asarray(probability, np.float64), clip, 1 - clip)
    return -np.log(np.where(positive, p, 1 - p))


def brier_rows(y: ArrayLike, probability: ArrayLike) -> Floats:
    """Squared error per row, 0 to 1."""
    positive = (np.asarray(y) == 1).astype(np.float64)
    rows: Floats = (np.asarray(probability, np.float64) - positive) ** 2
    return rows


def log_loss(y: ArrayLike, probability: ArrayLike, *, clip: float = CLIP) -> float:
    """Mean log loss in nats."""
    return float(log_loss_rows(y, probability, clip=clip).mean())


def brier(y: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared error."""
    return float(brier_rows(y, probability).mean())


def bounded_log_loss_rows(y: ArrayLike, probability: ArrayLike, *, clip: float = 0.01) -> Floats:
    """Log loss per row cut at -ln(clip) and scaled into [0, 1], as sequential bets need it.

    Divide a margin in nats by `log_loss_range(clip)`. The clip is part of the question: a wider
    range sees worse mistakes and takes more rows to conclude.
    """
    return log_loss_rows(y, probability, clip=clip) / log_loss_range(clip)


def log_loss_range(clip: float) -> float:
    """Largest log loss under this clip, in nats."""
    return -log(clip)
