"""Leases: who works on what, which attempt it is, and until when it may be silent."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Row,
    String,
    Table,
    bindparam,
    func,
    insert,
    select,
    update,
)

from mainspring.core.clock import Clock, Instant, utc
from mainspring.core.errors import Leased, StaleToken
from mainspring.core.ids import IdSource, checked_name
from mainspring.store.chain import METADATA
from mainspring.store.database import Database

LEASE = Table(
    "lease",
    METADATA,
    Column("project", String(128), primary_key=True),
    Column("kind", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("owner", String(256), nullable=False),
    Column("attempt", Integer, nullable=False),
    # Null once released: no token is current then.
    Column("token", String(32)),
    Column("ends_us", BigInteger, nullable=False),
)

# Built once: making a statement costs more than running it.
_NAMED = (
    LEASE.c.project == bindparam("of_project"),
    LEASE.c.kind == bindparam("of_kind"),
    LEASE.c.name == bindparam("of_name"),
)
_ROW = select(LEASE).where(*_NAMED)
_RELEASE = (
    update(LEASE)
    .where(*_NAMED, LEASE.c.token == bindparam("of_token"))
    .values(token=None, ends_us=0)
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one thing until `ends`, renewed by heartbeats."""

    project: str
    kind: str
    name: str
    owner: str
    attempt: int
    token: str
    ends: Instant


class Leases:
    """Leases in the database, by wall time. Thread-safe.

    A lease that has ended may still be renewed and its token still holds until a successor
    begins: a late heartbeat is not a death. From then on its token is refused everywhere.
    """

    def __init__(self, database: Database, *, clock: Clock, ids: IdSource) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids

    def acquire(self, project: str, kind: str, name: str, *, owner: str, ttl: timedelta) -> Lease:
        """Begin the next attempt.

        Raises:
            Leased: A live lease exists; the message says whose and until when.
        """
        for part, what in ((project, "project"), (kind, "lease kind"), (name, "lease")):
            checked_name(part, what=what)

        def work(connection: Connection) -> Lease:
            now = self._clock.now()
            row = _row(connection, project, kind, name)
            if row is not None and _is_live(row, now):
                raise Leased(
                    f"{project}/{kind}/{name}: leased to {row.owner} (attempt {row.attempt}) until "
                    f"{_instant(row.ends_us).isoformat()}; wait until it ends"
                )
            attempt = 1 if row is None else row.attempt + 1
            lease = Lease(project, kind, name, owner, attempt, self._ids.new(), utc(now) + ttl)
            values = {
                "owner": owner,
                "attempt": attempt,
                "token": lease.token,
                "ends_us": _micros(lease.ends),
            }
            if row is None:
                key = {"project": project, "kind": kind, "name": name}
                connection.execute(insert(LEASE), key | values)
            else:
                connection.execute(update(LEASE).where(*_is(project, kind, name)).values(values))
            return lease

        return self._database.write(work)

    def renew(self, lease: Lease, ttl: timedelta) -> Lease:
        """Push the end on, counted from now.

        Raises:
            StaleToken: Its successor has begun, or it was released.
        """

        def work(connection: Connection) -> Lease:
            self.check(connection, lease.project, lease.kind, lease.name, lease.token)
            ends = utc(self._clock.now()) + ttl
            connection.execute(
                update(LEASE)
                .where(*_is(lease.project, lease.kind, lease.name))
                .values(ends_us=_micros(ends))
            )
            return replace(lease, ends=ends)

        return self._database.write(work)

    def release(self, lease: Lease) -> None:
        """End a lease now. Idempotent; a successor's lease is left alone."""
        self._database.write(
            lambda connection: self.release_in(
                connection, lease.project, lease.kind, lease.name, lease.token
            )
        )

    def release_in(
        self, connection: Connection, project: str, kind: str, name: str, token: str
    ) -> None:
        """End a lease inside somebody's write, together with what its work achieved."""
        place = {"of_project": project, "of_kind": kind, "of_name": name}
        connection.execute(_RELEASE, {**place, "of_token": token})

    def check(self, connection: Connection, project: str, kind: str, name: str, token: str) -> int:
        """Give the attempt behind a token, inside the write that is to stand or fall with it.

        Raises:
            StaleToken: It is not the current one.
        """
        row = _row(connection, project, kind, name)
        if row is None or row.token is None or row.token != token:
            found = "no lease" if row is None else f"attempt {row.attempt}"
            over = "" if row is None or row.token is not None else ", released"
            raise StaleToken(
                f"{project}/{kind}/{name}: the token is over, found {found}{over}; stop this work"
            )
        attempt: int = row.attempt
        return attempt

    def live(self, project: str, kind: str, name: str) -> Lease | None:
        """Give the lease that has neither ended nor been released."""
        with self._database.read() as connection:
            row = _row(connection, project, kind, name)
        return _lease(row) if row is not None and _is_live(row, self._clock.now()) else None

    def live_of(self, project: str, kind: str) -> list[Lease]:
        """List the live leases of a kind: slots are counted from it."""
        query = select(LEASE).where(
            LEASE.c.project == project,
            LEASE.c.kind == kind,
            LEASE.c.token.is_not(None),
            LEASE.c.ends_us > _micros(self._clock.now()),
        )
        with self._database.read() as connection:
            return [_lease(row) for row in connection.execute(query.order_by(LEASE.c.name))]

    def end_owner(self, owner_prefix: str) -> int:
        """End all leases whose owner begins so, and say how many were held.

        A new holder of the home's lock ends those of its predecessor's own process at once.
        """

        def work(connection: Connection) -> int:
            # Not LIKE: it ignores case in SQLite, and an owner may hold its wildcards.
            begins = func.substr(LEASE.c.owner, 1, len(owner_prefix)) == owner_prefix
            ended = update(LEASE).where(begins, LEASE.c.token.is_not(None))
            return connection.execute(ended.values(token=None, ends_us=0)).rowcount

        return self._database.write(work)


def _is(project: str, kind: str, name: str) -> tuple[ColumnElement[bool], ...]:
    return LEASE.c.project == project, LEASE.c.kind == kind, LEASE.c.name == name


def _row(connection: Connection, project: str, kind: str, name: str) -> Row[Any] | None:
    place = {"of_project": project, "of_kind": kind, "of_name": name}
    return connection.execute(_ROW, place).first()


def _is_live(row: Row[Any], now: Instant) -> bool:
    return row.token is not None and row.ends_us > _micros(now)


def _lease(row: Row[Any]) -> Lease:
    return Lease(
        row.project, row.kind, row.name, row.owner, row.attempt, row.token, _instant(row.ends_us)
    )


def _micros(at: Instant) -> int:
    return (at - _EPOCH) // _US


def _instant(micros: int) -> Instant:
    return _EPOCH + micros * _US
