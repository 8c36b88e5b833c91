"""Whole calls between the stand-in carrier and our carrier side, over real sockets; neither finds fault."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect

from bot.audio import pcm_to_ulaw
from bot.carriers import NextStep, OpenStream, media_socket
from bot.carriers.call_status import CallStatus
from bot.carriers.media_socket import MediaSocket
from bot.carriers.media_stream import MediaStream
from bot.carriers.twilio import CarrierRest
from bot.carriers.webhooks import twilio_router
from bot.errors import CarrierUnreachable, StreamRejected
from bot.events import BargeIn, BotStoppedSpeaking, CallEvent, KeyPressed, StreamStopped, Trouble
from bot.metrics import Metrics
from bot.ports import SystemClock
from bot.settings import Settings
from bot.turns import Turns
from sandbox import twilio as network
from sandbox.conversation import Conversation, Habits, Turn

ACCOUNT = "AC" + "1" * 32
TOKEN = "a-token-of-the-sandbox"
PUBLIC = "https://bot.example.com"
TONE = pcm_to_ulaw(array("h", [int(9000 * math.sin(2 * math.pi * 400 * n / 8000)) for n in range(8000)]).tobytes())


class ToneVoice:
    """Speaks every text as a tone of 300 ms."""

    def speak(self, text: str, *, rate: int = 24000) -> bytes:
        return array("h", [int(9000 * math.sin(n / 4)) for n in range(rate * 3 // 10)]).tobytes()


class LineCall:
    """A call that says one second of tone on each stream, and hangs up when all of it was heard on the last."""

    def __init__(self, call_sid: str, office: Office) -> None:
        self.call_sid = call_sid
        self.events: list[CallEvent] = []
        self.status = CallStatus()
        self.streams = 0
        self._office = office
        self._token = ""
        self.socket = MediaSocket(
            SystemClock(), Turns(self.events.append), Metrics(), lambda channel, data: None, self.record
        )

    def record(self, event: CallEvent) -> None:
        self.events.append(event)

    @property
    def stream_token(self) -> str:
        self._token = f"token-{self.streams}"
        return self._token

    def claim(self, token: str) -> None:
        if token != self._token:
            raise StreamRejected("token", "wrong or used")
        self._token = ""

    def carrier_failed(self, trouble: Trouble) -> None:
        self.record(trouble)

    async def serve_stream(self, opened: OpenStream) -> None:
        self.streams += 1
        self.socket.attach(opened)
        speaking = asyncio.create_task(self._speak(opened.websocket))
        await self.socket.serve()
        await speaking

    async def _speak(self, websocket: WebSocket) -> None:
        for start in range(0, len(TONE), 320):
            await self.socket.play(TONE[start : start + 320])
        if self._office.clears:
            await asyncio.sleep(0.5)
            await self.socket.clear()
        await self.socket.end_turn()
        if self.streams < self._office.streams:
            await websocket.close(1011)  # the stream breaks under everybody's hands
            return
        async with asyncio.timeout(10):
            while not any(isinstance(event, BotStoppedSpeaking | BargeIn) for event in self.events):
                await asyncio.sleep(0.01)
        try:
            await self._office.rest.hang_up(self.call_sid)
        except CarrierUnreachable:
            await self.socket.close()

    def after_stream(self) -> NextStep:
        return NextStep("", "reconnect" if self.streams < self._office.streams else "hang_up", "en-US")

    def carrier_status(self, status: str, sequence: int | None) -> None:
        self.status.advance(status, sequence)

    def of(self, kind: type[CallEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Office:
    """All calls, the server they come to, and the stand-in network."""

    rest: CarrierRest
    exchange: network.Exchange
    url: str = ""
    streams: int = 1
    clears: bool = False

    def __post_init__(self) -> None:
        self.calls: dict[str, LineCall] = {}

    def receive(self, *, call_sid: str, **_: str) -> LineCall:
        return self.calls.setdefault(call_sid, LineCall(call_sid, self))

    def get(self, call_sid: str) -> LineCall | None:
        return self.calls.get(call_sid)

    def claim_stream(self, call_sid: str, token: str) -> LineCall:
        call = self.calls[call_sid]
        call.claim(token)
        return call

    async def phoned(self, *turns: Turn, **faults: Any) -> tuple[LineCall, network.CallRecord]:
        """Place one call and wait for its end."""
        phone = self.exchange.phone
        assert phone is not None
        phone.faults = network.Faults(**faults)
        async with asyncio.timeout(30):
            record = await phone.call(
                f"{self.url}/twilio/voice",
                caller=Conversation(turns, Habits(hello_ms=60_000, linger_ms=300, stays=True)),
                status_callback=f"{PUBLIC}/twilio/status",
                status_callback_events=("initiated", "ringing", "answered", "completed"),
            )
        (call,) = self.calls.values()
        return call, record


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The app behind a real uvicorn, set up as `twilio_router` says; gives its URL."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", ws_max_size=2**20, ws_per_message_deflate=False)
    )
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    phone = network.Phone(ACCOUNT, TOKEN, public_url=PUBLIC, voice=ToneVoice())
    async with network.Exchange(ACCOUNT, TOKEN, phone=phone) as exchange:
        settings = Settings(
            _env_file=None,
            twilio_account_sid=ACCOUNT,
            twilio_auth_token=TOKEN,
            twilio_api_base_url=exchange.api_base_url,
            public_url=PUBLIC,
        )  # type: ignore[call-arg]
        office = Office(CarrierRest(settings, SystemClock()), exchange)
        app = FastAPI()
        sorry = NextStep("Something went wrong.", "hang_up", "en-US")
        app.include_router(twilio_router(office, settings, Metrics(), SystemClock(), sorry=sorry))
        async with serving(app) as office.url:
            yield office
        await office.rest.close()


async def test_a_call_is_answered_heard_to_its_end_and_hung_up(office: Office) -> None:
    call, record = await office.phoned()
    assert record.problems() == []
    assert record.status == "completed"
    assert [order.method for order in office.exchange.orders] == ["POST"]
    (stream,) = record.streams
    marks = stream.stream.marks
    assert [mark.name for mark in marks] == [*(f"turn:0:{n}" for n in range(1, len(marks))), "turn:0:end"]
    assert not any(mark.cleared for mark in marks)
    assert call.socket.playout.heard_ms == 1000
    assert call.of(StreamStopped) == [StreamStopped("stop")]
    assert call.of(Trouble) == []
    assert call.status.status == "completed"
    assert TONE[800:7200] in record.heard


async def test_keys_and_a_barge_in(office: Office) -> None:
    office.clears = True
    call, record = await office.phoned(Turn(press="5#", at_once=True))
    assert record.problems() == []
    assert call.of(KeyPressed) == [KeyPressed("5"), KeyPressed("#")]
    (cut,) = call.of(BargeIn)
    assert cut.cleared_ms >= 400
    assert 0 < call.socket.playout.heard_ms < 1000
    assert any(mark.cleared for mark in record.streams[0].stream.marks)


@pytest.mark.parametrize("callbacks", ["reordered", "duplicated"])
async def test_status_callbacks_in_any_order_end_the_call_once(office: Office, callbacks: str) -> None:
    call, _ = await office.phoned(callbacks=callbacks)
    assert call.status.status == "completed"


async def test_a_second_socket_for_the_call_is_refused(office: Office) -> None:
    call, record = await office.phoned(second_socket=True)
    assert record.streams[0].second_close_code == 1008
    assert call.streams == 1
    assert call.socket.playout.heard_ms == 1000


async def test_jitter_bursts_and_loss_are_lived_through(office: Office) -> None:
    call, record = await office.phoned(jitter_ms=60, burst_ms=200, loss=0.05)
    assert record.problems() == []
    assert {event.failure for event in call.of(Trouble)} <= {"carrier_gap"}
    assert call.socket.playout.heard_ms == 1000


async def test_a_stream_that_breaks_is_followed_by_another_on_the_same_call(office: Office) -> None:
    office.streams = 2
    call, record = await office.phoned()
    assert call.streams == len(record.streams) == 2
    assert call.of(StreamStopped) == [StreamStopped("lost"), StreamStopped("stop")]
    assert [verb.name for verb in record.trace] == ["Connect", "Connect"]
    marks = record.streams[1].stream.marks
    assert marks[-1].name.endswith(":end")
    assert not any(mark.cleared for mark in marks)
    assert record.status == "completed"


async def test_a_hang_up_that_is_refused_ends_the_call_by_the_socket(office: Office) -> None:
    office.exchange.faults = [network.RestFault(path="Calls", method="POST", times=9, refuse=(403, 20003))]
    call, record = await office.phoned()
    assert record.status == "completed"
    assert call.of(StreamStopped) == [StreamStopped("closed")]
    assert [verb.name for verb in record.trace] == ["Connect", "Hangup"]


async def test_a_real_peer_that_stops_reading_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_socket, "STUCK_SECONDS", 0.5)
    events: list[CallEvent] = []
    line = MediaSocket(SystemClock(), Turns(events.append), Metrics(), lambda channel, data: None, events.append)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    app = FastAPI()

    @app.websocket("/media")
    async def media(websocket: WebSocket) -> None:
        await websocket.accept()
        stream = MediaStream()
        stream.receive(await websocket.receive_text())
        assert stream.started is not None
        line.attach(OpenStream(websocket, stream, stream.started, (), ()))
        ended.set_result(await line.serve())

    start = network.media.MediaStream(stream_sid="MZ1", call_sid="CA1", account_sid=ACCOUNT).start()
    async with (
        serving(app) as url,
        connect(url.replace("http", "ws") + "/media", compression=None, close_timeout=0.1, max_queue=1) as peer,
    ):
        await peer.send(start)
        while not line.attached:
            await asyncio.sleep(0.01)
        peer.transport.pause_reading()
        async with asyncio.timeout(20):
            while line.attached:
                await line.play(b"\x55" * 8000)
                await asyncio.sleep(0)
            assert await ended == "lost"
        peer.transport.abort()
    failures = [event.failure for event in events if isinstance(event, Trouble)]
    assert failures[0] == "carrier_stuck"
