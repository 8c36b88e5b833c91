"""Whole calls of the stand-in phone to a small server, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import pytest

from sandbox import sound
from sandbox.conversation import Conversation, Habits, Turn
from sandbox.twilio import Phone
from sandbox.twilio.line import Line, Pace

PUBLIC = "https://bot.example.com"
HELLO = sound.tone((440,), 600)


@pytest.fixture
def phone(account: tuple[str, str], voice: Any) -> Phone:
    return Phone(*account, public_url=PUBLIC, voice=voice)


def beep(times: int = 1) -> bytes:
    return sound.tone((700,), 300 * times)


STAYING = Habits(stays=True)


async def test_a_call_is_answered_heard_and_ended_by_the_caller(phone: Phone, server: Any) -> None:
    async def stream(sock: Any) -> None:
        await sock.begin()
        await sock.say(HELLO, mark="greeting")
        await sock.until("mark")
        await sock.drain()

    server.pages["/voice"] = server.connect(inner='<Parameter name="token" value="t0p"/>')
    server.stream = stream
    caller = Conversation([Turn(play=beep()), Turn(hang_up=True, at_once=True)], Habits(end_ms=300))
    record = await phone.call(f"{server.url}/voice", caller=caller)

    assert record.ended_by == "caller hung up"
    assert record.status == "completed"
    assert record.problems() == []
    assert [str(verb.name) for verb in record.trace] == ["Connect"]
    (got,) = server.at("/voice")
    assert got.signed
    assert got.form["CallStatus"] == "ringing"
    (sock,) = server.sockets
    assert sock.signed
    assert sock.start["callSid"] == record.call_sid
    assert sock.start["customParameters"] == {"token": "t0p"}
    assert sock.messages[-1]["event"] == "stop"
    frames = [base64.b64decode(message["media"]["payload"]) for message in sock.of("media")]
    assert {len(frame) for frame in frames} == {160}
    assert b"".join(frames) in record.said
    assert beep() in b"".join(frames)
    assert HELLO in record.heard
    assert record.streams[0].stream.marks[0].name == "greeting"
    assert record.streams[0].stream.underruns == 0
    assert len(record.said) == len(record.heard)


async def test_the_upgrade_looks_like_twilios(phone: Phone, server: Any) -> None:
    async def stream(sock: Any) -> None:
        await sock.begin()

    server.pages["/voice"] = server.connect()
    server.stream = stream
    await phone.call(f"{server.url}/voice", caller=Conversation(habits=STAYING))
    headers = server.sockets[0].web.headers
    assert headers["user-agent"] == "Twilio.TmeWs/1.0"
    assert headers["host"] == "bot.example.com"
    assert headers["x-forwarded-proto"] == "https"
    assert "origin" not in headers
    assert "sec-websocket-protocol" not in headers
    assert "sec-websocket-extensions" not in headers


async def test_frames_keep_a_monotonic_schedule(phone: Phone, server: Any) -> None:
    arrived = []

    async def stream(sock: Any) -> None:
        await sock.begin()
        loop = asyncio.get_running_loop()
        while len(arrived) < 100:
            message = await sock.until("media")
            arrived.append((loop.time(), int(message["media"]["timestamp"]), int(message["media"]["chunk"])))

    server.pages["/voice"] = server.connect()
    server.stream = stream
    await phone.call(f"{server.url}/voice", caller=Conversation(habits=STAYING))
    assert [chunk for _, _, chunk in arrived] == list(range(1, 101))
    assert [stamp for _, stamp, _ in arrived] == list(range(arrived[0][1], arrived[0][1] + 2000, 20))
    # No drift: 99 frames later it is 1980 ms later, give or take one stall of a busy machine.
    assert abs((arrived[-1][0] - arrived[0][0]) - 1.98) < 0.5


async def test_a_quiet_caller_sends_mulaw_silence(phone: Phone, server: Any) -> None:
    async def stream(sock: Any) -> None:
        await sock.begin()
        for _ in range(10):
            await sock.until("media")

    server.pages["/voice"] = server.connect()
    server.stream = stream
    await phone.call(f"{server.url}/voice", caller=Conversation(habits=STAYING))
    payloads = {message["media"]["payload"] for message in server.sockets[0].of("media")}
    assert payloads == {base64.b64encode(b"\xff" * 160).decode()}


async def test_after_a_stall_the_missing_frames_follow_in_a_burst() -> None:
    line = Line(Conversation(habits=STAYING), Pace())
    loop = asyncio.get_running_loop()
    async with line.up():
        started = loop.time()
        await asyncio.sleep(0.2)
        time.sleep(0.5)  # noqa: ASYNC251 the stall
        stalled_ms = line.now_ms
        await asyncio.sleep(0.1)
        elapsed_ms = (loop.time() - started) * 1000
    assert stalled_ms <= 220
    assert line.late_ms >= 400
    assert elapsed_ms - 60 <= line.now_ms <= elapsed_ms + 60


async def test_the_caller_may_hang_up_while_the_bot_speaks(phone: Phone, server: Any) -> None:
    async def stream(sock: Any) -> None:
        await sock.begin()
        await sock.say(HELLO * 20, mark="never heard")
        await sock.drain()

    server.pages["/voice"] = server.connect(action=f"{PUBLIC}/after")
    server.stream = stream
    caller = Conversation([Turn(pause_ms=600), Turn(hang_up=True, at_once=True)])
    record = await phone.call(f"{server.url}/voice", caller=caller)
    assert record.ended_by == "caller hung up"
    assert server.sockets[0].messages[-1]["event"] == "stop"
    assert server.at("/after") == []
    assert record.streams[0].stream.marks == []
    assert record.streams[0].stream.buffered_ms > 10_000
    assert record.errors == []


async def test_a_server_that_closes_leads_to_the_action(phone: Phone, server: Any) -> None:
    async def stream(sock: Any) -> None:
        await sock.begin()
        await sock.web.close()

    server.pages |= {
        "/voice": server.connect(action=f"{PUBLIC}/after", after="<Say>never reached</Say>"),
        "/after": "<Response><Say>Goodbye</Say><Hangup/></Response>",
    }
    server.stream = stream
    record = await phone.call(f"{server.url}/voice", caller=Conversation(habits=STAYING))
    assert [error.code for error in record.errors] == [31921]
    assert [text for _, text in record.announcements] == ["Goodbye"]
    assert record.interpreter.executed == ["Connect/Stream", "Say", "Hangup"]
    assert record.ended_by == "<Hangup>"
    assert server.at("/after")[0].form["CallStatus"] == "in-progress"
    assert server.at("/after")[0].signed


async def test_without_an_action_the_next_verb_follows(phone: Phone, server: Any) -> None:
    async def stream(sock: Any) -> None:
        await sock.begin()
        await sock.web.close()

    server.pages["/voice"] = server.connect(after="<Say>Sorry</Say>")
    server.stream = stream
    record = await phone.call(f"{server.url}/voice", caller=Conversation(habits=STAYING))
    assert [text for _, text in record.announcements] == ["Sorry"]
    assert record.ended_by == "document ended"


async def test_what_is_said_by_twiml_is_heard(phone: Phone, server: Any, voice: Any) -> None:
    server.pages["/voice"] = "<Response><Say>We are closed</Say></Response>"
    record = await phone.call(f"{server.url}/voice")
    assert sound.from_pcm(voice.speak("We are closed", rate=8000), 8000) in record.heard
    assert record.streams == []
    assert not record.stream_heard


async def test_rest_redirects_a_call_in_mid_stream(phone: Phone, server: Any) -> None:
    playing = asyncio.Event()

    async def stream(sock: Any) -> None:
        await sock.begin()
        await sock.say(HELLO * 100)
        playing.set()
        await sock.drain()

    server.pages["/voice"] = server.connect(action=f"{PUBLIC}/after")
    server.stream = stream
    call = phone.dial(f"{server.url}/voice", caller=Conversation(habits=STAYING))
    running = asyncio.create_task(call.run())
    await playing.wait()
    call.update(twiml="<Response><Say>Somebody else</Say></Response>")
    record = await running
    assert server.sockets[0].messages[-1]["event"] == "stop"
    assert record.interpreter.executed == ["Connect/Stream", "Say"]
    assert server.at("/after") == []
    assert record.errors == []


async def test_rest_ends_a_call_and_the_callback_says_so(phone: Phone, server: Any) -> None:
    async def stream(sock: Any) -> None:
        await sock.begin()
        call.update(status="completed")
        await sock.drain()

    server.pages |= {"/voice": server.connect(), "/status": "<Response/>"}
    server.stream = stream
    call = phone.dial(f"{server.url}/voice", caller=Conversation(habits=STAYING), status_callback=f"{PUBLIC}/status")
    record = await call.run()
    assert record.ended_by == "ended by REST"
    (callback,) = server.at("/status")
    assert callback.signed
    assert callback.form["CallStatus"] == "completed"
    assert int(callback.form["CallDuration"]) == record.duration_seconds
    assert server.sockets[0].messages[-1]["event"] == "stop"


async def test_a_call_can_run_faster_than_real_time(account: tuple[str, str], voice: Any, server: Any) -> None:
    server.pages["/voice"] = '<Response><Pause length="30"/><Say>Hello</Say></Response>'
    started = asyncio.get_running_loop().time()
    record = await Phone(*account, public_url=PUBLIC, voice=voice, pace=Pace(100)).call(f"{server.url}/voice")
    assert asyncio.get_running_loop().time() - started < 10
    assert record.announcements[0][1] == "Hello"
