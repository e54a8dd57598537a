"""What an endpoint serves, does and waits for, read for people and programs."""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import select

from mainspring.loop import state
from mainspring.loop.decide import waiting
from mainspring.loop.observe import endpoint_now, observe
from mainspring.loop.stages import Stages
from mainspring.loop.tables import LOOP_ERROR, from_us

NEVER_ADVANCED = "its source has not advanced the watermark yet"


class VersionReport(msgspec.Struct, frozen=True, kw_only=True):
    """A version that went or goes through the gate."""

    version: str
    state: str
    until: datetime
    verdict: str | None
    reason: str | None
    evidence: str | None
    rows: int | None


class RolloutReport(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout, open or ended."""

    rollout: str
    candidate: str
    live: str
    kind: str
    state: str
    step: int
    share: float
    started: datetime
    deadline: datetime
    reason: str | None


class AlarmReport(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm, open or ended."""

    alarm: str
    monitor: str
    version: str | None
    opened: datetime
    ended: datetime | None
    cause: str | None
    message: str


class ReadingReport(msgspec.Struct, frozen=True, kw_only=True):
    """One number a monitor read in one window."""

    monitor: str
    version: str
    subject: str
    metric: str
    start: datetime
    end: datetime
    value: float | None
    expected: float | None
    rows: int


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """When a version became live, and how."""

    version: str
    since: datetime
    kind: str
    fact: int


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One line on an endpoint."""

    endpoint: str
    live: str | None
    now: datetime | None
    rollout: str | None
    alarms: tuple[str, ...]
    waiting: str
    error: str | None


class EndpointReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on an endpoint. `seen` is what a decision's `expect` takes."""

    name: str
    seen: int
    live: str | None
    now: datetime | None
    waiting: str
    error: str | None
    history: tuple[Promotion, ...]
    versions: tuple[VersionReport, ...]
    rollouts: tuple[RolloutReport, ...]
    alarms: tuple[AlarmReport, ...]
    readings: tuple[ReadingReport, ...]
    spec: dict[str, Any]


def status(stages: Stages) -> tuple[EndpointStatus, ...]:
    """Give one line for every declared endpoint."""
    with stages.database.read() as connection:
        declared = state.endpoints(connection, stages.project)
    return tuple(_status(stages, spec.name) for spec in declared)


def report(stages: Stages, name: str, *, readings: bool = True) -> EndpointReport:
    """Give everything on one endpoint; its readings, which are many, only if asked for."""
    line = _status(stages, name)
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, name)
        spoken = {row.id: row for row in state.verdicts(connection, stages.project, name)}
        versions = state.candidates(connection, stages.project, name)
        rollouts = state.rollouts(connection, stages.project, name)
        history = state.live_history(connection, stages.project, name)
    return EndpointReport(
        name=name,
        seen=stages.ledger.newest(stages.subject("endpoint", name)),
        live=line.live,
        now=line.now,
        waiting=line.waiting,
        error=line.error,
        history=tuple(
            Promotion(version=row.version, since=from_us(row.since_us), kind=row.kind, fact=row.seq)
            for row in history
        ),
        versions=tuple(_version(row, spoken.get(row.verdict)) for row in versions),
        rollouts=tuple(_rollout(row) for row in rollouts),
        alarms=_alarms(stages, name),
        readings=_readings(stages, name) if readings else (),
        spec=msgspec.to_builtins(spec),
    )


def _status(stages: Stages, name: str) -> EndpointStatus:
    world = observe(stages, name)
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, name)
        live = state.live_version(connection, stages.project, name)
        rollout = state.open_rollout(connection, stages.project, name)
        error = connection.scalar(
            select(LOOP_ERROR.c.message).where(
                LOOP_ERROR.c.project == stages.project, LOOP_ERROR.c.endpoint == name
            )
        )
    shown = None
    if rollout is not None:
        shown = f"{rollout.candidate} at {rollout.share:.0%} ({rollout.kind})"
    return EndpointStatus(
        endpoint=name,
        live=None if live is None else live.version,
        now=endpoint_now(stages, spec),
        rollout=shown,
        alarms=tuple(alarm.monitor for alarm in stages.monitoring.alarms(name, only_open=True)),
        waiting=NEVER_ADVANCED if world is None else waiting(world),
        error=error,
    )


def _version(row: state.AnyRow, spoken: state.AnyRow | None) -> VersionReport:
    return VersionReport(
        version=row.version,
        state=row.state,
        until=from_us(row.until_us),
        verdict=None if spoken is None else spoken.outcome,
        reason=None if spoken is None else spoken.reason,
        evidence=None if spoken is None else spoken.evidence,
        rows=None if spoken is None else spoken.rows,
    )


def _rollout(row: state.AnyRow) -> RolloutReport:
    return RolloutReport(
        rollout=row.id,
        candidate=row.candidate,
        live=row.live,
        kind=row.kind,
        state=row.state,
        step=row.step,
        share=row.share,
        started=from_us(row.started_us),
        deadline=from_us(row.deadline_us),
        reason=row.reason,
    )


def _alarms(stages: Stages, name: str) -> tuple[AlarmReport, ...]:
    return tuple(
        AlarmReport(
            alarm=alarm.alarm,
            monitor=alarm.monitor,
            version=alarm.version,
            opened=alarm.opened,
            ended=alarm.ended,
            cause=alarm.cause,
            message=alarm.message,
        )
        for alarm in stages.monitoring.alarms(name)
    )


def _readings(stages: Stages, name: str) -> tuple[ReadingReport, ...]:
    return tuple(
        ReadingReport(
            monitor=reading.monitor,
            version=reading.version,
            subject=reading.subject,
            metric=reading.metric,
            start=reading.start,
            end=reading.end,
            value=reading.value,
            expected=reading.expected,
            rows=reading.rows,
        )
        for reading in stages.monitoring.readings(name)
    )
