"""Tapes of every kind: cut, refused, garbled, with holes, with two streams, of a call in progress."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.made_tapes import CALL, Heard, Network, Says, at, chunk_of, loud_ms, silence, tone
from bot.events import CallEnded, CallReceived, CallRefused, StreamStopped
from bot.tape import TapeReader
from bot.tape_file import HEAD, Record, encode_chunk
from records.derive import derive, load_prices, write_recording
from records.derive.recording import blocks


def write(path: Path, *records: tuple[str, bytes]) -> TapeReader:
    """A tape of these records, 10 ms apart."""
    numbered = [Record(channel, 10**18 + n * 10**7, n * 10**7, data, n) for n, (channel, data) in enumerate(records)]
    path.write_bytes(HEAD + encode_chunk(numbered))
    return TapeReader(path)


def meta(**values: Any) -> tuple[str, bytes]:
    return "meta", json.dumps({"layout": 1, "call": CALL} | values).encode()


def event(given: Any) -> tuple[str, bytes]:
    return "event", given.to_json()


def test_the_head_of_the_record(made: Callable[..., Any]) -> None:
    call = made(caller=silence(2_000))
    record = call.record
    assert (record.call_id, record.call_sid, record.account) == ("CA77", CALL, "AC1")
    assert (record.flow, record.flow_hash, record.code) == ("dental", "feedface", "1.2.3")
    assert (record.from_number, record.to_number) == ("+12075550100", "+12075550142")
    assert (record.model, record.language) == ("gemini-3.8-live", "en-US")
    assert record.began_at.isoformat() == "2026-10-28T09:33:20+00:00"
    # From the tape's first record, 401 ms before the stream, until its first message came.
    assert record.stream_offset_ms == pytest.approx(401 + 25, abs=2)
    assert record.tape_bytes == call.tape.path.stat().st_size
    assert len(record.tape_sha256) == 64


def test_the_same_tape_gives_the_same_record(made: Callable[..., Any]) -> None:
    call = made(
        caller=at((1_000, tone(900, 300)), ms=6_000),
        bot=[Says(3_000, tone(900), "Hello.")],
        heard=[Heard(2_500, "hi")],
        network=Network(jitter_ms=30),
    )
    assert derive(TapeReader(call.tape.path), prices=load_prices()).record == call.record


def test_a_refused_call(tmp_path: Path) -> None:
    refused = (
        CallReceived(CALL, "+1", "+2", "dental"),
        CallRefused(CALL, "refused_busy"),
        CallEnded("refused_busy", 0.0),
    )
    record = derive(write(tmp_path / "CA1.mcap", meta(), *map(event, refused)), prices=load_prices()).record
    assert (record.outcome.disposition, record.outcome.end_reason) == ("refused", "refused_busy")
    assert (record.turns, record.flags) == ((), ())


def test_a_tape_of_nothing_but_its_head(tmp_path: Path) -> None:
    record = derive(write(tmp_path / "CA1.2.mcap.part", meta()), prices=load_prices()).record
    assert (record.call_id, record.call_sid) == ("CA1.2", CALL)
    assert record.outcome.end_reason == "interrupted"
    assert [flag.kind for flag in record.flags] == ["interrupted"]


def test_a_killed_server_leaves_what_was_heard_until_then(made: Callable[..., Any]) -> None:
    caller = at((1_000, tone(900, 300)), ms=5_000)
    options = {"caller": caller, "heard": [Heard(2_400, "hi")], "stops": False, "ended": "", "finished": False}
    call = made(bot=[Says(4_000, tone(3_000), " ".join(["word"] * 30))], **options)
    record = call.record
    assert record.outcome.end_reason == "interrupted"
    assert "interrupted" in [flag.kind for flag in record.flags]
    caller_turn, bot_turn = record.turns
    assert caller_turn.text == "hi"
    assert len(bot_turn.text.split()) == 30


def test_a_tape_that_is_damaged_is_read_up_to_there(made: Callable[..., Any], tmp_path: Path) -> None:
    call = made(caller=at((1_000, tone(900, 300)), ms=60_000), heard=[Heard(2_400, "hi")])
    data = bytearray(call.tape.path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    broken = tmp_path / "CA78.mcap"
    broken.write_bytes(data)
    result = derive(TapeReader(broken), prices=load_prices())
    assert [turn.text for turn in result.record.turns] == ["hi"]
    kinds = {flag.kind: flag.detail for flag in result.record.flags}
    assert "damaged at byte" in kinds["records_lost"]
    assert result.timeline.samples < 60_000 * 8
    assert write_recording(TapeReader(broken), result.timeline, tmp_path) is not None


def test_records_that_were_lost_are_flagged(made: Callable[..., Any]) -> None:
    gap = {"lost": 40, "first_ns": 1, "last_ns": 2}
    record = made(caller=silence(3_000), frames=[(1_000.0, "tape.gap", gap)]).record
    assert [(flag.kind, flag.detail) for flag in record.flags] == [
        ("records_lost", "40 records: the disk did not keep up")
    ]


def test_what_was_malformed_on_the_wire_harms_nothing(made: Callable[..., Any]) -> None:
    media = {"event": "media", "streamSid": "MZ1"}
    garbage: list[tuple[str, Any]] = [
        ("carrier.in", b"not json"),
        ("carrier.in", b"\xff\xfe"),
        ("carrier.in", [1, 2]),
        ("carrier.in", {}),
        ("carrier.in", {"event": 7}),
        ("carrier.in", {"event": "start"}),
        ("carrier.in", media),
        ("carrier.in", media | {"media": {}}),
        ("carrier.in", media | {"media": {"payload": "***", "timestamp": "40"}}),
        ("carrier.in", media | {"media": {"payload": 5}}),
        ("carrier.in", media | {"media": {"payload": chunk_of(tone(20)), "track": "outbound", "timestamp": "1"}}),
        ("carrier.in", media | {"media": {"payload": chunk_of(tone(20)), "timestamp": "999999999999"}}),
        ("carrier.in", media | {"media": {"payload": chunk_of(tone(20)), "timestamp": "-4"}}),
        ("carrier.in", media | {"streamSid": "MZ9", "media": {"payload": chunk_of(tone(20)), "timestamp": "1"}}),
        ("carrier.in", {"event": "mark"}),
        ("carrier.in", {"event": "mark", "mark": {"name": "nobody's"}}),
        ("carrier.in", {"event": "dtmf", "dtmf": None}),
        ("carrier.out", b"not json"),
        ("carrier.out", {"event": "media", "media": {"payload": "*"}}),
        ("carrier.out", {"event": "mark"}),
        ("model.out", b"\x00"),
        ("model.out", {"serverContent": 5, "toolCall": [], "voiceActivity": "x", "usageMetadata": 3}),
        ("model.out", {"serverContent": {"modelTurn": {"parts": [5, {"inlineData": {"data": 5}}]}}}),
        ("model.out", {"serverContent": {"outputTranscription": {"text": 5}, "inputTranscription": "x"}}),
        ("model.in", {"setup": 5, "realtimeInput": {"audio": {"ms": "x"}}, "tool_response": 5}),
        ("event", b"{}"),
        ("event", b"[]"),
        ("event", b'{"kind":"from_the_future"}'),
        ("event", b'{"kind":"tool_called"}'),
        ("tape.gap", {"lost": "many"}),
    ]  # fmt: skip
    # Between the greeting and the answer, so that everything before and after must still be right.
    frames = [(4_000.0 + n / 10, channel, data) for n, (channel, data) in enumerate(garbage) if n != 5]
    frames.append((11_500.0, *garbage[5]))
    call = made(
        caller=at((1_000, tone(900, 300)), ms=12_000),
        bot=[Says(3_000, tone(800), "One."), Says(6_000, tone(800), "Two.")],
        heard=[Heard(2_400, "hi")],
        frames=frames,
    )
    record = call.record
    assert [turn.text for turn in record.turns] == ["hi", "One.", "Two."]
    assert [flag.kind for flag in record.flags] == ["records_lost"]
    np.testing.assert_allclose(
        [turn.start_ms for turn in record.turns if turn.speaker == "bot"], call.truth.starts_ms, atol=20
    )
    assert call.derived.timeline.samples < 13_000 * 8


def test_a_second_stream_goes_on_where_the_call_stands(made: Callable[..., Any]) -> None:
    """The socket breaks after five seconds; the carrier opens another one three seconds later."""
    start = {"streamSid": "MZ2", "callSid": CALL, "accountSid": "AC1", "tracks": ["inbound"]}
    again = [(8_000.0, "carrier.in", {"event": "start", "streamSid": "MZ2", "start": start})]
    voice = at((1_000, tone(600, 500)), ms=3_000)
    for n in range(150):
        media = {"payload": chunk_of(voice[n * 160 : n * 160 + 160]), "timestamp": str(n * 20), "chunk": str(n + 1)}
        again.append((8_020.0 + n * 20, "carrier.in", {"event": "media", "streamSid": "MZ2", "media": media}))
    call = made(
        caller=at((1_000, tone(600, 300)), ms=5_000),
        bot=[Says(4_000, tone(3_000), "An answer that broke off.", paced=False)],
        events=[(5_100.0, StreamStopped("lost"))],
        frames=again,
        heard=[Heard(2_400, "one"), Heard(10_500, "two")],
        stops=False,
        network=Network(0, 0),
    )
    recording = np.concatenate(list(blocks(call.tape, call.derived.timeline)))
    (first, second), (bot,) = loud_ms(recording[:, 0]), loud_ms(recording[:, 1])
    assert first[0] == pytest.approx(1_000, abs=1)
    assert second[0] == pytest.approx(9_000, abs=25)
    assert bot[1] == pytest.approx(5_100, abs=25)
    assert [turn.text for turn in call.record.turns if turn.speaker == "caller"] == ["one", "two"]
    assert call.derived.timeline.streams == 2


def test_a_call_in_progress_can_be_looked_at(made: Callable[..., Any]) -> None:
    call = made(caller=silence(3_000), bot=[Says(1_000, tone(800), "Hello.")], ended="", stops=False, finished=False)
    assert call.tape.truncated
    assert [turn.text for turn in call.record.turns] == ["Hello."]
    assert call.record.call_id == "CA77"


def test_a_numbering_that_jumps_is_followed(made: Callable[..., Any]) -> None:
    voice = at((500, tone(500, 300)), (1_500, tone(300, 300)), ms=2_500)
    frames = []
    for n in range(125):
        stamp = n * 20 + (0 if n < 50 else 5_000_000)
        media = {"payload": chunk_of(voice[n * 160 : n * 160 + 160]), "timestamp": str(stamp)}
        frames.append((n * 20 + 45.0, "carrier.in", {"event": "media", "streamSid": "MZ1", "media": media}))
    call = made(caller=b"", frames=frames, stops=False)
    recording = np.concatenate(list(blocks(call.tape, call.derived.timeline)))
    assert loud_ms(recording[:, 0]) == loud_ms(voice)


def test_stamps_that_are_rounded_leave_no_clicks(made: Callable[..., Any]) -> None:
    """A carrier whose stamps are off by some milliseconds; the audio is one piece all the same."""
    voice = tone(2_000, 300)
    frames = []
    for n in range(100):
        media = {
            "payload": chunk_of(voice[n * 160 : n * 160 + 160]),
            "timestamp": str(n * 20 + (0, 3, -4, 5)[n % 4] + 5),
        }
        frames.append((n * 20 + 45.0, "carrier.in", {"event": "media", "streamSid": "MZ1", "media": media}))
    call = made(caller=b"", frames=frames, stops=False)
    recording = np.concatenate(list(blocks(call.tape, call.derived.timeline)))
    assert len(loud_ms(recording[:, 0], join_ms=2)) == 1
    assert len(recording) == len(voice)
