"""WebSockets that are closed are freed at once, however they ended, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.server import serving
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bot.sockets import CarrierSocket, ModelSocket

States = list[weakref.ref[Any]]


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> Iterator[States]:
    """What both sides know of their sockets; from here on the garbage collector does nothing."""
    seen: States = []
    carrier_made, model_made = CarrierSocket.connection_made, ModelSocket.connection_made

    def at_the_server(self: CarrierSocket, transport: Any) -> None:
        carrier_made(self, transport)
        seen.append(weakref.ref(self.conn))

    def at_the_client(self: ModelSocket, transport: Any) -> None:
        model_made(self, transport)
        seen.append(weakref.ref(self.protocol))

    monkeypatch.setattr(CarrierSocket, "connection_made", at_the_server)
    monkeypatch.setattr(ModelSocket, "connection_made", at_the_client)
    gc.collect()
    gc.disable()
    yield seen
    gc.enable()


async def repeats(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        return


async def closes(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    await websocket.close()


app = Starlette(routes=[WebSocketRoute("/repeats", repeats), WebSocketRoute("/closes", closes)])


async def close_it(url: str) -> None:
    async with connect(f"{url}/repeats", create_connection=ModelSocket) as socket:
        await socket.send("a")
        assert await socket.recv() == "a"


async def is_closed(url: str) -> None:
    async with connect(f"{url}/closes", create_connection=ModelSocket) as socket:
        await socket.send("a")
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def break_it(url: str) -> None:
    async with connect(f"{url}/repeats", create_connection=ModelSocket) as socket:
        await socket.send("a")
        assert await socket.recv() == "a"
        socket.transport.abort()
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def break_a_rule(url: str) -> None:
    async with connect(f"{url}/repeats", create_connection=ModelSocket) as socket:
        socket.transport.write(b"\xff\xff\xff\xff")  # reserved bits, and no such opcode
        with pytest.raises(ConnectionClosed):
            await socket.recv()


@pytest.mark.parametrize("use", [close_it, is_closed, break_it, break_a_rule])
async def test_nothing_of_a_closed_socket_stays_in_memory(use: Any, states: States) -> None:
    async with serving(app, lifespan="off") as address:
        await use(address.replace("http", "ws", 1))
        for _ in range(50):
            if len(states) == 2 and not any(state() for state in states):
                break
            await asyncio.sleep(0.02)
        assert [state() for state in states] == [None, None]
