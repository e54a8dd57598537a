"""Put together the world of one endpoint from the derived tables and the stages' states."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from mainspring.core.ids import Digest, Id
from mainspring.loop import state
from mainspring.loop.decide import due
from mainspring.loop.rows import count_labelled
from mainspring.loop.spec import Endpoint
from mainspring.loop.stages import Stages
from mainspring.loop.tables import from_us
from mainspring.loop.training import MANUAL, held_back
from mainspring.loop.world import (
    Candidate,
    Guards,
    LastVerdict,
    OpenAlarm,
    OpenRollout,
    OpenRun,
    Restorable,
    World,
)
from mainspring.monitoring.guards import RolloutVerdict


def observe(stages: Stages, name: str) -> World | None:
    """Take the world of an endpoint, or none before its clock has started."""
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, name)
        now = endpoint_now(stages, spec)
        if now is None:
            return None
        world = _tables(stages, connection, spec, now)
    if due(world) is None:
        return world
    return replace(world, holdout=held_back(stages, spec, now))


def endpoint_now(stages: Stages, spec: Endpoint) -> datetime | None:
    """Read the endpoint's clock: its watermark, or wall time."""
    return stages.monitoring.watermark(spec.name) if spec.time == "event" else stages.clock.now()


def _tables(stages: Stages, connection: Connection, spec: Endpoint, now: datetime) -> World:
    live = state.live_version(connection, stages.project, spec.name)
    monitor = stages.monitoring.state(spec.name)
    opened = stages.runs.opened(spec.name)
    return World(
        now=now,
        endpoint=spec,
        seen=stages.ledger.newest(stages.subject("endpoint", spec.name)),
        live=live,
        run=_run(stages, spec),
        candidate=_candidate(stages, connection, spec, now, live.version if live else None),
        restorable=_restorable(stages, connection, spec, live.version if live else None),
        rollout=_rollout(stages, connection, spec, monitor.rollout),
        alarms=tuple(
            OpenAlarm(alarm.alarm, alarm.monitor, alarm.version, alarm.opened, alarm.deadline)
            for alarm in stages.monitoring.alarms(spec.name, only_open=True)
        ),
        signals=monitor.signals,
        retrained=max(
            (
                run.as_of
                for run in opened
                if run.as_of is not None and not run.trigger.startswith(MANUAL)
            ),
            default=None,
        ),
        holdout=None,
        tried=frozenset(run.inputs for run in opened),
    )


def _run(stages: Stages, spec: Endpoint) -> OpenRun | None:
    found = stages.runs.open_run(spec.name)
    if found is None:
        return None
    return OpenRun(
        run=found.run,
        attempts=found.attempts,
        leased=found.leased,
        expired=stages.clock.now() >= found.deadline,
    )


def _candidate(
    stages: Stages, connection: Connection, spec: Endpoint, now: datetime, live: str | None
) -> Candidate | None:
    row = state.open_candidate(connection, stages.project, spec.name)
    if row is None:
        return None
    spoken = None if row.verdict is None else state.verdict(connection, row.verdict)
    until = from_us(row.until_us)
    # A verdict against another champion is spoken anew, on the rows there are by then.
    awaited = spoken is None or spoken.outcome == "inconclusive" or spoken.champion != live
    return Candidate(
        version=row.version,
        manifest=Digest(row.manifest),
        registered=row.registered,
        until=until,
        verdict=None
        if spoken is None
        else LastVerdict(
            verdict=Id(spoken.id),
            outcome=spoken.outcome,
            champion=spoken.champion,
            better=spoken.better,
            rows=spoken.rows,
            deadline=state.instant(spoken.deadline_us),
        ),
        rows_now=count_labelled(stages, spec, start=until, as_of=now) if awaited else 0,
        approval=row.approval,
        approval_deadline=state.instant(row.approval_deadline_us),
    )


def _restorable(
    stages: Stages, connection: Connection, spec: Endpoint, live: str | None
) -> Restorable | None:
    spoken = state.newest_verdict(connection, stages.project, spec.name)
    if spoken is None or spoken.better is None or spoken.champion != live:
        return None
    if state.rollout_of_verdict(connection, spoken.id, "restore") is not None:
        return None
    manifest = stages.registry.get(spec.name, spoken.better).manifest
    return Restorable(spoken.better, manifest, Id(spoken.id))


def _rollout(
    stages: Stages, connection: Connection, spec: Endpoint, said: RolloutVerdict | None
) -> OpenRollout | None:
    row = state.open_rollout(connection, stages.project, spec.name)
    if row is None or said is None:
        return None
    return OpenRollout(
        rollout=Id(row.id),
        candidate=row.candidate,
        manifest=stages.registry.get(spec.name, row.candidate).manifest,
        verdict=Id(row.verdict),
        kind=row.kind,
        step=row.step,
        stepped=from_us(row.stepped_us),
        deadline=from_us(row.deadline_us),
        guards=Guards(said.outcome, said.progress, said.reason, said.digest),
    )
