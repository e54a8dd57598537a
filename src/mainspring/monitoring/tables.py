"""Monitoring's tables: records, and the derived table of alarms.

Times are whole microseconds since 1970 UTC. `prediction.number` orders rows as they were compacted.
"""

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
    UniqueConstraint,
    insert,
    update,
)

from mainspring.core.events import Alarmed, AlarmEnded, Fact
from mainspring.monitoring.times import micros
from mainspring.store.ledger import Derivation

METADATA = MetaData()

SEGMENT_RANGE = Table(
    "segment_range",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("left_out", Integer, nullable=False),
    Column("torn", Integer, nullable=False),
)
PREDICTION_TABLE = Table(
    "prediction_table",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
)
PREDICTION = Table(
    "prediction",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("project", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("prediction", Text, nullable=False),
    Column("row", Integer, nullable=False),
    Column("request", Text),
    Column("repeat_of", BigInteger),
    Column("key", Text, nullable=False),
    Column("event_time_us", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("version", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("rollout", Text),
    Column("score", Float),
    Column("live_version", Text),
    Column("live_score", Float),
    Column("candidate_version", Text),
    Column("candidate_score", Float),
    Column("fallback", Integer, nullable=False),
    UniqueConstraint("project", "prediction", "row"),
    Index("prediction_by_key", "project", "endpoint", "key", "event_time_us"),
    Index("prediction_by_time", "project", "endpoint", "event_time_us"),
    Index("prediction_by_request", "project", "endpoint", "request"),
    Index("prediction_by_rollout", "project", "rollout", "event_time_us"),
)
LABEL_BATCH = Table(
    "label_batch",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("token", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("rows", Integer, nullable=False),
)
LABEL = Table(
    "label",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("project", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("prediction", Text),
    Column("row", Integer),
    Column("key", Text),
    Column("event_time_us", BigInteger),
    Column("value", Float),
    Column("void", Integer, nullable=False),
    Column("arrival_us", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("target", BigInteger),
    Index("label_by_target", "project", "endpoint", "target", "arrival_us"),
)
OUTCOME = Table(
    "outcome",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("project", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("event_time_us", BigInteger, nullable=False),
    Column("value", Float),
    Column("void", Integer, nullable=False),
    Column("arrival_us", BigInteger, nullable=False),
    Column("labels", Integer, nullable=False),
    Column("corrections", Integer, nullable=False),
    Column("eligible_us", BigInteger, nullable=False),
    Column("due_value", Float),
    Index("outcome_by_eligibility", "project", "endpoint", "eligible_us"),
    Index("outcome_by_time", "project", "endpoint", "event_time_us"),
)
READING = Table(
    "reading",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("monitor", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("start_us", BigInteger, primary_key=True, autoincrement=False),
    Column("end_us", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("value", Float),
    Column("expected", Float),
    Column("baseline", Text, nullable=False),
)
GUARD_STATE = Table(
    "guard_state",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("rollout", Text, primary_key=True),
    Column("guard", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("position_us", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("left_out", Integer, nullable=False),
    Column("state", Text, nullable=False),
)
DETECTOR_STATE = Table(
    "detector_state",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("monitor", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("position_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
)
WATERMARK = Table(
    "watermark",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("until_us", BigInteger, nullable=False),
    Column("labelled", BigInteger, nullable=False),
)
RECORDS = (
    SEGMENT_RANGE,
    PREDICTION_TABLE,
    PREDICTION,
    LABEL_BATCH,
    LABEL,
    OUTCOME,
    READING,
    GUARD_STATE,
    DETECTOR_STATE,
    WATERMARK,
)

ALARM = Table(
    "alarm",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("alarm", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("monitor", Text, nullable=False),
    Column("version", Text),
    Column("message", Text, nullable=False),
    Column("readings", Text, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("deadline_us", BigInteger, nullable=False),
    Column("cause", Text),
    Column("ended_us", BigInteger),
)


def derive(connection: Connection, fact: Fact) -> None:
    """Keep the table of alarms in step with the ledger."""
    match fact.event:
        case Alarmed() as event:
            connection.execute(
                insert(ALARM).values(
                    project=fact.subject.project,
                    alarm=event.alarm,
                    endpoint=event.endpoint,
                    monitor=event.monitor,
                    version=event.version,
                    message=event.message,
                    readings=event.readings,
                    opened_us=micros(event.opened),
                    deadline_us=micros(event.deadline),
                )
            )
        case AlarmEnded() as event:
            connection.execute(
                update(ALARM)
                .where(ALARM.c.project == fact.subject.project, ALARM.c.alarm == event.alarm)
                .values(cause=event.cause, ended_us=micros(event.at))
            )
        case _:
            pass


DERIVED = Derivation(tables=(ALARM,), derive=derive)
