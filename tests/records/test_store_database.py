"""The records' migrations, beside the desk's in one database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import inspect

import desk.database
from desk.database import make_engine
from records.models import Base
from records.store import migrate

TABLES = {table.name for table in Base.metadata.sorted_tables}


def tables(url):
    engine = make_engine(url)
    try:
        return {name for name in inspect(engine).get_table_names() if name.startswith("record")}
    finally:
        engine.dispose()


def test_migrations_lead_up_and_down_again(empty_url):
    for _ in range(2):
        migrate(empty_url)
        migrate(empty_url)
        assert tables(empty_url) >= TABLES
        migrate(empty_url, "base")
        assert tables(empty_url) == set()


def test_models_and_migrations_agree(database_url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = make_engine(database_url)
    try:
        with engine.connect() as connection:
            # SQLite cannot reflect FTS5's own tables; they and the search index are no models.
            options = {"include_object": lambda thing, name, *_: not str(name).startswith("records_search_")}
            options["version_table"] = "alembic_version_records"
            found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
            assert found == []
            names = {key["name"] for table in TABLES for key in inspect(connection).get_foreign_keys(table)}
            declared = {
                str(key.name) for table in Base.metadata.tables.values() for key in table.foreign_key_constraints
            }
            assert names == declared
    finally:
        engine.dispose()


def test_several_may_migrate_at_once(empty_url):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [empty_url] * 4))
    assert tables(empty_url) >= TABLES


def test_desk_and_records_live_in_one_database_and_leave_each_other_alone(empty_url):
    desk.database.migrate(empty_url)
    migrate(empty_url)
    desk.database.migrate(empty_url, "base")
    assert tables(empty_url) >= TABLES
    desk.database.migrate(empty_url)
    migrate(empty_url, "base")
    engine = make_engine(empty_url)
    try:
        assert "desk_appointments" in inspect(engine).get_table_names()
    finally:
        engine.dispose()
