"""The tables of pipelines: runs (derived), step outputs and closing reports (records).

Times are whole microseconds since 1970 UTC.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    insert,
    update,
)

from mainspring.core.clock import Instant, utc
from mainspring.core.events import Fact, RunClosed, RunOpened
from mainspring.core.ids import Digest, Id, Seq, canonical
from mainspring.pipelines.run import RunRow
from mainspring.store.ledger import Derivation

METADATA = MetaData()

RUN = Table(
    "run",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("endpoint", Text),
    Column("trigger", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("until_us", BigInteger),
    Column("as_of_us", BigInteger),
    Column("pins", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("holdout_rows", Integer, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("opened_seq", BigInteger, nullable=False),
    Column("deadline_us", BigInteger, nullable=False),
    # `open`, or the outcome it was closed with.
    Column("state", Text, nullable=False),
    Column("version", Text),
    Column("message", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("records", Text),
    Column("closed_us", BigInteger),
    Column("closed_seq", BigInteger),
    Index("run_by_endpoint", "project", "endpoint", "opened_seq"),
    Index("run_by_state", "project", "state"),
)
STEP_OUTPUT = Table(
    "step_output",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("step", Text, nullable=False),
    Column("outputs", LargeBinary, nullable=False),
    Column("run", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)
RUN_REPORT = Table(
    "run_report",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("token", Text, nullable=False),
    Column("digest", Text, nullable=False),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(at: Instant) -> int:
    """Give whole microseconds since 1970 UTC."""
    return (utc(at) - _EPOCH) // timedelta(microseconds=1)


def instant(at_us: int) -> Instant:
    """Give the instant of whole microseconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


def derive(connection: Connection, fact: Fact) -> None:
    """Keep the table of runs in step with the ledger."""
    match fact.event:
        case RunOpened() as event:
            connection.execute(insert(RUN).values(_opened(fact, event)))
        case RunClosed() as event:
            connection.execute(
                update(RUN)
                .where(RUN.c.project == fact.subject.project, RUN.c.run == event.run)
                .values(
                    state=event.outcome,
                    version=event.version,
                    message=event.message,
                    attempt=event.attempt,
                    records=event.records,
                    closed_us=micros(fact.at),
                    closed_seq=fact.seq,
                )
            )
        case _:
            pass


def _opened(fact: Fact, event: RunOpened) -> dict[str, object]:
    return {
        "project": fact.subject.project,
        "run": event.run,
        "pipeline": event.pipeline,
        "endpoint": event.endpoint,
        "trigger": event.trigger,
        "parameters": canonical(event.parameters).decode(),
        "until_us": None if event.until is None else micros(event.until),
        "as_of_us": None if event.as_of is None else micros(event.as_of),
        "pins": canonical(event.pins).decode(),
        "inputs": event.inputs,
        "holdout_rows": event.holdout_rows,
        "opened_us": micros(fact.at),
        "opened_seq": fact.seq,
        "deadline_us": micros(event.deadline),
        "state": "open",
        "message": "",
        "attempt": 0,
    }


DERIVED = Derivation(tables=(RUN,), derive=derive)
RECORDS: tuple[Table, ...] = (STEP_OUTPUT, RUN_REPORT)


def run_row(row: Row[Any]) -> RunRow:
    """Read a row of the table."""
    return RunRow(
        run=Id(row.run),
        pipeline=row.pipeline,
        endpoint=row.endpoint,
        trigger=row.trigger,
        parameters=msgspec.json.decode(row.parameters),
        until=None if row.until_us is None else instant(row.until_us),
        as_of=None if row.as_of_us is None else instant(row.as_of_us),
        pins=msgspec.json.decode(row.pins),
        inputs=Digest(row.inputs),
        holdout_rows=row.holdout_rows,
        opened=instant(row.opened_us),
        opened_seq=Seq(row.opened_seq),
        deadline=instant(row.deadline_us),
        state=row.state,
        version=row.version,
        message=row.message,
        attempt=row.attempt,
        records=None if row.records is None else Digest(row.records),
        closed=None if row.closed_us is None else instant(row.closed_us),
        closed_seq=None if row.closed_seq is None else Seq(row.closed_seq),
    )
