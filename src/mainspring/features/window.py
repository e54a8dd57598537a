"""Windowed values: the one function that computes them, for history and for the online table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from mainspring.features.places import NEVER, Flags, Floats, Ints, Timeline
from mainspring.features.spec import FeatureView, SourceColumns, Window

ENTITY = "entity"
TICK = "tick"

_CODE = "mainspring_code"
_REPLACED = "mainspring_replaced"
_PAIRS = 4_000_000
"""Pairs of tick and event held at once: what bounds the memory of a long history."""


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """A source's rows for one view, sorted by entity, event time, arrival and key.

    Attributes:
        rows: `entity` as text, the source's key, and the view's columns as Float64.
        entities: The distinct ones, in the order of the rows.
        codes: Place in `entities` of each row's.
        time_us: Event times.
        arrival_us: From when a row counts.
        replaced_us: From when it counts no more: a later arrival of its key and event time is
            there.
    """

    rows: pl.DataFrame
    entities: list[str]
    codes: Ints
    time_us: Ints
    arrival_us: Ints
    replaced_us: Ints

    def first_ticks(self, view: FeatureView) -> Ints:
        """Give for each of `entities` the first tick by which one of its rows had arrived.

        Before that tick the entity is unknown: it has no values, not those of quiet.
        """
        if not self.entities:
            return np.empty(0, dtype=np.int64)
        visible = np.maximum(self.time_us, self.arrival_us)
        starts = np.flatnonzero(np.diff(self.codes, prepend=-1))
        first: Ints = np.minimum.reduceat(visible, starts)
        return -(-first // view.every_us) * view.every_us


def prepare(source: pl.DataFrame, view: FeatureView, columns: SourceColumns) -> Events:
    """Bring a source's rows into the form that windows are computed from.

    A row without entity, key, time or arrival is left out.
    """
    times = list(dict.fromkeys((columns.time, columns.arrival)))
    needed = [columns.key, *times]
    if any(source[name].null_count() for name in needed):
        source = source.drop_nulls(needed)
    replaced = _with_replacement(source, columns).lazy().filter(pl.col(view.entity).is_not_null())
    ranked = (
        replaced.select(
            pl.col(view.entity).cast(pl.String).alias(ENTITY),
            pl.col(columns.key).alias("key"),
            pl.col(columns.time).dt.epoch("us").alias("time"),
            pl.col(columns.arrival).dt.epoch("us").alias("arrival"),
            _REPLACED,
            *(pl.col(name).cast(pl.Float64).alias(f"value.{name}") for name in view.columns),
        )
        .sort([ENTITY, "time", "arrival", "key"], maintain_order=True)
        .with_columns(pl.col(ENTITY).rle_id().cast(pl.Int64).alias(_CODE))
        .collect()
    )
    return Events(
        rows=ranked,
        entities=ranked[ENTITY].unique(maintain_order=True).to_list(),
        codes=ranked[_CODE].to_numpy(),
        time_us=ranked["time"].to_numpy(),
        arrival_us=ranked["arrival"].to_numpy(),
        replaced_us=ranked[_REPLACED].to_numpy(),
    )


def tick_values(
    events: Events, view: FeatureView, *, entity: Ints, tick_us: Ints
) -> dict[str, Floats]:
    """Compute a windowed view at ticks of its grid.

    At a tick t, a window w holds the events with an event time in (t - w, t] that had arrived by
    t. Of rows of one key and event time only the last to have arrived counts. An aggregate other
    than count leaves out missing values and NaN.

    The value depends on the events in the window and on nothing before them, to the last bit: sums
    run over them in the order of event time, arrival and key, never over a running total, so that
    history and the online table agree exactly.

    Args:
        entity: Whom to compute for, as places in `events.entities`; -1 for one without events.
        tick_us: When, microseconds since 1970 UTC, one for each of `entity`.

    Returns:
        The features by name, in the order of `tick_us`, NaN for missing. Whether an entity was
        known at its tick is not asked here.
    """
    timeline = Timeline.of(events.codes, events.time_us)
    upto = timeline.upto(entity, tick_us)
    results = {name: np.empty(len(tick_us)) for name in view.names}
    for window in dict.fromkeys(f.window.window_us for f in view.features if f.window):
        after = timeline.upto(entity, tick_us - window)
        for part in _parts(upto - after):
            pairs = _pairs(events, after[part], upto[part], tick_us[part])
            for feature in view.features:
                if feature.window is not None and feature.window.window_us == window:
                    results[feature.name][part] = _aggregate(events, feature.window, *pairs)
    return results


def _with_replacement(rows: pl.DataFrame, columns: SourceColumns) -> pl.DataFrame:
    never = pl.lit(NEVER, dtype=pl.Int64).alias(_REPLACED)
    if rows.is_empty() or rows[columns.key].n_unique() == rows.height:
        return rows.with_columns(never)
    same = [columns.key, columns.time]
    if rows.select(same).n_unique() == rows.height:
        return rows.with_columns(never)
    ordered = rows.sort([*same, columns.arrival], maintain_order=True)
    followed = pl.all_horizontal(pl.col(name) == pl.col(name).shift(-1) for name in same)
    next_arrival = pl.col(columns.arrival).dt.epoch("us").shift(-1)
    return ordered.with_columns(
        pl.when(followed).then(next_arrival).otherwise(NEVER).fill_null(NEVER).alias(_REPLACED)
    )


def _parts(counts: Ints) -> Iterator[slice]:
    """Cut ticks into stretches with a bounded number of pairs."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = total[start - 1] if start else 0
        end = max(int(np.searchsorted(total, before + _PAIRS, side="right")), start + 1)
        yield slice(start, end)
        start = end


def _pairs(events: Events, after: Ints, upto: Ints, tick_us: Ints) -> tuple[Ints, Ints, int]:
    """Give the events that count at each tick, as pairs of tick and row, and the ticks' number."""
    counts = upto - after
    tick = np.repeat(np.arange(len(counts)), counts)
    offset = np.arange(len(tick)) - np.repeat(np.cumsum(counts) - counts, counts)
    row = np.repeat(after, counts) + offset
    at = tick_us[tick]
    counting = (events.arrival_us[row] <= at) & (at < events.replaced_us[row])
    return tick[counting], row[counting], len(counts)


_REDUCE: dict[str, Callable[[Floats, Ints], Floats]] = {
    "mean": np.add.reduceat,
    "sum": np.add.reduceat,
    "min": np.minimum.reduceat,
    "max": np.maximum.reduceat,
}


def _aggregate(events: Events, window: Window, tick: Ints, row: Ints, ticks: int) -> Floats:
    if window.column is None:
        return np.bincount(tick, minlength=ticks).astype(np.float64)
    values = events.rows[f"value.{window.column}"].to_numpy()[row]
    there: Flags = ~np.isnan(values)
    number = np.bincount(tick[there], minlength=ticks)
    result = np.full(ticks, 0.0 if window.aggregate == "sum" else np.nan)
    some = number > 0
    if some.any():
        starts = (np.cumsum(number) - number)[some]
        result[some] = _REDUCE[window.aggregate](values[there], starts)
        if window.aggregate == "mean":
            result[some] /= number[some]
    return result
