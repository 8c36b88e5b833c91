"""The records' migrations, beside the desk's in one database."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.schema import Schema
from sqlalchemy import inspect, select

import desk.database
from bot.errors import ConfigurationError
from desk.database import make_engine, open_database, revision
from records.inbox import Tape
from records.job_log import JobLog
from records.models import Base, TapeRow
from records.store import RECORDS, Store, migrate

SCHEMA = Schema(Base.metadata, migrate, "record", "records_search_", "alembic_version_records")


def test_migrations_lead_up_and_down_again(empty_url):
    SCHEMA.leads_up_and_down_again(empty_url)


def test_one_step_down_and_up_again_keeps_the_rows(empty_url, clock, make_record):
    migrate(empty_url)
    database = open_database(empty_url)
    store, log = Store(empty_url, clock), JobLog(database, clock)
    for number, caller in enumerate(("+12125550101", "+12125550102")):
        assert log.claim(f"CA{number}", Tape(Path(), f"CA{number}", f"sha{number}", 5, caller), ["archive", "derive"])
    record = make_record("CA0")
    store.save(record)
    store.audit("ana", "listened", "CA0")

    def numbers():
        with database.reading() as session:
            return session.execute(select(TapeRow.call_id, TapeRow.from_number).order_by(TapeRow.call_id)).all()

    assert numbers() == [("CA0", "+12125550101"), ("CA1", "+12125550102")]
    *_, before, newest = sorted(path.name[:4] for path in (RECORDS.migrations / "versions").glob("0*.py"))
    for to in (before, "0001", newest):
        migrate(empty_url, to)
        assert revision(empty_url, RECORDS) == to
        assert store.call("CA0") == record
        assert len(store.audit_log().items) == 1
        if to == before:
            assert log.steps("CA1") == {"archive": "pending", "derive": "pending"}
            assert "records_sweeps" not in SCHEMA.tables(empty_url)
            migrate(empty_url)
            assert numbers() == [("CA0", "+12125550101"), ("CA1", "")], "known from the record, where there is one"
            migrate(empty_url, before)
    assert log.call_ids() == []
    store.close()
    database.close()


def test_a_revision_that_is_not_there_is_named(empty_url):
    with pytest.raises(ConfigurationError, match="no revision 0815"):
        migrate(empty_url, "0815")
    migrate(empty_url)
    engine = make_engine(empty_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version_records SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(ConfigurationError, match=r"at revision 9999.*records migrate --to 0"):
        migrate(empty_url)


def test_models_and_migrations_agree(database_url):
    SCHEMA.agrees_with_its_models(database_url)


def test_several_may_migrate_at_once(empty_url):
    SCHEMA.several_may_migrate_at_once(empty_url)


def test_desk_and_records_live_in_one_database_and_leave_each_other_alone(empty_url):
    desk.database.migrate(empty_url)
    migrate(empty_url)
    desk.database.migrate(empty_url, "base")
    assert SCHEMA.is_whole(empty_url)
    desk.database.migrate(empty_url)
    migrate(empty_url, "base")
    engine = make_engine(empty_url)
    try:
        assert "desk_appointments" in inspect(engine).get_table_names()
    finally:
        engine.dispose()
