"""The worker: works through the tapes of ``DATA_DIR``, runs the jobs of finished calls, and takes over from the dead.

One worker works for each ``DATA_DIR``: it holds a lock on a file there, which the kernel takes back from a dead
process; others wait for it. Workers on several machines share a Postgres database. Each shows there that it lives; a
worker that stands still for `DEAD_SECONDS`, by the watch of whoever looks, is dead, and one of the others takes up what
it had begun.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import orjson
from loguru import logger

import desk.database
from bot.ports import Clock, utc
from bot.settings import Settings
from bot.tape import TapeReader
from records.books import missing_writes
from records.inbox import File, Tape, archive, archived_tape, file_sha256, is_beginning, tape_key
from records.job_log import ARCHIVE, JobGone
from records.jobs import Jobs, jobs_database
from records.retention import Retention
from records.steps import LAST_READER, PLAN, CallSteps, Parts, described, open_parts
from records.store import migrate
from records.webhooks import delivery_counts

TICK_SECONDS = 0.5
BEAT_SECONDS = 3.0
DEAD_SECONDS = 15.0
MEND_SECONDS = 30.0
RETENTION_SECONDS = 600.0
KEPT = timedelta(days=1)
"""So long DBOS remembers what is done."""
NICENESS = 10
ARCHIVES_AT_ONCE = 2


class Stopped(Exception):
    """The worker is to end."""


class Life:
    """Whether the worker goes on: until a signal, or until the process that started it is gone."""

    def __init__(self, parent: int | None) -> None:
        """`parent`: the id of that process, which may be gone already."""
        self._stop = threading.Event()
        self._parent = parent

    def stop(self, *_: object) -> None:
        """End it; may be a signal's handler."""
        self._stop.set()

    def wait(self, seconds: float) -> None:
        """Wait. Raises `Stopped`."""
        if self._stop.wait(seconds) or (self._parent is not None and os.getppid() != self._parent):
            raise Stopped


def hold_folder(data_dir: Path, worker: str, life: Life) -> str:
    """Wait until no other worker works for `data_dir`, and hold it for as long as the process lives.

    Gives the name of the worker that held it before, which is dead; empty where there was none.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(data_dir / "worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            life.wait(TICK_SECONDS)
    before = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, worker.encode(), 0)
    return before


class Worker:
    """The worker's rounds. `run` holds the thread until the worker's life ends."""

    def __init__(self, name: str, parts: Parts, jobs: Jobs, life: Life) -> None:
        self._name = name
        self._database = parts.database
        self._inbox = parts.inbox
        self._recordings = parts.recordings
        self._store = parts.store
        self._log = parts.log
        self._jobs = jobs
        self._webhooks = parts.webhooks
        days = parts.settings.retention
        self._retention = Retention(parts.database, parts.recordings, parts.inbox, days, parts.clock, jobs.forget)
        self._clock = parts.clock
        self._life = life
        self._tapes: dict[File, str] = {}  # the finished tapes of the inbox and the ids of their calls
        self._pool = ThreadPoolExecutor(ARCHIVES_AT_ONCE + 1, thread_name_prefix="files")
        self._seen: dict[str, tuple[datetime, int]] = {}  # the others' last heartbeat, and since when it is their last
        self._due: dict[str, int] = {}
        self._told = b""
        self._troubled: set[str] = set()

    def run(self, *, before: str = "") -> None:
        """Work. `before` is the worker that held the folder last: what it had begun is taken up at once.

        Raises what the database raises where it cannot be used at the start; later it is waited for.
        """
        self._beat()
        self._jobs.open()
        if before:
            self._take_over(before)
        try:
            while True:
                self._round()
                self._life.wait(TICK_SECONDS)
        except Stopped:
            # What is under way is left as by a kill, which is sure: DBOS would take seconds to end its threads.
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _round(self) -> None:
        if self._is_due("heartbeat", BEAT_SECONDS):
            self._guarded("heartbeat", self._beat)
            self._guarded("takeover", self._look_for_the_dead)
        self._guarded("recovery", lambda: self._inbox.recover(lambda tape: missing_writes(tape, self._database)))
        self._guarded("inbox", self._work_through_the_inbox)
        self._guarded("retries", self._try_again)
        if self._is_due("mending", MEND_SECONDS):
            self._guarded("mending", self._mend)
            self._guarded("cleaning", self._inbox.clear_scratch)
        if self._is_due("retention", RETENTION_SECONDS):
            self._pool.submit(self._guarded, "retention", self._retention.sweep)
            self._guarded("tidying", lambda: self._jobs.tidy(utc(self._clock) - KEPT))
        self._guarded("figures", self._tell_figures)

    def _guarded(self, what: str, work: Callable[[], object]) -> None:
        """A round survives what breaks (a database that is away), and says so once until it is well again."""
        try:
            work()
        except Exception as error:
            if what not in self._troubled:
                logger.error("The worker's {} failed: {}; it goes on trying", what, described(error))
            self._troubled.add(what)
        else:
            if what in self._troubled:
                logger.info("The worker's {} works again", what)
            self._troubled.discard(what)

    def _is_due(self, what: str, seconds: float) -> bool:
        now_ns = self._clock.now_ns()
        if now_ns < self._due.get(what, 0):
            return False
        self._due[what] = now_ns + int(seconds * 1e9)
        return True

    # -- the inbox ----------------------------------------------------------------------------------------------------

    def _work_through_the_inbox(self) -> None:
        found = set(self._inbox.finished())
        known = self._log.known(self._tapes.values())  # what was erased meanwhile is taken in anew, and turned away
        self._tapes = {file: call_id for file, call_id in self._tapes.items() if file in found and call_id in known}
        for file in sorted(found - set(self._tapes)):
            if tape := self._inbox.open(file.path):
                self._take_in(tape)
        read = self._log.with_done(LAST_READER, self._tapes.values())
        for file, call_id in list(self._tapes.items()):
            if call_id in read:
                self._inbox.remove(file)
                del self._tapes[file]

    def _take_in(self, tape: Tape) -> None:
        """Give a finished tape the id of its call, and begin to archive it."""
        call_id = self._log.call_id_of(tape.sha256)
        for candidate in () if call_id else self._candidates(tape):
            if self._log.claim(candidate, tape, [ARCHIVE, *PLAN]):
                call_id = candidate
                break
        assert call_id is not None
        tape = self._inbox.rename(tape, call_id)
        self._tapes[self._inbox.file(tape.path)] = call_id
        self._pool.submit(self._archive, tape, call_id)

    def _candidates(self, tape: Tape) -> Iterator[str]:
        """Ids for a tape's call: its file's name, and further ones where another tape has that."""
        yield tape.path.stem
        for again in count(2):
            call_id = f"{tape.call_sid}.{again}"
            if call_id != tape.path.stem and self._inbox.find(call_id) is None:
                yield call_id

    def _archive(self, tape: Tape, call_id: str) -> None:
        """Archive a tape and start its call's job. Runs in the pool."""
        try:
            steps = self._log.steps(call_id)
            if steps.get(ARCHIVE) != "done":
                self._log.begin(call_id, ARCHIVE)
                if self._is_old_copy(tape, call_id):
                    self._log.drop(call_id)
                    self._inbox.remove(self._inbox.file(tape.path))
                    logger.warning("A tape of call {} is the beginning of a known one, and dropped", tape.call_sid)
                    return
                archive(tape, call_id, self._recordings)
                self._log.done(call_id, ARCHIVE)
            self._jobs.submit(call_id, [step for step in steps if step != ARCHIVE])
        except JobGone:
            self._recordings.delete_all(call_id)  # erased meanwhile
        except Exception as error:
            problem = described(error)
            logger.error("Archiving the tape of call {} failed: {}", call_id, problem)
            self._guarded("job log", lambda: self._log.failed(call_id, ARCHIVE, problem))

    def _is_old_copy(self, tape: Tape, call_id: str) -> bool:
        """Whether the call's whole tape is known already: a backup was put back that was made while the call was up."""
        for known in {call_id, tape.call_sid, *self._log.calls_of(tape.call_sid)}:
            if self._recordings.exists(tape_key(known)):
                with archived_tape(known, self._inbox, self._recordings) as whole:
                    if file_sha256(whole) != tape.sha256 and is_beginning(tape.path, whole):
                        return True
            elif known != call_id and (page := self._store.page(known)) and page.expired:
                # Its tape may not be kept any more; of two tapes of one call no two begin in the same microsecond.
                first = next(iter(TapeReader(tape.path)))
                if page.record.began_at == datetime.fromtimestamp(first.wall_ns / 1e9, UTC):
                    return True
        return False

    def _try_again(self) -> None:
        here = {call_id: file.path for file, call_id in self._tapes.items()}
        for message_id, receiver in self._webhooks.due():
            self._webhooks.queued(message_id)
            self._jobs.send(message_id, receiver)
        for call_id, step in self._log.due():
            if step != ARCHIVE:
                self._jobs.try_again(call_id)
            elif call_id in here and (tape := self._inbox.open(here[call_id])):
                self._pool.submit(self._archive, tape, call_id)

    def _mend(self) -> None:
        """What stands as running, pending or queued, and has ended in DBOS, or is unknown to it.

        The database was away when it failed, or DBOS's own was lost.
        """
        for call_id, step in self._log.unfinished(timedelta(seconds=MEND_SECONDS)):
            if self._jobs.has_failed(call_id):
                self._log.failed(call_id, step, "The database was away when this failed.")
        if queued := self._webhooks.all_queued():
            for message_id in queued - self._jobs.being_sent():
                self._webhooks.lost(message_id)

    # -- the others ---------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        self._log.beat(self._name)

    def _look_for_the_dead(self) -> None:
        """Machines' clocks may differ: only how long a heartbeat has not changed is measured, on the clock here."""
        now_ns = self._clock.now_ns()
        seen, self._seen = self._seen, {}
        for worker, beat in self._log.beats().items():
            if worker == self._name:
                continue
            since_ns = seen[worker][1] if seen.get(worker, (None, 0))[0] == beat else now_ns
            self._seen[worker] = (beat, since_ns)
            if now_ns - since_ns > DEAD_SECONDS * 1e9:
                self._take_over(worker)

    def _take_over(self, worker: str) -> None:
        """Take up what a dead worker had begun. Its row goes last: who dies in between is followed by another."""
        beat = self._log.beats().get(worker)
        if beat is None or not self._log.take_over(worker, beat):
            return
        jobs = self._jobs.resume(worker)
        self._log.bury(worker)
        self._seen.pop(worker, None)
        # One that was asked to end leaves its row, too: only what it had begun is worth a warning.
        logger.log("WARNING" if jobs else "DEBUG", "Worker {} is dead; {} jobs of its are taken up here", worker, jobs)

    def _tell_figures(self) -> None:
        """A line on the standard output for whoever started the worker, where something has changed."""
        line = orjson.dumps(self._log.counts() | delivery_counts(self._database))
        if line != self._told:
            self._told = line
            print(line.decode(), flush=True)


def open_worker(settings: Settings, clock: Clock, name: str, life: Life) -> Worker:
    """Put a worker together. Raises `bot.errors.ConfigurationError`."""
    migrate(settings.database)
    desk.database.migrate(settings.database)  # recovery asks the books
    parts = open_parts(settings, clock)
    steps = CallSteps(parts).all()
    jobs = Jobs(parts.log, steps, parts.webhooks.deliver, jobs_database(settings), name)
    return Worker(name, parts, jobs, life)
