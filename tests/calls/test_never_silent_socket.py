"""What a caller hears when a media socket breaks a rule, or we do. docs/runbook.md lists these tests by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, get_args

import httpx
import pytest
from fakes.events import said, troubles
from fakes.gemini import END_CALL, ListedMind

from bot.carriers.media_socket import MediaSocket
from bot.carriers.media_stream import MAX_MESSAGE, ProblemKind
from bot.carriers.twilio import SignatureCheck
from bot.errors import SignatureRejected
from bot.tape import TapeReader
from sandbox.conversation import Habits, Turn
from sandbox.twilio.media import MediaStream
from sandbox.twilio.record import CallRecord
from sandbox.twilio.stream import Faults as LineFaults
from sandbox.twilio.stream import StreamSocket
from sandbox.twilio.webhook import Signer

Say = Callable[..., Turn]
PATIENT = Habits(end_ms=1500, stays=True, hello_ms=30_000)
CARRIERS_WORDS = "We are sorry, an application error has occurred. Goodbye."


def mind() -> ListedMind:
    return ListedMind("This is the first answer.", END_CALL, "Good bye to you.")


def once(first: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """`first` once, and `then` ever after."""
    todo = iter([first])
    return lambda *args, **options: next(todo, then)(*args, **options)


async def fail(*_: Any) -> None:
    raise RuntimeError("a fault of ours")


async def after_the_answer(site: Any, call: Any, then: Callable[[], Awaitable[None]]) -> CallRecord:
    """The call, in which `then` is done when the opening was heard."""
    caller = asyncio.create_task(call.run())
    while not site.of("bot_stopped_speaking"):
        await asyncio.sleep(0.02)
    await then()
    return await caller


# -- the line ---------------------------------------------------------------------------------------------------------


async def test_a_line_that_takes_nothing_is_given_up(open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.call.REJOIN_SECONDS", 1.0)
    monkeypatch.setattr("bot.call.START_SECONDS", 0.0)
    monkeypatch.setattr("bot.carriers.media_socket.STUCK_SECONDS", 0.5)
    async with open_site(ListedMind(" ".join(["word"] * 250)), send_buffer=4096) as site:
        site.phone.faults = LineFaults(deaf_after_ms=500)
        call = site.dial(say())
        caller = asyncio.create_task(call.run())
        while not site.of("call_ended"):
            await asyncio.sleep(0.05)
        call.hang_up()
        record = await caller
        events = await site.tape_of(record.call_sid)
    assert troubles(events) == ["carrier_stuck", "bot_audio_dropped", "stream_lost"]
    assert [event.how for event in events if event.kind == "stream_stopped"] == ["lost"]
    assert events[-1].reason == "stream_lost"


async def test_what_the_bot_says_while_the_line_is_away_is_lost_and_told(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_stream = StreamSocket.open

    async def late(*args: Any) -> None:
        await asyncio.sleep(0.3)
        await open_stream(*args)

    monkeypatch.setattr(StreamSocket, "open", once(open_stream, late))
    words = " ".join(["word"] * 60)
    async with open_site(ListedMind(words, END_CALL, "Good bye to you.")) as site:
        call = site.dial(say(), say(), habits=PATIENT)
        caller = asyncio.create_task(call.run())
        while len(site.of("bot_started_speaking")) < 2:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        call.line.stream._socket.transport.abort()
        record = await caller
        events = await site.tape_of(record.call_sid)
    assert troubles(events) == ["bot_audio_dropped"]
    assert said(events)[-1] == "Good bye to you."
    assert any(event.heard < 1.0 for event in events if event.kind == "bot_said")
    assert events[-1].reason == "goodbye"


def spoilt(stream: MediaStream) -> list[str | bytes]:
    """A message of each kind that cannot be used while a stream is open; its numbers begin a new count and end it."""

    def message(event: str, content: Any, sequence: str, sid: str = stream.stream_sid) -> str:
        return json.dumps({"event": event, "sequenceNumber": sequence, "streamSid": sid, event: content})

    def audio(chunk: str, payload: str = "/w==", track: str = "inbound", timestamp: str = "1") -> Any:
        return {"track": track, "chunk": chunk, "payload": payload, "timestamp": timestamp}

    return [
        b"\x00" * 10,
        "x" * (MAX_MESSAGE + 1),
        "garbage",
        "[]",
        stream.start(),
        message("dtmf", {"digit": "1"}, "1", "MZ of another"),
        message("mark", {"name": "nobody waits for it"}, "900000"),
        message("applause", {}, "900001"),
        message("media", audio("900000", track="outbound"), "900002"),
        message("media", audio("900000", payload="*"), "900003"),
        message("media", audio("900000"), "900006"),
        message("media", audio("900000"), "900006"),
        message("media", audio("900002"), "900008"),
        message("dtmf", {"digit": "Z"}, "900009"),
    ]


async def test_messages_that_cannot_be_used_are_told_and_the_conversation_goes_on(open_site: Any, say: Say) -> None:
    """One of each kind; only another format than mu-law cannot come up once a stream is open."""
    async with open_site(mind()) as site:
        call = site.dial(say(), say(), habits=PATIENT)

        async def send() -> None:
            stream = call.line.stream
            for message in spoilt(stream.stream):
                await stream._socket.send(message)

        record = await after_the_answer(site, call, send)
        events = await site.tape_of(record.call_sid)
        metrics = await site.metrics()
        tape = {data.data for data in TapeReader(site.call(record.call_sid).tape_path) if data.channel == "carrier.in"}
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]
    assert set(troubles(events)) == {f"carrier_{kind}" for kind in get_args(ProblemKind)} - {"carrier_media_format"}
    assert len(troubles(events)) == len(set(troubles(events)))
    assert 'switchboard_carrier_messages_bad_total{kind="not_json"} 2.0' in metrics
    assert b"garbage" in tape
    assert events[-1].reason == "goodbye"


# -- sockets that may not be opened -----------------------------------------------------------------------------------


async def stranger(site: Any, *messages: str) -> int:
    """A signed media socket that says this; the code with which it is closed."""
    url = f"{site.url}/twilio/media"
    webhooks = site.phone.webhooks(url)
    media = MediaStream(stream_sid="MZ0", call_sid="CA0", account_sid="AC0")
    socket = StreamSocket(media, LineFaults(never_start=True))
    await socket.open("wss" + url.removeprefix("http"), webhooks.route, webhooks.signer)
    for message in messages:
        await socket._socket.send(message)
    async with asyncio.timeout(8):
        end = await socket.ended
    await socket.close()
    await webhooks.aclose()
    return end.close_code


def start_for(call_sid: str, token: str = "made up", encoding: str = "audio/x-mulaw") -> str:
    stream = MediaStream(stream_sid="MZ0", call_sid=call_sid, account_sid="AC0", parameters={"token": token})
    return stream.start().replace("audio/x-mulaw", encoding)


async def test_sockets_that_may_not_be_opened_are_closed_and_harm_no_call(open_site: Any, say: Say) -> None:
    codes = []
    async with open_site(mind()) as site:
        call = site.dial(say(), say(), habits=PATIENT)

        async def knock() -> None:
            codes.append(await stranger(site, start_for("CA" + "9" * 32)))
            codes.append(await stranger(site, start_for(call.sid, encoding="audio/x-l16")))
            codes.append(await stranger(site, *["{}"] * 60))
            codes.append(await stranger(site, start_for(call.sid)))

        record = await after_the_answer(site, call, knock)
        events = await site.tape_of(record.call_sid)
        codes.append(await stranger(site, start_for(call.sid)))
        failures = site.failures()
    assert codes == [1008] * 5
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]
    kinds = ("unknown_call", "media_format", "no_start", "second_stream", "call_over")
    assert failures == {f"stream_{kind}": 1 for kind in kinds}
    # Whose it is, is known of the second stream, and of the last one when the tape was closed.
    assert troubles(events) == ["stream_second_stream"]
    assert events[-1].reason == "goodbye"


async def test_a_socket_without_the_calls_token_is_closed_and_leaves_the_call_to_its_own(open_site: Any) -> None:
    async with open_site() as site:
        site.phone.faults = LineFaults(never_start=True)
        call = site.dial()
        caller = asyncio.create_task(call.run())
        while not call.line.stream:
            await asyncio.sleep(0.02)
        code = await stranger(site, start_for(call.sid))
        assert site.call(call.sid).reason is None
        call.hang_up()
        record = await caller
        events = await site.tape_of(record.call_sid)
    assert code == 1008
    assert troubles(events) == ["stream_bad_token"]
    assert events[-1].reason == "caller_hung_up"


# -- signatures, and what the carrier makes of our answers ------------------------------------------------------------


async def test_a_call_that_is_not_signed_as_ours_hears_the_carriers_words(open_site: Any) -> None:
    async with open_site() as site:
        site.phone.signer = Signer("the token of another account")
        record = await site.ring()
        failures = site.failures()
    assert [text for _, text in record.announcements] == [CARRIERS_WORDS]
    assert set(failures) == {"signature_rejected"}
    assert site.events == []


async def test_a_stream_that_cannot_be_opened_is_opened_again(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise SignatureRejected("The signature is missing or wrong.")

    monkeypatch.setattr(SignatureCheck, "upgrade", once(refuse, SignatureCheck.upgrade))
    async with open_site(mind()) as site:
        record = await site.ring(say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]
    assert troubles(events) == ["stream_error"]
    assert failures == {"signature_rejected": 1, "stream_error": 1}
    assert events[-1].reason == "goodbye"


async def test_a_stream_that_fails_by_a_fault_of_ours_is_opened_again(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MediaSocket, "_read", once(fail, MediaSocket._read))
    async with open_site(mind()) as site:
        record = await site.ring(say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
    assert said(events)[-2:] == ["This is the first answer.", "Good bye to you."]
    assert "stream_failed" in troubles(events)
    assert len(record.streams) == 2
    assert events[-1].reason == "goodbye"


async def test_a_stream_that_fails_by_a_fault_of_ours_and_stays_away_is_not_waited_for(
    open_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.call.REJOIN_SECONDS", 0.5)
    monkeypatch.setattr(MediaSocket, "_read", once(fail, MediaSocket._read))
    async with open_site() as site:
        site.app.state.calls.claim_stream = once(site.app.state.calls.claim_stream, lambda *_: 1 / 0)
        async with asyncio.timeout(20):
            record = await site.ring()
        events = await site.tape_of(record.call_sid)
    assert [text for _, text in record.announcements] == [site.flow.phrases.sorry_lost]
    assert events[-1].reason == "stream_lost"


async def test_an_answer_that_cannot_be_used_when_a_stream_broke_leads_on_all_the_same(
    open_site: Any, say: Say
) -> None:
    async with open_site(mind()) as site:
        call = site.dial(say(), say(), habits=PATIENT)

        async def cut() -> None:
            live = site.call(call.sid)
            live.after_stream = once(lambda: replace(type(live).after_stream(live), say="\x00"), live.after_stream)
            call.line.stream._socket.transport.abort()

        record = await after_the_answer(site, call, cut)
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert said(events)[-2:] == ["This is the first answer.", "Good bye to you."]
    assert troubles(events) == ["twilio_12100"]
    assert failures == {"twilio_12100": 1}
    assert events[-1].reason == "goodbye"


async def test_a_fallback_that_names_no_error_is_on_the_tape_and_leads_on(open_site: Any, say: Say) -> None:
    """The stand-in always names one: this fallback is asked for by hand."""
    async with open_site(mind()) as site:
        call = site.dial(say(), say(), habits=PATIENT)

        async def fall_back() -> None:
            url, fields = f"{site.url}/twilio/fallback", [("CallSid", call.sid)]
            headers = site.phone.webhooks(url).signer.headers(url, fields)
            async with httpx.AsyncClient() as client:
                answer = await client.post(url, data=dict(fields), headers=headers)
            assert "<Connect" in answer.text

        record = await after_the_answer(site, call, fall_back)
        events = await site.tape_of(record.call_sid)
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]
    assert troubles(events) == ["twilio_fallback"]
    assert events[-1].reason == "goodbye"
