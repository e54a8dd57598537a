"""Broken rows planted among the true ones, and the list of them to hold the quarantine against."""

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from mainspring.demo.feed import Feed
from mainspring.demo.flights import Flights

Kind = Literal["missing", "out_of_range", "unknown", "repeated", "untimed"]


@dataclass(frozen=True, slots=True)
class Broken:
    """One planted row.

    Attributes:
        dataset: Where it was planted.
        key: Its key; of a `repeated` row that of the true row before it.
        kind: What is wrong with it; only this is.
        column: The column in which it is wrong.
        known_at: When it turns up, which says by which commit.
    """

    dataset: str
    key: str
    kind: Kind
    column: str
    known_at: datetime

    @property
    def reason(self) -> str:
        """What the quarantine must say of it."""
        return f"{_CHECKS[self.kind]}({self.column})"


@dataclass(frozen=True, slots=True)
class _Fault:
    dataset: str
    kind: Kind
    column: str
    value: str | float | None


_CHECKS: dict[Kind, str] = {
    "missing": "not_null",
    "out_of_range": "between",
    "unknown": "one_of",
    "repeated": "unique",
    "untimed": "not_null",
}

# Four sorts of fault for each check, spread so that every dataset meets several checks.
_FAULTS = (
    _Fault("schedules", "missing", "origin", None),
    _Fault("departures", "missing", "origin", None),
    _Fault("landings", "missing", "arr_delay", None),
    _Fault("weather_hourly", "missing", "origin", None),
    _Fault("schedules", "out_of_range", "distance", 60_000.0),
    _Fault("departures", "out_of_range", "dep_delay", 99_999.0),
    _Fault("landings", "out_of_range", "arr_delay", -99_999.0),
    _Fault("weather_hourly", "out_of_range", "visib", -10.0),
    _Fault("schedules", "unknown", "origin", "NYC"),
    _Fault("schedules", "unknown", "carrier", "??"),
    _Fault("departures", "unknown", "origin", "JKF"),
    _Fault("weather_hourly", "unknown", "origin", "KEWR"),
    _Fault("schedules", "repeated", "flight_id", None),
    _Fault("departures", "repeated", "flight_id", None),
    _Fault("landings", "repeated", "flight_id", None),
    _Fault("weather_hourly", "repeated", "weather_id", None),
    _Fault("schedules", "untimed", "scheduled_at", None),
    _Fault("departures", "untimed", "departed_at", None),
    _Fault("landings", "untimed", "landed_at", None),
    _Fault("weather_hourly", "untimed", "time_hour", None),
)


def plant_broken(
    flights: Flights, *, seed: int, count: int = 200
) -> tuple[Flights, tuple[Broken, ...]]:
    """Add broken copies of true rows to the four datasets; requests and labels stay as they are.

    A copy has a key of its own, except a `repeated` one, which follows its true row at the same
    time. No true row is copied twice.

    Args:
        flights: The true rows, which are not changed.
        seed: Which rows are copied.
        count: How many, dealt in turn to twenty faults of five kinds.

    Returns:
        The feeds with the planted rows, and the list of these.
    """
    source = random.Random(seed)
    feeds = {
        "schedules": flights.schedules,
        "departures": flights.departures,
        "landings": flights.landings,
        "weather_hourly": flights.weather_hourly,
    }
    planted: list[Broken] = []
    dealt = [_FAULTS[number % len(_FAULTS)] for number in range(count)]
    for name, true in list(feeds.items()):
        faults = [fault for fault in dealt if fault.dataset == name]
        chosen = source.sample(range(true.rows.height), len(faults))
        if not faults:
            continue
        copies = [_broken(true, place, fault) for place, fault in zip(chosen, faults, strict=True)]
        rows = pl.concat([rows for rows, _ in copies])
        feeds[name] = true.insert(rows, true.known_us[np.array(chosen)])
        planted += [entry for _, entry in copies]
    return replace(flights, **feeds), tuple(planted)


def _broken(true: Feed, place: int, fault: _Fault) -> tuple[pl.DataFrame, Broken]:
    row = true.rows.slice(place, 1)
    key_column = row.columns[0]
    key = str(row[key_column][0])
    if fault.kind != "repeated":
        key = f"{key}-{fault.kind}"
        wrong = pl.lit(fault.value, dtype=row.schema[fault.column]).alias(fault.column)
        row = row.with_columns(pl.lit(key).alias(key_column), wrong)
    known_at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(true.known_us[place]))
    return row, Broken(fault.dataset, key, fault.kind, fault.column, known_at)
