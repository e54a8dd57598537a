"""A backup is whole or not there, and what came after its snapshot harms nobody."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from sqlalchemy import Connection, select

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import (
    AlreadyExists,
    Corrupt,
    InvalidInput,
    MainspringError,
    NotFound,
    Unavailable,
)
from mainspring.core.events import Granted
from mainspring.core.home import Home
from mainspring.core.ids import Digest, IdSource, Subject
from mainspring.store import backup
from mainspring.store.blobs import FolderBlobs
from mainspring.store.chain import LEDGER
from mainspring.store.copies import Copied
from mainspring.store.database import Database
from mainspring.store.deltalog import Commit
from mainspring.store.leases import LEASE, Leases
from mainspring.store.ledger import Ledger
from mainspring.store.tables import DeltaTables

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ROWS = pl.DataFrame({"key": ["a", "b"], "value": [1.0, 2.0]})


@pytest.fixture
def home(ledger: Ledger, database: Database, tmp_path: Path, ids: IdSource) -> Home:
    """A home with two facts, a lease, a blob, two Delta versions, an online view and a segment."""
    home = Home(tmp_path)
    for name in ("ada", "bob"):
        append(ledger, name)
    leases = Leases(database, clock=FrozenClock(NOW), ids=ids)
    leases.acquire("default", "run", "one", owner="in-process", ttl=timedelta(minutes=1))
    FolderBlobs(home.blobs("default")).put(b"a model")
    tables = DeltaTables(home.tables("default"))
    for number in (1, 2):
        tables.append("rows", ROWS, writer="w", number=number, partition_by=["key"])
    view = home.online("default") / "recent"
    for path, content in (
        (view / "current", b"1"),
        (view / "1.snapshot", b"values"),
        (view / ".current.7.ab", b"half"),
        (home.segments / "w+1.segment", b"answers"),
        (home.runs("default") / "r.log", b"lines"),
        (home.routes, b"{}"),
        (home.lock, b"{}"),
        (home.roster, b"{}"),
        (home.workers / "w.json", b"{}"),
        (home.logs / "control.log", b"said"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return home


@pytest.fixture
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups") / "first"


def append(ledger: Ledger, name: str) -> None:
    ledger.append(Subject("default", "actor", name), Granted(name=name, role="viewer"), actor="a")


class KnownTo:
    """What the snapshot knows: versions of `rows` up to one, bytes of segments up to one."""

    def __init__(self, version: int, end: int) -> None:
        self._version, self._end = version, end

    def has_version(self, project: str, table: str, version: int, commit: Commit) -> bool:
        mine = project == "default" and table == "rows" and bool(commit.files)
        return mine and version <= self._version

    def segment_end(self, name: str) -> int:
        return self._end if name.endswith(".segment") else 0


def everything(_: Connection) -> backup.Known:
    return KnownTo(1000, 1000)


def make(
    home: Home,
    target: Path,
    knowing: backup.Knowing = everything,
) -> backup.Backup:
    return backup.back_up(home, target, now=NOW, version="1", knowing=knowing)


def refused(error: type[MainspringError], match: str, home: Home, target: Path) -> None:
    """Be refused, and leave everything around the target as it was."""
    before = sorted(os.listdir(target.parent)) if target.parent.is_dir() else None

    with pytest.raises(error, match=match):
        make(home, target)

    after = sorted(os.listdir(target.parent)) if target.parent.is_dir() else None
    assert after == before


def paths(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_a_restored_home_has_the_state_and_no_trace_of_who_worked(
    home: Home, target: Path, ledger: Ledger
) -> None:
    made = make(home, target)
    append(ledger, "later")
    other = Home(target.parent / "other")

    assert backup.restore(target, other) == made

    digest = Digest("0")
    for blob in home.blobs("default").glob("??/*"):
        digest = Digest(blob.parent.name + blob.name)
    assert FolderBlobs(other.blobs("default")).get(digest) == b"a model"
    read = DeltaTables(other.tables("default")).read("rows").collect()
    assert read.height == 4
    absent = {"lock", "up.json", "workers/w.json", "logs/control.log"}
    absent.add("projects/default/online/recent/.current.7.ab")
    kept = paths(home.root) - absent - {"mainspring.db-wal", "mainspring.db-shm"}
    assert paths(other.root) == kept
    with (
        Database.open(other.database, clock=FrozenClock(NOW)) as database,
        database.read() as connection,
    ):
        assert [row.seq for row in connection.execute(select(LEDGER))] == [1, 2]
        leases = connection.execute(select(LEASE.c.attempt, LEASE.c.token, LEASE.c.ends_us))
        assert [tuple(lease) for lease in leases] == [(1, None, 0)]
    assert (made.seq, len(made.hash)) == (2, 64)


def test_what_comes_after_the_snapshot_is_left_out_and_may_be_sent_again(
    home: Home, target: Path
) -> None:
    tables = DeltaTables(home.tables("default"))

    def later(_: Connection) -> backup.Known:
        # Runs between the snapshot and the copying: here the home goes on.
        for number in range(3, 8):
            tables.append("rows", ROWS, writer="w", number=number, partition_by=["key"])
        tables.append("unknown", ROWS, writer="w", number=1)
        (home.online("default") / "recent" / "1.snapshot").write_bytes(b"ahead of the record")
        home.routes.write_bytes(b"ahead of the ledger")
        for name in ("w+1.segment", "w+2.segment"):
            with (home.segments / name).open("ab") as segment:
                segment.write(b", later ones")
        return KnownTo(1, 5)

    make(home, target, later)
    other = Home(target.parent / "other")
    backup.restore(target, other)

    assert (other.segments / "w+1.segment").read_bytes() == b"answers"
    assert (other.segments / "w+2.segment").read_bytes() == b", lat"
    assert other.routes.read_bytes() == b"{}"
    assert (other.online("default") / "recent" / "1.snapshot").read_bytes() == b"values"
    copied = DeltaTables(other.tables("default"))
    assert (copied.version("rows"), copied.version("unknown")) == (1, None)
    assert copied.append("rows", ROWS.head(1), writer="w", number=3, partition_by=["key"]) == 2
    assert copied.read("rows").collect().height == 5


def test_a_summed_up_log_is_copied_with_its_sum(home: Home, target: Path) -> None:
    tables = DeltaTables(home.tables("default"))
    for number in range(3, 56):
        tables.append("rows", ROWS, writer="w", number=number, partition_by=["key"])

    make(home, target)
    other = Home(target.parent / "other")
    backup.restore(target, other)

    log = other.tables("default") / "rows" / "_delta_log"
    assert (log / "_last_checkpoint").is_file()
    assert len(list(log.glob("*.checkpoint.parquet"))) == 1
    assert DeltaTables(other.tables("default")).read("rows").collect().height == 110


def test_an_online_table_is_copied_in_one_generation(home: Home, target: Path) -> None:
    view = home.online("default") / "recent"
    switched: list[bool] = []

    def switch(_: int) -> None:
        # After the first bytes of the first generation were copied, the second takes over.
        if not switched and (target.parent / f".first.{os.getpid()}.unfinished").is_dir():
            switched.append(True)
            (view / "2.snapshot").write_bytes(b"newer")
            (view / "current").write_bytes(b"2")
            (view / "1.snapshot").unlink()

    home.routes.unlink()
    backup.back_up(home, target, now=NOW, version="1", knowing=everything, told=switch)

    assert switched
    copied = target / "home" / view.relative_to(home.root)
    assert paths(copied) == {"current", "2.snapshot"}
    assert (copied / "current").read_bytes() == b"2"


def test_a_target_that_cannot_be_one_is_refused(home: Home, target: Path) -> None:
    target.mkdir()

    refused(AlreadyExists, "choose a new one", home, target)
    refused(NotFound, "make it first", home, target / "deep" / "er")
    refused(InvalidInput, "lies inside", home, home.segments / "backup")
    refused(NotFound, "check the path", Home(target), target.parent / "second")


def test_what_is_damaged_is_refused_and_named(home: Home, target: Path) -> None:
    blob = next(home.blobs("default").glob("??/*"))
    blob.chmod(0o644)
    blob.write_bytes(b"A model")
    refused(Corrupt, f"blob {blob.parent.name}{blob.name}", home, target)

    blob.unlink()
    blob.symlink_to("/etc/hostname")
    refused(Corrupt, "found a link", home, target)

    blob.unlink()
    make(home, target)


def test_a_database_that_is_not_whole_is_refused(tmp_path: Path, target: Path) -> None:
    home = Home(tmp_path / "broken")
    home.root.mkdir()
    home.database.write_bytes(b"SQLite format 3\0" + b"x" * 5000)

    with pytest.raises((Corrupt, Unavailable), match=r"database mainspring\.db"):
        make(home, target)

    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("harm", ["altered", "cut", "gone", "link"])
def test_a_backup_that_was_harmed_makes_no_home(home: Home, target: Path, harm: str) -> None:
    make(home, target)
    file = target / "home" / "segments" / "w+1.segment"
    match harm:
        case "altered":
            file.write_bytes(b"Answers")
        case "cut":
            file.write_bytes(b"answer")
        case "gone":
            file.unlink()
        case _:
            file.rename(target / "moved")
            file.symlink_to(target / "moved")

    with pytest.raises(Corrupt, match=r"1 files are not .*w\+1\.segment"):
        backup.restore(target, Home(target.parent / "other"))

    assert os.listdir(target.parent) == ["first"]


@pytest.mark.parametrize("path", ["../out", "/out", "a//b", "a/./b", ""])
def test_a_backup_writes_nothing_outside_of_the_home(home: Home, target: Path, path: str) -> None:
    made = make(home, target)
    strange = Copied(path, 0, made.files[0].digest)
    forged = msgspec.structs.replace(made, files=(*made.files, strange))
    (target / backup.MANIFEST).write_bytes(msgspec.json.encode(forged))

    with pytest.raises(Corrupt, match="no path of a home"):
        backup.restore(target, Home(target.parent / "other"))


def test_a_backup_without_its_list_is_none(home: Home, target: Path) -> None:
    make(home, target)
    (target / backup.MANIFEST).unlink()

    with pytest.raises(NotFound, match="is no backup"):
        backup.restore(target, Home(target.parent / "other"))


def test_a_home_that_is_not_empty_is_never_restored_over(home: Home, target: Path) -> None:
    make(home, target)
    before = paths(home.root)

    with pytest.raises(AlreadyExists, match="choose a new one"):
        backup.restore(target, home)

    assert paths(home.root) == before


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from mainspring.core.home import Home
from mainspring.store import backup

class KnownFiles:
    has_version = lambda *_: True
    segment_end = lambda *_: 1000
    of = lambda _: KnownFiles()

def told(_):
    told.calls += 1
    if told.calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
told.calls = 0
backup.back_up(Home(Path(sys.argv[1])), Path(sys.argv[2]), now=datetime(2026, 5, 1, tzinfo=UTC),
               version="1", knowing=KnownFiles.of, told=told)
"""


def test_a_backup_that_was_killed_is_none_and_can_be_made_again(home: Home, target: Path) -> None:
    for calls in (1, 4, 8):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(home.root), str(target), str(calls)], check=False
        )
        assert killed.returncode == -signal.SIGKILL
        assert not target.exists()

    make(home, target)

    assert backup.restore(target, Home(target.parent / "other")).seq == 2
