"""Alembic's environment: runs the revisions over the connection storage/database.py hands it, in its transaction."""

from alembic import context

from sparring.storage.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, transactional_ddl=False
)
context.run_migrations()
