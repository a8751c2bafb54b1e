"""Who started a run."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds it; NULL for runs from before."""
    op.add_column("runs", sa.Column("who", sa.String(64), nullable=True))
