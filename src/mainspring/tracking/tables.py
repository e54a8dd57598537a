"""Tracking's tables, all of them records.

Times are whole milliseconds since 1970 UTC, as clients count them. An owner is the id of an
experiment (decimal), of a run, a logged model (`m-`) or a trace (`tr-`): no two kinds share an id.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    literal_column,
)

METADATA = MetaData()
HEAD_LENGTH = 100
"""Characters of a text that its index has: no database has room for all of a long one."""


def head_of(text: Any) -> ColumnElement[str]:
    """Give the beginning of a text, as the indexes of parameters and tags have it."""
    # Written out: an index is taken only where the same expression stands in the question.
    return func.substr(text, literal_column("1"), literal_column(str(HEAD_LENGTH)))


EXPERIMENT = Table(
    "experiment",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("experiment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("deleted_ms", BigInteger),
    Index("experiment_by_name", "project", "name", unique=True),
    Index("experiment_by_id", "project", "experiment", unique=True),
)
RUN_RECORD = Table(
    "run_record",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("experiment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("managed", Boolean, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("deleted_ms", BigInteger),
    Index("run_record_by_experiment", "project", "experiment", "started_ms"),
    Index("run_record_by_start", "project", "started_ms"),
    Index("run_record_by_name", "project", "name"),
)
PARAM = Table(
    "param",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
Index("param_by_head", PARAM.c.project, PARAM.c.key, head_of(PARAM.c.value), PARAM.c.owner)
TAG = Table(
    "tag",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
Index("tag_by_head", TAG.c.project, TAG.c.key, head_of(TAG.c.value), TAG.c.owner)
# A series and its last point in one row, so that ordering runs by a metric reads one index.
# SQLite turns a NaN into NULL, so that it is a NaN stands beside the value.
METRIC = Table(
    "metric",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("project", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Column("value", Float, nullable=False),
    Index("metric_by_run", "project", "run", "key", unique=True),
    Index("metric_by_value", "project", "key", "value"),
)
METRIC_POINT = Table(
    "metric_point",
    METADATA,
    Column("series", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("is_nan", Boolean, primary_key=True),
    Column("value", Float, primary_key=True),
)
# Batches as they came, until they are put into their series.
METRIC_WAITING = Table(
    "metric_waiting",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("project", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("metric_waiting_by_run", "project", "run"),
)
# How far a client's spool was replayed.
SPOOL = Table(
    "spool",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("spool", Text, primary_key=True),
    Column("next", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)
DATASET_RECORD = Table(
    "dataset_record",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("experiment", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("source_type", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("schema", Text),
    Column("profile", Text),
)
RUN_DATASET = Table(
    "run_dataset",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("experiment", Text, nullable=False),
    Column("context", Text),
    Column("tags", LargeBinary, nullable=False),
    Index("run_dataset_by_name", "project", "name", "digest"),
)
LOGGED_MODEL = Table(
    "logged_model",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("experiment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("kind", Text),
    Column("run", Text),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("deleted_ms", BigInteger),
    Index("logged_model_by_experiment", "project", "experiment", "created_ms"),
)
MODEL_METRIC = Table(
    "model_metric",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("dataset_name", Text, primary_key=True),
    Column("dataset_digest", Text, primary_key=True),
    Column("value", Float, nullable=False),
    Column("is_nan", Boolean, nullable=False),
)
MODEL_LINK = Table(
    "model_link",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("direction", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("step", BigInteger, nullable=False),
)
TRACE = Table(
    "trace",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("trace", Text, primary_key=True),
    Column("experiment", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("took_ms", BigInteger),
    Column("client_request", Text),
    Index("trace_by_experiment", "project", "experiment", "at_ms"),
)
# The body is a span as it is answered, and what its text is searched in.
SPAN = Table(
    "span",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("trace", Text, primary_key=True),
    Column("span", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("span_by_name", "project", "name"),
)
# The body is what the client told; the columns are what is searched by.
ASSESSMENT = Table(
    "assessment",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("trace", Text, primary_key=True),
    Column("assessment", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("number", Float),
    Column("valid", Boolean, nullable=False),
    Column("overrides", Text),
    Column("body", LargeBinary, nullable=False),
    Index("assessment_by_name", "project", "kind", "name"),
)
TRACE_RUN = Table(
    "trace_run",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("trace", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Index("trace_run_by_run", "project", "run"),
)
# Questions with what is expected of their answers; tags lie with all tags.
QUESTION_SET = Table(
    "question_set",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("question_set", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("question_set_by_name", "project", "name"),
)
QUESTION_SET_EXPERIMENT = Table(
    "question_set_experiment",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("question_set", Text, primary_key=True),
    Column("experiment", Text, primary_key=True),
    Index("question_set_by_experiment", "project", "experiment"),
)
QUESTION = Table(
    "question",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("question_set", Text, primary_key=True),
    Column("question", Text, primary_key=True),
    Column("inputs", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("question_by_inputs", "project", "question_set", "inputs", unique=True),
)
SCORER = Table(
    "scorer",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("experiment", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("scorer", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)
ARTIFACT = Table(
    "artifact",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("folder", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Index("artifact_by_folder", "project", "owner", "folder"),
    Index("artifact_by_digest", "project", "digest"),
)

RECORDS: tuple[Table, ...] = (
    EXPERIMENT,
    RUN_RECORD,
    PARAM,
    TAG,
    METRIC,
    METRIC_POINT,
    METRIC_WAITING,
    SPOOL,
    DATASET_RECORD,
    RUN_DATASET,
    LOGGED_MODEL,
    MODEL_METRIC,
    MODEL_LINK,
    TRACE,
    ASSESSMENT,
    TRACE_RUN,
    SPAN,
    QUESTION_SET,
    QUESTION_SET_EXPERIMENT,
    QUESTION,
    SCORER,
    ARTIFACT,
)
