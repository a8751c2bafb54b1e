"""People may say that an incident is not a problem."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds what they say."""
    op.create_table(
        "dismissals",
        sa.Column("run_id", sa.String(512), nullable=False),
        sa.Column("incident", sa.String(64), nullable=False),
        sa.Column("who", sa.String(128), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "incident", name="pk_dismissals"),
    )
