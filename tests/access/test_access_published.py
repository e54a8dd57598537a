"""What the workers are told of the tokens."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mainspring.access import tables
from mainspring.access.actors import Access
from mainspring.access.published import TokenPublisher
from mainspring.core.clock import FrozenClock
from mainspring.core.home import Home
from mainspring.core.ids import IdSource
from mainspring.formats.tokens import TokenBook
from mainspring.store import chain
from mainspring.store.database import Database
from mainspring.store.ledger import Ledger

ALL = ("prediction/predict", "endpoint/read", "home/read")


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    clock = FrozenClock(datetime(2013, 1, 1, tzinfo=UTC))
    ids = IdSource(clock)
    with Database.open(tmp_path / "m.db", clock=clock) as database:
        for metadata in (chain.METADATA, tables.METADATA):
            database.write(metadata.create_all)
        ledger = Ledger(database, clock=clock, ids=ids, derivations=[tables.DERIVED], head=None)
        yield Access("default", database, ledger, ids)


def test_workers_learn_of_issued_and_revoked_tokens(access: Access, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    book, publisher = TokenBook(home), TokenPublisher(access.database, home)
    publisher.publish()
    assert not book.exist()

    access.grant("ann", "admin", actor="local")
    access.grant("bob", "viewer", actor="local")
    ann, bob = (access.issue(name, actor="local") for name in ("ann", "bob"))
    publisher.publish()

    assert book.exist()
    found = book.find("default", bob.secret)
    assert found is not None
    assert (found.name, found.role, found.permissions) == ("bob", "viewer", ALL)
    assert book.find("other", bob.secret) is None
    assert bob.secret not in home.tokens.read_text("utf-8")

    access.revoke("bob", actor="ann")
    publisher.publish()

    assert book.find("default", bob.secret) is None
    assert book.find("default", ann.secret) is not None
