"""A small server that a stand-in call can be made to, and a voice that costs nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from starlette.datastructures import FormData, Headers
from twilio.request_validator import RequestValidator

from sandbox import sound

ACCOUNT = "AC" + "1" * 32
TOKEN = "a-token-of-the-sandbox"
PUBLIC = "https://bot.example.com"

Answer = str | Response | Callable[["Got"], Any]
StreamHandler = Callable[["Socket"], Awaitable[None]]


class ToneVoice:
    """Speaks every text as a tone, 30 ms for each character."""

    def speak(self, text: str, *, rate: int = 24000) -> bytes:
        assert rate == 8000
        return sound.decode(sound.tone((300,), 30 * len(text))).tobytes()


@dataclass
class Got:
    """A request that the server got. `signed`: the official validator accepts it for the public URL."""

    path: str
    method: str
    query: str
    headers: Headers
    form: FormData
    body: bytes
    signed: bool


@dataclass
class Socket:
    """A media socket that the server got."""

    web: WebSocket
    signed: bool
    start: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def stream_sid(self) -> str:
        return str(self.start["streamSid"])

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.web.receive_text())
        self.messages.append(message)
        return message

    async def begin(self) -> None:
        assert (await self.receive())["event"] == "connected"
        self.start = (await self.receive())["start"]

    async def send(self, event: str, **content: Any) -> None:
        inner = {event: content} if content else {}
        await self.web.send_text(json.dumps({"event": event, "streamSid": self.stream_sid} | inner))

    async def say(self, audio: bytes, mark: str = "") -> None:
        await self.send("media", payload=base64.b64encode(audio).decode())
        if mark:
            await self.send("mark", name=mark)

    async def until(self, event: str) -> dict[str, Any]:
        while (message := await self.receive())["event"] != event:
            pass
        return message

    async def drain(self) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await self.receive()

    def of(self, event: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["event"] == event]


@dataclass
class ToyServer:
    """`pages` answers by path with TwiML or what a function makes of the request; `stream` serves the media socket."""

    url: str
    pages: dict[str, Answer] = field(default_factory=dict)
    stream: StreamHandler | None = None
    got: list[Got] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)
    token: str = TOKEN
    algorithm: str | None = None

    def at(self, path: str) -> list[Got]:
        return [got for got in self.got if got.path == path]

    def connect(self, *, action: str = "", inner: str = "", after: str = "") -> str:
        target = f' action="{action}"' if action else ""
        stream = f'<Stream url="wss://bot.example.com/media" statusCallback="{PUBLIC}/stream">{inner}</Stream>'
        return f"<Response><Connect{target}>{stream}</Connect>{after}</Response>"

    async def page(self, request: Request) -> Response:
        body = await request.body()
        form = await request.form()
        url = f"{PUBLIC}{request.url.path}" + (f"?{request.url.query}" if request.url.query else "")
        signature = request.headers.get("x-twilio-signature", "")
        signed = RequestValidator(self.token).validate(
            url, body.decode() if "bodySHA256" in url else form, signature, self.algorithm
        )
        got = Got(request.url.path, request.method, request.url.query, request.headers, form, body, signed)
        self.got.append(got)
        answer = self.pages.get(got.path, Response(status_code=404))
        if callable(answer) and not isinstance(answer, Response):
            answer = answer(got)
            if asyncio.iscoroutine(answer):
                answer = await answer
        return answer if isinstance(answer, Response) else Response(str(answer), media_type="text/xml")

    async def media(self, web: WebSocket) -> None:
        signature = web.headers.get("x-twilio-signature", "")
        signed = RequestValidator(self.token).validate(
            f"wss://bot.example.com{web.url.path}", {}, signature, self.algorithm
        )
        sock = Socket(web, signed)
        self.sockets.append(sock)
        await web.accept()
        assert self.stream is not None
        with contextlib.suppress(WebSocketDisconnect):
            await self.stream(sock)


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="websockets-sansio"))
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
        listener.close()


@pytest.fixture
async def server() -> AsyncIterator[ToyServer]:
    app = FastAPI()
    async with serving(app) as url:
        toy = ToyServer(url)
        app.add_api_websocket_route("/media", toy.media)
        app.add_route("/{path:path}", toy.page, methods=["GET", "POST"])
        yield toy


@pytest.fixture
def voice() -> ToneVoice:
    return ToneVoice()


@pytest.fixture
def account() -> tuple[str, str]:
    return ACCOUNT, TOKEN
