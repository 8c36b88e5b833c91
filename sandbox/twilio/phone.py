"""A phone on the stand-in network: it runs a call from its first webhook to its last status callback."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from sandbox.conversation import Caller, Conversation, Speaker
from sandbox.twilio import sound, verbs
from sandbox.twilio.line import Line, Pace
from sandbox.twilio.media import Notice
from sandbox.twilio.record import CallRecord, new_sid
from sandbox.twilio.stream import Faults
from sandbox.twilio.twiml import TwimlError
from sandbox.twilio.verbs import Callee, End, Fetch, Next, Outcome, Run
from sandbox.twilio.webhook import Route, Signer, WebhookFailed, Webhooks

ALL_EVENTS = ("initiated", "ringing", "answered", "completed")
_EVENT_OF = {"queued": "initiated", "initiated": "initiated", "ringing": "ringing", "in-progress": "answered"}
_FINAL = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
_TIME_LIMIT_SECONDS = 4 * 3600


@dataclass
class Phone:
    """Places calls to a server's voice webhook, as Twilio does when somebody dials the number.

    `public_url` is the server's name in signatures, Host headers and TwiML; empty: the address that is called.
    `exchange` lets REST updates reach the call: an `Exchange` in this process. `on_event(at_ms, kind, text)` is
    told what happens. `callees` are the people whom `<Dial>` and `<Enqueue>` reach, by number; "" is everybody else.
    """

    account_sid: str
    auth_token: str
    public_url: str = ""
    exchange: Registry | None = None
    voice: Speaker | None = None
    pace: Pace = field(default_factory=Pace)
    faults: Faults = field(default_factory=Faults)
    signer: Signer | None = None
    callees: Mapping[str, Callee] = field(default_factory=dict)
    webhook_timeout: float = 15.0
    on_event: Callable[[int, str, str], None] = lambda at_ms, kind, text: None

    async def call(
        self,
        number_url: str,
        *,
        caller: Caller | None = None,
        from_: str = "+15005550100",
        to: str = "+15005550006",
        **options: Any,
    ) -> CallRecord:
        """Place a call and stay on it until it ends. The options are those of `dial`."""
        return await self.dial(number_url, caller=caller, from_=from_, to=to, **options).run()

    def dial(
        self,
        number_url: str,
        *,
        caller: Caller | None = None,
        from_: str = "+15005550100",
        to: str = "+15005550006",
        direction: str = "inbound",
        method: str = "POST",
        fallback_url: str = "",
        status_callback: str = "",
        status_callback_events: tuple[str, ...] = ("completed",),
        time_limit: float = _TIME_LIMIT_SECONDS,
        fields: Mapping[str, str] | None = None,
        call_sid: str = "",
        twiml: str = "",
    ) -> LiveCall:
        """A call that is not running yet: `await call.run()`; meanwhile `update` and `hang_up` steer it.

        `fields` are added to every webhook or replace one of it. With `twiml` that is executed instead of the webhook.
        """
        parts = urlsplit(number_url)
        local = f"{parts.scheme}://{parts.netloc}"
        public = self.public_url.rstrip("/") or local
        return LiveCall(
            phone=self,
            sid=call_sid or new_sid("CA"),
            caller=caller or Conversation(),
            url=public + number_url.removeprefix(local),
            method=method,
            twiml=twiml,
            from_=from_,
            to=to,
            direction=direction,
            fallback_url=fallback_url,
            status_callback=status_callback,
            status_callback_events=status_callback_events,
            time_limit=time_limit,
            fields=dict(fields or {}),
            webhooks=Webhooks(
                self.signer or Signer(self.auth_token), Route(local=local, public=public), self.webhook_timeout
            ),
        )

    async def speak(self, text: str) -> bytes:
        """What the network itself says (`<Say>`), as s16le at 8000 Hz."""
        if self.voice is None:
            from sandbox.voice import Voice

            self.voice = Voice()
        return await asyncio.to_thread(self.voice.speak, text, rate=8000)

    async def prepare(self, caller: Caller) -> None:
        """Let a caller render its speech, in a thread."""
        if self.voice is None:
            await self.speak("")
        assert self.voice is not None
        await asyncio.to_thread(caller.prepare, self.voice)


class Registry:
    """Where live calls are known to REST; `Exchange` is one."""

    async def add_line(self, call: LiveCall) -> None:
        """A call begins."""

    async def line_changed(self, call: LiveCall) -> None:
        """Its status changed; after a final one the call is over."""


class CallOver(Exception):
    """The call cannot be changed any more (Twilio: 21220)."""


@dataclass
class LiveCall:
    """One call. `record` fills up while it runs."""

    phone: Phone
    sid: str
    caller: Caller
    url: str
    method: str
    twiml: str
    from_: str
    to: str
    direction: str
    fallback_url: str
    status_callback: str
    status_callback_events: tuple[str, ...]
    time_limit: float
    fields: dict[str, str]
    webhooks: Webhooks

    def __post_init__(self) -> None:
        self.record = CallRecord(self.sid, self.from_, self.to, self.direction, requests=self.webhooks.log)
        self.interpreter = self.record.interpreter
        self.line = Line(self.caller, self.phone.pace)
        self.status = "queued"
        self.created = datetime.now(UTC)
        self.started: datetime | None = None
        self.ended: datetime | None = None
        self.background: list[asyncio.Task[Any]] = []
        self._answered_at: float | None = None
        self._line_up = contextlib.AsyncExitStack()
        self._interruption: asyncio.Future[Outcome] | None = None
        self._waiting: Outcome | None = None
        self._callbacks: asyncio.Queue[dict[str, str] | None] = asyncio.Queue()
        self._callback_count = 0

    # Steering, from REST or from a test

    def update(self, *, twiml: str = "", url: str = "", method: str = "POST", status: str = "") -> None:
        """Change the running call as `POST Calls/{sid}` does. Raises CallOver."""
        if self.status in _FINAL:
            raise CallOver(f"call {self.sid} is not in-progress: it cannot be redirected")
        if status:
            ringing = self.status in ("queued", "initiated", "ringing")
            final = "canceled" if status == "canceled" or ringing else "completed"
            self._interrupt(End("ended by REST", final))
        elif url:
            self._interrupt(Fetch(url, {}, method))
        else:
            self._interrupt(Run(twiml))

    def hang_up(self, by: str = "caller") -> None:
        """Hang up from this side."""
        self._interrupt(End(f"{by} hung up"))

    def _interrupt(self, outcome: Outcome) -> None:
        self._waiting = outcome
        if self._interruption and not self._interruption.done():
            self._interruption.set_result(outcome)

    # Running

    async def run(self) -> CallRecord:
        """From the first webhook to the last callback; returns the finished record."""
        await self.phone.prepare(self.caller)
        callbacks = asyncio.create_task(self._send_callbacks())
        try:
            if self.phone.exchange:
                await self.phone.exchange.add_line(self)
            end = await self._through()
        finally:
            for task in self.background:
                task.cancel()
            await asyncio.gather(*self.background, return_exceptions=True)
            await self._line_up.aclose()
        self._close_record(end)
        await self._set_status(end.status)
        self._callbacks.put_nowait(None)
        await callbacks
        await self.webhooks.close()
        return self.record

    async def _through(self) -> End:
        for status in ("initiated", "ringing"):
            await self._set_status(status)
        if self.direction != "inbound":
            await self.answer()
        outcome: Outcome = Run(self.twiml) if self.twiml else Fetch(self.url, {}, self.method)
        while True:
            if isinstance(outcome, Next):
                verb = self.interpreter.next()
                outcome = await self._guarded(verbs.execute(self, verb)) if verb else End("document ended")
            elif isinstance(outcome, Fetch):
                outcome = await self._guarded(self._fetch(outcome))
            elif isinstance(outcome, Run):
                outcome = self._load(outcome.document)
            else:
                return outcome

    async def _guarded(self, step: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Run a step until it is done or REST, the caller or the time limit interrupts it."""
        self._interruption = asyncio.get_running_loop().create_future()
        if self._waiting:
            self._interruption.set_result(self._waiting)
        work = asyncio.create_task(step)
        gone = asyncio.create_task(self.line.hung_up.wait())
        racing: set[asyncio.Future[Any]] = {work, gone, self._interruption}
        await asyncio.wait(racing, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED)
        for task in (work, gone):
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._interruption.done():
            self._waiting = None
            return self._interruption.result()
        if not gone.cancelled():
            return End("caller hung up")
        return End("time limit") if work.cancelled() else work.result()

    def _left(self) -> float | None:
        if self._answered_at is None:
            return None
        used = self.phone.pace.now() - self._answered_at
        return max(self.time_limit - used, 0) / self.phone.pace.speed

    async def _fetch(self, fetch: Fetch) -> Outcome:
        url = urljoin(self.url, fetch.url)
        try:
            document = await self.webhooks.twiml(
                url, self.webhook_fields() | fetch.fields, method=fetch.method, fallback=self.fallback_url
            )
        except WebhookFailed as failed:
            self.notice(failed.code, failed.text)
            await self.answer()
            await self.announce("We are sorry, an application error has occurred. Goodbye.")
            return End(f"application error {failed.code}", "completed")
        failed_first = [sent for sent in self.webhooks.log if sent.error]
        if failed_first and self.webhooks.log[-1].url == self.fallback_url:
            self.notice(failed_first[-1].code, failed_first[-1].error)
        self.url = url
        return Run(document)

    def _load(self, document: str) -> Outcome:
        try:
            self.interpreter.load(document)
        except TwimlError as problem:
            self.notice(problem.code, problem.text)
            return End(f"application error {problem.code}", "completed")
        return Next()

    # What verbs use

    async def answer(self) -> None:
        """Take the call if it has not been taken: billing and the line's clock begin."""
        if self._answered_at is not None:
            return
        self._answered_at = self.phone.pace.now()
        self.started = datetime.now(UTC)
        self.record.answered = True
        await self._line_up.enter_async_context(self.line.up())
        await self._set_status("in-progress")

    async def announce(self, text: str) -> None:
        """Say something to the caller in the network's voice."""
        self.record.announcements.append((self.line.now_ms, text))
        self.event("announcement", text)
        await self.line.play(sound.from_pcm(await self.phone.speak(text), sound.RATE))

    def notice(self, code: int, text: str) -> None:
        """Put an error where Twilio's debugger would show it."""
        self.record.errors.append(Notice(code, text, self.line.now_ms))
        self.event("error", f"{code} {text}")

    def event(self, kind: str, text: str) -> None:
        """Tell the phone's owner."""
        self.phone.on_event(self.line.now_ms, kind, text)

    def webhook_fields(self) -> dict[str, str]:
        """What every request about this call carries; the carrier knows nothing of most places, so they are blank."""
        places = {
            f"{who}{what}": "US" if what == "Country" else ""
            for who in ("From", "To", "Caller", "Called")
            for what in ("City", "State", "Zip", "Country")
        }
        fields = {
            "AccountSid": self.phone.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self.sid,
            "CallStatus": "ringing" if self.status in ("queued", "initiated") else self.status,
            "CallToken": '{"parentCallInfoToken":"sandbox"}',
            "CallerName": "Zoë Müller + Söhne",
            "Called": self.to,
            "Caller": self.from_,
            "Direction": self.direction,
            "ForwardedFrom": "",
            "From": self.from_,
            "StirVerstat": "TN-Validation-Passed-A",
            "To": self.to,
        }
        return fields | places | self.fields

    # Status

    async def _set_status(self, status: str) -> None:
        self.status = self.record.status = status
        self.event("status", status)
        event = "completed" if status in _FINAL else _EVENT_OF[status]
        if self.status_callback and event in self.status_callback_events:
            self._callbacks.put_nowait(self._callback_fields())
        if self.phone.exchange:
            await self.phone.exchange.line_changed(self)

    def _callback_fields(self) -> dict[str, str]:
        fields = self.webhook_fields() | {
            "CallStatus": self.status,
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(self._callback_count),
            "Timestamp": format_datetime(datetime.now(UTC)),
        }
        self._callback_count += 1
        if self.status in _FINAL:
            seconds = self.record.duration_seconds
            fields |= {"CallDuration": str(seconds), "Duration": str(math.ceil(seconds / 60))}
            fields |= {"SipResponseCode": {"busy": "486", "no-answer": "487"}.get(self.status, "200")}
        return fields

    async def _send_callbacks(self) -> None:
        """Callbacks are separate requests: their order is not promised and they may come twice."""
        held = []
        while (fields := await self._callbacks.get()) is not None:
            self.record.callbacks.append(fields)
            if self.phone.faults.callbacks == "reordered":
                held.append(fields)
                continue
            for _ in range(2 if self.phone.faults.callbacks == "duplicated" else 1):
                await self._notify(self.status_callback, fields)
        for fields in reversed(held):
            await self._notify(self.status_callback, fields)

    async def _notify(self, url: str, fields: dict[str, str]) -> None:
        sent = await self.webhooks.request(url, fields)
        if sent.error:
            self.notice(15003, f"status callback: {sent.error}")

    def notify_later(self, url: str, fields: dict[str, str], method: str = "POST") -> None:
        """Post something about a part of this call without holding it up."""
        if url:
            request = self.webhooks.request(urljoin(self.url, url), fields, method=method)
            self.background.append(asyncio.create_task(request))

    def _close_record(self, end: End) -> None:
        self.ended = datetime.now(UTC)
        record, line = self.record, self.line
        record.ended_by, record.late_ms = end.reason, line.late_ms
        record.said, record.heard = bytes(line.said), bytes(line.heard)
        if self._answered_at is not None:
            record.duration_seconds = round(self.phone.pace.now() - self._answered_at)
        record.errors += [Notice(warning.code, warning.text, 0) for warning in self.interpreter.warnings]
