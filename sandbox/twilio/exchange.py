"""The stand-in exchange: Twilio's REST API for calls, recordings, conferences, messages and numbers.

Source of paths, fields and errors: Twilio's OpenAPI specification `twilio_api_v2010` and its error pages. The official
`twilio` client works with it unchanged once its base URL points here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Self
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandbox.twilio.call import LiveCall
from sandbox.twilio.lines import Json, LocalLine, OnLine, Refused
from sandbox.twilio.phone import Phone
from sandbox.twilio.record import new_sid

E164 = re.compile(r"\+[1-9]\d{6,14}")


@dataclass
class RestFault:
    """Something that goes wrong with the next `times` requests whose method and path (a regular expression) match.

    `delay` seconds pass first. `refuse` (HTTP status, error code) answers with that error; `hang` never answers;
    `lose` does what was asked and then never answers, as when the response is lost on the way.
    """

    path: str = ""
    method: str = ""
    times: int = 1
    delay: float = 0.0
    refuse: tuple[int, int] | None = None
    hang: bool = False
    lose: bool = False


@dataclass
class Order:
    """One REST request, for assertions."""

    method: str
    path: str
    form: dict[str, list[str]]
    status: int = 0


def moment() -> str:
    """Now, as the 2010 API writes dates (RFC 2822)."""
    return format_datetime(datetime.now(UTC))


def page(request: Request, key: str, items: list[Json]) -> Response:
    """A page of a list, as the 2010 API gives it."""
    size = min(int(request.query_params.get("PageSize", 50)), 1000)
    number = int(request.query_params.get("Page", 0))
    path = request.url.path
    more = len(items) > (number + 1) * size
    shown = items[number * size : (number + 1) * size]
    return JSONResponse(
        {
            key: shown,
            "page": number,
            "page_size": size,
            "start": number * size,
            "end": number * size + max(len(shown) - 1, 0),
            "uri": path,
            "first_page_uri": f"{path}?PageSize={size}&Page=0",
            "next_page_uri": f"{path}?PageSize={size}&Page={number + 1}" if more else None,
            "previous_page_uri": f"{path}?PageSize={size}&Page={number - 1}" if number else None,
        }
    )


class Form(dict[str, list[str]]):
    """The fields of a request; names are Twilio's, values as sent."""

    def one(self, name: str, default: str = "") -> str:
        """A field's value, or `default`."""
        return self.get(name, [default])[-1]

    def number(self, name: str) -> str:
        """A telephone number or address. Raises Refused 21211 or 21212 if it cannot be called."""
        value = self.one(name)
        if not E164.fullmatch(value) and not value.startswith(("sip:", "client:")):
            code = 21212 if name == "From" else 21211
            raise Refused(400, code, f"The '{name}' number {value} is not a valid phone number.")
        return value


@dataclass
class Exchange:
    """A REST server on 127.0.0.1. Use as `async with`.

    `phone` (whose registry this becomes) makes the outbound calls and says who answers them. Calls made through REST
    start `calls_per_second` apart, as on a Twilio account. `faults` may be changed at any time. `orders` has every
    request.
    """

    account_sid: str
    auth_token: str
    port: int = 0
    api_keys: Mapping[str, str] = field(default_factory=dict)
    phone: Phone | None = None
    calls_per_second: float = 1.0
    faults: list[RestFault] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    numbers: list[Json] = field(default_factory=list)
    messages: list[Json] = field(default_factory=list)
    lines: dict[str, OnLine] = field(default_factory=dict)
    recordings: dict[str, tuple[Json, bytes]] = field(default_factory=dict)
    conferences: dict[str, Json] = field(default_factory=dict)
    payments: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.phone = self.phone or Phone(self.account_sid, self.auth_token)
        self.phone.exchange = self
        self.tasks: set[asyncio.Task[Any]] = set()
        self.next_call_at = 0.0
        self._closing = asyncio.Event()
        self.api_base_url = ""
        self.add_number("+15005550006")

    def add_number(self, number: str, **settings: str) -> Json:
        """Give the account a telephone number; the settings are those of IncomingPhoneNumbers in snake_case."""
        sid = new_sid("PN")
        blank = {
            name: "" for name in ("voice_url", "voice_fallback_url", "status_callback", "sms_url", "sms_fallback_url")
        }
        resource = {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "capabilities": {"voice": True, "sms": True, "mms": False, "fax": False},
            "date_created": moment(),
            "date_updated": moment(),
            "friendly_name": number,
            "phone_number": number,
            "sid": sid,
            "status_callback_method": "POST",
            "uri": f"/2010-04-01/Accounts/{self.account_sid}/IncomingPhoneNumbers/{sid}.json",
            "voice_fallback_method": "POST",
            "voice_method": "POST",
        }
        self.numbers.append(resource | blank | settings)
        return self.numbers[-1]

    # The registry of calls

    async def add_line(self, call: LiveCall) -> None:
        """A call in this process begins."""
        self.lines[call.sid] = LocalLine(call)

    async def line_changed(self, call: LiveCall) -> None:
        """A call in this process has changed."""
        for sid, recording in call.recordings.items():
            self.recordings[sid] = (recording.resource(), b"")
        self.conference_changed(call.sid, LocalLine(call).state["conference"])

    async def conference_sid(self, name: str) -> str:
        """The sid of a conference by name; a finished one's name begins a new conference."""
        return str(self.conference(name)["sid"])

    def conference(self, name: str) -> Json:
        """The running conference of that name, made if there is none."""
        for conference in self.conferences.values():
            if conference["friendly_name"] == name and conference["status"] != "completed":
                return conference
        sid = new_sid("CF")
        self.conferences[sid] = {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "date_created": moment(),
            "date_updated": moment(),
            "friendly_name": name,
            "participants": {},
            "region": "us1",
            "sid": sid,
            "status": "in-progress",
            "uri": f"/2010-04-01/Accounts/{self.account_sid}/Conferences/{sid}.json",
        }
        return self.conferences[sid]

    def conference_changed(self, call_sid: str, state: Json | None) -> None:
        """A caller is (still) in a conference, or in none any more."""
        for conference in self.conferences.values():
            if state and conference["sid"] == state["sid"]:
                conference["participants"][call_sid] = state
            elif conference["participants"].pop(call_sid, None) and not conference["participants"]:
                conference["status"] = "completed"

    def line(self, sid: str) -> OnLine:
        """A call. Raises Refused 20404."""
        if sid not in self.lines:
            raise Refused(404, 20404, f"The requested resource /Calls/{sid}.json was not found")
        return self.lines[sid]

    def later(self, work: Any) -> None:
        """Do something beside answering the request."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # Serving

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        self.api_base_url = await self._stack.enter_async_context(self._serving())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[str]:
        listener = socket.create_server(("127.0.0.1", self.port))
        config = uvicorn.Config(
            self.app(), log_config=None, lifespan="off", ws="websockets-sansio", timeout_graceful_shutdown=1
        )
        server = _Server(config)
        running = asyncio.create_task(server.serve([listener]))
        await server.ready.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
            listener.close()

    def app(self) -> Starlette:
        """The ASGI application."""
        from sandbox.twilio.resources import ROUTES

        base = "/2010-04-01/Accounts/{account}"
        paths = [
            Path(("" if pattern.startswith("/v1") else base) + pattern, self._answering(handlers), methods=[*handlers])
            for pattern, handlers in ROUTES.items()
        ]
        return Starlette(
            routes=[WebSocketRoute("/sandbox/lines/{sid}", self._remote_line), *paths],
            exception_handlers={404: self._not_found, 405: self._not_found},
        )

    async def _not_found(self, request: Request, _: Exception) -> Response:
        return _error(Refused(404, 20404, f"The requested resource {request.url.path} was not found"))

    def _answering(self, handlers: Mapping[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            form = Form(parse_qs((await request.body()).decode(), keep_blank_values=True))
            order = Order(request.method, request.url.path, dict(form))
            self.orders.append(order)
            method = "GET" if request.method == "HEAD" else request.method
            response = await self._guarded(request, form, handlers[method])
            order.status = response.status_code
            return response

        return answer

    async def _guarded(self, request: Request, form: Form, handler: Handler) -> Response:
        fault = self._fault(request)
        await asyncio.sleep(fault.delay)
        if fault.hang:
            await self._closing.wait()
        try:
            self._authenticate(request.headers.get("authorization", ""), request.path_params.get("account"))
            if fault.refuse:
                words = "Too Many Requests" if fault.refuse[0] == 429 else "Refused by the sandbox"
                raise Refused(*fault.refuse, words)
            response = await handler(self, request, form)
        except Refused as no:
            response = _error(no)
        if fault.lose:
            await self._closing.wait()
        return response

    def _fault(self, request: Request) -> RestFault:
        for fault in self.faults:
            if fault.times > 0 and fault.method in ("", request.method) and re.search(fault.path, request.url.path):
                fault.times -= 1
                return fault
        return RestFault()

    def _authenticate(self, header: str, account: str | None) -> None:
        try:
            user, _, secret = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = secret = ""
        known = {self.account_sid: self.auth_token, **self.api_keys}
        if user not in known or not hmac.compare_digest(secret.encode(), known[user].encode()):
            raise Refused(401, 20003, "Authenticate")
        if account not in (None, self.account_sid):
            raise Refused(404, 20404, f"The requested resource /Accounts/{account}.json was not found")

    # Phones in other processes

    async def _remote_line(self, web: WebSocket) -> None:
        try:
            self._authenticate(web.headers.get("authorization", ""), None)
        except Refused:
            await web.close(1008)
            return
        await web.accept()
        line = _RemoteLine(web)
        with contextlib.suppress(WebSocketDisconnect):
            async for text in web.iter_text():
                await self._from_remote(line, json.loads(text))
        line.lost()

    async def _from_remote(self, line: _RemoteLine, message: Json) -> None:
        if "call" in message:
            line.state = message["call"]
            sid = line.state["shown"]["sid"]
            self.lines[sid] = line
            for recording in line.state["recordings"]:
                self.recordings[recording["sid"]] = (recording, self.recordings.get(recording["sid"], ({}, b""))[1])
            self.conference_changed(sid, line.state["conference"])
        elif "recording" in message:
            resource, _ = self.recordings[message["recording"]]
            self.recordings[message["recording"]] = (resource, base64.b64decode(message["wav"]))
        elif "conference" in message:
            sid = await self.conference_sid(message["conference"])
            await line.web.send_text(json.dumps({"conference_sid": sid}))
        else:
            line.answered(message)


class _Server(uvicorn.Server):
    """Leaves signals to the process that it is a part of."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


Handler = Callable[[Exchange, Request, Form], Awaitable[Response]]


class _RemoteLine:
    """A call in another process."""

    def __init__(self, web: WebSocket) -> None:
        self.web = web
        self.state: Json = {}
        self._count = 0
        self._open: dict[int, asyncio.Future[Json]] = {}

    async def order(self, order: str, given: Mapping[str, Any]) -> Json:
        """See `sandbox.twilio.lines.OnLine`."""
        self._count += 1
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._open[self._count] = answer
        try:
            await self.web.send_text(json.dumps({"id": self._count, "order": order, "with": given}))
        except (WebSocketDisconnect, RuntimeError):
            raise Refused(400, 21220, "Invalid call state. The phone has gone.") from None
        return await answer

    def answered(self, message: Json) -> None:
        """The phone did, or refused, what it was ordered to."""
        answer = self._open.pop(message["id"])
        if "refused" in message:
            answer.set_exception(Refused(*message["refused"]))
        else:
            answer.set_result(message["result"])

    def lost(self) -> None:
        """The phone's process has gone."""
        for answer in self._open.values():
            answer.set_exception(Refused(400, 21220, "Invalid call state. The phone has gone."))
        if self.state and self.state["shown"]["end_time"] is None:
            self.state["shown"] |= {"status": "failed", "end_time": moment()}


def _error(no: Refused) -> Response:
    body = {
        "code": no.code,
        "message": no.text,
        "more_info": f"https://www.twilio.com/docs/errors/{no.code}",
        "status": no.status,
    }
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if no.status == 401 else {}
    return JSONResponse(body, no.status, headers)
