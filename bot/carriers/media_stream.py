"""The protocol of one Twilio media stream, without any I/O.

Source of every rule: Twilio documentation, "Media Streams: WebSocket messages". All messages are JSON text;
``sequenceNumber``, ``chunk`` and ``timestamp`` are strings of digits; audio is base64 of G.711 mu-law, 8000 Hz, mono.

Whatever arrives, `MediaStream.receive` gives events and raises nothing: what breaks a rule becomes a `Problem`, and the
stream goes on with as much of the message as can be used.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

MAX_MESSAGE = 64 * 1024
"""Characters. A frame of 20 ms takes about 400."""
KEYS = frozenset("0123456789*#ABCD")
# Numbers that are further from what is due than this are a new numbering, not a gap or a straggler.
_WINDOW = 500

ProblemKind = Literal[
    "binary",  # not a text message
    "oversized",  # longer than MAX_MESSAGE
    "not_json",  # no JSON object
    "bad_field",  # a field is missing or is not what it should be
    "unknown_event",  # an event that the protocol does not have
    "misplaced",  # a known event where it may not be: before the start, after the stop, a second start
    "media_format",  # the stream is not mu-law, 8000 Hz, mono: nothing could be understood
    "wrong_stream",  # the message belongs to another stream
    "wrong_track",  # audio that is not the caller's
    "bad_audio",  # the payload is no base64
    "gap",  # messages are missing
    "late",  # a message came twice or after its successors; audio and keys of it are dropped
    "renumbered",  # the numbering jumped; it is followed from there
    "unknown_mark",  # a mark came back that nobody waits for
]


@dataclass(frozen=True, slots=True)
class Started:
    """The stream is open. `parameters` are those of the TwiML."""

    stream_sid: str
    call_sid: str
    account_sid: str
    parameters: Mapping[str, str]
    tracks: tuple[str, ...]


class Audio(NamedTuple):
    """Audio of the caller: mu-law at 8000 Hz, `timestamp_ms` after the start of the stream.

    A tuple, because one is made of every message: a frozen dataclass takes three times as long.
    """

    payload: bytes
    timestamp_ms: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the caller's phone: ``0-9 * # A-D``."""

    digit: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark came back. Whether that means "played" is known by `bot.carriers.playout.Playout`."""

    name: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The carrier ended the stream."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule was broken. `detail` holds no caller data."""

    kind: ProblemKind
    detail: str


StreamEvent = Started | Audio | Key | Mark | Stopped | Problem


class _Unusable(Exception):
    """Ends the handling of one message; never leaves this module."""

    def __init__(self, kind: ProblemKind, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(kind, detail)


class MediaStream:
    """One stream: reads what Twilio sends, builds what it gets.

    `started` is the start message once it came; `problems` counts what broke a rule, by kind.
    """

    def __init__(self) -> None:
        self.started: Started | None = None
        self.stopped = False
        self.problems: Counter[ProblemKind] = Counter()
        self._sequence = _Numbering("sequenceNumber")
        self._chunk = _Numbering("chunk")
        self._received_bytes = 0

    # -- from Twilio ----------------------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> list[StreamEvent]:
        """The events of one message; never raises."""
        try:
            events = self._read(_parse(message))
        except _Unusable as unusable:
            events = [unusable.problem]
        for event in events:
            if isinstance(event, Problem):
                self.problems[event.kind] += 1
        return events

    def _read(self, message: dict[str, Any]) -> list[StreamEvent]:
        event = _text(message, "event")
        if self.stopped:
            raise _Unusable("misplaced", f"{event[:20]!r} after the stop")
        if event == "connected":
            return [] if self.started is None else [Problem("misplaced", "'connected' after the start")]
        if event == "start":
            return [self._start(message)]
        if self.started is None:
            raise _Unusable("misplaced", f"{event[:20]!r} before the start")
        if message.get("streamSid") != self.started.stream_sid:
            raise _Unusable("wrong_stream", f"{event[:20]!r} with the streamSid of another stream")
        order = self._sequence.follow(message)
        if event not in ("media", "dtmf", "mark", "stop"):
            raise _Unusable("unknown_event", f"event {event[:20]!r}")
        if event == "media":
            return self._media(message, order)
        problems: list[StreamEvent] = [order] if order else []
        if event == "dtmf":
            return problems if order and order.kind == "late" else [*problems, self._key(message)]
        if event == "mark":
            return [*problems, Mark(_text(_object(message, "mark"), "name"))]
        self.stopped = True
        return [*problems, Stopped()]

    def _start(self, message: dict[str, Any]) -> Started:
        if self.started is not None:
            raise _Unusable("misplaced", "a second start")
        start = _object(message, "start")
        media = _object(start, "mediaFormat")
        heard = (media.get("encoding"), media.get("sampleRate"), media.get("channels"))
        if heard != ("audio/x-mulaw", 8000, 1):
            raise _Unusable("media_format", f"{str(heard)[:80]}; only audio/x-mulaw, 8000 Hz, 1 channel is understood")
        stream_sid = _text(start, "streamSid")
        if message.get("streamSid", stream_sid) != stream_sid:
            raise _Unusable("bad_field", "two different values of streamSid in the start")
        parameters = start.get("customParameters", {})
        if not _is_texts(parameters):
            raise _Unusable("bad_field", "customParameters")
        tracks = start.get("tracks", ["inbound"])
        if not isinstance(tracks, list) or "inbound" not in tracks:
            raise _Unusable("wrong_track", "the stream does not bring the caller's track")
        self._sequence.follow(message)
        self.started = Started(
            stream_sid,
            _text(start, "callSid"),
            _text(start, "accountSid"),
            parameters,
            tuple(str(track) for track in tracks),
        )
        return self.started

    def _media(self, message: dict[str, Any], order: Problem | None) -> list[StreamEvent]:
        media = _object(message, "media")
        if media.get("track", "inbound") != "inbound":
            raise _Unusable("wrong_track", f"track {str(media.get('track'))[:20]!r}")
        try:
            payload = binascii.a2b_base64(_text(media, "payload", MAX_MESSAGE), strict_mode=True)
        except ValueError:
            raise _Unusable("bad_audio", "the payload is not base64") from None
        # The chunk tells a gap in the audio more exactly than the sequence, which other messages share.
        problem = self._chunk.follow(media) or order
        if problem and problem.kind == "late":
            return [problem]
        timestamp = _number(media.get("timestamp"))
        if timestamp is None:
            problem = problem or Problem("bad_field", "timestamp")
            timestamp = self._received_bytes // 8
        self._received_bytes += len(payload)
        audio = Audio(payload, timestamp, self._chunk.last)
        return [problem, audio] if problem else [audio]

    def _key(self, message: dict[str, Any]) -> Key | Problem:
        digit = _text(_object(message, "dtmf"), "digit")
        return Key(digit) if digit in KEYS else Problem("bad_field", "digit")

    # -- to Twilio ------------------------------------------------------------------------------------------------

    def audio(self, mulaw: bytes) -> str:
        """The message that queues audio for the caller: mu-law at 8000 Hz, any length."""
        return self._message("media", media={"payload": base64.b64encode(mulaw).decode()})

    def mark(self, name: str) -> str:
        """The message that asks for a mark behind what is queued."""
        return self._message("mark", mark={"name": name})

    def clear(self) -> str:
        """The message that drops what is queued; all pending marks come back at once."""
        return self._message("clear")

    def _message(self, event: str, **content: object) -> str:
        assert self.started is not None, "nothing can be sent before the start message was read"
        return orjson.dumps({"event": event, "streamSid": self.started.stream_sid, **content}).decode()


class _Numbering:
    """One of the carrier's two counts. It heals: a wild number costs a `Problem`, not the audio after it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.last = 0

    def follow(self, values: dict[str, Any]) -> Problem | None:
        number = _number(values.get(self._name))
        if number is None:
            return Problem("bad_field", self._name)
        ahead = number - self.last
        if -_WINDOW < ahead <= 0:
            return Problem("late", f"{self._name} is {-ahead} behind")
        self.last = number
        if ahead == 1:
            return None
        if 1 < ahead <= _WINDOW:
            return Problem("gap", f"{ahead - 1} missing by {self._name}")
        return Problem("renumbered", self._name)


def _parse(message: str | bytes) -> dict[str, Any]:
    if not isinstance(message, str):
        raise _Unusable("binary", f"{len(message)} bytes")
    if len(message) > MAX_MESSAGE:
        raise _Unusable("oversized", f"{len(message)} characters")
    try:
        value = orjson.loads(message)
    except ValueError:
        raise _Unusable("not_json", f"{len(message)} characters") from None
    if not isinstance(value, dict):
        raise _Unusable("not_json", "JSON, but no object")
    return value


def _object(values: dict[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    if not isinstance(value, dict):
        raise _Unusable("bad_field", name)
    return value


def _text(values: dict[str, Any], name: str, most: int = 200) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise _Unusable("bad_field", name)
    return value


def _number(value: object) -> int | None:
    text = str(value) if isinstance(value, int) else value
    if isinstance(text, str) and 0 < len(text) <= 15 and text.isascii() and text.isdigit():
        return int(text)
    return None


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
