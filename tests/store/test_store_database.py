import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from sqlalchemy import Connection, Table, event, func, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import Corrupt, Misconfigured, Unavailable
from mainspring.store.database import Database


def _add(connection: Connection, roles: Table, name: str) -> None:
    connection.execute(insert(roles), {"project": "p", "name": name, "role": "r", "seq": 1})


def _names(database: Database, roles: Table) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(roles.c.name).order_by(roles.c.name)).scalars())


def test_the_writer_is_durable_and_keeps_foreign_keys(database: Database) -> None:
    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert database.write(pragmas) == ["wal", 2, 1]


def test_one_bad_write_in_a_group_is_rolled_back_alone(database: Database, roles: Table) -> None:
    entered, go = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        entered.set()
        assert go.wait(10)
        _add(connection, roles, "first")

    def bad(connection: Connection) -> None:
        _add(connection, roles, "bad")
        raise ValueError("mine")

    def twice(connection: Connection) -> None:
        _add(connection, roles, "twice")
        _add(connection, roles, "twice")

    transactions = []

    def good(connection: Connection) -> None:
        transactions.append(connection.get_transaction())
        _add(connection, roles, f"good{len(transactions)}")

    with ThreadPoolExecutor(8) as pool:
        held = pool.submit(database.write, hold)
        assert entered.wait(10)
        # All of these wait while the writer is busy, so they share the next commit.
        group = [pool.submit(database.write, work) for work in (good, bad, good, twice, good)]
        while database._queue.qsize() < 5:
            threading.Event().wait(0.001)
        go.set()
        held.result()
        failures = [future.exception() for future in group]

    assert [type(failure) for failure in failures] == [
        type(None),
        ValueError,
        type(None),
        IntegrityError,
        type(None),
    ]
    assert len(set(map(id, transactions))) == 1
    assert _names(database, roles) == ["first", "good1", "good2", "good3"]


def test_a_bad_write_that_is_alone_leaves_nothing(database: Database, roles: Table) -> None:
    def bad(connection: Connection) -> None:
        _add(connection, roles, "bad")
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        database.write(bad)

    database.write(lambda c: _add(c, roles, "next"))
    assert _names(database, roles) == ["next"]


def test_nobody_is_answered_before_the_commit(database: Database, roles: Table) -> None:
    answers: list[Future[None]] = []
    early: list[int] = []

    def committing(_: Connection) -> None:
        # Time enough for an early answer to come out.
        early.append(len(wait(answers, timeout=0.2).done))

    event.listen(database._file.writer, "commit", committing)
    with ThreadPoolExecutor(1) as pool, database._gate:
        answers.append(pool.submit(database.write, lambda c: _add(c, roles, "one")))
    answers[0].result()

    assert early == [0]


def test_a_read_sees_one_snapshot_while_writes_go_on(database: Database, roles: Table) -> None:
    count = select(func.count()).select_from(roles)

    with database.read() as connection:
        before = connection.execute(count).scalar_one()
        database.write(lambda c: _add(c, roles, "later"))
        during = connection.execute(count).scalar_one()

    assert (before, during) == (0, 0)
    assert _names(database, roles) == ["later"]


def test_a_read_inside_a_write_sees_what_the_write_has_written(
    database: Database, roles: Table
) -> None:
    def work(connection: Connection) -> list[str]:
        _add(connection, roles, "mine")
        return _names(database, roles)

    assert database.write(work) == ["mine"]


def test_readers_cannot_write(database: Database, roles: Table) -> None:
    with (
        pytest.raises(OperationalError, match="readonly"),
        database.read() as connection,
    ):
        _add(connection, roles, "sly")


def test_a_write_inside_a_write_is_refused_and_does_not_hang(database: Database) -> None:
    with pytest.raises(RuntimeError, match="inside a write"):
        database.write(lambda _: database.write(lambda _: None))


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_deleted_file_makes_every_later_call_unavailable(
    database: Database, roles: Table, tmp_path: Path, suffix: str
) -> None:
    database.write(lambda c: _add(c, roles, "before"))
    os.unlink(tmp_path / f"mainspring.db{suffix}")

    for _ in range(2):
        with pytest.raises(Unavailable, match="no longer the one at the path"):
            database.write(lambda c: _add(c, roles, "after"))
    with pytest.raises(Unavailable, match="restore the file"), database.read():
        pass


def test_a_replaced_file_is_noticed(database: Database, roles: Table, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes((tmp_path / "mainspring.db").read_bytes())
    os.replace(other, tmp_path / "mainspring.db")

    with pytest.raises(Unavailable):
        database.write(lambda c: _add(c, roles, "lost"))


def test_a_closed_database_finishes_what_waits_and_refuses_the_rest(
    database: Database, roles: Table, tmp_path: Path, clock: FrozenClock
) -> None:
    with ThreadPoolExecutor(4) as pool:
        writes = [
            pool.submit(database.write, lambda c, n=n: _add(c, roles, f"n{n}")) for n in range(20)
        ]
        for write in writes:
            write.result()
    database.close()

    with pytest.raises(Unavailable, match="closed"):
        database.write(lambda c: _add(c, roles, "late"))
    with Database.open(f"sqlite:///{tmp_path / 'mainspring.db'}", clock=clock) as again:
        assert len(_names(again, roles)) == 20


def test_a_file_that_is_no_database_is_called_corrupt(tmp_path: Path, clock: FrozenClock) -> None:
    (tmp_path / "x.db").write_bytes(b"this is no database at all" * 100)

    with pytest.raises(Corrupt, match=r"x\.db"):
        Database.open(tmp_path / "x.db", clock=clock)


def test_another_database_than_sqlite_is_named(clock: FrozenClock) -> None:
    with pytest.raises(Misconfigured, match="postgresql"):
        Database.open("postgresql://host/db", clock=clock)


def test_work_that_ends_the_transaction_harms_no_other_write(
    database: Database, roles: Table
) -> None:
    with pytest.raises(Unavailable):
        database.write(lambda c: c.execute(text("COMMIT")))

    database.write(lambda c: _add(c, roles, "next"))
    assert _names(database, roles) == ["next"]
