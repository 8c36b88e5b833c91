"""URLs, migrations, sharing and health."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from fakes.schema import Schema
from sqlalchemy import text

from bot.errors import ConfigurationError
from desk.database import make_engine, migrate, open_database
from desk.desk import Desk
from desk.models import Base

SCHEMA = Schema(Base.metadata, migrate, "desk_", "desk_faq_search", "alembic_version_desk")


def test_migrations_lead_up_and_down_again(empty_url):
    SCHEMA.leads_up_and_down_again(empty_url)


def test_models_and_migrations_agree(database_url):
    SCHEMA.agrees_with_its_models(database_url)


def test_several_may_migrate_at_once(empty_url):
    SCHEMA.several_may_migrate_at_once(empty_url)


def test_the_records_tables_may_live_in_the_same_database(database_url, rows):
    rows("CREATE TABLE calls (id INTEGER)")
    rows("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    migrate(database_url)
    migrate(database_url, "base")
    assert rows("SELECT count(*) FROM calls") == [(0,)]


def test_the_database_itself_refuses_what_must_not_be(database_url, desk, customer_id, rows):
    cell = "INSERT INTO desk_booked_cells VALUES ('clinic', 'ana', 1, {}, '2026-05-04 09:00:00')"
    appointment = (
        "INSERT INTO desk_appointments (business_id, customer_id, service_id, staff_id, starts_at, ends_at, status,"
        " note, cancel_reason, created_at) VALUES ('clinic', {}, 'x', 'ana', '2026-05-04 09:00:00', '{}', '{}', '', '',"
        " '2026-05-04 09:00:00')"
    )
    fine = appointment.format(customer_id, "2026-05-04 10:00:00", "booked")
    rows(fine)
    rows(cell.format(1))
    for wrong in (
        cell.format(1),
        cell.format(99).replace(", 1,", ", 2,"),
        appointment.format(999, "2026-05-04 10:00:00", "booked"),
        appointment.format(customer_id, "2026-05-04 10:00:00", "maybe"),
        appointment.format(customer_id, "2026-05-04 09:00:00", "booked"),
    ):
        with pytest.raises(Exception, match=r"(?i)constraint"):
            rows(wrong)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "not a database URL"),
        ("nonsense", "not a database URL"),
        ("mysql://root:secret@host/db", "'mysql' is not supported"),
        ("sqlite+aiosqlite:///x.db", "'sqlite.aiosqlite' is not supported"),
        ("postgresql+asyncpg://me:secret@host/db", "is not supported"),
        ("postgresql://me:secret@host", "names no database"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_a_wrong_url_is_a_configuration_error_without_its_password(url, words, clinic, clock):
    for use in (migrate, open_database, lambda url: Desk(url, clinic, clock)):
        with pytest.raises(ConfigurationError, match=words) as error:
            use(url)
        assert error.value.variable == "DATABASE_URL"
        assert "postgresql://user:password@host" in error.value.cure
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_all_spellings_of_postgres_work(postgres_url, scheme):
    database = open_database(scheme + postgres_url[postgres_url.index("://") :])
    try:
        with database.reading() as session:
            assert session.scalar(text("SELECT 1")) == 1
    finally:
        database.close()


def test_sqlite_is_set_up_for_many_readers_and_a_writer(tmp_path):
    url = f"sqlite:///{tmp_path}/new/folder/desk.db"
    migrate(url)
    database = open_database(url)
    try:
        with database.reading() as session:
            pragmas = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            assert [session.scalar(text(f"PRAGMA {name}")) for name in pragmas] == ["wal", 2, 5000, 1]
        # A reader neither waits for a writer nor sees what is not committed.
        with database.writing() as writer:
            writer.execute(text("INSERT INTO desk_commands VALUES ('b', 'k', 'x', NULL, '2026-01-01')"))
            with database.reading() as reader:
                assert reader.scalar(text("SELECT count(*) FROM desk_commands")) == 0
    finally:
        database.close()


def test_a_database_that_is_not_there_is_told_with_its_cause(clinic, clock, tmp_path):
    nowhere = "postgresql://me:secret@127.0.0.1:1/db"
    with pytest.raises(ConfigurationError, match="OperationalError") as error:
        migrate(nowhere)
    assert "secret" not in str(error.value)
    desk = Desk(nowhere, clinic, clock)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        desk.ping()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        desk.find_customer("+12125550101")
    desk.close()

    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigurationError, match="folder cannot be made"):
        migrate(f"sqlite:///{tmp_path}/file/desk.db")
    (tmp_path / "broken.db").write_text("this is not a database, not at all " * 99)
    with pytest.raises(ConfigurationError, match="not a database"):
        migrate(f"sqlite:///{tmp_path}/broken.db")


def test_a_database_without_tables_is_told(empty_url, clinic, clock):
    desk = Desk(empty_url, clinic, clock)
    for use in (desk.ping, desk.open):
        with pytest.raises(ConfigurationError, match="desk_commands"):
            use()
    migrate(empty_url)
    desk.open()
    desk.ping()
    desk.close()


def test_desks_on_one_url_share_their_connections_until_the_last_one_closes(database_url, clinic, clock):
    one, two = (Desk(database_url, clinic, clock) for _ in range(2))
    one.open()
    one.close()
    one.close()
    assert two.create_customer(name="Jo Day", phone="+12125550123", key="k").id
    database = open_database(database_url)
    assert database is two._database
    database.close()
    two.close()
    fresh = open_database(database_url)
    assert fresh is not database
    fresh.close()


def test_closing_leaves_no_connection_behind(database_url, clinic, clock, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        desk = Desk(database_url, clinic, clock)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(desk.find_customer, ["+12125550123"] * 32))
        desk.close()
    if database_url.startswith("postgres"):
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        # The server notices a closed connection a moment later.
        deadline = time.monotonic() + 10
        while rows(others) != [(0,)] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert rows(others) == [(0,)]
    else:
        assert not Path(database_url.removeprefix("sqlite:///") + "-wal").exists()


def test_a_writer_waits_for_another_and_reports_if_it_takes_too_long(database_url, monkeypatch):
    from sqlalchemy.exc import OperationalError

    monkeypatch.setattr("desk.database._LOCK_WAIT_MS", 300)
    first, second = (make_engine(database_url).execution_options(writes=True) for _ in range(2))
    claim = "INSERT INTO desk_commands VALUES ('b', 'k', 'x', NULL, '2026-01-01')"

    def execute(engine, statement):
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)

    try:
        with first.begin() as holder:
            holder.exec_driver_sql(claim)
            with pytest.raises(OperationalError, match="lock"):
                execute(second, claim)
    finally:
        first.dispose()
        second.dispose()


def test_a_writer_that_reads_first_is_not_overtaken(database_url):
    first, second = (make_engine(database_url).execution_options(writes=True) for _ in range(2))

    def claim(connection, key):
        connection.exec_driver_sql(f"INSERT INTO desk_commands VALUES ('b', '{key}', 'x', NULL, '2026-01-01')")

    def write():
        with second.begin() as connection:
            claim(connection, "two")

    try:
        with ThreadPoolExecutor(1) as pool:
            with first.begin() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM desk_commands")
                other = pool.submit(write)
                wait([other], timeout=0.3)
                claim(connection, "one")
            other.result()
        with first.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM desk_commands").scalar() == 2
    finally:
        first.dispose()
        second.dispose()
