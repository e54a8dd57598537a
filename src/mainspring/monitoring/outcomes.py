"""The join: which label holds for which prediction, and from when on it counts.

An outcome is a function of the set of labels joined to its prediction, whatever their order: the
one that arrived last holds (then received last). It becomes *eligible* once, at the later of its
first label's arrival and the event's time plus the label wait; what holds then is what guards and
detectors bet on, because a bet cannot be taken back. Later corrections restate readings only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, case, func, insert, select, update

from mainspring.monitoring.tables import LABEL, OUTCOME, PREDICTION

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Span:
    """The watermark's move that a pass is about."""

    project: str
    endpoint: str
    before_us: int
    until_us: int
    wait_us: int


@dataclass(frozen=True, slots=True)
class Joined:
    """What a pass changed."""

    labels: int
    labelled: int
    """Predictions that have a value now, less those that lost it to a `void`."""
    event_times_us: tuple[int, ...]
    """Of the outcomes that are new or changed."""


@dataclass(frozen=True, slots=True)
class _Change:
    row: dict[str, Any]
    is_new: bool
    gained: int


def join(connection: Connection, span: Span) -> Joined:
    """Join labels that arrived by `until`; those without a prediction go on waiting."""
    targets = _targets(connection, span)
    if not targets:
        return Joined(0, 0, ())
    connection.execute(
        update(LABEL).where(LABEL.c.number == bindparam("label")).values(target=bindparam("to")),
        [{"label": label, "to": target} for label, target in targets.items()],
    )
    changes = [
        change
        for chunk in _chunks(sorted(set(targets.values())))
        for change in _changes(connection, span, chunk)
    ]
    _write(connection, changes)
    return Joined(
        len(targets),
        sum(change.gained for change in changes),
        tuple(change.row["event_time_us"] for change in changes),
    )


def _targets(connection: Connection, span: Span) -> dict[int, int]:
    waiting = and_(
        LABEL.c.project == span.project,
        LABEL.c.endpoint == span.endpoint,
        LABEL.c.target.is_(None),
        LABEL.c.arrival_us <= span.until_us,
        PREDICTION.c.project == LABEL.c.project,
        PREDICTION.c.endpoint == LABEL.c.endpoint,
    )
    by_id = select(
        LABEL.c.number, func.coalesce(PREDICTION.c.repeat_of, PREDICTION.c.number)
    ).where(
        waiting,
        PREDICTION.c.prediction == LABEL.c.prediction,
        PREDICTION.c.row == LABEL.c.row,
    )
    # The last one answered when the label came; for a label that came early, the first one after.
    # So the choice does not depend on when the watermark moves.
    came_before = PREDICTION.c.at_us <= LABEL.c.received_us
    by_key = (
        select(LABEL.c.number, PREDICTION.c.number)
        .where(
            waiting,
            PREDICTION.c.key == LABEL.c.key,
            PREDICTION.c.event_time_us == LABEL.c.event_time_us,
            PREDICTION.c.repeat_of.is_(None),
        )
        .order_by(
            LABEL.c.number,
            case((came_before, 0), else_=1),
            case((came_before, -PREDICTION.c.at_us), else_=PREDICTION.c.at_us),
            case((came_before, -PREDICTION.c.number), else_=PREDICTION.c.number),
        )
    )
    chosen: dict[int, int] = {}
    for query in (by_id, by_key):
        for label, target in connection.execute(query):
            chosen.setdefault(label, target)
    return chosen


def _changes(connection: Connection, span: Span, targets: Sequence[int]) -> Iterator[_Change]:
    known = {
        row.number: row
        for row in connection.execute(select(OUTCOME).where(OUTCOME.c.number.in_(targets)))
    }
    found = connection.execute(
        select(PREDICTION.c.number, PREDICTION.c.event_time_us).where(
            PREDICTION.c.number.in_(targets)
        )
    )
    times = {row.number: row.event_time_us for row in found}
    history = connection.execute(
        select(
            LABEL.c.target, LABEL.c.value, LABEL.c.arrival_us, LABEL.c.received_us, LABEL.c.number
        )
        .where(
            LABEL.c.project == span.project,
            LABEL.c.endpoint == span.endpoint,
            LABEL.c.target.in_(targets),
        )
        .order_by(LABEL.c.target, LABEL.c.arrival_us, LABEL.c.received_us, LABEL.c.number)
    )
    for target, labels in groupby(history, key=attrgetter("target")):
        yield _change(span, times[target], list(labels), known.get(target))


def _change(
    span: Span, event_time_us: int, labels: Sequence[Any], before: Row[Any] | None
) -> _Change:
    values = [label.value for label in labels]
    holds = labels[-1]
    if before is not None and before.eligible_us <= span.before_us:
        eligible_us, due_value = before.eligible_us, before.due_value
    else:
        # A label that comes after the watermark passed its arrival counts from just after it on.
        eligible_us = max(labels[0].arrival_us, event_time_us + span.wait_us, span.before_us + 1)
        due_value = [label.value for label in labels if label.arrival_us <= eligible_us][-1]
    row = {
        "number": holds.target,
        "project": span.project,
        "endpoint": span.endpoint,
        "event_time_us": event_time_us,
        "value": holds.value,
        "void": int(holds.value is None),
        "arrival_us": holds.arrival_us,
        "labels": len(labels),
        "corrections": sum(one != after for one, after in pairwise(values)),
        "eligible_us": eligible_us,
        "due_value": due_value,
    }
    had = before is not None and before.value is not None
    return _Change(row, before is None, int(holds.value is not None) - int(had))


def _write(connection: Connection, changes: Sequence[_Change]) -> None:
    new = [change.row for change in changes if change.is_new]
    if new:
        connection.execute(insert(OUTCOME), new)
    changed = [
        {f"new_{name}": value for name, value in change.row.items()}
        for change in changes
        if not change.is_new
    ]
    if changed:
        moving = (
            "value",
            "void",
            "arrival_us",
            "labels",
            "corrections",
            "eligible_us",
            "due_value",
        )
        connection.execute(
            update(OUTCOME)
            .where(OUTCOME.c.number == bindparam("new_number"))
            .values({name: bindparam(f"new_{name}") for name in moving}),
            changed,
        )


def _chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut into pieces that fit into one statement."""
    return (numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK))
