"""Alembic's environment for the desk's tables. `desk.database.migrate` runs it and passes the open connection.

A migration is written by hand, ``versions/NNNN_what_it_does.py``; tests/desk/test_desk_database.py compares the outcome
with the models and names every difference. The desk keeps its own version table, because the call records may live in
the same database with theirs.
"""

from __future__ import annotations

from alembic import context

from desk.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    # Migrations name keys and constraints by the models' convention.
    target_metadata=Base.metadata,
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,
)
context.run_migrations()
