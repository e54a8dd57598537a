"""The tables of what is sent: subscriptions, and what waits to be delivered. All of it records."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

METADATA = MetaData()

WEBHOOK = Table(
    "webhook",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("webhook", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("topics", Text, nullable=False),
    Column("status", Text, nullable=False),
    # It signs what is sent, so it cannot be kept as a digest; it is never answered.
    Column("secret", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("webhook_by_time", "project", "created_ms"),
)
DELIVERY = Table(
    "delivery",
    METADATA,
    Column("delivery", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("webhook", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("problem", Text, nullable=False),
    Index("delivery_due", "state", "due_ms"),
    Index("delivery_by_webhook", "project", "webhook"),
)

RECORDS: tuple[Table, ...] = (WEBHOOK, DELIVERY)
