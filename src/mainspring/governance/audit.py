"""Is the record whole? The chain of facts, and the tables against their replay."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, create_engine, select
from sqlalchemy.pool import StaticPool

from mainspring.core.ids import Seq
from mainspring.store.database import Database
from mainspring.store.ledger import Derivation, Ledger

PAGE = 1000


class AuditAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit found.

    Attributes:
        ok: Nothing was altered, dropped, reordered, inserted or cut off, and every derived table
            equals what replaying the facts gives.
        facts: Facts checked.
        tables: Derived tables compared.
        rows: Rows in them.
        findings: What is wrong, each naming the fact or table.
    """

    ok: bool
    facts: int
    tables: int
    rows: int
    findings: tuple[str, ...]


def audit(ledger: Ledger, database: Database, derivations: Sequence[Derivation]) -> AuditAnswer:
    """Check the chain, then replay it beside the tables and compare them row by row.

    Reads only; the replay goes into memory. A chain that is broken is not replayed.
    """
    report = ledger.verify()
    if not report.ok:
        return AuditAnswer(ok=False, facts=report.facts, tables=0, rows=0, findings=report.findings)
    tables = [table for derivation in derivations for table in derivation.tables]
    memory = create_engine("sqlite://", poolclass=StaticPool)
    rows, findings = 0, []
    with memory.connect() as replayed, database.read() as stored:
        for table in tables:
            table.create(replayed)
        _replay(ledger, derivations, replayed)
        for table in tables:
            expected, found = _rows(replayed, table), _rows(stored, table)
            rows += len(found)
            if expected != found:
                differ = len(set(expected) ^ set(found))
                findings.append(
                    f"table {table.name}: {differ} rows differ from what replaying the ledger gives"
                )
    memory.dispose()
    return AuditAnswer(
        ok=not findings,
        facts=report.facts,
        tables=len(tables),
        rows=rows,
        findings=tuple(findings),
    )


def _replay(ledger: Ledger, derivations: Sequence[Derivation], connection: Connection) -> None:
    after = Seq(0)
    while facts := ledger.facts(after=after, limit=PAGE):
        for fact in facts:
            for derivation in derivations:
                derivation.derive(connection, fact)
        after = facts[-1].seq


def _rows(connection: Connection, table: Table) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
