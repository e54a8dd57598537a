"""Sequential verdicts on paired differences that stay valid however often one looks.

The one-sided betting e-process (Waudby-Smith and Ramdas 2024; Ville 1939). Its
guarantee holds for differences in the order in which their units become complete: feed
label-complete cohorts, never labels as they arrive (6.8).
"""

from dataclasses import dataclass, replace
from math import exp, log
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mainspring.core.errors import InvalidInput

Floats = NDArray[np.float64]
Outcome = Literal["pass", "fail", "inconclusive"]

UNITS = 100
FAILURES_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class PairedBet:
    """State of one guard: plain numbers, to be stored with its position in the log.

    Attributes:
        margin: Largest mean difference (challenger loss - champion loss) that is accepted.
        alpha_fail: Chance to fail a challenger within the margin, whenever one looks.
        alpha_pass: Chance to pass a challenger beyond it.
        n: Differences taken in; stops at the one that failed it.
        total: Sum of z = (d + 1) / 2, the prior row included.
        squares: Sum of squared deviations of z, the prior row included.
        log_fail: Log evidence for harm beyond the margin.
        log_pass: Log evidence for harm below the margin.
        passed_at: Differences after which it first passed; None before.
        outcome: A fail is final. A pass stands until a fail: harm that begins later is harm, and
            Ville's bound on a false fail holds over all time, so watching on costs nothing.
    """

    margin: float
    alpha_fail: float
    alpha_pass: float
    n: int
    total: float
    squares: float
    log_fail: float
    log_pass: float
    passed_at: int | None
    outcome: Outcome

    @property
    def e_fail(self) -> float:
        """Evidence for harm beyond the margin: 1 at the start, 1/alpha_fail decides."""
        return exp(min(self.log_fail, 700.0))

    @property
    def e_pass(self) -> float:
        """Evidence for harm below the margin."""
        return exp(min(self.log_pass, 700.0))

    @property
    def mean(self) -> float:
        """Mean difference so far, 0 before the first."""
        taken = self.total - (self.margin + 1) / 2
        return 2 * taken / self.n - 1 if self.n else 0.0


@dataclass(frozen=True, slots=True)
class FailureGuard:
    """State of the fast lane for failures: no labels, so it can stop within a hundred requests.

    Attributes:
        seen: Requests taken in; stops at the one that failed it.
        recent_failures: The challenger's failures in the hundred that is open.
    """

    bet: PairedBet
    seen: int
    recent_failures: int
    outcome: Outcome


def start(margin: float, *, alpha_fail: float = 0.05, alpha_pass: float = 0.05) -> PairedBet:
    """Begin a guard; with several guards give each its part of alpha_fail, see `split`."""
    if not -1 < margin < 1:
        raise InvalidInput(f"margin {margin}: expected a number between -1 and 1")
    for alpha in (alpha_fail, alpha_pass):
        if not 0 < alpha < 1:
            raise InvalidInput(f"alpha {alpha}: expected a share between 0 and 1")
    middle = (margin + 1) / 2
    return PairedBet(
        margin, alpha_fail, alpha_pass, 0, middle, 1 / 16, 0.0, 0.0, None, "inconclusive"
    )


def split(alpha: float, guards: int) -> float:
    """Give each of several guards its part, so that any false fail has the chance alpha."""
    return alpha / guards


def update(state: PairedBet, differences: ArrayLike) -> PairedBet:
    """Take in differences in order; a failed state does not change any more.

    Args:
        state: The guard so far.
        differences: Challenger loss minus champion loss of each unit, within [-1, 1].

    Feeding rows one by one or in any batches ends in the same state: all sums run in order.
    """
    d = np.asarray(differences, np.float64).ravel()
    if not bool(np.all((d >= -1) & (d <= 1))):
        raise InvalidInput(
            "guard: found differences outside -1 to 1 or not a number, expected losses scaled to "
            "0..1; clip and divide by the range first"
        )
    if state.outcome == "fail" or d.size == 0:
        return state
    middle = (state.margin + 1) / 2
    z = (d + 1) / 2
    totals = _running(state.total, z)
    units = state.n + np.arange(1, d.size + 2)
    means = totals / units
    squares = _running(state.squares, (z - means[1:]) ** 2)
    # The bet on a row may know only the rows before it.
    mean, variance = means[:-1], squares[:-1] / units[:-1]
    log_fail = _running(state.log_fail, _growth(z, middle, mean, variance))
    log_pass = _running(state.log_pass, _growth(1 - z, 1 - middle, 1 - mean, variance))
    fails = log_fail[1:] >= -log(state.alpha_fail)
    passes = log_pass[1:] >= -log(state.alpha_pass)
    failed = np.flatnonzero(fails)
    last = int(failed[0]) + 1 if failed.size else d.size
    outcome: Outcome = "pass" if passes[:last].any() else state.outcome
    if failed.size:
        outcome = "fail"
    return replace(
        state,
        n=state.n + last,
        total=float(totals[last]),
        squares=float(squares[last]),
        log_fail=float(log_fail[last]),
        log_pass=float(log_pass[last]),
        passed_at=_first(passes[:last], state),
        outcome=outcome,
    )


def _first(passes: NDArray[np.bool_], state: PairedBet) -> int | None:
    if state.passed_at is not None or not passes.any():
        return state.passed_at
    return state.n + int(np.argmax(passes)) + 1


def start_failures(margin: float, *, alpha_fail: float = 0.01) -> FailureGuard:
    """Begin a guard on failed requests: fails at evidence 1/alpha_fail (100)."""
    bet = start(margin, alpha_fail=alpha_fail)
    return FailureGuard(bet, 0, 0, "inconclusive")


def update_failures(
    state: FailureGuard, challenger_failed: ArrayLike, champion_failed: ArrayLike
) -> FailureGuard:
    """Take in requests that both arms were asked, in order.

    Besides the evidence there is an absolute stop: more than 20 failures of the challenger within
    a hundred requests, counted hundred by hundred, whatever the champion did. A challenger that
    begins to fail after many good requests is so stopped before its mean has moved.
    """
    failed = np.asarray(challenger_failed, bool).ravel()
    other = np.asarray(champion_failed, bool).ravel()
    if failed.size != other.size:
        raise InvalidInput(f"guard: found {failed.size} and {other.size} requests, expected pairs")
    if state.outcome == "fail":
        return state
    differences = failed.astype(np.float64) - other.astype(np.float64)
    bet = update(state.bet, differences)
    stop, recent = _burst(failed[: bet.n - state.seen], state.seen, state.recent_failures)
    if stop is not None:
        bet = update(state.bet, differences[:stop])
    outcome: Outcome = bet.outcome if stop is None else "fail"
    return FailureGuard(bet, bet.n, recent, outcome)


def _burst(failed: NDArray[np.bool_], seen: int, recent: int) -> tuple[int | None, int]:
    """Find how many requests it takes until a hundred holds too many failures, if it does.

    Returns:
        That number, and the failures in the hundred that is open at the end.
    """
    for row, one in enumerate(failed.tolist()):
        if (seen + row) % UNITS == 0:
            recent = 0
        recent += one
        if recent > FAILURES_AT_ONCE:
            return row + 1, recent
    return None, recent


def _growth(z: Floats, middle: float, mean: Floats, variance: Floats) -> Floats:
    lead = mean - middle
    stake = np.clip(lead / (variance + lead**2), 0.0, 0.5 / middle)
    return np.log1p(stake * (z - middle))


def _running(first: float, steps: Floats) -> Floats:
    """Running sum from `first`; accumulate adds strictly in order, so batches do not matter."""
    return np.add.accumulate(np.concatenate(([first], steps)))
