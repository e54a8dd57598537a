"""Tracking's tables, all of them records.

Times are whole microseconds since 1970 UTC.
"""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text

METADATA = MetaData()

RUN_RECORD = Table(
    "run_record",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("experiment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("deleted_us", BigInteger),
    Index("run_record_by_experiment", "project", "experiment", "started_us"),
)
PARAM = Table(
    "param",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
# SQLite turns a NaN into NULL, so that it is a NaN stands beside the value.
METRIC = Table(
    "metric",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("project", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("value", Float, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Index("metric_by_run", "project", "run", "key", "step", "at_us"),
)
TAG = Table(
    "tag",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
ARTIFACT = Table(
    "artifact",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
)

RECORDS: tuple[Table, ...] = (RUN_RECORD, PARAM, METRIC, TAG, ARTIFACT)
