"""The room's tables: both derived, from `Applied` and `Committed`."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    MetaData,
    Row,
    String,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
)

from mainspring.core.events import Applied, Committed, Fact
from mainspring.core.ids import Digest, Seq, canonical
from mainspring.data.digest import chained
from mainspring.data.spec import Dataset
from mainspring.data.token import Token
from mainspring.store.ledger import Derivation

METADATA = MetaData()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DATASET = Table(
    "dataset",
    METADATA,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("spec", Text, nullable=False),
    Column("declared", BigInteger, nullable=False),
)
VERSION = Table(
    "dataset_version",
    METADATA,
    Column("project", String(128), primary_key=True),
    Column("dataset", String(128), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("writer", String(128), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("version_digest", String(64), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("rows_total", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("delta_version", BigInteger, nullable=False),
    Column("quarantine_delta_version", BigInteger),
    Column("event_time_min_us", BigInteger),
    Column("event_time_max_us", BigInteger),
    Column("arrival_max_us", BigInteger),
    Column("seq", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Index("dataset_version_by_token", "project", "dataset", "writer", "number", unique=True),
)

# Built once: making a statement costs more than running it.
_ADD_VERSION = insert(VERSION)
NEWEST_FIRST = (
    select(VERSION)
    .where(VERSION.c.project == bindparam("project"), VERSION.c.dataset == bindparam("name"))
    .order_by(VERSION.c.version.desc())
)
"""The versions of a dataset, asked with `project` and `name`."""
_NEWEST_DIGEST = NEWEST_FIRST.with_only_columns(VERSION.c.version_digest).limit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One version of a dataset.

    Attributes:
        digest: Of the rows this commit added.
        version_digest: Of all rows up to this version, commit by commit.
        rows: Accepted rows of this commit.
        rows_total: Accepted rows of all versions up to this one.
        reasons: Rows in quarantine by reason.
        seq: Number of the fact.
    """

    dataset: str
    version: int
    token: str
    digest: Digest
    version_digest: Digest
    rows: int
    rows_total: int
    quarantined: int
    reasons: dict[str, int]
    delta_version: int
    quarantine_delta_version: int | None
    event_time_min: datetime | None
    event_time_max: datetime | None
    arrival_max: datetime | None
    seq: Seq
    at: datetime
    actor: str

    def event(self) -> Committed:
        """Give the event this row was derived from."""
        return Committed(
            version=self.version,
            token=self.token,
            digest=self.digest,
            rows=self.rows,
            rows_total=self.rows_total,
            quarantined=self.quarantined,
            reasons=self.reasons,
            delta_version=self.delta_version,
            quarantine_delta_version=self.quarantine_delta_version,
            event_time_min=self.event_time_min,
            event_time_max=self.event_time_max,
            arrival_max=self.arrival_max,
        )


def derive(connection: Connection, fact: Fact) -> None:
    """Write what a fact says of datasets."""
    match fact.event:
        case Applied() as applied:
            _declare(connection, fact, applied)
        case Committed() as committed:
            _add_version(connection, fact, committed)
        case _:
            pass


DERIVED = Derivation(tables=(DATASET, VERSION), derive=derive)
RECORDS: tuple[Table, ...] = ()


def _declare(connection: Connection, fact: Fact, applied: Applied) -> None:
    project = fact.subject.project
    connection.execute(delete(DATASET).where(DATASET.c.project == project))
    for spec in applied.datasets:
        connection.execute(
            insert(DATASET).values(
                project=project,
                name=spec["name"],
                spec=canonical(spec).decode(),
                declared=fact.seq,
            )
        )


def _add_version(connection: Connection, fact: Fact, event: Committed) -> None:
    project, name = fact.subject.project, fact.subject.name
    before = connection.scalar(_NEWEST_DIGEST, {"project": project, "name": name})
    token = Token.parse(event.token)
    row = {
        "project": project,
        "dataset": name,
        "version": event.version,
        "writer": token.writer,
        "number": token.number,
        "digest": event.digest,
        "version_digest": chained(before, event.digest),
        "rows": event.rows,
        "rows_total": event.rows_total,
        "quarantined": event.quarantined,
        "reasons": canonical(event.reasons).decode(),
        "delta_version": event.delta_version,
        "quarantine_delta_version": event.quarantine_delta_version,
        "event_time_min_us": to_us(event.event_time_min),
        "event_time_max_us": to_us(event.event_time_max),
        "arrival_max_us": to_us(event.arrival_max),
        "seq": fact.seq,
        "at_us": to_us(fact.at),
        "actor": fact.actor,
    }
    connection.execute(_ADD_VERSION, row)


def version_row(row: Row[Any]) -> VersionRow:
    """Read a row of the table."""
    return VersionRow(
        dataset=row.dataset,
        version=row.version,
        token=str(Token(row.writer, row.number)),
        digest=Digest(row.digest),
        version_digest=Digest(row.version_digest),
        rows=row.rows,
        rows_total=row.rows_total,
        quarantined=row.quarantined,
        reasons=msgspec.json.decode(row.reasons, type=dict[str, int]),
        delta_version=row.delta_version,
        quarantine_delta_version=row.quarantine_delta_version,
        event_time_min=_from_us(row.event_time_min_us),
        event_time_max=_from_us(row.event_time_max_us),
        arrival_max=_from_us(row.arrival_max_us),
        seq=Seq(row.seq),
        at=_EPOCH + timedelta(microseconds=row.at_us),
        actor=row.actor,
    )


def spec_of(text: str) -> Dataset:
    """Read a stored declaration."""
    return msgspec.json.decode(text, type=Dataset)


def to_us(instant: datetime | None) -> int | None:
    """Count the microseconds since 1970 UTC; no instant gives none."""
    return None if instant is None else (instant - _EPOCH) // timedelta(microseconds=1)


def _from_us(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)
