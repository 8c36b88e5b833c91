"""What is known of the jobs of finished calls: which tape is which call, how each step stands, who works.

DBOS (records/jobs.py) makes a job go on; what an operator sees, and what asks for another try, stands here, in the same
database as the calls. So nobody who only looks needs DBOS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Literal, cast

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session, aliased

from bot.errors import SwitchboardError
from bot.ports import Clock, utc
from desk.database import Database, insert_if_new
from records.inbox import Tape
from records.models import JobRow, TapeRow, WorkerRow

ARCHIVE = "archive"
"""The first step of every job."""
JobStatus = Literal["pending", "running", "done", "failed"]

PAUSES = (1, 5, 30, 120, 600, 1800, 3600)
"""Seconds until a failed step is tried again: so long after its first failure, its second, and so on."""
MOST_TRIES = 30
"""A step that failed so often (about a day) waits for somebody to ask for another try."""


class JobGone(SwitchboardError):
    """The job's call was deleted: nothing is left to do."""


@dataclass(frozen=True)
class Job:
    """One step of a call's job, as `python -m records jobs` shows it."""

    call_id: str
    step: str
    status: JobStatus
    tries: int
    note: str
    next_try_at: datetime | None
    changed_at: datetime


class JobLog:
    """The rows of jobs. Every method is one short transaction and blocks."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # -- tapes --------------------------------------------------------------------------------------------------------

    def call_id_of(self, sha256: str) -> str | None:
        """The call's id that a tape was given, or None."""
        with self._database.reading() as session:
            return session.scalar(select(TapeRow.call_id).where(TapeRow.sha256 == sha256))

    def sha256_of(self, call_id: str) -> str | None:
        """The SHA-256 of a call's tape, as it was when the tape was found; None for an unknown call."""
        with self._database.reading() as session:
            return session.scalar(select(TapeRow.sha256).where(TapeRow.call_id == call_id))

    def call_of_tape(self, sha256: str) -> str | None:
        """The call whose tape has this SHA-256."""
        with self._database.reading() as session:
            return session.scalar(select(TapeRow.call_id).where(TapeRow.sha256 == sha256))

    def calls_of(self, call_sid: str) -> list[str]:
        """The ids of the calls to which the carrier gave one id: several where it sent a call twice."""
        with self._database.reading() as session:
            return list(session.scalars(select(TapeRow.call_id).where(TapeRow.call_sid == call_sid)))

    def call_ids(self) -> list[str]:
        """All calls whose tape was found, oldest first."""
        with self._database.reading() as session:
            return list(session.scalars(select(TapeRow.call_id).order_by(TapeRow.found_at, TapeRow.call_id)))

    def known(self, call_ids: Iterable[str]) -> set[str]:
        """Those calls of `call_ids` that have a tape here: the others were erased."""
        query = select(TapeRow.call_id)
        with self._database.reading() as session:
            return {
                call_id
                for some in _batches(call_ids)
                for call_id in session.scalars(query.where(TapeRow.call_id.in_(some)))
            }

    def claim(self, call_id: str, tape: Tape, plan: Sequence[str]) -> bool:
        """Give a tape this call's id and write down what is to be done; False where another tape has the id."""
        now = utc(self._clock)
        row = {"call_id": call_id, "call_sid": tape.call_sid, "sha256": tape.sha256, "bytes": tape.bytes}
        row["from_number"] = tape.from_number
        with self._database.writing() as session:
            if not insert_if_new(session, TapeRow, row | {"found_at": now}):
                return False
            session.add_all(
                JobRow(call_id=call_id, step=step, place=place, status="pending", tries=0, note="", changed_at=now)
                for place, step in enumerate(plan)
            )
            return True

    def drop(self, call_id: str) -> None:
        """Forget a tape and its job."""
        with self._database.writing() as session:
            session.execute(delete(TapeRow).where(TapeRow.call_id == call_id))

    # -- steps --------------------------------------------------------------------------------------------------------

    def begin(self, call_id: str, step: str) -> int:
        """A step runs; gives how often in a row it was left running by a worker that died, which counts as a try."""
        with self._database.writing() as session:
            job = self._row(session, call_id, step)
            died = job.status == "running"
            job.tries += died
            self._move(job, "running")
            return job.tries if died else 0

    def done(self, call_id: str, step: str, note: str = "") -> None:
        """A step is done; `note` tells where it could not be done as well as it should."""
        with self._database.writing() as session:
            job = self._row(session, call_id, step)
            job.tries, job.note, job.next_try_at = 0, note[:500], None
            self._move(job, "done")

    def failed(self, call_id: str, step: str, note: str) -> None:
        """A step failed; the next try is the later the more often it did, and after `MOST_TRIES` nobody's but yours."""
        with self._database.writing() as session:
            job = self._row(session, call_id, step)
            job.tries += 1
            job.note = note[:500]
            pause = timedelta(seconds=PAUSES[min(job.tries, len(PAUSES)) - 1])
            job.next_try_at = utc(self._clock) + pause if job.tries < MOST_TRIES else None
            self._move(job, "failed")

    def retry(self, call_id: str) -> list[str]:
        """Ask for another try of what failed, now; gives the steps."""
        with self._database.writing() as session:
            jobs = session.scalars(select(JobRow).where(JobRow.call_id == call_id, JobRow.status == "failed")).all()
            for job in jobs:
                job.tries, job.next_try_at = 0, utc(self._clock)
            return [job.step for job in jobs]

    def due(self) -> list[tuple[str, str]]:
        """Failed steps whose time has come: call's id and step."""
        query = select(JobRow.call_id, JobRow.step).where(
            JobRow.status == "failed", JobRow.next_try_at <= utc(self._clock)
        )
        with self._database.reading() as session:
            return [(call_id, step) for call_id, step in session.execute(query)]

    def steps(self, call_id: str) -> dict[str, JobStatus]:
        """How each step of a call stands, in order; empty where the call has no job."""
        query = select(JobRow.step, JobRow.status).where(JobRow.call_id == call_id).order_by(JobRow.place)
        with self._database.reading() as session:
            return {step: cast(JobStatus, status) for step, status in session.execute(query)}

    def with_done(self, step: str, call_ids: Iterable[str]) -> set[str]:
        """Those calls of `call_ids` for which this step is done."""
        query = select(JobRow.call_id).where(JobRow.step == step, JobRow.status == "done")
        with self._database.reading() as session:
            return {
                call_id
                for some in _batches(call_ids)
                for call_id in session.scalars(query.where(JobRow.call_id.in_(some)))
            }

    def unfinished(self, since: timedelta) -> list[tuple[str, str]]:
        """Archived calls none of whose steps has failed or moved `since`: call's id and the step that is due."""
        rows = aliased(JobRow)
        stuck = select(rows.call_id).where(
            (rows.status == "failed") | (rows.changed_at > utc(self._clock) - since)
            | ((rows.step == ARCHIVE) & (rows.status != "done"))
        )  # fmt: skip
        query = (
            select(JobRow.call_id, JobRow.step)
            .where(JobRow.status.in_(("pending", "running")), JobRow.call_id.not_in(stuck))
            .order_by(JobRow.place.desc())
        )
        with self._database.reading() as session:
            return list({call_id: step for call_id, step in session.execute(query)}.items())

    def jobs(self, call_id: str | None = None) -> list[Job]:
        """The steps that are not done, oldest change first; or all of one call, in their order."""
        if call_id is None:
            query = select(JobRow).where(JobRow.status != "done")
            query = query.order_by(JobRow.changed_at, JobRow.call_id, JobRow.place)
        else:
            query = select(JobRow).where(JobRow.call_id == call_id).order_by(JobRow.place)
        with self._database.reading() as session:
            return [
                Job(
                    row.call_id, row.step, cast(JobStatus, row.status), row.tries, row.note,
                    row.next_try_at, row.changed_at,
                )
                for row in session.scalars(query)
            ]  # fmt: skip

    def counts(self) -> dict[JobStatus, int]:
        """How many steps are pending, running and failed."""
        query = select(JobRow.status, func.count()).where(JobRow.status != "done").group_by(JobRow.status)
        counts: dict[JobStatus, int] = {"pending": 0, "running": 0, "failed": 0}
        with self._database.reading() as session:
            counts.update({cast(JobStatus, status): count for status, count in session.execute(query)})
        return counts

    def _row(self, session: Session, call_id: str, step: str) -> JobRow:
        row = session.get(JobRow, (call_id, step))
        if row is None:
            raise JobGone(f"The job of call {call_id} is gone: the call was deleted.")
        return row

    def _move(self, job: JobRow, status: JobStatus) -> None:
        job.status = status
        job.changed_at = utc(self._clock)

    # -- workers ------------------------------------------------------------------------------------------------------

    def beat(self, worker: str) -> None:
        """This worker lives."""
        now = utc(self._clock)
        with self._database.writing() as session:
            if not insert_if_new(session, WorkerRow, {"name": worker, "heard_at": now}):
                session.execute(update(WorkerRow).where(WorkerRow.name == worker).values(heard_at=now))

    def beats(self) -> dict[str, datetime]:
        """Every worker's last heartbeat, on that worker's clock."""
        with self._database.reading() as session:
            return {row.name: row.heard_at for row in session.scalars(select(WorkerRow))}

    def take_over(self, worker: str, beat: datetime) -> bool:
        """Claim a dead worker whose last heartbeat was this one; False where it lives or somebody was faster."""
        query = update(WorkerRow).where(WorkerRow.name == worker, WorkerRow.heard_at == beat)
        with self._database.writing() as session:
            claimed = session.execute(query.values(heard_at=max(utc(self._clock), beat + timedelta(seconds=1))))
            return cast(CursorResult[Any], claimed).rowcount == 1

    def bury(self, worker: str) -> None:
        """Forget a worker."""
        with self._database.writing() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.name == worker))


def _batches(values: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(values)
    while some := list(islice(rest, 500)):
        yield some
