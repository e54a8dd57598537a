"""The point-in-time join against brute force."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import InvalidInput, LeakFound, NotFound, SchemaMismatch
from mainspring.features.join import join
from mainspring.features.spec import FeatureView, count, largest, mean, smallest, total

START = datetime(2013, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Columns:
    key: str = "id"
    time: str = "at"
    arrival: str = "known"


@dataclass(frozen=True)
class Event:
    key: str
    origin: str | None
    at: int
    known: int | None
    x: float | None


TIME = pl.Datetime("us", "UTC")
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.String,
    "origin": pl.String,
    "at": pl.Datetime("us", "UTC"),
    "known": pl.Datetime("us", "UTC"),
    "x": pl.Float64,
}


def instant(minute: int | None) -> datetime | None:
    return None if minute is None else START + timedelta(minutes=minute)


def source(events: Sequence[Event]) -> pl.DataFrame:
    rows = [(e.key, e.origin, instant(e.at), instant(e.known), e.x) for e in events]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def asked(rows: Sequence[tuple[str, str | None, int]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(key, origin, instant(at)) for key, origin, at in rows],
        schema={"row": pl.String, "origin": pl.String, "when": TIME},
        orient="row",
    )


PLAIN = FeatureView("last", entity="origin", source="events", features=["x"])
BRIEF = FeatureView("brief", entity="origin", source="events", ttl="7m", features=["x"])
RECENT = FeatureView(
    "recent",
    entity="origin",
    source="events",
    every="5m",
    features={
        "n": count("12m"),
        "mean": mean("x", "12m"),
        "sum": total("x", "12m"),
        "low": smallest("x", "7m"),
        "high": largest("x", "7m"),
    },
)


def joined(view: FeatureView, rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    return join(
        rows,
        key="row",
        time="when",
        views=[view],
        sources={"events": events},
        specs={"events": Columns()},
    )


def seen_by(events: Sequence[Event], origin: str | None, at: int) -> list[Event]:
    """Give the rows of an entity that had happened and arrived."""
    return [
        e
        for e in events
        if origin is not None
        and e.origin == origin
        and e.known is not None
        and e.at <= at
        and e.known <= at
    ]


def plain_by_hand(
    events: Sequence[Event], origin: str | None, at: int, ttl: int | None
) -> tuple[float | None, datetime | None]:
    seen = seen_by(events, origin, at)
    if not seen:
        return None, None
    best = max(seen, key=lambda e: (e.at, e.known, e.key))
    if ttl is not None and at - best.at > ttl:
        return None, None
    return best.x, instant(best.at)


def window_by_hand(
    events: Sequence[Event], origin: str | None, at: int
) -> tuple[float | None, ...]:
    tick = at // 5 * 5
    if not seen_by(events, origin, tick):
        return (None,) * 5

    def values(window: int) -> list[float | None]:
        # The last of each key and time that had arrived stands for all of them.
        last: dict[tuple[str, int], Event] = {}
        for e in sorted(events, key=lambda e: e.known if e.known is not None else 10**9):
            if e.known is not None and e.known <= tick:
                last[e.key, e.at] = e
        return [e.x for e in last.values() if e.origin == origin and tick - window < e.at <= tick]

    long = [x for x in values(12) if x is not None]
    short = [x for x in values(7) if x is not None]
    return (
        float(len(values(12))),
        sum(long) / len(long) if long else None,
        sum(long) if long else 0.0,
        min(short, default=None),
        max(short, default=None),
    )


# Whole numbers, so that the order of summing cannot matter to the brute force.
numbers = st.none() | st.integers(-9, 9).map(float)
origins = st.sampled_from(["JFK", "JFK", "EWR", None])
arrivals = st.none() | st.integers(0, 30)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Draw rows of which many correct an earlier one: same key and event time, another arrival."""
    keys = st.sampled_from(["k1", "k2", "k3", "k4"])
    first = st.builds(Event, keys, origins, st.integers(0, 20), arrivals, numbers)
    events = draw(st.lists(first, max_size=12))
    for event in list(events):
        if draw(st.booleans()):
            known, x = draw(arrivals), draw(numbers)
            events.append(replace(event, known=known, x=x, origin=draw(origins)))
    # Two rows of one key, time and arrival contradict each other: no rule orders them.
    return list({(e.key, e.at, e.known): e for e in draw(st.permutations(events))}.values())


events_strategy = histories()
asked_strategy = st.lists(
    st.tuples(
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(["JFK", "EWR", "LGA", None]),
        st.integers(0, 40),
    ),
    max_size=20,
)


@settings(deadline=None, max_examples=150)
@given(events_strategy, asked_strategy)
def test_a_plain_view_is_what_brute_force_finds(
    events: list[Event], rows: list[tuple[str, str | None, int]]
) -> None:
    for view, ttl in ((PLAIN, None), (BRIEF, 7)):
        found = joined(view, asked(rows), source(events))

        by_hand = [plain_by_hand(events, origin, at, ttl) for _, origin, at in rows]
        assert list(found.select("x", view.time_column).iter_rows()) == by_hand


@settings(deadline=None, max_examples=150)
@given(events_strategy, asked_strategy)
def test_a_windowed_view_is_what_brute_force_finds(
    events: list[Event], rows: list[tuple[str, str | None, int]]
) -> None:
    found = joined(RECENT, asked(rows), source(events))

    by_hand = [window_by_hand(events, origin, at) for _, origin, at in rows]
    assert list(found.select(RECENT.names).iter_rows()) == by_hand


def test_a_value_that_has_not_arrived_yields_to_the_older_one_that_has() -> None:
    events = source(
        [
            Event("old", "JFK", 0, 1, 1.0),
            Event("late", "JFK", 10, 30, 2.0),
            Event("ahead", "JFK", 50, 5, 3.0),
        ]
    )

    found = joined(PLAIN, asked([("r", "JFK", at) for at in (0, 1, 29, 30, 49, 50)]), events)

    assert found["x"].to_list() == [None, 1.0, 1.0, 2.0, 2.0, 3.0]


def test_ties_go_to_the_later_arrival_and_then_to_the_larger_key() -> None:
    events = source(
        [
            Event("a", "JFK", 5, 9, 1.0),
            Event("z", "JFK", 5, 7, 2.0),
            Event("b", "JFK", 5, 9, 3.0),
        ]
    )

    found = joined(PLAIN, asked([("r", "JFK", 8), ("r", "JFK", 9)]), events)

    assert found["x"].to_list() == [2.0, 3.0]


def test_a_corrected_event_counts_once_and_as_it_was_known_at_the_tick() -> None:
    events = source(
        [
            Event("a", "JFK", 3, 4, 1.0),
            Event("a", "JFK", 3, 8, 5.0),
            Event("moved", "JFK", 3, 4, 7.0),
            Event("moved", "EWR", 3, 8, 7.0),
        ]
    )

    found = joined(RECENT, asked([("r", "JFK", 5), ("r", "JFK", 10), ("r", "EWR", 10)]), events)

    assert list(found.select("n", "sum").iter_rows()) == [(2.0, 8.0), (1.0, 5.0), (1.0, 7.0)]


def test_a_window_is_open_at_its_start_and_closed_at_its_end() -> None:
    events = source([Event("a", "JFK", 3, 3, 1.0), Event("b", "JFK", 15, 15, 2.0)])

    found = joined(RECENT, asked([("r", "JFK", 14), ("r", "JFK", 15)]), events)

    assert found["n"].to_list() == [1.0, 1.0]
    assert found["mean"].to_list() == [1.0, 2.0]
    assert found["recent__time"].to_list() == [instant(10), instant(15)]


@pytest.mark.parametrize("view", [PLAIN, RECENT])
def test_a_row_fed_by_itself_is_found(view: FeatureView) -> None:
    events = source([Event("r1", "JFK", 8, 9, 1.0)])

    def at(minute: int) -> pl.DataFrame:
        return join(
            asked([("r1", "JFK", minute), ("r2", "JFK", minute)]).rename({"row": "id"}),
            key="id",
            time="when",
            views=[view],
            sources={"events": events},
            specs={"events": Columns()},
        )

    assert at(8)["id"].to_list() == ["r1", "r2"]
    with pytest.raises(LeakFound, match=r"'r1'.*2013-01-01 00:08.*arrived 2013-01-01 00:09"):
        at(10)


def test_another_key_column_is_another_thing() -> None:
    events = source([Event("r1", "JFK", 8, 9, 1.0)])

    assert joined(PLAIN, asked([("r1", "JFK", 10)]), events)["x"].to_list() == [1.0]


def test_entities_of_numbers_are_the_same_as_their_texts() -> None:
    events = source([Event("a", "7", 1, 1, 1.0)])
    rows = asked([("r", "7", 5)]).with_columns(origin=pl.col("origin").cast(pl.Int32))

    assert joined(PLAIN, rows, events)["x"].to_list() == [1.0]


def test_what_cannot_be_joined_is_named() -> None:
    rows, events = asked([("r", "JFK", 5)]), source([])

    with pytest.raises(InvalidInput, match=r"\['x'\] would occur twice"):
        joined(PLAIN, rows.with_columns(x=1), events)
    with pytest.raises(SchemaMismatch, match=r"\['x'\] are not in 'events'"):
        joined(PLAIN, rows, events.drop("x"))
    with pytest.raises(SchemaMismatch, match="'x' of 'events' is String, expected numbers"):
        joined(PLAIN, rows, events.with_columns(x=pl.lit("a")))
    with pytest.raises(SchemaMismatch, match="rows have no column 'origin'"):
        joined(PLAIN, rows.drop("origin"), events)
    with pytest.raises(InvalidInput, match="1 rows have no 'when'"):
        joined(PLAIN, rows.with_columns(when=pl.lit(None, dtype=TIME)), events)
    with pytest.raises(NotFound, match="source 'events'"):
        join(rows, key="row", time="when", views=[PLAIN], sources={}, specs={})
