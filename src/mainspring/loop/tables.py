"""The loop's tables: all derived, so that state is what replaying the ledger gives.

Times are whole microseconds since 1970 UTC, because SQLite has no instant of its own.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    update,
)

from mainspring.core.events import (
    Applied,
    ApprovalAsked,
    Approved,
    Fact,
    Judged,
    Promoted,
    Registered,
    Rejected,
    RolledBack,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutStarted,
    VerdictLapsed,
)
from mainspring.core.ids import canonical
from mainspring.store.ledger import Derivation

METADATA = MetaData()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ENDPOINT = Table(
    "endpoint",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("spec", Text, nullable=False),
    Column("declared", BigInteger, nullable=False),
)
LIVE = Table(
    "live",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("project", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("rollout", Text),
    Index("live_by_endpoint", "project", "endpoint", "seq"),
)
CANDIDATE = Table(
    "candidate",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("manifest", Text, nullable=False),
    Column("registered", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("verdict", Text),
    Column("approval", Text, nullable=False),
    Column("approval_deadline_us", BigInteger),
)
VERDICT = Table(
    "verdict",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("project", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("candidate", Text, nullable=False),
    Column("champion", Text),
    Column("outcome", Text, nullable=False),
    Column("better", Text),
    Column("reason", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("planning_sd", Float),
    Column("evidence", Text, nullable=False),
    Column("judged_us", BigInteger, nullable=False),
    Column("deadline_us", BigInteger),
    Index("verdict_by_endpoint", "project", "endpoint", "seq"),
)
ROLLOUT = Table(
    "rollout",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("project", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("candidate", Text, nullable=False),
    Column("live", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("stepped_us", BigInteger, nullable=False),
    Column("deadline_us", BigInteger, nullable=False),
    Column("reason", Text),
    Index("rollout_by_endpoint", "project", "endpoint", "seq"),
)
LOOP_ERROR = Table(
    "loop_error",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("step", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("times", Integer, nullable=False),
)


def to_us(instant: datetime) -> int:
    """Count microseconds since 1970 UTC, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """Read microseconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def derive(connection: Connection, fact: Fact) -> None:
    """Bring the loop's tables to the state after a fact."""
    project, event = fact.subject.project, fact.event
    match event:
        case Applied():
            _apply(connection, project, fact.seq, event)
        case Registered(until=datetime()):
            _add_candidate(connection, project, fact.seq, event)
        case Judged():
            _judge(connection, project, fact.seq, event)
        case VerdictLapsed():
            _fate(connection, project, event.endpoint, event.candidate, state="lapsed")
        case ApprovalAsked():
            _fate(
                connection,
                project,
                event.endpoint,
                event.candidate,
                approval="asked",
                approval_deadline_us=to_us(event.deadline),
            )
        case Approved():
            _fate(connection, project, event.endpoint, event.candidate, approval="approved")
        case Rejected():
            _fate(connection, project, event.endpoint, event.candidate, state="rejected")
        case RolloutStarted() | RolloutAdvanced() | RolloutCompleted() | RolledBack():
            _roll(connection, project, fact.seq, event)
        case Promoted():
            _promote(connection, project, fact.seq, event)
        case _:
            pass


def _apply(connection: Connection, project: str, seq: int, event: Applied) -> None:
    connection.execute(ENDPOINT.delete().where(ENDPOINT.c.project == project))
    for spec in event.endpoints:
        connection.execute(
            insert(ENDPOINT).values(
                project=project, name=spec["name"], spec=canonical(spec).decode(), declared=seq
            )
        )


def _add_candidate(connection: Connection, project: str, seq: int, event: Registered) -> None:
    assert event.until is not None
    connection.execute(
        insert(CANDIDATE).values(
            project=project,
            endpoint=event.model,
            version=event.version,
            manifest=event.manifest,
            registered=seq,
            until_us=to_us(event.until),
            state="refused" if event.opaque else "open",
            approval="none",
        )
    )


def _judge(connection: Connection, project: str, seq: int, event: Judged) -> None:
    connection.execute(
        insert(VERDICT).values(
            id=event.verdict,
            seq=seq,
            project=project,
            endpoint=event.endpoint,
            candidate=event.candidate,
            champion=event.champion,
            outcome=event.outcome,
            better=event.better,
            reason=event.reason,
            rows=event.rows,
            planning_sd=event.planning_sd,
            evidence=event.evidence,
            judged_us=to_us(event.slice_end),
            deadline_us=None if event.deadline is None else to_us(event.deadline),
        )
    )
    state = "failed" if event.outcome == "fail" else "open"
    _fate(
        connection,
        project,
        event.endpoint,
        event.candidate,
        state=state,
        verdict=event.verdict,
        approval="none",
    )


def _roll(
    connection: Connection,
    project: str,
    seq: int,
    event: RolloutStarted | RolloutAdvanced | RolloutCompleted | RolledBack,
) -> None:
    match event:
        case RolloutStarted():
            _start(connection, project, seq, event)
            if event.kind == "canary":
                _fate(connection, project, event.endpoint, event.candidate, state="rollout")
        case RolloutAdvanced():
            values = {"step": event.step, "share": event.share, "stepped_us": to_us(event.at)}
            _change(connection, event.rollout, **values)
        case RolloutCompleted():
            _change(connection, event.rollout, state="completed", reason=event.reason)
        case RolledBack():
            _change(connection, event.rollout, state="rolled_back", reason=event.reason)
            in_rollout = CANDIDATE.c.state == "rollout"
            _fate(
                connection,
                project,
                event.endpoint,
                event.candidate,
                in_rollout,
                state="rolled_back",
            )


def _start(connection: Connection, project: str, seq: int, event: RolloutStarted) -> None:
    connection.execute(
        insert(ROLLOUT).values(
            id=event.rollout,
            seq=seq,
            project=project,
            endpoint=event.endpoint,
            candidate=event.candidate,
            live=event.live,
            verdict=event.verdict,
            kind=event.kind,
            state="open",
            step=0,
            share=event.share,
            started_us=to_us(event.started),
            stepped_us=to_us(event.started),
            deadline_us=to_us(event.deadline),
        )
    )


def _promote(connection: Connection, project: str, seq: int, event: Promoted) -> None:
    connection.execute(
        insert(LIVE).values(
            seq=seq,
            project=project,
            endpoint=event.endpoint,
            version=event.version,
            manifest=event.manifest,
            kind=event.kind,
            since_us=to_us(event.at),
            verdict=event.verdict,
            rollout=event.rollout,
        )
    )
    _fate(connection, project, event.endpoint, event.version, state="promoted")


def _fate(
    connection: Connection,
    project: str,
    endpoint: str,
    version: str,
    *conditions: Any,
    **values: Any,
) -> None:
    c = CANDIDATE.c
    chosen = update(CANDIDATE).where(
        c.project == project, c.endpoint == endpoint, c.version == version, *conditions
    )
    connection.execute(chosen.values(**values))


def _change(connection: Connection, rollout: str, **values: Any) -> None:
    connection.execute(update(ROLLOUT).where(ROLLOUT.c.id == rollout).values(**values))


DERIVED = Derivation(tables=(ENDPOINT, LIVE, CANDIDATE, VERDICT, ROLLOUT), derive=derive)
RECORDS = (LOOP_ERROR,)
