"""Run by Alembic. The connection comes from :func:`gradwatch_server.store.schema.open_database`."""

from alembic import context

from gradwatch_server.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
