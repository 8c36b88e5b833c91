"""The store of call records, on SQLite or Postgres: saving, reading, listing, searching, and what people add to a call.

Everything here blocks; callers on an event loop use ``asyncio.to_thread``. A `Store` is safe to use from many threads.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

import desk.database
from bot.ports import Clock, utc
from desk.database import Schema, insert_if_new, open_database
from records import rows
from records.models import CallRow, ErasedRow
from records.record import CallRecord
from records.search import ALL, CallFilter, Hit, ListedCall, Page, list_calls, search_calls

RECORDS = Schema(Path(__file__).parent / "migrations", "alembic_version_records", int.from_bytes(b"rcrd"))


def migrate(database_url: str, revision: str = "head") -> None:
    """Bring the records' tables to `revision`; ``base`` removes them and all they hold. Raises ConfigurationError."""
    desk.database.migrate(database_url, revision, RECORDS)


def digest(call_id: str) -> str:
    """What is kept of the id of an erased call: SHA-256. Carriers' ids are random, so it does not lead back to one."""
    return hashlib.sha256(call_id.encode()).hexdigest()


class Store:
    """The records under one ``DATABASE_URL``. `migrate` makes the tables; `close` gives the connections back."""

    def __init__(self, database_url: str, clock: Clock) -> None:
        """Raises ConfigurationError for a URL that is neither SQLite nor Postgres."""
        self._database = open_database(database_url)
        self._clock = clock

    def open(self) -> None:
        """Prepare the statements, so that the first caller does not wait for it. Raises ConfigurationError."""
        self.ping()
        self.call("")
        self.calls()
        self.search("warm", CallFilter(flow="-"))

    def close(self) -> None:
        """Give up the connections."""
        self._database.close()

    def ping(self) -> None:
        """Raise ConfigurationError, with the cause, if the database does not answer or has no tables."""
        self._database.ping(CallRow)

    # -- records ------------------------------------------------------------------------------------------------------

    def save(self, record: CallRecord) -> bool:
        """Keep a record in place of the call's former one, in one transaction; scores and acknowledgements stay.

        What retention has already removed from the call stays removed. False, and nothing is kept, where the call was
        erased.
        """
        with self._database.writing() as session:
            lock_call(session, record.call_id)
            if session.get(ErasedRow, digest(record.call_id)):
                return False
            known = session.scalar(select(CallRow.id).where(CallRow.call_id == record.call_id))
            if known is None:
                laid = rows.lay(record, {}, utc(self._clock))
                call = _insert_call(session, record, laid.call)
            else:
                call = known
                laid = rows.lay(record, rows.acknowledged(session, call), utc(self._clock))
                session.execute(update(CallRow).where(CallRow.id == call).values(laid.call))
                for table in rows.PARTS:
                    session.execute(delete(table).where(table.__table__.c.call == call))
            rows.insert_parts(session, call, laid)
        return True

    def call(self, call_id: str) -> CallRecord | None:
        """The record of a call, equal to the one that was saved; None where there is none."""
        with self._database.reading() as session:
            return rows.read(session, call_id)

    # -- lists --------------------------------------------------------------------------------------------------------

    def calls(self, filter: CallFilter = ALL, after: str = "", size: int = 50) -> Page[ListedCall]:
        """Calls, newest first; `after` is the `Page.next` of the page before."""
        with self._database.reading() as session:
            return list_calls(session, filter, after, size)

    def search(self, query: str, filter: CallFilter = ALL, after: str = "", size: int = 20) -> Page[Hit]:
        """Calls in which all words of `query` were said, newest first, each with an excerpt.

        ``"words in a row"`` and ``beginn*`` may be used; accents and capitals do not matter. No text is an error: one
        without any word finds nothing.
        """
        with self._database.reading() as session:
            return search_calls(session, query, filter, after, size)


def lock_call(session: Session, call_id: str) -> None:
    """Let others who write this call wait (SQLite's writers do anyway)."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:call, 0))"), {"call": call_id})


def _insert_call(session: Session, record: CallRecord, values: rows.Values) -> int:
    key = int(record.began_at.timestamp() * 1000)
    while not insert_if_new(session, CallRow, {"id": key, **values}):
        key += 1  # another call began in the same millisecond
    return key
