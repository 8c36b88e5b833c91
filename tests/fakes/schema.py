"""What must hold of the migrations of any part's tables, in a database that other parts may share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, inspect

from desk.database import make_engine


@dataclass(frozen=True)
class Schema:
    """A part's tables: its models, how its migrations are run, and how all its names begin.

    `search`: how the names of its search index begin, which is no model and which SQLite cannot reflect.
    """

    models: MetaData
    migrate: Callable[..., None]
    prefix: str
    search: str
    version_table: str

    def tables(self, url: str) -> set[str]:
        """Those that are there."""
        engine = make_engine(url)
        try:
            return {name for name in inspect(engine).get_table_names() if name.startswith(self.prefix)}
        finally:
            engine.dispose()

    def is_whole(self, url: str) -> bool:
        """Whether every model has its table."""
        return self.tables(url) >= {table.name for table in self.models.sorted_tables}

    def leads_up_and_down_again(self, url: str) -> None:
        """Asserts it, twice each way."""
        for _ in range(2):
            self.migrate(url)
            self.migrate(url)
            assert self.is_whole(url)
            self.migrate(url, "base")
            assert self.tables(url) == set()

    def several_may_migrate_at_once(self, url: str) -> None:
        """Asserts it."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.migrate, [url] * 4))
        assert self.is_whole(url)

    def agrees_with_its_models(self, url: str) -> None:
        """Asserts it: columns, indexes, and the names of foreign keys."""
        engine = make_engine(url)
        options = {
            "include_object": lambda thing, name, *_: not str(name).startswith(self.search),
            "version_table": self.version_table,
        }
        try:
            with engine.connect() as connection:
                assert compare_metadata(MigrationContext.configure(connection, opts=options), self.models) == []
                tables = self.models.sorted_tables
                names = {key["name"] for table in tables for key in inspect(connection).get_foreign_keys(table.name)}
                assert names == {str(key.name) for table in tables for key in table.foreign_key_constraints}
        finally:
            engine.dispose()
