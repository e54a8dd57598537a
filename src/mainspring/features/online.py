"""What a push puts into the online table of a view: the values that became known by it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from mainspring.features.places import UTC_TIME, Floats, Ints, micros
from mainspring.features.spec import FeatureView, SourceColumns
from mainspring.features.window import Events, tick_values
from mainspring.formats.online import RETENTION_US


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Rows for an online table; `numbers` has shape (rows, features), NaN for missing."""

    entities: list[str]
    times_us: Ints
    arrivals_us: Ints
    numbers: Floats


def plain_values(
    view: FeatureView, columns: SourceColumns, *, fresh: pl.DataFrame, before: pl.DataFrame
) -> Values:
    """Give the values of new rows, of each tie only the last.

    Args:
        before: Rows pushed before that may be tied with new ones. One with the same entity and
            times and a larger key keeps its place: the table, which knows no keys, is told it
            again.
    """
    rows = fresh if fresh[view.entity].null_count() == 0 else fresh.drop_nulls(view.entity)
    values = _values(view, columns, rows)
    instants = zip(
        values.entities, values.times_us.tolist(), values.arrivals_us.tolist(), strict=True
    )
    if before.is_empty() and len(set(instants)) == rows.height:
        return values
    return _values(view, columns, _last_of_ties(view, columns, rows, before))


def _values(view: FeatureView, columns: SourceColumns, rows: pl.DataFrame) -> Values:
    return Values(
        entities=rows[view.entity].cast(pl.String).to_list(),
        times_us=micros(rows[columns.time]),
        arrivals_us=micros(rows[columns.arrival]),
        numbers=np.column_stack([rows[name].cast(pl.Float64).to_numpy() for name in view.names]),
    )


def _last_of_ties(
    view: FeatureView, columns: SourceColumns, rows: pl.DataFrame, before: pl.DataFrame
) -> pl.DataFrame:
    times = list(dict.fromkeys((columns.time, columns.arrival)))
    place = [view.entity, *times]
    tied = before.join(rows, on=place, how="semi") if before.height else before
    if tied.height:
        rows = pl.concat([tied.select(rows.columns), rows], how="vertical_relaxed")
    rows = rows.sort([*times, columns.key], maintain_order=True)
    return rows.unique(place, keep="last", maintain_order=True)


def tick_range(view: FeatureView, *, after_us: int | None, until_us: int) -> Ints:
    """Give the ticks in (after, until] that an online table still keeps."""
    oldest = until_us - RETENTION_US
    after = oldest if after_us is None else max(after_us, oldest)
    first = (after // view.every_us + 1) * view.every_us
    return np.arange(first, until_us + 1, view.every_us, dtype=np.int64)


def windowed_values(
    view: FeatureView, events: Events, *, known: Mapping[str, int], tick_us: Ints
) -> Values:
    """Give the values of every known entity at every tick, quiet ones too.

    Args:
        events: All that a window of these ticks may hold, at least.
        known: First tick of each entity.
    """
    names = np.array(list(known), dtype=object)
    place = {name: n for n, name in enumerate(events.entities)}
    code = np.array([place.get(name, -1) for name in known], dtype=np.int64)
    first = np.array(list(known.values()), dtype=np.int64)
    which = np.repeat(np.arange(len(names)), len(tick_us))
    tick = np.tile(tick_us, len(names))
    present = tick >= first[which]
    which, tick = which[present], tick[present]
    values = tick_values(events, view, entity=code[which], tick_us=tick)
    numbers = np.column_stack([values[name] for name in view.names])
    return Values(names[which].tolist(), tick, tick, numbers)


def no_rows(view: FeatureView, columns: SourceColumns) -> pl.DataFrame:
    """Give the view's columns without a row."""
    types: dict[str, pl.DataType] = dict.fromkeys(view.columns, pl.Float64())
    types |= {view.entity: pl.String(), columns.key: pl.String()}
    types |= {columns.time: UTC_TIME, columns.arrival: UTC_TIME}
    return pl.DataFrame(schema=types)
