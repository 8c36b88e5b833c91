"""The database: one engine for each URL, sessions for reading and for writing, migrations.

SQLite and Postgres run the same code. What differs is here: how a connection is set up and how a writing transaction
begins. Readers never wait for a writer on either engine (SQLite in WAL mode). The records of calls, which share the
database unless told otherwise, share this module too: one queue for all of a process's writers.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    Connection,
    CursorResult,
    DateTime,
    Engine,
    String,
    column,
    create_engine,
    event,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from bot.errors import ConfigurationError

CONSTRAINT_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""How constraints and indexes are named, so that migrations can name them on every engine."""
_LOCK_WAIT_MS = 5000
# Names and numbers of callers are parameters: an error's text must not carry them into a log.
_POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 20, "hide_parameters": True}

_open: dict[str, Database] = {}
_opening = threading.Lock()
_migrating = threading.Lock()


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC. SQLite has no time zones, so it stores UTC without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database; raises ValueError for a naive datetime, whose moment is unknown."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


@dataclass(frozen=True)
class Schema:
    """Tables that are migrated together, beside others in the same database."""

    migrations: Path
    """Alembic's folder: ``env.py`` and ``versions/NNNN_what_it_does.py``, whose number is the revision."""
    version_table: str
    lock: int
    """Key of the Postgres advisory lock that lets one process migrate at a time."""


DESK = Schema(Path(__file__).parent / "migrations", "alembic_version_desk", int.from_bytes(b"desk"))


class Database:
    """An engine and its two kinds of sessions. Safe to use from many threads. Get one with `open_database`."""

    def __init__(self, database_url: str) -> None:
        self.users = 0
        self._url = database_url
        self._engine = make_engine(database_url)
        self._writer = self._engine.execution_options(writes=True)
        # SQLite lets writers poll for their turn and may starve one for a second; in this process they queue.
        self._turn: AbstractContextManager[Any] = threading.Lock() if self.dialect == "sqlite" else nullcontext()

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        with Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session in one writing transaction: committed at the end, rolled back by an exception."""
        with self._turn, Session(self._writer) as session, session.begin():
            yield session

    def ping(self, of: type[DeclarativeBase]) -> None:
        """Raise ConfigurationError if the database does not answer or this table is missing."""
        try:
            with self.reading() as session:
                session.execute(select(1).select_from(of).limit(1))
        except SQLAlchemyError as error:
            raise _unusable(error) from error

    def truncate_log(self) -> bool:
        """Move what SQLite's write-ahead log holds into the database, and empty the log; False while others read it.

        Postgres does its own.
        """
        if self.dialect != "sqlite":
            return True
        with self._turn, closing(self._engine.raw_connection()) as connection:
            (busy, _, _), *_ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return not busy

    def close(self) -> None:
        """Give up this use; the last one closes the connections."""
        with _opening:
            self.users -= 1
            if self.users == 0:
                del _open[self._url]
                self._engine.dispose()


def open_database(database_url: str) -> Database:
    """The database of a URL, shared by everyone in this process who opens it; each calls `Database.close` once.

    Raises ConfigurationError for a URL that is neither SQLite nor Postgres.
    """
    with _opening:
        database = _open.get(database_url)
        if database is None:
            database = _open[database_url] = Database(database_url)
        database.users += 1
        return database


def migrate(database_url: str, revision: str = "head", schema: Schema = DESK) -> None:
    """Bring the tables up or down to `revision`; several processes may do so at once, one of them does the work.

    ``head`` is this version's, ``base`` removes the tables and all they hold. Raises ConfigurationError if the database
    cannot be reached, the tables are of a newer version than this one, or there is no such revision.
    """
    known = _revisions(schema)
    if revision not in ("head", "base", *known):
        raise ConfigurationError("--to", f"There is no revision {revision}.", f"There are {', '.join(known)} and base.")
    engine = make_engine(database_url).execution_options(writes=True)
    try:
        with engine.connect() as connection:
            if revision == "head" and _revision(connection, schema) == known[-1]:
                # Alembic costs a quarter of a second and 12 MB, which a start with nothing to do need not pay.
                return
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(schema.migrations))
        # Alembic's context is global to the process.
        with _migrating, engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": schema.lock})
            current = _revision(connection, schema)
            if current and current not in known:
                problem = f"The tables are at revision {current}, and this version knows them up to {known[-1]}."
                cure = f"Start the newer version, or let it go back: uv run -m records migrate --to {known[-1]}."
                raise ConfigurationError("DATABASE_URL", problem, cure)
            config.attributes.update(connection=connection, version_table=schema.version_table)
            down = revision == "base" or (revision != "head" and revision < current)
            (command.downgrade if down else command.upgrade)(config, revision)
    except SQLAlchemyError as error:
        raise _unusable(error) from error
    finally:
        engine.dispose()


def revision(database_url: str, schema: Schema = DESK) -> str:
    """The revision that the tables are at; empty where there are none. Raises ConfigurationError."""
    engine = make_engine(database_url)
    try:
        with engine.connect() as connection:
            return _revision(connection, schema)
    except SQLAlchemyError as error:
        raise _unusable(error) from error
    finally:
        engine.dispose()


def _revisions(schema: Schema) -> list[str]:
    """All there are, the oldest first: the numbers with which the names of the files in migrations/versions begin."""
    return sorted(path.name.partition("_")[0] for path in (schema.migrations / "versions").glob("[0-9]*.py"))


def _revision(connection: Connection, schema: Schema) -> str:
    if not inspect(connection).has_table(schema.version_table):
        return ""
    versions = select(column("version_num", String)).select_from(table(schema.version_table))
    return connection.scalars(versions).one_or_none() or ""


def make_engine(database_url: str) -> Engine:
    """An engine for a ``DATABASE_URL``. Raises ConfigurationError, without the URL's password, if it cannot be one."""
    url = _parse(database_url)
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, **_POOL, connect_args={"timeout": _LOCK_WAIT_MS / 1000})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        # Prepared statements break behind a pooler that hands out connections by transaction.
        arguments = {"connect_timeout": 5, "prepare_threshold": None}
        engine = create_engine(url, **_POOL, pool_pre_ping=True, connect_args=arguments)
        event.listen(engine, "begin", _begin_postgres)
    return engine


def insert_if_new(session: Session, table: type[DeclarativeBase], *rows: dict[str, Any]) -> bool:
    """Insert rows whose keys do not exist yet; True if none did, so that all were inserted.

    If another transaction is inserting the same key, Postgres waits until that one ends (SQLite's writers queue).
    """
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(table).values(list(rows)).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    done = session.execute(statement)
    return cast(CursorResult[Any], done).rowcount == len(rows)


def _parse(database_url: str) -> URL:
    cure = "Use sqlite:///path/to/file.db or postgresql://user:password@host:5432/name."
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise ConfigurationError("DATABASE_URL", "This is not a database URL.", cure) from None
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        if not url.database:
            raise ConfigurationError("DATABASE_URL", "The URL names no database.", cure)
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite":
        raise ConfigurationError("DATABASE_URL", f"{url.drivername!r} is not supported.", cure)
    if not url.database or ":memory:" in url.database:
        raise ConfigurationError("DATABASE_URL", "A database in memory forgets every booking.", cure)
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"The database's folder cannot be made ({error.strerror})."
        raise ConfigurationError("DATABASE_URL", problem, "Choose a folder that this user may write.") from error
    return url


def _unusable(error: SQLAlchemyError) -> ConfigurationError:
    cause = getattr(error, "orig", None) or error
    problem = f"The database cannot be used ({type(cause).__name__}: {str(cause).strip().splitlines()[0]})."
    return ConfigurationError("DATABASE_URL", problem, "Check that it runs, the address, the rights and the tables.")


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions by itself, and too late; `_begin_sqlite` does it.
    connection.isolation_level = None
    pragmas = ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_LOCK_WAIT_MS}", "foreign_keys=ON")
    # What is deleted is overwritten: what callers said must not lie about in free pages.
    for pragma in (*pragmas, "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer that begins deferred and upgrades later fails at once, without waiting, if somebody wrote in between.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    if connection.get_execution_options().get("writes", False):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}")
