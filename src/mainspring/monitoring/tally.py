"""What charts of an endpoint rest on: counts by window, and a stretch of rows in few columns."""

from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import Connection, func, select

from mainspring.monitoring.state import watermark
from mainspring.monitoring.tables import OUTCOME, PREDICTION

_COLUMNS: dict[str, Any] = {
    "prediction": pl.String,
    "row": pl.Int64,
    "event_time_us": pl.Int64,
    "version": pl.String,
    "score": pl.Float64,
    "value": pl.Float64,
}


@dataclass(frozen=True, slots=True)
class Tally:
    """What one version answered in one window, repeats left out.

    Attributes:
        labelled: Rows whose label holds.
        positives: Sum of those labels; with `labelled` it changes whenever a label does.
        score_sum: Over rows that have a score.
    """

    start_us: int
    version: str
    rows: int
    labelled: int
    positives: float
    scored: int
    score_sum: float


Mark = tuple[int | None, ...]
"""Equal marks mean that nothing was added, labelled or purged in between."""


def mark(connection: Connection, project: str, endpoint: str) -> Mark:
    """Say cheaply how far an endpoint's predictions and outcomes are."""
    first = select(PREDICTION.c.number, PREDICTION.c.event_time_us).where(
        PREDICTION.c.project == project, PREDICTION.c.endpoint == endpoint
    )
    oldest = connection.execute(first.order_by(PREDICTION.c.event_time_us).limit(1)).first()
    newest = connection.scalar(select(func.max(PREDICTION.c.number)))
    known = watermark(connection, project, endpoint) or (None, None)
    return (*known, newest, *(oldest or (None, None)))


def tally(connection: Connection, project: str, endpoint: str, every_us: int) -> list[Tally]:
    """Count by window and version, oldest first; windows start at 1970."""
    p, o = PREDICTION.c, OUTCOME.c
    start = (p.event_time_us // every_us * every_us).label("start_us")
    rows = connection.execute(
        select(
            start, p.version, func.count(), func.count(o.value), func.total(o.value),
            func.count(p.score), func.total(p.score),
        )
        .select_from(PREDICTION.outerjoin(OUTCOME, o.number == p.number))
        .where(p.project == project, p.endpoint == endpoint, p.repeat_of.is_(None))
        .group_by(start, p.version)
        .order_by(start, p.version)
    )  # fmt: skip
    return [Tally(*row) for row in rows]


def labelled_scores(
    connection: Connection, project: str, endpoint: str, start_us: int, end_us: int
) -> pl.DataFrame:
    """Give the answered rows of [start, end) that have a score and a label, by event time."""
    p, o = PREDICTION.c, OUTCOME.c
    rows = connection.execute(
        select(p.prediction, p.row, p.event_time_us, p.version, p.score, o.value)
        .join(OUTCOME, o.number == p.number)
        .where(
            p.project == project,
            p.endpoint == endpoint,
            p.event_time_us >= start_us,
            p.event_time_us < end_us,
            p.repeat_of.is_(None),
            p.score.is_not(None),
            o.value.is_not(None),
        )
        .order_by(p.event_time_us, p.number)
    ).all()
    columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
    return pl.DataFrame(
        {
            name: pl.Series(name, column, dtype=dtype)
            for (name, dtype), column in zip(_COLUMNS.items(), columns, strict=True)
        }
    )
