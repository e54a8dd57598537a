"""The chain as it is stored: the ledger's table, one row's texts and their hash."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    func,
    select,
)

from mainspring.core.clock import Instant, utc
from mainspring.core.errors import Corrupt
from mainspring.core.events import AnyEvent, Fact
from mainspring.core.ids import NO_FACT, Digest, Id, Seq, Subject, canonical, digest_bytes
from mainspring.store.head import GENESIS

METADATA = MetaData()

LEDGER = Table(
    "ledger",
    METADATA,
    # INTEGER, because only that becomes SQLite's row number; 2**31 facts are enough elsewhere.
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False, unique=True),
    Column("at", String(40), nullable=False),
    Column("project", String(128), nullable=False),
    Column("subject_kind", String(128), nullable=False),
    Column("subject_name", String(128), nullable=False),
    Column("event", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("cause", BigInteger),
    Column("before", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Index("ledger_by_subject", "project", "subject_kind", "subject_name", "seq"),
)
RECORDS: tuple[Table, ...] = (LEDGER,)

_CHUNK = 500


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A fact as its row holds it: the texts over which the hash goes.

    The stored text of the event is hashed and not the decoded event, so that a field added later
    with a default does not change the hash of facts written before it.
    """

    seq: Seq
    id: Id
    at: str
    project: str
    subject_kind: str
    subject_name: str
    event: str
    body: str
    actor: str
    cause: Seq | None
    before: Digest
    hash: Digest = GENESIS

    def digest(self) -> Digest:
        """Compute the hash that the row must have."""
        subject = Subject(self.project, self.subject_kind, self.subject_name)
        fields = {
            "seq": self.seq,
            "id": self.id,
            "at": self.at,
            "actor": self.actor,
            "subject": subject,
            "event": msgspec.Raw(self.body.encode("utf-8")),
            "cause": self.cause,
        }
        return digest_bytes(self.before.encode("utf-8") + canonical(fields))

    def fact(self) -> Fact:
        """Decode the fact; raises Corrupt naming its number when the texts are no fact."""
        try:
            event = _events.decode(self.body)
            at = msgspec.convert(self.at, datetime)
        except msgspec.MsgspecError as error:
            raise Corrupt(
                f"fact {self.seq}: its body is no known event ({error}); was it written by a newer "
                "version, or altered? `mainspring audit verify` tells"
            ) from error
        return Fact(
            seq=self.seq,
            id=self.id,
            at=at,
            actor=self.actor,
            subject=Subject(self.project, self.subject_kind, self.subject_name),
            event=event,
            cause=self.cause,
            before=self.before,
            hash=self.hash,
        )


def findings_of(sealed: Sealed, expected: Seq, before: Digest) -> Iterator[str]:
    """Say what is wrong with a row, given the number and hash that must precede it."""
    if sealed.seq != expected:
        yield f"facts {expected} to {sealed.seq - 1} are missing"
    elif sealed.before != before:
        yield f"fact {sealed.seq}: it does not follow fact {sealed.seq - 1}, hash before differs"
    if sealed.digest() != sealed.hash:
        yield f"fact {sealed.seq}: its content does not have its hash, it was altered or moved"
    try:
        found = type(sealed.fact().event).__name__
    except Corrupt as error:
        yield str(error)
    else:
        if found != sealed.event:
            yield f"fact {sealed.seq}: column event says {sealed.event}, its body says {found}"


def read_chain(connection: Connection) -> Iterator[Sealed]:
    """Read the whole ledger in order, a chunk at a time so that the caller may write between."""
    last = NO_FACT
    while True:
        chunk = select(LEDGER).where(LEDGER.c.seq > last).order_by(LEDGER.c.seq)
        rows = connection.execute(chunk.limit(_CHUNK)).all()
        if not rows:
            return
        yield from map(sealed_of, rows)
        last = Seq(rows[-1].seq)


def sealed_of(row: Row[Any]) -> Sealed:
    """Take a row of the ledger's table as it is."""
    return Sealed(**row._mapping)


def newest_seq(connection: Connection, subject: Subject) -> Seq:
    """Give the number of a subject's newest fact, 0 if there is none."""
    query = select(func.max(LEDGER.c.seq)).where(
        LEDGER.c.project == subject.project,
        LEDGER.c.subject_kind == subject.kind,
        LEDGER.c.subject_name == subject.name,
    )
    return Seq(connection.execute(query).scalar() or NO_FACT)


def text_of(at: Instant) -> str:
    """Write an instant as facts hold it."""
    encoded: str = msgspec.to_builtins(utc(at))
    return encoded


_events: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
