"""Alembic revisions of the schema; run by storage/database.py, never by hand."""
