"""The tape: what is on it after an orderly end, a kill, a full disk and a cut; and that others can read it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from mcap.writer import Writer

from bot import tape as tape_module
from bot.errors import TapeError
from bot.tape import (
    CHANNELS,
    QUEUE_BYTES,
    TapeDeck,
    TapeReader,
    TapeTrouble,
    TapeWriter,
    finish_tape,
)
from bot.tape_file import HEAD

ROOT = Path(__file__).parents[2]
EPOCH_NS = 1_793_180_000 * 1_000_000_000  # 2026-10-28T09:33:20Z


class StepClock:
    """Each reading is a millisecond later; the two clocks are far apart, so that mixing them up would show."""

    def __init__(self) -> None:
        self.readings = 0

    def now_ns(self) -> int:
        self.readings += 1
        return self.readings * 1_000_000

    def wall_ns(self) -> int:
        return EPOCH_NS + self.readings * 1_000_000

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the tape does not wait")


class Troubles(list[TapeTrouble]):
    def kinds(self) -> list[str]:
        return [trouble.kind for trouble in self]


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@pytest.fixture
async def deck(tmp_path: Path, troubles: Troubles, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TapeDeck]:
    """A deck whose thread does not write by itself: the tests say when."""
    monkeypatch.setattr(tape_module, "FLUSH_SECONDS", 3_600)
    deck = TapeDeck(tmp_path, StepClock(), troubles.append)
    yield deck
    await deck.close()


def part_of(tmp_path: Path) -> Path:
    [path] = tmp_path.rglob("*.mcap.part")
    return path


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond `size` bytes of any file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


# -- an orderly call --------------------------------------------------------------------------------------------------


async def test_what_is_put_is_read_in_order_with_both_clocks(deck: TapeDeck, tmp_path: Path) -> None:
    tape = deck.open("CA01", {"flow": {"id": "dental", "hash": "abc"}})
    tape.put("carrier.in", b'{"event":"connected"}')
    tape.flush()
    tape.put("event", b'{"kind":"stream_started"}')
    tape.put("carrier.in", b"\x00 not JSON, as it came")
    path = await tape.close({"seed": "00ff"})

    assert path == tmp_path / "tapes" / "2026-10-28" / "CA01.mcap"
    reader = TapeReader(path)
    records = list(reader)
    assert [(r.channel, r.data) for r in records[1:]] == [
        ("carrier.in", b'{"event":"connected"}'),
        ("event", b'{"kind":"stream_started"}'),
        ("carrier.in", b"\x00 not JSON, as it came"),
        ("meta", b'{"seed":"00ff"}'),
    ]
    assert reader.meta == {"layout": 1, "call": "CA01", "flow": {"id": "dental", "hash": "abc"}}
    assert json.loads(records[0].data) == reader.meta
    assert not reader.truncated
    assert [r.mono_ns for r in records] == [n * 1_000_000 for n in range(1, 6)]
    assert [r.wall_ns - EPOCH_NS for r in records] == [n * 1_000_000 for n in range(5)]
    assert [r.number for r in records] == [0, 1, 2, 3, 4]
    assert list(reader) == records


async def test_a_standard_mcap_reader_opens_it_by_its_index(deck: TapeDeck) -> None:
    tape = deck.open("CA02", {})
    for n in range(10):
        tape.put("carrier.in", b'{"event":"media","n":%d}' % n)
        tape.put("event", b'{"kind":"key_pressed"}')
        tape.flush()
    path = await tape.close()

    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 21
        assert {summary.channels[c].topic: n for c, n in summary.statistics.channel_message_counts.items()} == {
            "meta": 1,
            "carrier.in": 10,
            "event": 10,
        }
        assert len(summary.chunk_indexes) == 10
        seen = [(channel.topic, message.log_time) for _, channel, message in reader.iter_messages(topics=["event"])]
        assert len(seen) == 10
        since = seen[4][1]
        assert len(list(reader.iter_messages(topics=["event"], starting_at=since))) == 6
        for schema, _, message in reader.iter_messages():
            assert schema is not None
            jsonschema.validate(json.loads(message.data), json.loads(schema.data))
    with path.open("rb") as file:
        types = [type(record).__name__ for record in StreamReader(file, validate_crcs=True).records]
    assert types.count("Message") == 21
    assert types[-1] == "Footer"


async def test_every_channel_has_a_valid_schema_and_a_fixed_number() -> None:
    assert list(CHANNELS) == ["meta", "carrier.in", "carrier.out", "model.in", "model.out", "event", "tape.gap"]
    for schema in CHANNELS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_an_unknown_channel_is_a_mistake_of_the_caller(deck: TapeDeck) -> None:
    tape = deck.open("CA03", {})
    with pytest.raises(ValueError, match=r"no channel 'carrier'; there are meta, carrier\.in"):
        tape.put("carrier", b"{}")


async def test_one_call_that_comes_back_gets_a_second_tape(deck: TapeDeck) -> None:
    """The carrier may send a call back to us (a redirect, a restart): nothing is written over."""
    paths = []
    for n in range(3):
        tape = deck.open("CA04", {"n": n})
        tape.flush()
        if n != 1:
            paths.append(await tape.close())
    assert [path.name for path in paths] == ["CA04.mcap", "CA04.3.mcap"]
    assert [TapeReader(path).meta["n"] for path in paths] == [0, 2]
    assert paths[0].with_name("CA04.2.mcap.part").exists()


@pytest.mark.parametrize("call_sid", ["", "../up", "a/b", "x" * 65, "CA 1"])
async def test_a_call_id_cannot_lead_out_of_the_folder(deck: TapeDeck, call_sid: str) -> None:
    with pytest.raises(TapeError):
        deck.open(call_sid, {})


async def test_closing_twice_and_putting_after_the_end_do_no_harm(deck: TapeDeck, troubles: Troubles) -> None:
    tape = deck.open("CA05", {})
    path = await tape.close()
    content = path.read_bytes()
    tape.put("event", b'{"kind":"late"}')
    assert await tape.close() == path
    assert path.read_bytes() == content
    assert tape.lost == 1
    assert troubles.kinds() == ["queue_full"]


def test_the_deck_writes_by_itself_and_finishes_what_is_open(tmp_path: Path) -> None:
    deck = TapeDeck(tmp_path, StepClock(), lambda trouble: None)
    tapes = [deck.open(f"CA{n}", {}) for n in range(5)]
    deadline = time.monotonic() + 20
    while len(list(tmp_path.rglob("*.part"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(len(list(TapeReader(path))) == 1 for path in tmp_path.rglob("*.part"))
    tapes[0].put("event", b'{"kind":"x"}')
    asyncio.run(deck.close())
    assert sorted(path.name for path in tmp_path.rglob("*.mcap*")) == [f"CA{n}.mcap" for n in range(5)]
    assert "tapes" not in [thread.name for thread in threading.enumerate()]


async def test_many_threads_may_put(deck: TapeDeck) -> None:
    tape = deck.open("CA06", {})

    def put_many(name: int) -> None:
        for n in range(500):
            tape.put("event", b'{"kind":"x","thread":%d,"n":%d}' % (name, n))
            if n % 50 == 0:
                tape.flush()

    threads = [threading.Thread(target=put_many, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [json.loads(r.data) for r in TapeReader(await tape.close()) if r.channel == "event"]
    for name in range(4):
        assert [e["n"] for e in events if e["thread"] == name] == list(range(500))


# -- the worst that can happen ----------------------------------------------------------------------------------------


async def test_cut_at_every_byte_it_reads_a_prefix(deck: TapeDeck, tmp_path: Path) -> None:
    tape = deck.open("CA07", {})
    for n in range(4):
        tape.put("event", b'{"kind":"x","n":%d}' % n)
        tape.flush()
    whole = (await tape.close()).read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole)
    records = list(TapeReader(cut))
    counts = []
    for size in reversed(range(len(whole))):
        os.truncate(cut, size)
        reader = TapeReader(cut)
        got = list(reader)
        assert reader.truncated
        assert got == records[: len(got)]
        counts.append(len(got))
    assert counts == sorted(counts, reverse=True)
    assert {1, 2, 3, 4, 5} - set(counts) == {1}  # the first chunk holds two


async def test_a_tape_cut_anywhere_can_be_finished(deck: TapeDeck, tmp_path: Path) -> None:
    tape = deck.open("CA08", {})
    for n in range(2):
        tape.put("event", b'{"kind":"x","n":%d}' % n)
        tape.flush()
    whole = (await tape.close()).read_bytes()
    head = len(HEAD)
    part = tmp_path / "again.mcap.part"
    for size in [*range(head, len(whole), 17), len(whole)]:
        part.write_bytes(whole[:size])
        before = list(TapeReader(part))
        if not before:
            with pytest.raises(TapeError, match="holds no record"):
                finish_tape(part)
            continue
        final = finish_tape(part)
        assert list(TapeReader(final)) == before
        assert not TapeReader(final).truncated
        with final.open("rb") as file:
            summary = make_reader(file).get_summary()
            assert summary is not None
            assert summary.statistics is not None
            assert summary.statistics.message_count == len(before)
    assert final.read_bytes() == whole
    assert finish_tape(final) == final


async def test_a_last_chunk_that_a_power_cut_damaged_is_left_out(deck: TapeDeck, tmp_path: Path) -> None:
    tape = deck.open("CA20", {})
    tape.flush()
    good = part_of(tmp_path).stat().st_size
    tape.put("event", b'{"kind":"x"}')
    tape.flush()
    torn = tmp_path / "torn.mcap.part"
    content = bytearray(part_of(tmp_path).read_bytes())
    content[good + 50 : good + 70] = bytes(20)
    torn.write_bytes(content)
    assert [record.channel for record in TapeReader(finish_tape(torn))] == ["meta"]


async def test_zeros_at_the_end_are_a_torn_end(deck: TapeDeck, tmp_path: Path) -> None:
    """What a power cut leaves on some file systems."""
    tape = deck.open("CA09", {})
    tape.flush()
    part = part_of(tmp_path)
    torn = tmp_path / "torn.mcap.part"
    torn.write_bytes(part.read_bytes() + bytes(5_000))
    assert len(list(TapeReader(torn))) == 1
    assert len(list(TapeReader(finish_tape(torn)))) == 1


KILLED = """
import sys, time
from pathlib import Path
from bot.ports import SystemClock
from bot.tape import TapeDeck

deck = TapeDeck(Path(sys.argv[1]), SystemClock(), print)
tapes = [deck.open(f"CA{n}", {}) for n in range(10)]
media = b'{"event":"media","media":{"payload":"' + b"x" * 216 + b'"}}'
print("up", flush=True)
while True:
    for tape in tapes:
        tape.put("carrier.in", media)
        tape.put("carrier.out", media)
        tape.put("event", b'{"kind":"x","wall_ns":%d}' % time.time_ns())
    time.sleep(0.02)
"""


@pytest.mark.parametrize("seconds", [0.05, 0.57, 1.25])
def test_kill_9_under_ten_calls_loses_less_than_a_second(tmp_path: Path, seconds: float) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ}
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    deadline = time.monotonic() + 30
    while len(list(tmp_path.rglob("*.part"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(seconds)
    killed_ns = time.time_ns()
    child.kill()
    child.wait()
    child.stdout.close()
    parts = sorted(tmp_path.rglob("*.mcap.part"))
    assert len(parts) == 10
    for part in parts:
        reader = TapeReader(part)
        records = list(reader)
        assert reader.truncated
        assert [r.number for r in records] == list(range(len(records)))
        assert killed_ns - records[-1].wall_ns < 1_000_000_000
        assert list(TapeReader(finish_tape(part))) == records


async def test_a_full_queue_drops_counts_and_says_so_on_the_tape(deck: TapeDeck, troubles: Troubles) -> None:
    tape = deck.open("CA10", {})
    big = b'{"kind":"x","pad":"' + b"x" * 100_000 + b'"}'
    for _ in range(50):
        tape.put("event", big)
    kept = QUEUE_BYTES // (len(big) + 100)
    assert tape.lost == 50 - kept
    tape.flush()
    assert troubles == [TapeTrouble("CA10", "queue_full", lost=50 - kept)]
    tape.put("event", b'{"kind":"again"}')
    records = list(TapeReader(await tape.close()))
    assert [r.channel for r in records] == ["meta", *["event"] * kept, "tape.gap", "event"]
    gap = json.loads(records[-2].data)
    assert gap["lost"] == 50 - kept
    assert records[-3].mono_ns < gap["first_ns"] <= gap["last_ns"] < records[-1].mono_ns
    assert records[-1].number - records[-3].number == 50 - kept + 1
    assert len(troubles) == 1


async def test_what_must_not_be_lost_is_kept_though_the_queue_is_full(deck: TapeDeck) -> None:
    tape = deck.open("CA10", {})
    tape.put("event", b"x" * QUEUE_BYTES)
    tape.put("event", b'{"kind":"tool_returned"}', soon=True)
    records = list(TapeReader(await tape.close()))
    assert [record.channel for record in records] == ["meta", "tape.gap", "event"]
    assert records[-1].data == b'{"kind":"tool_returned"}'


async def test_a_gap_at_the_very_end_is_on_the_tape_too(deck: TapeDeck) -> None:
    tape = deck.open("CA11", {})
    tape.put("event", b"x" * QUEUE_BYTES)
    *_, last = TapeReader(await tape.close())
    assert (last.channel, json.loads(last.data)["lost"]) == ("tape.gap", 1)


async def test_a_full_disk_is_told_once_and_nothing_is_lost_when_it_has_room_again(
    deck: TapeDeck, tmp_path: Path, troubles: Troubles
) -> None:
    tape = deck.open("CA12", {})
    tape.put("event", b'{"kind":"before"}')
    tape.flush()
    size = part_of(tmp_path).stat().st_size
    with disk_full_at(size + 100):
        for n in range(20):
            tape.put("event", b'{"kind":"during","n":%d,"noise":"%s"}' % (n, os.urandom(50).hex().encode()))
            tape.flush()
        assert part_of(tmp_path).stat().st_size == size
        assert [r.data for r in TapeReader(part_of(tmp_path))][1:] == [b'{"kind":"before"}']
    assert troubles == [TapeTrouble("CA12", "write_failed", detail=os.strerror(errno.EFBIG))]
    tape.put("event", b'{"kind":"after"}')
    tape.flush()
    assert troubles.kinds() == ["write_failed", "write_resumed"]
    kinds = [json.loads(r.data)["kind"] for r in TapeReader(await tape.close()) if r.channel == "event"]
    assert kinds == ["before", *["during"] * 20, "after"]
    assert tape.lost == 0


async def test_a_disk_that_stays_full_ends_in_a_counted_loss(
    deck: TapeDeck, tmp_path: Path, troubles: Troubles
) -> None:
    tape = deck.open("CA13", {})
    tape.flush()
    size = part_of(tmp_path).stat().st_size
    with disk_full_at(size):
        for _ in range(7):
            tape.put("event", b'{"kind":"lost"}')
        path = await tape.close()
    assert path.name == "CA13.mcap.part"
    assert tape.lost == 7
    assert troubles.kinds() == ["write_failed", "queue_full"]
    assert troubles[-1].lost == 7
    assert len(list(TapeReader(finish_tape(path)))) == 1


async def test_a_folder_that_cannot_be_made_is_told_and_tried_again(tmp_path: Path, troubles: Troubles) -> None:
    blocker = tmp_path / "data"
    blocker.write_text("a file where the folder should be")
    deck = TapeDeck(blocker, StepClock(), troubles.append)
    tape = deck.open("CA14", {})
    tape.flush()
    assert troubles.kinds() == ["write_failed"]
    blocker.unlink()
    path = await tape.close()
    await deck.close()
    assert troubles.kinds() == ["write_failed", "write_resumed"]
    assert len(list(TapeReader(path))) == 1


async def test_a_long_call_costs_no_more_memory_than_a_short_one(deck: TapeDeck) -> None:
    """An hour of call in chunks of half a second, with the records of each chunk few, so that the test is quick."""
    tape = deck.open("CA15", {})

    def half_seconds(count: int) -> int:
        for _ in range(count):
            tape.put("carrier.in", b'{"event":"media"}')
            tape.put("event", b'{"kind":"x"}')
            tape.flush()
        return tracemalloc.get_traced_memory()[0]

    half_seconds(100)
    tracemalloc.start()
    try:
        after_two_minutes = half_seconds(240)
        after_an_hour = half_seconds(6_960)
    finally:
        tracemalloc.stop()
    assert after_an_hour - after_two_minutes < 20_000
    assert sum(1 for _ in TapeReader(await tape.close())) == 1 + 2 * 7_300


def test_putting_costs_the_frame_path_microseconds(tmp_path: Path) -> None:
    deck = TapeDeck(tmp_path, StepClock(), lambda trouble: None)
    tape = TapeWriter(deck, tmp_path, "CA16", {})
    media = b'{"event":"media","media":{"payload":"' + b"x" * 216 + b'"}}'
    best = min(_seconds_for_puts(tape, media) for _ in range(10))
    assert best / 200 < 50e-6  # about 1.5 us; the limit leaves room for a busy machine


def _seconds_for_puts(tape: TapeWriter, data: bytes) -> float:
    began = time.perf_counter()
    for _ in range(200):
        tape.put("carrier.in", data)
    return time.perf_counter() - began


# -- what is no tape --------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_tape_says_so(tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    with pytest.raises(TapeError, match=r"other\.wav: is not a tape \(not an MCAP file\)"):
        TapeReader(other)
    with pytest.raises(TapeError, match="cannot be read: No such file"):
        TapeReader(tmp_path / "missing.mcap")
    with pytest.raises(TapeError, match="cannot be read: Is a directory"):
        TapeReader(tmp_path)


def test_an_mcap_file_of_somebody_else_says_so(tmp_path: Path) -> None:
    other = tmp_path / "robot.mcap"
    writer = Writer(str(other))
    writer.start("ros2")
    writer.finish()
    with pytest.raises(TapeError, match="not a tape of Switchboard"):
        TapeReader(other)


async def test_a_tape_of_a_newer_layout_says_what_to_do(deck: TapeDeck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape_module, "LAYOUT", 2)
    path = await deck.open("CA17", {}).close()
    with pytest.raises(TapeError, match=r"layout 2.*newer Switchboard"):
        TapeReader(path)


async def test_a_damaged_chunk_is_named_and_what_is_before_it_is_given(deck: TapeDeck) -> None:
    tape = deck.open("CA18", {})
    tape.flush()
    good = len(part_of(tape._folder).read_bytes())
    tape.put("event", b'{"kind":"x"}')
    path = await tape.close()
    content = bytearray(path.read_bytes())
    content[good + 60] ^= 0xFF
    path.write_bytes(content)
    records = iter(TapeReader(path))
    assert next(records).channel == "meta"
    with pytest.raises(TapeError, match=f"damaged at byte {good}"):
        next(records)


async def test_a_tape_that_another_mcap_writer_wrote_anew_reads_the_same(deck: TapeDeck, tmp_path: Path) -> None:
    tape = deck.open("CA21", {})
    tape.put("event", b'{"kind":"x"}')
    path = await tape.close()
    copy = tmp_path / "copy.mcap"
    with path.open("rb") as file, copy.open("wb") as out:
        reader, writer, ids = make_reader(file), Writer(out), dict[int, int]()
        writer.start(reader.get_header().profile)
        for schema, channel, message in reader.iter_messages():
            assert schema is not None
            if channel.id not in ids:
                schema_id = writer.register_schema(schema.name, schema.encoding, schema.data)
                ids[channel.id] = writer.register_channel(channel.topic, channel.message_encoding, schema_id)
            times = message.log_time, message.data, message.publish_time, message.sequence
            writer.add_message(ids[channel.id], *times)
        writer.finish()
    assert list(TapeReader(copy)) == list(TapeReader(path))


async def test_a_damaged_tape_is_told_as_one_wherever_the_damage_is(deck: TapeDeck) -> None:
    tape = deck.open("CA22", {})
    for n in range(3):
        tape.put("event", b'{"kind":"x","n":%d}' % n)
        tape.flush()
    path = await tape.close()
    content = path.read_bytes()
    told = set[int]()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            list(TapeReader(path))  # what is not told is in the index, or for the tape's SHA-256 to find
        except TapeError:
            told.add(at)
    first_chunk = len(HEAD)
    assert told >= set(range(first_chunk + 1, first_chunk + 9))  # its length: what comes behind would be lost


def test_what_is_not_a_begun_tape_cannot_be_finished(tmp_path: Path) -> None:
    part = tmp_path / "CA19.mcap.part"
    part.write_bytes(b"")
    with pytest.raises(TapeError, match="holds no record"):
        finish_tape(part)
