"""The socket of a media stream: the thin shell around `MediaStream`, and the faults it can have on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.uri import parse_uri

from sandbox.twilio.media import MediaStream
from sandbox.twilio.webhook import Route, Signer

# Unsent messages after which Twilio gives up on a slow reader: 2 s of audio.
_BACKLOG = 100
_HANDSHAKE_SECONDS = 5.0


@dataclass(frozen=True)
class Faults:
    """What goes wrong on purpose (docs/sandbox-twilio.md lists each knob).

    `jitter_ms` delays frames by up to that much, `burst_ms` holds frames back and sends them together, `loss` is the
    share of frames that never arrive, `read_delay_ms` is waited before each message is read, `half_open_after_ms` is
    when the carrier falls silent without closing, `deaf_after_ms` when it reads no more and still sends; `callbacks` is
    what happens to status callbacks.
    """

    jitter_ms: int = 0
    burst_ms: int = 0
    loss: float = 0.0
    read_delay_ms: int = 0
    second_socket: bool = False
    omit_start: bool = False
    never_start: bool = False
    half_open_after_ms: int = 0
    deaf_after_ms: int = 0
    callbacks: str = "ordered"
    seed: int = 1


@dataclass(frozen=True)
class StreamEnd:
    """How a stream ended: code 0 for a regular `stop`, else Twilio's error; `close_code` of the WebSocket."""

    code: int
    text: str
    close_code: int = 0


class StreamFailed(Exception):
    """The socket could not be opened. `code` is Twilio's error number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class StreamSocket:
    """One open media socket. `frame` is called every 20 ms by the line; the rest runs by itself."""

    def __init__(self, stream: MediaStream, faults: Faults) -> None:
        self.stream = stream
        self.faults = faults
        self.ended: asyncio.Future[StreamEnd] = asyncio.get_running_loop().create_future()
        self.second_close_code: int | None = None
        self.discarded_frames = 0
        self._chance = random.Random(faults.seed)
        self._outgoing: deque[tuple[float, str]] = deque()
        self._something = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._half_open = False
        self._stopping = False

    async def open(self, url: str, route: Route, signer: Signer) -> None:
        """Shake hands and send `connected` and `start`. Raises StreamFailed."""
        self._socket = await _connect(url, route, signer, queue=1 if self.faults.read_delay_ms else 64)
        if self.faults.deaf_after_ms:
            # Else the system takes minutes of audio in the place of a carrier that takes none.
            self._socket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await self._socket.send(self.stream.connected())
        if not (self.faults.never_start or self.faults.omit_start):
            await self._socket.send(self.stream.start())
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        if self.faults.second_socket:
            self._tasks.append(asyncio.create_task(self._open_second(url, route, signer)))

    async def _open_second(self, url: str, route: Route, signer: Signer) -> None:
        """Another socket for the same call, as seen in the wild; notes how the application closes it."""
        copy = MediaStream(
            stream_sid=self.stream.stream_sid[:-1] + "0",
            call_sid=self.stream.call_sid,
            account_sid=self.stream.account_sid,
            parameters=self.stream.parameters,
        )
        try:
            second = await _connect(url, route, signer, queue=64)
        except StreamFailed:
            self.second_close_code = 403
            return
        async with second:
            with contextlib.suppress(websockets.ConnectionClosed):
                await second.send(copy.connected())
                await second.send(copy.start())
                async for _ in second:
                    pass
            self.second_close_code = second.close_code

    # Towards the application

    def frame(self, said: bytes, heard: bytes = b"") -> None:
        """20 ms of what the caller said, and for a stream that listens to both also of what was played."""
        if self.faults.never_start:
            return
        for track in self.stream.tracks:
            message = self.stream.media(said if track == "inbound" else heard, track=track)
            if not self.faults.loss or self._chance.random() >= self.faults.loss:
                self._put(message, self._delay_ms(), media=True)

    def _delay_ms(self) -> float:
        delay = self._chance.uniform(0, self.faults.jitter_ms) if self.faults.jitter_ms else 0.0
        if self.faults.burst_ms:
            delay += self.faults.burst_ms - self.stream.clock_ms % self.faults.burst_ms
        return delay

    def key(self, key: str) -> None:
        """The caller pressed a key."""
        self._put(self.stream.dtmf(key))

    def play(self) -> bytes:
        """Let 20 ms of playout pass; returns what was heard."""
        heard, marks = self.stream.play()
        for mark in marks:
            self._put(mark)
        if self.faults.half_open_after_ms and self.stream.clock_ms >= self.faults.half_open_after_ms:
            self._fall_silent()
        if self.faults.deaf_after_ms and self.stream.clock_ms >= self.faults.deaf_after_ms:
            self._socket.transport.pause_reading()
        return heard

    def _put(self, message: str, delay_ms: float = 0.0, *, media: bool = False) -> None:
        if media and len(self._outgoing) >= _BACKLOG + (self.faults.jitter_ms + self.faults.burst_ms) // 20:
            self.discarded_frames += 1
            self.stream.warn(31930, "the application reads too slowly: the caller's audio is being discarded")
            return
        due = asyncio.get_running_loop().time() + delay_ms / 1000
        # The network delays but does not overtake: a WebSocket keeps its order.
        due = max(due, self._outgoing[-1][0]) if self._outgoing else due
        self._outgoing.append((due, message))
        self._something.set()

    def _fall_silent(self) -> None:
        if not self._half_open:
            self._half_open = True
            self._socket.transport.pause_reading()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                if not self._outgoing:
                    self._something.clear()
                    await self._something.wait()
                due, message = self._outgoing[0]
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                if not self._half_open:
                    await self._socket.send(message)
                self._outgoing.popleft()

    # From the application

    async def _read(self) -> None:
        try:
            while True:
                message = await self._socket.recv()
                for answer in self.stream.receive(message):
                    self._put(answer)
                if self.faults.read_delay_ms:
                    await asyncio.sleep(self.faults.read_delay_ms / 1000)
        except websockets.ConnectionClosed as closed:
            if not self._stopping:
                self._end(_closed_by_server(closed))

    def _end(self, end: StreamEnd) -> None:
        if not self.ended.done():
            self.ended.set_result(end)

    async def close(self) -> None:
        """Say `stop` and close, as when the call ends or is redirected; does nothing if the server was first."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.ended.done() or self._half_open or self.faults.deaf_after_ms:
            self._socket.transport.abort()
        else:
            with contextlib.suppress(websockets.ConnectionClosed):
                for _, message in self._outgoing:
                    await self._socket.send(message)
                await self._socket.send(self.stream.stop())
        await self._socket.close()
        self._end(StreamEnd(0, "stopped"))


async def _connect(url: str, route: Route, signer: Signer, *, queue: int) -> ClientConnection:
    address, added = route.to(url)
    host = added.pop("Host", None)
    target = parse_uri(address)
    # The Host header is made from the URI, so the URI names the public host and the socket the local one.
    named = urlsplit(address)._replace(netloc=host).geturl() if host else address
    try:
        return await connect(
            named,
            host=target.host,
            port=target.port,
            additional_headers=signer.headers(url) | added,
            user_agent_header="Twilio.TmeWs/1.0",
            compression=None,
            proxy=None,
            ping_interval=None,
            open_timeout=_HANDSHAKE_SECONDS,
            close_timeout=1.0,
            max_queue=queue,
            max_size=2**24,
        )
    except TimeoutError:
        raise StreamFailed(31901, f"no WebSocket within {_HANDSHAKE_SECONDS:g} s") from None
    except websockets.InvalidStatus as refused:
        raise StreamFailed(31920, f"the handshake was answered with {refused.response.status_code}") from None
    except ssl.SSLError as problem:
        raise StreamFailed(31910, f"TLS failed: {problem.reason}") from None
    except OSError as problem:
        raise StreamFailed(31902, f"no connection: {problem.strerror}") from None
    except (websockets.InvalidHandshake, EOFError) as problem:
        raise StreamFailed(31920, f"no WebSocket handshake: {problem}") from None


def _closed_by_server(closed: websockets.ConnectionClosed) -> StreamEnd:
    if closed.rcvd is None and closed.sent is None:
        return StreamEnd(31903, "the connection broke", 1006)
    if closed.sent and not closed.rcvd_then_sent:
        return StreamEnd(31924, f"protocol error: {closed.sent.reason}", closed.sent.code)
    code = closed.rcvd.code if closed.rcvd else 1006
    return StreamEnd(31921, f"the server closed the stream ({code})", code)
