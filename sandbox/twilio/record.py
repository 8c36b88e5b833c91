"""What is known of a call afterwards: both tracks, requests, verbs, streams, errors, and what follows from them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import sound
from sandbox.twilio.media import MediaStream, Notice
from sandbox.twilio.stream import StreamEnd
from sandbox.twilio.twiml import Interpreter, Verb
from sandbox.twilio.webhook import Sent

# A caller's pause shorter than this is within a turn.
_TURN_PAUSE_MS = 700


def new_sid(prefix: str) -> str:
    """An id as Twilio makes them: two letters and 32 hexadecimal digits."""
    return prefix + uuid.uuid4().hex


@dataclass
class StreamRecord:
    """One media stream of a call. `start_ms` is on the call's clock; the stream's own clock starts there."""

    stream: MediaStream
    url: str
    start_ms: int
    end: StreamEnd | None = None
    second_close_code: int | None = None
    discarded_frames: int = 0


@dataclass(frozen=True)
class Response:
    """The time from the caller's last voiced sample to the first one heard in answer, in ms."""

    caller_end_ms: float
    answer_ms: float

    @property
    def ms(self) -> float:
        """How long the caller waited."""
        return self.answer_ms - self.caller_end_ms


@dataclass
class CallRecord:
    """One call. All times are ms since the answer; both tracks are mu-law at 8000 Hz and equally long."""

    call_sid: str
    from_: str
    to: str
    direction: str
    status: str = "queued"
    ended_by: str = ""
    answered: bool = False
    duration_seconds: int = 0
    said: bytes = b""
    heard: bytes = b""
    late_ms: float = 0.0
    interpreter: Interpreter = field(default_factory=Interpreter)
    requests: list[Sent] = field(default_factory=list)
    callbacks: list[dict[str, str]] = field(default_factory=list)
    streams: list[StreamRecord] = field(default_factory=list)
    errors: list[Notice] = field(default_factory=list)
    announcements: list[tuple[int, str]] = field(default_factory=list)
    whispers: list[Verb] = field(default_factory=list)
    tasks: list[dict[str, object]] = field(default_factory=list)

    @property
    def trace(self) -> list[Verb]:
        """The TwiML verbs that were executed."""
        return self.interpreter.trace

    @property
    def heard_segments(self) -> list[sound.Segment]:
        """When the other end was heard to speak."""
        return sound.segments(self.heard)

    @property
    def said_segments(self) -> list[sound.Segment]:
        """When the caller spoke."""
        return sound.segments(self.said, join_ms=_TURN_PAUSE_MS)

    @property
    def stream_heard(self) -> bool:
        """Whether a media stream (not only `<Say>` or `<Play>`) was heard to speak."""
        spans = [
            (each.start_ms * sound.RATE // 1000, each.stream.clock_ms * sound.RATE // 1000) for each in self.streams
        ]
        return any(sound.segments(self.heard[start : start + length]) for start, length in spans)

    def responses(self) -> list[Response]:
        """The response time of each turn of the caller that was answered before the caller's next turn."""
        turns = self.said_segments
        starts = [segment.start_ms for segment in self.heard_segments]
        found = []
        for index, turn in enumerate(turns):
            until = turns[index + 1].start_ms if index + 1 < len(turns) else float("inf")
            answer = next((start for start in starts if turn.end_ms <= start < until), None)
            if answer is not None:
                found.append(Response(turn.end_ms, answer))
        return found

    def problems(self) -> list[str]:
        """What a server did wrong on this call, one line each; a test of a server asserts that there is nothing."""
        lines = [f"{notice.code} at {notice.at_ms} ms: {notice.text}" for notice in self.errors]
        for number, each in enumerate(self.streams, 1):
            lines += [
                f"stream {number}: {notice.code} at {notice.at_ms} ms: {notice.text}"
                for notice in [*each.stream.violations, *(each.stream.warnings)]
                if notice.code != 31951 or notice in each.stream.violations
            ]
        return list(dict.fromkeys(lines))

    def wav(self) -> bytes:
        """The call as a stereo WAV: left the caller, right what the caller heard."""
        return sound.wav(self.said, self.heard)

    def save(self, path: Path) -> None:
        """Write `wav` to a file."""
        path.write_bytes(self.wav())
