"""What a user declares to be watched: monitors of an endpoint, guards of a rollout."""

from typing import Literal

import msgspec

from mainspring.core.clock import duration
from mainspring.core.errors import InvalidDeclaration
from mainspring.core.ids import checked_name

Metric = Literal["log_loss", "brier"]

CLIP = 0.01
"""Guards and the loss monitor take probabilities within [CLIP, 1 - CLIP]: bets need a bounded loss.

The clip is part of the question that is asked: one row costs at most -ln(0.01) = 4.6 nats.
"""

_METRICS = ("log_loss", "brier")


class Loss(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Alarm when the live version loses more than it expected of itself.

    Attributes:
        metric: Loss per label, on probabilities clipped to [0.01, 0.99].
        every: Length of a window of readings; three quiet ones end an alarm.
        tolerance: Mean excess that is accepted, in the metric's unit.
        labels_per_month: Sets the rate of false alarms, one in a hundred months; none = measured
            over the first window of each live version.
        name: How triggers and alarms call it.
    """

    metric: Metric = "log_loss"
    every: str = "7d"
    tolerance: float = 0.01
    labels_per_month: int | None = None
    name: str = "loss"

    def __post_init__(self) -> None:
        _check_monitor(self.name, self.every)
        _check_metric(self.name, self.metric)
        if not 0 < self.tolerance < 1:
            raise InvalidDeclaration(
                f"monitor {self.name!r}: tolerance {self.tolerance}, expected above 0 and below 1"
            )
        if self.labels_per_month is not None and self.labels_per_month < 1:
            raise InvalidDeclaration(
                f"monitor {self.name!r}: labels_per_month {self.labels_per_month}, "
                "expected at least 1, or none to have it measured"
            )


class Drift(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Note how far the served features moved from those of training; never an alarm.

    Attributes:
        every: Length of a window of readings.
        name: How readings call it.
    """

    every: str = "1d"
    name: str = "drift"

    def __post_init__(self) -> None:
        _check_monitor(self.name, self.every)


class Errors(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A candidate may fail on at most this share of requests more than the live version."""

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InvalidDeclaration(
                f"guard errors({self.share}): expected a share above 0 and below 1"
            )

    @property
    def name(self) -> str:
        return "errors"


class NotWorse(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A candidate's mean loss may exceed the live version's by at most the margin.

    Attributes:
        metric: Loss per label, on probabilities clipped to [0.01, 0.99].
        margin: In the metric's unit.
    """

    metric: Metric
    margin: float

    def __post_init__(self) -> None:
        _check_metric(self.name, self.metric)
        if not 0 < self.margin < 1:
            raise InvalidDeclaration(
                f"guard {self.name}: margin {self.margin}, expected above 0 and below 1"
            )

    @property
    def name(self) -> str:
        return f"not_worse:{self.metric}"


Monitor = Loss | Drift
Guard = Errors | NotWorse


def errors(share: float) -> Errors:
    """Guard a rollout against failures: raised, timed out, or gave no finite number."""
    return Errors(share)


def not_worse(metric: Metric, margin: float) -> NotWorse:
    """Guard a rollout against losing more than the live version on the same requests."""
    return NotWorse(metric, margin)


def _check_monitor(name: str, every: str) -> None:
    checked_name(name, what="monitor")
    try:
        duration(every)
    except ValueError as error:
        raise InvalidDeclaration(f"monitor {name!r}: every: {error}") from error


def _check_metric(subject: str, metric: str) -> None:
    if metric not in _METRICS:
        raise InvalidDeclaration(
            f"{subject}: metric {metric!r}, expected one of {', '.join(_METRICS)}"
        )
