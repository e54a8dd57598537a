"""Windowed values: the one function that computes them, for history and for the online table."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from mainspring.features.places import NEVER, Flags, Floats, Ints, Timeline, micros
from mainspring.features.spec import FeatureView, SourceColumns, Window

_FEW = 1024
"""Rows up to which NumPy is quicker with texts than a call of Polars."""

_PAIRS = 4_000_000
"""Pairs of tick and event held at once: what bounds the memory of a long history."""


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """A source's rows for one view, sorted by entity, event time, arrival and key.

    Attributes:
        entities: The distinct ones as texts, sorted.
        codes: Place in `entities` of each row's.
        keys: The source's keys, in the order of the source.
        order: Place in the source of each row.
        time_us: Event times.
        arrival_us: From when a row counts.
        replaced_us: From when it counts no more: a later arrival of its key and event time is
            there.
        values: The view's columns by name, NaN for missing.
    """

    entities: list[str]
    codes: Ints
    keys: pl.Series
    order: Ints
    time_us: Ints
    arrival_us: Ints
    replaced_us: Ints
    values: Mapping[str, Floats]

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
    needed = list(dict.fromkeys((columns.key, columns.time, columns.arrival)))
    if any(source[name].null_count() for name in needed):
        source = source.drop_nulls(needed)
    replaced = _replaced(source, columns)
    if source[view.entity].null_count():
        known = source[view.entity].is_not_null()
        source, replaced = source.filter(known), replaced[known.to_numpy()]
    names, codes = _coded(source[view.entity].cast(pl.String))
    times, arrivals = micros(source[columns.time]), micros(source[columns.arrival])
    order = _ordered(source[columns.key], codes, times, arrivals)
    return Events(
        entities=names,
        codes=codes[order],
        keys=source[columns.key],
        order=order,
        time_us=times[order],
        arrival_us=arrivals[order],
        replaced_us=replaced[order],
        values={name: source[name].cast(pl.Float64).to_numpy()[order] for name in view.columns},
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


def _coded(texts: pl.Series) -> tuple[list[str], Ints]:
    """Give the distinct texts, sorted, and for each row its place among them."""
    if len(texts) <= _FEW:
        found, codes = np.unique(texts.to_numpy(), return_inverse=True)
        return found.tolist(), codes
    names = texts.unique().sort()
    return names.to_list(), texts.cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()


def _ordered(keys: pl.Series, *columns: Ints) -> Ints:
    """Sort rows by columns, the first one first, then by key; rows equal in all stay in order."""
    order = np.lexsort(columns[::-1])
    repeats = np.ones(len(order), dtype=np.bool_)
    for column in columns:
        repeats[1:] &= np.diff(column[order]) == 0
    repeats[:1] = False
    if not repeats.any():
        return order
    # Only rows that are tied need the order of their keys, which is dear for texts.
    group = np.cumsum(~repeats)
    tied = np.flatnonzero(repeats | np.append(repeats[1:], False))
    ranks = _coded_keys(keys.gather(order[tied].astype(np.uint32)))
    order[tied] = order[tied][np.lexsort((ranks, group[tied]))]
    return order


def _coded_keys(keys: pl.Series) -> Ints:
    """Give numbers that are ordered as the keys are."""
    if keys.dtype == pl.String and len(keys) <= _FEW:
        return _coded(keys)[1]
    return keys.rank("dense").cast(pl.Int64).to_numpy()


def _replaced(rows: pl.DataFrame, columns: SourceColumns) -> Ints:
    """Give for each row the arrival of the next row with its key and event time."""
    never = np.full(rows.height, NEVER, dtype=np.int64)
    keys = rows[columns.key]
    if keys.n_unique() == rows.height:
        return never
    codes, times = _coded_keys(keys), micros(rows[columns.time])
    arrivals = micros(rows[columns.arrival])
    order = np.lexsort((arrivals, times, codes))
    followed = (np.diff(codes[order]) == 0) & (np.diff(times[order]) == 0)
    never[order[:-1][followed]] = arrivals[order[1:][followed]]
    return never


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
    values = events.values[window.column][row]
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
