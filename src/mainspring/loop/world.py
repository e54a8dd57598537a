"""What `decide` sees: one endpoint's state as a frozen value, with `now` in it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mainspring.core.ids import Digest, Id, Seq
from mainspring.loop.spec import Endpoint
from mainspring.monitoring.losses import Signal

Outcome = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """The version that answers."""

    version: str
    manifest: Digest
    since: datetime


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has not closed."""

    run: Id
    attempts: int
    leased: bool
    expired: bool
    """Its wall-time deadline has passed."""


@dataclass(frozen=True, slots=True)
class LastVerdict:
    """What the gate said last of a version."""

    verdict: Id
    outcome: Outcome
    champion: str | None
    better: str | None
    rows: int
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A registered version whose fate is open."""

    version: str
    manifest: Digest
    registered: Seq
    until: datetime
    verdict: LastVerdict | None
    rows_now: int
    """Labelled rows the gate would have today; counted only while a verdict is awaited."""
    approval: Literal["none", "asked", "approved"]
    approval_deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Restorable:
    """An earlier version that beat the champion by its interval, and the verdict that says so."""

    version: str
    manifest: Digest
    verdict: Id


@dataclass(frozen=True, slots=True)
class Guards:
    """What the guards of the open rollout say together.

    `progress` is the least guard's evidence for a pass, as a share of what a pass asks for.
    """

    outcome: Outcome
    progress: float
    reason: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class OpenRollout:
    """A rollout that has not ended."""

    rollout: Id
    candidate: str
    manifest: Digest
    verdict: Id
    kind: Literal["canary", "restore"]
    step: int
    stepped: datetime
    deadline: datetime
    guards: Guards


@dataclass(frozen=True, slots=True)
class OpenAlarm:
    """An alarm that has not ended."""

    alarm: Id
    monitor: str
    version: str | None
    opened: datetime
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Holdout:
    """The newest labelled rows, held back for the gate before a run is opened.

    `until` is null when there are fewer than `needed`.
    """

    needed: int
    available: int
    until: datetime | None
    inputs: Digest | None


@dataclass(frozen=True, slots=True)
class World:
    """Everything `decide` may look at."""

    now: datetime
    endpoint: Endpoint
    seen: Seq
    """Newest fact of the endpoint's subject: what `expect` will be."""
    live: LiveVersion | None
    run: OpenRun | None
    candidate: Candidate | None
    restorable: Restorable | None
    rollout: OpenRollout | None
    alarms: tuple[OpenAlarm, ...]
    signals: tuple[Signal, ...]
    retrained: datetime | None
    """When the loop last opened a run, in the endpoint's time."""
    holdout: Holdout | None
    """Known only while a trigger is due, because counting rows costs a scan."""
    tried: frozenset[Digest]
    """Inputs of earlier runs."""
