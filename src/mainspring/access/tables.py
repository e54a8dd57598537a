"""Access's tables, both derived: who has which role, which tokens are accepted."""

from sqlalchemy import Column, Connection, Index, MetaData, Table, Text, delete, insert, update

from mainspring.core.events import Fact, Granted, Revoked, TokenIssued, TokenRevoked
from mainspring.store.ledger import Derivation

METADATA = MetaData()

GRANT = Table(
    "grant",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
)
TOKEN = Table(
    "token",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("token", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("token_by_hash", "hash"),
)


def derive(connection: Connection, fact: Fact) -> None:
    """Keep roles and tokens in step with the ledger."""
    project = fact.subject.project
    match fact.event:
        case Granted() as event:
            _grant(connection, project, event)
        case Revoked() as event:
            for table in (GRANT, TOKEN):
                mine = (table.c.project == project) & (table.c.name == event.name)
                connection.execute(delete(table).where(mine))
        case TokenIssued() as event:
            connection.execute(
                insert(TOKEN).values(
                    project=project, token=event.token, name=event.name, hash=event.hash
                )
            )
        case TokenRevoked() as event:
            mine = (TOKEN.c.project == project) & (TOKEN.c.token == event.token)
            connection.execute(delete(TOKEN).where(mine))
        case _:
            pass


def _grant(connection: Connection, project: str, event: Granted) -> None:
    mine = (GRANT.c.project == project) & (GRANT.c.name == event.name)
    changed = connection.execute(update(GRANT).where(mine).values(role=event.role))
    if changed.rowcount == 0:
        connection.execute(insert(GRANT).values(project=project, name=event.name, role=event.role))


DERIVED = Derivation(tables=(GRANT, TOKEN), derive=derive)
RECORDS: tuple[Table, ...] = ()
