"""Alembic's environment for the records' tables. `records.store.migrate` runs it and passes the open connection.

A migration is written by hand, ``versions/NNNN_what_it_does.py``; tests/records/test_store_database.py compares the
outcome with the models and names every difference.
"""

from __future__ import annotations

from alembic import context

from records.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,
)
context.run_migrations()
