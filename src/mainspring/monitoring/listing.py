"""Outcomes in pages: what became of predictions, by event time or by prediction id."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, func, select, tuple_

from mainspring.core.errors import InvalidInput
from mainspring.monitoring.labels import parse_prediction
from mainspring.monitoring.tables import OUTCOME, PREDICTION
from mainspring.monitoring.times import instant


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction and the label that holds.

    Attributes:
        value: None while there is no label, or when it is void.
        repeat: The request was answered before; the outcome is that of the first answer.
    """

    prediction: str
    row: int
    key: str
    event_time: datetime
    version: str
    role: str
    score: float | None
    repeat: bool
    value: float | None
    void: bool
    label_arrival: datetime | None
    corrections: int


class OutcomePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some outcomes by event time; `next` leads to the following ones, None at the end."""

    outcomes: tuple[Outcome, ...]
    next: str | None


def by_time(
    connection: Connection,
    endpoint: tuple[str, str],
    span_us: tuple[int, int],
    *,
    after: str | None,
    limit: int,
) -> OutcomePage:
    """Give a page of predictions with event time in [start, end), repeats left out.

    Args:
        endpoint: Project and name.
        after: A page's `next`.
    """
    p, (project, name), (start_us, end_us) = PREDICTION.c, endpoint, span_us
    query = _known(p.number).where(
        p.project == project,
        p.endpoint == name,
        p.event_time_us >= start_us,
        p.event_time_us < end_us,
        p.repeat_of.is_(None),
    )
    if after is not None:
        query = query.where(tuple_(p.event_time_us, p.number) > _place(after))
    query = query.order_by(p.event_time_us, p.number).limit(limit + 1)
    rows = connection.execute(query).all()
    more = rows[limit - 1] if len(rows) > limit else None
    return OutcomePage(
        outcomes=_outcomes(rows[:limit]),
        next=None if more is None else f"{more.event_time_us}.{more.number}",
    )


def by_prediction(
    connection: Connection, endpoint: tuple[str, str], reference: str, *, limit: int
) -> OutcomePage:
    """Give the rows of one prediction, or with `<id>:<i>` one of them."""
    p, (project, name) = PREDICTION.c, endpoint
    prediction, row = parse_prediction(reference)
    counted = func.coalesce(p.repeat_of, p.number)
    query = _known(counted).where(
        p.project == project, p.endpoint == name, p.prediction == prediction
    )
    if ":" in reference:
        query = query.where(p.row == row)
    rows = connection.execute(query.order_by(p.row).limit(limit)).all()
    return OutcomePage(outcomes=_outcomes(rows), next=None)


def _known(number: Any) -> Select[Any]:
    p, o = PREDICTION.c, OUTCOME.c
    return select(
        p.number, p.prediction, p.row, p.key, p.event_time_us, p.version, p.role, p.score,
        p.repeat_of, o.value, o.void, o.arrival_us, o.corrections,
    ).select_from(PREDICTION.outerjoin(OUTCOME, o.number == number))  # fmt: skip


def _outcomes(rows: Sequence[Row[Any]]) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(
            prediction=row.prediction,
            row=row.row,
            key=row.key,
            event_time=instant(row.event_time_us),
            version=row.version,
            role=row.role,
            score=row.score,
            repeat=row.repeat_of is not None,
            value=row.value,
            void=bool(row.void),
            label_arrival=None if row.arrival_us is None else instant(row.arrival_us),
            corrections=row.corrections or 0,
        )
        for row in rows
    )


def _place(after: str) -> tuple[int, int]:
    time_us, _, number = after.partition(".")
    digits = time_us.removeprefix("-")
    if all(part.isascii() and part.isdigit() and len(part) < 18 for part in (digits, number)):
        return int(time_us), int(number)
    raise InvalidInput(f"cursor {after[:40]!r}: expected the `next` of an earlier page")
