"""Metrics: series of points, and of each its last point beside it, kept in the same write."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import isnan
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    tuple_,
    update,
)

from mainspring.core.errors import InvalidInput
from mainspring.store.bulk import BulkStatement, QuickQuery
from mainspring.store.filters import unindexed
from mainspring.tracking.limits import checked_key
from mainspring.tracking.run import Point
from mainspring.tracking.tables import METRIC, METRIC_POINT
from mainspring.tracking.texts import parts

_INT64 = 1 << 63
_KEYS_ASKED_ONE_BY_ONE = 40
LISTED_STEPS = 20_000
"""Of a series with more steps a window is sampled by place rather than listed."""

Place = tuple[int, int, bool, float]
"""Step, time, whether NaN, value: what tells points of a series apart, in their order."""


Sample = tuple[str, float, int, int]
"""Key, value, step, time: a point before it has its place."""


class _Series(NamedTuple):
    number: int
    last: Place


def add_points(connection: Connection, project: str, run: str, points: Sequence[Point]) -> None:
    """Append to a run's series; equal points are kept once.

    Raises:
        InvalidInput: A key is not one, or a step or time is no 64-bit integer.
    """
    check_points(points)
    samples = [(point.key, point.value, point.step, point.at_ms) for point in points]
    add_samples(connection, project, run, samples)


def add_samples(connection: Connection, project: str, run: str, samples: Iterable[Sample]) -> None:
    """Append samples that were checked to a run's series; equal ones are kept once."""
    samples = list(samples)
    keys = list(dict.fromkeys(sample[0] for sample in samples))
    known = _known(connection, project, run, keys)
    fresh = [key for key in keys if key not in known]
    numbers = {key: series.number for key, series in known.items()} | _numbered(connection, fresh)
    rows: list[tuple[Any, ...]] = []
    last: dict[str, Place] = {}
    for key, value, step, at_ms in samples:
        nan = value != value
        place = (step, at_ms, nan, 0.0 if nan else value)
        rows.append((numbers[key], *place))
        newest = last.get(key)
        # Most come in the order of their steps, and need no further look.
        if newest is None or step > newest[0] or _rank(place) > _rank(newest):
            last[key] = place
    begun = [(numbers[key], project, run, key, *last[key]) for key in fresh]
    moved = [
        (*last[key], series.number)
        for key, series in known.items()
        if _rank(last[key]) > _rank(series.last)
    ]
    _ADD_SERIES.run(connection, begun)
    # In the order in which they lie.
    rows.sort()
    _ADD_POINTS.run(connection, rows)
    _MOVE.run(connection, moved)


def last_points(connection: Connection, project: str, run: str) -> list[Point]:
    """Give the last point of each of a run's metrics, by key."""
    rows = connection.execute(_OF_RUN, {"of_project": project, "of_run": run})
    return [Point(key, value_of(nan, value), step, at) for _, key, step, at, nan, value in rows]


def last_points_of(
    connection: Connection, project: str, runs: Sequence[str]
) -> dict[str, list[Point]]:
    """Give the last points of many runs."""
    found: dict[str, list[Point]] = defaultdict(list)
    for part in parts(runs):
        rows = connection.execute(_OF_RUNS, {"of_project": project, "of_runs": part})
        for run, key, step, at_ms, nan, value in rows:
            found[run].append(Point(key, value_of(nan, value), step, at_ms))
    return found


def history(
    connection: Connection,
    project: str,
    run: str,
    key: str,
    *,
    after: Place | None = None,
    limit: int | None = None,
    steps: Iterable[int] | None = None,
) -> list[Point]:
    """Give a series' points by step and time, from the first or after a place.

    Args:
        steps: Only the points of these steps.
    """
    series = _series_number(connection, project, run, key)
    if series is None:
        return []
    query = select(*_PLACE).where(METRIC_POINT.c.series == series)
    if after is not None:
        query = query.where(tuple_(*_PLACE) > tuple_(*after))
    query = query.order_by(*_PLACE).limit(limit)
    if steps is None:
        return [_point(key, row) for row in connection.execute(query)]
    found = []
    for part in parts(steps):
        rows = connection.execute(query.where(METRIC_POINT.c.step.in_(part)))
        found += [_point(key, row) for row in rows]
    return found


def steps(
    connection: Connection,
    project: str,
    run: str,
    key: str,
    low: int | None,
    high: int | None,
    *,
    points: int,
) -> list[int]:
    """List the steps of a series between two, both included, in order.

    Of a long series only so many are given: the first at or after places that are spread evenly,
    each found by the index, so that ten million points cost as little as ten thousand.
    """
    series = _series_number(connection, project, run, key)
    query = select(METRIC_POINT.c.step).where(METRIC_POINT.c.series == series)
    if low is not None:
        query = query.where(METRIC_POINT.c.step >= low)
    if high is not None:
        query = query.where(METRIC_POINT.c.step <= high)
    ordered = query.distinct().order_by(METRIC_POINT.c.step)
    listed = list(connection.execute(ordered.limit(LISTED_STEPS + 1)).scalars())
    if len(listed) <= LISTED_STEPS:
        return listed
    first = listed[0]
    last = connection.execute(query.order_by(METRIC_POINT.c.step.desc()).limit(1)).scalar_one()
    every = (last - first) / max(points - 1, 1)
    found = {first, last}
    for number in range(1, points - 1):
        rows = _FROM_STEP.rows(connection, series, first + round(number * every))
        found.add(int(rows[0][0]))
    return sorted(found)


def value_of(nan: bool, value: float) -> float:
    """Give a stored value as it was logged."""
    return float("nan") if nan else value


def place_of(point: Point) -> Place:
    """Give a point's place, to go on after it."""
    nan = isnan(point.value)
    return point.step, point.at_ms, nan, 0.0 if nan else point.value


def check_points(points: Sequence[Point]) -> None:
    """Refuse points whose key is not one, or whose step or time is no 64-bit integer."""
    for key in {point.key for point in points}:
        checked_key(key, what="metric")
    for point in points:
        # Names are made for the one that is refused only: there are a thousand points.
        if not (-_INT64 <= point.step < _INT64 and -_INT64 <= point.at_ms < _INT64):
            checked_int64(point.step, what=f"metric {point.key!r} step")
            checked_int64(point.at_ms, what=f"metric {point.key!r} timestamp")


def checked_int64(value: int, *, what: str) -> int:
    """Return an integer of 64 bits."""
    if not -_INT64 <= value < _INT64:
        raise InvalidInput(f"{what}: found {value}, expected a 64-bit integer; correct it")
    return value


def _rank(place: Place) -> tuple[int, int, float]:
    """Order points for "last": by step, time, value; a NaN beats no number of its instant."""
    step, at_ms, nan, value = place
    return step, at_ms, float("-inf") if nan else value


def _known(
    connection: Connection, project: str, run: str, keys: Sequence[str]
) -> dict[str, _Series]:
    if len(keys) <= _KEYS_ASKED_ONE_BY_ONE:
        rows = [row for key in keys for row in _OF_KEY.rows(connection, project, run, key)]
    else:
        rows = _ALL_OF_RUN.rows(connection, project, run)
    wanted = set(keys)
    return {
        key: _Series(number, (step, at_ms, nan, value))
        for number, key, step, at_ms, nan, value in rows
        if key in wanted
    }


def _numbered(connection: Connection, fresh: Sequence[str]) -> dict[str, int]:
    """Number the series of new keys on from the newest: there is one writer."""
    if not fresh:
        return {}
    first = connection.execute(_NEWEST).scalar() or 0
    return {key: number for number, key in enumerate(fresh, first + 1)}


def _series_number(connection: Connection, project: str, run: str, key: str) -> int | None:
    rows = _OF_KEY.rows(connection, project, run, key)
    return int(rows[0][0]) if rows else None


def _point(key: str, row: Any) -> Point:
    step, at_ms, nan, value = row
    return Point(key, value_of(nan, value), step, at_ms)


_PLACE = (
    METRIC_POINT.c.step,
    METRIC_POINT.c.at_ms,
    METRIC_POINT.c.is_nan,
    METRIC_POINT.c.value,
)
_LAST = (
    METRIC.c.number,
    METRIC.c.key,
    METRIC.c.step,
    METRIC.c.at_ms,
    METRIC.c.is_nan,
    METRIC.c.value,
)
_RUN_IS = (METRIC.c.project == bindparam("of_project"), METRIC.c.run == bindparam("of_run"))
# Built once: making a statement costs more than running it.
_ALL_OF_RUN = QuickQuery(select(*_LAST).where(*_RUN_IS), ["of_project", "of_run"])
_OF_RUN = select(*_LAST).where(*_RUN_IS).order_by(METRIC.c.key)
_OF_RUNS = (
    select(METRIC.c.run, *_LAST[1:])
    .where(
        METRIC.c.project == bindparam("of_project"),
        METRIC.c.run.in_(bindparam("of_runs", expanding=True)),
    )
    .order_by(unindexed(METRIC.c.key))
)
_OF_KEY = QuickQuery(
    select(*_LAST).where(*_RUN_IS, METRIC.c.key == bindparam("of_key")),
    ["of_project", "of_run", "of_key"],
)
_FROM_STEP = QuickQuery(
    select(METRIC_POINT.c.step)
    .where(
        METRIC_POINT.c.series == bindparam("of_series"),
        METRIC_POINT.c.step >= bindparam("from_step"),
    )
    .order_by(METRIC_POINT.c.step)
    .limit(literal_column("1")),
    ["of_series", "from_step"],
)
_NEWEST = select(func.max(METRIC.c.number))
_ADD_SERIES = BulkStatement(insert(METRIC), [column.name for column in METRIC.columns])
# A point that is there stays: the whole of it is its key.
_ADD_POINTS = BulkStatement(
    insert(METRIC_POINT).prefix_with("OR IGNORE", dialect="sqlite"),
    [column.name for column in METRIC_POINT.columns],
)
_MOVE = BulkStatement(
    update(METRIC)
    .where(METRIC.c.number == bindparam("of"))
    .values(
        step=bindparam("to_step"),
        at_ms=bindparam("to_at"),
        is_nan=bindparam("to_nan"),
        value=bindparam("to_value"),
    ),
    ["to_step", "to_at", "to_nan", "to_value", "of"],
)
