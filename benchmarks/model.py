"""The measuring model: just enough of Gemini's BidiGenerateContent, and it answers at once.

At the first loud sample of the caller it speaks, at the first loud sample while it speaks it is interrupted. Whom it
talks to it knows by the pitch of the caller's tone. Messages are made once and sent as they are.

Source of the messages: ai.google.dev/api/live (BidiGenerateContentServerMessage); binary frames, as the service sends.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import orjson

from benchmarks.wire import Wire
from bot.audio import MODEL_IN_HZ, MODEL_OUT_HZ

LOUD = 1_000
"""Of 32768. The tones are 8000 high, silence is silent."""
FIRST_PITCH_HZ, PITCH_STEP_HZ = 400, 50
CHUNK_MS = 40
"""Pieces of a short answer come in real time, the hardest case for who must pass them on at once."""
FRAME_MS = 200
"""Pieces of a long answer come as the service sends them: 200 ms each, at `SPEED` times real time."""
SPEED = 4
_QUIET_AGAIN_SECONDS = 0.3
_CUT_IN_ANSWER_SECONDS = 0.6
_PITCH_SAMPLES = 960
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_SAY = re.compile(r'Say exactly: "(.*)"', re.DOTALL)


class Caller(Protocol):
    """Who is on the line, as far as the model reports to it. All moments are of ``time.monotonic``."""

    def model_heard(self, now: float) -> None:
        """The caller's tone has reached the model."""

    def model_spoke(self, now: float) -> None:
        """The first audio of an answer was sent."""

    def model_was_interrupted(self, now: float) -> None:
        """`interrupted` was sent."""


class Model:
    """The server. `reply_ms` long are the answers; those above 200 ms are sent as bursts."""

    def __init__(self, caller_of: Callable[[int], Caller | None]) -> None:
        self.caller_of = caller_of
        self.reply_ms = 200
        self.connection_seconds: float | None = None
        """So old a connection is told to go away, as the service does after ten minutes."""
        self.sessions = 0
        self.has_read_aloud = asyncio.Event()

    async def start(self) -> str:
        """Serve on a free port. Gives the base URL."""
        server = await asyncio.get_running_loop().create_server(lambda: Session(self), "127.0.0.1", 0, backlog=256)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Session(Wire):
    """One Live session."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._caller: Caller | None = None
        self._pitch_of: list[np.ndarray] | None = []
        self._timers: list[asyncio.TimerHandle] = []
        self._farewell: asyncio.TimerHandle | None = None
        self._last_loud = 0.0
        self._speaks_until = 0.0
        self._greeted = False
        self._turns = 0

    def received(self, message: bytes) -> None:
        """A message of the client, in camelCase or snake_case."""
        now = time.monotonic()
        content = orjson.loads(message)
        realtime = content.get("realtimeInput") or content.get("realtime_input")
        if realtime is None:
            if "setup" in content:
                self._model.sessions += 1
                self.send_binary(b'{"setupComplete":{}}')
                if self._model.connection_seconds:
                    self._farewell = self._loop.call_later(self._model.connection_seconds, self.send_binary, _GO_AWAY)
            elif "client_content" in content or "clientContent" in content:
                self._greet()
        elif "audio" in realtime:
            data = realtime["audio"]["data"].encode().translate(_URL_SAFE)
            self._hear(np.frombuffer(binascii.a2b_base64(data), "<i2"), now)
        elif "text" in realtime:
            if asked := _SAY.search(realtime["text"]):
                self._read_aloud(asked[1])
            else:
                self._greet()

    def closed(self) -> None:
        """The client is gone."""
        self._be_quiet()
        if self._farewell:
            self._farewell.cancel()

    # -- what it hears ------------------------------------------------------------------------------------------------

    def _hear(self, samples: np.ndarray, now: float) -> None:
        is_loud = samples.size and int(samples.max()) > LOUD
        if not is_loud:
            return
        begins = now - self._last_loud > _QUIET_AGAIN_SECONDS
        self._last_loud = now
        if self._pitch_of is not None:
            self._recognise(samples)
        if not begins:
            return
        if self._caller:
            self._caller.model_heard(now)
        if now < self._speaks_until:
            self._interrupt()
        else:
            self._answer()

    def _recognise(self, samples: np.ndarray) -> None:
        assert self._pitch_of is not None
        if not self._pitch_of:
            samples = samples[int((samples > LOUD).argmax()) :]
        self._pitch_of.append(samples)
        heard = np.concatenate(self._pitch_of)[:_PITCH_SAMPLES]
        if len(heard) == _PITCH_SAMPLES:
            spectrum = np.abs(np.fft.rfft(heard, 16 * _PITCH_SAMPLES))
            pitch = float(spectrum.argmax()) * MODEL_IN_HZ / (16 * _PITCH_SAMPLES)
            self._caller = self._model.caller_of(round((pitch - FIRST_PITCH_HZ) / PITCH_STEP_HZ))
            self._pitch_of = None

    # -- what it says -------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        reply_ms = self._model.reply_ms
        if reply_ms > FRAME_MS:
            self._speak(reply_ms, FRAME_MS, 1 / SPEED)
        else:
            self._speak(reply_ms, CHUNK_MS, 1.0)

    def _speak(self, reply_ms: int, piece_ms: int, pace: float) -> None:
        """The pieces, the transcripts between them, and the end of the turn when it has been played."""
        self._turns += 1
        piece = _audio(piece_ms)
        self.send_binary(piece)
        now = time.monotonic()
        if self._caller:
            self._caller.model_spoke(now)
        self._speaks_until = now + reply_ms / 1000
        for number in range(1, reply_ms // piece_ms):
            self._later(number * piece_ms * pace / 1000, piece)
            if number == 1:
                self._later(piece_ms * pace / 1000, _HEARD)
            self._later(number * piece_ms * pace / 1000, _WORDS)
        self._later(reply_ms * pace / 1000, _GENERATED)
        self._later(reply_ms / 1000, _COMPLETE)
        if self._model.connection_seconds:
            self._later(reply_ms / 1000, _SAVED)

    def _interrupt(self) -> None:
        self._be_quiet()
        self.send_binary(_INTERRUPTED)
        if self._caller:
            self._caller.model_was_interrupted(time.monotonic())
        self._speaks_until = 0.0
        self.send_binary(_COMPLETE)
        # Who cuts in is answered when they are done: a bot that owed its caller an answer would fill the silence.
        for message in (_audio(CHUNK_MS), _GENERATED, _COMPLETE):
            self._later(_CUT_IN_ANSWER_SECONDS, message)

    def _greet(self) -> None:
        if not self._greeted:
            self._greeted = True
            self._speak(1_000, FRAME_MS, 0.0)

    def _read_aloud(self, words: str) -> None:
        for _ in range(5):
            self.send_binary(_audio(FRAME_MS))
        self.send_binary(orjson.dumps({"serverContent": {"outputTranscription": {"text": words}}}))
        self.send_binary(_GENERATED)
        self.send_binary(_COMPLETE)
        self._model.has_read_aloud.set()

    def _later(self, seconds: float, message: bytes) -> None:
        self._timers.append(self._loop.call_later(seconds, self.send_binary, message))

    def _be_quiet(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def tone(pitch_hz: float, ms: int, rate_hz: int) -> np.ndarray:
    """A tone as int16 samples, 8000 high; it begins at full swing, so that its first sample is loud."""
    samples: np.ndarray = 8_000 * np.cos(2 * np.pi * pitch_hz * np.arange(ms * rate_hz // 1000) / rate_hz)
    rounded: np.ndarray = np.rint(samples)
    return rounded.astype("<i2")


_AUDIO: dict[int, bytes] = {}


def _audio(ms: int) -> bytes:
    if ms not in _AUDIO:
        data = base64.b64encode(tone(1_000, ms, MODEL_OUT_HZ).tobytes()).decode()
        part = {"inlineData": {"mimeType": f"audio/pcm;rate={MODEL_OUT_HZ}", "data": data}}
        _AUDIO[ms] = orjson.dumps({"serverContent": {"modelTurn": {"parts": [part]}}})
    return _AUDIO[ms]


_HEARD = b'{"serverContent":{"inputTranscription":{"text":"Good morning, I would like an appointment."}}}'
_WORDS = b'{"serverContent":{"outputTranscription":{"text":" of course"}}}'
_GENERATED = b'{"serverContent":{"generationComplete":true}}'
_GO_AWAY = b'{"goAway":{"timeLeft":"10s"}}'
_SAVED = b'{"sessionResumptionUpdate":{"newHandle":"as-it-is","resumable":true}}'
_INTERRUPTED = b'{"serverContent":{"interrupted":true}}'
_COMPLETE = orjson.dumps(
    {
        "serverContent": {"turnComplete": True},
        "usageMetadata": {
            "promptTokenCount": 420,
            "responseTokenCount": 25,
            "totalTokenCount": 445,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 420}],
            "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 25}],
        },
    }
)
