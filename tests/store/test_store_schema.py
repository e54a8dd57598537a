from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import Refused
from mainspring.core.events import Fact, Granted
from mainspring.core.ids import IdSource, Subject
from mainspring.store.database import Database
from mainspring.store.ledger import Derivation, Ledger
from mainspring.store.schema import derived_snapshot, ensure_derived, migrate

REVISION = '''
"""{name}"""
import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = {down!r}


def upgrade() -> None:
    op.create_table("{name}_table", sa.Column("x", sa.Integer, primary_key=True))
    {more}
'''


def _revision(scripts: Path, name: str, *, down: str | None, more: str = "pass") -> None:
    (scripts / "versions").mkdir(exist_ok=True, parents=True)
    text = REVISION.format(name=name, down=down, more=more)
    (scripts / "versions" / f"{name}.py").write_text(text)


def _tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(inspect(connection).get_table_names())


def test_migrations_run_once_and_go_on_where_they_ended(tmp_path: Path, clock: FrozenClock) -> None:
    scripts = tmp_path / "scripts"
    _revision(scripts, "one", down=None)
    with Database.open(tmp_path / "m.db", clock=clock) as database:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: migrate(database, scripts), range(2)))
        assert _tables(database) == {"alembic_version", "one_table"}

        _revision(scripts, "two", down="one")
        migrate(database, scripts)

        assert _tables(database) == {"alembic_version", "one_table", "two_table"}


def test_a_failed_migration_leaves_nothing(tmp_path: Path, clock: FrozenClock) -> None:
    scripts = tmp_path / "scripts"
    _revision(scripts, "one", down=None)
    _revision(scripts, "two", down="one", more="raise RuntimeError('halfway')")
    with Database.open(tmp_path / "m.db", clock=clock) as database:
        with pytest.raises(RuntimeError, match="halfway"):
            migrate(database, scripts)

        assert _tables(database) == set()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, clock: FrozenClock) -> None:
    newer, older = tmp_path / "newer", tmp_path / "older"
    _revision(newer, "one", down=None)
    _revision(newer, "two", down="one")
    _revision(older, "one", down=None)
    with Database.open(tmp_path / "m.db", clock=clock) as database:
        migrate(database, newer)

        with pytest.raises(Refused, match="another version"):
            migrate(database, older)


def _derivation(*columns: str, revision: int = 1, name: str = "toy_names") -> Derivation:
    table = Table(name, MetaData(), *(Column(column, String(64)) for column in columns))

    def derive(connection: Connection, fact: Fact) -> None:
        if isinstance(fact.event, Granted):
            row = {"name": fact.event.name, "role": fact.event.role, "note": f"r{revision}"}
            connection.execute(insert(table), {column: row[column] for column in columns})

    return Derivation((table,), derive, revision)


def test_a_changed_derived_table_is_replayed_and_an_unchanged_one_left(
    database: Database, clock: FrozenClock, ids: IdSource
) -> None:
    def ledger_of(*derivations: Derivation) -> Ledger:
        return Ledger(database, clock=clock, ids=ids, derivations=derivations, head=None)

    def opened(*derivations: Derivation) -> tuple[str, ...]:
        return ensure_derived(database, ledger_of(*derivations))

    other = _derivation("name", name="other_names")
    assert opened(_derivation("name"), other) == ("toy_names", "other_names")
    event = Granted(name="anna", role="viewer")
    narrow = _derivation("name")
    anna = Subject("default", "actor", "anna")
    ledger_of(narrow, other).append(anna, event, actor="local")

    assert opened(narrow, other) == ()
    wider = _derivation("name", "role")
    assert opened(wider, other) == ("toy_names",)
    assert derived_snapshot(database, wider.tables) == {"toy_names": [("anna", "viewer")]}
    noted = _derivation("name", "note", revision=2)
    assert opened(noted, other) == ("toy_names",)
    again = _derivation("name", "note", revision=3)
    assert opened(again, other) == ("toy_names",)
    assert derived_snapshot(database, again.tables) == {"toy_names": [("anna", "r3")]}
    assert opened(again) == ()
    assert "other_names" not in _tables(database)
