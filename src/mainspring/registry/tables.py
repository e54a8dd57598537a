"""The registry's tables, both derived.

Times are whole microseconds since 1970 UTC.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    insert,
)

from mainspring.core.clock import Instant, utc
from mainspring.core.events import Aliased, Fact, Registered
from mainspring.core.ids import canonical
from mainspring.store.ledger import Derivation

METADATA = MetaData()

MODEL_VERSION = Table(
    "model_version",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("run", Text),
    Column("until_us", BigInteger),
    Column("as_of_us", BigInteger),
    Column("pins", Text, nullable=False),
    Column("opaque", Boolean, nullable=False),
    Column("registered_us", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("model_version_by_number", "project", "model", "number", unique=True),
    Index("model_version_by_manifest", "project", "manifest"),
)
ALIAS = Table(
    "alias",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(at: Instant) -> int:
    """Give whole microseconds since 1970 UTC."""
    return (utc(at) - _EPOCH) // timedelta(microseconds=1)


def instant(at_us: int) -> Instant:
    """Give the instant of whole microseconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


def derive(connection: Connection, fact: Fact) -> None:
    """Keep versions and aliases in step with the ledger."""
    match fact.event:
        case Registered() as event:
            connection.execute(insert(MODEL_VERSION).values(_registered(fact, event)))
        case Aliased() as event:
            key = {"project": fact.subject.project, "model": event.model, "alias": event.alias}
            mine = [ALIAS.c[name] == value for name, value in key.items()]
            connection.execute(delete(ALIAS).where(*mine))
            if event.version is not None:
                row = {**key, "version": event.version, "seq": fact.seq}
                connection.execute(insert(ALIAS).values(row))
        case _:
            pass


def _registered(fact: Fact, event: Registered) -> dict[str, object]:
    return {
        "project": fact.subject.project,
        "model": event.model,
        "version": event.version,
        "number": int(event.version),
        "manifest": event.manifest,
        "run": event.run,
        "until_us": None if event.until is None else micros(event.until),
        "as_of_us": None if event.as_of is None else micros(event.as_of),
        "pins": canonical(event.pins).decode(),
        "opaque": event.opaque,
        "registered_us": micros(fact.at),
        "seq": fact.seq,
    }


DERIVED = Derivation(tables=(MODEL_VERSION, ALIAS), derive=derive)
RECORDS: tuple[Table, ...] = ()
