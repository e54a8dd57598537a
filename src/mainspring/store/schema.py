"""The database's shape: migrations of record tables, replay of derived tables that changed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from mainspring.core.errors import Refused
from mainspring.core.ids import Digest, digest_of
from mainspring.store.chain import LEDGER, METADATA
from mainspring.store.database import Database
from mainspring.store.leases import LEASE
from mainspring.store.ledger import Derivation, Ledger

DERIVED_SCHEMA = Table(
    "derived_schema",
    METADATA,
    Column("name", String(128), primary_key=True),
    Column("digest", String(64), nullable=False),
)

RECORDS: tuple[Table, ...] = (LEDGER, LEASE, DERIVED_SCHEMA)
"""This room's tables; none of them is replayed."""


def migrate(database: Database, scripts: Path) -> None:
    """Bring the record tables up to the newest revision in a folder of Alembic scripts.

    All revisions run in one write transaction: it happens wholly or not at all, and two processes
    that start at once run it one after the other. The folder needs `versions/` only, no `env.py`.

    Raises:
        Refused: The database has a revision that the scripts do not know.
    """
    # Imported here: Alembic costs start-up time that a command without a database need not pay.
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    script = ScriptDirectory(str(scripts))

    def steps(found: tuple[str, ...], _: MigrationContext) -> list[RevisionStep]:
        return script._upgrade_revs("heads", found)  # type: ignore[arg-type]

    def work(connection: Connection) -> None:
        context = MigrationContext.configure(connection=connection, opts={"fn": steps})
        with Operations.context(context):
            context.run_migrations()

    try:
        database.write(work)
    except CommandError as error:
        raise Refused(
            f"database schema: {error}; it was written by another version, use that one"
        ) from error


def ensure_derived(database: Database, ledger: Ledger) -> tuple[str, ...]:
    """Make the derived tables what the rooms declare, in one transaction.

    A derivation whose tables or revision changed is dropped, created and replayed; a derived
    table that no room declares any more is dropped.

    Returns:
        The names of the tables that were replayed.
    """

    def work(connection: Connection) -> tuple[str, ...]:
        known = {row.name: row.digest for row in connection.execute(select(DERIVED_SCHEMA))}
        wanted = {
            table.name: _shape(table, derivation)
            for derivation in ledger.derivations
            for table in derivation.tables
        }
        changed = [
            derivation
            for derivation in ledger.derivations
            if any(known.get(table.name) != wanted[table.name] for table in derivation.tables)
        ]
        _drop(connection, changed, {name for name in known if name not in wanted})
        for derivation in changed:
            for table in derivation.tables:
                table.create(connection)
        connection.execute(delete(DERIVED_SCHEMA))
        if wanted:
            rows = [{"name": name, "digest": digest} for name, digest in wanted.items()]
            connection.execute(insert(DERIVED_SCHEMA), rows)
        if changed:
            ledger.replay(connection, changed)
        return tuple(table.name for derivation in changed for table in derivation.tables)

    return database.write(work)


def derived_snapshot(
    database: Database, tables: Iterable[Table]
) -> dict[str, list[tuple[Any, ...]]]:
    """Give all rows of some tables in one snapshot, sorted: to compare replay with the tables."""
    with database.read() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in tables
        }


def _shape(table: Table, derivation: Derivation) -> Digest:
    dialect = sqlite.dialect()
    statements = [str(CreateTable(table).compile(dialect=dialect))]
    statements += sorted(str(CreateIndex(i).compile(dialect=dialect)) for i in table.indexes)
    return digest_of([statements, derivation.revision])


def _drop(connection: Connection, changed: Sequence[Derivation], gone: set[str]) -> None:
    present = set(inspect(connection).get_table_names())
    for derivation in reversed(changed):
        for table in reversed(derivation.tables):
            if table.name in present:
                table.drop(connection)
    for name in sorted(gone & present):
        Table(name, MetaData()).drop(connection)
