"""The call's one socket, as the pipeline sees it: there before the carrier's socket, and there when that one breaks.

The pipeline is built when the webhook arrives, so that the model connects early; the media stream opens later, and may
break and be opened again while the model's session goes on. `MediaSocket` stands between: Pipecat's
``FastAPIWebsocketTransport`` takes it for a WebSocket that is merely silent while no stream is attached.

A message is parsed once, here. Between `MediaSocket` and `MediaSerializer` no JSON travels: the caller's audio goes up
as mu-law bytes and keys as text, and the serializer calls `play`, `end_turn` and `clear` for what goes down. While the
pipeline reads (`on_audio`), it is handed the audio at once; what comes before, and keys, wait for `receive`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal, Protocol

from pipecat.frames.frames import (
    Frame,
    InputTextRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
)
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.serializers.base_serializer import FrameSerializer
from starlette.datastructures import Headers
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from bot.audio import MODEL_IN_HZ, MODEL_OUT_HZ, Downsampler, SpeechMeter, Upsampler
from bot.barge_in import BargeIn, Verdict
from bot.carriers import OpenStream
from bot.carriers.media_stream import MAX_MESSAGE, Audio, Key, Mark, MediaStream, Problem, StreamEvent
from bot.carriers.playout import Playout
from bot.errors import StreamRejected
from bot.events import (
    CallEvent,
    KeyPressed,
    MarkReturned,
    PlayoutPaused,
    PlayoutResumed,
    StreamStopped,
    Trouble,
)
from bot.lane import CallerFrame
from bot.metrics import Metrics
from bot.ports import Clock

QUIET_SECONDS = 10.0
"""The carrier sends a frame every 20 ms, silence included: a stream without any for this long is lost."""
STUCK_SECONDS = 2.0
"""Longest wait for one message to leave. The system buffers about ten seconds of audio before that wait begins."""
CLOSE_SECONDS = 1.0
PAUSE_SECONDS = 1.5
"""Longest pause of the bot. `bot.barge_in` ends it sooner, but counts by the caller's frames, and these may stop."""
_BURST_SECONDS = 0.005
"""Messages that come sooner after each other have piled up: the carrier sends one every 20 ms."""
BACKLOG_FRAMES = 500
"""Messages of the caller that may wait for the pipeline: 10 s. Then the oldest are dropped."""

StreamEnd = Literal["stop", "lost", "closed"]
Tap = Callable[[Literal["carrier.in", "carrier.out"], bytes], None]


class BotTurns(Protocol):
    """Whose turn it is; `bot.turns.Turns` fulfils it."""

    @property
    def number(self) -> int:
        """The turn that is being spoken, or was last."""

    @property
    def may_be_cut(self) -> bool:
        """Whether the caller may cut off what is being said."""

    def caller_voiced(self, now_ns: int) -> None:
        """A frame of the caller had voice in it."""

    def audio_sent(self, milliseconds: float, now_ns: int) -> int:
        """Audio of the bot goes to the carrier; gives the turn that it belongs to."""

    def ended(self) -> None:
        """All audio of the turn went to the carrier."""

    def played(self, number: int, heard_ms: float, is_end: bool) -> None:
        """So much of a turn was played to the caller."""

    def interrupted(self, by: Literal["model", "caller"]) -> None:
        """What waited at the carrier was dropped, because `by` said that the caller cut in."""

    def line_lost(self) -> None:
        """The stream is gone, and what waited at the carrier with it."""


def end_of_turn() -> OutputTransportMessageFrame:
    """The frame that ends a bot turn: push it after ``TTSStoppedFrame``, it keeps its place behind the audio."""
    return OutputTransportMessageFrame(message={"end_of_turn": True})


class MediaSocket:
    """One call's way to the caller, over one media stream after another.

    `tap` gets every message both ways as it was on the wire. `on_event` gets `KeyPressed`, `MarkReturned`,
    `PlayoutPaused`, `PlayoutResumed`, `StreamStopped` and `Trouble` (where ``carrier``): messages that break a rule are
    counted each, and told once for each kind and stream. Neither may block or raise.

    While the caller may be interrupting, `play` waits (docs/decisions/0018). `on_cut_in` is called when the caller has
    spoken on for so long that it is sure: it has everything dropped that the bot was saying, by `clear`. `on_audio`,
    once it is set, gets the caller's audio (mu-law) that nothing waits in front of; else that waits for `receive`.
    """

    def __init__(
        self, clock: Clock, turns: BotTurns, metrics: Metrics, tap: Tap, on_event: Callable[[CallEvent], None]
    ) -> None:
        self._clock = clock
        self._turns = turns
        self._metrics = metrics
        self._tap = tap
        self._on_event = on_event
        self._inbox: asyncio.Queue[Audio | Key | None] = asyncio.Queue(BACKLOG_FRAMES)
        self._playout = Playout()
        self._meter = SpeechMeter()
        self._barge_in = BargeIn()
        self._verdict: Verdict | None = None
        self._may_play = asyncio.Event()
        self._may_play.set()
        self._paused_ns = 0
        self._pause_limit: asyncio.TimerHandle | None = None
        self._cuts = 0
        self._cut_by: Literal["model", "caller"] = "model"
        self.on_cut_in: Callable[[], Awaitable[None]] = _nothing_to_cut
        self.on_audio: Callable[[bytes], Awaitable[None]] | None = None
        self._opened: OpenStream | None = None
        self._deadline: asyncio.Timeout | None = None
        self._end: StreamEnd | None = None
        self._closed = False
        self._unheard = False
        self._behind = False
        self._told: set[str] = set()

    # -- the call's side ------------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """Whether a media stream is open."""
        return self._opened is not None

    @property
    def playout(self) -> Playout:
        """What the caller has heard, to be read only."""
        return self._playout

    @property
    def paused(self) -> bool:
        """Whether the bot waits to learn whether the caller interrupts it."""
        return not self._may_play.is_set()

    def waiting_ms(self) -> float:
        """An estimate of the audio that waits at the carrier."""
        return self._playout.waiting_ms(self._now_ms())

    def attach(self, opened: OpenStream) -> None:
        """From here on the caller hears what is sent. `serve` must follow.

        Raises `bot.errors.StreamRejected` while another stream is open, and once the socket is closed.
        """
        if self._closed:
            raise StreamRejected("call_over", "The call is over; no media stream can be opened for it.")
        if self._opened is not None:
            raise StreamRejected("second_stream", "The call has an open media stream; a second one is refused.")
        self._opened = opened
        self._end = None
        self._unheard = False
        self._told.clear()
        for message in opened.messages:
            self._tap("carrier.in", _bytes(message))
        for event in opened.events:
            self._take(event)
            if isinstance(event, Audio):
                self._put(event)

    async def serve(self) -> StreamEnd:
        """Read the attached stream until it is over, close its socket, and tell how it ended.

        ``stop``: the carrier said so. ``lost``: the socket broke, fell silent or would not take what was sent.
        ``closed``: `close` was called.
        """
        assert self._opened is not None, "attach comes first"
        opened = self._opened
        end: StreamEnd = "lost"
        try:
            end = await self._read(opened.websocket, opened.stream)
        finally:
            self._detach(end)
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await opened.websocket.close()
        return end

    async def play(self, mulaw: bytes) -> None:
        """Send audio, and a mark where one is due. Without a stream nobody can hear it and it is dropped.

        Waits while the bot is paused, and drops what was cut off meanwhile.
        """
        if not mulaw:
            return
        if self.paused:
            cuts = self._cuts
            await self._may_play.wait()
            if cuts != self._cuts:
                return
        await self._play(mulaw)

    async def _play(self, mulaw: bytes) -> None:
        opened = self._opened
        if opened is None:
            if not self._unheard and not self._closed:
                self._unheard = True
                self._trouble("bot_audio_dropped", "the bot spoke while no media stream was open")
            return
        turn = self._turns.audio_sent(len(mulaw) / 8, self._clock.now_ns())
        mark = self._playout.play(len(mulaw), turn, self._now_ms())
        self._barge_in.sent(mulaw)
        await self._send(opened, opened.stream.audio(mulaw))
        if mark:
            await self._send(opened, opened.stream.mark(mark))

    async def end_turn(self, tail: bytes = b"") -> None:
        """The turn is complete but for its last few ms: send these and its last mark. Nothing is left to pause."""
        if tail and self._playout.turn is not None:
            await self._play(tail)
        mark = self._playout.end_turn()
        self._turns.ended()
        if mark and self._opened:
            await self._send(self._opened, self._opened.stream.mark(mark))
        if self.paused:
            self._barge_in.dropped()
            self._go_on("finished")

    async def clear(self) -> None:
        """The caller cut in: drop what waits at the carrier. A mark before it tells when the carrier did."""
        mark = self._playout.stopped()
        self._playout.clear(self._now_ms())
        self._turns.interrupted(self._cut_by)
        self._drop()
        if self._opened and mark:
            await self._send(self._opened, self._opened.stream.mark(mark))
        if self._opened:
            await self._send(self._opened, self._opened.stream.clear())

    # -- Pipecat's side: what FastAPIWebsocketTransport uses of a Starlette WebSocket ------------------------------

    headers = Headers()

    @property
    def client_state(self) -> WebSocketState:
        """Connected until `close`, with or without a stream: Pipecat waits instead of giving up."""
        return WebSocketState.DISCONNECTED if self._closed else WebSocketState.CONNECTED

    @property
    def application_state(self) -> WebSocketState:
        """The same as `client_state`."""
        return self.client_state

    async def receive(self) -> dict[str, Any]:
        """The next of the caller: ``bytes`` is mu-law audio, ``text`` a key. Disconnects after `close` only."""
        item = await self._inbox.get()
        if self._inbox.empty():
            self._behind = False
        else:
            # What has piled up is passed on a frame in each turn of the loop: meanwhile the other calls go on.
            await asyncio.sleep(0)
        match item:
            case Audio():
                return {"type": "websocket.receive", "bytes": item.payload}
            case Key():
                return {"type": "websocket.receive", "text": item.digit}
        return {"type": "websocket.disconnect", "code": 1000}

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """No stream any more: ends the one that is open and the pipeline's reading. Does not hang up the call."""
        if self._closed:
            return
        self._closed = True
        self._drop()
        self._put(None)
        self._finish("closed")

    # -- within ---------------------------------------------------------------------------------------------------

    async def _read(self, websocket: WebSocket, stream: MediaStream) -> StreamEnd:
        loop = asyncio.get_running_loop()
        moved = loop.time()
        try:
            async with asyncio.timeout(QUIET_SECONDS) as self._deadline:
                if self._end:
                    return self._end
                now = moved
                while True:
                    message = await websocket.receive()
                    before, now = now, loop.time()
                    if now > moved + QUIET_SECONDS / 10:  # moving it takes as long as reading a frame
                        self._deadline.reschedule(now + QUIET_SECONDS)
                        moved = now
                    if message["type"] == "websocket.disconnect":
                        return self._end or "lost"
                    text = message.get("text")
                    content: str | bytes = message["bytes"] if text is None else text
                    self._tap("carrier.in", _bytes(content)[:MAX_MESSAGE])
                    for event in stream.receive(content):
                        self._take(event)
                        if isinstance(event, Audio):
                            await self._pass_on(event)
                    if self._verdict is not None:
                        await self._heed(self._verdict)
                    if stream.stopped:
                        return "stop"
                    if now - before < _BURST_SECONDS:
                        # After a stall each call passes on a message in each turn of the loop: the others go on.
                        await asyncio.sleep(0)
        except TimeoutError:
            if self._end is None:
                self._trouble("carrier_quiet", f"no message for {QUIET_SECONDS:g} s")
            return self._end or "lost"
        finally:
            self._deadline = None

    def _take(self, event: StreamEvent) -> None:
        match event:
            case Audio():
                if self._meter.feed(event.payload):
                    self._turns.caller_voiced(self._clock.now_ns())
                meter, may_cut = self._meter, self._turns.may_be_cut
                verdict = self._barge_in.hear(event.payload, meter.energy, meter.floor, may_cut=may_cut)
                self._verdict = verdict or self._verdict
            case Key():
                self._on_event(KeyPressed(event.digit))
                self._put(event)
            case Mark():
                self._mark_returned(event.name)
            case Problem():
                self._problem(event)

    async def _pass_on(self, audio: Audio) -> None:
        if self.on_audio is not None and self._inbox.empty():
            await self.on_audio(audio.payload)
        else:
            self._put(audio)

    async def _heed(self, verdict: Verdict) -> None:
        self._verdict = None
        if verdict == "pause":
            await self._pause()
        elif verdict == "cut":
            self._cut_by = "caller"
            await self.on_cut_in()
            self._cut_by = "model"
            # Where something that may not be cut has come before it, nothing was dropped.
            self._go_on("protected")
        else:
            self._go_on(verdict)

    async def _pause(self) -> None:
        if self._playout.turn is None:
            # All was sent: an answer that overlaps the last word is no interruption.
            self._barge_in.dropped()
            return
        self._may_play.clear()
        self._paused_ns = self._clock.now_ns()
        self._pause_limit = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._paused_too_long)
        self._on_event(PlayoutPaused(self._turns.number, round(self.waiting_ms(), 1)))
        mark = self._playout.stopped()
        if mark and self._opened:
            await self._send(self._opened, self._opened.stream.mark(mark))

    def _paused_too_long(self) -> None:
        self._barge_in.dropped()
        self._go_on("limit")

    def _go_on(self, why: Literal["quiet", "limit", "protected", "finished"]) -> None:
        if not self.paused:
            return
        paused_ms = (self._clock.now_ns() - self._paused_ns) / 1e6
        self._on_event(PlayoutResumed(self._turns.number, round(paused_ms, 1), why))
        self._end_pause()

    def _end_pause(self) -> None:
        if self._pause_limit:
            self._pause_limit.cancel()
            self._pause_limit = None
        self._may_play.set()

    def _drop(self) -> None:
        """What the bot was saying is not said: also what waits for the end of a pause."""
        self._cuts += 1
        self._verdict = None
        self._barge_in.dropped()
        self._end_pause()

    def _problem(self, problem: Problem) -> None:
        self._metrics.carrier_messages_bad.labels(problem.kind).inc()
        if problem.kind not in self._told:
            self._told.add(problem.kind)
            self._trouble(f"carrier_{problem.kind}", problem.detail)

    def _mark_returned(self, name: str) -> None:
        returned = self._playout.returned(name, self._now_ms())
        if returned is None:
            self._problem(Problem("unknown_mark", "a mark came back that was not pending"))
            return
        self._on_event(MarkReturned(name, returned.how))
        if returned.how == "played":
            self._turns.played(returned.turn, returned.heard_ms, returned.is_end)

    def _put(self, item: Audio | Key | None) -> None:
        if self._inbox.full():
            self._inbox.get_nowait()
            if not self._behind:
                self._behind = True
                self._trouble("caller_audio_dropped", f"the pipeline is {BACKLOG_FRAMES} messages behind")
        self._inbox.put_nowait(item)

    async def _send(self, opened: OpenStream, text: str) -> None:
        if self._end is not None or opened is not self._opened:
            return
        self._tap("carrier.out", text.encode())
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await opened.websocket.send_text(text)
        except TimeoutError:
            if self._end is None:
                self._trouble("carrier_stuck", f"the socket takes nothing for {STUCK_SECONDS:g} s")
            self._finish("lost")
        except (WebSocketDisconnect, RuntimeError, OSError):
            self._finish("lost")

    def _finish(self, end: StreamEnd) -> None:
        """End the reading of the open stream now, from any task."""
        if self._opened is None or self._end is not None:
            return
        self._end = end
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    def _detach(self, end: StreamEnd) -> None:
        self._opened = None
        self._playout.lost(self._now_ms())
        self._turns.line_lost()
        self._drop()
        self._on_event(StreamStopped(end))

    def _trouble(self, failure: str, detail: str) -> None:
        self._on_event(Trouble(failure, "carrier", "nothing", detail))

    def _now_ms(self) -> float:
        return self._clock.now_ns() / 1e6


class MediaSerializer(FrameSerializer):
    """Between Pipecat's frames and a `MediaSocket`: 16 kHz PCM up, 24 kHz PCM down, mu-law on the line.

    The pipeline must run with ``audio_in_sample_rate=16000`` and ``audio_out_sample_rate=24000``: then Pipecat
    resamples nothing. What goes down is sent from `serialize` itself, which therefore gives no payload.
    """

    def __init__(self, socket: MediaSocket) -> None:
        super().__init__()
        self._socket = socket
        self._up = Upsampler()
        self._down = Downsampler()

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Raises ``ValueError`` where the pipeline runs at other rates."""
        rates = (setup.audio_in_sample_rate, setup.audio_out_sample_rate)
        if rates != (MODEL_IN_HZ, MODEL_OUT_HZ):
            raise ValueError(f"the pipeline runs at {rates} Hz; it must run at {(MODEL_IN_HZ, MODEL_OUT_HZ)}")

    async def serialize(self, frame: Frame) -> None:
        """Send what the frame means for the line."""
        if isinstance(frame, OutputAudioRawFrame):
            await self._socket.play(self._down.feed(frame.audio))
        elif isinstance(frame, InterruptionFrame):
            self._down.reset()
            await self._socket.clear()
        elif isinstance(frame, OutputTransportMessageFrame) and "end_of_turn" in frame.message:
            await self._socket.end_turn(self._down.flush())

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """The caller's audio for the model, and keys as words, because Gemini hears no tones."""
        if isinstance(data, str):
            return InputTextRawFrame(f"[The caller pressed {data}]")
        return CallerFrame(self._up.feed(data), MODEL_IN_HZ)


async def _nothing_to_cut() -> None:
    """Until a pipeline is there."""


def _bytes(message: str | bytes) -> bytes:
    return message.encode(errors="replace") if isinstance(message, str) else message
