"""All calls of this process: who is let in, who is known, and how they are seen out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from loguru import logger

from bot.call import Call, CallParts
from bot.carriers import Refusal
from bot.errors import ModelError, StreamRejected
from bot.events import CallEnded, CallReceived, CallRefused, EndReason

KEEP_SECONDS = 300.0
"""A call that is over is known this long, for the carrier's last questions and late status callbacks."""
MODEL_RETRY_SECONDS = 15.0
"""After a model could not be reached, callers hear sorry at once for this long instead of waiting in vain."""
LEAVE_SECONDS = 10.0


class Calls:
    """Fulfils `bot.carriers.Calls`."""

    def __init__(self, parts: CallParts) -> None:
        self._parts = parts
        self._calls: dict[str, Call] = {}
        self._refusals: dict[str, Refusal] = {}
        self._followers: set[asyncio.Task[None]] = set()
        self._draining = False
        self._model_failed: tuple[int, ModelError] | None = None

    @property
    def in_progress(self) -> list[Call]:
        """Calls that have not been told to end."""
        return [call for call in self._calls.values() if call.reason is None]

    def receive(self, *, call_sid: str, account_sid: str, from_number: str, to_number: str) -> Call | Refusal:
        """Take a call and start it in the background, or say why not. The same `call_sid` again: the same answer."""
        known = self._calls.get(call_sid) or self._refusals.get(call_sid)
        if known is not None:
            return known
        reason = self._reason_to_refuse()
        if reason is not None:
            return self._refuse(call_sid, from_number, to_number, reason)
        call = Call(
            self._parts, call_sid=call_sid, account_sid=account_sid, from_number=from_number, to_number=to_number
        )
        self._calls[call_sid] = call
        self._follow(self._see_out(call))
        return call

    def get(self, call_sid: str) -> Call | None:
        """The call, while it is known here."""
        return self._calls.get(call_sid)

    def claim_stream(self, call_sid: str, token: str) -> Call:
        """Spend a token for a media stream.

        Raises `bot.errors.StreamRejected` for an unknown call, a wrong or spent token, and a second stream.
        """
        call = self._calls.get(call_sid)
        if call is None:
            raise StreamRejected("unknown_call", "No such call was announced by a webhook.")
        call.claim(token)
        return call

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
        for call in self.in_progress:
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
        await parts.clock.sleep(KEEP_SECONDS)
        self._refusals.pop(call_sid, None)

    async def _see_out(self, call: Call) -> None:
        await call.over()
        if call.model_failure is not None:
            self._model_failed = (self._parts.clock.now_ns(), call.model_failure)
        elif call.reason in ("goodbye", "caller_hung_up", "transferred", "time_limit"):
            self._model_failed = None
        await self._parts.clock.sleep(KEEP_SECONDS)
        self._calls.pop(call.call_sid, None)

    def _follow(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)
