"""Indexes by which searches among many runs read in order."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_HEAD = "substr(value, 1, 100)"


def upgrade() -> None:
    """Replace the indexes by key, and add those by start and by name."""
    for table in ("param", "tag"):
        op.drop_index(f"{table}_by_key", table_name=table)
        op.create_index(
            f"{table}_by_head", table, ["project", "key", sa.text(_HEAD), "owner"], unique=False
        )
    op.create_index("run_record_by_start", "run_record", ["project", "started_ms"], unique=False)
    op.create_index("run_record_by_name", "run_record", ["project", "name"], unique=False)
