"""What Twilio asks, signed; what it is told; what a media socket must show."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from loguru import logger
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bot.carriers import NextStep, OpenStream, Refusal
from bot.carriers.webhooks import twilio_router
from bot.errors import StreamRejected
from bot.events import Trouble
from bot.metrics import Metrics
from bot.ports import SystemClock
from bot.settings import Settings

TOKEN = "0123456789abcdef0123456789abcdef"
ACCOUNT = "AC" + "0" * 32
CALL = "CA" + "1" * 32
PUBLIC = "https://bot.example.com"
SORRY = NextStep("Something went wrong.", "hang_up", "en-US")
FIELDS = [
    ("CallSid", CALL),
    ("AccountSid", ACCOUNT),
    ("From", "+15005550100"),
    ("To", "+15005550006"),
    ("CallStatus", "ringing"),
    ("CallerCity", ""),
    ("CallerName", "Zoë Ångström 佐藤"),
]


class FakeCall:
    def __init__(self) -> None:
        self.call_sid = CALL
        self.stream_token = "token-1"
        self.next = NextStep("Goodbye.", "hang_up", "en-GB")
        self.statuses: list[tuple[str, int | None]] = []
        self.opened: list[OpenStream] = []
        self.heard: list[str] = []
        self.troubles: list[Trouble] = []
        self.fails = False

    async def serve_stream(self, opened: OpenStream) -> None:
        self.opened.append(opened)
        if self.fails:
            raise RuntimeError("a fault of ours")
        while (message := await opened.websocket.receive())["type"] == "websocket.receive":
            self.heard += [type(event).__name__ for event in opened.stream.receive(message["text"])]
            if opened.stream.stopped:
                return

    def after_stream(self) -> NextStep:
        return self.next

    def carrier_status(self, status: str, sequence: int | None) -> None:
        self.statuses.append((status, sequence))

    def carrier_failed(self, trouble: Trouble) -> None:
        self.troubles.append(trouble)


class FakeCalls:
    def __init__(self) -> None:
        self.call = FakeCall()
        self.refusal: Refusal | None = None
        self.received: list[dict[str, str]] = []
        self.tokens = {"token-1"}

    def receive(self, **facts: str) -> FakeCall | Refusal:
        self.received.append(facts)
        if facts["from_number"] == "boom":
            raise RuntimeError("a fault of ours")
        return self.refusal or self.call

    def get(self, call_sid: str) -> FakeCall | None:
        return self.call if call_sid == CALL else None

    def claim_stream(self, call_sid: str, token: str) -> FakeCall:
        if call_sid != CALL:
            raise StreamRejected("unknown_call", "No such call.")
        if token not in self.tokens:
            raise StreamRejected("bad_token", "The token is wrong or was used.")
        self.tokens.remove(token)
        return self.call


class Server:
    """The routes with a fake behind them, asked as Twilio asks through a TLS proxy."""

    def __init__(self, public_url: str | None = PUBLIC, **options: Any) -> None:
        self.calls = FakeCalls()
        self.metrics = Metrics()
        settings = Settings(_env_file=None, twilio_account_sid=ACCOUNT, twilio_auth_token=TOKEN, public_url=public_url)  # type: ignore[call-arg]
        self.app = FastAPI()
        self.app.include_router(
            twilio_router(self.calls, settings, self.metrics, SystemClock(), sorry=SORRY, **options)
        )

    async def post(
        self, path: str, fields: Sequence[tuple[str, str]] = FIELDS, *, signature: str | None = "", **headers: str
    ) -> httpx.Response:
        if signature == "":
            signature = sign(PUBLIC + path, fields)
        return await self.send(path, urlencode(fields).encode(), signature, **headers)

    async def send(self, path: str, body: bytes, signature: str | None, **headers: str) -> httpx.Response:
        given = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        if signature is not None:
            given["X-Twilio-Signature"] = signature
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.7:7860") as client:
            raw = {name: value.encode("latin-1") for name, value in given.items()}
            return await client.post(path, content=body, headers=raw)  # type: ignore[arg-type]

    def failures(self, kind: str) -> float:
        """How often that was told: to the call where it is known whose failure it is, else to the counter."""
        told = sum(trouble.failure == kind for trouble in self.calls.call.troubles)
        counted = self.metrics.registry.get_sample_value("switchboard_failures_total", {"kind": kind}) or 0.0
        return told + counted


def sign(url: str, fields: Sequence[tuple[str, str]] = (), secret: str = TOKEN, algorithm: str = "sha1") -> str:
    text = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), algorithm).digest()).decode()


def twiml(response: httpx.Response) -> ElementTree.Element:
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/xml")
    return ElementTree.fromstring(response.content)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def logged() -> Any:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="DEBUG", diagnose=False)
    yield lines
    logger.remove(sink)


# -- signatures -------------------------------------------------------------------------------------------------------


def test_the_signatures_of_these_tests_are_twilios() -> None:
    url = PUBLIC + "/twilio/voice"
    assert sign(url, FIELDS) == RequestValidator(TOKEN).compute_signature(url, dict(FIELDS))
    assert sign(url, FIELDS, algorithm="sha256") == RequestValidator(TOKEN).compute_signature(
        url, dict(FIELDS), "HMAC_SHA256"
    )


async def test_a_signed_call_behind_a_tls_proxy_is_taken_with_blank_and_non_ascii_fields(server: Server) -> None:
    twiml(await server.post("/twilio/voice"))
    assert server.calls.received == [
        {"call_sid": CALL, "account_sid": ACCOUNT, "from_number": "+15005550100", "to_number": "+15005550006"}
    ]


@pytest.mark.parametrize(
    "fields",
    [
        [*FIELDS, ("Twice", "b"), ("Twice", "a"), ("Twice", "b")],
        [*FIELDS, ("Twice", ""), ("Twice", "x")],
        [("From", "+1500"), ("CallSid", CALL), ("Plus", "a+b c&d=e%"), ("Line", "one\r\ntwo")],
    ],
)
async def test_repeated_and_odd_fields_are_part_of_the_signature(server: Server, fields: list[tuple[str, str]]) -> None:
    twiml(await server.post("/twilio/voice", fields))
    dropped = sign(PUBLIC + "/twilio/voice", [field for field in fields if field[0] != fields[-1][0]])
    assert (await server.post("/twilio/voice", fields, signature=dropped)).status_code == 403


async def test_the_query_is_signed_and_the_fragment_is_not(server: Server) -> None:
    path = "/twilio/voice?flow=a%20b&empty="
    twiml(await server.post(path))
    wrong = sign(PUBLIC + "/twilio/voice", FIELDS)
    assert (await server.post(path, signature=wrong)).status_code == 403


@pytest.mark.parametrize("url", [PUBLIC + ":443/twilio/voice", PUBLIC + "/twilio/voice"])
async def test_twilio_may_sign_with_or_without_the_default_port(server: Server, url: str) -> None:
    twiml(await server.post("/twilio/voice", signature=sign(url, FIELDS)))


async def test_a_public_url_with_a_port_may_be_signed_either_way() -> None:
    server = Server("https://bot.example.com:8443")
    for host in ("bot.example.com:8443", "bot.example.com"):
        twiml(await server.post("/twilio/voice", signature=sign(f"https://{host}/twilio/voice", FIELDS)))


async def test_a_shared_key_signs_with_sha256() -> None:
    server = Server(shared_key="the shared key")
    header = {"X_Twilio_Webhooks_Signature_Settings": "key=SK1,algorithm=HMAC_SHA256"}
    url = PUBLIC + "/twilio/voice"
    right = sign(url, FIELDS, "the shared key", "sha256")
    twiml(await server.post("/twilio/voice", signature=right, **header))
    assert (await server.post("/twilio/voice", signature=right)).status_code == 403
    assert (await server.post("/twilio/voice", signature=sign(url, FIELDS), **header)).status_code == 403
    other = {"X_Twilio_Webhooks_Signature_Settings": "key=SK1,algorithm=HMAC_MD5"}
    assert (await server.post("/twilio/voice", signature=right, **other)).status_code == 403
    twiml(await server.post("/twilio/voice"))


@pytest.mark.parametrize("path", ["voice", "after-stream", "status", "fallback", "stream-status"])
@pytest.mark.parametrize("signature", [None, "", "AAAA", "ä", "another token", "another account's sub-token"])
async def test_no_route_answers_without_our_signature(server: Server, path: str, signature: str | None) -> None:
    if signature and "token" in signature:
        signature = sign(f"{PUBLIC}/twilio/{path}", FIELDS, signature)
    body = urlencode(FIELDS).encode()
    response = await server.send(f"/twilio/{path}", body, signature)
    assert response.status_code == 403
    assert response.text == "Forbidden"
    assert server.failures("signature_rejected") == 1
    assert server.calls.received == []
    assert server.calls.call.statuses == []


async def test_refusals_are_logged_once_a_second_and_without_caller_data(server: Server, logged: list[str]) -> None:
    for _ in range(20):
        await server.post("/twilio/voice", signature="wrong")
    assert len(logged) == 1
    assert "+1500" not in logged[0]
    assert "/twilio/voice" in logged[0]
    assert server.failures("signature_rejected") == 20


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a" * 70_000, b"&".join([b"a=b"] * 1001)])
async def test_bodies_that_are_no_forms_are_refused(server: Server, body: bytes) -> None:
    signature = sign(PUBLIC + "/twilio/voice", [("a", "b")])
    assert (await server.send("/twilio/voice", body, signature)).status_code == 403


async def test_a_json_body_is_signed_by_its_hash(server: Server) -> None:
    body = json.dumps({"CallSid": CALL, "CallStatus": "completed"}).encode()
    path = f"/twilio/status?bodySHA256={hashlib.sha256(body).hexdigest()}"
    json_type = {"Content_Type": "application/json"}
    assert (await server.send(path, body, sign(PUBLIC + path), **json_type)).status_code == 204
    assert server.calls.call.statuses == [("completed", None)]
    assert (await server.send(path, body + b" ", sign(PUBLIC + path), **json_type)).status_code == 403
    bare = "/twilio/status"
    assert (await server.send(bare, body, sign(PUBLIC + bare), **json_type)).status_code == 403


async def test_without_a_public_url_the_address_as_received_is_signed() -> None:
    server = Server(None)
    response = await server.post("/twilio/voice", signature=sign("http://10.0.0.7:7860/twilio/voice", FIELDS))
    stream = twiml(response).find("Connect/Stream")
    assert stream is not None
    assert stream.get("url") == "wss://10.0.0.7:7860/twilio/media"


@pytest.mark.parametrize("host", ["a:99999999", "a:b", "[::1", ""])
async def test_a_host_header_that_is_no_host_is_refused(host: str) -> None:
    server = Server(None)
    assert (await server.post("/twilio/voice", signature="x", Host=host)).status_code == 403


async def test_an_ipv6_host_keeps_its_brackets() -> None:
    server = Server(None)
    signature = sign("http://[::1]:7860/twilio/voice", FIELDS)
    twiml(await server.post("/twilio/voice", signature=signature, Host="[::1]:7860"))


# -- what the caller gets ---------------------------------------------------------------------------------------------


async def test_a_taken_call_is_connected_to_a_stream(server: Server) -> None:
    root = twiml(await server.post("/twilio/voice"))
    assert [child.tag for child in root] == ["Connect"]
    connect = root[0]
    assert connect.attrib == {"action": f"{PUBLIC}/twilio/after-stream"}
    assert connect[0].attrib == {
        "url": "wss://bot.example.com/twilio/media",
        "statusCallback": f"{PUBLIC}/twilio/stream-status",
    }
    assert connect[0][0].attrib == {"name": "token", "value": "token-1"}


async def test_calls_that_come_together_are_started_one_in_each_turn_of_the_event_loop(server: Server) -> None:
    turn = 0
    turns_of_starts: list[int] = []

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def receive(**facts: str) -> FakeCall:
        turns_of_starts.append(turn)
        return server.calls.call

    server.calls.receive = receive  # type: ignore[method-assign]
    counting = asyncio.create_task(count_turns())
    answers = await asyncio.gather(*(server.post("/twilio/voice") for _ in range(10)))
    counting.cancel()
    assert {answer.status_code for answer in answers} == {200}
    assert len(set(turns_of_starts)) == 10


async def test_a_call_that_cannot_be_taken_hears_why(server: Server) -> None:
    server.calls.refusal = Refusal("refused_busy", "Alle Leitungen sind belegt & <so>.", "de-DE")
    root = twiml(await server.post("/twilio/voice"))
    assert [child.tag for child in root] == ["Say", "Hangup"]
    assert root[0].text == "Alle Leitungen sind belegt & <so>."
    assert root[0].get("language") == "de-DE"


@pytest.mark.parametrize("fields", [[("CallSid", CALL), ("From", "boom")], [("CallSid", "../../etc")], []])
async def test_a_fault_of_ours_is_spoken_and_counted(
    server: Server, fields: list[tuple[str, str]], logged: list[str]
) -> None:
    root = twiml(await server.post("/twilio/voice", fields))
    assert [child.tag for child in root] == ["Say", "Hangup"]
    assert root[0].text == "Something went wrong."
    assert server.failures("webhook_failed") == 1
    assert len(logged) == 1


async def test_withheld_and_missing_numbers_are_passed_on(server: Server) -> None:
    twiml(await server.post("/twilio/voice", [("CallSid", CALL), ("From", "anonymous")]))
    assert server.calls.received[0]["from_number"] == "anonymous"
    assert server.calls.received[0]["to_number"] == ""


async def test_after_the_stream_the_caller_hears_the_last_words(server: Server) -> None:
    root = twiml(await server.post("/twilio/after-stream"))
    assert [child.tag for child in root] == ["Say", "Hangup"]
    assert root[0].text == "Goodbye."
    server.calls.call.next = NextStep("", "hang_up", "en-GB")
    assert [child.tag for child in twiml(await server.post("/twilio/after-stream"))] == ["Hangup"]


async def test_after_a_lost_stream_the_caller_is_connected_again_with_a_new_token(server: Server) -> None:
    server.calls.call.next = NextStep("One moment.", "reconnect", "en-GB")
    server.calls.call.stream_token = "token-2"
    root = twiml(await server.post("/twilio/after-stream"))
    assert [child.tag for child in root] == ["Say", "Connect"]
    assert root[1][0][0].get("value") == "token-2"


async def test_the_stream_of_a_call_that_nobody_knows_ends_in_words(server: Server) -> None:
    root = twiml(await server.post("/twilio/after-stream", [("CallSid", "CA" + "9" * 32)]))
    assert root[0].text == "Something went wrong."


async def test_the_fallback_speaks_and_counts_twilios_error(server: Server) -> None:
    root = twiml(await server.post("/twilio/fallback", [("CallSid", CALL), ("ErrorCode", "11200"), ("ErrorUrl", "x")]))
    assert [child.tag for child in root] == ["Say", "Hangup"]
    assert server.failures("twilio_11200") == 1
    twiml(await server.post("/twilio/fallback", [("CallSid", CALL), ("ErrorCode", "'; drop table")]))
    assert server.failures("twilio_fallback") == 1
    server.calls.call.next = NextStep("", "reconnect", "en-GB")
    assert twiml(await server.post("/twilio/fallback", [("CallSid", CALL)]))[0].tag == "Connect"


async def test_status_callbacks_reach_the_call(server: Server) -> None:
    for status, number in (("in-progress", "2"), ("completed", "3"), ("completed", "x")):
        response = await server.post(
            "/twilio/status", [("CallSid", CALL), ("CallStatus", status), ("SequenceNumber", number)]
        )
        assert response.status_code == 204
    assert server.calls.call.statuses == [("in-progress", 2), ("completed", 3), ("completed", None)]
    unknown = await server.post("/twilio/status", [("CallSid", "CA" + "9" * 32), ("CallStatus", "completed")])
    assert unknown.status_code == 204


async def test_a_stream_that_twilio_could_not_open_is_counted(server: Server) -> None:
    error = [("CallSid", CALL), ("StreamEvent", "stream-error"), ("StreamError", "31920")]
    assert (await server.post("/twilio/stream-status", error)).status_code == 204
    assert (await server.post("/twilio/stream-status", [("StreamEvent", "stream-started")])).status_code == 204
    assert server.calls.call.troubles == [Trouble("stream_error", "carrier", "nothing", "31920")]


async def test_what_fails_for_a_call_is_told_to_it_and_else_counted(server: Server) -> None:
    server.calls.call.next = None  # type: ignore[assignment]
    assert twiml(await server.post("/twilio/after-stream"))[0].text == SORRY.say
    assert server.calls.call.troubles == [Trouble("webhook_failed", "carrier", "sorry_unreachable")]
    assert twiml(await server.post("/twilio/after-stream", [("CallSid", "nobody")]))[0].text == SORRY.say
    assert server.metrics.registry.get_sample_value("switchboard_failures_total", {"kind": "webhook_failed"}) == 1


async def test_each_answer_is_timed(server: Server) -> None:
    await server.post("/twilio/voice")
    assert server.metrics.registry.get_sample_value("switchboard_webhook_seconds_count") == 1


# -- the media socket -------------------------------------------------------------------------------------------------

CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
SOCKET_URL = "wss://bot.example.com/twilio/media"


def start(token: str = "token-1", call_sid: str = CALL, encoding: str = "audio/x-mulaw") -> dict[str, Any]:
    return {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": "MZ1",
        "start": {
            "accountSid": ACCOUNT,
            "streamSid": "MZ1",
            "callSid": call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": encoding, "sampleRate": 8000, "channels": 1},
            "customParameters": {"token": token},
        },
    }


class RealServer(Server):
    """The same behind a real uvicorn."""

    port = 0

    async def run(self) -> AsyncIterator[RealServer]:
        config = uvicorn.Config(
            self.app, port=0, log_level="warning", ws_max_size=1024 * 1024, ws_per_message_deflate=False
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        self.port = server.servers[0].sockets[0].getsockname()[1]
        yield self
        server.should_exit = True
        await task

    def open(self, signature: str | None = "", path: str = "/twilio/media") -> connect:
        headers = {"User-Agent": "Twilio.TmeWs/1.0"}
        if signature is not None:
            headers["X-Twilio-Signature"] = signature or sign(SOCKET_URL)
        return connect(f"ws://127.0.0.1:{self.port}{path}", additional_headers=headers, max_size=2**24)


@pytest.fixture
async def real() -> AsyncIterator[RealServer]:
    async for server in RealServer(start_seconds=0.5).run():
        yield server


async def closing(socket: ClientConnection) -> int:
    """The code with which the server closes."""
    with pytest.raises(ConnectionClosed) as closed:
        async with asyncio.timeout(5):
            await socket.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


async def tell(socket: ClientConnection, *messages: dict[str, Any]) -> None:
    for message in messages:
        await socket.send(json.dumps(message))


STOP = {"event": "stop", "sequenceNumber": "2", "streamSid": "MZ1", "stop": {}}


@pytest.mark.parametrize("signature", [None, "AAAA", sign(SOCKET_URL, (), "another token"), sign(SOCKET_URL + "x")])
async def test_an_upgrade_without_our_signature_is_answered_with_403(real: RealServer, signature: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await real.open(signature)
    assert refused.value.response.status_code == 403
    assert real.failures("signature_rejected") == 1


@pytest.mark.parametrize("url", [SOCKET_URL, "wss://bot.example.com:443/twilio/media"])
async def test_a_signed_stream_with_its_token_is_handed_to_the_call(real: RealServer, url: str) -> None:
    async with real.open(sign(url)) as socket:
        await tell(socket, CONNECTED, start(), STOP)
        assert await closing(socket) == 1000
    (opened,) = real.calls.call.opened
    assert [json.loads(message)["event"] for message in opened.messages] == ["connected", "start"]
    assert opened.started.call_sid == CALL
    assert real.calls.call.heard[-1] == "Stopped"


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (start(token="wrong"), "bad_token"),
        (start(token=""), "bad_token"),
        (start(call_sid="CA" + "9" * 32), "unknown_call"),
        (start(encoding="audio/x-l16"), "media_format"),
    ],
)
async def test_a_stream_that_shows_the_wrong_thing_is_closed(real: RealServer, first: Any, kind: str) -> None:
    async with real.open() as socket:
        await tell(socket, CONNECTED, first)
        assert await closing(socket) == 1008
    assert real.failures(f"stream_{kind}") == 1
    assert real.calls.call.opened == []


async def test_a_token_opens_one_stream_only(real: RealServer) -> None:
    async with real.open() as first, real.open() as second:
        await tell(first, CONNECTED, start())
        while not real.calls.call.opened:
            await asyncio.sleep(0.01)
        await tell(second, CONNECTED, start())
        assert await closing(second) == 1008
        await tell(first, STOP)
        assert await closing(first) == 1000
    assert real.failures("stream_bad_token") == 1
    assert len(real.calls.call.opened) == 1


async def test_a_socket_that_does_not_start_in_time_is_closed(real: RealServer) -> None:
    async with real.open() as socket:
        await tell(socket, CONNECTED)
        assert await closing(socket) == 1008
    assert real.failures("stream_no_start") == 1


async def test_a_socket_that_talks_without_starting_is_closed(real: RealServer) -> None:
    async with real.open() as socket:
        await tell(socket, *[CONNECTED] * 60)
        assert await closing(socket) == 1008
    assert real.failures("stream_no_start") == 1


async def test_a_peer_that_leaves_before_the_start_is_counted(real: RealServer) -> None:
    async with real.open() as socket:
        await tell(socket, CONNECTED)
    async with asyncio.timeout(5):
        while not real.failures("stream_no_start"):
            await asyncio.sleep(0.01)


async def test_rubbish_before_the_start_is_survived_and_handed_on(real: RealServer) -> None:
    async with real.open() as socket:
        await socket.send("not json")
        await socket.send(b"\x00\x01")
        await socket.send("x" * 1_000_000)
        await tell(socket, {"event": "surprise"}, start(), STOP)
        assert await closing(socket) == 1000
    (opened,) = real.calls.call.opened
    assert dict(opened.stream.problems) == {"not_json": 1, "binary": 1, "oversized": 1, "misplaced": 1}


async def test_a_fault_of_ours_closes_the_stream_so_that_twilio_asks_what_is_next(
    real: RealServer, logged: list[str]
) -> None:
    real.calls.call.fails = True
    async with real.open() as socket:
        await tell(socket, CONNECTED, start())
        assert await closing(socket) == 1011
    assert real.failures("stream_failed") == 1
