"""The tape of a call: an append-only MCAP file that survives the death of the server.

Writing: `TapeDeck.open` starts a `TapeWriter`; `TapeWriter.put` stamps a record with both clocks and queues it, in
about a microsecond and without ever waiting; one thread for all calls appends what is queued as one compressed chunk
per call each half second. A chunk is one ``write``: a killed process loses what was queued and nothing that was
written. While the call is up the file's name ends in ``.mcap.part``; `finish_tape` gives it its index and its name,
after a normal end as after a kill.

Reading: `TapeReader` iterates the records of a tape in the order of writing, finished or not, up to the last whole one.

The container is MCAP (https://mcap.dev/spec), the reading of it by the ``mcap`` library. The chunks are put together
here, because the library's writer keeps the index of the whole file in memory and cannot go back behind a failed write.
docs/tape.md describes the layout, docs/decisions/0005 why it is so.
"""

from __future__ import annotations

import asyncio
import os
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

import orjson
import zstandard
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, DataEnd, Footer, Header, Message, Schema, Statistics
from mcap.stream_reader import CRCValidationError, breakup_chunk
from mcap.writer import MCAP0_MAGIC

from bot.errors import TapeError
from bot.ports import Clock

LAYOUT = 1
"""Version of the layout written: the channels and what their records mean. `TapeReader` reads this and all before."""
PROFILE = "switchboard"
UNFINISHED = ".part"

FLUSH_SECONDS = 0.5
QUEUE_BYTES = 4 * 1024 * 1024
"""What one call may have waiting for a slow disk: about 40 s of a call."""
_RECORD_OVERHEAD = 100
_LONGEST_RECORD = 64 * 1024 * 1024

CHANNELS: dict[str, dict[str, object]] = {
    "meta": {
        "description": "First record: what the call ran with. Later records add what was known only at the end.",
        "properties": {"layout": {"type": "integer"}, "call": {"type": "string"}, "flow": {"type": "object"}},
    },
    "carrier.in": {
        "description": "A message of the carrier's media stream as it came.",
        "properties": {"event": {"type": "string"}},
    },
    "carrier.out": {
        "description": "A message to the carrier's media stream as it was sent.",
        "properties": {"event": {"type": "string"}},
    },
    "model.in": {
        "description": "A message to the model; the caller's audio by reference to carrier.in.",
        "properties": {"realtimeInput": {"type": "object"}},
    },
    "model.out": {
        "description": "A message of the model as it came.",
        "properties": {"serverContent": {"type": "object"}},
    },
    "event": {
        "description": "A CallEvent (bot/events.py).",
        "properties": {"kind": {"type": "string"}},
        "required": ["kind"],
    },
    "tape.gap": {
        "description": "Records were lost here, because the disk did not keep up.",
        "properties": {"lost": {"type": "integer"}, "first_ns": {"type": "integer"}, "last_ns": {"type": "integer"}},
    },
}
"""The channels and the JSON schema of their records. A channel's number in the file is its place here, from 1."""

_CHANNEL_IDS = {name: number for number, name in enumerate(CHANNELS, 1)}


def audio_by_reference(chunk: int, ms: float) -> bytes:
    """The ``model.in`` record of `ms` of caller audio that ended with the media message `chunk` of ``carrier.in``."""
    return b'{"realtimeInput":{"audio":{"ref":"carrier.in","chunk":%d,"ms":%g}}}' % (chunk, ms)


# -- the file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """One record: Unix time and monotonic time in ns, both stamped when it was put, and the data as it was put."""

    channel: str
    wall_ns: int
    mono_ns: int
    data: bytes
    number: int
    """Counts all records put, lost ones included, from 0 (modulo 2^32)."""


def _built(builder: RecordBuilder) -> bytes:
    data: bytes = builder.end()  # type: ignore[no-untyped-call]
    return data


def _schemas_and_channels() -> bytes:
    builder = RecordBuilder()
    for name, number in _CHANNEL_IDS.items():
        schema = orjson.dumps({"type": "object", "title": name, **CHANNELS[name]})
        Schema(id=number, name=f"switchboard.{name}", encoding="jsonschema", data=schema).write(builder)
        Channel(id=number, topic=name, message_encoding="json", metadata={}, schema_id=number).write(builder)
    return _built(builder)


def _head() -> bytes:
    builder = RecordBuilder()
    Header(profile=PROFILE, library="switchboard").write(builder)
    return MCAP0_MAGIC + _built(builder) + _schemas_and_channels()


_HEAD = _head()
_MESSAGE = struct.Struct("<BQHIQQ")
_MESSAGE_INDEX = struct.Struct("<BQHI")


def _chunk(records: list[Record]) -> bytes:
    """One MCAP Chunk with its MessageIndex records: what half a second of a call adds to its file."""
    body = bytearray()
    index: dict[int, list[int]] = {}
    for record in records:
        channel = _CHANNEL_IDS[record.channel]
        index.setdefault(channel, []).extend((record.wall_ns, len(body)))
        length = _MESSAGE.size - 9 + len(record.data)
        number = record.number & 0xFFFF_FFFF
        body += _MESSAGE.pack(Opcode.MESSAGE, length, channel, number, record.wall_ns, record.mono_ns)
        body += record.data
    builder = RecordBuilder()
    Chunk(
        compression="zstd",
        data=zstandard.compress(body),
        message_start_time=min(record.wall_ns for record in records),
        message_end_time=max(record.wall_ns for record in records),
        uncompressed_crc=zlib.crc32(body),
        uncompressed_size=len(body),
    ).write(builder)
    for channel, entries in index.items():
        builder.write(_MESSAGE_INDEX.pack(Opcode.MESSAGE_INDEX, 6 + 8 * len(entries), channel, 8 * len(entries)))
        builder.write(struct.pack(f"<{len(entries)}Q", *entries))
    return _built(builder)


def _whole_records(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Opcode, offset and length (with its 9 bytes of head) of each whole record, the file standing after the head.

    Ends where the file does, where a record is torn, or behind the Footer.
    """
    size = os.fstat(file.fileno()).st_size
    offset = len(MCAP0_MAGIC)
    while offset + 9 <= size:
        file.seek(offset)
        opcode, length = struct.unpack("<BQ", file.read(9))
        if offset + 9 + length > size or opcode == 0:
            return
        yield opcode, offset, 9 + length
        if opcode == Opcode.FOOTER:
            return
        offset += 9 + length


def _index(file: BinaryIO) -> tuple[int, list[ChunkIndex], dict[int, int]]:
    """Read a tape for its index: where its whole data ends, its chunks, and the count of records per channel."""
    end = len(MCAP0_MAGIC)
    chunks: list[ChunkIndex] = []
    counts: dict[int, int] = {}
    for opcode, offset, length in _whole_records(file):
        if opcode == Opcode.DATA_END:
            break
        if opcode == Opcode.CHUNK:
            chunk = Chunk.read(ReadDataStream(file))
            chunks.append(
                ChunkIndex(
                    chunk_start_offset=offset,
                    chunk_length=length,
                    compression=chunk.compression,
                    compressed_size=len(chunk.data),
                    uncompressed_size=chunk.uncompressed_size,
                    message_start_time=chunk.message_start_time,
                    message_end_time=chunk.message_end_time,
                    message_index_offsets={},
                    message_index_length=0,
                )
            )
        elif opcode == Opcode.MESSAGE_INDEX:
            channel, size = struct.unpack("<HI", file.read(6))
            chunks[-1].message_index_offsets[channel] = offset
            chunks[-1].message_index_length += length
            counts[channel] = counts.get(channel, 0) + size // 16
        end = offset + length
    return end, chunks, counts


def finish_tape(path: Path) -> Path:
    """Finish a tape whose writer is gone: cut a torn end off, append the index, fsync, take ``.part`` off the name.

    Works on the tape of an orderly end and of a killed server alike, and again where it was interrupted itself.
    Returns the tape's final path. Blocking. Raises `TapeError` where there is no tape, ``OSError`` from the disk.
    """
    if not path.name.endswith(UNFINISHED):
        return path
    with path.open("r+b") as file:
        if file.read(len(_HEAD)) != _HEAD:
            raise TapeError(f"{path}: holds no record; the call ended before its tape began. Delete it.")
        end, chunks, counts = _index(file)
        builder = RecordBuilder()
        DataEnd(data_section_crc=0).write(builder)
        summary_start = end + builder.count
        builder.write(_schemas_and_channels())
        Statistics(
            attachment_count=0,
            channel_count=len(CHANNELS),
            channel_message_counts=counts,
            chunk_count=len(chunks),
            message_count=sum(counts.values()),
            message_start_time=min((chunk.message_start_time for chunk in chunks), default=0),
            message_end_time=max((chunk.message_end_time for chunk in chunks), default=0),
            metadata_count=0,
            schema_count=len(CHANNELS),
        ).write(builder)
        for chunk in chunks:
            chunk.write(builder)
        Footer(summary_start=summary_start, summary_offset_start=0, summary_crc=0).write(builder)
        file.seek(end)
        file.truncate()
        file.write(_built(builder) + MCAP0_MAGIC)
        file.flush()
        os.fsync(file.fileno())
    final = path.with_name(path.name.removesuffix(UNFINISHED))
    path.rename(final)
    _sync_folder(final.parent)
    return final


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TapeTrouble:
    """Something is wrong with a tape; the call goes on.

    ``queue_full``: the disk does not keep up and `lost` records were dropped (the tape will say so itself, in a
    ``tape.gap``); ``write_failed``: the disk refuses (tried again each half second); ``write_resumed``: it takes again.
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
        self._written = 0
        self._pending = b""
        self._pending_records = 0
        self._failing = False
        self.put("meta", orjson.dumps({"layout": LAYOUT, "call": call_sid, **meta}))

    def put(self, channel: str, data: bytes) -> None:
        """Append one record, stamped now. Never waits and never raises for the disk's sake; any thread may call it.

        `channel` is one of `CHANNELS`; `data` is kept as it is (JSON, so that viewers can show it; what came malformed
        from the wire is kept malformed). A full queue drops the record, counts it and marks the place on the tape.
        """
        record = Record(channel, self._clock.wall_ns(), self._clock.now_ns(), data, self._number)
        with self._lock:
            self._number += 1
            size = len(data) + _RECORD_OVERHEAD
            if self._closed or self._queued_bytes + size > QUEUE_BYTES:
                self._drop(record)
                return
            if self._gap_lost:
                self._queue.append(self._gap_record(record.wall_ns))
            self._queue.append(record)
            self._queued_bytes += size

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
        self._tell_lost()
        return path

    def flush(self) -> None:
        """Append what is queued to the file. Blocking; the deck's thread calls it each half second."""
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
        return (_chunk(records), len(records)) if records else (b"", 0)

    def _write(self, data: bytes) -> None:
        """Append `data` whole, or leave the file as it was and raise ``OSError``."""
        if self._path is None:
            self._path = self._create()
        if not self._written:
            data = _HEAD + data
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
            os.lseek(descriptor, self._written, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError:
            os.ftruncate(descriptor, self._written)
            raise
        finally:
            os.close(descriptor)
        self._written += len(data)

    def _create(self) -> Path:
        """A new file; the carrier may send a call back to us after a restart, so its first tape may lie there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for again in range(1, 1000):
            name = f"{self.call_sid}.mcap" if again == 1 else f"{self.call_sid}.{again}.mcap"
            path = self._folder / (name + UNFINISHED)
            if (self._folder / name).exists():
                continue
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                continue
            return path
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
        self._stop = threading.Event()
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
        self._stop.set()
        if self._thread:
            self._thread.join()
        for tape in list(self._tapes):
            tape._finish()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            with self._lock:
                tapes = list(self._tapes)
            for tape in tapes:
                tape.flush()

    def _forget(self, tape: TapeWriter) -> None:
        with self._lock:
            self._tapes.pop(tape, None)


# -- reading ----------------------------------------------------------------------------------------------------------


class TapeReader:
    """A tape, finished or not. Iterate it, as often as wanted, for its records in the order of writing.

    The file may be growing, cut or left by a killed server: iteration ends with the last whole chunk, and `truncated`
    tells that the tape was never finished.
    """

    def __init__(self, path: Path) -> None:
        """Raises `TapeError` where `path` cannot be read, is no tape, or was written by a newer version."""
        self.path = path
        try:
            with path.open("rb") as file:
                head = file.read(len(_HEAD))
                file.seek(max(0, os.fstat(file.fileno()).st_size - len(MCAP0_MAGIC)))
                self.truncated = len(head) < len(_HEAD) or file.read() != MCAP0_MAGIC
        except OSError as error:
            raise TapeError(f"{path}: cannot be read: {error.strerror}") from error
        self._check_head(head)
        self.meta: dict[str, object] = self._first_meta()
        """The first record: what the call ran with. Empty where not even that was written."""
        layout = self.meta.get("layout", LAYOUT)
        if layout not in _LAYOUTS:
            raise TapeError(f"{path}: has layout {layout}; this version reads up to {LAYOUT}. Use a newer Switchboard.")
        self._read = _LAYOUTS[layout]

    def __iter__(self) -> Iterator[Record]:
        """Raises `TapeError` where a chunk is damaged; what comes before it has been given."""
        return self._read(self.path)

    def _check_head(self, head: bytes) -> None:
        if not head.startswith(MCAP0_MAGIC[: len(head)]):
            raise TapeError(f"{self.path}: is not a tape (not an MCAP file)")
        profile = _HEAD[: len(MCAP0_MAGIC) + 9 + 4 + len(PROFILE)]
        ours = profile[len(MCAP0_MAGIC) + 9 :]
        theirs = head[len(MCAP0_MAGIC) + 9 : len(profile)]
        if theirs != ours[: len(theirs)]:
            raise TapeError(f"{self.path}: is an MCAP file, but not a tape of Switchboard")

    def _first_meta(self) -> dict[str, object]:
        first = next(_read_records(self.path), None)
        if first is None:
            return {}
        if first.channel != "meta":
            raise TapeError(f"{self.path}: does not begin with a meta record")
        values: dict[str, object] = orjson.loads(first.data)
        return values


def _read_records(path: Path) -> Iterator[Record]:
    names: dict[int, str] = {}
    with path.open("rb") as file:
        for opcode, offset, length in _whole_records(file):
            body = ReadDataStream(BytesIO(file.read(length - 9)))
            if opcode == Opcode.CHANNEL:
                channel = Channel.read(body)
                names[channel.id] = channel.topic
            elif opcode == Opcode.CHUNK:
                yield from _read_chunk(path, offset, Chunk.read(body), names)


def _read_chunk(path: Path, offset: int, chunk: Chunk, names: dict[int, str]) -> Iterator[Record]:
    try:
        messages = breakup_chunk(chunk, validate_crc=True)
    except (McapError, CRCValidationError, zstandard.ZstdError, struct.error) as error:
        raise TapeError(f"{path}: damaged at byte {offset}") from error
    for message in messages:
        if isinstance(message, Message):
            yield Record(
                names[message.channel_id], message.log_time, message.publish_time, message.data, message.sequence
            )


_LAYOUTS: dict[object, Callable[[Path], Iterator[Record]]] = {1: _read_records}
