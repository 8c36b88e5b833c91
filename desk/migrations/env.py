"""Alembic's environment for the desk's tables. `desk.database.migrate` runs it and passes the open connection.

The desk keeps its own version table, because the call records may live in the same database with their own.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy.schema import SchemaItem

from desk.models import Base


def ours(item: SchemaItem, name: str | None, kind: str, _reflected: bool, _compared: SchemaItem | None) -> bool:
    """Whether autogenerate should compare a thing: the desk's tables, but not what full text search made."""
    if kind == "table":
        return str(name).startswith("desk_") and not str(name).startswith("desk_faq_search")
    return not str(name).startswith("desk_faq_search")


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table="alembic_version_desk",
    include_object=ours,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
