"""Alarms: facts with a beginning, an end and a cause; the loop decides when."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, select

from mainspring.core.clock import Instant
from mainspring.core.errors import AlreadyExists, NotFound, Refused
from mainspring.core.events import Alarmed, AlarmEnded
from mainspring.core.ids import Digest, Id, Seq, Subject
from mainspring.monitoring.tables import ALARM
from mainspring.monitoring.times import instant
from mainspring.store.ledger import Draft

Cause = Literal["quiet", "version_changed", "expired", "acknowledged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm as it stands; open while `ended` is None."""

    alarm: Id
    endpoint: str
    monitor: str
    version: str | None
    message: str
    readings: Digest
    opened: Instant
    deadline: Instant
    cause: Cause | None
    ended: Instant | None

    def standing(self, now: Instant) -> bool:
        """Say whether it is open beyond its deadline: it counts as one alarm, not as many."""
        return self.ended is None and now >= self.deadline


def alarms(
    connection: Connection, project: str, endpoint: str | None, *, only_open: bool
) -> list[Alarm]:
    """List alarms in the order in which they were opened."""
    query = select(ALARM).where(ALARM.c.project == project)
    if endpoint is not None:
        query = query.where(ALARM.c.endpoint == endpoint)
    if only_open:
        query = query.where(ALARM.c.ended_us.is_(None))
    return [
        Alarm(
            alarm=row.alarm,
            endpoint=row.endpoint,
            monitor=row.monitor,
            version=row.version,
            message=row.message,
            readings=row.readings,
            opened=instant(row.opened_us),
            deadline=instant(row.deadline_us),
            cause=row.cause,
            ended=None if row.ended_us is None else instant(row.ended_us),
        )
        for row in connection.execute(query.order_by(ALARM.c.opened_us, ALARM.c.alarm))
    ]


def opening(project: str, event: Alarmed) -> tuple[Draft, Callable[[Connection], None]]:
    """Draft an alarm, with the check that its monitor has none open."""

    def none_open(connection: Connection) -> None:
        for alarm in alarms(connection, project, event.endpoint, only_open=True):
            if alarm.monitor == event.monitor:
                raise AlreadyExists(
                    f"monitor {event.monitor!r} of endpoint {event.endpoint!r}: alarm "
                    f"{alarm.alarm} is open since {alarm.opened.isoformat()}; end it first"
                )

    return Draft(Subject(project, "alarm", event.alarm), event), none_open


def ending(
    project: str, alarm: Id, cause: Cause, at: Instant, found: Alarm | None
) -> tuple[Draft, Callable[[Connection], None]]:
    """Draft the end of an alarm, with the check that it is still open."""
    if found is None:
        raise NotFound(f"alarm {alarm} does not exist in project {project!r}; list the alarms")

    def still_open(connection: Connection) -> None:
        query = select(ALARM.c.cause).where(ALARM.c.project == project, ALARM.c.alarm == alarm)
        ended = connection.execute(query).scalar()
        if ended is not None:
            raise Refused(f"alarm {alarm} has ended before, cause {ended}; nothing was changed")

    event = AlarmEnded(
        alarm=alarm, endpoint=found.endpoint, monitor=found.monitor, cause=cause, at=at
    )
    return Draft(Subject(project, "alarm", alarm), event), still_open


def caused(draft: Draft, cause: Seq | None) -> Draft:
    """Give the draft the fact that led to it."""
    return draft if cause is None else replace(draft, cause=cause)
