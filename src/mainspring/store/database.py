"""The database: one thread writes, in groups that become durable together; readers never wait."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Transaction, make_url
from sqlalchemy.exc import ArgumentError

from mainspring.core.clock import Clock
from mainspring.core.errors import MainspringError, Misconfigured, Unavailable
from mainspring.store.sqlite import SqliteFile

T = TypeVar("T")

_GROUP = 128
"""Writes that share one commit at most; bounds how long the first of them waits."""


@dataclass(frozen=True, slots=True)
class _Item:
    work: Callable[[Connection], Any]
    answer: Future[Any]


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


class _GroupFailed(Exception):
    """The transaction is lost: nothing in the group was written."""

    def __init__(self, error: MainspringError) -> None:
        self.error = error


class Database:
    """Durable writes one after the other, snapshot reads beside them. Thread-safe.

    Open it once per process that owns the home. `clock` is the wall time of all that rests on it.
    """

    def __init__(self, file: SqliteFile, *, clock: Clock) -> None:
        self.clock = clock
        self._file = file
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._broken: MainspringError | None = None
        self._writing: Connection | None = None
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(opened,), name="database-writer", daemon=True
        )
        self._thread.start()
        opened.result()

    @classmethod
    def open(cls, target: Path | str, *, clock: Clock) -> Self:
        """Open or create the database at a path or an SQLAlchemy URL.

        Raises:
            Misconfigured: The URL is not one, or names a database other than SQLite.
            Unavailable: The file cannot be opened, or is no SQLite database.
        """
        return cls(SqliteFile(_path_of(target)), clock=clock)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run the work in the writer thread and return when it is durable; see `submit`."""
        return self.submit(work).result()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Have the work run in the writer thread; once the answer is there it is durable.

        Works of several threads share a commit. One that raises is rolled back alone and its
        exception is the answer, which nobody may cancel. The work must not keep the connection,
        commit or roll back. Called from inside a work it is refused: its promise, durable on
        return, cannot be kept there; use the connection at hand.

        Raises:
            StorageFull: The disk refused; nothing of the group was written; later writes may do.
            Unavailable: The file is gone or the database is closed.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("write() inside a write: use the connection the work was given")
        answer: Future[T] = Future()
        with self._gate:
            self._check_open()
            self._queue.put(_Item(work, answer))
        return answer

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one snapshot: all committed when its first query ran.

        Inside a write's work it is the work's own connection, so verbs that read see what the
        work has written so far.
        """
        if self._writing is not None and threading.current_thread() is self._thread:
            yield self._writing
            return
        self._check_open()
        self._check_present()
        try:
            with self._file.reader.connect() as connection, connection.begin():
                yield connection
        except Exception as error:
            failure = self._file.failure(error)
            if failure is None:
                raise
            raise failure.error from error

    def inside_write(self) -> bool:
        """Tell whether a work of a write is what calls."""
        return self._writing is not None and threading.current_thread() is self._thread

    def waiting(self) -> int:
        """Count the writes that wait for the writer."""
        return self._queue.qsize()

    def close(self) -> None:
        """Finish the writes that wait, then close; later calls are answered Unavailable."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        self._check_sound()
        if self._closed:
            raise Unavailable(f"database {self._file.path.name} is closed; open it again")

    def _check_sound(self) -> None:
        if self._broken is not None:
            raise _fresh(self._broken)

    def _check_present(self) -> None:
        if self._broken is None and self._file.missing():
            self._broken = Unavailable(
                f"database {self._file.path.name}: the open file is no longer the one at the path "
                f"(seen {self.clock.now().isoformat()}); restore the file and restart"
            )
        self._check_sound()

    def _serve(self, opened: Future[None]) -> None:
        try:
            connection = self._file.writer.connect()
            with connection.begin():
                self._file.prepare(connection)
        except Exception as error:
            failure = self._file.failure(error)
            opened.set_exception(failure.error if failure else error)
            return
        with connection:
            opened.set_result(None)
            while group := self._next_group():
                self._run(connection, group)

    def _next_group(self) -> list[_Item]:
        first = self._queue.get()
        group = [] if first is None else [first]
        while group and len(group) < _GROUP:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._queue.put(None)
                break
            group.append(item)
        return group

    def _run(self, connection: Connection, group: list[_Item]) -> None:
        """Commit a group, then answer everybody in it."""
        try:
            self._check_sound()
            outcomes = self._commit(connection, group)
            self._check_present()
        except Exception as error:
            failed = error if isinstance(error, MainspringError) else self._lost(error)
            for item in group:
                item.answer.set_exception(_fresh(failed))
            return
        for item, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, _Raised):
                item.answer.set_exception(outcome.error)
            else:
                item.answer.set_result(outcome)

    def _commit(self, connection: Connection, group: list[_Item]) -> list[Any]:
        try:
            with connection.begin() as transaction:
                self._writing = connection
                if len(group) == 1:
                    # Alone, it needs no savepoint: the transaction is its own.
                    return [self._run_item(connection, group[0], transaction)]
                return [self._run_item(connection, item, None) for item in group]
        except _GroupFailed as failed:
            raise failed.error from failed.__cause__
        except Exception as error:
            raise self._lost(error) from error
        finally:
            self._writing = None

    def _run_item(self, connection: Connection, item: _Item, own: Transaction | None) -> Any:
        savepoint = connection.begin_nested() if own is None else own
        try:
            result = item.work(connection)
        except BaseException as error:
            # A full disk may have rolled the whole transaction back under our feet.
            if self._file.failure(error) is not None:
                raise _GroupFailed(self._lost(error)) from error
            savepoint.rollback()
            return _Raised(error)
        if own is None:
            savepoint.commit()
        elif self._file.ended(connection):
            raise RuntimeError("the work has ended the transaction")
        return result

    def _lost(self, error: BaseException) -> MainspringError:
        failure = self._file.failure(error)
        if failure is None:
            return Unavailable(f"database write failed: {error}; nothing was changed: repeat it")
        if failure.final:
            self._broken = failure.error
        return failure.error


def _fresh(error: MainspringError) -> MainspringError:
    """Copy an error, because one object raised in several threads mixes their tracebacks."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


def _path_of(target: Path | str) -> Path:
    if isinstance(target, Path):
        return target
    if "://" not in target:
        return Path(target)
    try:
        url = make_url(target)
    except ArgumentError as error:
        raise Misconfigured(f"database {target!r} is not a path or a database URL") from error
    if url.get_backend_name() != "sqlite" or not url.database:
        raise Misconfigured(
            f"database {url.render_as_string()}: found {url.get_backend_name()!r}, "
            "expected sqlite:///<path> or a path"
        )
    return Path(url.database)
