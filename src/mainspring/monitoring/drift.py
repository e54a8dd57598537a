"""Drift readings: how far the served features of a window lie from those of training.

Notes, never an alarm: on the flights of 2013 weather exceeds PSI 0.2 in most months while the
model is fine. A fixed threshold on such a distance is a fixed sample size, so each
reading carries the value that pure chance gives at its rows.
"""

from collections.abc import Iterator, Mapping

import polars as pl
from sqlalchemy import Connection, func, insert, select, update

from mainspring.monitoring.readings import Reading
from mainspring.monitoring.tables import DETECTOR_STATE, PREDICTION
from mainspring.monitoring.times import day_of, instant
from mainspring.monitoring.watch import Profile
from mainspring.stats import distance
from mainspring.stats.categories import CategoryProfile, profile_categories
from mainspring.stats.profile import NumericProfile, profile

FEATURE = "f_"
"""Prefix of feature columns in the table of predictions."""


ORDER = ("event_time_us", "prediction", "row")
"""Rows are measured in this order, so that a reading is the same however they came to be stored."""


def open_windows(
    connection: Connection,
    project: str,
    endpoint: str,
    monitor: str,
    every_us: int,
    until_us: int,
) -> list[tuple[int, int]]:
    """Give the windows with predictions that ended by `until` and were not read yet.

    Returns:
        Start and number of rows of each, in order.
    """
    done_us = _done(connection, project, endpoint, monitor)
    start_us = PREDICTION.c.event_time_us // every_us * every_us
    query = select(start_us, func.count()).where(
        PREDICTION.c.project == project,
        PREDICTION.c.endpoint == endpoint,
        PREDICTION.c.event_time_us < until_us - until_us % every_us,
    )
    if done_us is not None:
        query = query.where(PREDICTION.c.event_time_us >= done_us)
    found = connection.execute(query.group_by(start_us).order_by(start_us))
    return [(start, rows) for start, rows in found]


def close_windows(
    connection: Connection, project: str, endpoint: str, monitor: str, version: str, done_us: int
) -> None:
    """Remember up to where windows were read."""
    names = {"project": project, "endpoint": endpoint, "monitor": monitor}
    values = {"version": version, "position_us": done_us}
    moved = connection.execute(
        update(DETECTOR_STATE)
        .where(*(DETECTOR_STATE.c[name] == value for name, value in names.items()))
        .values(**values)
    )
    if moved.rowcount == 0:
        connection.execute(insert(DETECTOR_STATE).values(**names, **values, state="{}"))


def window_rows(served: pl.LazyFrame, window_us: tuple[int, int]) -> pl.DataFrame:
    """Collect the features of the rows that were served in a window."""
    start_us, end_us = window_us
    features = [name for name in served.collect_schema().names() if name.startswith(FEATURE)]
    return (
        served.filter(
            pl.col("date").is_between(pl.lit(day_of(start_us)), pl.lit(day_of(end_us)))
            & (pl.col("event_time_us") >= start_us)
            & (pl.col("event_time_us") < end_us)
        )
        .select(*ORDER, *features)
        .collect()
    )


def readings_of(
    rows: pl.DataFrame,
    monitor: str,
    version: str,
    window_us: tuple[int, int],
    references: Mapping[str, Profile],
) -> list[Reading]:
    """Compare each profiled column of the rows that were served in a window."""
    start, end = instant(window_us[0]), instant(window_us[1])
    frame = rows.sort(ORDER)
    found = []
    for column, reference in sorted(references.items()):
        if FEATURE + column not in frame.columns or not frame.height:
            continue
        for metric, value, expected in _measured(frame[FEATURE + column], reference):
            found.append(
                Reading(
                    monitor=monitor,
                    version=version,
                    subject=column,
                    metric=metric,
                    start=start,
                    end=end,
                    rows=frame.height,
                    value=value,
                    expected=expected,
                    baseline="training rows",
                )
            )
    return found


def _done(connection: Connection, project: str, endpoint: str, monitor: str) -> int | None:
    query = select(DETECTOR_STATE.c.position_us).where(
        DETECTOR_STATE.c.project == project,
        DETECTOR_STATE.c.endpoint == endpoint,
        DETECTOR_STATE.c.monitor == monitor,
    )
    return connection.execute(query).scalar()


Measured = Iterator[tuple[str, float | None, float | None]]


def _measured(column: pl.Series, reference: Profile) -> Measured:
    match reference:
        case NumericProfile():
            yield from _numeric(column, reference)
        case CategoryProfile():
            yield from _categories(column, reference)


def _numeric(column: pl.Series, reference: NumericProfile) -> Measured:
    numbers = column if column.dtype == pl.Float64 else column.cast(pl.Float64, strict=False)
    absent = numbers.is_null().to_numpy() if numbers.null_count() else None
    # A null becomes NaN in NumPy's array.
    window = profile(numbers.to_numpy(), reference.edges, missing=absent)
    yield "absent_share", window.absent_share, reference.absent_share
    if not window.present or not reference.present:
        return
    yield from _index(reference.count, window.count, window.present)
    yield "ks", distance.ks(reference, window).low, None
    yield "wasserstein", distance.wasserstein(reference, window).low, 0.0
    yield "mean_shift", distance.mean_shift(reference, window), 0.0


def _categories(column: pl.Series, reference: CategoryProfile) -> Measured:
    # An empty text is how a missing category is served.
    values = [value or None for value in column.cast(pl.String).to_list()]
    window = profile_categories(values, reference.categories)
    yield "absent_share", window.missing / len(values), _share(reference.missing, reference)
    if not window.present or not reference.present:
        return
    yield "new_share", window.new / window.present, reference.categories.expected_new_share
    yield from _index(reference.histogram, window.histogram, window.present)


def _index(reference: tuple[int, ...], window: tuple[int, ...], present: int) -> Measured:
    coarse = distance.coarsen(reference, window, distance.bins_used(present))
    yield "psi", distance.psi(*coarse), distance.null_psi(*coarse)


def _share(missing: int, profile: CategoryProfile) -> float:
    rows = missing + profile.present
    return missing / rows if rows else 0.0
