"""The carrier's side of Twilio Media Streams, without any I/O.

Source of every rule: Twilio documentation, "Media Streams: WebSocket messages" and the error pages of the numbers named
below. Time here is the playout clock: it stands still until `MediaStream.play` is called, and each call is 20 ms.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox import sound

BUFFER_LIMIT = 10 * 60 * sound.RATE
# A gap in mid-sound shorter than this is choppy audio; a longer one is a pause.
UNDERRUN_MS = 500
DTMF_KEYS = "0123456789*#ABCD"
_FIELDS = {"media": {"payload"}, "mark": {"name"}, "clear": None}


@dataclass(frozen=True)
class Notice:
    """An entry as Twilio's debugger would show it. `at_ms` counts from the answer of the call or the stream's start."""

    code: int
    text: str
    at_ms: int


@dataclass(frozen=True)
class MarkEcho:
    """A mark that went back to the application. `cleared` ones were never heard: `clear` returned them."""

    name: str
    queued_ms: int
    echoed_ms: int
    cleared: bool


@dataclass(frozen=True)
class Gap:
    """The playout buffer was empty between two pieces of audio. `voiced`: it cut into sound."""

    at_ms: float
    length_ms: float
    voiced: bool


class MediaStream:
    """One stream: builds what Twilio sends, judges what the application sends, and plays it.

    `bidirectional` streams (`<Connect><Stream>`) play what they receive; the others (`<Start><Stream>`) refuse it.

    What a test looks at afterwards: `violations` (every broken rule), `warnings` (what Twilio would have shown: each
    code once per stream), `marks`, `clears`, `gaps`, `odd_sizes` (media that is not a multiple of 20 ms; allowed).
    """

    def __init__(
        self,
        *,
        stream_sid: str,
        call_sid: str,
        account_sid: str,
        parameters: Mapping[str, str] | None = None,
        tracks: Sequence[str] = ("inbound",),
        bidirectional: bool = True,
    ) -> None:
        self.stream_sid = stream_sid
        self.call_sid = call_sid
        self.account_sid = account_sid
        self.parameters = dict(parameters or {})
        self.tracks = tuple(tracks)
        self.bidirectional = bidirectional
        self.clock_ms = 0
        self.violations: list[Notice] = []
        self.warnings: list[Notice] = []
        self.marks: list[MarkEcho] = []
        self.clears: list[int] = []
        self.gaps: list[Gap] = []
        self.odd_sizes = 0
        self.received_messages = 0
        self.received_bytes = 0
        self.played_bytes = 0
        self._sequence = 0
        self._chunks = dict.fromkeys(self.tracks, 0)
        self._queue: deque[bytes | _PendingMark] = deque()
        self._buffered = 0
        self._last_sound = b""
        self._dry_since: int | None = None
        self._dry_voiced = False

    # What Twilio sends

    def connected(self) -> str:
        """The first message; the only one without a sequence number."""
        return json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})

    def start(self) -> str:
        """The second message."""
        return self._message(
            "start",
            {
                "accountSid": self.account_sid,
                "streamSid": self.stream_sid,
                "callSid": self.call_sid,
                "tracks": list(self.tracks),
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": sound.RATE, "channels": 1},
                "customParameters": self.parameters,
            },
        )

    def media(self, payload: bytes, *, track: str = "inbound", timestamp_ms: int | None = None) -> str:
        """A piece of mu-law of one track; `timestamp_ms` counts from the stream's start (default: the clock)."""
        self._chunks[track] += 1
        stamp = self.clock_ms if timestamp_ms is None else timestamp_ms
        return self._message(
            "media",
            {
                "track": track,
                "chunk": str(self._chunks[track]),
                "timestamp": str(stamp),
                "payload": base64.b64encode(payload).decode(),
            },
        )

    def dtmf(self, key: str) -> str:
        """A key that the caller pressed. Raises ValueError if there is no such key."""
        if len(key) != 1 or key not in DTMF_KEYS:
            raise ValueError(f"there is no key {key!r} on a telephone")
        return self._message("dtmf", {"track": "inbound_track", "digit": key})

    def stop(self) -> str:
        """The last message."""
        return self._message("stop", {"accountSid": self.account_sid, "callSid": self.call_sid})

    def _message(self, event: str, content: Mapping[str, Any]) -> str:
        self._sequence += 1
        head = {"event": event, "sequenceNumber": str(self._sequence), "streamSid": self.stream_sid}
        return json.dumps({**head, event: content})

    # What the application sends

    @property
    def buffered_ms(self) -> int:
        """Audio received and not played yet."""
        return self._buffered * 1000 // sound.RATE

    @property
    def underruns(self) -> int:
        """How often the audio was choppy: the buffer ran empty in mid-sound and went on shortly after."""
        return sum(gap.voiced and gap.length_ms < UNDERRUN_MS for gap in self.gaps)

    def receive(self, message: str | bytes) -> list[str]:
        """Take one WebSocket message; returns what Twilio sends back at once (marks)."""
        self.received_messages += 1
        if isinstance(message, bytes):
            return self._violated(31950, "a binary message: only text is allowed")
        try:
            content = json.loads(message)
        except ValueError:
            return self._violated(31951, "not JSON")
        problem = self._problem(content)
        if problem:
            return self._violated(31951, problem)
        if content["event"] == "clear":
            return self._clear()
        if content["event"] == "mark":
            return self._mark(content["mark"]["name"])
        return self._media(content["media"]["payload"])

    def _problem(self, content: Any) -> str:
        """What is wrong with the shape of a message; empty if nothing."""
        if not isinstance(content, dict):
            return "not a JSON object"
        event = content.get("event")
        if event not in _FIELDS:
            return f"unknown event {event!r}"
        if not self.bidirectional:
            return f"{event} on a stream that only listens"
        if content.get("streamSid") != self.stream_sid:
            return f"streamSid is {content.get('streamSid')!r}, not that of this stream"
        inner = _FIELDS[event]
        unknown = set(content) - {"event", "streamSid", event if inner else "event"}
        if unknown:
            return f"{event} has unknown fields {sorted(unknown)}"
        if inner is None:
            return ""
        part = content.get(event)
        if not isinstance(part, dict) or set(part) != inner:
            return f"{event} must hold exactly {sorted(inner)}"
        if not all(isinstance(value, str) for value in part.values()):
            return f"the values in {event} must be strings"
        return ""

    def _violated(self, code: int, text: str) -> list[str]:
        self.violations.append(Notice(code, text, self.clock_ms))
        self.warn(code, text)
        return []

    def warn(self, code: int, text: str) -> None:
        """Put a warning into the debugger: the first of each code, as Twilio does."""
        if all(seen.code != code for seen in self.warnings):
            self.warnings.append(Notice(code, text, self.clock_ms))

    def _media(self, payload: str) -> list[str]:
        try:
            audio = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError):
            return self._violated(31951, "the payload is not base64")
        if not audio:
            return self._violated(31951, "the payload is empty")
        if audio.startswith(b"RIFF"):
            self._violated(31951, "the payload is a WAV file, its header will be heard as noise")
        if self._buffered + len(audio) > BUFFER_LIMIT:
            return self._violated(31931, "more than ten minutes of audio are waiting: this message was dropped")
        self.odd_sizes += len(audio) % sound.FRAME != 0
        self.received_bytes += len(audio)
        self._note_gap()
        self._queue.append(audio)
        self._buffered += len(audio)
        return []

    def _note_gap(self) -> None:
        if self._dry_since is None:
            return
        length = self.clock_ms - self._dry_since * 1000 / sound.RATE
        if length > 0:
            self.gaps.append(Gap(self._dry_since * 1000 / sound.RATE, length, self._dry_voiced))
        self._dry_since = None

    def _mark(self, name: str) -> list[str]:
        pending = _PendingMark(name, self.clock_ms)
        if not self._queue:
            return [self._echo(pending, cleared=False)]
        self._queue.append(pending)
        return []

    def _echo(self, pending: _PendingMark, *, cleared: bool) -> str:
        self.marks.append(MarkEcho(pending.name, pending.queued_ms, self.clock_ms, cleared))
        return self._message("mark", {"name": pending.name})

    def _clear(self) -> list[str]:
        self.clears.append(self.clock_ms)
        pending = [item for item in self._queue if isinstance(item, _PendingMark)]
        self._queue.clear()
        self._buffered = 0
        self._dry_since = None
        self._last_sound = b""
        return [self._echo(mark, cleared=True) for mark in pending]

    # Playout

    def play(self) -> tuple[bytes, list[str]]:
        """Let 20 ms pass: what the caller heard (160 bytes) and the marks that came due."""
        heard = bytearray()
        due = []
        while self._queue:
            head = self._queue[0]
            if isinstance(head, _PendingMark):
                due.append(head)
                self._queue.popleft()
                continue
            if len(heard) == sound.FRAME:
                break
            room = sound.FRAME - len(heard)
            heard += head[:room]
            if len(head) > room:
                self._queue[0] = head[room:]
            else:
                self._queue.popleft()
        self._account_for(bytes(heard))
        self.clock_ms += sound.FRAME_MS
        return bytes(heard).ljust(sound.FRAME, sound.SILENCE), [self._echo(mark, cleared=False) for mark in due]

    def _account_for(self, heard: bytes) -> None:
        self._buffered -= len(heard)
        self.played_bytes += len(heard)
        if heard:
            self._last_sound = (self._last_sound + heard)[-sound.FRAME :]
        if len(heard) < sound.FRAME and self._last_sound and self._dry_since is None:
            self._dry_since = self.clock_ms * sound.RATE // 1000 + len(heard)
            self._dry_voiced = sound.is_voiced(self._last_sound)


@dataclass(frozen=True)
class _PendingMark:
    name: str
    queued_ms: int
