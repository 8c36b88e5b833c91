"""The end of what may not be kept: by age, kind by kind (retention), or a call as a whole, by order (erasure).

A tape holds sound, words and number in one, so it goes as soon as the first of the three does; the record says so by
its ``expired`` kinds, and cannot be derived again. An erased call leaves an audit row and the digest of its id, by
which a job that still works on it is told that there is nothing to keep. Everything here blocks, and may be repeated:
what a killed process began is finished by the next `Retention.sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from loguru import logger
from sqlalchemy import BigInteger, ColumnElement, and_, cast, delete, func, or_, select, text, update
from sqlalchemy.orm import Session

from bot.errors import RecordingsError, TapeError
from bot.ports import Clock, utc
from desk.database import Database, insert_if_new
from records import rows
from records.inbox import Inbox, archived_calls, archived_tape, caller_of, tape_key
from records.models import (
    AuditRow,
    CallRow,
    DeliveryRow,
    ErasedRow,
    JobRow,
    RecordingRow,
    ScoreRow,
    SweepRow,
    TapeRow,
)
from records.recordings import Recordings
from records.rows import KINDS
from records.store import digest, lock_call

_NAME = "retention"
"""As who it stands in the audit log."""
_DAY_MS = 86_400_000
_AT_ONCE = 200
_MERGED_PAGES = 200
"""How much of the full-text index is rewritten in one transaction: others may write in between."""


class Retention:
    """Removes from tapes, recordings, records and the search index what may not be kept."""

    def __init__(
        self,
        database: Database,
        recordings: Recordings,
        inbox: Inbox,
        days: Mapping[str, int | None],
        clock: Clock,
        forget_jobs: Callable[[Sequence[str]], None],
    ) -> None:
        """`days` to keep each of `KINDS` where a call's flow does not say; None for good (`Settings.retention`).

        `forget_jobs` removes what the job queue knows of these workflows.
        """
        self._database = database
        self._recordings = recordings
        self._inbox = inbox
        self._days = days
        self._clock = clock
        self._forget_jobs = forget_jobs

    # -- by age -------------------------------------------------------------------------------------------------------

    def sweep(self) -> int:
        """Finish erasures that were begun, and remove what is too old; how many calls that concerned.

        A call that cannot be worked on is passed over, tried again next time, and raised at the end; where the store of
        recordings fails, `RecordingsError` ends the sweep at once.
        """
        try:
            count = self._sweep()
        except Exception as error:
            self._swept(type(error).__name__)
            raise
        self._swept("")
        return count

    def _swept(self, note: str) -> None:
        values = {"at": utc(self._clock), "note": note}
        with self._database.writing() as session:
            if not insert_if_new(session, SweepRow, {"name": _NAME, **values}):
                session.execute(update(SweepRow).where(SweepRow.name == _NAME).values(values))

    def _sweep(self) -> int:
        with self._database.reading() as session:
            begun = session.scalars(select(ErasedRow.call_id).where(ErasedRow.call_id.is_not(None))).all()
        for call_id in begun:
            self._erase(str(call_id))
        count = len(begun) + self._erase_all(self._tapes_without_record(), _NAME)
        failed: Exception | None = None
        after = 0
        while due := self._due(after):
            after = due[-1][0]
            for _, call_id, kinds in due:
                try:
                    self._expire(call_id, kinds)
                    count += 1
                except RecordingsError:
                    raise
                except Exception as error:
                    logger.error("Retention failed for call {}: {}", call_id, type(error).__name__)
                    failed = error
        if count:
            self._overwrite()
            logger.info("Retention removed something from {} calls", count)
        if failed:
            raise failed
        return count

    def _tapes_without_record(self) -> Sequence[str]:
        """Tapes that nothing could be derived from, and that are older than the shortest time to keep anything."""
        days = [days for days in self._days.values() if days is not None]
        if not days:
            return []
        has_record = select(1).where(CallRow.call_id == TapeRow.call_id).exists()
        limit = utc(self._clock) - timedelta(days=min(days))
        # A day longer: a tape that was just found is being derived.
        query = select(TapeRow.call_id).where(TapeRow.found_at < limit - timedelta(days=1), ~has_record)
        with self._database.reading() as session:
            return session.scalars(query).all()

    def _due(self, after: int) -> list[tuple[int, str, tuple[str, ...]]]:
        """The next calls with something too old that no job is at work on: key, id and the kinds."""
        now_ms = self._clock.wall_ns() // 1_000_000
        is_due = {}
        for kind in KINDS:
            days = func.coalesce(getattr(CallRow, f"retain_{kind}_days"), self._days.get(kind))
            too_old = CallRow.id < now_ms - cast(days, BigInteger) * _DAY_MS
            is_due[kind] = and_(getattr(CallRow, f"{kind}_expired_at").is_(None), too_old)
        query = select(CallRow.id, CallRow.call_id, *is_due.values())
        query = query.where(or_(*is_due.values()), CallRow.id > after, ~_at_work())
        with self._database.reading() as session:
            return [
                (key, call_id, tuple(kind for kind, yes in zip(KINDS, flags, strict=True) if yes))
                for key, call_id, *flags in session.execute(query.order_by(CallRow.id).limit(_AT_ONCE))
            ]

    def _expire(self, call_id: str, kinds: tuple[str, ...]) -> None:
        """Files first: a process that is killed in between finds the call due again."""
        if "audio" in kinds:
            self._recordings.delete_all(call_id)
        else:
            self._recordings.delete(tape_key(call_id))
        self._remove_from_inbox(call_id)
        now = utc(self._clock)
        with self._database.writing() as session:
            lock_call(session, call_id)
            record = rows.read(session, call_id)
            call = session.scalar(select(CallRow.id).where(CallRow.call_id == call_id))
            if record is None or call is None:
                return
            session.execute(
                update(CallRow).where(CallRow.id == call).values({f"{kind}_expired_at": now for kind in kinds})
            )
            rows.replace_record(session, call, rows.without(record, kinds), now)
            if "audio" in kinds:
                session.execute(delete(RecordingRow).where(RecordingRow.call == call))
            if "number" in kinds:
                session.execute(update(TapeRow).where(TapeRow.call_id == call_id).values(from_number=""))
            if "transcript" in kinds:
                session.execute(update(ScoreRow).where(ScoreRow.call == call).values(answers={}))
            session.add(AuditRow(at=now, who=_NAME, what="expired", call_id=call_id, detail={"kinds": list(kinds)}))

    # -- by order -----------------------------------------------------------------------------------------------------

    def erase_call(self, call_id: str, who: str) -> bool:
        """Remove everything of a call; False where nothing of it is known."""
        return bool(self._erase_all([call_id] if self._is_known(call_id) else [], who))

    def erase_number(self, number: str, who: str) -> int:
        """Remove everything of all calls from this number (E.164); how many those were.

        Calls that were not derived yet are found by their tapes; those in progress are not, ask again afterwards.
        Raises `RecordingsError` where the archived tapes cannot be asked.
        """
        with self._database.reading() as session:
            found = set(session.scalars(select(CallRow.call_id).where(CallRow.from_number == number)))
            found |= set(session.scalars(select(TapeRow.call_id).where(TapeRow.from_number == number)))
            told = set(session.scalars(select(CallRow.call_id)))
            told |= set(session.scalars(select(TapeRow.call_id).where(TapeRow.from_number != "")))
        found |= {file.path.stem for file in self._inbox.finished() if caller_of(file.path) == number}
        # Archived, and not in the database: an older copy of it may have been put back.
        found |= {
            call_id
            for call_id in archived_calls(self._recordings)
            if call_id not in told and self._caller_in_archive(call_id) == number
        }
        return self._erase_all(sorted(found), who)

    def _caller_in_archive(self, call_id: str) -> str:
        try:
            with archived_tape(call_id, self._inbox, self._recordings) as path:
                return caller_of(path)
        except TapeError:
            return ""  # somebody else has erased it meanwhile

    def _erase_all(self, call_ids: Sequence[str], who: str) -> int:
        now = utc(self._clock)
        with self._database.writing() as session:
            for call_id in call_ids:
                lock_call(session, call_id)
                session.merge(ErasedRow(digest=digest(call_id), at=now, who=who, call_id=call_id))
        for call_id in call_ids:
            self._erase(call_id)
        if call_ids:
            self._inbox.clear_scratch()
            self._overwrite()
        return len(call_ids)

    def _is_known(self, call_id: str) -> bool:
        with self._database.reading() as session:
            for of in (CallRow.call_id, TapeRow.call_id, DeliveryRow.call_id):
                if session.scalar(select(of).where(of == call_id).limit(1)):
                    return True
        return bool(self._inbox.find(call_id)) or any(True for _ in self._recordings.list(call_id))

    def _erase(self, call_id: str) -> None:
        """Remove a call whose `ErasedRow` is there already, so that nothing of it is saved any more."""
        self._recordings.delete_all(call_id)
        self._remove_from_inbox(call_id)
        with self._database.reading() as session:
            messages = session.scalars(select(DeliveryRow.id).where(DeliveryRow.call_id == call_id)).all()
        self._forget_jobs([call_id, *messages])
        key = digest(call_id)
        with self._database.writing() as session:
            lock_call(session, call_id)
            for table in (TapeRow, DeliveryRow, CallRow):
                session.execute(delete(table).where(table.__table__.c.call_id == call_id))
            session.execute(update(AuditRow).where(AuditRow.call_id == call_id).values(call_id=key, detail={}))
            erased = session.get_one(ErasedRow, key)
            session.add(AuditRow(at=utc(self._clock), who=erased.who, what="erased", call_id=key, detail={}))
            erased.call_id = None

    # -- what both need -----------------------------------------------------------------------------------------------

    def _remove_from_inbox(self, call_id: str) -> None:
        """Take a finished tape out. That of a call in progress is its writer's, and is dropped when it is derived."""
        path = self._inbox.find(call_id)
        if path and path.suffix == ".mcap":
            with suppress(FileNotFoundError):  # the worker has just removed it
                self._inbox.remove(self._inbox.file(path))

    def _overwrite(self) -> None:
        """Have SQLite let go of what was deleted: words in the search index, and pages in the write-ahead log."""
        if self._database.dialect != "sqlite":
            return
        _merge(self._database, -_MERGED_PAGES)
        while _merge(self._database, _MERGED_PAGES):
            pass
        if not self._database.truncate_log():
            logger.warning("The database's log could not be emptied, because somebody reads; the next sweep does it")


@dataclass(frozen=True)
class Swept:
    """When retention last ran, what was wrong with that (a class of error, or empty), and from how many calls it has
    removed something in the 24 hours before now."""

    at: datetime
    problem: str
    calls_in_a_day: int


def last_sweep(database: Database, clock: Clock) -> Swept | None:
    """How retention does; None where it has never run."""
    of_a_day = AuditRow.at > utc(clock) - timedelta(days=1), AuditRow.who == _NAME
    with database.reading() as session:
        row = session.get(SweepRow, _NAME)
        calls = session.scalars(select(func.count(AuditRow.call_id.distinct())).where(*of_a_day)).one()
    return Swept(row.at, row.note, calls) if row else None


def _at_work() -> ColumnElement[bool]:
    """Whether a job goes on by itself with the call of a `CallRow`.

    The steps after one that has failed for good are pending too, and nobody will come to them.
    """

    def some(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        return select(1).where(JobRow.call_id == CallRow.call_id, *conditions).exists()

    failed, pending = JobRow.status == "failed", JobRow.status == "pending"
    begun = some(or_(JobRow.status == "running", and_(failed, JobRow.next_try_at.is_not(None))))
    return or_(begun, and_(some(pending), ~some(failed)))


def _merge(database: Database, pages: int) -> bool:
    """Rewrite some pages of FTS5's index, and drop what was deleted; whether there was anything to do.

    A negative number begins to merge everything into one segment (sqlite.org/fts5.html, the 'merge' command).
    """
    with database.writing() as session:
        before = _changes(session)
        command = "INSERT INTO records_search_index (records_search_index, rank) VALUES ('merge', :pages)"
        session.execute(text(command), {"pages": pages})
        return _changes(session) - before >= 2


def _changes(session: Session) -> int:
    return int(session.scalar(text("SELECT total_changes()")) or 0)
