"""A burst of one call, after a stall of its network, keeps the loop from no other while it is caught up with."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from fakes.carrier import SILENCE, Carrier, Line
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from bot.gemini_client import Connection, TappedSocket

BURST = 40


class Neighbour:
    """Another call: it wants every turn of the loop."""

    def __init__(self) -> None:
        self.turns = 0

    async def run(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def neighbour() -> AsyncIterator[Neighbour]:
    other = Neighbour()
    running = asyncio.create_task(other.run())
    yield other
    running.cancel()


async def test_a_burst_of_the_callers_is_heard_a_frame_in_each_turn() -> None:
    line, carrier = Line(), Carrier()
    async with line.open(carrier):
        for _ in range(BURST):
            carrier.speaks(SILENCE)
        async with neighbour() as other:
            turns = []
            for _ in range(BURST):
                assert (await line.socket.receive())["bytes"] == SILENCE
                turns.append(other.turns)
    assert len(set(turns)) >= BURST - 2


async def test_a_burst_that_a_pipeline_is_handed_is_handed_a_frame_in_each_turn() -> None:
    line, carrier = Line(), Carrier()
    turns = []
    async with neighbour() as other:

        async def hear(audio: bytes) -> None:
            assert audio == SILENCE
            turns.append(other.turns)

        line.socket.on_audio = hear
        for _ in range(BURST):
            carrier.speaks(SILENCE)
        async with line.open(carrier):
            while len(turns) < BURST:
                await asyncio.sleep(0)
    assert len(set(turns)) >= BURST - 2


async def test_a_burst_of_the_models_is_heard_a_message_in_each_turn() -> None:
    part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(bytes(960)).decode()}}
    message = json.dumps({"serverContent": {"modelTurn": {"parts": [part]}}})

    async def speak(socket: ServerConnection) -> None:
        for _ in range(BURST):
            await socket.send(message)
        await socket.wait_closed()

    async with serve(speak, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None, max_queue=None) as websocket:
            while len(websocket.recv_messages.frames) < BURST:
                await asyncio.sleep(0.01)
            session: Any = SimpleNamespace(receive=lambda: None)
            messages = Connection(session, TappedSocket(websocket, None), "m").messages()
            async with neighbour() as other:
                turns = []
                for _ in range(BURST):
                    assert await anext(messages) == bytes(960)
                    turns.append(other.turns)
            await messages.aclose()
    assert len(set(turns)) >= BURST - 2
