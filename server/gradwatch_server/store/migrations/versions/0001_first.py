"""The first version of the tables."""

from alembic import op
from sqlalchemy import insert

from gradwatch_server.store.schema import metadata
from gradwatch_server.store.tables import counters

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates everything."""
    metadata.create_all(op.get_bind())
    op.get_bind().execute(insert(counters).values(name="revision", value=0))
