"""The ledger: facts in one chain, and the tables derived from them, in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Table, delete, insert, select

from mainspring.core.clock import Clock
from mainspring.core.errors import Corrupt, InvalidInput, NotFound, StaleSubject
from mainspring.core.events import AnyEvent, Fact
from mainspring.core.ids import NO_FACT, Digest, IdSource, Seq, Subject, canonical, checked_name
from mainspring.store.chain import (
    LEDGER,
    Sealed,
    findings_of,
    newest_seq,
    read_chain,
    sealed_of,
    text_of,
)
from mainspring.store.database import Database
from mainspring.store.head import GENESIS, Head, HeadFile

# Built once: making a statement costs more than running it.
_TAIL = select(LEDGER.c.seq, LEDGER.c.hash).order_by(LEDGER.c.seq.desc()).limit(1)
_ADD = insert(LEDGER)


@dataclass(frozen=True, slots=True)
class Draft:
    """A fact to be: what the caller knows before the ledger gives it its place."""

    subject: Subject
    event: AnyEvent
    expect: Seq | None = None
    """Number of the subject's newest fact when the caller decided; 0 for none; null to not ask."""
    cause: Seq | None = None


@dataclass(frozen=True, slots=True)
class Derivation:
    """One room's derived tables and the function that writes them from facts.

    `derive` sees every fact once, in order, inside the fact's own transaction. It uses neither
    clock nor randomness nor another room's tables, so that replay gives equal tables. Raise
    `revision` when it changes what it writes, so that its tables are replayed.
    """

    tables: tuple[Table, ...]
    derive: Callable[[Connection, Fact], None]
    revision: int = 1


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a check of the whole chain found."""

    ok: bool
    facts: int
    findings: tuple[str, ...]


def _nobody(_connection: Connection, _fact: Fact) -> None:
    """Nobody watches."""


class Ledger:
    """Facts, appended one after the other, each with the hash of the one before. Thread-safe.

    `watch` sees each fact once, in the write that appends it; a replay does not show it again.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        ids: IdSource,
        derivations: Sequence[Derivation],
        head: Path | None,
        watch: Callable[[Connection, Fact], None] = _nobody,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._head = HeadFile(head)
        self._watch = watch
        self.derivations = tuple(derivations)

    def append(
        self,
        subject: Subject,
        event: AnyEvent,
        *,
        actor: str,
        expect: Seq | None = None,
        cause: Seq | None = None,
    ) -> Fact:
        """Commit one fact and what derives from it; see `append_all`."""
        return self.append_all([Draft(subject, event, expect, cause)], actor=actor)[0]

    def append_all(
        self,
        drafts: Sequence[Draft],
        *,
        actor: str,
        also: Callable[[Connection], None] | None = None,
    ) -> tuple[Fact, ...]:
        """Commit facts and all tables derived from them in one transaction, or nothing.

        Durable on return. A later draft without a cause has the first fact of the batch as its
        cause.

        Args:
            also: Runs first in the same transaction: record tables, token checks. When it raises,
                nothing is written and its exception comes out here.

        Raises:
            StaleSubject: A subject has moved on since the caller read it.
            Corrupt: The ledger ends before the newest fact this home has acknowledged.
        """

        _check_names(drafts, actor)

        def work(connection: Connection) -> tuple[Fact, ...]:
            if also is not None:
                also(connection)
            return self._append(connection, drafts, actor)

        facts = self._database.write(work)
        if facts:
            self._head.advance(Head(facts[-1].seq, facts[-1].hash))
        return facts

    def newest(self, subject: Subject) -> Seq:
        """Give the number of a subject's newest fact, 0 if there is none: for `expect`."""
        with self._database.read() as connection:
            return newest_seq(connection, subject)

    def fact(self, seq: Seq) -> Fact:
        """Give one fact by its number."""
        with self._database.read() as connection:
            row = connection.execute(select(LEDGER).where(LEDGER.c.seq == seq)).first()
        if row is None:
            raise NotFound(f"fact {seq} does not exist; `facts` lists what there is")
        return sealed_of(row).fact()

    def facts(
        self,
        *,
        after: Seq = NO_FACT,
        before: Seq | None = None,
        project: str | None = None,
        kind: str | None = None,
        name: str | None = None,
        events: Sequence[str] | None = None,
        limit: int = 1000,
        newest_first: bool = False,
    ) -> list[Fact]:
        """List facts in order of their number.

        Args:
            after: Only facts with a larger number; `before`: with a smaller one.
            kind: Of the subject; `name` likewise.
            events: Class names of events, such as "Promoted".
        """
        query = select(LEDGER).where(LEDGER.c.seq > after).limit(limit)
        if before is not None:
            query = query.where(LEDGER.c.seq < before)
        wanted = {"project": project, "subject_kind": kind, "subject_name": name}
        for column, value in wanted.items():
            if value is not None:
                query = query.where(LEDGER.c[column] == value)
        if events is not None:
            query = query.where(LEDGER.c.event.in_(events))
        order = LEDGER.c.seq.desc() if newest_first else LEDGER.c.seq.asc()
        with self._database.read() as connection:
            return [sealed_of(row).fact() for row in connection.execute(query.order_by(order))]

    def rebuild(self) -> None:
        """Empty the derived tables and replay every fact into them, in one transaction."""
        self._database.write(lambda connection: self.replay(connection, self.derivations))

    def replay(self, connection: Connection, derivations: Sequence[Derivation]) -> None:
        """Empty the tables of some derivations and replay all facts into them, inside a write."""
        for derivation in reversed(derivations):
            for table in reversed(derivation.tables):
                connection.execute(delete(table))
        for sealed in read_chain(connection):
            fact = sealed.fact()
            for derivation in derivations:
                derivation.derive(connection, fact)

    def verify(self) -> AuditReport:
        """Recompute the whole chain; a finding names the fact at which it breaks."""
        head, findings = self._head.read()
        facts, last, before = 0, NO_FACT, GENESIS
        with self._database.read() as connection:
            for sealed in read_chain(connection):
                facts += 1
                findings += findings_of(sealed, Seq(last + 1), before)
                if head is not None and sealed.seq == head.seq and sealed.hash != head.hash:
                    findings.append(f"fact {head.seq}: its hash is not the one the head file holds")
                last, before = sealed.seq, sealed.hash
        if head is None and facts and not findings and self._head.path is not None:
            findings.append(f"head file {self._head.path.name} is missing beside {facts} facts")
        if head is not None and last < head.seq:
            findings.append(f"facts {last + 1} to {head.seq} are missing: the ledger was cut off")
        return AuditReport(not findings, facts, tuple(findings))

    def _append(
        self, connection: Connection, drafts: Sequence[Draft], actor: str
    ) -> tuple[Fact, ...]:
        tail = self._tail(connection)
        facts: list[Fact] = []
        for draft in drafts:
            _check_expected(connection, draft)
            cause = draft.cause if draft.cause is not None or not facts else facts[0].seq
            sealed = self._seal(draft, actor, tail, cause)
            fact = _readable(draft, sealed)
            connection.execute(_ADD, msgspec.structs.asdict(sealed))
            for derivation in self.derivations:
                derivation.derive(connection, fact)
            self._watch(connection, fact)
            facts.append(fact)
            tail = Head(fact.seq, fact.hash)
        return tuple(facts)

    def _tail(self, connection: Connection) -> Head:
        """Read the chain's end where it is rolled back with everything else: in the table."""
        row = connection.execute(_TAIL).first()
        tail = Head(NO_FACT, GENESIS) if row is None else Head(Seq(row.seq), Digest(row.hash))
        self._head.check(tail)
        return tail

    def _seal(self, draft: Draft, actor: str, tail: Head, cause: Seq | None) -> Sealed:
        sealed = Sealed(
            seq=Seq(tail.seq + 1),
            id=self._ids.new(),
            at=text_of(self._clock.now()),
            project=draft.subject.project,
            subject_kind=draft.subject.kind,
            subject_name=draft.subject.name,
            event=type(draft.event).__name__,
            body=_body(draft),
            actor=actor,
            cause=cause,
            before=tail.hash,
        )
        return msgspec.structs.replace(sealed, hash=sealed.digest())


def _body(draft: Draft) -> str:
    try:
        return canonical(draft.event).decode("utf-8")
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{draft.subject}: {type(draft.event).__name__} holds a value that cannot be written "
            f"({error}); correct it"
        ) from error


def _readable(draft: Draft, sealed: Sealed) -> Fact:
    """Decode what will be stored, so that deriving now and at replay see the same values."""
    try:
        return sealed.fact()
    except Corrupt as error:
        raise InvalidInput(
            f"{draft.subject}: {sealed.event} cannot be recorded ({error.__cause__}); correct it"
        ) from error


def _check_expected(connection: Connection, draft: Draft) -> None:
    if draft.expect is None:
        return
    found = newest_seq(connection, draft.subject)
    if found != draft.expect:
        raise StaleSubject(
            f"{draft.subject}: found seq {found}, expected {draft.expect}; read it again"
        )


def _check_names(drafts: Sequence[Draft], actor: str) -> None:
    checked_name(actor, what="actor")
    for draft in drafts:
        checked_name(draft.subject.project, what="project")
        checked_name(draft.subject.kind, what="subject kind")
        checked_name(draft.subject.name, what="subject")
