"""A tape as a file: the layout of its MCAP container, its reader, and what finishes it after an orderly end or a kill.

The container is MCAP (https://mcap.dev/spec), the parsing of it the ``mcap`` library's. Chunks and index are put
together here: the library's writer keeps the index of the whole file in memory and cannot undo a failed write.
docs/tape.md describes the layout, docs/decisions/0005 why it is so. Everything here blocks.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson
import zstandard
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.exceptions import EndOfFile, McapError
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Message,
    Schema,
    Statistics,
)
from mcap.stream_reader import CRCValidationError, breakup_chunk
from mcap.writer import MCAP0_MAGIC

from bot.errors import TapeError

LAYOUT = 1
"""Version of the layout written: the channels and what their records mean. `TapeReader` reads this and all before."""
PROFILE = "switchboard"
UNFINISHED = ".part"

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


class Record(NamedTuple):
    """One record: Unix time and monotonic time in ns, both stamped when it was put, and the data as it was put.

    A tuple, because three are made for each frame of a call: five times as fast as a frozen dataclass.
    """

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


HEAD = _head()
_DAMAGE = (
    McapError,
    CRCValidationError,
    EndOfFile,
    zstandard.ZstdError,
    struct.error,
    UnicodeDecodeError,
    OverflowError,
    MemoryError,
)
"""What damaged bytes raise, lengths beyond all bounds among them."""
_MESSAGE = struct.Struct("<BQHIQQ")
_MESSAGE_INDEX = struct.Struct("<BQHI")


def encode_chunk(records: Sequence[Record]) -> bytes:
    """One MCAP Chunk with its MessageIndex records: what one round of writing adds to the file of a call."""
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
        builder.write(_message_index(channel, entries))
    return _built(builder)


def _message_index(channel: int, entries: list[int]) -> bytes:
    """A MessageIndex record; `entries` are time and offset of each message in turn."""
    head = _MESSAGE_INDEX.pack(Opcode.MESSAGE_INDEX, 6 + 8 * len(entries), channel, 8 * len(entries))
    return head + struct.pack(f"<{len(entries)}Q", *entries)


def _whole_records(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Opcode, offset and length (with its 9 bytes of head) of each whole record, the file standing after the head.

    Ends where the file does, where a record is torn, or behind the Footer. A torn end may be cut off meanwhile.
    """
    size = os.fstat(file.fileno()).st_size
    offset = len(MCAP0_MAGIC)
    while offset + 9 <= size:
        file.seek(offset)
        head = file.read(9)
        if len(head) < 9:
            return
        opcode, length = struct.unpack("<BQ", head)
        if offset + 9 + length > size or opcode == 0:
            return
        yield opcode, offset, 9 + length
        if opcode == Opcode.FOOTER:
            return
        offset += 9 + length


@dataclass
class _Contents:
    """What a tape's index is made from. `counts` are the messages of each channel, for each chunk."""

    end: int
    definitions: bytes
    chunks: list[ChunkIndex]
    counts: list[dict[int, int]]


def _contents(file: BinaryIO) -> _Contents:
    """Read what is whole of a tape, without unpacking its chunks."""
    found = _Contents(len(MCAP0_MAGIC), b"", [], [])
    for opcode, offset, length in _whole_records(file):
        if opcode == Opcode.DATA_END:
            break
        if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
            file.seek(offset)
            found.definitions += file.read(length)
        elif opcode == Opcode.CHUNK:
            found.chunks.append(_chunk_index(Chunk.read(ReadDataStream(file)), offset, length))
            found.counts.append({})
        elif opcode == Opcode.MESSAGE_INDEX:
            channel, size = struct.unpack("<HI", file.read(6))
            found.chunks[-1].message_index_offsets[channel] = offset
            found.chunks[-1].message_index_length += length
            found.counts[-1][channel] = size // 16
        found.end = offset + length
    return found


def _chunk_index(chunk: Chunk, offset: int, length: int) -> ChunkIndex:
    return ChunkIndex(
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


def _mend_last_chunk(file: BinaryIO, found: _Contents) -> bytes:
    """Drop a last chunk that is damaged, and make anew what follows the last good one: its MessageIndex records.

    A kill between the parts of one ``write`` leaves some of them out; a power cut leaves zeros in a chunk.
    """
    while found.chunks:
        chunk = found.chunks[-1]
        file.seek(chunk.chunk_start_offset + 9)
        try:
            opened = _opened(Opcode.CHUNK, ReadDataStream(file))
            messages = [record for record in opened if isinstance(record, Message)]
        except _DAMAGE:
            found.end = found.chunks.pop().chunk_start_offset
            found.counts.pop()
            continue
        index: dict[int, list[int]] = {}
        at = 0
        for message in messages:
            index.setdefault(message.channel_id, []).extend((message.log_time, at))
            at += _MESSAGE.size + len(message.data)
        found.end = chunk.chunk_start_offset + chunk.chunk_length
        chunk.message_index_offsets.clear()
        tail = b""
        for channel, entries in index.items():
            chunk.message_index_offsets[channel] = found.end + len(tail)
            tail += _message_index(channel, entries)
        chunk.message_index_length = len(tail)
        found.counts[-1] = {channel: len(entries) // 2 for channel, entries in index.items()}
        return tail
    return b""


def _summary(found: _Contents, data_end: int) -> bytes:
    """Everything that follows the data of a finished MCAP file; `data_end` is where it will stand."""
    counts: dict[int, int] = {}
    for of_chunk in found.counts:
        for channel, count in of_chunk.items():
            counts[channel] = counts.get(channel, 0) + count
    builder = RecordBuilder()
    DataEnd(data_section_crc=0).write(builder)
    summary_start = data_end + builder.count
    builder.write(found.definitions)
    Statistics(
        attachment_count=0,
        channel_count=len(CHANNELS),
        channel_message_counts=counts,
        chunk_count=len(found.chunks),
        message_count=sum(counts.values()),
        message_start_time=min((chunk.message_start_time for chunk in found.chunks), default=0),
        message_end_time=max((chunk.message_end_time for chunk in found.chunks), default=0),
        metadata_count=0,
        schema_count=len(CHANNELS),
    ).write(builder)
    for chunk in found.chunks:
        chunk.write(builder)
    Footer(summary_start=summary_start, summary_offset_start=0, summary_crc=0).write(builder)
    return _built(builder) + MCAP0_MAGIC


def finish_tape(path: Path, *, last: Sequence[Record] = ()) -> Path:
    """Finish a tape whose writer is gone: cut a torn end off, append the index, fsync, take ``.part`` off the name.

    Works on the tape of an orderly end and of a killed server alike, of this version or an older one, and again where
    it was interrupted itself. `last` are records to add at its end. Returns the tape's final path. Blocking. Raises
    `TapeError` where there is no tape, ``OSError`` from the disk.
    """
    if not path.name.endswith(UNFINISHED):
        return path
    with path.open("r+b") as file:
        _check_head(path, file)
        found = _contents(file)
        tail = _mend_last_chunk(file, found)
        if not found.chunks:
            raise TapeError(f"{path}: holds no record; the call ended before its tape began. Delete it.")
        if last:
            # Written before the index: where this is cut short, the next one finds them and adds nothing.
            file.seek(found.end)
            file.truncate()
            file.write(tail + encode_chunk(last))
            file.seek(len(MCAP0_MAGIC))
            found, tail = _contents(file), b""
        tail += _summary(found, found.end + len(tail))
        file.seek(found.end)
        file.truncate()
        file.write(tail)
        file.flush()
        os.fsync(file.fileno())
    final = path.with_name(path.name.removesuffix(UNFINISHED))
    path.rename(final)
    _sync_folder(final.parent)
    return final


def _check_head(path: Path, file: BinaryIO) -> None:
    """Raise `TapeError` where the file is no tape. A tape that was cut within its first bytes passes."""
    head = file.read(len(MCAP0_MAGIC) + 9 + 4 + len(PROFILE))
    if not head.startswith(MCAP0_MAGIC[: len(head)]):
        raise TapeError(f"{path}: is not a tape (not an MCAP file)")
    profile = head[len(MCAP0_MAGIC) + 9 :]
    if not (struct.pack("<I", len(PROFILE)) + PROFILE.encode()).startswith(profile):
        raise TapeError(f"{path}: is an MCAP file, but not a tape of Switchboard")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
                _check_head(path, file)
                self.truncated = not _is_finished(file)
        except OSError as error:
            raise TapeError(f"{path}: cannot be read: {error.strerror}") from error
        self.meta: dict[str, object] = self._first_meta()
        """The first record: what the call ran with. Empty where not even that was written."""
        layout = self.meta.get("layout", LAYOUT)
        if layout not in _LAYOUTS:
            raise TapeError(f"{path}: has layout {layout}; this version reads up to {LAYOUT}. Use a newer Switchboard.")
        self._read = _LAYOUTS[layout]

    def __iter__(self) -> Iterator[Record]:
        """Raises `TapeError` where a chunk is damaged; what comes before it has been given."""
        return self._read(self.path)

    def _first_meta(self) -> dict[str, object]:
        first = next(_read_records(self.path), None)
        if first is None:
            return {}
        if first.channel != "meta":
            raise TapeError(f"{self.path}: does not begin with a meta record")
        values: dict[str, object] = orjson.loads(first.data)
        return values


def _read_records(path: Path) -> Iterator[Record]:
    """Channels may stand before the chunks, as written here, or in them, as other MCAP writers put them."""
    names: dict[int, str] = {}
    opcode, end = 0, len(MCAP0_MAGIC)
    with path.open("rb") as file:
        finished = _is_finished(file)
        for opcode, offset, length in _whole_records(file):
            end = offset + length
            try:
                records = _opened(opcode, ReadDataStream(BytesIO(file.read(length - 9))))
                names |= {record.id: record.topic for record in records if isinstance(record, Channel)}
                read = [
                    Record(names[record.channel_id], record.log_time, record.publish_time, record.data, record.sequence)
                    for record in records
                    if isinstance(record, Message)
                ]
            except (*_DAMAGE, KeyError) as error:
                raise TapeError(f"{path}: damaged at byte {offset}") from error
            yield from read
        if finished and opcode != Opcode.FOOTER:
            raise TapeError(f"{path}: damaged at byte {end}")


def _opened(opcode: int, body: ReadDataStream) -> list[McapRecord]:
    """What a record of the file holds of channels and messages."""
    if opcode == Opcode.CHANNEL:
        return [Channel.read(body)]
    if opcode == Opcode.CHUNK:
        return breakup_chunk(Chunk.read(body), validate_crc=True)
    return []


def _is_finished(file: BinaryIO) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(MCAP0_MAGIC)))
    return size >= len(HEAD) and file.read() == MCAP0_MAGIC


_LAYOUTS: dict[object, Callable[[Path], Iterator[Record]]] = {1: _read_records}
