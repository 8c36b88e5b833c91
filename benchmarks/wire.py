"""The lean end of a WebSocket: the ``websockets`` library's sans-I/O protocol driven by callbacks, no task per socket.

A message costs about 10 us here, a third of what the library's asyncio API takes: what measures must not be what is
measured.
"""

from __future__ import annotations

import asyncio
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri


class Wire(asyncio.Protocol):
    """One WebSocket. A subclass takes what comes in `opened`, `received` and `closed`."""

    def __init__(self) -> None:
        self._ws: ClientProtocol | ServerProtocol = ServerProtocol(max_size=None)
        self._transport: asyncio.Transport | None = None
        self._headers: dict[str, str] = {}

    async def connect(self, url: str, headers: dict[str, str]) -> None:
        """Open the socket to a server; one that is not connected is the server's side of a socket."""
        uri = parse_uri(url)
        self._ws = ClientProtocol(uri, max_size=None)
        self._headers = headers
        await asyncio.get_running_loop().create_connection(lambda: self, uri.host, uri.port)

    # -- for the subclass ---------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The handshake is done."""

    def received(self, message: bytes) -> None:
        """A whole message, text as UTF-8."""

    def closed(self) -> None:
        """The socket is gone."""

    def send_text(self, message: bytes) -> None:
        """Send a text message."""
        if self._ws.state is State.OPEN:
            self._ws.send_text(message)
            self._flush()

    def send_binary(self, message: bytes) -> None:
        """Send a binary message."""
        if self._ws.state is State.OPEN:
            self._ws.send_binary(message)
            self._flush()

    def close(self) -> None:
        """Close the socket."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(1000)
            self._flush()
        if self._transport:
            self._transport.close()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        if isinstance(self._ws, ClientProtocol):
            request = self._ws.connect()
            request.headers.update(self._headers)
            self._ws.send_request(request)
            self._flush()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Frame):
                if event.opcode in (Opcode.TEXT, Opcode.BINARY):
                    assert event.fin, "nobody here sends fragments"
                    self.received(bytes(event.data))
            elif isinstance(event, Request):
                assert isinstance(self._ws, ServerProtocol)
                self._ws.send_response(self._ws.accept(event))
                self._flush()
                self.opened()
            elif isinstance(event, Response):
                if self._ws.state is not State.OPEN:
                    raise ConnectionError(f"the server refused a WebSocket with status {event.status_code}")
                self.opened()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._ws.receive_eof()
        self.closed()

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._ws.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()
