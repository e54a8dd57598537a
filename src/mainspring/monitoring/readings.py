"""Readings: what was measured over one closed window, always with its rows."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select

from mainspring.core.clock import Instant
from mainspring.monitoring.tables import READING
from mainspring.monitoring.times import instant, micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One number of one window [start, end) of event time.

    Attributes:
        subject: Feature column; empty for the whole prediction.
        value: What was measured; None where the rows cannot tell (one class only).
        expected: What the version or pure chance would give on these rows.
        baseline: What `expected` rests on.
    """

    monitor: str
    version: str
    subject: str
    metric: str
    start: Instant
    end: Instant
    rows: int
    value: float | None
    expected: float | None
    baseline: str


def replace_window(
    connection: Connection,
    project: str,
    endpoint: str,
    window: tuple[str, int],
    readings: Sequence[Reading],
) -> None:
    """Put the readings of one monitor's window in place of those it had; `window`: name, start."""
    monitor, start_us = window
    connection.execute(
        delete(READING).where(
            READING.c.project == project,
            READING.c.endpoint == endpoint,
            READING.c.monitor == monitor,
            READING.c.start_us == start_us,
        )
    )
    rows = [_row(project, endpoint, reading) for reading in readings]
    if rows:
        connection.execute(insert(READING), rows)


def stored(
    connection: Connection,
    project: str,
    endpoint: str,
    *,
    monitor: str | None = None,
    version: str | None = None,
    metric: str | None = None,
    after_us: int | None = None,
) -> list[Reading]:
    """List readings in order of their window; `after_us`: windows that start at or after it."""
    query = select(READING).where(READING.c.project == project, READING.c.endpoint == endpoint)
    wanted = {"monitor": monitor, "version": version, "metric": metric}
    for column, value in wanted.items():
        if value is not None:
            query = query.where(READING.c[column] == value)
    if after_us is not None:
        query = query.where(READING.c.start_us >= after_us)
    order = (READING.c.start_us, READING.c.monitor, READING.c.version, READING.c.subject)
    rows = connection.execute(query.order_by(*order, READING.c.metric))
    return [
        Reading(
            monitor=row.monitor,
            version=row.version,
            subject=row.subject,
            metric=row.metric,
            start=instant(row.start_us),
            end=instant(row.end_us),
            rows=row.rows,
            value=row.value,
            expected=row.expected,
            baseline=row.baseline,
        )
        for row in rows
    ]


def windows_of(times_us: Iterable[int], every_us: int) -> list[int]:
    """Give the starts of the windows in which instants lie, in order; windows start at 1970."""
    return sorted({time - time % every_us for time in times_us})


def _row(project: str, endpoint: str, reading: Reading) -> dict[str, object]:
    row = asdict(reading)
    row["start_us"], row["end_us"] = micros(row.pop("start")), micros(row.pop("end"))
    return row | {"project": project, "endpoint": endpoint}
