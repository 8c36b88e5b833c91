"""The caller's line: a 20 ms clock on which the caller hears and speaks, whatever TwiML verb is running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Literal, TypeVar

from sandbox import sound
from sandbox.conversation import Caller
from sandbox.twilio.stream import StreamSocket

T = TypeVar("T")


class Pace:
    """The clock of a line, in seconds. `speed` above 1 lets a call without real media run faster than real time."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed

    def now(self) -> float:
        """Seconds on this clock; only differences mean anything."""
        return asyncio.get_running_loop().time() * self.speed

    async def sleep(self, seconds: float) -> None:
        """Wait on this clock."""
        await asyncio.sleep(seconds / self.speed)

    async def within(self, seconds: float, what: Awaitable[T]) -> T | None:
        """The result of `what`, or None if it takes longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds / self.speed):
                return await what
        except TimeoutError:
            return None


@dataclass(frozen=True)
class Input:
    """What the caller did that a `<Gather>` listens for: a key, or an utterance that just ended."""

    kind: Literal["key", "speech"]
    value: str


class Line:
    """Both tracks of a call from its answer on, mu-law; the two are always equally long.

    `said` is the caller's, `heard` the other one. `run` keeps a monotonic schedule: frame n is due 20 ms * n after the
    answer, and after a stall the missing ones follow in a burst. `late_ms` is the worst stall.
    """

    def __init__(self, caller: Caller, pace: Pace) -> None:
        self.caller = caller
        self.pace = pace
        self.said = bytearray()
        self.heard = bytearray()
        self.stream: StreamSocket | None = None
        self.taps: list[StreamSocket] = []
        self.inputs: asyncio.Queue[Input] = asyncio.Queue()
        self.hung_up = asyncio.Event()
        self.late_ms = 0.0
        self._prompt = b""
        self._prompt_done: asyncio.Event | None = None

    @property
    def now_ms(self) -> int:
        """Time since the answer."""
        return len(self.heard) * 1000 // sound.RATE

    async def run(self) -> None:
        """Keep the line alive until cancelled."""
        answered = self.pace.now()
        frame_seconds = sound.FRAME_MS / 1000
        frames = 0
        while True:
            frames += 1
            wait = answered + frames * frame_seconds - self.pace.now()
            self.late_ms = max(self.late_ms, -wait * 1000)
            # Even when late, let the sockets be read: what has arrived must be played in this burst.
            await self.pace.sleep(max(wait, 0))
            self._tick()

    def _tick(self) -> None:
        heard = self.stream.play() if self.stream else self._pull()
        did = self.caller.tick(heard)
        self.heard += heard
        self.said += did.audio
        if self.stream:
            self.stream.frame(did.audio)
        for tap in self.taps:
            tap.frame(did.audio, heard)
            tap.play()
        for key in did.keys:
            self.inputs.put_nowait(Input("key", key))
            if self.stream:
                self.stream.key(key)
        if did.uttered:
            self.inputs.put_nowait(Input("speech", did.uttered))
        if did.hang_up:
            self.hung_up.set()

    def _pull(self) -> bytes:
        frame, self._prompt = self._prompt[: sound.FRAME], self._prompt[sound.FRAME :]
        if not self._prompt and self._prompt_done:
            self._prompt_done.set()
        return frame.ljust(sound.FRAME, sound.SILENCE)

    async def play(self, audio: bytes) -> None:
        """Let the caller hear `audio`; returns when it has been played, stops it when cancelled."""
        if not audio:
            return
        self._prompt, self._prompt_done = audio, asyncio.Event()
        try:
            await self._prompt_done.wait()
        finally:
            self._prompt, self._prompt_done = b"", None

    def forget_inputs(self) -> None:
        """Drop what the caller pressed or said before somebody listened."""
        while not self.inputs.empty():
            self.inputs.get_nowait()

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """The line while it is answered."""
        running = asyncio.create_task(self.run())
        try:
            yield
        finally:
            running.cancel()
            result = (await asyncio.gather(running, return_exceptions=True))[0]
            if isinstance(result, Exception):
                raise result
