"""The stand-in callers of a measurement: a frame of mu-law every 20 ms, a tone now and then, a stopwatch.

Lean on purpose: one timer for each phone, messages put together from ready pieces. The messages are those of Twilio's
documentation, "Media Streams: WebSocket messages".
"""

from __future__ import annotations

import asyncio
import base64
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

import orjson

from benchmarks.model import FIRST_PITCH_HZ, LOUD, PITCH_STEP_HZ, tone
from benchmarks.wire import Wire
from bot.audio import CARRIER_HZ, FRAME_BYTES, FRAME_MS, ULAW_SILENCE, pcm_to_ulaw, ulaw_to_pcm
from sandbox.twilio.webhook import signature

Mode = Literal["answer", "interrupt", "talk"]
_GOLDEN = 0.6180339887
_SILENCE = base64.b64encode(bytes([ULAW_SILENCE]) * FRAME_BYTES)
_LOUD_CODES = bytes(
    code for code in range(256) if abs(int.from_bytes(ulaw_to_pcm(bytes([code])), "little", signed=True)) > LOUD
)
_TONE_FRAMES = 5
_CUT_IN_FRAMES = 20

# Frames: how often a tone is said, and (while the bot speaks) when the caller cuts in after it.
_PERIOD: dict[Mode, int] = {"answer": 100, "interrupt": 150, "talk": 200}
_CUT_IN_AT = 45
_REST_FRAMES = 110


@dataclass
class Timings:
    """What a phone has measured. Milliseconds."""

    round_trip: list[float] = field(default_factory=list)
    uplink: list[float] = field(default_factory=list)
    downlink: list[float] = field(default_factory=list)
    clear: list[float] = field(default_factory=list)
    """`interrupted` left the model until ``clear`` arrived."""
    silence: list[float] = field(default_factory=list)
    """The caller began to speak over the bot until nothing of it was heard any more."""
    lost: int = 0
    """Tones without an answer, and interruptions without silence."""


@dataclass(frozen=True)
class Account:
    """Whose calls the switchboard takes: they are announced by a signed webhook."""

    sid: str
    token: str


class Phone(Wire):
    """One caller. `index` gives the pitch and the place in time, so that callers do not speak in chorus."""

    def __init__(self, index: int, url: str, account: Account | None) -> None:
        self._url = url
        self._account = account
        super().__init__()
        self.index = index
        self.timings = Timings()
        self.first_word_ms: float | None = None
        self._loop = asyncio.get_running_loop()
        self._first_word = asyncio.Event()
        self._parameters: dict[str, str] = {}
        self._call_sid = f"CA{index:032x}"
        self._stream_sid = f"MZ{index:032x}"
        self._mode: Mode = "answer"
        self._timer: asyncio.TimerHandle | None = None
        self._messages = 1
        self._frames = 0
        self._started = 0.0
        self._due = 0.0
        self._rests_until = _REST_FRAMES  # while the bot greets
        pitch = FIRST_PITCH_HZ + PITCH_STEP_HZ * index
        sound = pcm_to_ulaw(tone(pitch, _CUT_IN_FRAMES * FRAME_MS, CARRIER_HZ).tobytes())
        self._tone = [base64.b64encode(sound[i : i + FRAME_BYTES]) for i in range(0, len(sound), FRAME_BYTES)]
        self._tone_at = self._tone_until = 0
        self._said: float | None = None
        self._reached: float | None = None
        self._answered: float | None = None
        self._is_answered = False
        self._cut_in: float | None = None
        self._interrupted: float | None = None
        self._queue_ends = 0.0
        self._marks: dict[str, asyncio.TimerHandle] = {}

    # -- the call -----------------------------------------------------------------------------------------------------

    async def ring(self) -> None:
        """Place the call; returns when the media socket is being opened."""
        address = self._url
        headers: dict[str, str] = {}
        if self._account:
            address, self._parameters = await self._announce(self._account)
            # Twilio signs the address it was given, wss; on this machine no TLS is spoken.
            headers = {"X-Twilio-Signature": signature(self._account.token, address)}
            address = address.replace("wss://", "ws://", 1)
        await self.connect(address, headers)

    async def heard(self, seconds: float) -> bool:
        """Wait for the bot's first word."""
        try:
            await asyncio.wait_for(self._first_word.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def hang_up(self) -> None:
        """Stop the stream as a carrier does whose caller has hung up."""
        if self._timer:
            self._timer.cancel()
        self._send("stop", callSid=self._call_sid)
        self._loop.call_later(0.1, self.close)

    def begin(self, mode: Mode) -> None:
        """Speak in this manner from the next round on, and measure anew."""
        if self._mode != "answer":
            # The bot may be in the middle of a long answer, which a question would interrupt.
            self._rests_until = self._frames + _REST_FRAMES
        self._mode = mode
        self.timings = Timings()
        self._said = self._cut_in = self._interrupted = None
        self._is_answered = False

    async def _announce(self, account: Account) -> tuple[str, dict[str, str]]:
        """Twilio's webhook for an incoming call. Gives the stream's address and parameters from the TwiML."""
        fields = {
            "CallSid": self._call_sid,
            "AccountSid": account.sid,
            "From": f"+1207555{self.index:04}",
            "To": "+12075550142",
            "CallStatus": "ringing",
            "ApiVersion": "2010-04-01",
            "Direction": "inbound",
        }
        body = urlencode(fields)
        parts = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            f"X-Twilio-Signature: {signature(account.token, self._url, fields.items())}\r\n\r\n{body}".encode()
        )
        head, _, twiml = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        stream = ElementTree.fromstring(twiml).find("./Connect/Stream") if b" 200 " in head[:20] else None
        if stream is None:
            raise ConnectionError(f"the call was not taken: {head[:20]!r} {twiml[:200]!r}")
        return stream.attrib["url"], {p.attrib["name"]: p.attrib["value"] for p in stream.findall("Parameter")}

    def opened(self) -> None:
        """The media socket is open: Twilio's first two messages, then a frame every 20 ms."""
        self.send_text(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
        start: dict[str, Any] = {
            "accountSid": self._account.sid if self._account else f"AC{0:032x}",
            "callSid": self._call_sid,
            "streamSid": self._stream_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self._parameters,
        }
        self._started = time.monotonic()
        self.send_text(
            orjson.dumps({"event": "start", "sequenceNumber": "1", "streamSid": self._stream_sid, "start": start})
        )
        self._due = self._started + self.index * _GOLDEN % 1 * FRAME_MS / 1000
        self._timer = self._loop.call_later(self._due - time.monotonic(), self._frame)

    # -- speaking -----------------------------------------------------------------------------------------------------

    def _frame(self) -> None:
        self._frames += 1
        self._messages += 1
        period = _PERIOD[self._mode]
        place = (self._frames + int(self.index * _GOLDEN % 1 * period)) % period
        if place == 0:
            self._begin_tone(_TONE_FRAMES)
        elif self._mode == "interrupt" and place == _CUT_IN_AT and self._is_answered:
            self._begin_tone(_CUT_IN_FRAMES)
        in_tone = self._tone_at <= self._frames < self._tone_until
        payload = self._tone[self._frames - self._tone_at] if in_tone else _SILENCE
        now = time.monotonic()
        if self._frames == self._tone_at:
            self._tone_is_sent(place, now)
        self.send_text(
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d",'
            b'"payload":"%b"},"streamSid":"%b"}'
            % (self._messages, self._frames, (self._frames - 1) * FRAME_MS, payload, self._stream_sid.encode())
        )
        self._due += FRAME_MS / 1000
        self._timer = self._loop.call_later(max(0.0, self._due - time.monotonic()), self._frame)

    def _begin_tone(self, frames: int) -> None:
        if self._first_word.is_set() and self._frames > self._rests_until:
            self._tone_at, self._tone_until = self._frames, self._frames + frames

    def _tone_is_sent(self, place: int, now: float) -> None:
        if place:
            self._cut_in, self._interrupted, self._is_answered = now, None, False
            return
        if self._said is not None or self._cut_in is not None:
            self.timings.lost += 1
        self._said, self._reached, self._answered, self._cut_in = now, None, None, None
        self._is_answered = False

    # -- what the model reports ---------------------------------------------------------------------------------------

    def model_heard(self, now: float) -> None:
        """See `benchmarks.model.Caller`."""
        self._reached = now

    def model_spoke(self, now: float) -> None:
        """See `benchmarks.model.Caller`."""
        self._answered = now

    def model_was_interrupted(self, now: float) -> None:
        """See `benchmarks.model.Caller`."""
        self._interrupted = now

    # -- hearing ------------------------------------------------------------------------------------------------------

    def received(self, message: bytes) -> None:
        """A message of the bot."""
        now = time.monotonic()
        content = orjson.loads(message)
        event = content["event"]
        if event == "media":
            self._play(base64.b64decode(content["media"]["payload"]), now)
        elif event == "mark":
            name = content["mark"]["name"]
            self._marks[name] = self._loop.call_later(max(0.0, self._queue_ends - now), self._return_mark, name)
        elif event == "clear":
            self._clear(now)

    def _play(self, ulaw: bytes, now: float) -> None:
        is_loud = len(ulaw.translate(None, _LOUD_CODES)) < len(ulaw)
        self._queue_ends = max(self._queue_ends, now) + len(ulaw) / CARRIER_HZ
        if not is_loud:
            return
        if self.first_word_ms is None:
            self.first_word_ms = (now - self._started) * 1000
            self._first_word.set()
        if self._said is not None:
            self.timings.round_trip.append((now - self._said) * 1000)
            if self._reached and self._answered:
                self.timings.uplink.append((self._reached - self._said) * 1000)
                self.timings.downlink.append((now - self._answered) * 1000)
            self._said = None
            self._is_answered = True

    def _clear(self, now: float) -> None:
        if self._interrupted is not None:
            self.timings.clear.append((now - self._interrupted) * 1000)
            self._interrupted = None
        if self._cut_in is not None:
            self.timings.silence.append((min(now, max(self._cut_in, self._queue_ends)) - self._cut_in) * 1000)
            self._cut_in = None
        self._queue_ends = now
        for name, timer in list(self._marks.items()):
            timer.cancel()
            self._return_mark(name)

    def _return_mark(self, name: str) -> None:
        self._marks.pop(name, None)
        self._send("mark", name=name)

    def _send(self, event: str, **content: str) -> None:
        self._messages += 1
        common = {"event": event, "sequenceNumber": str(self._messages), "streamSid": self._stream_sid}
        self.send_text(orjson.dumps(common | {event: content}))
