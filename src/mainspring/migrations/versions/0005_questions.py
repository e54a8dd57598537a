"""Sets of questions for evaluations, and scorers."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "question_set",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("question_set", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "question_set"),
    )
    op.create_index("question_set_by_name", "question_set", ["project", "name"], unique=False)
    op.create_table(
        "question_set_experiment",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("question_set", sa.Text(), nullable=False),
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project", "question_set", "experiment"),
    )
    op.create_index(
        "question_set_by_experiment",
        "question_set_experiment",
        ["project", "experiment"],
        unique=False,
    )
    op.create_table(
        "question",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("question_set", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project", "question_set", "question"),
    )
    op.create_index(
        "question_by_inputs", "question", ["project", "question_set", "inputs"], unique=True
    )
    op.create_table(
        "scorer",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("scorer", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "experiment", "name", "version"),
    )
