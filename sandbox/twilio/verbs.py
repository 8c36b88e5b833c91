"""The TwiML verbs: what each does to a running call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from sandbox.twilio import sound, twiml
from sandbox.twilio.line import Input
from sandbox.twilio.media import MediaStream
from sandbox.twilio.record import StreamRecord, new_sid
from sandbox.twilio.stream import StreamFailed, StreamSocket
from sandbox.twilio.twiml import TwimlError, Verb

if TYPE_CHECKING:
    from sandbox.twilio.phone import LiveCall


@dataclass(frozen=True)
class Next:
    """Go on with the next verb of the document."""


@dataclass(frozen=True)
class Fetch:
    """Ask `url` for another document, with these fields added."""

    url: str
    fields: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


@dataclass(frozen=True)
class Run:
    """Go on with this document."""

    document: str


@dataclass(frozen=True)
class End:
    """The call is over; `status` is its final one."""

    reason: str
    status: str = "completed"


Outcome = Next | Fetch | Run | End


@dataclass(frozen=True)
class Callee:
    """Somebody whom a call can be connected to, and what they do.

    After `rings_ms` they do what `outcome` says (a DialCallStatus: completed means that they answer); they say `says`
    and hang up after `talks_ms`. Asked by a whisper's `<Gather>`, they press `presses`.
    """

    outcome: str = "completed"
    rings_ms: int = 1000
    talks_ms: int = 2000
    says: str = "Hello, how can I help you?"
    presses: str = "1"


async def execute(call: LiveCall, verb: Verb) -> Outcome:
    """Do what a verb says; TwiML that cannot be executed is noted, and the next verb follows."""
    if verb.name not in ("Reject", "Pause", "Redirect"):
        await call.answer()
    call.event("twiml", call.interpreter.executed[-1])
    try:
        return await _VERBS[verb.name](call, verb)
    except TwimlError as problem:
        call.notice(problem.code, problem.text)
        return Next()


async def _say(call: LiveCall, verb: Verb) -> Outcome:
    for _ in range(int(verb.number("loop", 1)) or 1000):
        await call.announce(verb.text)
    return Next()


async def _play(call: LiveCall, verb: Verb) -> Outcome:
    if "digits" in verb.attributes:
        await call.line.play(sound.dtmf(verb.get("digits")))
        return Next()
    sent = await call.webhooks.request(urljoin(call.url, verb.text), {}, method="GET")
    if sent.error:
        raise TwimlError(11200, f"<Play> {sent.error}")
    try:
        audio = await asyncio.to_thread(sound.load, sent.body)
    except ValueError as problem:
        raise TwimlError(12300, f"<Play> {problem}") from None
    for _ in range(int(verb.number("loop", 1)) or 1000):
        await call.line.play(audio)
    return Next()


async def _pause(call: LiveCall, verb: Verb) -> Outcome:
    await call.phone.pace.sleep(verb.number("length", 1))
    return Next()


async def _redirect(call: LiveCall, verb: Verb) -> Outcome:
    return Fetch(verb.text, {}, verb.get("method", "POST"))


async def _hangup(call: LiveCall, verb: Verb) -> Outcome:
    return End("<Hangup>")


async def _reject(call: LiveCall, verb: Verb) -> Outcome:
    if call.record.answered:
        return End("<Reject> after the answer")
    return End("<Reject>", "busy" if verb.get("reason") == "busy" else "failed")


def _action(verb: Verb, fields: dict[str, str]) -> Outcome:
    """A verb with an `action` ends with a request to it, one without with the next verb."""
    return Fetch(verb.get("action"), fields, verb.get("method", "POST")) if verb.get("action") else Next()


# Gather


async def _gather(call: LiveCall, verb: Verb) -> Outcome:
    call.line.forget_inputs()
    collected = await _collect(call, verb, asyncio.create_task(_prompts(call, verb)))
    if not collected and verb.get("actionOnEmptyResult") != "true":
        return Next()
    return Fetch(verb.get("action") or call.url, collected, verb.get("method", "POST"))


async def _prompts(call: LiveCall, verb: Verb) -> None:
    for noun in verb.nouns:
        if noun.name in ("Say", "Play", "Pause"):
            await _VERBS[noun.name](call, noun)


async def _collect(call: LiveCall, verb: Verb, prompts: asyncio.Task[None]) -> dict[str, str]:
    """The fields that a `<Gather>` adds: Digits, or SpeechResult and Confidence; nothing on a time-out."""
    kinds = verb.get("input", "dtmf").split()
    most = int(verb.number("numDigits", 1000))
    finish = verb.get("finishOnKey", "#")
    seconds = verb.number("timeout", 5)
    digits = ""
    try:
        while len(digits) < most:
            given = await _input(call, prompts, seconds)
            if given is None:
                break
            if given.kind == "speech" and "speech" in kinds and not digits:
                return {"SpeechResult": given.value, "Confidence": "0.9"}
            if given.kind != "key" or "dtmf" not in kinds:
                continue
            prompts.cancel()
            if given.value == finish:
                return {"Digits": digits, "FinishedOnKey": finish} if digits else {}
            digits += given.value
    finally:
        prompts.cancel()
        await asyncio.gather(prompts, return_exceptions=True)
    return {"Digits": digits} if digits else {}


async def _input(call: LiveCall, prompts: asyncio.Task[None], seconds: float) -> Input | None:
    """What the caller does next; the time-out begins when the prompts have been played."""
    waiting = asyncio.create_task(call.line.inputs.get())
    try:
        await asyncio.wait({waiting, prompts}, return_when=asyncio.FIRST_COMPLETED)
        return await call.phone.pace.within(seconds, waiting)
    finally:
        waiting.cancel()


# Streams


async def _connect(call: LiveCall, verb: Verb) -> Outcome:
    stream = twiml.stream_of(verb)
    socket = await _open_stream(call, stream, bidirectional=True)
    if socket is None:
        return _action(verb, {})
    record = call.record.streams[-1]
    call.line.stream = socket
    try:
        end = await asyncio.shield(socket.ended)
        call.notice(end.code, end.text)
        return _action(verb, {})
    finally:
        call.line.stream = None
        await _close_stream(call, stream, socket, record)


async def _open_stream(call: LiveCall, wanted: twiml.Stream, *, bidirectional: bool) -> StreamSocket | None:
    media = MediaStream(
        stream_sid=new_sid("MZ"),
        call_sid=call.sid,
        account_sid=call.phone.account_sid,
        parameters=wanted.parameters,
        tracks=wanted.tracks,
        bidirectional=bidirectional,
    )
    socket = StreamSocket(media, call.phone.faults)
    try:
        await socket.open(wanted.url, call.webhooks.route, call.webhooks.signer)
    except StreamFailed as failed:
        call.notice(failed.code, failed.text)
        _tell_stream(call, wanted, media, "stream-error", f"{failed.code} {failed.text}")
        return None
    call.record.streams.append(StreamRecord(media, wanted.url, call.line.now_ms))
    call.event("stream", "media stream is open")
    _tell_stream(call, wanted, media, "stream-started")
    return socket


async def _close_stream(call: LiveCall, wanted: twiml.Stream, socket: StreamSocket, record: StreamRecord) -> None:
    await socket.close()
    record.end = socket.ended.result()
    record.second_close_code = socket.second_close_code
    record.discarded_frames = socket.discarded_frames
    call.event("stream", f"media stream ended: {record.end.text}")
    _tell_stream(call, wanted, socket.stream, "stream-stopped")


def _tell_stream(call: LiveCall, wanted: twiml.Stream, media: MediaStream, event: str, error: str = "") -> None:
    fields = {
        "AccountSid": call.phone.account_sid,
        "CallSid": call.sid,
        "StreamSid": media.stream_sid,
        "StreamName": wanted.name or media.stream_sid,
        "StreamEvent": event,
        "Timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    if error:
        fields["StreamError"] = error
    call.notify_later(wanted.status_callback, fields, wanted.status_callback_method)


_VERBS: dict[str, Callable[[LiveCall, Verb], Awaitable[Outcome]]] = {
    "Say": _say,
    "Play": _play,
    "Pause": _pause,
    "Gather": _gather,
    "Redirect": _redirect,
    "Hangup": _hangup,
    "Reject": _reject,
    "Connect": _connect,
}
