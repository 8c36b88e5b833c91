"""The WebSockets of a call, to the carrier and to the model, freed when they are closed.

A WebSocket's state (``websockets.protocol.Protocol``) knows the generator that parses what comes, and that knows it: a
circle that `websockets` leaves to the garbage collector, which looks at old objects seldom (docs/decisions/0016). Both
together held 5 kB for each call.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection
from websockets.protocol import Protocol


class CarrierSocket(WebSocketsSansIOProtocol):
    """The server's side: uvicorn's own WebSocket, to be named as its ``ws``."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop, once."""
        super().connection_lost(exc)
        _end_parsing(self.conn)


class ModelSocket(ClientConnection):
    """The client's side, to be named as the ``create_connection`` of ``websockets.connect``."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop, once."""
        super().connection_lost(exc)
        _end_parsing(self.protocol)


def _end_parsing(protocol: Protocol) -> None:
    """Nothing comes any more. What ended the parsing is known by its kind and words still."""
    protocol.parser.close()
    if protocol.parser_exc is not None:
        protocol.parser_exc.__traceback__ = None
