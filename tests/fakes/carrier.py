"""The carrier's end of a media stream, a clock moved by hand, and a `MediaSocket` with all around it recorded."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bot.carriers import OpenStream
from bot.carriers.media_socket import MediaSocket
from bot.carriers.media_stream import MediaStream
from bot.events import CallEvent
from bot.metrics import Metrics
from bot.turns import Turns

SILENCE = b"\xff" * 160
START = json.dumps(
    {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": "MZ1",
        "start": {
            "accountSid": "AC1",
            "streamSid": "MZ1",
            "callSid": "CA1",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"token": "t"},
        },
    }
)


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def wall_ns(self) -> int:
        return self.ns

    async def sleep(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


class Carrier:
    """The other end, in the place of a Starlette WebSocket; speaks Twilio's messages."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.closed = False
        self.stuck = False
        self.broken = False
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sequence = 1
        self._chunk = 0

    async def receive(self) -> dict[str, Any]:
        return await self._inbox.get()

    @property
    def is_read(self) -> bool:
        return self._inbox.empty()

    async def send_text(self, text: str) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        if self.broken:
            raise RuntimeError("the socket is gone")
        self.sent.append(json.loads(text))

    async def close(self, code: int = 1000) -> None:
        self.closed = True

    def says(self, event: str, **fields: Any) -> None:
        self._sequence += 1
        message = {"event": event, "sequenceNumber": str(self._sequence), "streamSid": "MZ1", **fields}
        self.raw(json.dumps(message))

    def speaks(self, payload: bytes = SILENCE) -> None:
        self._chunk += 1
        encoded = base64.b64encode(payload).decode()
        self.says(
            "media",
            media={"track": "inbound", "chunk": str(self._chunk), "timestamp": "0", "payload": encoded},
        )

    def raw(self, text: str) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    def hangs_up(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1006})

    def opened(self, *messages: str) -> OpenStream:
        stream = MediaStream()
        read = (*messages, START)
        events = [event for message in read for event in stream.receive(message)]
        assert stream.started is not None
        return OpenStream(self, stream, stream.started, read, tuple(events))  # type: ignore[arg-type]

    def events(self) -> list[str]:
        return [message["event"] for message in self.sent]

    def marks(self) -> list[str]:
        return [message["mark"]["name"] for message in self.sent if message["event"] == "mark"]

    def audio(self) -> bytes:
        return b"".join(
            base64.b64decode(message["media"]["payload"]) for message in self.sent if message["event"] == "media"
        )


class Line:
    """A `MediaSocket` with everything around it recorded."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.events: list[CallEvent] = []
        self.tape: list[tuple[str, bytes]] = []
        self.metrics = Metrics()
        self.turns = Turns(self.events.append)
        self.socket = MediaSocket(
            self.clock,
            self.turns,
            self.metrics,
            lambda channel, data: self.tape.append((channel, data)),
            self.events.append,
        )

    def of(self, kind: type[CallEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def bad(self, kind: str) -> float:
        value = self.metrics.registry.get_sample_value("switchboard_carrier_messages_bad_total", {"kind": kind})
        return value or 0.0

    @asynccontextmanager
    async def open(self, carrier: Carrier) -> AsyncIterator[asyncio.Task[str]]:
        self.socket.attach(carrier.opened())
        serving: asyncio.Task[str] = asyncio.create_task(self.socket.serve())
        await settle()
        try:
            yield serving
        finally:
            carrier.hangs_up()
            await serving


async def settle() -> None:
    """Let what waits be read: one message in each turn of the loop."""
    for _ in range(100):
        await asyncio.sleep(0)
