"""The steps the loop can take: a closed union, each a frozen value."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mainspring.core.ids import Digest, Id
from mainspring.monitoring.losses import Signal


@dataclass(frozen=True, slots=True)
class RaiseAlarm:
    """Open an alarm."""

    signal: Signal
    deadline: datetime


@dataclass(frozen=True, slots=True)
class EndAlarm:
    """Close an alarm with its cause."""

    alarm: Id
    monitor: str
    cause: Literal["quiet", "version_changed", "expired"]


@dataclass(frozen=True, slots=True)
class OpenTraining:
    """Open a run that trains a candidate."""

    trigger: str
    alarm: Id | None
    until: datetime
    holdout_rows: int
    inputs: Digest


@dataclass(frozen=True, slots=True)
class StartRun:
    """Begin the next attempt of an open run."""

    run: Id


@dataclass(frozen=True, slots=True)
class CloseRun:
    """Give up an open run."""

    run: Id
    outcome: Literal["expired", "failed"]
    reason: str


@dataclass(frozen=True, slots=True)
class Judge:
    """Let the gate compare the candidate."""

    version: str


@dataclass(frozen=True, slots=True)
class LapseVerdict:
    """End an inconclusive gate at its deadline."""

    verdict: Id
    version: str


@dataclass(frozen=True, slots=True)
class AskApproval:
    """Ask a person before a rollout."""

    version: str
    verdict: Id
    deadline: datetime


@dataclass(frozen=True, slots=True)
class RejectSilently:
    """Nobody agreed before the deadline."""

    version: str
    verdict: Id


@dataclass(frozen=True, slots=True)
class StartRollout:
    """Give a version its first share."""

    version: str
    manifest: Digest
    verdict: Id
    kind: Literal["canary", "restore"]
    share: float
    deadline: datetime


@dataclass(frozen=True, slots=True)
class AdvanceRollout:
    """Grow the share."""

    rollout: Id
    step: int
    share: float


@dataclass(frozen=True, slots=True)
class RollBack:
    """End a rollout, the live version stays."""

    rollout: Id
    candidate: str
    reason: str
    guards: Digest


@dataclass(frozen=True, slots=True)
class Promote:
    """Make a version the live one."""

    version: str
    manifest: Digest
    verdict: Id
    rollout: Id | None
    kind: Literal["first", "canary", "restore"]
    reason: str
    guards: Digest | None


Step = (
    RaiseAlarm
    | EndAlarm
    | OpenTraining
    | StartRun
    | CloseRun
    | Judge
    | LapseVerdict
    | AskApproval
    | RejectSilently
    | StartRollout
    | AdvanceRollout
    | RollBack
    | Promote
)
