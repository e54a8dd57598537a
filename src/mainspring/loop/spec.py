"""What a user declares of an endpoint: its rows, label, gate, rollout, monitors and retraining."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from cronsim import CronSim, CronSimError

from mainspring.core.clock import duration
from mainspring.core.errors import InvalidDeclaration
from mainspring.core.ids import checked_name
from mainspring.monitoring.spec import Guard, Monitor
from mainspring.validation.spec import Gate


class HasName(Protocol):
    """A declaration that others refer to."""

    @property
    def name(self) -> str: ...


Named = str | HasName
"""A declaration, or its name."""


def _name_of(declared: Named) -> str:
    """Take a declaration's name, or the name itself."""
    return declared if isinstance(declared, str) else declared.name


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The outcome a model predicts.

    Attributes:
        expression: SQL over the source's columns; true or false, or a number.
        source: Dataset it is read from for training and gates. Live labels come by the label API.
        wait: Time after the event by which labels are complete; newer rows are judged later.
    """

    expression: str
    source: str
    wait: str = "36h"

    if TYPE_CHECKING:

        def __init__(self, expression: str, source: Named, wait: str = "36h") -> None: ...

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "source", _name_of(self.source))
        _check(f"label {self.expression!r}", duration, self.wait)


class Canary(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A rollout whose share grows with the guards' evidence.

    Step k of n is left once every guard has the share k/n of the evidence that a pass asks for
    and the step has been held long enough; the last one ends in promotion when all guards pass.

    Attributes:
        steps: Shares of the traffic, growing, each above 0 and below 1.
        guards: What may not get worse while both arms score every request.
        deadline: In the endpoint's time; inconclusive then means rolled back.
        hold: Least time at each step.
        approval: Time a person has to agree before the rollout starts; none = not asked.
    """

    steps: tuple[float, ...]
    guards: tuple[Guard, ...]
    deadline: str = "14d"
    hold: str = "1d"
    approval: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            steps: Iterable[float],
            guards: Iterable[Guard],
            deadline: str = "14d",
            hold: str = "1d",
            approval: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "steps", tuple(self.steps))
        msgspec.structs.force_setattr(self, "guards", tuple(self.guards))
        shares = self.steps
        if not shares or list(shares) != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] < 1:
            raise InvalidDeclaration(
                f"canary steps {shares!r}: expected growing shares above 0 and below 1, "
                "such as [0.05, 0.25, 0.5]"
            )
        if not self.guards:
            raise InvalidDeclaration("canary: no guards; name at least one, such as errors(0.01)")
        for text in (self.deadline, self.hold, self.approval or "1d"):
            _check("canary", duration, text)


class OnAlarm(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Retrain when a monitor's alarm is open.

    Attributes:
        monitor: Name of the monitor.
        retry: Endpoint's time after which an alarm that is still open asks again.
    """

    monitor: str
    retry: str = "14d"

    def __post_init__(self) -> None:
        _check(f"on_alarm({self.monitor!r})", duration, self.retry)


class Cron(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Retrain at the ticks of a cron expression, read in UTC of the endpoint's time."""

    expression: str

    def __post_init__(self) -> None:
        try:
            CronSim(self.expression, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise InvalidDeclaration(
                f"cron({self.expression!r}): {error}; expected five fields such as '0 3 1 * *'"
            ) from error

    def last_tick(self, now: datetime) -> datetime:
        """Give the newest tick at or before an instant."""
        # The iterator never gives its own start, so begin one second later.
        start = now.replace(microsecond=0) + timedelta(seconds=1)
        return next(CronSim(self.expression, start, reverse=True))

    def next_tick(self, now: datetime) -> datetime:
        """Give the first tick after an instant."""
        return next(CronSim(self.expression, now))


Trigger = OnAlarm | Cron


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model in production and everything that keeps it right.

    Attributes:
        name: Name of the endpoint, of its model and in its subjects.
        rows: Dataset that gives key and event time of every row.
        time: `event`: the watermark is its clock; `wall`: the machine's.
        request: Columns of `rows` that a caller sends.
        features: Feature views joined by the platform.
        kept: How many of the versions that were live are compared besides the first.
        attempts: Tries of one run before it is closed as failed.
    """

    name: str
    rows: str
    request: tuple[str, ...]
    label: Label
    pipeline: str
    gate: Gate
    rollout: Canary
    time: Literal["event", "wall"] = "event"
    features: tuple[str, ...] = ()
    monitors: tuple[Monitor, ...] = ()
    retrain: tuple[Trigger, ...] = ()
    kept: int = 3
    attempts: int = 3

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            rows: Named,
            request: Iterable[str],
            label: Label,
            pipeline: Named,
            gate: Gate,
            rollout: Canary,
            time: Literal["event", "wall"] = "event",
            features: Iterable[Named] = (),
            monitors: Iterable[Monitor] = (),
            retrain: Iterable[Trigger] = (),
            kept: int = 3,
            attempts: int = 3,
        ) -> None: ...

    def __post_init__(self) -> None:
        checked_name(self.name, what="endpoint")
        force = msgspec.structs.force_setattr
        force(self, "rows", _name_of(self.rows))
        force(self, "pipeline", _name_of(self.pipeline))
        force(self, "features", _names(self.features))
        for field in ("request", "monitors", "retrain"):
            force(self, field, tuple(getattr(self, field)))
        if self.kept < 1 or self.attempts < 1:
            raise InvalidDeclaration(
                f"endpoint {self.name!r}: kept={self.kept} and attempts={self.attempts} "
                "must be at least 1"
            )


def on_alarm(monitor: str, *, retry: str = "14d") -> OnAlarm:
    """Retrain when a monitor's alarm is open."""
    return OnAlarm(monitor, retry)


def cron(expression: str) -> Cron:
    """Retrain at the ticks of a cron expression."""
    return Cron(expression)


def _names(declared: Iterable[Named]) -> tuple[str, ...]:
    return tuple(_name_of(one) for one in declared)


def _check(subject: str, read: Any, text: str) -> None:
    try:
        read(text)
    except ValueError as error:
        raise InvalidDeclaration(f"{subject}: {error}") from error
