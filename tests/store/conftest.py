"""A database with a ledger and one toy table derived from it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, delete, insert

from mainspring.core.clock import FrozenClock
from mainspring.core.events import Fact, Granted, Revoked
from mainspring.core.ids import IdSource
from mainspring.store.chain import METADATA
from mainspring.store.database import Database
from mainspring.store.ledger import Derivation, Ledger

ROLES = Table(
    "toy_role",
    MetaData(),
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("seq", Integer, nullable=False),
)


def derive_roles(connection: Connection, fact: Fact) -> None:
    """Keep the newest role per name; refuse one actor, to see an append fail halfway."""
    match fact.event:
        case Granted(name=name, role=role):
            if name == "unlucky":
                raise RuntimeError("derive failed")
            here = ROLES.c.project == fact.subject.project
            connection.execute(delete(ROLES).where(here, ROLES.c.name == name))
            row = {"project": fact.subject.project, "name": name, "role": role, "seq": fact.seq}
            connection.execute(insert(ROLES), row)
        case Revoked(name=name):
            here = ROLES.c.project == fact.subject.project
            connection.execute(delete(ROLES).where(here, ROLES.c.name == name))


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(datetime(2013, 1, 1, tzinfo=UTC))


@pytest.fixture
def ids(clock: FrozenClock) -> IdSource:
    return IdSource(clock)


@pytest.fixture
def roles() -> Table:
    return ROLES


@pytest.fixture
def database(tmp_path: Path, clock: FrozenClock) -> Iterator[Database]:
    with Database.open(tmp_path / "mainspring.db", clock=clock) as opened:
        opened.write(METADATA.create_all)
        opened.write(ROLES.metadata.create_all)
        yield opened


@pytest.fixture
def reopen(
    database: Database, clock: FrozenClock, ids: IdSource, tmp_path: Path
) -> Callable[[], Ledger]:
    """Make a ledger as a fresh process would, on the same database and head file."""

    def make() -> Ledger:
        return Ledger(
            database,
            clock=clock,
            ids=ids,
            derivations=[Derivation((ROLES,), derive_roles)],
            head=tmp_path / "ledger.head",
        )

    return make


@pytest.fixture
def ledger(reopen: Callable[[], Ledger]) -> Ledger:
    return reopen()
