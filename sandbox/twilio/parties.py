"""The TwiML verbs that connect the caller to somebody else: `<Dial>`, `<Enqueue>`, `<Refer>`; and conferences."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from sandbox import sound
from sandbox.conversation import Caller
from sandbox.twilio import twiml
from sandbox.twilio.outcome import End, Next, Outcome, after
from sandbox.twilio.record import new_sid
from sandbox.twilio.twiml import Interpreter, TwimlError, Verb
from sandbox.twilio.webhook import WebhookFailed

if TYPE_CHECKING:
    from sandbox.twilio.call import LiveCall

# 2 s on, 4 s off, as North American exchanges ring.
RINGING = sound.tone((440, 480), 2000, dbfs=-22) + sound.SILENCE * (4 * sound.RATE)
_HOLD = sound.tone((350,), 400, dbfs=-30) + sound.SILENCE * (2 * sound.RATE)


@dataclass(frozen=True)
class Callee:
    """Somebody whom a call can be connected to, and what they do.

    After `rings_ms` they do what `outcome` says (a DialCallStatus or final call status: `completed` means that they
    answer); they say `says` and hang up after `talks_ms`. Asked by a whisper's `<Gather>`, they press `presses`. Called
    through REST they are `caller()`, and answering machine detection takes them for `answered_by`.
    """

    outcome: str = "completed"
    rings_ms: int = 1000
    talks_ms: int = 2000
    says: str = "Hello, how can I help you?"
    presses: str = "1"
    answered_by: str = "human"
    caller: Callable[[], Caller] | None = None


@dataclass
class Conference:
    """The conference that a call is in. `talk` is what the others say; `over` ends it for this caller."""

    sid: str
    name: str
    starts: bool
    ends_on_exit: bool
    label: str
    callback: str
    muted: bool = False
    hold: bool = False
    talk: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    over: asyncio.Event = field(default_factory=asyncio.Event)


def callee_of(call: LiveCall, number: str) -> Callee:
    """Who answers at a number."""
    return call.phone.callees.get(number) or call.phone.callees.get("", Callee())


async def dial(call: LiveCall, verb: Verb) -> Outcome:
    """`<Dial>`: one of the numbers, a conference or a queue."""
    conference, queue = verb.noun("Conference"), verb.noun("Queue")
    if conference:
        return await _join(call, verb, conference)
    if queue:
        started = call.line.now_ms
        await _talk(call, callee_of(call, queue.text), verb.number("timeLimit", 14400))
        return after(verb, _dialled("completed", call.line.now_ms - started, bridged=True))
    targets = [noun for noun in verb.nouns if noun.name in ("Number", "Sip", "Client")]
    targets = targets or ([Verb("Number", text=verb.text)] if verb.text else [])
    if not targets:
        raise TwimlError(13224, "<Dial> names nobody to call")
    return await _ring(call, verb, targets)


async def _ring(call: LiveCall, verb: Verb, targets: list[Verb]) -> Outcome:
    """All ring at once and the first who answers gets the call; with `sequential` one after the other."""
    timeout_ms = verb.number("timeout", 30) * 1000
    people = [(target, callee_of(call, target.text)) for target in targets]
    if verb.get("sequential") != "true":
        people.sort(key=lambda pair: (pair[1].outcome != "completed", pair[1].rings_ms))
        people = people[:1]
    status = "no-answer"
    for target, callee in people:
        child = {"CallSid": new_sid("CA"), "ParentCallSid": call.sid, "To": target.text, "Called": target.text}
        _tell_leg(call, target, child, "initiated")
        _tell_leg(call, target, child, "ringing")
        await _hear_ringing(call, min(callee.rings_ms, timeout_ms))
        status = "no-answer" if callee.rings_ms > timeout_ms else callee.outcome
        if status == "completed":
            _tell_leg(call, target, child, "in-progress", "answered")
            if not await _whisper(call, target, child, callee):
                status = "no-answer"
                _tell_leg(call, target, child, "completed")
                continue
            started = call.line.now_ms
            await _talk(call, callee, verb.number("timeLimit", 14400))
            _tell_leg(call, target, child, "completed")
            fields = _dialled("completed", call.line.now_ms - started, bridged=True)
            return after(verb, fields | {"DialCallSid": child["CallSid"]})
        _tell_leg(call, target, child, status, "completed")
    return after(verb, _dialled(status, 0, bridged=False))


def _dialled(status: str, ms: int, *, bridged: bool) -> dict[str, str]:
    return {
        "DialCallStatus": status,
        "DialCallSid": new_sid("CA"),
        "DialCallDuration": str(math.ceil(ms / 1000)),
        "DialBridged": str(bridged).lower(),
    }


def _tell_leg(call: LiveCall, target: Verb, child: dict[str, str], status: str, event: str = "") -> None:
    wanted = target.get("statusCallbackEvent", "completed").split()
    if (event or status) in wanted:
        moment = {"CallStatus": status, "Timestamp": format_datetime(datetime.now(UTC))}
        fields = call.webhook_fields() | {"Direction": "outbound-dial"} | child | moment
        call.notify_later(target.get("statusCallback"), fields)


async def _hear_ringing(call: LiveCall, ms: float) -> None:
    ringing = RINGING * (int(ms) // 6000 + 1)
    await call.line.play(ringing[: int(ms) * sound.RATE // 1000])


async def _whisper(call: LiveCall, target: Verb, child: dict[str, str], callee: Callee) -> bool:
    """Run the TwiML that only the callee hears; whether they are still there (and did not hang up) afterwards."""
    url = target.get("url")
    fields = call.webhook_fields() | {"Direction": "outbound-dial", "CallStatus": "in-progress"} | child
    interpreter = Interpreter()
    while url:
        try:
            document, _ = await call.webhooks.twiml(urljoin(call.url, url), fields, method=target.get("method", "POST"))
        except WebhookFailed as failed:
            call.notice(failed.code, failed.text)
            return False
        interpreter.load(document)
        url = ""
        while verb := interpreter.next():
            call.event("whisper", str(verb))
            call.record.whispers.append(verb)
            if verb.name in ("Hangup", "Reject"):
                return False
            if verb.name == "Gather" and callee.presses and verb.get("action"):
                url, fields = verb.get("action"), fields | {"Digits": callee.presses}
                break
            if verb.name == "Redirect":
                url = verb.text
                break
    return True


async def _talk(call: LiveCall, callee: Callee, limit_seconds: float) -> None:
    """The caller is connected until the callee hangs up."""
    call.event("bridged", "connected")
    speech = sound.from_pcm(await call.phone.speak(callee.says), sound.RATE) if callee.says else b""
    length = min(callee.talks_ms / 1000, limit_seconds)
    await call.line.play(speech.ljust(math.ceil(length * sound.RATE), sound.SILENCE)[: int(length * sound.RATE)])


async def _join(call: LiveCall, verb: Verb, noun: Verb) -> Outcome:
    conference = Conference(
        sid=await call.phone.conference_sid(noun.text),
        name=noun.text,
        starts=noun.get("startConferenceOnEnter", "true") == "true",
        ends_on_exit=noun.get("endConferenceOnExit") == "true",
        label=noun.get("participantLabel"),
        callback=noun.get("statusCallback"),
        muted=noun.get("muted") == "true",
    )
    call.conference = conference
    started = call.line.now_ms
    await call.changed()
    tell_conference(call, conference, "participant-join", noun)
    try:
        await _confer(call, conference)
    finally:
        tell_conference(call, conference, "participant-leave", noun)
        call.conference = None
        await call.changed()
    return after(verb, _dialled("completed", call.line.now_ms - started, bridged=True))


async def _confer(call: LiveCall, conference: Conference) -> None:
    """Hear hold music until somebody says something, then them, until the conference is over."""
    over = asyncio.create_task(conference.over.wait())
    try:
        while not over.done():
            said = asyncio.create_task(conference.talk.get())
            hold = asyncio.create_task(_hold_music(call))
            await asyncio.wait({over, said}, return_when=asyncio.FIRST_COMPLETED)
            for task in (said, hold):
                task.cancel()
            await asyncio.gather(said, hold, return_exceptions=True)
            if not said.cancelled() and not over.done():
                await call.announce(said.result())
    finally:
        over.cancel()


async def _hold_music(call: LiveCall) -> None:
    while True:
        await call.line.play(_HOLD)


def tell_conference(call: LiveCall, conference: Conference, event: str, noun: Verb) -> None:
    """Post a conference's status callback, where it was asked for."""
    kind = {"participant-join": "join", "participant-leave": "leave"}[event]
    if kind not in noun.get("statusCallbackEvent", "").split():
        return
    fields = {
        "AccountSid": call.phone.account_sid,
        "CallSid": call.sid,
        "ConferenceSid": conference.sid,
        "FriendlyName": conference.name,
        "StatusCallbackEvent": event,
        "ParticipantLabel": conference.label,
        "StartConferenceOnEnter": str(conference.starts).lower(),
        "EndConferenceOnExit": str(conference.ends_on_exit).lower(),
        "Muted": str(conference.muted).lower(),
        "Hold": str(conference.hold).lower(),
        "Timestamp": format_datetime(datetime.now(UTC)),
    }
    call.notify_later(conference.callback, fields)


async def enqueue(call: LiveCall, verb: Verb) -> Outcome:
    """`<Enqueue>`: wait (hearing `waitUrl`), then be connected, as the queue's `Callee` has it."""
    call.record.tasks.append(twiml.task_of(verb))
    name = verb.get("workflowSid") or verb.text
    callee = callee_of(call, name)
    queue_sid, started = new_sid("QU"), call.line.now_ms
    if verb.get("waitUrl"):
        waiting = {"QueueSid": queue_sid, "QueuePosition": "1", "QueueTime": "0", "AvgQueueTime": "0"}
        await _wait_in_queue(call, verb, waiting | {"CurrentQueueSize": "1", "MaxQueueSize": "100"}, callee)
    else:
        await _hear_ringing(call, callee.rings_ms)
    waited = {"QueueSid": queue_sid, "QueueTime": str(round((call.line.now_ms - started) / 1000))}
    if callee.outcome == "completed":
        await _talk(call, callee, 14400)
        return after(verb, waited | {"QueueResult": "bridged"})
    results = {"busy": "queue-full", "no-answer": "leave", "failed": "error"}
    return after(verb, waited | {"QueueResult": results.get(callee.outcome, callee.outcome)})


async def _wait_in_queue(call: LiveCall, verb: Verb, fields: dict[str, str], callee: Callee) -> None:
    """Play what `waitUrl` says, again and again, until it is the caller's turn or it says `<Leave>`."""

    async def wait() -> None:
        while True:
            try:
                document, _ = await call.webhooks.twiml(
                    urljoin(call.url, verb.get("waitUrl")), call.webhook_fields() | fields
                )
            except WebhookFailed as failed:
                call.notice(failed.code, failed.text)
                return
            before = call.line.now_ms
            for part in twiml.parse(document):
                if part.name == "Leave":
                    return
                if part.name == "Say":
                    await call.announce(part.text)
            if call.line.now_ms == before:
                await _hold_once(call)

    await call.phone.pace.within(callee.rings_ms / 1000, wait())


async def _hold_once(call: LiveCall) -> None:
    await call.line.play(_HOLD)


async def leave(call: LiveCall, verb: Verb) -> Outcome:
    """`<Leave>` outside of a queue: nothing to leave."""
    return Next()


async def refer(call: LiveCall, verb: Verb) -> Outcome:
    """`<Refer>`: only a SIP caller can be referred; for anybody else Twilio reports that it failed."""
    target = verb.noun("Sip") or verb.noun("ReferSip")
    if target is None:
        raise TwimlError(12200, "<Refer> names no <Sip>")
    sip = call.from_.startswith("sip:")
    if not sip:
        call.notice(13801, "<Refer> is for SIP callers; this one comes from the telephone network")
    status = "completed" if sip else "failed"
    fields = {"ReferCallStatus": status, "ReferSipResponseCode": "202" if sip else "403"}
    if sip and not verb.get("action"):
        return End("referred")
    return after(verb, fields)
