"""The registry's tables: what is registered is derived, what people note of it is a record.

Times are whole microseconds since 1970 UTC; of notes milliseconds.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from mainspring.core.clock import Instant, utc
from mainspring.core.events import (
    Aliased,
    Fact,
    ModelCreated,
    ModelDeleted,
    ModelRenamed,
    Registered,
    VersionDeleted,
)
from mainspring.core.ids import canonical
from mainspring.store.ledger import Derivation

METADATA = MetaData()

MODEL = Table(
    "model",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("numbered", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)
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
    Column("source", Text),
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
# The version of a note or tag on the model itself is empty.
MODEL_NOTE = Table(
    "model_note",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("description", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("run_link", Text),
    Column("logged_model", Text),
    Column("updated_ms", BigInteger, nullable=False),
)
MODEL_TAG = Table(
    "model_tag",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(at: Instant) -> int:
    """Give whole microseconds since 1970 UTC."""
    return (utc(at) - _EPOCH) // timedelta(microseconds=1)


def instant(at_us: int) -> Instant:
    """Give the instant of whole microseconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


def derive(connection: Connection, fact: Fact) -> None:
    """Keep models, versions and aliases in step with the ledger."""
    match fact.event:
        case Registered() as event:
            connection.execute(insert(MODEL_VERSION).values(_registered(fact, event)))
            _numbered(connection, fact, event)
        case ModelCreated() as event:
            _model(connection, fact, event.model, numbered=0)
        case ModelRenamed() as event:
            for table in (MODEL, MODEL_VERSION, ALIAS):
                mine = _of(table, fact, event.model)
                connection.execute(update(table).where(mine).values(model=event.name))
            renamed = update(MODEL).where(_of(MODEL, fact, event.name))
            connection.execute(renamed.values(updated_us=micros(fact.at)))
        case ModelDeleted() as event:
            for table in (MODEL, MODEL_VERSION, ALIAS):
                connection.execute(delete(table).where(_of(table, fact, event.model)))
        case VersionDeleted() as event:
            for table in (MODEL_VERSION, ALIAS):
                mine = _of(table, fact, event.model) & (table.c.version == event.version)
                connection.execute(delete(table).where(mine))
        case Aliased() as event:
            key = {"project": fact.subject.project, "model": event.model, "alias": event.alias}
            same = [ALIAS.c[name] == value for name, value in key.items()]
            connection.execute(delete(ALIAS).where(*same))
            if event.version is not None:
                row = {**key, "version": event.version, "seq": fact.seq}
                connection.execute(insert(ALIAS).values(row))
        case _:
            pass


def _of(table: Table, fact: Fact, model: str) -> ColumnElement[bool]:
    return (table.c.project == fact.subject.project) & (table.c.model == model)


def _model(connection: Connection, fact: Fact, model: str, *, numbered: int) -> None:
    at_us = micros(fact.at)
    row = {"project": fact.subject.project, "model": model, "numbered": numbered}
    connection.execute(insert(MODEL).values(**row, created_us=at_us, updated_us=at_us))


def _numbered(connection: Connection, fact: Fact, event: Registered) -> None:
    """Remember the highest number that was given, so that none is given twice."""
    mine = _of(MODEL, fact, event.model)
    if connection.execute(select(MODEL.c.model).where(mine)).first() is None:
        _model(connection, fact, event.model, numbered=int(event.version))
    else:
        values = {"numbered": int(event.version), "updated_us": micros(fact.at)}
        connection.execute(update(MODEL).where(mine).values(values))


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
        "source": event.source,
        "registered_us": micros(fact.at),
        "seq": fact.seq,
    }


DERIVED = Derivation(tables=(MODEL, MODEL_VERSION, ALIAS), derive=derive, revision=2)
RECORDS: tuple[Table, ...] = (MODEL_NOTE, MODEL_TAG)
