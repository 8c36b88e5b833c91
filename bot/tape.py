"""The tape of a call: an append-only MCAP file that survives the death of the server.

Writing: `TapeDeck.open` starts a `TapeWriter`; `TapeWriter.put` stamps a record with both clocks and queues it, in
about a microsecond and without ever waiting; one thread for all calls appends what is queued, call by call, each every
0.4 s, as one compressed chunk. A chunk is one ``write``: a killed process loses what was queued and nothing that was
written. While the call is up the file's name ends in ``.mcap.part`` and its writer holds a lock on it, which the kernel
takes back from a dead process; `finish_tape` gives it its index and its name after a normal end, `recover_tape` after a
kill.

Reading: `TapeReader` iterates the records of a tape in the order of writing, finished or not, up to the last whole one.
Both are in bot/tape_file.py, with the layout.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal

import orjson

from bot.errors import TapeError
from bot.events import CallEnded, CallEvent
from bot.ports import Clock
from bot.tape_file import CHANNELS, HEAD, LAYOUT, UNFINISHED, Record, TapeReader, encode_chunk, finish_tape

__all__ = [
    "CHANNELS",
    "Record",
    "TapeDeck",
    "TapeReader",
    "TapeTrouble",
    "TapeWriter",
    "finish_tape",
    "recover_tape",
]

FLUSH_SECONDS = 0.4
"""Each tape is written this often, in turn: a call's newest records are at most twice as old when they are written."""
QUEUE_BYTES = 4 * 1024 * 1024
"""What one call may have waiting for a slow disk: about 40 s of a call."""
NEWBORN_SECONDS = 60.0
"""An empty file is left alone for so long: a writer makes its file and locks it in two steps."""
_RECORD_OVERHEAD = 100

Missing = Callable[[TapeReader], Sequence[CallEvent]]
"""Gives what is known of a call in progress and missing on its tape, whose last records a kill has taken."""


@dataclass(frozen=True)
class TapeTrouble:
    """Something is wrong with a tape; the call goes on.

    ``queue_full``: the disk does not keep up and `lost` records were dropped (the tape will say so itself, in a
    ``tape.gap``); ``write_failed``: the disk refuses (tried again at each turn); ``write_resumed``: it takes again.
    """

    call_sid: str
    kind: Literal["queue_full", "write_failed", "write_resumed"]
    lost: int = 0
    detail: str = ""


class TapeWriter:
    """The tape of one call in progress. Made by `TapeDeck.open`."""

    def __init__(self, deck: TapeDeck, folder: Path, call_sid: str, meta: Mapping[str, object]) -> None:
        self.call_sid = call_sid
        self.lost = 0
        """Records dropped so far."""
        self._deck = deck
        self._clock = deck.clock
        self._folder = folder
        self._lock = threading.Lock()  # guards the queue: held for a few bytecodes
        self._queue: list[Record] = []
        self._queued_bytes = 0
        self._number = 0
        self._gap: list[int] = []  # monotonic times of the records dropped since the queue was full, first and last
        self._gap_lost = 0
        self._told_lost = 0
        self._closed = False
        self._io = threading.Lock()  # guards the file: held while the disk works
        self._path: Path | None = None
        self._descriptor: int | None = None  # open for as long as the call is up: it carries the lock
        self._written = 0
        self._pending = b""
        self._pending_records = 0
        self._failing = False
        self.put("meta", orjson.dumps({"layout": LAYOUT, "call": call_sid, **meta}))

    def put(self, channel: str, data: bytes, *, soon: bool = False) -> None:
        """Append one record, stamped now. Never waits and never raises for the disk's sake; any thread may call it.

        `channel` is one of `CHANNELS`; `data` is kept as it is (JSON, so that viewers can show it; what came malformed
        from the wire is kept malformed). A full queue drops the record, counts it and marks the place on the tape.
        `soon`: it is written within milliseconds instead of at the tape's next turn, and kept though the queue is full.
        """
        if channel not in CHANNELS:
            raise ValueError(f"a tape has no channel {channel!r}; there are {', '.join(CHANNELS)}")
        record = Record(channel, self._clock.wall_ns(), self._clock.now_ns(), bytes(data), self._number)
        with self._lock:
            self._number += 1
            size = len(data) + _RECORD_OVERHEAD
            if self._closed or (self._queued_bytes + size > QUEUE_BYTES and not soon):
                self._drop(record)
                return
            if self._gap_lost:
                self._queue.append(self._gap_record(record.wall_ns))
            self._queue.append(record)
            self._queued_bytes += size
        if soon:
            self._deck._soon.put(self)

    def _drop(self, record: Record) -> None:
        self.lost += 1
        self._gap_lost += 1
        self._gap = [self._gap[0] if self._gap else record.mono_ns, record.mono_ns]

    def _gap_record(self, wall_ns: int) -> Record:
        first_ns, last_ns = self._gap
        data = orjson.dumps({"lost": self._gap_lost, "first_ns": first_ns, "last_ns": last_ns})
        self._gap_lost, self._gap = 0, []
        return Record("tape.gap", wall_ns, last_ns, data, self._number - 1)

    async def close(self, meta: Mapping[str, object] | None = None) -> Path:
        """Write what is queued and finish the file, in a thread. Once; a second call does nothing more.

        `meta` goes onto the tape as its last ``meta`` record: what may be known only when the call is over, such as
        the seed of the call's ids. Returns where the tape lies: ``….mcap``, or ``….mcap.part`` where the disk refused
        to the last (`TapeTrouble` told).
        """
        if meta and not self._closed:
            self.put("meta", orjson.dumps(dict(meta)))
        return await asyncio.to_thread(self._finish)

    def _finish(self) -> Path:
        self._deck._forget(self)
        with self._lock:
            if self._gap_lost and not self._closed:
                self._queue.append(self._gap_record(self._clock.wall_ns()))
            self._closed = True
        self.flush()
        with self._io:
            path = self._path or self._folder / f"{self.call_sid}.mcap{UNFINISHED}"
            self.lost += self._pending_records
            self._pending, self._pending_records = b"", 0
            if not self._failing and path.name.endswith(UNFINISHED):
                try:
                    path = self._path = finish_tape(path)
                except OSError as error:
                    self._failed(error)
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
        self._tell_lost()
        return path

    def flush(self) -> None:
        """Append what is queued to the file. Blocking; the deck's thread calls it in turn."""
        with self._io:
            if not self._pending:
                self._pending, self._pending_records = self._take()
            try:
                while self._pending:
                    self._write(self._pending)
                    self._pending, self._pending_records = self._take()
            except OSError as error:
                self._failed(error)
            else:
                if self._failing:
                    self._failing = False
                    self._deck.on_trouble(TapeTrouble(self.call_sid, "write_resumed"))
        self._tell_lost()

    def _take(self) -> tuple[bytes, int]:
        with self._lock:
            records, self._queue, self._queued_bytes = self._queue, [], 0
        return (encode_chunk(records), len(records)) if records else (b"", 0)

    def _write(self, data: bytes) -> None:
        """Append `data` whole, or leave the file as it was and raise ``OSError``."""
        if self._descriptor is None:
            self._path, self._descriptor = self._create()
        if not self._written:
            data = HEAD + data
        try:
            os.lseek(self._descriptor, self._written, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            os.ftruncate(self._descriptor, self._written)
            raise
        self._written += len(data)

    def _create(self) -> tuple[Path, int]:
        """A new file, locked; the carrier may send a call back after a restart, so its first tape may lie there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for again in range(1, 1000):
            name = f"{self.call_sid}.mcap" if again == 1 else f"{self.call_sid}.{again}.mcap"
            path = self._folder / (name + UNFINISHED)
            if (self._folder / name).exists():
                continue
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                os.close(descriptor)
                raise
            return path, descriptor
        raise FileExistsError(f"{self._folder}: a thousand tapes of one call")

    def _failed(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._deck.on_trouble(TapeTrouble(self.call_sid, "write_failed", detail=os.strerror(error.errno or 0)))

    def _tell_lost(self) -> None:
        untold = self.lost - self._told_lost
        if untold:
            self._told_lost += untold
            self._deck.on_trouble(TapeTrouble(self.call_sid, "queue_full", lost=untold))


class TapeDeck:
    """All tapes of this process, and the one thread that writes them."""

    def __init__(self, data_dir: Path, clock: Clock, on_trouble: Callable[[TapeTrouble], None]) -> None:
        """Tapes go to ``data_dir/tapes/YYYY-MM-DD/CALL_SID.mcap`` (UTC).

        `on_trouble` is called from the writing threads; it must be quick, thread-safe and must not raise.
        """
        self.clock = clock
        self.on_trouble = on_trouble
        self._root = data_dir / "tapes"
        self._tapes: dict[TapeWriter, None] = {}
        self._lock = threading.Lock()
        self._soon: SimpleQueue[TapeWriter | None] = SimpleQueue()  # tapes that do not wait for their turn; None: stop
        self._thread: threading.Thread | None = None

    def open(self, call_sid: str, meta: Mapping[str, object]) -> TapeWriter:
        """Start the tape of a call; `meta` is its first record (docs/tape.md lists the keys). Does not touch the disk.

        Raises `TapeError` for a call id that cannot be a file name.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call_sid):
            raise TapeError("a call id must be 1 to 64 letters, digits, - or _ to name a tape")
        day = datetime.fromtimestamp(self.clock.wall_ns() / 1e9, UTC).date().isoformat()
        tape = TapeWriter(self, self._root / day, call_sid, meta)
        with self._lock:
            self._tapes[tape] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tapes", daemon=True)
                self._thread.start()
        return tape

    async def close(self) -> None:
        """Finish every tape and stop the thread."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._thread:
            self._soon.put(None)
            self._thread.join()
        for tape in list(self._tapes):
            tape._finish()

    def _run(self) -> None:
        while True:
            # One tape at a time, evenly spread: thirty in a row would hold the interpreter from the loop for 10 ms.
            try:
                tape = self._soon.get(timeout=FLUSH_SECONDS / max(1, len(self._tapes)))
                if tape is None:
                    return
            except Empty:
                tape = self._next()
            if tape is None:
                continue
            try:
                tape.flush()
            except Exception as error:  # this thread serves every call; one tape's mishap must not end it
                self.on_trouble(TapeTrouble(tape.call_sid, "write_failed", detail=type(error).__name__))

    def _next(self) -> TapeWriter | None:
        with self._lock:
            tape = next(iter(self._tapes), None)
            if tape is not None:
                del self._tapes[tape]
                self._tapes[tape] = None
            return tape

    def _forget(self, tape: TapeWriter) -> None:
        with self._lock:
            self._tapes.pop(tape, None)


def recover_tape(path: Path, clock: Clock, missing: Missing = lambda _: ()) -> Path | None:
    """Finish the tape of a dead process, whose call is closed as ``interrupted`` unless its end is on the tape.

    What is `missing` is added before the end.

    Returns the tape's final path, or None where there is no tape to finish: its writer lives (it holds the lock),
    another process was faster, or the writer died before it had written one whole record; then the file is removed.
    The end stands where the last record does; when it was added stands in a last ``meta`` record. Blocking. Raises
    `TapeError` where the file is no tape, ``OSError`` from the disk, and what `missing` raises: then all is as before.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(descriptor)
        if not _is_at(path, found):
            return None
        if found.st_size == 0 and clock.wall_ns() - found.st_mtime_ns < NEWBORN_SECONDS * 1e9:
            return None  # its writer may be about to lock it
        if found.st_size == 0 or next(iter(TapeReader(path)), None) is None:
            path.unlink()
            return None
        return finish_tape(path, last=_interruption(TapeReader(path), clock, missing))
    except BlockingIOError:
        return None
    finally:
        os.close(descriptor)


def _is_at(path: Path, file: os.stat_result) -> bool:
    """Whether `path` still names `file`: who finishes a tape takes this name away, and it may be given again."""
    try:
        return os.path.samestat(path.stat(), file)
    except FileNotFoundError:
        return False


def _interruption(tape: TapeReader, clock: Clock, missing: Missing) -> list[Record]:
    """The records that close a call whose server died: none where the call had ended."""
    records = iter(tape)
    first = last = next(records)
    for last in records:
        if last.channel == "event" and orjson.loads(last.data).get("kind") in ("call_ended", "call_refused"):
            return []
    ended = CallEnded("interrupted", (last.mono_ns - first.mono_ns) / 1e6)
    note = {"recovered": {"wall_ns": clock.wall_ns()}}
    data = [*(("event", event.to_json()) for event in (*missing(tape), ended)), ("meta", orjson.dumps(note))]
    return [
        Record(channel, last.wall_ns, last.mono_ns, added, last.number + place)
        for place, (channel, added) in enumerate(data, 1)
    ]
