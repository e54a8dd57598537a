"""Pushes: online is offline at the same instant, each counts once, restarts change nothing."""

import errno
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import InvalidInput, NotFound, Refused, SchemaMismatch, StorageFull
from mainspring.core.events import Applied
from mainspring.core.ids import IdSource, Subject, digest_bytes
from mainspring.data import tables as data_tables
from mainspring.data.datasets import Datasets
from mainspring.data.spec import Dataset, between, unique
from mainspring.features import tables as feature_tables
from mainspring.features.join import join
from mainspring.features.push import Features
from mainspring.features.spec import FeatureView, count, largest, mean, smallest, total
from mainspring.formats.online import OnlineReader, OnlineWriter
from mainspring.store.chain import METADATA
from mainspring.store.database import Database
from mainspring.store.leases import Leases
from mainspring.store.ledger import Ledger
from mainspring.store.tables import DeltaTables

START = datetime(2013, 1, 1, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
MINUTE_US = 60_000_000
TIME = pl.Datetime("us", "UTC")
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.String,
    "at": TIME,
    "known": TIME,
    "origin": pl.String,
    "x": pl.Float64,
}

EVENTS = Dataset("events", key="id", time="at", arrival="known", checks=(between("x", -99, 99),))
LAST = FeatureView("last", entity="origin", source=EVENTS, features=["x"])
RECENT = FeatureView(
    "recent",
    entity="origin",
    source=EVENTS,
    every="5m",
    features={
        "n": count("50m"),
        "mean": mean("x", "50m"),
        "sum": total("x", "2h"),
        "low": smallest("x", "2h"),
        "high": largest("x", "2h"),
    },
)


@dataclass
class Room:
    """A home of its own with the verbs of data and features."""

    root: Path
    database: Database = field(init=False)
    ledger: Ledger = field(init=False)
    datasets: Datasets = field(init=False)
    features: Features = field(init=False)

    def __post_init__(self) -> None:
        clock = FrozenClock(datetime(2026, 11, 1, tzinfo=UTC))
        ids = IdSource(clock)
        self.database = Database.open(self.root / "mainspring.db", clock=clock)
        for metadata in (METADATA, data_tables.METADATA, feature_tables.METADATA):
            self.database.write(metadata.create_all)
        self.ledger = Ledger(
            self.database,
            clock=clock,
            ids=ids,
            derivations=[data_tables.DERIVED, feature_tables.DERIVED],
            head=None,
        )
        self.datasets = Datasets(
            project="default",
            database=self.database,
            ledger=self.ledger,
            leases=Leases(self.database, clock=clock, ids=ids),
            tables=DeltaTables(self.root / "tables"),
        )
        self.restart()

    def restart(self) -> None:
        """Begin anew with what is on the disk."""
        self.features = Features(
            project="default",
            database=self.database,
            sources=self.datasets,
            folder=self.root / "online",
        )

    def apply(self, *views: FeatureView, dataset: Dataset = EVENTS) -> None:
        applied = Applied(
            digest=digest_bytes(b""),
            source="project.py",
            bundle=digest_bytes(b""),
            code=None,
            datasets=(msgspec.to_builtins(dataset),),
            views=tuple(msgspec.to_builtins(view) for view in views),
            endpoints=(),
            pipelines=(),
        )
        self.ledger.append(Subject("default", "project", "default"), applied, actor="ann")

    def online(
        self, view: FeatureView, asked: Sequence[tuple[str, float]]
    ) -> list[tuple[float | None, ...]]:
        """Give the features and the time of the value, as a worker finds them."""
        at_us = [
            START_US + (at(minute) - START) // timedelta(microseconds=1) for _, minute in asked
        ]
        reader = OnlineReader(self.root / "online" / view.name)
        values, times, _ = reader.lookup([entity for entity, _ in asked], at_us)
        return [
            (*(None if np.isnan(v) else float(v) for v in row), None if t < 0 else minutes(t))
            for row, t in zip(values, times, strict=True)
        ]


def minutes(us: int) -> float:
    return (int(us) - START_US) / MINUTE_US


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    room.apply(LAST, RECENT)
    yield room
    room.features.close()
    room.database.close()


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


Event = tuple[str, float, float, str | None, float | None]


def frame(*events: Event) -> pl.DataFrame:
    rows = [(key, at(time), at(known), origin, x) for key, time, known, origin, x in events]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def offline(
    view: FeatureView, events: Sequence[Event], asked: Sequence[tuple[str, float]]
) -> list[tuple[float | None, ...]]:
    rows = pl.DataFrame(
        [(entity, at(minute)) for entity, minute in asked],
        schema={"origin": pl.String, "when": TIME},
        orient="row",
    )
    found = join(
        rows,
        key="origin",
        time="when",
        views=[view],
        sources={"events": frame(*events)},
        specs={"events": EVENTS},
    )
    times = found[view.time_column].dt.epoch("us")
    return [
        (*row, None if t is None else minutes(t))
        for row, t in zip(found.select(view.names).iter_rows(), times, strict=True)
    ]


def push_by_arrival(room: Room, events: Sequence[Event], until: Sequence[int]) -> None:
    """Push as a source does: in each step what arrived since the last."""
    before = -1.0
    for number, end in enumerate(until):
        rows = frame(*(event for event in events if before < event[2] <= end))
        room.features.push("events", rows, until=at(end), token=f"feed:{number}")
        before = end


events_strategy = st.lists(
    st.tuples(
        st.sampled_from([f"k{n}" for n in range(10)]),
        st.integers(0, 400).map(float),
        st.integers(0, 420).map(float),
        st.sampled_from(["JFK", "EWR", None]),
        # Not whole numbers: the two must agree to the last bit.
        st.none() | st.floats(-90, 90),
    ),
    max_size=30,
    unique_by=lambda e: e[:3],
)
asked_strategy = st.lists(
    st.tuples(st.sampled_from(["JFK", "EWR", "LGA"]), st.floats(0, 420)), min_size=1, max_size=20
)


@settings(deadline=None, max_examples=25)
@given(events_strategy, asked_strategy, st.sets(st.integers(0, 6)))
def test_the_online_value_is_the_offline_value_at_the_same_instant(
    events: list[Event], asked: list[tuple[str, float]], restarts: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        room = Room(Path(folder))
        room.apply(LAST, RECENT)
        for number in range(8):
            end = number * 60
            rows = frame(*(e for e in events if end - 60 < e[2] <= end))
            room.features.push("events", rows, until=at(end), token=f"feed:{number}")
            if number in restarts:
                room.restart()

        for view in (LAST, RECENT):
            assert room.online(view, asked) == offline(view, events, asked)
        room.features.close()
        room.database.close()


def test_quiet_ticks_are_written_for_every_entity_ever_seen(room: Room) -> None:
    room.features.push("events", frame(("a", 1, 2, "JFK", 4.0)), until=at(60), token="f:1")

    done = room.features.push("events", frame(), until=at(60 * 80), token="f:2")

    assert done.rows == 0
    assert room.online(RECENT, [("JFK", 55), ("JFK", 4800)]) == [
        (0.0, None, 4.0, 4.0, 4.0, 55.0),
        (0.0, None, 0.0, None, None, 4800.0),
    ]
    room.restart()
    room.features.push("events", frame(), until=at(60 * 80 + 5), token="f:3")
    assert room.online(RECENT, [("JFK", 4805)])[0][0] == 0.0


def test_a_token_seen_again_has_no_effect_and_answers_the_same(room: Room) -> None:
    rows = frame(("a", 1, 2, "JFK", 4.0), ("bad", 1, 2, "JFK", 1e6))
    done = room.features.push("events", rows, until=at(10), token="f:1")

    again = room.features.push("events", frame(("b", 3, 4, "JFK", 9.0)), until=at(5), token="f:1")
    room.restart()
    later = room.features.push("events", rows, until=at(10), token="f:1")

    assert done == again == later
    assert (done.rows, done.quarantined, done.ticks) == (1, 1, 2)
    assert room.online(RECENT, [("JFK", 10)])[0][:3] == (1.0, 4.0, 4.0)


def test_until_and_tokens_never_go_back(room: Room) -> None:
    room.features.push("events", frame(), until=at(60), token="f:5")

    with pytest.raises(Refused, match=r"until .*00:30.*01:00"):
        room.features.push("events", frame(), until=at(30), token="f:6")
    with pytest.raises(Refused, match="has since pushed number 5"):
        room.features.push("events", frame(), until=at(90), token="f:4")
    with pytest.raises(InvalidInput, match="writer's name"):
        room.features.push("events", frame(), until=at(90), token="nonsense")
    with pytest.raises(NotFound, match="no such dataset"):
        room.features.push("landings", frame(), until=at(90), token="f:7")


def test_rows_pushed_too_late_for_their_ticks_are_counted(room: Room) -> None:
    room.features.push("events", frame(), until=at(60), token="f:1")

    done = room.features.push(
        "events",
        frame(("late", 50, 55, "JFK", 1.0), ("fine", 50, 61, "JFK", 1.0)),
        until=at(65),
        token="f:2",
    )

    assert done.late == 1
    assert room.online(RECENT, [("JFK", 65)])[0][0] == 2.0


def test_an_entity_is_known_by_a_row_older_than_every_window(room: Room) -> None:
    room.features.push("events", frame(), until=at(600), token="f:1")
    old: Event = ("old", 10, 11, "JFK", 1.0)

    room.features.push("events", frame(old), until=at(610), token="f:2")

    asked = [("JFK", 610.0)]
    assert room.online(RECENT, asked) == offline(RECENT, [old], asked)
    assert room.online(RECENT, asked)[0][0] == 0.0


def test_committing_the_same_rows_later_changes_nothing_online(room: Room) -> None:
    rows = frame(("a", 1, 2, "JFK", 4.0), ("b", 3, 4, "JFK", 6.0))
    room.features.push("events", rows, until=at(10), token="f:1")
    files = {p: p.read_bytes() for p in (room.root / "online").rglob("*") if p.is_file()}

    room.datasets.commit("events", rows, token="loader:1", actor="ann")

    assert {p: p.read_bytes() for p in (room.root / "online").rglob("*") if p.is_file()} == files
    after = frame(("c", 9, 11, "JFK", 8.0))
    room.features.push("events", after, until=at(15), token="f:2")
    assert room.online(RECENT, [("JFK", 15)])[0][:2] == (3.0, 6.0)


def test_a_unique_value_is_asked_among_what_was_pushed_not_committed(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.apply(RECENT, dataset=msgspec.structs.replace(EVENTS, checks=(unique("id"),)))
    rows = frame(("a", 1, 2, "JFK", 4.0))
    room.datasets.commit("events", rows, token="loader:1", actor="ann")

    first = room.features.push("events", rows, until=at(10), token="f:1")
    second = room.features.push("events", rows, until=at(10), token="f:2")
    room.restart()
    third = room.features.push("events", rows, until=at(10), token="f:3")

    assert [(d.rows, d.quarantined) for d in (first, second, third)] == [(1, 0), (0, 1), (0, 1)]
    room.features.close()
    room.database.close()


def test_a_tie_goes_to_the_larger_key_even_when_it_was_pushed_first(room: Room) -> None:
    room.features.push("events", frame(("z", 1, 5, "JFK", 1.0)), until=at(5), token="f:1")

    room.features.push("events", frame(("a", 1, 5, "JFK", 2.0)), until=at(5), token="f:2")

    assert room.online(LAST, [("JFK", 6)]) == [(1.0, 1.0)]


def test_a_push_the_online_table_refused_is_made_up_for(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.features.push("events", frame(("a", 1, 2, "JFK", 4.0)), until=at(5), token="f:1")
    write = OnlineWriter.write

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OnlineWriter, "write", full)
    with pytest.raises(StorageFull, match="same token"):
        room.features.push("events", frame(("b", 6, 7, "JFK", 6.0)), until=at(10), token="f:2")
    monkeypatch.setattr(OnlineWriter, "write", write)

    done = room.features.push("events", frame(), until=at(10), token="f:2")

    assert done.rows == 1
    assert room.online(RECENT, [("JFK", 10)])[0][:2] == (2.0, 5.0)
    assert room.online(LAST, [("JFK", 10)]) == [(6.0, 6.0)]


def test_a_lost_online_table_is_made_again_from_the_record(room: Room) -> None:
    events: list[Event] = [(f"k{n}", n * 7.0, n * 7.0 + 1, "JFK", n / 3) for n in range(60)]
    push_by_arrival(room, events, range(0, 421, 60))
    asked = [("JFK", float(minute)) for minute in range(0, 420, 11)]
    before = room.online(RECENT, asked), room.online(LAST, asked)
    room.features.close()
    for path in (room.root / "online").rglob("*"):
        if path.is_file():
            path.unlink()

    room.restart()
    room.features.push("events", frame(), until=at(420), token="feed:99")

    assert (room.online(RECENT, asked), room.online(LAST, asked)) == before


def test_another_declaration_of_a_view_is_another_table(room: Room) -> None:
    events: list[Event] = [(f"k{n}", n * 7.0, n * 7.0 + 1, "JFK", 1.0) for n in range(20)]
    push_by_arrival(room, events, [60, 120])
    longer = FeatureView(
        "recent", entity="origin", source="events", every="5m", features={"n": count("90m")}
    )
    same_names = FeatureView("last", entity="origin", source="events", ttl="1h", features=["x"])

    room.apply(longer, same_names)
    room.features.push("events", frame(), until=at(121), token="feed:9")

    assert room.online(longer, [("JFK", 120)]) == offline(longer, events[:18], [("JFK", 120)])
    assert room.online(same_names, [("JFK", 120)])[0][0] == 1.0


def test_rows_no_window_reaches_are_forgotten_and_tokens_are_not(room: Room) -> None:
    first = room.features.push("events", frame(("a", 1, 2, "JFK", 4.0)), until=at(5), token="f:1")
    for number in range(2, 70):
        room.features.push("events", frame(), until=at(60 * number), token=f"f:{number}")

    with room.database.read() as connection:
        pushes = connection.execute(feature_tables.PUSH.select()).all()

    assert len(pushes) == 69
    assert [push.rows for push in pushes] == [None] * 69
    room.restart()
    assert room.features.push("events", frame(), until=at(0), token="f:1") == first


def test_a_view_on_what_is_no_number_refuses_the_push_and_changes_nothing(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.apply(FeatureView("odd", entity="origin", source="events", features=["id"]))

    with pytest.raises(SchemaMismatch, match="'id' of 'events' is String, expected numbers"):
        room.features.push("events", frame(("a", 1, 2, "JFK", 4.0)), until=at(5), token="f:1")

    with room.database.read() as connection:
        assert connection.execute(feature_tables.PUSH.select()).all() == []
    room.features.close()
    room.database.close()


def test_declared_views_are_read_back_and_replayed(room: Room) -> None:
    assert room.features.views() == {"last": LAST, "recent": RECENT}

    room.ledger.rebuild()

    assert room.features.views() == {"last": LAST, "recent": RECENT}
