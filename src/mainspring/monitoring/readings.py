"""Readings: what was measured over one closed window, always with its rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from mainspring.core.clock import Instant
from mainspring.monitoring.bulk import write_rows
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
    write_rows(connection, _INSERT, _columns(project, endpoint, readings))


def put(connection: Connection, project: str, endpoint: str, readings: Sequence[Reading]) -> None:
    """Write readings, each in place of an equally named one of the same window.

    Unlike `replace_window` it looks at nothing but their own keys, so its cost does not grow with
    the monitor's history.
    """
    columns = _columns(project, endpoint, readings)
    write_rows(connection, _REPLACE, columns)


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


def _columns(
    project: str, endpoint: str, readings: Sequence[Reading]
) -> dict[str, Sequence[object]]:
    return {
        "project": [project] * len(readings),
        "endpoint": [endpoint] * len(readings),
        "start_us": [micros(reading.start) for reading in readings],
        "end_us": [micros(reading.end) for reading in readings],
        **{name: [getattr(reading, name) for reading in readings] for name in _AS_IT_IS},
    }


_INSERT = insert(READING)
_REPLACE = insert(READING).prefix_with("OR REPLACE", dialect="sqlite")
_AS_IT_IS = ("monitor", "version", "subject", "metric", "rows", "value", "expected", "baseline")
