"""The caller's side of the line: where each frame stands on the playout clock, and where there is voice in it."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import webrtcvad

from bot.audio import CARRIER_HZ, FRAME_BYTES, SpeechMeter, ulaw_to_pcm
from records.derive.clock import LineClock

SAMPLES_PER_MS = CARRIER_HZ // 1_000
_TOLERANCE = 80
"""Samples: a stamp that is 10 ms off is rounding, no gap and no overlap."""
_STRAY = 5_000 * SAMPLES_PER_MS
"""A stamp further from its arrival than this is a fault of the carrier's, not a gap."""
_JOIN = 200 * SAMPLES_PER_MS


@dataclass(frozen=True, slots=True)
class Piece:
    """Mu-law at 8000 Hz that begins at the sample `start` of the playout clock."""

    start: int
    mulaw: bytes

    @property
    def end(self) -> int:
        """The sample behind the last."""
        return self.start + len(self.mulaw)


class CallerLine:
    """Places the messages of the carrier's media streams, one stream after another, by their ``timestamp``.

    Lost frames leave a gap, repeated and overlapping ones are dropped, bursts fall where they belong. A further stream
    of the call goes on at the moment of its ``start``.
    """

    def __init__(self, clock: LineClock) -> None:
        self.end = 0
        """The sample behind the caller's last audio."""
        self.received_ms = 0.0
        """Audio so far, gaps not counted: what the model's input refers to."""
        self.streams = 0
        self._clock = clock
        self._stream_sid = ""
        self._base = 0
        self._stray: int | None = None

    def started(self, at_ms: float, stream_sid: str) -> None:
        """The carrier's ``start`` message."""
        self.streams += 1
        self._stream_sid = stream_sid
        if self.streams == 1:
            self._clock.frame(at_ms, 0.0)
        else:
            self._base = max(self.end, int(self._clock.latest(at_ms) * SAMPLES_PER_MS))
            self.end = self._base

    def media(self, at_ms: float, message: Mapping[str, Any]) -> Piece | None:
        """A ``media`` message; None where it brings nothing new, or nothing at all."""
        media = message.get("media")
        if not self.streams or message.get("streamSid", self._stream_sid) != self._stream_sid:
            return None
        if not isinstance(media, dict) or media.get("track", "inbound") != "inbound" or not (mulaw := payload(media)):
            return None
        start = self._place(at_ms, media.get("timestamp"), len(mulaw))
        if start is None:
            return None
        piece = Piece(start, mulaw)
        self.end = piece.end
        self.received_ms += len(mulaw) / SAMPLES_PER_MS
        self._clock.frame(at_ms, self.end / SAMPLES_PER_MS)
        return piece

    def _place(self, at_ms: float, stamp: object, size: int) -> int | None:
        told = self._stamped(stamp)
        if told is None:
            return self.end
        start = self._base + told
        arrival = self._clock.latest(at_ms) * SAMPLES_PER_MS
        if abs(start - arrival) > max(_STRAY, abs(self.end - arrival) + _STRAY):
            # No gap is that long. One such stamp is a slip, a second that goes on from it a new numbering.
            if self._stray is not None and abs(told - self._stray) <= _TOLERANCE:
                self._base = self.end - told
            self._stray = told + size
            return self.end
        self._stray = None
        if abs(start - self.end) <= _TOLERANCE:
            return self.end
        return start if start > self.end else None

    def _stamped(self, stamp: object) -> int | None:
        """A ``timestamp`` in samples; None where it is none."""
        text = str(stamp) if isinstance(stamp, int | str) else ""
        return int(text) * SAMPLES_PER_MS if text.isascii() and text.isdigit() and len(text) <= 15 else None


def payload(media: Mapping[str, Any]) -> bytes:
    """The audio of a ``media`` message; empty where it has none that can be read."""
    text = media.get("payload")
    try:
        return binascii.a2b_base64(text, strict_mode=True) if isinstance(text, str) else b""
    except ValueError:
        return b""


@dataclass(slots=True)
class Voiced:
    """A stretch of the caller's voice on the playout clock, in samples, and when its end reached us."""

    start: int
    end: int
    at_ms: float
    """When its last voiced frame reached us, on our clock."""
    received_ms: float
    """`CallerLine.received_ms` then."""
    speech_ms: float
    """How much of it sounds like speech, not only like sound (WebRTC's voice activity detector)."""

    @property
    def start_ms(self) -> float:
        """Its first voiced sample."""
        return self.start / SAMPLES_PER_MS

    @property
    def end_ms(self) -> float:
        """Its last voiced sample."""
        return self.end / SAMPLES_PER_MS


class VoiceFinder:
    """Finds the caller's voice: by energy (`bot.audio.SpeechMeter`), exact to a few samples, and by kind (WebRTC).

    Pauses under 200 ms are within one stretch.
    """

    def __init__(self) -> None:
        self.found: list[Voiced] = []
        self._meter = SpeechMeter()
        self._detector = webrtcvad.Vad(2)
        self._rest = Piece(0, b"")

    def feed(self, piece: Piece, at_ms: float, received_ms: float) -> None:
        """The next audio of the caller."""
        if self._rest.mulaw and self._rest.end == piece.start:
            piece = Piece(self._rest.start, self._rest.mulaw + piece.mulaw)
        whole = len(piece.mulaw) // FRAME_BYTES * FRAME_BYTES
        for at in range(0, whole, FRAME_BYTES):
            frame = piece.mulaw[at : at + FRAME_BYTES]
            left_ms = (len(piece.mulaw) - at - FRAME_BYTES) / SAMPLES_PER_MS
            if self._meter.feed(frame):
                self._voiced(piece.start + at, frame, at_ms, received_ms - left_ms)
        self._rest = Piece(piece.start + whole, piece.mulaw[whole:])

    def _voiced(self, start: int, frame: bytes, at_ms: float, received_ms: float) -> None:
        last = self.found[-1] if self.found else None
        if last is None or start - last.end > _JOIN:
            # The meter tells voice from its second frame on.
            last = Voiced(max(0, start - FRAME_BYTES), start, at_ms, received_ms, 0.0)
            self.found.append(last)
        pcm = ulaw_to_pcm(frame)
        last.end = start + _last_loud(pcm)
        last.at_ms, last.received_ms = at_ms, received_ms
        if self._detector.is_speech(pcm, CARRIER_HZ):
            last.speech_ms += FRAME_BYTES / SAMPLES_PER_MS


def _last_loud(pcm: bytes) -> int:
    """Behind the last sample of a voiced frame that is at least half as strong as the frame on the whole."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    loud = np.flatnonzero(np.abs(samples) >= np.sqrt(np.mean(samples**2)) / 2)
    return int(loud[-1]) + 1 if len(loud) else len(samples)
