"""Spools: what a client wrote down while it trained, and sends later, counted so that nothing of it
is logged twice.

A spool numbers its entries from 0. The number that is expected next is changed in the very write
that logs an entry, so an entry that is sent again, because its answer was lost, is known.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.store.bulk import QuickQuery
from mainspring.store.database import Database
from mainspring.tracking.limits import millis
from mainspring.tracking.tables import SPOOL

ENTRIES_AT_MOST = 5_000
"""In one request: bounds how long others wait for the writer."""

_NAME = re.compile(r"[0-9a-f]{32}")


class Replayed(NamedTuple):
    """What came of entries that were sent."""

    next: int
    """Number of the entry that is expected next; all before it are logged or refused."""
    refused: list[tuple[int, MainspringError]]
    """Those that will never be logged."""
    unseen: int
    """Entries that were never sent here though later ones are: the server is older than it was."""


Apply = Callable[[Connection, Any], object]


class Spools:
    """Replays the spools of one project. Thread-safe.

    Args:
        apply: How an entry is logged inside a write, by its type; it is done whole or refused.
    """

    def __init__(self, project: str, database: Database, apply: Mapping[type, Apply]) -> None:
        self._project = project
        self._database = database
        self._apply = apply

    def expected(self, spool: str) -> int:
        """Give the number of the entry that is expected next; 0 for a spool never seen."""
        with self._database.read() as connection:
            return self._expected(connection, spool)[0]

    def replay(self, spool: str, first: int, entries: Sequence[Any]) -> Future[Replayed]:
        """Log entries in their order, in one write; those that came before are left out.

        Args:
            spool: Its name, 32 hexadecimal digits that its client drew.
            first: Number of the first entry; the others follow without a gap.
            entries: Each of a type that `apply` knows, or the error that tells why it cannot be
                read.
        """
        _check(spool, first, len(entries))

        def work(connection: Connection) -> Replayed:
            expected, known = self._expected(connection, spool)
            refused: list[tuple[int, MainspringError]] = []
            for number, entry in enumerate(entries, first):
                if number < expected:
                    continue
                try:
                    self._log(connection, entry)
                except MainspringError as error:
                    refused.append((number, error))
            after = max(expected, first + len(entries))
            self._keep(connection, spool, after, known=known)
            return Replayed(after, refused, max(0, first - expected))

        return self._database.submit(work)

    def _log(self, connection: Connection, entry: Any) -> None:
        if isinstance(entry, MainspringError):
            raise entry
        self._apply[type(entry)](connection, entry)

    def _expected(self, connection: Connection, spool: str) -> tuple[int, bool]:
        rows = _NEXT.rows(connection, self._project, spool)
        return (int(rows[0][0]), True) if rows else (0, False)

    def _keep(self, connection: Connection, spool: str, after: int, *, known: bool) -> None:
        values = {"next": after, "seen_ms": millis(self._database.clock.now())}
        if known:
            mine = (SPOOL.c.project == self._project) & (SPOOL.c.spool == spool)
            connection.execute(update(SPOOL).where(mine).values(**values))
        else:
            row = {"project": self._project, "spool": spool, **values}
            connection.execute(insert(SPOOL).values(row))


def _check(spool: str, first: int, entries: int) -> None:
    if not _NAME.fullmatch(spool):
        raise InvalidInput(f"spool {spool[:60]!r}: expected 32 hexadecimal digits; draw a name")
    if first < 0 or first >= 1 << 62:
        raise InvalidInput(f"spool {spool}: found first entry {first}, expected 0 or more")
    if entries > ENTRIES_AT_MOST:
        raise InvalidInput(
            f"spool {spool}: found {entries} entries in one request, expected {ENTRIES_AT_MOST} at "
            "most; send several requests"
        )


_NEXT = QuickQuery(
    select(SPOOL.c.next).where(
        SPOOL.c.project == bindparam("of_project"), SPOOL.c.spool == bindparam("of_spool")
    ),
    ["of_project", "of_spool"],
)
