"""Commits: versions, tokens, quarantine, and a writer killed between any two steps."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from deltalake import DeltaTable

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import (
    ChecksFailed,
    InvalidInput,
    Leased,
    NotFound,
    Refused,
    SchemaMismatch,
    StaleToken,
)
from mainspring.core.events import Applied, Committed
from mainspring.core.ids import IdSource, Subject, digest_bytes
from mainspring.data import tables
from mainspring.data.datasets import Datasets
from mainspring.data.spec import Dataset, between, not_null, row_count, unique
from mainspring.data.writing import CommitLease
from mainspring.store.chain import METADATA
from mainspring.store.database import Database
from mainspring.store.leases import Leases
from mainspring.store.ledger import Ledger
from mainspring.store.tables import DeltaTables

START = datetime(2013, 1, 1, tzinfo=UTC)
FLIGHTS = Dataset(
    "flights",
    key="id",
    time="at",
    arrival="known",
    checks=(between("distance", 0, 6000), not_null("origin"), unique("id")),
)


@dataclass
class Room:
    """A home of its own with the verbs of the data room."""

    root: Path
    clock: FrozenClock
    database: Database
    ledger: Ledger
    leases: Leases
    tables: DeltaTables
    datasets: Datasets

    def fresh(self) -> Datasets:
        """Give the verbs as a process that has just started has them."""
        return Datasets(
            project="default",
            database=self.database,
            ledger=self.ledger,
            leases=self.leases,
            tables=DeltaTables(self.root / "tables"),
        )


def open_room(root: Path) -> Room:
    clock = FrozenClock(datetime(2026, 11, 1, tzinfo=UTC))
    ids = IdSource(clock)
    database = Database.open(root / "mainspring.db", clock=clock)
    database.write(METADATA.create_all)
    database.write(tables.METADATA.create_all)
    ledger = Ledger(database, clock=clock, ids=ids, derivations=[tables.DERIVED], head=None)
    leases = Leases(database, clock=clock, ids=ids)
    delta = DeltaTables(root / "tables")
    datasets = Datasets(
        project="default", database=database, ledger=ledger, leases=leases, tables=delta
    )
    return Room(root, clock, database, ledger, leases, delta, datasets)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    opened = open_room(tmp_path)
    yield opened
    opened.database.close()


def flights(*ids: str, distance: int = 100, origin: str | None = "JFK") -> pl.DataFrame:
    times = [START + timedelta(minutes=n) for n in range(len(ids))]
    return pl.DataFrame(
        {
            "id": list(ids),
            "at": times,
            "known": times,
            "distance": [distance] * len(ids),
            "origin": pl.Series([origin] * len(ids), dtype=pl.String),
        }
    )


def ids_of(datasets: Datasets, version: int | None = None) -> list[str]:
    return sorted(datasets.read("flights", version).collect()["id"].to_list())


def test_a_commit_parts_good_rows_from_bad_ones_and_records_both(room: Room) -> None:
    rows = pl.concat(
        [
            flights("a", "b", "e"),
            flights("far", distance=9000),
            flights("b"),
            flights("c", origin=None),
        ]
    )

    done = room.datasets.commit(FLIGHTS, rows, token="loader:1", actor="ann")

    assert (done.version, done.rows, done.rows_total, done.quarantined) == (1, 3, 3, 3)
    assert done.reasons == {"between(distance)": 1, "not_null(origin)": 1, "unique(id)": 1}
    assert (done.event_time_min, done.event_time_max) == (START, START + timedelta(minutes=2))
    assert ids_of(room.datasets) == ["a", "b", "e"]
    rejected = room.datasets.quarantine("flights")
    assert sorted(rejected.select("id", "reason", "dataset_version").iter_rows()) == [
        ("b", "unique(id)", 1),
        ("c", "not_null(origin)", 1),
        ("far", "between(distance)", 1),
    ]
    fact = room.ledger.facts(name="flights")[-1]
    assert (fact.event, fact.actor) == (done, "ann")


def test_versions_are_read_as_they_were(room: Room) -> None:
    for number, key in enumerate("abc"):
        room.datasets.commit(FLIGHTS, flights(key), token=f"loader:{number}", actor="ann")

    assert [ids_of(room.datasets, v) for v in (1, 2, 3)] == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert room.datasets.pins() == {"flights": 3}
    assert [row.rows_total for row in room.datasets.versions("flights")] == [1, 2, 3]
    with pytest.raises(NotFound, match="version 4"):
        room.datasets.read("flights", 4)
    with pytest.raises(NotFound, match="does not have any version"):
        room.datasets.read("landings")


def test_a_token_seen_again_has_no_second_effect_and_answers_the_same(room: Room) -> None:
    first = room.datasets.commit(FLIGHTS, flights("a"), token="loader:5", actor="ann")

    again = room.datasets.commit(FLIGHTS, flights("other"), token="loader:5", actor="bob")

    assert again == first
    assert ids_of(room.datasets) == ["a"]
    assert len(room.ledger.facts(name="flights")) == 1


def test_a_smaller_number_that_was_never_committed_is_told_the_newest(room: Room) -> None:
    room.datasets.commit(FLIGHTS, flights("a"), token="loader:5", actor="ann")

    with pytest.raises(Refused, match=r"'loader:4'.*never committed.*'loader:5'"):
        room.datasets.commit(FLIGHTS, flights("b"), token="loader:4", actor="ann")

    other = room.datasets.commit(FLIGHTS, flights("b"), token="other:1", actor="ann")
    assert other.version == 2


@pytest.mark.parametrize("token", ["loader", "loader:x", ":1", "loader:-1", "a/b:1", "loader:²"])
def test_a_token_of_another_form_is_refused(room: Room, token: str) -> None:
    with pytest.raises(InvalidInput):
        room.datasets.commit(FLIGHTS, flights("a"), token=token, actor="ann")


def test_unique_holds_over_all_versions_and_processes(room: Room) -> None:
    room.datasets.commit(FLIGHTS, flights("a", "b"), token="loader:1", actor="ann")
    room.fresh().commit(FLIGHTS, flights("c"), token="other:1", actor="ann")

    done = room.datasets.commit(FLIGHTS, flights("c", "b", "d"), token="loader:2", actor="ann")

    assert done.reasons == {"unique(id)": 2}
    assert ids_of(room.datasets) == ["a", "b", "c", "d"]


def test_a_commit_of_only_bad_rows_is_a_version_without_rows(room: Room) -> None:
    bad = flights("x", origin=None)

    first = room.datasets.commit(FLIGHTS, bad, token="loader:1", actor="ann")
    second = room.datasets.commit(FLIGHTS, flights("a"), token="loader:2", actor="ann")
    third = room.datasets.commit(FLIGHTS, bad, token="loader:3", actor="ann")

    assert [done.rows for done in (first, second, third)] == [0, 1, 0]
    assert ids_of(room.datasets) == ["a"]
    assert room.datasets.quarantine("flights")["dataset_version"].to_list() == [1, 3]


def test_a_row_count_far_from_the_last_refuses_the_commit_and_writes_nothing(room: Room) -> None:
    spec = msgspec.structs.replace(FLIGHTS, checks=(row_count(low=0.5, high=2),))
    room.datasets.commit(spec, flights(*"abcd"), token="loader:1", actor="ann")

    with pytest.raises(ChecksFailed, match=r"found 1 rows, 0\.25 of the last commit's 4"):
        room.datasets.commit(spec, flights("e"), token="loader:2", actor="ann")

    assert ids_of(room.datasets) == ["a", "b", "c", "d"]
    assert room.tables.version("dataset.flights") == 0
    newest = room.ledger.facts(name="flights")[-1]
    assert type(newest.event).__name__ == "CommitRefused"
    fixed = room.datasets.commit(spec, flights("e", "f"), token="loader:2", actor="ann")
    assert fixed.version == 2


def test_another_schema_is_refused_and_the_dataset_stays_free(room: Room) -> None:
    room.datasets.commit(FLIGHTS, flights("a"), token="loader:1", actor="ann")

    with pytest.raises(SchemaMismatch, match=r"missing columns \['origin'\]"):
        room.datasets.commit(FLIGHTS, flights("b").drop("origin"), token="loader:2", actor="ann")
    done = room.datasets.commit(FLIGHTS, flights("b"), token="loader:2", actor="ann")

    assert done.version == 2


def test_digests_depend_on_the_rows_and_on_nothing_else(tmp_path: Path) -> None:
    rows = flights("a", "b", "c")
    found = []
    for name, given in (("one", rows), ("two", rows.reverse())):
        (tmp_path / name).mkdir()
        room = open_room(tmp_path / name)
        room.datasets.commit(FLIGHTS, given, token=f"{name}:1", actor=name)
        room.datasets.commit(FLIGHTS, flights("d"), token=f"{name}:2", actor=name)
        found.append([(v.digest, v.version_digest) for v in room.datasets.versions("flights")])
        room.database.close()

    assert found[0] == found[1]
    assert len({digest for pair in found[0] for digest in pair}) == 4


def test_a_second_commit_waits_for_the_lease_of_the_first(room: Room) -> None:
    lease = room.datasets.begin(FLIGHTS, token="loader:1", owner="ann")
    assert isinstance(lease, CommitLease)

    with pytest.raises(Leased, match="ann"):
        room.datasets.begin(FLIGHTS, token="other:1", owner="bob")
    written = room.datasets.write(lease, flights("a"))
    done = room.datasets.finish(lease, written, actor="ann")

    assert room.datasets.finish(lease, written, actor="ann") == done
    assert isinstance(room.datasets.begin(FLIGHTS, token="other:1", owner="bob"), CommitLease)


def test_who_asks_again_because_the_answer_was_lost_is_not_kept_out_by_his_own_lease(
    room: Room,
) -> None:
    lost = room.datasets.begin(FLIGHTS, token="loader:1", owner="ann", attempt="a" * 32)

    with pytest.raises(Leased, match="ann"):
        room.datasets.begin(FLIGHTS, token="loader:1", owner="ann", attempt="b" * 32)
    again = room.datasets.begin(FLIGHTS, token="loader:1", owner="ann", attempt="a" * 32)

    assert isinstance(lost, CommitLease)
    assert isinstance(again, CommitLease)
    room.datasets.abandon(lost)
    done = room.datasets.finish(again, room.datasets.write(again, flights("a")), actor="ann")
    assert (done.version, done.rows) == (1, 1)


def test_two_commits_at_once_both_land_or_one_is_told_to_wait(room: Room) -> None:
    def commit(number: int) -> str:
        try:
            key = f"k{number}"
            room.datasets.commit(FLIGHTS, flights(key), token=f"w{number}:1", actor="ann")
        except Leased:
            return ""
        return key

    with ThreadPoolExecutor(4) as pool:
        landed = [key for key in pool.map(commit, range(8)) if key]

    assert landed
    assert ids_of(room.datasets) == sorted(landed)
    assert [row.version for row in room.datasets.versions("flights")] == [
        *range(1, len(landed) + 1)
    ]


def test_a_writer_that_was_overtaken_is_refused_and_its_rows_are_never_read(room: Room) -> None:
    room.datasets.commit(FLIGHTS, flights("a"), token="loader:1", actor="ann")
    slow = room.datasets.begin(FLIGHTS, token="slow:1", owner="ann")
    assert isinstance(slow, CommitLease)
    room.clock.advance(timedelta(hours=1))
    quick = room.datasets.begin(FLIGHTS, token="quick:1", owner="bob")
    assert isinstance(quick, CommitLease)

    late = room.datasets.write(slow, flights("x", "y"))
    room.datasets.finish(quick, room.datasets.write(quick, flights("x")), actor="bob")

    with pytest.raises(StaleToken):
        room.datasets.finish(slow, late, actor="ann")
    assert ids_of(room.datasets) == ["a", "x"]
    with pytest.raises(Refused, match="larger number than 1"):
        room.datasets.commit(FLIGHTS, flights("y"), token="slow:1", actor="ann")
    room.datasets.commit(FLIGHTS, flights("y"), token="slow:2", actor="ann")
    assert ids_of(room.datasets) == ["a", "x", "y"]


def test_landed_rows_are_invisible_until_whoever_begins_next_completes_them(room: Room) -> None:
    room.datasets.commit(FLIGHTS, flights("a"), token="loader:1", actor="ann")
    lease = room.datasets.begin(FLIGHTS, token="loader:2", owner="ann")
    assert isinstance(lease, CommitLease)
    room.datasets.write(lease, pl.concat([flights("b"), flights("bad", origin=None)]))
    room.leases.end_owner("ann")
    assert ids_of(room.fresh()) == ["a"]
    assert room.fresh().quarantine("flights").is_empty()

    other = room.fresh().commit(FLIGHTS, flights("b", "c"), token="other:1", actor="bob")

    assert (other.version, other.reasons) == (3, {"unique(id)": 1})
    adopted = room.datasets.commit(FLIGHTS, flights("b"), token="loader:2", actor="ann")
    assert (adopted.version, adopted.rows, adopted.reasons) == (2, 1, {"not_null(origin)": 1})
    assert ids_of(room.datasets) == ["a", "b", "c"]


def batch() -> pl.DataFrame:
    return pl.concat([flights("b", "c"), flights("bad", origin=None)])


def interruptions(room: Room, kill: Callable[[], None]) -> dict[str, Callable[[], None]]:
    """Give, for each gap between two steps of a commit, what makes the process die in it."""
    append, acquire = room.tables.append, room.leases.acquire
    also = room.ledger.append_all

    def after_lease() -> None:
        def die(*given: object, **named: object) -> object:
            acquire(*given, **named)  # type: ignore[arg-type]
            kill()
            return None

        room.leases.acquire = die  # type: ignore[method-assign,assignment]

    def around_append(table: str, *, before: bool) -> Callable[[], None]:
        def install() -> None:
            def die(name: str, *given: object, **named: object) -> int:
                if before and name == table:
                    kill()
                version = append(name, *given, **named)  # type: ignore[arg-type]
                if name == table:
                    kill()
                return version

            room.tables.append = die  # type: ignore[method-assign]

        return install

    def around_fact(*, before: bool) -> Callable[[], None]:
        def install() -> None:
            def die(*given: object, **named: object) -> object:
                if before:
                    kill()
                also(*given, **named)  # type: ignore[arg-type]
                kill()
                return None

            room.ledger.append_all = die  # type: ignore[method-assign,assignment]

        return install

    return {
        "lease": after_lease,
        "before quarantine": around_append("quarantine.flights", before=True),
        "after quarantine": around_append("quarantine.flights", before=False),
        "before rows": around_append("dataset.flights", before=True),
        "after rows": around_append("dataset.flights", before=False),
        "before fact": around_fact(before=True),
        "after fact": around_fact(before=False),
    }


GAPS = (
    "lease",
    "before quarantine",
    "after quarantine",
    "before rows",
    "after rows",
    "before fact",
    "after fact",
)


def die_in(gap: str, root: Path, *, first: bool) -> None:
    """Commit in a child process that kills itself in the gap."""
    child = os.fork()
    if child == 0:
        root.mkdir()
        room = open_room(root)
        if not first:
            room.datasets.commit(FLIGHTS, flights("a"), token="loader:1", actor="ann")
        interruptions(room, lambda: os.kill(os.getpid(), signal.SIGKILL))[gap]()
        room.datasets.commit(FLIGHTS, batch(), token="loader:2", actor="doomed")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{gap}: the process lived on"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.fixture(scope="module")
def graveyard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of homes whose commit was killed, one for each gap.

    A fresh interpreter forks them, because Polars' threads do not survive a fork.
    """
    root = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, __file__, str(root)], check=True, timeout=120)
    return root


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("first", [True, False])
def test_killed_between_any_two_steps_the_retry_gives_one_set_of_rows(
    graveyard: Path, gap: str, first: bool
) -> None:
    before = [] if first else ["a"]
    room = open_room(graveyard / f"{gap}-{first}".replace(" ", "-"))
    seen = [version.rows for version in room.datasets.versions("flights")]
    room.leases.end_owner("doomed")

    done = room.datasets.commit(FLIGHTS, batch(), token="loader:2", actor="retry")

    assert seen == [1] * len(before) + ([2] if gap == "after fact" else [])
    assert (done.rows, done.reasons) == (2, {"not_null(origin)": 1})
    assert ids_of(room.datasets) == [*before, "b", "c"]
    assert room.datasets.quarantine("flights")["id"].to_list() == ["bad"]
    assert len(room.datasets.versions("flights")) == len(before) + 1
    room.database.close()


def test_replaying_the_ledger_gives_equal_tables(room: Room) -> None:
    for number, key in enumerate("ab"):
        room.datasets.commit(FLIGHTS, flights(key), token=f"loader:{number}", actor="ann")
    applied = Applied(
        digest=digest_bytes(b""),
        source="project.py",
        bundle=digest_bytes(b""),
        code=None,
        datasets=(msgspec.to_builtins(FLIGHTS),),
        views=(),
        endpoints=(),
        pipelines=(),
    )
    room.ledger.append(Subject("default", "project", "default"), applied, actor="ann")

    def rows() -> list[list[tuple[object, ...]]]:
        with room.database.read() as connection:
            return [
                [tuple(row) for row in connection.execute(table.select())]
                for table in tables.DERIVED.tables
            ]

    before = rows()
    room.ledger.rebuild()

    assert rows() == before
    assert [len(table) for table in before] == [1, 2]
    assert room.datasets.specs() == {"flights": FLIGHTS}


def test_a_commit_by_name_needs_the_declaration(room: Room) -> None:
    with pytest.raises(NotFound, match="not declared"):
        room.datasets.commit("flights", flights("a"), token="loader:1", actor="ann")


def test_an_independent_reader_finds_the_rows_in_the_table(room: Room) -> None:
    done = room.datasets.commit(FLIGHTS, flights("a", "b"), token="loader:1", actor="ann")

    table = DeltaTable(str(room.root / "tables" / "dataset.flights"), version=done.delta_version)

    assert table.to_pyarrow_table().num_rows == 2
    assert isinstance(done, Committed)


if __name__ == "__main__":
    for one_gap in GAPS:
        for is_first in (True, False):
            die_in(
                one_gap,
                Path(sys.argv[1]) / f"{one_gap}-{is_first}".replace(" ", "-"),
                first=is_first,
            )
