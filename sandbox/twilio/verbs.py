"""The TwiML verbs: what each does to a running call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from sandbox import sound
from sandbox.twilio import parties, twiml
from sandbox.twilio.line import Input
from sandbox.twilio.media import MediaStream
from sandbox.twilio.outcome import End, Fetch, Next, Outcome, after
from sandbox.twilio.record import StreamRecord, new_sid
from sandbox.twilio.recording import Recording
from sandbox.twilio.stream import StreamFailed, StreamSocket
from sandbox.twilio.twiml import TwimlError, Verb

if TYPE_CHECKING:
    from sandbox.twilio.call import LiveCall


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
    return End("<Reject>", "busy" if verb.get("reason") == "busy" else "no-answer")


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
        return after(verb, {})
    record = call.record.streams[-1]
    call.line.stream = socket
    try:
        end = await asyncio.shield(socket.ended)
        call.notice(end.code, end.text)
        return after(verb, {})
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


# What runs beside the call


async def _start(call: LiveCall, verb: Verb) -> Outcome:
    for noun in verb.nouns:
        if noun.name == "Stream":
            await _start_stream(call, Verb("Start", nouns=(noun,)))
        elif noun.name == "Recording":
            call.start_recording(
                channels=2 if noun.get("channels") == "dual" else 1,
                track=noun.get("track", "both"),
                callback=noun.get("recordingStatusCallback"),
                events=tuple(noun.get("recordingStatusCallbackEvent", "completed").split()),
            )
    return Next()


async def _start_stream(call: LiveCall, verb: Verb) -> None:
    wanted = twiml.stream_of(verb)
    socket = await _open_stream(call, wanted, bidirectional=False)
    if socket is None:
        return
    record = call.record.streams[-1]
    call.line.taps.append(socket)

    async def until_over() -> None:
        try:
            end = await asyncio.shield(socket.ended)
            call.notice(end.code, end.text)
        finally:
            call.line.taps.remove(socket)
            await _close_stream(call, wanted, socket, record)

    call.side_streams[wanted.name or socket.stream.stream_sid] = asyncio.create_task(until_over())


async def _stop(call: LiveCall, verb: Verb) -> Outcome:
    for noun in verb.nouns:
        if noun.name == "Stream":
            task = call.side_streams.pop(noun.get("name"), None)
            if task is None:
                raise TwimlError(32650, f"there is no stream named {noun.get('name')!r} to stop")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif noun.name == "Recording":
            for recording in call.recordings.values():
                if recording.status in ("in-progress", "paused"):
                    call.change_recording(recording.sid, "stopped")
    return Next()


async def _record(call: LiveCall, verb: Verb) -> Outcome:
    """`<Record>`: a message; it ends with silence, a key or `maxLength`."""
    if verb.get("playBeep", "true") == "true":
        await call.line.play(sound.tone((1000,), 500))
    call.line.forget_inputs()
    recording = call.start_recording(
        source="RecordVerb",
        track="inbound",
        callback=verb.get("recordingStatusCallback"),
        events=tuple(verb.get("recordingStatusCallbackEvent", "completed").split()),
    )
    began = len(call.line.said)
    try:
        key = await call.phone.pace.within(verb.number("maxLength", 3600), _until_quiet(call, verb, began))
    except asyncio.CancelledError:
        spoken = bool(sound.segments(bytes(call.line.said[began:])))
        call.change_recording(recording.sid, "stopped" if spoken else "absent")
        if call.is_hanging_up and spoken:
            # The action is asked all the same; nobody is there for its answer.
            fields = call.webhook_fields() | _recorded(recording, "hangup") | {"CallStatus": "completed"}
            call.notify_later(verb.get("action") or call.url, fields, verb.get("method", "POST"))
        raise
    spoken = bool(sound.segments(bytes(call.line.said[began:])))
    call.change_recording(recording.sid, "stopped" if spoken else "absent")
    if not spoken:
        return Next()  # Twilio: nothing recorded, the next verb follows
    return Fetch(verb.get("action") or call.url, _recorded(recording, key or ""), verb.get("method", "POST"))


def _recorded(recording: Recording, digits: str) -> dict[str, str]:
    return {
        "RecordingUrl": recording.callback_fields()["RecordingUrl"],
        "RecordingSid": recording.sid,
        "RecordingDuration": str(round(recording.milliseconds / 1000)),
        "Digits": digits,
    }


async def _until_quiet(call: LiveCall, verb: Verb, began: int) -> str:
    """The key that ended the message; empty if it ended with `timeout` seconds of silence."""
    quiet_bytes = int(verb.number("timeout", 5) * sound.RATE)
    finish = verb.get("finishOnKey", "1234567890*#")
    while True:
        await call.phone.pace.sleep(0.1)
        while not call.line.inputs.empty():
            given = call.line.inputs.get_nowait()
            if given.kind == "key" and given.value in finish:
                return given.value
        tail = bytes(call.line.said[max(began, len(call.line.said) - quiet_bytes) :])
        if len(tail) >= quiet_bytes and not sound.segments(tail):
            return ""


async def _pay(call: LiveCall, verb: Verb) -> Outcome:
    """`<Pay>`: the outcome is the phone's `payment`; no card data exists here."""
    return after(verb, dict(call.phone.payment))


_VERBS: dict[str, Callable[[LiveCall, Verb], Awaitable[Outcome]]] = {
    "Say": _say,
    "Play": _play,
    "Pause": _pause,
    "Gather": _gather,
    "Redirect": _redirect,
    "Hangup": _hangup,
    "Reject": _reject,
    "Connect": _connect,
    "Start": _start,
    "Stop": _stop,
    "Record": _record,
    "Pay": _pay,
    "Dial": parties.dial,
    "Enqueue": parties.enqueue,
    "Leave": parties.leave,
    "Refer": parties.refer,
}
