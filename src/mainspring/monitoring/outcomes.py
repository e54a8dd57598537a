"""The join: which label holds for which prediction, and from when on it counts.

An outcome is a function of the set of labels joined to its prediction, whatever their order: the
one that arrived last holds (then received last). It becomes *eligible* once, at the later of its
first label's arrival and the event's time plus the label wait; what holds then is what guards and
detectors bet on, because a bet cannot be taken back. Later corrections restate readings only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    case,
    func,
    insert,
    select,
    update,
)

from mainspring.monitoring.bulk import write_rows
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
class _Before:
    """What was known of an outcome before this pass."""

    value: float | None
    eligible_us: int
    due_value: float | None


@dataclass(frozen=True, slots=True)
class _Said:
    """One label of a target, in the order in which labels hold."""

    arrival_us: int
    received_us: int
    number: int
    value: float | None

    @property
    def order(self) -> tuple[int, int, int]:
        return self.arrival_us, self.received_us, self.number


@dataclass(slots=True)
class _Target:
    """A prediction that labels were joined to in this pass."""

    event_time_us: int
    before: _Before | None
    said: list[_Said] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Change:
    row: tuple[Any, ...]
    event_time_us: int
    is_new: bool
    gained: int


_COLUMNS = (
    "number", "project", "endpoint", "event_time_us", "value", "void", "arrival_us", "labels",
    "corrections", "eligible_us", "due_value",
)  # fmt: skip
_MOVING = ("value", "void", "arrival_us", "labels", "corrections", "eligible_us", "due_value")
_POINT = update(LABEL).where(LABEL.c.number == bindparam("label")).values(target=bindparam("to"))
_INSERT = insert(OUTCOME)
_RESTATE = (
    update(OUTCOME)
    .where(OUTCOME.c.number == bindparam("new_number"))
    .values({name: bindparam(f"new_{name}") for name in _MOVING})
)


def join(connection: Connection, span: Span) -> Joined:
    """Join labels that arrived by `until`; those without a prediction go on waiting."""
    targets = _targets(connection, span)
    if not targets:
        return Joined(0, 0, ())
    joined = [(said.number, to) for to, target in targets.items() for said in target.said]
    write_rows(
        connection,
        _POINT,
        {"label": [label for label, _ in joined], "to": [to for _, to in joined]},
    )
    _add_earlier(connection, span, targets)
    changes = [_change(span, number, targets[number]) for number in sorted(targets)]
    _write(connection, changes)
    return Joined(
        len(joined),
        sum(change.gained for change in changes),
        tuple(change.event_time_us for change in changes),
    )


def _targets(connection: Connection, span: Span) -> dict[int, _Target]:
    """Find what waiting labels speak of, with all that the outcome is worked out from."""
    waiting = and_(
        LABEL.c.project == span.project,
        LABEL.c.endpoint == span.endpoint,
        LABEL.c.target.is_(None),
        LABEL.c.arrival_us <= span.until_us,
        PREDICTION.c.project == LABEL.c.project,
        PREDICTION.c.endpoint == LABEL.c.endpoint,
    )
    counted = func.coalesce(PREDICTION.c.repeat_of, PREDICTION.c.number)
    first = PREDICTION.alias("first")
    by_id = (
        _found(first)
        .select_from(LABEL)
        .join(PREDICTION, PREDICTION.c.prediction == LABEL.c.prediction)
        .join(first, first.c.number == counted)
        .outerjoin(OUTCOME, OUTCOME.c.number == first.c.number)
        .where(waiting, PREDICTION.c.row == LABEL.c.row)
    )
    # The last one answered when the label came; for a label that came early, the first one after.
    # So the choice does not depend on when the watermark moves.
    came_before = PREDICTION.c.at_us <= LABEL.c.received_us
    by_key = (
        _found(PREDICTION)
        .select_from(LABEL)
        .join(PREDICTION, PREDICTION.c.key == LABEL.c.key)
        .outerjoin(OUTCOME, OUTCOME.c.number == PREDICTION.c.number)
        .where(
            waiting,
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
    targets: dict[int, _Target] = {}
    chosen: set[int] = set()
    for query in (by_id, by_key):
        for label, value, arrival_us, received_us, to, event_time_us, *known in connection.execute(
            query
        ).all():
            if label in chosen:
                continue
            chosen.add(label)
            if to not in targets:
                before = None if known[0] is None else _Before(known[1], known[2], known[3])
                targets[to] = _Target(event_time_us, before)
            targets[to].said.append(_Said(arrival_us, received_us, label, value))
    return targets


def _found(prediction: FromClause) -> Select[Any]:
    return select(
        LABEL.c.number, LABEL.c.value, LABEL.c.arrival_us, LABEL.c.received_us,
        prediction.c.number, prediction.c.event_time_us,
        OUTCOME.c.number, OUTCOME.c.value, OUTCOME.c.eligible_us, OUTCOME.c.due_value,
    )  # fmt: skip


def _add_earlier(connection: Connection, span: Span, targets: Mapping[int, _Target]) -> None:
    """Add the labels of earlier passes: only what has an outcome can have any."""
    for chunk in _chunks([to for to, target in targets.items() if target.before is not None]):
        history = connection.execute(
            select(
                LABEL.c.target,
                LABEL.c.arrival_us,
                LABEL.c.received_us,
                LABEL.c.number,
                LABEL.c.value,
            ).where(
                LABEL.c.project == span.project,
                LABEL.c.endpoint == span.endpoint,
                LABEL.c.target.in_(chunk),
            )
        ).all()
        for to in chunk:
            targets[to].said.clear()
        for to, *said in history:
            targets[to].said.append(_Said(*said))


def _change(span: Span, number: int, target: _Target) -> _Change:
    labels, before, event_time_us = target.said, target.before, target.event_time_us
    labels.sort(key=attrgetter("order"))
    values = [label.value for label in labels]
    holds = labels[-1]
    if before is not None and before.eligible_us <= span.before_us:
        eligible_us, due_value = before.eligible_us, before.due_value
    else:
        # A label that comes after the watermark passed its arrival counts from just after it on.
        eligible_us = max(labels[0].arrival_us, event_time_us + span.wait_us, span.before_us + 1)
        due_value = [label.value for label in labels if label.arrival_us <= eligible_us][-1]
    row = (
        number, span.project, span.endpoint, event_time_us,
        holds.value, int(holds.value is None), holds.arrival_us, len(labels),
        sum(one != after for one, after in pairwise(values)), eligible_us, due_value,
    )  # fmt: skip
    had = before is not None and before.value is not None
    gained = int(holds.value is not None) - int(had)
    return _Change(row, event_time_us, before is None, gained)


def _write(connection: Connection, changes: Sequence[_Change]) -> None:
    new = _columns(change.row for change in changes if change.is_new)
    if new:
        write_rows(connection, _INSERT, new)
    changed = _columns(change.row for change in changes if not change.is_new)
    if changed:
        write_rows(
            connection,
            _RESTATE,
            {f"new_{name}": changed[name] for name in ("number", *_MOVING)},
        )


def _columns(rows: Iterable[tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    # Without rows there are no columns to name.
    return dict(zip(_COLUMNS, zip(*rows, strict=True), strict=False))


def _chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut into pieces that fit into one statement."""
    return (numbers[start : start + _CHUNK] for start in range(0, len(numbers), _CHUNK))
