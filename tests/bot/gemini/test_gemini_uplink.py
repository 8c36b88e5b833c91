"""The caller's audio on its way up: never waiting for a socket, never out of order, never lost without a word."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from bot.gemini_client import TappedSocket
from bot.gemini_memory import CallerAudio
from bot.gemini_uplink import Uplink

FRAME = 640


def frame(number: int) -> bytes:
    return number.to_bytes(2, "little") * (FRAME // 2)


class Socket:
    """Takes what it is given while `takes_audio`; breaks where `broken`."""

    def __init__(self) -> None:
        self.takes_audio = True
        self.broken = False
        self.got = b""

    async def send_audio(self, pcm: bytes) -> None:
        if self.broken:
            raise ConnectionError("gone")
        self.got += pcm


class Line:
    def __init__(self) -> None:
        self.dropped = 0
        self.uplink = Uplink(self._on_dropped)
        self.socket = Socket()

    def _on_dropped(self) -> None:
        self.dropped += 1

    async def open(self) -> None:
        await self.uplink.open(SimpleNamespace(socket=self.socket), "")  # type: ignore[arg-type]
        await self.uplink.let_audio_flow()


async def test_audio_goes_out_at_once_while_the_socket_takes_it() -> None:
    line = Line()
    await line.open()
    await line.uplink.audio(frame(1))
    assert line.socket.got == frame(1)


async def test_a_blocked_socket_is_not_waited_for_and_gets_all_audio_in_order_afterwards() -> None:
    line = Line()
    await line.open()
    line.socket.takes_audio = False
    for number in range(100):
        await line.uplink.audio(frame(number))
    assert line.socket.got == b""
    line.socket.takes_audio = True
    await line.uplink.audio(frame(100))
    assert line.socket.got == b"".join(frame(number) for number in range(101))
    assert not line.dropped


async def test_what_a_blocked_socket_does_not_take_is_bounded_and_its_loss_told_once_for_each_gap() -> None:
    line = Line()
    await line.open()
    kept = int(CallerAudio.KEPT_S * 50)
    for gap in (1, 2):
        line.socket.takes_audio, line.socket.got = False, b""
        for number in range(kept + 20):
            await line.uplink.audio(frame(number))
        assert line.dropped == gap
        line.socket.takes_audio = True
        await line.uplink.audio(frame(9999))
        assert line.socket.got[:FRAME] == frame(21), "the oldest was dropped"
        assert len(line.socket.got) == kept * FRAME


async def test_what_a_broken_socket_did_not_take_goes_to_the_next_one() -> None:
    line = Line()
    await line.open()
    await line.uplink.audio(frame(1))
    line.socket.broken = True
    await line.uplink.audio(frame(2))
    await line.uplink.audio(frame(3))
    line.uplink.lost()
    line.socket = Socket()
    await line.open()
    assert line.socket.got == frame(1) + frame(2) + frame(3)


# -- on a real socket -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def real_socket(handler: Any) -> AsyncIterator[ClientConnection]:
    async with serve(handler, "127.0.0.1", 0, max_size=None, max_queue=2) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as websocket:
            yield websocket


async def test_the_message_is_what_the_service_reads() -> None:
    got: asyncio.Queue[str | bytes] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            got.put_nowait(message)

    taped: list[tuple[str, bytes]] = []
    async with real_socket(handler) as websocket:
        tapped = TappedSocket(websocket, lambda channel, data: taped.append((channel, data)))  # type: ignore[arg-type]
        assert tapped.takes_audio
        await tapped.send_audio(frame(7))
        message = await asyncio.wait_for(got.get(), 5)
    assert isinstance(message, str), "a text frame"
    audio = json.loads(message)["realtimeInput"]["audio"]
    assert audio["mimeType"] == "audio/pcm;rate=16000"
    assert base64.b64decode(audio["data"]) == frame(7)
    assert taped == [("model.in", b'{"realtimeInput":{"audio":{"ref":"carrier.in","ms":20}}}')]
    assert not tapped.takes_audio, "closed"


async def test_a_socket_whose_peer_does_not_read_says_so_and_recovers() -> None:
    reads = asyncio.Event()
    got: list[bytes] = []

    async def handler(connection: ServerConnection) -> None:
        await reads.wait()
        async for message in connection:
            got.append(base64.b64decode(json.loads(message)["realtimeInput"]["audio"]["data"]))

    async with real_socket(handler) as websocket:
        raw = websocket.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        tapped = TappedSocket(websocket, None)  # type: ignore[arg-type]
        sent = 0
        while tapped.takes_audio:
            await tapped.send_audio(frame(sent))
            sent += 1
            assert sent < 60_000
            if sent % 100 == 0:
                await asyncio.sleep(0)
        reads.set()
        async with asyncio.timeout(10):
            while not tapped.takes_audio or len(got) < sent:
                await asyncio.sleep(0.01)
    assert got == [frame(number) for number in range(sent)]
