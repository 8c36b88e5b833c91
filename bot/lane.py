"""The short way through Pipecat: its transport, with what a telephone call does not use taken out of the frame path.

Frames go through the same processors in the same order. What is left out serves nobody here: queues, and tasks and
time-outs made for each frame. Each measure, what it brought and what it gives up is in docs/decisions/0017; each
private name of Pipecat's transport that is used is in this module, and tests/bot/gemini/test_lane_seams.py watches it.
So is what Pipecat leaves behind when a call is over (`take_apart`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    OutputTransportReadyFrame,
    StartFrame,
)
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_output import BOT_VAD_STOP_FALLBACK_SECS, BaseOutputTransport
from pipecat.transports.websocket.fastapi import (
    FastAPIWebsocketClient,
    FastAPIWebsocketInputTransport,
    FastAPIWebsocketOutputTransport,
    FastAPIWebsocketParams,
    FastAPIWebsocketTransport,
)
from starlette.websockets import WebSocket

LEAD_SECONDS = 0.04
"""So much audio is left at the carrier when the next is sent: a loop that is later than this can be heard."""


class Line(Protocol):
    """What reads the line for Pipecat (`bot.carriers.media_socket.MediaSocket`)."""

    on_audio: Callable[[bytes], Awaitable[None]] | None
    """Gets the caller's audio that nothing waits in front of."""


class CallTransport(FastAPIWebsocketTransport):
    """Pipecat's WebSocket transport on the short way."""

    def __init__(self, line: Line, params: FastAPIWebsocketParams) -> None:
        super().__init__(cast(WebSocket, line), params)
        self._input = _Input(self, self._client, params, line)
        self._output = _Output(self, self._client, params, enable_direct_mode=True)


def take_apart(worker: PipelineWorker) -> None:
    """Let all that a pipeline was made of be freed, now that it has ended; nothing of it can be used any more.

    Pipecat's processors know their neighbours and their worker, and it knows them: circles that hold some
    860 objects for each call, which without this only a full garbage collection would find. That holds the loop
    the longer the more calls are up (docs/decisions/0016). Where a part forgets what it knew, counting references is
    enough.
    """
    processors: list[FrameProcessor] = [worker.pipeline]
    for processor in processors:
        processors += processor.processors
    transports = [processor._transport for processor in processors if isinstance(processor, _Input)]
    for part in (worker, *transports, *processors):
        vars(part).clear()


class CallerFrame(InputAudioRawFrame):
    """20 ms of the caller: mono s16le. Its way is short, and nobody on it asks for what a frame knows of itself."""

    id = 0
    name = "CallerFrame"
    pts = broadcast_sibling_id = transport_source = transport_destination = None
    metadata: dict[str, Any] = {}  # noqa: RUF012 (a frame's own elsewhere; nobody writes to it here)

    def __init__(self, audio: bytes, sample_rate: int) -> None:
        self.audio = audio
        self.sample_rate = sample_rate
        self.num_channels = 1
        self.num_frames = len(audio) // 2


class _Input(FastAPIWebsocketInputTransport):
    """The caller's audio goes straight to the next processor, in the order it came; all else is queued as ever."""

    def __init__(
        self,
        transport: FastAPIWebsocketTransport,
        client: FastAPIWebsocketClient,
        params: FastAPIWebsocketParams,
        line: Line,
    ) -> None:
        assert params.serializer is not None
        super().__init__(transport, client, params)
        self._line = line
        self._serializer = params.serializer

    async def _receive_messages(self) -> None:
        """Read from the line; meanwhile audio that nothing waits in front of comes without being asked for."""
        self._line.on_audio = self._hear
        try:
            await super()._receive_messages()  # type: ignore[no-untyped-call]
        finally:
            self._line.on_audio = None

    async def _hear(self, audio: bytes) -> None:
        frame = await self._serializer.deserialize(audio)
        assert isinstance(frame, InputAudioRawFrame)
        await self.push_audio_frame(frame)

    def _create_audio_task(self) -> None:
        """Not needed: no audio waits here."""

    async def push_audio_frame(self, frame: InputAudioRawFrame) -> None:
        """Have the next processor take the frame now. A fault of it costs this frame only."""
        following = self.next
        if following is None or self._paused:
            return
        try:
            await following.process_frame(frame, FrameDirection.DOWNSTREAM)
        except Exception as error:
            await self.push_error("The caller's audio could not be passed on", exception=error)


class _Output(FastAPIWebsocketOutputTransport):
    """Takes frames as they are pushed (direct mode): an interruption is on the wire before its push ends."""

    async def set_transport_ready(self, frame: StartFrame) -> None:
        """Start the one sender there is."""
        sender = _Sender(
            self,
            destination=None,
            sample_rate=self.sample_rate,
            audio_chunk_size=self.audio_chunk_size,
            params=self._params,
        )
        self._media_senders[None] = sender
        await sender.start(frame)
        await self.push_frame(OutputTransportReadyFrame(), FrameDirection.UPSTREAM)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Send a frame as it is, then wait until the next one is due."""
        taken = await self._write_frame(frame)
        if taken:
            await self._write_audio_sleep()
        return taken

    async def _write_audio_sleep(self) -> None:
        """Wait until all but `LEAD_SECONDS` of what was sent can have been played.

        ``_next_send_time`` is when all of it can; Pipecat sets it to 0 where what waits at the carrier is dropped.
        """
        now = asyncio.get_running_loop().time()
        self._next_send_time = max(self._next_send_time, now) + self._send_interval  # type: ignore[assignment]
        await asyncio.sleep(max(0.0, self._next_send_time - now - LEAD_SECONDS))


class _Sender(BaseOutputTransport.MediaSender):
    """The queue between the pipeline and the line. Audio ends here: behind it only the words in between are heard of.

    No time-out around a write: `bot.carriers.media_socket.MediaSocket` gives up a socket that takes nothing by itself.
    """

    async def _audio_task_handler(self) -> None:
        while not isinstance(frame := await self._next_queued(), EndFrame):
            if isinstance(frame, OutputAudioRawFrame):
                self._tts_audio_received = True
                await self._bot_started_speaking()  # type: ignore[no-untyped-call]
                await self._transport.write_audio_frame(frame)
            else:
                await self._handle_frame(frame)
                await self._transport.push_frame(frame)
            self._audio_queue.task_done()

    async def _next_queued(self) -> Frame:
        frame: Frame
        while self._audio_queue.empty():
            try:
                async with asyncio.timeout(BOT_VAD_STOP_FALLBACK_SECS):
                    frame = await self._audio_queue.get()
                    return frame
            except TimeoutError:
                # A turn that never got its end is over when nothing comes any more.
                await self._bot_stopped_speaking()  # type: ignore[no-untyped-call]
        frame = self._audio_queue.get_nowait()
        return frame
