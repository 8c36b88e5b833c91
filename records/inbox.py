"""The folder ``DATA_DIR/tapes``: tapes of calls in progress, and finished ones whose records are not made yet.

A finished tape there is work. It is given its call's id, archived in the recordings' store and read back whole, and
removed when its records are committed and its recording is kept. What died with a server is recovered first. What is
made of tapes lies in ``DATA_DIR/work`` while it is worked on, never in the system's folder for temporary files, where
callers' voices would outlast a killed process unseen. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import orjson
from loguru import logger

from bot.errors import SwitchboardError, TapeError
from bot.events import CallReceived
from bot.ports import Clock
from bot.tape import Missing, Record, TapeReader, recover_tape
from records.recordings import Recordings

TAPE_TYPE = "application/vnd.mcap"
SETTLE_SECONDS = 2.0
"""A tape is left alone so long after it was last written: Postgres ends a commit that a killed server has begun."""
_ADDED_AT_RECOVERY = ("write_found", "call_ended")


class WrongCopy(SwitchboardError):
    """The archived copy of a tape is not the tape."""


@dataclass(frozen=True, order=True)
class File:
    """A file as it is now: once it is removed, another one may come to lie at the same path."""

    path: Path
    inode: int
    written_ns: int


@dataclass(frozen=True)
class Tape:
    """A finished tape: where it lies, the carrier's id of its call, what identifies it, and who called."""

    path: Path
    call_sid: str
    sha256: str
    bytes: int
    from_number: str = ""


def tape_key(call_id: str) -> str:
    """Where a call's tape lies in the recordings' store."""
    return f"{call_id}/tape.mcap"


class Inbox:
    """The tapes of one ``DATA_DIR``. The worker holds its lock (`records.worker`), so it alone works here."""

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self.folder = data_dir / "tapes"
        self._work = data_dir / "work"
        self._clock = clock
        self._unreadable: set[Path] = set()

    def recover(self, missing: Missing) -> list[Path]:
        """Finish the tapes of dead processes, with what is `missing` on them; gives those that were finished now."""
        found = []
        for part in sorted(self.folder.glob("*/*.mcap.part")):
            try:
                if self._clock.wall_ns() - part.stat().st_mtime_ns < SETTLE_SECONDS * 1e9:
                    continue
                tape = recover_tape(part, self._clock, missing)
            except (TapeError, OSError) as error:
                self._tell(part, error)
                continue
            if tape:
                logger.warning("The tape of call {} was left by a dead server and is finished now", tape.stem)
                found.append(tape)
        return found

    def finished(self) -> Iterator[File]:
        """The finished tapes."""
        for path in self.folder.glob("*/*.mcap"):
            with suppress(FileNotFoundError):  # a command looks beside the worker, which has removed it just now
                yield self.file(path)

    def file(self, path: Path) -> File:
        """A file as it is now."""
        found = path.stat()
        return File(path, found.st_ino, found.st_mtime_ns)

    def open(self, path: Path) -> Tape | None:
        """What identifies a finished tape; None (told once) where it is none."""
        try:
            call_sid = TapeReader(path).meta.get("call")
            if not isinstance(call_sid, str):
                raise TapeError(f"{path}: names no call")
            return Tape(path, call_sid, file_sha256(path), path.stat().st_size, caller_of(path))
        except (TapeError, OSError) as error:
            self._tell(path, error)
            return None

    def find(self, call_id: str) -> Path | None:
        """The tape of a call, finished or not. Who reads it must `hold` it: the worker may take it away any moment."""
        return next(self._places(call_id), None)

    def hold(self, call_id: str, path: Path) -> bool:
        """Have the tape of a call lie at `path` too, where it stays whatever becomes of it here; False where none is.

        It is the same file, to be read only: an unfinished one goes on growing, and is finished there too.
        """
        for found in self._places(call_id):
            with suppress(FileNotFoundError):  # it was finished, given another name or removed just now
                os.link(found, path)
                return True
        return False

    def _places(self, call_id: str) -> Iterator[Path]:
        """Where the tape of a call lies. The first place is looked at again: a tape may be finished meanwhile."""
        for name in (f"{call_id}.mcap", f"{call_id}.mcap.part", f"{call_id}.mcap"):
            yield from self.folder.glob(f"*/{name}")

    def rename(self, tape: Tape, call_id: str) -> Tape:
        """Give the file the call's id, which is another than the file's name where the carrier sent a call twice."""
        path = tape.path.with_name(f"{call_id}.mcap")
        if path != tape.path:
            if not (path.exists() and path.samefile(tape.path)):
                os.link(tape.path, path)  # unlike a rename, refuses where another tape lies
            tape.path.unlink()
        return replace(tape, path=path)

    def remove(self, file: File) -> None:
        """Take a tape out; its day's folder too, where it was the last one and no writer can want it any more."""
        if self.file(file.path) != file:
            return
        file.path.unlink()
        day = file.path.parent
        if any(later.name > day.name for later in self.folder.iterdir()):
            with suppress(OSError):
                day.rmdir()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for files that are needed for a moment; who is killed leaves it to `clear_scratch`.

        It is locked as long as it is used, because commands work here beside the worker.
        """
        self._work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._work) as folder, (Path(folder) / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(folder)

    def clear_scratch(self) -> None:
        """Remove the folders of dead processes."""
        for folder in self._work.glob("*"):
            with suppress(BlockingIOError, FileNotFoundError), (folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)

    def _tell(self, path: Path, error: Exception) -> None:
        if path not in self._unreadable:
            self._unreadable.add(path)
            logger.error("The tape {} cannot be worked through: {}", path.name, type(error).__name__)


def archive(tape: Tape, call_id: str, recordings: Recordings) -> None:
    """Keep a tape in the recordings' store and read it back whole. Raises `WrongCopy`, `RecordingsError`."""
    key = tape_key(call_id)
    if not (recordings.exists(key) and archived_sha256(key, recordings) == tape.sha256):
        recordings.put(tape.path, key, TAPE_TYPE)
        if archived_sha256(key, recordings) != tape.sha256:
            raise WrongCopy(f"The copy of tape {call_id} in the recordings' store is not the tape.")


def archived_calls(recordings: Recordings) -> Iterator[str]:
    """The ids of all calls whose tapes lie in the recordings' store."""
    for stored in recordings.list():
        call_id, _, name = stored.key.partition("/")
        if tape_key(call_id) == f"{call_id}/{name}":
            yield call_id


def archived_sha256(key: str, recordings: Recordings) -> str:
    """The SHA-256 of an object in the recordings' store, read whole."""
    digest = hashlib.sha256()
    for chunk in recordings.open_range(key).chunks:
        digest.update(chunk)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def caller_of(tape: Path) -> str:
    """The number that the call of a tape came from; empty where the tape does not tell, or is none."""
    try:
        for record in TapeReader(tape):
            if record.channel == "event" and isinstance(event := CallReceived.from_json(record.data), CallReceived):
                return event.from_number
    except (TapeError, OSError, ValueError):
        return ""
    return ""


@contextmanager
def tape_of(call_id: str, inbox: Inbox, recordings: Recordings) -> Iterator[Path]:
    """The tape of a call as a file ``CALL.mcap``: from the inbox, or fetched from the recordings' store.

    It is there for as long as it is needed: the worker may archive it and take it out of the inbox meanwhile.
    Raises `bot.errors.TapeError` where neither has it.
    """
    with inbox.scratch() as folder:
        path = folder / f"{call_id}.mcap"
        if not inbox.hold(call_id, path):
            _fetch(call_id, path, inbox, recordings)
        yield path


@contextmanager
def archived_tape(call_id: str, inbox: Inbox, recordings: Recordings) -> Iterator[Path]:
    """The tape of a call as the recordings' store has it. Raises `bot.errors.TapeError` where it has none."""
    with inbox.scratch() as folder:
        path = folder / f"{call_id}.mcap"
        _fetch(call_id, path, inbox, recordings)
        yield path


def _fetch(call_id: str, path: Path, inbox: Inbox, recordings: Recordings) -> None:
    try:
        with path.open("wb") as file:
            for chunk in recordings.open_range(tape_key(call_id)).chunks:
                file.write(chunk)
    except (FileNotFoundError, ValueError):
        raise TapeError(f"There is no tape of call {call_id}, neither in {inbox.folder} nor archived.") from None


def is_beginning(part: Path, whole: Path) -> bool:
    """Whether a tape holds nothing but the beginning of another one, what its recovery added apart.

    False where one of them cannot be read to its end.
    """
    try:
        rest = iter(TapeReader(whole))
        records = iter(TapeReader(part))
        for record in records:
            if record != next(rest, None):
                return _were_added_by_recovery(chain([record], records))
        return next(rest, None) is not None
    except TapeError:
        return False


def _were_added_by_recovery(records: Iterator[Record]) -> bool:
    """Reads no further than it must: of two tapes that differ early, one may be hours long."""
    for record in records:
        if record.channel == "meta":
            return "recovered" in orjson.loads(record.data) and next(records, None) is None
        if record.channel != "event" or orjson.loads(record.data).get("kind") not in _ADDED_AT_RECOVERY:
            return False
    return False
