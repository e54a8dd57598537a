"""The events that windows are computed from: their order, whatever the number of rows."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from mainspring.features.places import NEVER
from mainspring.features.spec import FeatureView, mean
from mainspring.features.window import prepare

START = datetime(2013, 1, 1, tzinfo=UTC)
VIEW = FeatureView(
    "recent", entity="origin", source="events", every="5m", features={"m": mean("x", "1h")}
)


@dataclass(frozen=True, slots=True)
class Columns:
    key: str = "id"
    time: str = "at"
    arrival: str = "known"


@pytest.mark.parametrize("count", [0, 1, 300, 5000])
@pytest.mark.parametrize("numeric", [True, False])
def test_events_are_sorted_by_entity_times_and_key_and_know_their_successor(
    count: int, numeric: bool
) -> None:
    rng = np.random.default_rng(count)
    rows = [
        (
            START + timedelta(minutes=int(rng.integers(0, 20))),
            START + timedelta(minutes=int(rng.integers(0, 20))),
            [None, "JFK", "\u00c9", "z"][rng.integers(0, 4)],
            int(rng.integers(0, max(count // 2, 1))),
            float(place),
        )
        for place in range(count)
    ]
    keys = [row[3] if numeric else f"k{row[3]}" for row in rows]
    schema = {"at": pl.Datetime("us", "UTC"), "known": pl.Datetime("us", "UTC")}
    frame = pl.DataFrame(
        {
            "at": [row[0] for row in rows],
            "known": [row[1] for row in rows],
            "origin": pl.Series([row[2] for row in rows], dtype=pl.String),
            "id": pl.Series(keys, dtype=pl.Int64 if numeric else pl.String),
            "x": pl.Series([row[4] for row in rows], dtype=pl.Float64),
        },
        schema_overrides=schema,
    )

    events = prepare(frame, VIEW, Columns())

    known = [(row, key) for row, key in zip(rows, keys, strict=True) if row[2] is not None]
    expected = sorted((row[2], row[0], row[1], key, row[4]) for row, key in known)
    assert [events.entities[code] for code in events.codes] == [row[0] for row in expected]
    assert events.time_us.tolist() == [_us(row[1]) for row in expected]
    assert events.arrival_us.tolist() == [_us(row[2]) for row in expected]
    assert events.keys.gather(events.order).to_list() == [row[3] for row in expected]
    assert events.values["x"].tolist() == [row[4] for row in expected]
    same: dict[tuple[object, datetime], list[tuple[datetime, float]]] = {}
    for row, key in zip(rows, keys, strict=True):
        same.setdefault((key, row[0]), []).append((row[1], row[4]))
    successor = {}
    for arrivals in same.values():
        arrivals.sort()
        for (_, place), (later, _) in pairwise(arrivals):
            successor[place] = _us(later)
    assert events.replaced_us.tolist() == [successor.get(row[4], NEVER) for row in expected]


def _us(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
