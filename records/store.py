"""The store of call records, on SQLite or Postgres: saving, reading, listing, searching, and what people add to a call.

Everything here blocks; callers on an event loop use ``asyncio.to_thread``. A `Store` is safe to use from many threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

import desk.database
from bot.ports import Clock, utc
from desk.database import Schema, insert_if_new, open_database
from records import rows
from records.models import AuditRow, CallRow, DetailRow, ErasedRow, FlagRow, RecordingRow, ScoreRow
from records.record import CallRecord
from records.search import ALL, CallFilter, Hit, ListedCall, Page, cursor, expired, list_calls, search_calls

RECORDS = Schema(Path(__file__).parent / "migrations", "alembic_version_records", int.from_bytes(b"rcrd"))


def migrate(database_url: str, revision: str = "head") -> None:
    """Bring the records' tables up or down to `revision`, as `desk.database.migrate` does."""
    desk.database.migrate(database_url, revision, RECORDS)


def digest(call_id: str) -> str:
    """What is kept of the id of an erased call: SHA-256. Carriers' ids are random, so it does not lead back to one."""
    return hashlib.sha256(call_id.encode()).hexdigest()


@dataclass(frozen=True)
class Score:
    """One judgement of a call, 0 to 100, by a scorecard and a judge (a person's name, or a model's id)."""

    scorecard: str
    judge: str
    score: float
    answers: Mapping[str, Any]
    scored_at: datetime


@dataclass(frozen=True)
class KeptRecording:
    """A recording of a call, by its key in `records.recordings.Recordings`; ``size`` in bytes."""

    key: str
    content_type: str
    size: int
    stored_at: datetime


@dataclass(frozen=True)
class CallPage:
    """All that is known of a call.

    ``acknowledged`` has for each of the record's flags who acknowledged it and when, or None. ``expired`` tells what
    retention removed (``audio``, ``transcript``, ``number``); where it is not empty, the tape is gone and the record
    cannot be derived again.
    """

    record: CallRecord
    acknowledged: tuple[tuple[str, datetime] | None, ...]
    scores: tuple[Score, ...]
    recordings: tuple[KeptRecording, ...]
    expired: tuple[str, ...]
    saved_at: datetime


@dataclass(frozen=True)
class AuditEntry:
    """Who did what, when; ``call_id`` is empty where no call is meant, and `digest` of it once the call was erased."""

    at: datetime
    who: str
    what: str
    call_id: str
    detail: Mapping[str, Any]


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
            if erased := session.get(ErasedRow, digest(record.call_id)):
                erased.call_id = record.call_id  # something of it is there again: the next sweep removes it
                return False
            known = session.scalar(select(CallRow).where(CallRow.call_id == record.call_id))
            if known:
                rows.replace_record(session, known.id, rows.without(record, expired(known)), utc(self._clock))
            else:
                laid = rows.lay(record, {}, utc(self._clock))
                rows.insert_parts(session, _insert_call(session, record, laid.call), laid)
        return True

    def call(self, call_id: str) -> CallRecord | None:
        """The record of a call, equal to the one that was saved; None where there is none."""
        with self._database.reading() as session:
            return rows.read(session, call_id)

    def expired(self, call_id: str) -> tuple[str, ...] | None:
        """The kinds that retention has removed from a call; None where there is no such call."""
        with self._database.reading() as session:
            call = session.scalar(select(CallRow).where(CallRow.call_id == call_id))
            return expired(call) if call else None

    def page(self, call_id: str) -> CallPage | None:
        """A call's record with what was added to it."""
        with self._database.reading() as session:
            record = rows.read(session, call_id)
            call = session.scalar(select(CallRow).where(CallRow.call_id == call_id))
            if record is None or call is None:
                return None
            scores = select(ScoreRow).where(ScoreRow.call == call.id).order_by(ScoreRow.scored_at, ScoreRow.id)
            recordings = select(RecordingRow).where(RecordingRow.call == call.id).order_by(RecordingRow.key)
            return CallPage(
                record,
                tuple((by, at) if by and at else None for by, at in rows.acknowledged(session, call.id).values()),
                tuple(
                    Score(row.scorecard, row.judge, row.score, row.answers, row.scored_at)
                    for row in session.scalars(scores)
                ),
                tuple(
                    KeptRecording(row.key, row.content_type, row.size, row.stored_at)
                    for row in session.scalars(recordings)
                ),
                expired(call),
                session.scalars(select(DetailRow.saved_at).where(DetailRow.call == call.id)).one(),
            )

    # -- what is added to a record ------------------------------------------------------------------------------------

    def acknowledge(self, call_id: str, flag: int, who: str) -> bool:
        """Somebody has looked at a flag, by its place in the record's ``flags``; False where there is none."""
        with self._database.writing() as session:
            lock_call(session, call_id)
            call = _key(session, call_id)
            row = session.get(FlagRow, (call, flag)) if call is not None else None
            if row is None:
                return False
            row.acknowledged_by, row.acknowledged_at = who, utc(self._clock)
            session.flush()
            unseen = select(func.count()).where(FlagRow.call == call, FlagRow.acknowledged_at.is_(None))
            session.execute(update(CallRow).where(CallRow.id == call).values(flags=unseen.scalar_subquery()))
            return True

    def add_score(self, call_id: str, scorecard: str, judge: str, score: float, answers: Mapping[str, Any]) -> bool:
        """Keep a judgement in place of this judge's former one; the call's score is the mean. False without a call."""
        if not 0 <= score <= 100:
            raise ValueError(f"a score lies between 0 and 100, not at {score}")
        with self._database.writing() as session:
            lock_call(session, call_id)
            call = _key(session, call_id)
            if call is None:
                return False
            same = ScoreRow.call == call, ScoreRow.scorecard == scorecard, ScoreRow.judge == judge
            session.execute(delete(ScoreRow).where(*same))
            values = {"score": score, "answers": dict(answers), "scored_at": utc(self._clock)}
            session.add(ScoreRow(call=call, scorecard=scorecard, judge=judge, **values))
            session.flush()
            mean = select(func.avg(ScoreRow.score)).where(ScoreRow.call == call)
            session.execute(update(CallRow).where(CallRow.id == call).values(score=mean.scalar_subquery()))
            return True

    def add_recording(self, call_id: str, key: str, content_type: str, size: int) -> bool:
        """A recording of the call was put under `key`. False where there is no such call: it may have been erased."""
        with self._database.writing() as session:
            lock_call(session, call_id)
            call = _key(session, call_id)
            if call is None:
                return False
            values = {"content_type": content_type, "size": size, "stored_at": utc(self._clock)}
            if not insert_if_new(session, RecordingRow, {"call": call, "key": key, **values}):
                same = RecordingRow.call == call, RecordingRow.key == key
                session.execute(update(RecordingRow).where(*same).values(values))
            return True

    def audit(self, who: str, what: str, call_id: str = "", detail: Mapping[str, Any] | None = None) -> None:
        """Write down that somebody did something; `detail` has no caller data but ids."""
        with self._database.writing() as session:
            session.add(AuditRow(at=utc(self._clock), who=who, what=what, call_id=call_id, detail=dict(detail or {})))

    def audit_log(self, call_id: str = "", after: str = "", size: int = 50) -> Page[AuditEntry]:
        """Who did what, newest first: of everything, or with one call."""
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(size + 1)
        if call_id:
            query = query.where(AuditRow.call_id.in_((call_id, digest(call_id))))
        if after:
            query = query.where(AuditRow.id < cursor(after))
        with self._database.reading() as session:
            found = session.scalars(query).all()
        entries = (AuditEntry(row.at, row.who, row.what, row.call_id, row.detail) for row in found[:size])
        return Page(tuple(entries), str(found[size - 1].id) if len(found) > size else "")

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


def _key(session: Session, call_id: str) -> int | None:
    return session.scalar(select(CallRow.id).where(CallRow.call_id == call_id))


def _insert_call(session: Session, record: CallRecord, values: rows.Values) -> int:
    key = int(record.began_at.timestamp() * 1000)
    while not insert_if_new(session, CallRow, {"id": key, **values}):
        key += 1  # another call began in the same millisecond
    return key
