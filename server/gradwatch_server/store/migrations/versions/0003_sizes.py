"""What runs weigh, and how far their exact values were thinned."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds both, and counts what is there."""
    op.create_table(
        "run_sizes",
        sa.Column("run_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("exact", sa.BigInteger(), nullable=False),
        sa.Column("buckets", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_no", name="pk_run_sizes"),
    )
    op.create_table(
        "thinned",
        sa.Column("run_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("series", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("before", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_no", "series", "segment", name="pk_thinned"),
    )
    op.execute(
        "INSERT INTO run_sizes (run_no, exact, buckets) SELECT run_no, "
        "SUM(CASE WHEN level = 0 THEN length(body) ELSE 0 END), SUM(CASE WHEN level = 0 THEN 0 ELSE length(body) END) "
        "FROM blocks WHERE run_no IN (SELECT no FROM runs) GROUP BY run_no"
    )
