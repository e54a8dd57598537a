"""The room's tables: declared views are derived; pushes and known entities are records."""

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
)

from mainspring.core.events import Applied, Fact
from mainspring.core.ids import canonical
from mainspring.features.spec import FeatureView
from mainspring.store.ledger import Derivation

METADATA = MetaData()

FEATURE_VIEW = Table(
    "feature_view",
    METADATA,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("spec", Text, nullable=False),
    Column("declared", BigInteger, nullable=False),
)
PUSH = Table(
    "push",
    METADATA,
    Column("project", String(128), primary_key=True),
    Column("dataset", String(128), primary_key=True),
    Column("ordinal", BigInteger, primary_key=True, autoincrement=False),
    Column("writer", String(128), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("answer", Text, nullable=False),
    # Accepted rows as an Arrow stream; null when there were none or no window reaches them.
    Column("rows", LargeBinary),
    Column("newest_us", BigInteger),
    Index("push_by_token", "project", "dataset", "writer", "number", unique=True),
)
ENTITY_SEEN = Table(
    "entity_seen",
    METADATA,
    Column("project", String(128), primary_key=True),
    Column("view", String(128), primary_key=True),
    Column("entity", Text, primary_key=True),
    # Of the view as it was declared: another grid has other first ticks.
    Column("digest", String(64), primary_key=True),
    Column("first_tick_us", BigInteger, nullable=False),
)


def derive(connection: Connection, fact: Fact) -> None:
    """Write what a fact says of feature views."""
    if not isinstance(fact.event, Applied):
        return
    project = fact.subject.project
    connection.execute(delete(FEATURE_VIEW).where(FEATURE_VIEW.c.project == project))
    for spec in fact.event.views:
        row = {"name": spec["name"], "spec": canonical(spec).decode(), "declared": fact.seq}
        connection.execute(insert(FEATURE_VIEW).values(project=project, **row))


DERIVED = Derivation(tables=(FEATURE_VIEW,), derive=derive)
RECORDS: tuple[Table, ...] = (PUSH, ENTITY_SEEN)


def declared_views(connection: Connection, project: str) -> dict[str, FeatureView]:
    """Read the declared views by name."""
    chosen = select(FEATURE_VIEW.c.spec).where(FEATURE_VIEW.c.project == project)
    texts = connection.scalars(chosen.order_by(FEATURE_VIEW.c.name))
    views = [msgspec.json.decode(text, type=FeatureView) for text in texts]
    return {view.name: view for view in views}
