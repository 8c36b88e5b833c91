"""What becomes of the tape of a process that died: who may finish it, and how its call is closed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from bot.errors import TapeError
from bot.events import CallEnded, CallEvent, CallRefused, WriteFound
from bot.ports import SystemClock
from bot.tape import Record, TapeDeck, TapeReader, recover_tape
from bot.tape_file import HEAD, encode_chunk

ROOT = Path(__file__).parents[2]

WRITER = """
import sys, time
from pathlib import Path
from bot.ports import SystemClock
from bot.tape import TapeDeck

tape = TapeDeck(Path(sys.argv[1]), SystemClock(), print).open("CA1", {"code": "1"})
tape.put("event", b'{"kind":"call_received"}')
tape.flush()
print("written", flush=True)
time.sleep(60)
"""


def write_and_die(data: Path) -> Path:
    """The tape of a process that was killed during its call."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(data)], stdout=subprocess.PIPE, cwd=ROOT)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    [part] = data.rglob("*.part")
    assert recover_tape(part, SystemClock()) is None, "its writer lives"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    return part


def part(tmp_path: Path, *records: Record) -> Path:
    path = tmp_path / "CA1.mcap.part"
    path.write_bytes(HEAD + (encode_chunk(records) if records else b""))
    return path


def record(number: int, channel: str, data: bytes) -> Record:
    return Record(channel, 1_000_000_000 + number, 5_000_000 * number, data, number)


META = record(0, "meta", b'{"layout":1,"call":"CA1"}')


def test_a_tape_is_its_writers_until_that_is_dead_and_then_closed_as_interrupted(tmp_path: Path) -> None:
    tape = recover_tape(write_and_die(tmp_path), SystemClock())
    assert tape is not None
    assert tape.name == "CA1.mcap"
    reader = TapeReader(tape)
    records = list(reader)
    assert not reader.truncated
    assert [record.channel for record in records] == ["meta", "event", "event", "meta"]
    assert [record.number for record in records] == [0, 1, 2, 3]
    ended, note = orjson.loads(records[2].data), orjson.loads(records[3].data)
    assert (ended["kind"], ended["reason"]) == ("call_ended", "interrupted")
    assert ended["duration_ms"] == pytest.approx((records[1].mono_ns - records[0].mono_ns) / 1e6)
    assert records[2].mono_ns == records[1].mono_ns
    assert note["recovered"]["wall_ns"] > records[1].wall_ns


def test_what_was_missing_on_it_stands_before_its_end(tmp_path: Path) -> None:
    found = WriteFound("book", "key", {"id": 12})
    tape = recover_tape(part(tmp_path, META), SystemClock(), lambda tape: [found] if tape.truncated else [])
    assert tape is not None
    records = list(TapeReader(tape))
    assert [record.number for record in records] == [0, 1, 2, 3]
    assert [CallEvent.from_json(record.data).kind for record in records[1:3]] == ["write_found", "call_ended"]
    assert CallEvent.from_json(records[1].data) == found


@pytest.mark.parametrize("end", [CallEnded("goodbye", 5.0), CallRefused("CA1", "refused_busy")])
def test_a_call_that_had_ended_keeps_its_end(tmp_path: Path, end: CallEnded | CallRefused) -> None:
    tape = recover_tape(part(tmp_path, META, record(1, "event", end.to_json())), SystemClock())
    assert tape is not None
    assert [r.data for r in TapeReader(tape)] == [META.data, end.to_json()]


def test_a_recovery_that_was_killed_is_not_done_twice(tmp_path: Path) -> None:
    path = part(tmp_path, META)
    size_at_kill = path.stat().st_size
    again = tmp_path / "again"
    again.mkdir()
    tape = recover_tape(path, SystemClock())
    assert tape is not None
    whole = tape.read_bytes()
    for size in range(size_at_kill, len(whole), 37):
        cut = again / "CA1.mcap.part"
        cut.write_bytes(whole[:size])
        finished = recover_tape(cut, SystemClock())
        assert finished is not None
        kinds = [orjson.loads(r.data).get("kind") for r in TapeReader(finished) if r.channel == "event"]
        assert kinds == ["call_ended"]
        finished.unlink()


def test_of_many_only_one_recovers_it(tmp_path: Path) -> None:
    path = part(tmp_path, META)
    found: list[Path | None] = []
    threads = [threading.Thread(target=lambda: found.append(recover_tape(path, SystemClock()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found, key=bool) == [None] * 7 + [tmp_path / "CA1.mcap"]
    assert len(list(TapeReader(tmp_path / "CA1.mcap"))) == 3


def test_a_tape_without_a_record_is_removed(tmp_path: Path) -> None:
    path = part(tmp_path)
    assert recover_tape(path, SystemClock()) is None
    assert not path.exists()


def test_an_empty_file_is_left_alone_while_its_writer_may_be_about_to_lock_it(tmp_path: Path) -> None:
    path = tmp_path / "CA1.mcap.part"
    path.touch()
    assert recover_tape(path, SystemClock()) is None
    assert path.exists()
    os.utime(path, (1, 1))
    assert recover_tape(path, SystemClock()) is None
    assert not path.exists()


def test_what_is_no_tape_is_left_alone_and_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.mcap.part"
    path.write_bytes(b"something else, and long enough")
    with pytest.raises(TapeError, match=r"notes\.mcap\.part"):
        recover_tape(path, SystemClock())
    assert path.exists()


async def test_a_closed_tape_is_nobodys(tmp_path: Path) -> None:
    deck = TapeDeck(tmp_path, SystemClock(), lambda trouble: None)
    path = await deck.open("CA1", {}).close()
    assert path.name == "CA1.mcap"
    assert recover_tape(path.with_name("CA1.mcap.part"), SystemClock()) is None
    await deck.close()


def test_a_torn_end_that_is_cut_off_under_a_reader_is_the_end(tmp_path: Path) -> None:
    """What finishes a tape cuts first and writes then; a reader may come in between."""
    tape = part(tmp_path, META)
    long = record(1, "event", random.Random(1).randbytes(20_000))
    with tape.open("ab") as file:
        file.write(encode_chunk([long]))
        whole = file.tell()
        file.write(encode_chunk([record(2, "event", b"torn")])[:-20])
    records = iter(TapeReader(tape))
    assert next(records) == META
    os.truncate(tape, whole)
    assert list(records) == [long]
