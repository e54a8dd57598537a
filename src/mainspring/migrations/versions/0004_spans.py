"""Spans of traces, how long a trace took, and what its client calls the request."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, add the columns."""
    op.add_column("trace", sa.Column("took_ms", sa.BigInteger(), nullable=True))
    op.add_column("trace", sa.Column("client_request", sa.Text(), nullable=True))
    op.add_column("assessment", sa.Column("number", sa.Float(), nullable=True))
    op.create_table(
        "span",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("span", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("start_ns", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project", "trace", "span"),
    )
    op.create_index("span_by_name", "span", ["project", "name"], unique=False)
