"""Whatever a media stream brings is understood, counted and survived."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.carriers.media_stream import (
    MAX_MESSAGE,
    Audio,
    Key,
    Mark,
    MediaStream,
    Problem,
    Started,
    Stopped,
)

FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}


def start(**changes: Any) -> dict[str, Any]:
    inner = {
        "accountSid": "AC1",
        "streamSid": "MZ1",
        "callSid": "CA1",
        "tracks": ["inbound"],
        "mediaFormat": FORMAT,
        "customParameters": {"token": "secret"},
    }
    return {"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": inner | changes}


def media(chunk: int, payload: bytes = b"\xff" * 160) -> dict[str, Any]:
    inner = {
        "track": "inbound",
        "chunk": str(chunk),
        "timestamp": str(20 * chunk),
        "payload": base64.b64encode(payload).decode(),
    }
    return {"event": "media", "sequenceNumber": str(chunk + 1), "streamSid": "MZ1", "media": inner}


def broken(**changes: Any) -> dict[str, Any]:
    message = media(1)
    return message | {"media": message["media"] | changes}


def give(stream: MediaStream, *messages: dict[str, Any]) -> list[Any]:
    return [event for message in messages for event in stream.receive(json.dumps(message))]


def opened() -> MediaStream:
    stream = MediaStream()
    give(stream, CONNECTED, start())
    return stream


def kinds(events: list[Any]) -> list[str]:
    return [event.kind if isinstance(event, Problem) else type(event).__name__ for event in events]


# -- what Twilio sends ------------------------------------------------------------------------------------------------


def test_a_whole_stream_in_order() -> None:
    stream = MediaStream()
    events = give(
        stream,
        CONNECTED,
        start(),
        media(1, b"\x01" * 160),
        media(2, b"\x02" * 160),
        {"event": "dtmf", "sequenceNumber": "4", "streamSid": "MZ1", "dtmf": {"track": "inbound_track", "digit": "#"}},
        {"event": "mark", "sequenceNumber": "5", "streamSid": "MZ1", "mark": {"name": "turn:1:end"}},
        {"event": "stop", "sequenceNumber": "6", "streamSid": "MZ1", "stop": {"accountSid": "AC1", "callSid": "CA1"}},
    )
    assert events == [
        Started("MZ1", "CA1", "AC1", {"token": "secret"}, ("inbound",)),
        Audio(b"\x01" * 160, 20, 1),
        Audio(b"\x02" * 160, 40, 2),
        Key("#"),
        Mark("turn:1:end"),
        Stopped(),
    ]
    assert not stream.problems
    assert stream.stopped


def test_the_stream_may_begin_without_connected() -> None:
    assert kinds(give(MediaStream(), start(), media(1))) == ["Started", "Audio"]


def test_frames_may_have_any_length() -> None:
    events = give(opened(), media(1, b"\x00"), media(2, b"\x00" * 1000))
    assert [len(event.payload) for event in events] == [1, 1000]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"\x00\x01", "binary"),
        ('"' + "x" * MAX_MESSAGE + '"', "oversized"),
        ("x" * 2**20, "oversized"),
        ("", "not_json"),
        ("{", "not_json"),
        ("[1]", "not_json"),
        ("\ud800", "not_json"),
        ("[" * 5000, "not_json"),
        ("{}", "bad_field"),
        ('{"event":5}', "bad_field"),
        ('{"event":"applause","streamSid":"MZ1"}', "unknown_event"),
        (json.dumps(start()), "misplaced"),
        (json.dumps(CONNECTED), "misplaced"),
        (json.dumps(media(1) | {"streamSid": "MZ2"}), "wrong_stream"),
        (json.dumps({"event": "media", "sequenceNumber": "2", "media": {}}), "wrong_stream"),
        (json.dumps(broken(track="outbound")), "wrong_track"),
        (json.dumps(broken(payload="///")), "bad_audio"),
        (json.dumps(broken(payload="AAAAA")), "bad_audio"),
        (json.dumps(broken(payload="\u00e4\u00e4\u00e4\u00e4")), "bad_audio"),
        (json.dumps(broken(payload="")), "bad_field"),
        (json.dumps(broken(payload=7)), "bad_field"),
        (json.dumps(media(1) | {"media": [1]}), "bad_field"),
        ('{"event":"dtmf","sequenceNumber":"2","streamSid":"MZ1","dtmf":{"digit":"15"}}', "bad_field"),
        ('{"event":"mark","sequenceNumber":"2","streamSid":"MZ1","mark":{}}', "bad_field"),
    ],
)
def test_a_bad_message_is_counted_and_the_stream_goes_on(message: str | bytes, kind: str) -> None:
    stream = opened()
    events = stream.receive(message)
    assert kinds(events) == [kind]
    assert stream.problems[kind] == 1  # type: ignore[index]
    assert "Audio" in kinds(give(stream, media(2)))


@pytest.mark.parametrize("event", ["media", "dtmf", "mark", "stop"])
def test_nothing_counts_before_the_start(event: str) -> None:
    stream = MediaStream()
    assert kinds(give(stream, {"event": event, "streamSid": "MZ1"})) == ["misplaced"]
    assert kinds(give(stream, start())) == ["Started"]


def test_nothing_counts_after_the_stop() -> None:
    stream = opened()
    give(stream, {"event": "stop", "sequenceNumber": "2", "streamSid": "MZ1"})
    assert kinds(give(stream, media(2), start(), CONNECTED)) == ["misplaced"] * 3


@pytest.mark.parametrize(
    "other",
    [
        FORMAT | {"encoding": "audio/x-l16"},
        FORMAT | {"sampleRate": 16000},
        FORMAT | {"channels": 2},
        {"encoding": "audio/x-mulaw"},
    ],
)
def test_another_audio_format_does_not_start_a_stream(other: dict[str, Any]) -> None:
    stream = MediaStream()
    assert kinds(give(stream, start(mediaFormat=other))) == ["media_format"]
    assert stream.started is None


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"mediaFormat": None}, "bad_field"),
        ({"callSid": ""}, "bad_field"),
        ({"accountSid": 3}, "bad_field"),
        ({"streamSid": "MZ2"}, "bad_field"),
        ({"customParameters": {"token": 5}}, "bad_field"),
        ({"customParameters": ["token"]}, "bad_field"),
        ({"tracks": ["outbound"]}, "wrong_track"),
        ({"tracks": "inbound"}, "wrong_track"),
    ],
)
def test_a_start_that_cannot_be_used_is_refused_and_a_right_one_still_starts(changes: Any, kind: str) -> None:
    stream = MediaStream()
    assert kinds(give(stream, start(**changes))) == [kind]
    assert kinds(give(stream, start())) == ["Started"]


# -- order ------------------------------------------------------------------------------------------------------------


def test_missing_frames_are_counted_and_the_next_is_heard() -> None:
    events = give(opened(), media(1), media(4), media(5))
    assert kinds(events) == ["Audio", "gap", "Audio", "Audio"]
    assert events[1].detail == "2 missing by chunk"


def test_repeated_and_late_frames_are_not_heard_twice() -> None:
    stream = opened()
    events = give(stream, media(1), media(2), media(2), media(1), media(3))
    assert kinds(events) == ["Audio", "Audio", "late", "late", "Audio"]
    assert [event.chunk for event in events if isinstance(event, Audio)] == [1, 2, 3]


def test_a_repeated_key_press_is_one_key_press() -> None:
    key = {"event": "dtmf", "sequenceNumber": "2", "streamSid": "MZ1", "dtmf": {"digit": "4"}}
    assert kinds(give(opened(), key, key)) == ["Key", "late"]


def test_marks_and_the_stop_count_even_where_they_come_late() -> None:
    mark = {"event": "mark", "sequenceNumber": "1", "streamSid": "MZ1", "mark": {"name": "a"}}
    stop = {"event": "stop", "sequenceNumber": "1", "streamSid": "MZ1"}
    assert kinds(give(opened(), mark, stop)) == ["late", "Mark", "late", "Stopped"]


@pytest.mark.parametrize("wild", [10_000, 2**40])
def test_one_wild_number_does_not_mute_the_caller(wild: int) -> None:
    events = give(opened(), media(1), media(wild), media(3), media(4))
    assert kinds(events) == ["Audio", "renumbered", "Audio", "renumbered", "Audio", "Audio"]


@pytest.mark.parametrize("number", [None, "", "-1", "1.5", "x", "9" * 5000, True, [1], "\u0661"])
def test_frames_without_usable_numbers_are_heard_all_the_same(number: object) -> None:
    message = broken(chunk=number, timestamp=number) | {"sequenceNumber": number}
    events = give(opened(), message, message)
    assert kinds(events) == ["bad_field", "Audio"] * 2
    assert [event.timestamp_ms for event in events if isinstance(event, Audio)] == [0, 20]


# -- what Twilio gets -------------------------------------------------------------------------------------------------


def test_outgoing_messages_have_exactly_the_documented_fields() -> None:
    stream = opened()
    assert json.loads(stream.audio(b"\xff\x00\x7f")) == {
        "event": "media",
        "streamSid": "MZ1",
        "media": {"payload": "/wB/"},
    }
    assert json.loads(stream.mark("turn:2:end")) == {
        "event": "mark",
        "streamSid": "MZ1",
        "mark": {"name": "turn:2:end"},
    }
    assert json.loads(stream.clear()) == {"event": "clear", "streamSid": "MZ1"}


# -- anything at all --------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["event", "streamSid", "sequenceNumber", "media", "start", "dtmf", "mark", "payload", "chunk", "track", "name"]
)
MESSAGES = st.one_of(
    st.binary(max_size=100),
    st.text(max_size=100),
    VALUES.map(json.dumps),
    st.builds(
        lambda event, fields: json.dumps({"streamSid": "MZ1", **fields, "event": event}),
        st.sampled_from(["connected", "start", "media", "dtmf", "mark", "stop", "clear"]),
        st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=5), max_size=5),
    ),
    st.builds(lambda chunk, payload: json.dumps(media(chunk, payload)), st.integers(0, 2000), st.binary(max_size=400)),
)


@given(st.lists(MESSAGES, max_size=20), st.booleans())
def test_no_message_raises_and_each_problem_is_counted(messages: list[str | bytes], begin: bool) -> None:
    stream = opened() if begin else MediaStream()
    problems = 0
    for message in messages:
        events = stream.receive(message)
        problems += sum(isinstance(event, Problem) for event in events)
        assert all(event.payload for event in events if isinstance(event, Audio))
    assert stream.problems.total() == problems
