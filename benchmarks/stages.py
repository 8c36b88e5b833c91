"""Where the microseconds of a frame go: stopwatches put into the running server's code.

A stopwatch counts what runs inside a function, without what it waits for and without what other stopwatches inside it
count. Each costs about a microsecond itself, which is counted by the stage around it; so the sum is too high by a
tenth, and the shares are what matters. What no stopwatch sees (the event loop, switching tasks, the kernel's share of
reading and writing, the tapes' thread) is the remainder to the CPU time of the process.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Generator
from typing import Any, Literal, NamedTuple

Way = Literal["up", "down", "both"]


class Seam(NamedTuple):
    """A function with a stopwatch: ``module:Class.function``. With `by_frame` the stage ends in the frame's way."""

    stage: str
    way: Way
    target: str
    by_frame: bool = False


_STARLETTE = "starlette.websockets:WebSocket"
_UVICORN = "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol"
_CLIENT = "websockets.asyncio.connection:Connection"
_PROCESSOR = "pipecat.processors.frame_processor:FrameProcessor"
_LANE = "bot.lane"
_MEDIA = "bot.carriers.media_socket"

SEAMS = (
    Seam("carrier's WebSocket in", "up", f"{_UVICORN}.data_received"),
    Seam("carrier's WebSocket in", "up", f"{_STARLETTE}.receive"),
    Seam("decode JSON", "up", "bot.carriers.media_stream:_parse"),
    Seam("deserialize", "up", "bot.carriers.media_stream:MediaStream.receive"),
    Seam("deserialize", "up", f"{_MEDIA}:MediaSocket._take"),
    Seam("voice meter", "up", "bot.audio:SpeechMeter.feed"),
    Seam("upsample", "up", "bot.audio:Upsampler.feed"),
    Seam("pipeline hops up", "up", f"{_MEDIA}:MediaSocket._pass_on"),
    Seam("pipeline hops up", "up", f"{_MEDIA}:MediaSerializer.deserialize"),
    Seam("pipeline hops up", "up", f"{_LANE}:_Input._hear"),
    Seam("pipeline hops up", "up", f"{_LANE}:_Input.push_audio_frame"),
    Seam("pipeline hops", "both", f"{_PROCESSOR}.queue_frame", by_frame=True),
    Seam("pipeline hops", "both", f"{_PROCESSOR}.push_frame", by_frame=True),
    Seam("pipeline hops", "both", f"{_PROCESSOR}._FrameProcessor__process_frame", by_frame=True),
    Seam("pipeline hops", "both", f"{_PROCESSOR}._FrameProcessor__internal_push_frame", by_frame=True),
    Seam("pipeline tasks", "both", f"{_PROCESSOR}._FrameProcessor__input_frame_task_handler"),
    Seam("pipeline tasks", "both", f"{_PROCESSOR}._FrameProcessor__process_frame_task_handler"),
    Seam("Gemini send", "up", "bot.gemini_uplink:Uplink.audio"),
    Seam("Gemini send", "up", "bot.gemini_client:TappedSocket.send_audio"),
    Seam("Gemini send", "up", f"{_CLIENT}.send"),
    Seam("Gemini's WebSocket in", "down", f"{_CLIENT}.data_received"),
    Seam("parse", "down", "google.genai.live:AsyncSession._receive"),
    Seam("parse", "down", "bot.gemini_client:TappedSocket.recv_speech"),
    Seam("parse", "down", f"{_CLIENT}.recv"),
    Seam("model session", "down", "bot.gemini:GeminiSession._handle_server_message"),
    Seam("output pacing", "down", "pipecat.transports.base_output:BaseOutputTransport.MediaSender.handle_audio_frame"),
    Seam("output pacing", "down", f"{_LANE}:_Sender._audio_task_handler"),
    Seam("output pacing", "down", f"{_LANE}:_Output.write_audio_frame"),
    Seam("serialize", "down", f"{_MEDIA}:MediaSerializer.serialize"),
    Seam("serialize", "down", f"{_MEDIA}:MediaSocket.play"),
    Seam("serialize", "down", "bot.carriers.media_stream:MediaStream.audio"),
    Seam("downsample", "down", "bot.audio:Downsampler.feed"),
    Seam("send", "down", f"{_MEDIA}:MediaSocket._send"),
    Seam("send", "down", f"{_STARLETTE}.send_text"),
    Seam("tape", "both", "bot.tape:TapeWriter.put"),
)
UP_FRAMES = "bot.carriers.media_stream:MediaStream.receive"
DOWN_FRAMES = f"{_MEDIA}:MediaSocket.play"


class Stopwatches:
    """All stopwatches, installed by making this. Raises ``LookupError`` for a seam that the code has no more."""

    def __init__(self) -> None:
        from pipecat.frames.frames import InputAudioRawFrame

        self._of_caller = InputAudioRawFrame
        self._totals: dict[str, int] = {}
        self._ways: dict[str, Way] = {}
        self._calls: dict[str, int] = {UP_FRAMES: 0, DOWN_FRAMES: 0}
        self._stack: list[int] = []
        self._cpu = time.process_time()
        for seam in SEAMS:
            self._install(seam)

    def take(self) -> dict[str, Any]:
        """Microseconds since the last time: of each stage in all, of the process, and the frames of both ways."""
        totals, self._totals = self._totals, {}
        calls, self._calls = self._calls, dict.fromkeys(self._calls, 0)
        before, self._cpu = self._cpu, time.process_time()
        return {
            "stages": [{"stage": stage, "way": self._ways[stage], "us": ns / 1000} for stage, ns in totals.items()],
            "cpu_us": (self._cpu - before) * 1e6,
            "up_frames": calls[UP_FRAMES],
            "down_frames": calls[DOWN_FRAMES],
        }

    # -- within -------------------------------------------------------------------------------------------------------

    def _install(self, seam: Seam) -> None:
        module, _, path = seam.target.partition(":")
        owner: Any = importlib.import_module(module)
        *classes, name = path.split(".")
        for step in classes:
            owner = getattr(owner, step)
        function = getattr(owner, name, None)
        if function is None:
            raise LookupError(f"benchmarks/stages.py names {seam.target}, and there is no such thing any more.")
        self._ways[seam.stage] = seam.way
        wrapped = self._timed_async if inspect.iscoroutinefunction(function) else self._timed
        setattr(owner, name, wrapped(seam, function))

    def _stage(self, seam: Seam, args: tuple[Any, ...]) -> str:
        if not seam.by_frame:
            return seam.stage
        way: Way = "up" if isinstance(args[1], self._of_caller) else "down"
        stage = f"{seam.stage} {way}"
        self._ways[stage] = way
        return stage

    def _timed(self, seam: Seam, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            self._count(seam)
            began = self._enter()
            try:
                return function(*args, **options)
            finally:
                self._leave(seam.stage, began)

        return timed

    def _timed_async(self, seam: Seam, function: Callable[..., Any]) -> Callable[..., Any]:
        async def timed(*args: Any, **options: Any) -> Any:
            self._count(seam)
            return await _Steps(self, self._stage(seam, args), function(*args, **options))

        return timed

    def _count(self, seam: Seam) -> None:
        if seam.target in self._calls:
            self._calls[seam.target] += 1

    def _enter(self) -> int:
        self._stack.append(0)
        return time.thread_time_ns()

    def _leave(self, stage: str, began: int) -> None:
        took = time.thread_time_ns() - began
        within = self._stack.pop()
        self._totals[stage] = self._totals.get(stage, 0) + took - within
        if self._stack:
            self._stack[-1] += took


class _Steps:
    """Awaits a coroutine and times each of its steps."""

    def __init__(self, watches: Stopwatches, stage: str, coroutine: Any) -> None:
        self._watches, self._stage, self._coroutine = watches, stage, coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        step, argument = self._coroutine.send, None
        while True:
            began = self._watches._enter()
            try:
                waits_for = step(argument)
            except StopIteration as result:
                return result.value
            finally:
                self._watches._leave(self._stage, began)
            try:
                step, argument = self._coroutine.send, (yield waits_for)
            except BaseException as error:
                step, argument = self._coroutine.throw, error
