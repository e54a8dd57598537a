"""As-of values: of the rows that had happened and arrived by an instant, the last."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from mainspring.features.places import Ints, Timeline, micros, places
from mainspring.features.spec import SourceColumns


@dataclass(frozen=True, slots=True, eq=False)
class AsOf:
    """Which source row each asked instant sees.

    Attributes:
        source: The source's rows that can be seen at all, in an order of its own.
        time_us: Their event times.
        row: For each asked instant the position in `source`, -1 for none.
    """

    source: pl.DataFrame
    time_us: Ints
    row: Ints


def as_of(
    source: pl.DataFrame,
    columns: SourceColumns,
    *,
    entity: str,
    asked: pl.Series,
    at_us: Ints,
) -> AsOf:
    """Find for each asked entity and instant the row it sees.

    Of the rows whose event time and arrival both lie at or before the instant, that is the one
    with the greatest event time, then the latest arrival, then the largest key. A row without
    entity, time or arrival is never seen.

    A row becomes visible at the later of its two times. Sorted by that, the best row so far is a
    running maximum of the rows' rank, and one binary search answers each instant: exact also for
    rows that are late, corrected or dated ahead, for which a plain backward join by event time
    would stop at a row that had not arrived.

    Args:
        entity: Column of the source.
        asked: Entities, one for each of `at_us`.
        at_us: Microseconds since 1970 UTC, in any order.
    """
    times = list(dict.fromkeys((columns.time, columns.arrival)))
    present = source.drop_nulls([entity, *times])
    ranked = present.sort(
        [pl.col(entity).cast(pl.String), *times, columns.key], maintain_order=True
    )
    texts = ranked[entity].cast(pl.String)
    codes = texts.rle_id().cast(pl.Int64).to_numpy()
    asked_codes = places(texts.unique(maintain_order=True).to_list(), asked)
    time_us, arrival_us = micros(ranked[columns.time]), micros(ranked[columns.arrival])
    visible_us = np.maximum(time_us, arrival_us)
    order = np.lexsort((visible_us, codes))
    # A row's position is its rank; those of a later entity are all larger, so the running maximum
    # starts afresh with each entity by itself.
    best = np.maximum.accumulate(order) if len(order) else order
    upto = Timeline.of(codes, visible_us[order]).upto(asked_codes, at_us)
    row = np.full(len(at_us), -1, dtype=np.int64)
    found = np.flatnonzero((upto > 0) & (asked_codes >= 0))
    last = upto[found] - 1
    own = codes[last] == asked_codes[found]
    row[found[own]] = best[last[own]]
    return AsOf(ranked, time_us, row)
