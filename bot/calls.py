"""All calls of this process: who is let in, who is known, and how they are seen out."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from bot.call import Call, CallParts
from bot.carriers import Briefing, Dialled, KnownCall, NextStep, RecordedMessage, Refusal
from bot.errors import ModelError, StreamRejected
from bot.events import CallEnded, CallReceived, CallRefused, EndReason, Trouble
from bot.handover import Handover, briefing_for, message_step
from bot.metrics import Metrics
from bot.tools import CallFacts

KEEP_SECONDS = 300.0
"""A call that is over is known this long, for the carrier's last questions and late status callbacks."""
MODEL_RETRY_SECONDS = 15.0
"""After a model could not be reached, callers hear sorry at once for this long instead of waiting in vain."""
LEAVE_SECONDS = 10.0
COLLECT_CALLS = 20
"""After so many calls the garbage collector looks for circles that they have left behind, as exceptions may."""
QUIET_CALLS = 3
"""It does so while no more calls than these are up, since it holds the loop the longer the more objects there are."""
_STORE_AGAIN_SECONDS = (0.0, 1.0, 5.0, 20.0)


@dataclass(frozen=True, slots=True)
class EndedCall:
    """What is kept of a call that is over, for the carrier's late questions. Fulfils `bot.carriers.KnownCall`.

    A `Call` would keep ten times as much (docs/decisions/0016). `parting` is what a caller is told who is still there;
    `tape_path` is where the tape lies.
    """

    facts: CallFacts
    parting: NextStep
    handover: Handover | None
    tape_path: Path
    metrics: Metrics

    @property
    def call_sid(self) -> str:
        """The carrier's id of the call."""
        return self.facts.call_sid

    @property
    def stream_token(self) -> str:
        """None: no media stream can be opened any more."""
        return ""

    def after_stream(self) -> NextStep:
        """As while the call ended: the parting words, or what the handover says."""
        return self.handover.next_step(self.parting.say) if self.handover else self.parting

    def carrier_status(self, status: str, sequence: int | None) -> None:
        """Nothing can change any more."""

    def carrier_failed(self, trouble: Trouble) -> None:
        """Counted only: the tape is closed."""
        self.metrics.observe(trouble)

    async def over(self) -> None:
        """It is."""


class Calls:
    """Fulfils `bot.carriers.Calls`."""

    def __init__(self, parts: CallParts) -> None:
        self._parts = parts
        self._calls: dict[str, Call] = {}
        self._ended: dict[str, EndedCall] = {}
        self._refusals: dict[str, Refusal] = {}
        self._over: deque[tuple[int, str]] = deque()
        self._followers: set[asyncio.Task[None]] = set()
        self._seen_out = 0
        self._draining = False
        self._model_failed: tuple[int, ModelError] | None = None

    @property
    def in_progress(self) -> list[Call]:
        """Calls that have not been told to end."""
        return [call for call in self._calls.values() if call.reason is None]

    def receive(self, *, call_sid: str, account_sid: str, from_number: str, to_number: str) -> KnownCall | Refusal:
        """Take a call and start it in the background, or say why not. The same `call_sid` again: the same answer."""
        self._forget()
        known = self.get(call_sid) or self._refusals.get(call_sid)
        if known is not None:
            return known
        reason = self._reason_to_refuse()
        if reason == "refused_model" and self._parts.flow.handover:
            # There is somebody else for this caller, and the model may be back.
            reason = None
        if reason is not None:
            return self._refuse(call_sid, from_number, to_number, reason)
        call = Call(
            self._parts, call_sid=call_sid, account_sid=account_sid, from_number=from_number, to_number=to_number
        )
        self._calls[call_sid] = call
        self._follow(self._see_out(call))
        return call

    def get(self, call_sid: str) -> Call | EndedCall | None:
        """The call, while it is known here."""
        return self._calls.get(call_sid) or self._ended.get(call_sid)

    def claim_stream(self, call_sid: str, token: str) -> Call:
        """Spend a token for a media stream.

        Raises `bot.errors.StreamRejected` for an unknown call, a wrong or spent token, and a second stream.
        """
        call = self.get(call_sid)
        if call is None:
            raise StreamRejected("unknown_call", "No such call was announced by a webhook.")
        if isinstance(call, EndedCall):
            raise StreamRejected("call_over", "The call is over; no media stream can be opened for it.")
        call.claim(token)
        return call

    # -- callers who are handed over; after a restart they are not known any more, and are helped all the same

    def after_dial(self, call_sid: str, status: Dialled, *, bridged: bool) -> NextStep:
        """Ringing a person, and the talk with them if there was one, is over: what now?"""
        call, flow = self.get(call_sid), self._parts.flow
        if call and call.handover:
            call.handover.dial_ended(status, bridged=bridged)
            return call.handover.next_step()
        return NextStep("", "hang_up", flow.language) if bridged else message_step(flow)

    def briefing(self, call_sid: str) -> Briefing:
        """What the person hears who picked up for this call."""
        call = self.get(call_sid)
        return call.handover.briefing() if call and call.handover else briefing_for(self._parts.flow)

    def accepted(self, call_sid: str) -> None:
        """The person took the call."""
        if (call := self.get(call_sid)) and call.handover:
            call.handover.accepted()

    def after_message(self, message: RecordedMessage) -> NextStep:
        """A caller has left a message, which is stored in the background, and may still be there."""
        self._follow(self._keep_patiently(message))
        return NextStep(self._parts.flow.phrases.goodbye, "hang_up", self._parts.flow.language)

    async def keep_message(self, message: RecordedMessage) -> None:
        """Store a message for the staff, once however often it is told. Raises what the desk raises."""
        call = self.get(message.call_sid)
        facts = call.facts if call else CallFacts(message.call_sid, message.from_number, "")
        try:
            await asyncio.to_thread(
                self._parts.desk.take_message,
                caller_phone=facts.caller_number or "",
                name="",
                text=f"Voice message of {message.seconds:g} seconds: {message.url}",
                key=f"recording {message.recording_sid}",
            )
        except Exception:
            trouble = Trouble("message_not_stored", "desk", "nothing", message.recording_sid)
            call.carrier_failed(trouble) if call else self._parts.metrics.observe(trouble)
            raise
        if call and call.handover:
            call.handover.message_recorded(message)

    async def _keep_patiently(self, message: RecordedMessage) -> None:
        for seconds in _STORE_AGAIN_SECONDS:
            await self._parts.clock.sleep(seconds)
            try:
                await self.keep_message(message)
                break
            except Exception as error:
                logger.error("Recording {} is not stored: {}", message.recording_sid, type(error).__name__)

    def reasons_not_ready(self) -> list[str]:
        """Why a call that came now would be refused; empty where it would be taken."""
        reason = self._reason_to_refuse()
        if reason == "refused_model" and self._model_failed:
            return [f"model: {self._model_failed[1].kind}"]
        return [reason.removeprefix("refused_")] if reason else []

    async def drain(self, seconds: float) -> None:
        """Take no more calls and let those in progress finish, at most `seconds`."""
        self._draining = True
        waiting = self.in_progress
        logger.info("Draining: {} calls in progress, at most {:g} s", len(waiting), seconds)
        if waiting:
            await asyncio.wait({asyncio.ensure_future(call.over()) for call in waiting}, timeout=seconds)

    async def see_out(self) -> None:
        """Take no more calls, end those in progress with words, and wait until every tape is closed."""
        self._draining = True
        for call in self._calls.values():
            call.end("shutdown", self._parts.flow.phrases.sorry_closed_down)
        waiting = {asyncio.ensure_future(call.over()) for call in self._calls.values()}
        if waiting:
            await asyncio.wait(waiting, timeout=LEAVE_SECONDS)

    async def close(self) -> None:
        """See out whoever is left, and forget all calls."""
        await self.see_out()
        for task in self._followers:
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)

    # -- within -------------------------------------------------------------------------------------------------------

    def _reason_to_refuse(self) -> EndReason | None:
        if self._draining:
            return "refused_draining"
        if self._model_failed and self._parts.clock.now_ns() - self._model_failed[0] < MODEL_RETRY_SECONDS * 1e9:
            return "refused_model"
        if len(self.in_progress) >= self._parts.settings.max_calls:
            return "refused_busy"
        return None

    def _refuse(self, call_sid: str, from_number: str, to_number: str, reason: EndReason) -> Refusal:
        flow = self._parts.flow
        say = {
            "refused_busy": flow.phrases.sorry_busy,
            "refused_draining": flow.phrases.sorry_closed_down,
            "refused_model": flow.phrases.sorry_unreachable,
        }[reason]
        refusal = self._refusals[call_sid] = Refusal(reason, say, flow.language)
        self._follow(self._tape_refusal(call_sid, from_number, to_number, reason))
        return refusal

    async def _tape_refusal(self, call_sid: str, from_number: str, to_number: str, reason: EndReason) -> None:
        """A caller who was sent away is on a tape too: short, but findable."""
        parts = self._parts
        tape = parts.deck.open(call_sid, {"flow": {"id": parts.flow.id, "hash": parts.flow.content_hash}})
        refused = CallRefused(call_sid, reason)
        for event in (CallReceived(call_sid, from_number, to_number, parts.flow.id), refused, CallEnded(reason, 0.0)):
            tape.put("event", event.to_json())
        parts.metrics.observe(refused)
        await tape.close()
        self._over.append((parts.clock.now_ns(), call_sid))

    async def _see_out(self, call: Call) -> None:
        await call.over()
        if call.model_failure is not None:
            self._model_failed = (self._parts.clock.now_ns(), call.model_failure)
        elif call.reason in ("goodbye", "caller_hung_up", "transferred", "message_taken", "nobody_there", "time_limit"):
            self._model_failed = None
        self._end(call)
        del call
        self._seen_out += 1
        if self._seen_out >= COLLECT_CALLS and len(self.in_progress) <= QUIET_CALLS:
            self._seen_out = 0
            gc.collect()

    def _end(self, call: Call) -> None:
        """Know of a call only what may be asked yet."""
        assert call.tape_path is not None
        call_sid = call.call_sid
        self._ended[call_sid] = EndedCall(call.facts, call.parting, call.handover, call.tape_path, self._parts.metrics)
        del self._calls[call_sid]
        self._over.append((self._parts.clock.now_ns(), call_sid))

    def _forget(self) -> None:
        """Calls that have been over for long are not known any more."""
        now_ns = self._parts.clock.now_ns()
        while self._over and now_ns - self._over[0][0] >= KEEP_SECONDS * 1e9:
            _, call_sid = self._over.popleft()
            self._ended.pop(call_sid, None)
            self._refusals.pop(call_sid, None)

    def _follow(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)
