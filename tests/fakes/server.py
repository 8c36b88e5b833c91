"""An app on a port of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import uvicorn

from bot.sockets import CarrierSocket


@asynccontextmanager
async def serving(
    app: Any, lifespan: Literal["on", "off"] = "on", send_buffer: int | None = None
) -> AsyncIterator[str]:
    """Gives its address. With `lifespan` off nothing is opened that calls need. `send_buffer`: bytes of a socket's."""
    with socket.socket() as listener:
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, lifespan=lifespan, ws=CarrierSocket, ws_per_message_deflate=False)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            assert not task.done(), task.exception()
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
