"""The loop of one endpoint as a ring: where it stands, what it waits for, and its stations."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from mainspring.loop import state
from mainspring.loop.report import EndpointReport, report
from mainspring.loop.spec import Cron, Endpoint, OnAlarm
from mainspring.loop.stages import Stages
from mainspring.server.ui.stations import Seen, Station, stations, version_tones
from mainspring.server.ui.telling import asked_by, when


@dataclass(frozen=True, slots=True)
class Ring:
    """An endpoint's loop as the first page shows it."""

    endpoint: str
    headline: str
    waiting: str
    next: str
    time: str
    """Which clock the endpoint goes by."""
    error: str | None
    asks: str | None
    """The version that waits for a person."""
    report: EndpointReport
    stations: tuple[Station, ...] = field(default=())


def ring(stages: Stages, name: str, base: str) -> Ring:
    """Read the loop of one endpoint."""
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, name)
        candidate = state.open_candidate(connection, stages.project, name)
    found = report(stages, name, readings=False)
    seen = Seen(
        base=base,
        spec=spec,
        report=found,
        runs=stages.runs.list(endpoint=name, limit=20),
        run=stages.runs.open_run(name),
        asks=candidate.version if candidate is not None and candidate.approval == "asked" else None,
        candidate=None if candidate is None else candidate.version,
        guards=stages.monitoring.state(name).rollout,
        tones=version_tones(found),
    )
    active, headline = _active(seen)
    return Ring(
        endpoint=name,
        headline=headline,
        waiting=found.waiting,
        next=_next(spec, found.now),
        time="watermark" if spec.time == "event" else "time",
        error=found.error,
        asks=seen.asks,
        report=found,
        stations=tuple(replace(one, active=one.name == active) for one in stations(stages, seen)),
    )


def _active(seen: Seen) -> tuple[str, str]:
    """Name the station at which the loop stands, and say so in a sentence."""
    live = seen.report.live
    if seen.run is not None:
        attempt = f", attempt {seen.run.attempts}" if seen.run.attempts else ""
        return "run", f"Training a candidate, asked by {asked_by(seen.runs[0].trigger)}{attempt}."
    if (rollout := seen.rollout) is not None:
        return "rollout", (
            f"Version {rollout.candidate} proves itself on {rollout.share:.0%} of the traffic "
            f"beside version {rollout.live}."
        )
    if seen.asks is not None:
        return "gate", f"Version {seen.asks} passed the gate and waits for a person."
    if seen.candidate is not None:
        return "gate", f"Version {seen.candidate} waits at the gate."
    if seen.alarms:
        return "alarm", f"Version {live} answers under an open alarm."
    if live is None:
        return "data", "No version is live yet; the loop gathers what the first one needs."
    return "live", f"Version {live} answers, and nothing is wrong."


def _next(spec: Endpoint, now: datetime | None) -> str:
    """Say what would make the loop train again."""
    asks = []
    for one in spec.retrain:
        match one:
            case OnAlarm():
                asks.append(f"on an alarm of monitor {one.monitor}")
            case Cron() if now is not None:
                asks.append(f"on {when(one.next_tick(now))} by the calendar ({one.expression})")
            case Cron():
                asks.append(f"by the calendar ({one.expression})")
    return f"It retrains {' and '.join(asks)}." if asks else "It retrains only by hand."
