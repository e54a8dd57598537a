"""The point-in-time join: rows with what was known of their entities at their own event times."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import polars as pl

from mainspring.core.errors import InvalidInput, LeakFound, NotFound, SchemaMismatch
from mainspring.features.asof import AsOf, as_of
from mainspring.features.places import NEVER, Flags, Ints, instants, masked, micros, places
from mainspring.features.spec import FeatureView, SourceColumns
from mainspring.features.window import Events, prepare, tick_values

ENTITY = "entity"
TICK = "tick"

Frame = pl.DataFrame | pl.LazyFrame
Columns = TypeVar("Columns", bound=SourceColumns)


def join(
    rows: pl.DataFrame,
    *,
    key: str,
    time: str,
    views: Sequence[FeatureView],
    sources: Mapping[str, Frame],
    specs: Mapping[str, Columns],
) -> pl.DataFrame:
    """Add to each row the values its views had at the row's event time.

    Only source rows count whose event time and arrival lie at or before that time. Ties: the later
    arrival, then the larger key. Values older than a view's `ttl` are missing.

    Args:
        key: Column of the rows' own key; a source with this key column never feeds a row from
            the source's row of the same key.
        time: Column of the rows' event times, aware.
        sources: By dataset name.
        specs: By dataset name, with the names of key, time and arrival.

    Returns:
        The rows in their order, each view's features as Float64 and `<view>__time`, the time of
        the value used: of its row, or of its tick.

    Raises:
        LeakFound: A row would be fed by the source's row of its own key.
        InvalidInput: A name occurs twice, or a row has no event time.
        NotFound: A view's source is not given.
        SchemaMismatch: A column is missing or has values that are no numbers.
    """
    _check_rows(rows, time=time, views=views)
    at_us = micros(rows[time])
    added: list[pl.Series] = []
    for view in views:
        source, columns = _source(view, sources, specs)
        if view.entity not in rows.columns:
            raise SchemaMismatch(
                f"feature view {view.name!r}: rows have no column {view.entity!r}; "
                f"found {rows.columns}"
            )
        own = rows[key] if columns.key == key else None
        find = _windowed if view.windowed else _plain
        added += find(view, source, columns, asked=rows[view.entity], at_us=at_us, own=own)
    return rows.with_columns(added)


def _plain(
    view: FeatureView,
    source: pl.DataFrame,
    columns: SourceColumns,
    *,
    asked: pl.Series,
    at_us: Ints,
    own: pl.Series | None,
) -> list[pl.Series]:
    seen = as_of(source, columns, entity=view.entity, asked=asked, at_us=at_us)
    if own is not None:
        _refuse_own_row(view, columns, seen, own, at_us)
    found = seen.row >= 0
    time_us = np.zeros(len(at_us), dtype=np.int64)
    time_us[found] = seen.time_us[seen.row[found]]
    missing = ~found | _too_old(view, time_us, at_us)
    picked = pl.Series(np.where(missing, 0, seen.row).astype(np.uint32))
    values = []
    for name in view.names:
        column = seen.source[name].cast(pl.Float64).fill_nan(None)
        empty = pl.Series([None] * len(at_us), dtype=pl.Float64)
        taken = column.gather(picked) if len(column) else empty
        values.append(masked(taken.alias(name), missing))
    return [*values, instants(view.time_column, time_us, missing=missing)]


def _windowed(
    view: FeatureView,
    source: pl.DataFrame,
    columns: SourceColumns,
    *,
    asked: pl.Series,
    at_us: Ints,
    own: pl.Series | None,
) -> list[pl.Series]:
    events = prepare(source, view, columns)
    tick_us = at_us // view.every_us * view.every_us
    if own is not None:
        whom = pl.DataFrame({ENTITY: asked.cast(pl.String), TICK: tick_us, "key": own})
        _refuse_own_event(view, events, whom)
    entity = places(events.entities, asked)
    # Many rows share a tick: each is computed once.
    ticks, nth = np.unique(tick_us, return_inverse=True)
    pairs, back = np.unique(entity * len(ticks) + nth, return_inverse=True)
    one_entity, one_tick = pairs // max(len(ticks), 1), ticks[pairs % max(len(ticks), 1)]
    values = tick_values(events, view, entity=one_entity, tick_us=one_tick)
    first = np.append(events.first_ticks(view), NEVER)[entity]
    missing = (first > tick_us) | _too_old(view, tick_us, at_us)
    return [
        *(
            masked(pl.Series(name, numbers[back]).fill_nan(None), missing)
            for name, numbers in values.items()
        ),
        instants(view.time_column, tick_us, missing=missing),
    ]


def _too_old(view: FeatureView, time_us: Ints, at_us: Ints) -> Flags:
    if view.ttl_us is None:
        return np.zeros(len(at_us), dtype=np.bool_)
    return at_us - time_us > view.ttl_us


def _refuse_own_row(
    view: FeatureView, columns: SourceColumns, seen: AsOf, own: pl.Series, at_us: Ints
) -> None:
    found = np.flatnonzero(seen.row >= 0)
    keys = seen.source[columns.key].gather(pl.Series(seen.row[found].astype(np.uint32)))
    same = (keys == own.gather(pl.Series(found.astype(np.uint32)))).fill_null(value=False)
    if not same.any():
        return
    place = int(found[int(same.arg_max() or 0)])
    row = seen.source.row(int(seen.row[place]), named=True)
    at = instants("at", at_us[place : place + 1], missing=np.zeros(1, dtype=np.bool_))[0]
    raise _leak(view, own[place], at, row[columns.time], row[columns.arrival])


def _refuse_own_event(view: FeatureView, events: Events, asked: pl.DataFrame) -> None:
    known = pl.DataFrame(
        {
            ENTITY: pl.Series(events.entities, dtype=pl.String).gather(events.codes),
            "key": events.keys.gather(events.order),
            "time": events.time_us,
            "arrival": events.arrival_us,
            "replaced": events.replaced_us,
        }
    )
    counted = (
        pl.col("time").is_between(pl.col(TICK) - view.longest_us, TICK, closed="right")
        & (pl.col("arrival") <= pl.col(TICK))
        & (pl.col(TICK) < pl.col("replaced"))
    )
    leaks = asked.join(known, on=[ENTITY, "key"], how="inner").filter(counted)
    if leaks.is_empty():
        return
    times = pl.col(TICK, "time", "arrival").cast(pl.Datetime("us", "UTC"))
    first = leaks.head(1).with_columns(times).row(0, named=True)
    raise _leak(view, first["key"], first[TICK], first["time"], first["arrival"])


def _leak(view: FeatureView, key: object, at: object, time: object, arrival: object) -> LeakFound:
    return LeakFound(
        f"feature view {view.name!r}: the row of key {key!r} at {at} would be fed by the row of "
        f"the same key in {view.source!r}, of {time}, arrived {arrival}; a row must arrive after "
        "the event it belongs to: correct the arrival times, or take another source"
    )


def _source(
    view: FeatureView, sources: Mapping[str, Frame], specs: Mapping[str, Columns]
) -> tuple[pl.DataFrame, Columns]:
    if view.source not in sources or view.source not in specs:
        raise NotFound(
            f"feature view {view.name!r}: its source {view.source!r} is not given; "
            f"found {sorted(sources)}"
        )
    columns = specs[view.source]
    frame = sources[view.source].lazy()
    schema = frame.collect_schema()
    needed = dict.fromkeys((view.entity, columns.key, columns.time, columns.arrival, *view.columns))
    check_source(view, schema, tuple(needed))
    return frame.select(*needed).collect(), columns


def check_source(view: FeatureView, schema: pl.Schema, needed: Sequence[str]) -> None:
    """Refuse a source that lacks a column of the view, or has one whose values are no numbers."""
    if absent := [name for name in needed if name not in schema]:
        raise SchemaMismatch(
            f"feature view {view.name!r}: columns {absent} are not in {view.source!r}; "
            f"found {list(schema)}"
        )
    for name in view.columns:
        if not (schema[name].is_numeric() or schema[name] in (pl.Boolean, pl.Null)):
            raise SchemaMismatch(
                f"feature view {view.name!r}: column {name!r} of {view.source!r} is "
                f"{schema[name]}, expected numbers; encode it, or take it into the request"
            )


def _check_rows(rows: pl.DataFrame, *, time: str, views: Sequence[FeatureView]) -> None:
    names = [*rows.columns, *(n for view in views for n in (*view.names, view.time_column))]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidInput(
            f"join: columns {repeated} would occur twice; rename them in the views or the rows"
        )
    dtype = rows.schema[time]
    if not (isinstance(dtype, pl.Datetime) and dtype.time_zone):
        raise SchemaMismatch(f"join: column {time!r} is {dtype}, expected aware times")
    if missing := rows[time].null_count():
        raise InvalidInput(f"join: {missing} rows have no {time!r}; leave them out")
