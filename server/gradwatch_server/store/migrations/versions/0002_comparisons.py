"""A share link may show several runs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the further runs of a link."""
    op.add_column("shares", sa.Column("others", sa.Text(), nullable=False, server_default="[]"))
