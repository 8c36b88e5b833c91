"""What ``python -m qa show`` prints of a tape."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bot.events import (
    BargeIn,
    BotSaid,
    BotStartedSpeaking,
    CallEnded,
    CallerSaid,
    CallEvent,
    CallReceived,
    GreetingStarted,
    KeyPressed,
    MarkReturned,
    ModelConnected,
    PlayoutPaused,
    PlayoutResumed,
    StreamStarted,
    ToolCalled,
    ToolReturned,
    Trouble,
    WriteFound,
)
from bot.tape import TapeDeck
from qa.__main__ import main

ROOT = Path(__file__).parents[2]
EPOCH_NS = 1_793_180_000 * 1_000_000_000  # 2026-10-28T09:33:20Z


class SetClock:
    def __init__(self) -> None:
        self.ms = 0.0

    def now_ns(self) -> int:
        return int(self.ms * 1_000_000) + 77

    def wall_ns(self) -> int:
        return EPOCH_NS + int(self.ms * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


EVENTS: list[tuple[float, CallEvent]] = [
    (0, CallReceived("CA77", "+15550100", "+15550199", "dental")),
    (310, ModelConnected("gemini-3.8-live", 240.0, False)),
    (400, StreamStarted("MZ1", 400.0)),
    (410, GreetingStarted("cache", "Hello, this is Ivory Dental.")),
    (4_000, CallerSaid("I need a [bold]check-up[/]")),
    (4_900, BotStartedSpeaking(1, 612.0, 540.0)),
    (4_950, PlayoutPaused(1, 40.0)),
    (5_000, BargeIn(1, 820.0)),
    (5_001, BotSaid("Of course, which day would you like?", 0.4, True)),
    (5_500, KeyPressed("5")),
    (6_000, ToolCalled("t1", "find_slots", {"service": "check-up", "day": "2026-11-03"}, "booking")),
    (6_040, ToolReturned("t1", "find_slots", "ok", {"slots": ["2026-11-03T15:00"]}, 38.0)),
    (6_900, BotStartedSpeaking(2, 880.5, None)),
    (6_990, PlayoutResumed(2, 540.0, "quiet")),
    (7_000, MarkReturned("m1", "played")),
    (7_001, MarkReturned("m2", "cleared")),
    (8_000, ToolCalled("t2", "book_appointment", {"start": "2026-11-03T15:00"}, "booking")),
    (9_000, Trouble("tool_timeout", "book_appointment", "sorry_slow", "took 5 s")),
    (9_500, WriteFound("book", "k1", {"id": 12})),
    (72_500, CallEnded("caller_hung_up", 72_500.0)),
]


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    clock = SetClock()
    deck = TapeDeck(tmp_path, clock, lambda trouble: None)
    writer = deck.open("CA77", {"flow": {"id": "dental", "hash": "feedface01234567"}, "code": "0.1.0"})
    for n in range(3):
        writer.put("carrier.in", json.dumps({"event": "media", "media": {"payload": "A" * 216, "n": n}}).encode())
    writer.put("carrier.in", b"not json")
    writer.put("carrier.out", b'{"event":"mark","mark":{"name":"m1"}}')
    writer.put("carrier.out", b'{"event":"mark","mark":{"name":"m2"}}')
    writer.put("model.out", b'{"serverContent":{"turnComplete":true},"usageMetadata":{}}')
    for at_ms, event in EVENTS:
        clock.ms = at_ms
        writer.put("event", event.to_json())
    writer.put("event", b'{"kind":"from_the_future","x":1}')
    path = asyncio.run(writer.close())
    asyncio.run(deck.close())
    return path


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_it_tells_the_call(tape: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(capsys, monkeypatch, str(tape))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for expected in (
        "call CA77",
        "from, to +15550100 -> +15550199",
        "began 2026-10-28T09:33:20.000Z",
        "lasted 1 min 12.5 s",
        "flow dental feedface0123",
        "model gemini-3.8-live",
        "end caller hung up",
        'given {"day":"2026-11-03","service":"check-up"}',
        'result {"slots":["2026-11-03T15:00"]}',
        "6.0 s find_slots ok in 38 ms",
        "8.0 s book_appointment no answer on the tape",
        "1 4.9 s 612 ms 540 ms",
        "2 6.9 s 880 ms",
        "2 answers, 746 ms in the middle, 880 ms at worst",
        "9.0 s tool_timeout in book_appointment; heard: sorry slow took 5 s",
        "9.5 s book: done in the books, and lost from the tape",
        "1 events of kind 'from_the_future' could not be read by this version",
        "carrier.in 4 812 3 media, 1 not JSON",
        "model.out 1 58 1 serverContent+usageMetadata",
        "marks: 2 sent, 1 played, 1 cleared unheard",
    ):
        assert expected in lines
    for expected in (
        "I need a [bold]check-up[/]",
        "Of course, which day would you like?",
        "40% heard",
        "pressed 5",
        "paused for 540 ms",
    ):
        assert expected in text
    assert "never finished" not in text


def test_a_tape_in_progress_is_shown_and_said_to_be_one(
    tape: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tape.with_name("cut.mcap.part")
    part.write_bytes(tape.read_bytes()[:-200])
    assert "the tape was never finished" in shown(capsys, monkeypatch, str(part))


def test_an_empty_tape_is_no_error(
    tape: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tape.with_name("empty.mcap.part")
    part.write_bytes(b"")
    assert "no record on the tape" in shown(capsys, monkeypatch, str(part))


def test_json_gives_each_event_with_its_time(
    tape: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [json.loads(line) for line in shown(capsys, monkeypatch, str(tape), "--json").splitlines()]
    assert [event["kind"] for event in events] == [event.kind for _, event in EVENTS] + ["from_the_future"]
    assert events[4] == {
        "at_ms": 4000.0,
        "wall": "2026-10-28T09:33:24.000Z",
        "kind": "caller_said",
        "text": "I need a [bold]check-up[/]",
    }


def test_raw_gives_every_record_and_shortens_audio(
    tape: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(capsys, monkeypatch, str(tape), "--raw").splitlines()
    assert len(lines) == 1 + 4 + 2 + 1 + len(EVENTS) + 1
    assert lines[1].split()[:3] == ["0.0000", "carrier.in", "268"]
    assert "(216 characters)" in lines[1]
    assert lines[4].endswith("b'not json'")
    assert lines[-1].split()[:2] == ["72.5000", "event"]


def test_what_is_no_tape_is_one_clear_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "song.wav"
    other.write_bytes(b"RIFF....")
    for path, problem in ((other, "is not a tape (not an MCAP file)"), (tmp_path / "none", "there is no such file")):
        assert main(["show", str(path)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith(f"qa: {path}: {problem}")


def test_as_a_program_it_survives_a_reader_that_leaves(tape: Path) -> None:
    command = f"{sys.executable} -m qa show --raw {tape} | head -1"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "meta"
    assert done.stderr == ""
    asked = subprocess.run([sys.executable, "-m", "qa", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "print a tape" in asked.stdout
