"""The shell of the Gemini stand-in: sockets, threads and the clock around `sandbox.gemini.session`.

A stand-in, not Gemini: it says so in its log line, and the mind says so in its first words.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import ssl
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from socket import create_server
from typing import TYPE_CHECKING, Any, Protocol, Self

import orjson
import uvicorn
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.http11 import Request as HandshakeRequest

from sandbox.gemini.auth import UNKNOWN, Gatekeeper, key_in, token_in
from sandbox.gemini.conversation import Handles
from sandbox.gemini.faults import FaultError, FaultPlan, Faults
from sandbox.gemini.outbox import End, Hear, Send, Speak
from sandbox.gemini.profiles import PROFILES, Profile
from sandbox.gemini.session import Detector, Parts, Session
from sandbox.gemini.text import TEXT_PATH, TextRefused, TextRequest, answer, read_request, response
from sandbox.gemini.wire import INTERNAL, OUTPUT_RATE, Close, Json, Reject, encode, refuse
from sandbox.mind import Mind

if TYPE_CHECKING:
    from sandbox.ear import Grammar

_PATH = re.compile(
    r"^/{1,2}ws/google\.ai\.generativelanguage\.(?P<version>v1beta|v1alpha)"
    r"\.GenerativeService\.BidiGenerateContent(?P<constrained>Constrained)?$"
)
_SESSIONS_KEPT = 1000
_PACE = 240
"""Words a minute: brisk, so that a first run is soon over."""


class SpeaksText(Protocol):
    """`sandbox.voice.Voice` or a test's own."""

    def speak(self, text: str, /, *, rate: int = 24000) -> bytes: ...


class HearsSpeech(Protocol):
    """`sandbox.ear.Ear` or a test's own."""

    def hear(self, pcm16k: bytes, grammar: Grammar, /) -> str: ...

    def prepare(self, grammar: Grammar, /) -> None: ...


@dataclass
class SessionRecord:
    """What one connection brought, for assertions. Bodies are camelCase; audio is s16le mono 16 kHz."""

    number: int
    version: str
    setup: Json | None = None
    audio: bytearray = field(default_factory=bytearray)
    texts: list[str] = field(default_factory=list)
    client_contents: list[Json] = field(default_factory=list)
    tool_responses: list[Json] = field(default_factory=list)
    frames: list[Json] = field(default_factory=list)
    context_updates: list[Json] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    close_code: int | None = None
    close_reason: str = ""
    connected: bool = True

    def frames_with(self, *path: str) -> list[Any]:
        """The values at `path` in the frames sent so far: `frames_with("serverContent", "interrupted")`."""
        found: list[Any] = []
        for frame in self.frames:
            value: Any = frame
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            if value is not None:
                found.append(value)
        return found


class GeminiStandIn:
    """A server on 127.0.0.1 that speaks the Gemini Live API. Use as `async with`; several may run in one loop.

    `speed` > 1 runs everything (thinking, delivery, playback, ageing) that much faster than the real service. `faults`
    may be changed while sessions are up. `api_keys` None accepts any key. `sessions` holds a record of every
    connection (the last 1000); `record=False` leaves
    audio and frames out of them, for a long-running server. `text_requests` are those to generateContent;
    `text_answers` are given to the next ones in turn: an object, or an HTTP status to fail with.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        profiles: Iterable[Profile] = PROFILES,
        api_keys: Iterable[str] | None = None,
        refuse_keys_at_upgrade: int | None = None,
        faults: FaultPlan | Faults | None = None,
        mind_factory: Callable[[], Mind] | None = None,
        voice: SpeaksText | None = None,
        ear: HearsSpeech | None = None,
        detector_factory: Callable[[int, int], Detector] | None = None,
        speed: float = 1.0,
        tls: ssl.SSLContext | None = None,
        compression: bool = False,
        record: bool = True,
        seed: int = 1,
    ) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be above 0, not {speed}.")
        self.faults = faults if isinstance(faults, FaultPlan) else FaultPlan(faults or Faults())
        self.text_requests: deque[TextRequest] = deque(maxlen=_SESSIONS_KEPT)
        self.text_answers: deque[Json | int] = deque()
        self.sessions: deque[SessionRecord] = deque(maxlen=_SESSIONS_KEPT)
        self.speed = speed
        self.port = port
        self._chance = random.Random(seed)
        self._gate = Gatekeeper(None if api_keys is None else frozenset(api_keys), self._chance)
        self._refuse_keys_at_upgrade = refuse_keys_at_upgrade
        if voice is None or ear is None:
            default_voice, default_ear = _default_voice_and_ear()
            voice, ear = voice or default_voice, ear or default_ear
        self._voice, self._ear = voice, ear
        self._parts = Parts(
            profiles=tuple(profiles),
            make_mind=mind_factory or _default_mind,
            make_detector=detector_factory or _default_detector,
            handles=Handles(self._chance),
            faults=self.faults,
        )
        self._tls = tls
        self._compression = compression
        self._record = record
        self._count = 0
        self._server: uvicorn.Server | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT` (https with TLS): what a client takes as base URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = Starlette(
            routes=[
                Route("/v1alpha/auth_tokens", self._mint, methods=["POST"]),
                Route(TEXT_PATH, self._generate, methods=["POST"]),
                WebSocketRoute("/{path:path}", self._connect),
            ]
        )
        config = uvicorn.Config(
            app,
            ws=_Protocol,
            ws_per_message_deflate=self._compression,
            ws_ping_interval=None,
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        config.load()
        config.ssl = self._tls
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        # Bound here: uvicorn would leave the whole process with sys.exit if the port is taken.
        listener = create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        await self._server.startup([listener])
        logger.info("Gemini stand-in (no model, no Google) listening on {}", self.url)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        state, listeners = self._server.server_state, self._server.servers
        for listener in listeners:
            listener.close()
        for connection in list(state.connections):
            with suppress(InvalidState):  # it is closing already
                connection.shutdown()
        if state.tasks:
            await asyncio.wait(set(state.tasks), timeout=1)
        for connection in list(state.connections):  # their peer does not read: nothing will flush them
            connection.transport.abort()
        for listener in listeners:
            await listener.wait_closed()
        self._server = None

    # --- connections

    async def _mint(self, request: Request) -> Response:
        if not self._gate.knows(key_in(request.headers, request.query_params)):
            return _http_error(400, UNKNOWN.reason)
        try:
            name = self._gate.mint(orjson.loads(await request.body() or b"{}"), datetime.now(UTC))
        except orjson.JSONDecodeError:
            return _http_error(400, "Invalid JSON payload received.")
        except Reject as reject:
            return _http_error(400, reject.close.reason)
        return JSONResponse({"name": name})

    async def _generate(self, request: Request) -> Response:
        """`models.generateContent`."""
        if not self._gate.knows(key_in(request.headers, request.query_params)):
            return _http_error(400, UNKNOWN.reason, "INVALID_ARGUMENT")
        model = request.path_params["model"]
        try:
            asked = read_request(model, orjson.loads(await request.body() or b"null"))
        except orjson.JSONDecodeError:
            return _http_error(400, "Invalid JSON payload received.", "INVALID_ARGUMENT")
        except Reject as reject:
            return _http_error(400, reject.close.reason, "INVALID_ARGUMENT")
        except TextRefused as refused:
            return _http_error(refused.status, str(refused), refused.code)
        if self._record:
            self.text_requests.append(asked)
        said = self.text_answers.popleft() if self.text_answers else None
        if isinstance(said, int):
            return _http_error(said, "The stand-in was told to fail.")
        text = said if said is not None else await asyncio.to_thread(answer, asked, self._write_down)
        words = text if isinstance(text, str) else orjson.dumps(text).decode()
        return JSONResponse(response(model, words, asked.text))

    def _write_down(self, pcm16k: bytes) -> str:
        from sandbox.ear import Grammar

        return self._ear.hear(pcm16k, Grammar.from_tools([]))

    async def _connect(self, socket: WebSocket) -> None:
        match = _PATH.match(socket.scope["path"])
        if match is None:
            await socket.send_denial_response(_http_error(404, "Not Found"))
            return
        self._count += 1
        number = self._count
        faults = self.faults.of(number)
        status = faults.upgrade_status or self._refused_status(socket, match)
        if faults.refuse_connect:
            _transport(socket).abort()
            return
        if status is not None:
            await socket.send_denial_response(_http_error(status, "Refused by the stand-in."))
            return
        await socket.accept()
        record = SessionRecord(number, match["version"])
        self.sessions.append(record)
        session = Session(
            self._parts,
            number=number,
            version=match["version"],
            chance=self._chance,
            admit=self._admit_token(socket) if match["constrained"] else self._admit_key(socket),
            on_audio=record.audio.extend if self._record else _forget,
        )
        await _Connection(self, socket, session, record, keeps=self._record).run()

    def _refused_status(self, socket: WebSocket, match: re.Match[str]) -> int | None:
        if self._refuse_keys_at_upgrade is None or match["constrained"]:
            return None
        known = self._gate.knows(key_in(socket.headers, socket.query_params))
        return None if known else self._refuse_keys_at_upgrade

    def _admit_key(self, socket: WebSocket) -> Callable[[Json], Json]:
        known = self._gate.knows(key_in(socket.headers, socket.query_params))

        def admit(setup: Json) -> Json:
            if not known:
                raise refuse(UNKNOWN)
            return setup

        return admit

    def _admit_token(self, socket: WebSocket) -> Callable[[Json], Json]:
        token = self._gate.find(token_in(socket.headers, socket.query_params))

        def admit(setup: Json) -> Json:
            if token is None:
                raise refuse(UNKNOWN)
            resumption = setup.get("sessionResumption")
            resuming = isinstance(resumption, dict) and bool(resumption.get("handle"))
            refused = self._gate.spend(token, datetime.now(UTC), resuming=resuming)
            if refused is not None:
                raise refuse(refused)
            return token.lock(setup)

        return admit

    def now(self) -> float:
        """Session time in seconds: a monotonic clock times `speed`."""
        return time.monotonic() * self.speed

    async def speak(self, text: str) -> bytes:
        """The voice, in a thread: s16le mono 24 kHz."""
        return await asyncio.to_thread(self._voice.speak, text, rate=OUTPUT_RATE)

    async def hear(self, pcm16k: bytes, grammar: Grammar) -> str:
        """The ear, in a thread."""
        return await asyncio.to_thread(self._ear.hear, pcm16k, grammar)

    async def prepare(self, grammar: Grammar | None) -> None:
        """Get the ear ready for what is expected next, in a thread."""
        if grammar is not None:
            await asyncio.to_thread(self._ear.prepare, grammar)


class _Protocol(WebSocketsSansIOProtocol):
    """Lets the application end a connection without a close frame, as a broken network does."""

    def handle_connect(self, event: HandshakeRequest) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["state"]["transport"] = self.transport


class _Connection:
    """Moves messages between one socket and one session."""

    def __init__(
        self, server: GeminiStandIn, socket: WebSocket, session: Session, record: SessionRecord, *, keeps: bool
    ) -> None:
        self._server = server
        self._socket = socket
        self._session = session
        self._record = record
        self._keeps = keeps
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone = False
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Until either side closes. A bug in mind, voice or ear closes with 1011 and is logged."""
        self._start(self._read())
        try:
            await self._write()
        except WebSocketDisconnect as left:
            self._closed(left.code, left.reason)
        except Exception:
            # Not logger.exception: loguru would print the caller's words, as values of variables.
            logger.error("Gemini stand-in: session {} failed\n{}", self._record.number, traceback.format_exc())
            await self._end(Close(1011, INTERNAL))
        finally:
            for task in self._tasks:
                task.cancel()
            self._session.closed(self._server.now())
            self._record.connected = False
            logger.info("Gemini stand-in: session {} closed: {}", self._record.number, self._record.close_code)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(failure := task.exception(), Exception):
            self._failure = failure
        self._changed.set()

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                self._closed(message.get("code"), message.get("reason"))
                self._gone = True
                return
            data = message.get("text") or message.get("bytes") or b""
            self._note(self._session.received(data, self._server.now()))
            self._changed.set()

    def _note(self, message: tuple[str, Json] | None) -> None:
        if self._record.setup is None and self._session.setup is not None:
            self._start(self._server.prepare(self._session.expected()))
        self._record.setup = self._session.setup
        if message is None or not self._keeps:
            return
        kind, body = message
        if kind == "clientContent":
            self._record.client_contents.append(body)
        elif kind == "toolResponse":
            self._record.tool_responses.append(body)
        elif kind == "contextUpdate":
            self._record.context_updates.append(body)
        elif isinstance(body.get("text"), str):
            self._record.texts.append(body["text"])

    async def _write(self) -> None:
        outbox = self._session.outbox
        while not self._gone:
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            now = self._server.now()
            action = outbox.take(now)
            if action is None:
                due = outbox.next_due()
                with suppress(TimeoutError):
                    wait = None if due is None else (due - now) / self._server.speed
                    await asyncio.wait_for(self._changed.wait(), wait)
            elif isinstance(action, Send):
                await self._send(action.frame)
            elif isinstance(action, End):
                await self._end(action.close)
                return
            else:
                self._start(self._work(action))

    async def _send(self, frame: Json) -> None:
        if self._keeps:
            self._record.frames.append(frame)
        data = encode(frame)
        if self._session.sends_binary:
            await self._socket.send_bytes(data)
        else:
            await self._socket.send_text(data.decode())

    async def _end(self, close: Close | None) -> None:
        if close is None:
            self._closed(1006, "")
            _transport(self._socket).abort()
            return
        self._closed(close.code, close.reason)
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close(close.code, close.reason)

    async def _work(self, job: Speak | Hear) -> None:
        result: bytes | str
        if isinstance(job, Speak):
            result = await self._server.speak(job.text)
        else:
            result = await self._server.hear(job.pcm, job.grammar)
            if self._keeps:
                self._record.heard.append(result)
        self._session.outbox.done(job.job, result, self._server.now())
        if isinstance(job, Speak):
            # While this is being said: the ear's preparation would otherwise delay the answer to the next words.
            await self._server.prepare(self._session.expected())

    def _closed(self, code: int | None, reason: str | None) -> None:
        if self._record.close_code is None:
            self._record.close_code, self._record.close_reason = code, reason or ""


def _transport(socket: WebSocket) -> asyncio.Transport:
    transport = socket.scope["state"]["transport"]
    assert isinstance(transport, asyncio.Transport)
    return transport


def _http_error(status: int, message: str, code: str = "") -> Response:
    body = {"error": {"code": status, "message": message, "status": code or HTTPStatus(status).name}}
    return JSONResponse(body, status_code=status)


def _forget(_audio: bytes) -> None:
    """For a stand-in that keeps no audio."""


# Imported late: a test that brings its own voice and ear needs neither wheel.


def _default_mind() -> Mind:
    from sandbox.schema_mind import SchemaMind

    return SchemaMind()


def _default_voice_and_ear() -> tuple[SpeaksText, HearsSpeech]:
    try:
        from sandbox.ear import Ear
        from sandbox.voice import Voice
    except ImportError as missing:
        raise RuntimeError(
            f"The Gemini stand-in needs the package {missing.name!r} to hear and to speak. "
            "It is in the dependency group 'sandbox': uv sync --group sandbox"
        ) from missing
    return Voice(words_per_minute=_PACE), Ear()


def _default_detector(silence_ms: int, prefix_padding_ms: int) -> Detector:
    from sandbox.ear import TurnDetector

    return TurnDetector(silence_ms=silence_ms, prefix_padding_ms=prefix_padding_ms)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m sandbox gemini`."""
    parser.add_argument("--port", type=int, default=8700, help="TCP port on 127.0.0.1 (default 8700, 0: any)")
    parser.add_argument("--speed", type=float, default=1.0, help="times faster than the real service (default 1)")
    parser.add_argument(
        "--faults", type=Path, metavar="FILE", help="YAML of fault switches, see docs/sandbox-gemini.md"
    )


async def run(args: argparse.Namespace) -> None:
    """`python -m sandbox gemini`: serves until cancelled. Ends with the reason if the faults file is wrong."""
    try:
        faults = FaultPlan.from_file(args.faults) if args.faults else FaultPlan()
    except FaultError as error:
        raise SystemExit(str(error)) from None
    async with GeminiStandIn(port=args.port, speed=args.speed, faults=faults, record=False) as stand_in:
        print(f"Gemini stand-in (not Gemini: no model inside) at {stand_in.url}", flush=True)
        await asyncio.Event().wait()
