"""SQLite's part of the database: how it is opened, what its errors mean, whether it is still there.

All that is true of SQLite only lies here; `database.py` and the rooms above speak portable SQL.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from mainspring.core.errors import Corrupt, MainspringError, StorageFull, Unavailable

_BUSY_TIMEOUT_S = 60
_WAL_LIMIT_BYTES = 64 * 2**20
_FULL = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_TRUNCATE,
}
_UNSYNCED = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
_UNREADABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}


@dataclass(frozen=True, slots=True)
class Failure:
    """What a database error means for the writes that were under way."""

    error: MainspringError
    final: bool
    """No later write can be trusted: the process must reopen the database."""


def failure_of(path: Path, error: BaseException) -> Failure | None:
    """Tell a failure of the database at a path from an error of the work that used it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    if not isinstance(cause, sqlite3.Error) or not isinstance(code, int):
        return None
    found = f"database {path.name}: {cause} ({cause.sqlite_errorname})"
    if code in _FULL:
        return Failure(StorageFull(f"{found}; nothing was changed: free space and repeat"), False)
    if code in _UNSYNCED:
        # After a failed fsync the kernel may have dropped the pages: never retry on top.
        return Failure(
            Unavailable(f"{found}; whether the write landed shows after a restart"), True
        )
    if code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Failure(
            Unavailable(f"{found}; another process holds it: stop that one, then repeat"), False
        )
    if code & 0xFF in _DAMAGED:
        return Failure(Corrupt(f"{found}; restore it from a backup"), True)
    if code & 0xFF in _UNREADABLE or code == sqlite3.SQLITE_READONLY_DBMOVED:
        return Failure(Unavailable(f"{found}; check the disk, then restart"), False)
    return None


class SqliteFile:
    """One SQLite file with its two engines: one connection that writes, many that read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.writer = self._engine(f"file:{_quoted(path)}", begin="BEGIN IMMEDIATE", pool=NullPool)
        self.reader = self._engine(f"file:{_quoted(path)}?mode=ro", begin="BEGIN", pool=QueuePool)
        self._identity: tuple[tuple[int, int], ...] = ()

    def prepare(self, connection: Connection) -> None:
        """Make the write connection durable and remember which files it opened."""
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        assert mode == "wal", mode
        # SQLite syncs its files, never the folder's entry of a new one.
        with _folder(self.path.parent) as folder:
            os.fsync(folder)
        self._identity = self._identify()

    def missing(self) -> bool:
        """Say whether the open files are no longer those at the path.

        SQLite goes on writing into a deleted or replaced file without a word, so this is asked
        before every acknowledgement. The write-ahead log counts too: it holds the newest commits.
        """
        try:
            return self._identify() != self._identity
        except OSError:
            return True

    def ended(self, connection: Connection) -> bool:
        """Say whether the transaction was ended behind SQLAlchemy's back."""
        return not _driver(connection).in_transaction

    def failure(self, error: BaseException) -> Failure | None:
        """Tell a failure of the database from an error of the work that used it."""
        return failure_of(self.path, error)

    def close(self) -> None:
        """Close the reading connections; the writer's belongs to its thread."""
        self.reader.dispose()
        self.writer.dispose()

    def _identify(self) -> tuple[tuple[int, int], ...]:
        stats = [os.stat(name) for name in (self.path, f"{self.path}-wal")]
        return tuple((stat.st_dev, stat.st_ino) for stat in stats)

    def _engine(self, uri: str, *, begin: str, pool: type[NullPool] | type[QueuePool]) -> Engine:
        def connect() -> sqlite3.Connection:
            # isolation_level None: the driver begins nothing by itself, we say when and how.
            connection = sqlite3.connect(
                uri,
                uri=True,
                timeout=_BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            if begin == "BEGIN IMMEDIATE":
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA foreign_keys=ON")
                connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
            return connection

        many: dict[str, Any] = {"pool_size": 8, "max_overflow": -1} if pool is QueuePool else {}
        engine = create_engine("sqlite://", creator=connect, poolclass=pool, **many)
        event.listen(engine, "begin", lambda connection: _driver(connection).execute(begin))
        return engine


def take_snapshot(path: Path, target: Path) -> None:
    """Copy a database as it is at one instant, whoever writes to it meanwhile.

    Args:
        path: The database; never opened but by SQLite, which would lose its locks by it.
        target: A file that is not there.

    Raises:
        Unavailable: There is no database, or it is held.
        Corrupt: The copy is not whole, so neither is the original.
        StorageFull: The copy found no room.
    """
    try:
        with _raw(path, "rw") as source, _raw(target, "rwc") as copy:
            # In one step: a copy in pieces would begin again after every write of another process.
            source.backup(copy)
            # One file, nothing beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        failure = failure_of(path, error)
        if failure is None:
            raise
        raise failure.error from error
    if found != "ok":
        raise Corrupt(f"database {path.name}: {found}; restore it from an earlier backup")


@contextlib.contextmanager
def _raw(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"file:{_quoted(path)}?mode={mode}"
    with contextlib.closing(
        sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    ) as connection:
        yield connection


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)
