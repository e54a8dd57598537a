"""Realised loss above the accepted level: an alarm with a promised time between false ones.

The e-detector (Shin, Ramdas and Rinaldo 2024) in Shiryaev-Roberts form, averaged
over several bets. While the conditional mean stays at or below the accepted level, the mean
number of labels between false alarms is at least 1/alpha, whatever the dependence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import ArrayLike

from mainspring.core.errors import InvalidInput

LOSS_BETS = (0.05, 0.1, 0.2, 0.4, 0.8)
DIFFERENCE_BETS = (0.1, 0.2, 0.4, 0.8, 1.6)

_LARGEST_THRESHOLD = 1e100


@dataclass(frozen=True, slots=True)
class LossDetector:
    """State of the detector: plain numbers, to be stored with its position in the log.

    Attributes:
        accepted: Level in [0, 1] that the mean of what is watched may reach.
        threshold: 1/alpha in labels.
        bets: Stakes; each bet times `accepted` is below 1.
        evidence: Shiryaev-Roberts sum of each bet. It is not in logs: it starts at 0 and the
            state stands still at the alarm, so it never exceeds a few times the threshold.
        n: Observations taken in; stops at the alarm.
        alarmed: True from the first crossing on; begin a new detector when the alarm has ended.
    """

    accepted: float
    threshold: float
    bets: tuple[float, ...]
    evidence: tuple[float, ...]
    n: int
    alarmed: bool

    @property
    def log_evidence(self) -> float:
        """Log of the mean evidence; the alarm comes at log(threshold). -inf at the start."""
        mean = sum(self.evidence) / len(self.evidence)
        return log(mean) if mean > 0 else float("-inf")


def watch_losses(
    accepted: float, *, threshold: float, bets: Sequence[float] = LOSS_BETS
) -> LossDetector:
    """Begin on losses within [0, 1] whose mean may reach `accepted`."""
    if not 0 < accepted < 1:
        raise InvalidInput(f"accepted level {accepted}: expected a number between 0 and 1")
    if not 1 < threshold <= _LARGEST_THRESHOLD:
        raise InvalidInput(f"threshold {threshold}: expected labels between false alarms, above 1")
    if not bets or any(not 0 < bet * accepted < 1 for bet in bets):
        raise InvalidInput(
            f"bets {tuple(bets)}: expected positive ones below {1 / accepted:.3f} (1/accepted)"
        )
    return LossDetector(accepted, threshold, tuple(bets), (0.0,) * len(bets), 0, False)


def watch_differences(tolerance: float, *, threshold: float) -> LossDetector:
    """Begin on differences (realised - expected loss) within [-1, 1], mean up to `tolerance`.

    Taking each row's expected loss off keeps seasons of the base rate from raising alarms.
    """
    return watch_losses((tolerance + 1) / 2, threshold=threshold, bets=DIFFERENCE_BETS)


def take_differences(state: LossDetector, differences: ArrayLike) -> LossDetector:
    """Take in differences within [-1, 1] in label-arrival order."""
    return take_losses(state, (np.asarray(differences, np.float64) + 1) / 2)


def take_losses(state: LossDetector, losses: ArrayLike) -> LossDetector:
    """Take in losses within [0, 1] in label-arrival order; after the alarm nothing changes.

    A batch ends in the same state as its rows one by one.
    """
    rows = np.asarray(losses, np.float64).ravel()
    if not bool(np.all((rows >= 0) & (rows <= 1))):
        raise InvalidInput(
            "detector: found losses outside 0 to 1 or not a number, expected scaled losses; "
            "clip and divide by the range first"
        )
    if state.alarmed:
        return state
    evidence, enough = list(state.evidence), state.threshold * len(state.bets)
    bets, n = state.bets, state.n
    for lead in (rows - state.accepted).tolist():
        n += 1
        evidence = [(have + 1) * (1 + bet * lead) for have, bet in zip(evidence, bets, strict=True)]
        if sum(evidence) >= enough:
            return replace(state, evidence=tuple(evidence), n=n, alarmed=True)
    return replace(state, evidence=tuple(evidence), n=n)
