"""One call on the stand-in network, from its first webhook to its last status callback."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin

from sandbox import sound
from sandbox.conversation import Caller
from sandbox.twilio import verbs
from sandbox.twilio.line import Line
from sandbox.twilio.media import Notice
from sandbox.twilio.outcome import End, Fetch, Next, Outcome, Run
from sandbox.twilio.parties import Callee, Conference, callee_of
from sandbox.twilio.record import CallRecord, new_sid
from sandbox.twilio.recording import Recording
from sandbox.twilio.twiml import TwimlError
from sandbox.twilio.webhook import WebhookFailed, Webhooks

if TYPE_CHECKING:
    from sandbox.twilio.phone import Phone

_EVENT_OF = {"queued": "initiated", "initiated": "initiated", "ringing": "ringing", "in-progress": "answered"}
FINAL = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})


class Registry(Protocol):
    """Where live calls are known to REST; `Exchange` is one."""

    async def add_line(self, call: LiveCall) -> None:
        """A call begins."""

    async def line_changed(self, call: LiveCall) -> None:
        """Something that REST shows has changed; after a final status the call is over."""

    async def conference_sid(self, name: str) -> str:
        """The sid of the conference of that name, made when the first one joins."""


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
    ring_timeout: float
    detect_machine: str
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
        self.answered = asyncio.Event()
        self.answered_by = ""
        self.recordings: dict[str, Recording] = {}
        self.conference: Conference | None = None
        self.side_streams: dict[str, asyncio.Task[None]] = {}
        self._background: list[asyncio.Task[Any]] = []
        self._answered_at: float | None = None
        self._line_up = contextlib.AsyncExitStack()
        self._interruption: asyncio.Future[Outcome] | None = None
        self._waiting: Outcome | None = None
        self._callbacks: asyncio.Queue[dict[str, str] | None] = asyncio.Queue()
        self._callback_count = 0

    # Steering, from REST or from a test

    def update(
        self, *, twiml: str = "", url: str = "", method: str = "POST", status: str = "", fallback_url: str = ""
    ) -> None:
        """Change the running call as `POST Calls/{sid}` does. Raises CallOver.

        TwiML and URLs given here have no fallback but the one given with them: not that of the number.
        """
        if self.status in FINAL:
            raise CallOver(f"call {self.sid} is not in-progress: it cannot be redirected")
        if status:
            ringing = self.status in ("queued", "initiated", "ringing")
            final = "canceled" if status == "canceled" or ringing else "completed"
            self._interrupt(End("ended by REST", final))
            return
        self.fallback_url = fallback_url
        if url:
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

    @property
    def is_hanging_up(self) -> bool:
        """Whether the call is about to end, from whichever side."""
        return self.line.hung_up.is_set() or isinstance(self._waiting, End)

    # Running

    async def run(self) -> CallRecord:
        """From the first webhook to the last callback; returns the finished record."""
        callbacks = asyncio.create_task(self._send_callbacks())
        try:
            await self.phone.prepare(self.caller)
            if self.phone.exchange:
                await self.phone.exchange.add_line(self)
            end = await self._through()
            await _cancel(*self.side_streams.values())
            await self._line_up.aclose()
            self._close_record(end)
            await self._set_status(end.status)
            self._callbacks.put_nowait(None)
            await callbacks
            await asyncio.gather(*self._background)
        finally:
            await _cancel(callbacks, *self.side_streams.values(), *self._background)
            await self._line_up.aclose()
            await self.webhooks.aclose()
        return self.record

    async def _through(self) -> End:
        for status in ("initiated", "ringing"):
            await self._set_status(status)
        outcome: Outcome = Run(self.twiml) if self.twiml else Fetch(self.url, {}, self.method)
        if self.direction != "inbound":
            rung = await self._guarded(self._ring())
            outcome = outcome if isinstance(rung, Next) else rung
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

    async def _ring(self) -> Outcome:
        """Let the person called decide."""
        callee = callee_of(self, self.to)
        await self.phone.pace.sleep(min(callee.rings_ms / 1000, self.ring_timeout))
        if callee.rings_ms / 1000 > self.ring_timeout:
            return End("nobody answered", "no-answer")
        if callee.outcome != "completed":
            return End("not answered", callee.outcome)
        await self.answer()
        self._detect(callee)
        return Next()

    def _detect(self, callee: Callee) -> None:
        """Answering machine detection: in the webhook, or posted by itself."""
        if not self.detect_machine:
            return
        self.answered_by = callee.answered_by
        found = {"AnsweredBy": callee.answered_by, "MachineDetectionDuration": "2400"}
        if self.detect_machine == "sync":
            self.fields |= found
        else:
            fields = {"CallSid": self.sid, "AccountSid": self.phone.account_sid} | found
            self.notify_later(self.detect_machine, fields)

    async def _guarded(self, step: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Run a step until it is done or REST, the caller or the time limit interrupts it."""
        self._interruption = asyncio.get_running_loop().create_future()
        if self._waiting:
            self._interruption.set_result(self._waiting)
        work = asyncio.create_task(step)
        gone = asyncio.create_task(self.line.hung_up.wait())
        racing: set[asyncio.Future[Any]] = {work, gone, self._interruption}
        try:
            await asyncio.wait(racing, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(work, gone)
        if self._interruption.done():
            latest, self._waiting = self._waiting, None
            return latest or self._interruption.result()
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
            document, failed = await self.webhooks.twiml(
                url, self.webhook_fields() | fetch.fields, method=fetch.method, fallback=self.fallback_url
            )
        except WebhookFailed as problem:
            self.notice(problem.code, problem.text)
            await self.answer()
            await self.announce("We are sorry, an application error has occurred. Goodbye.")
            return End(f"application error {problem.code}")
        if failed:
            self.notice(failed.code, failed.text)
        self.url = url
        return Run(document)

    def _load(self, document: str) -> Outcome:
        try:
            self.interpreter.load(document)
        except TwimlError as problem:
            self.notice(problem.code, problem.text)
            return End(f"application error {problem.code}")
        return Next()

    # What verbs use

    async def answer(self) -> None:
        """Take the call if it has not been taken: billing and the line's clock begin."""
        if self._answered_at is not None:
            return
        self._answered_at = self.phone.pace.now()
        self.started = datetime.now(UTC)
        self.record.answered = True
        self.answered.set()
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
        event = "completed" if status in FINAL else _EVENT_OF[status]
        if self.status_callback and event in self.status_callback_events:
            self._callbacks.put_nowait(self._callback_fields())
        await self.changed()

    def _callback_fields(self) -> dict[str, str]:
        fields = self.webhook_fields() | {
            "CallStatus": self.status,
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(self._callback_count),
            "Timestamp": format_datetime(datetime.now(UTC)),
        }
        self._callback_count += 1
        if self.status in FINAL:
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
            self._background.append(asyncio.create_task(request))

    def start_recording(
        self,
        *,
        channels: int = 1,
        track: str = "both",
        source: str = "StartCallRecordingAPI",
        callback: str = "",
        events: tuple[str, ...] = ("completed",),
    ) -> Recording:
        """Begin to record the call."""
        recording = Recording(
            new_sid("RE"), self.sid, self.phone.account_sid, channels, track, source, callback, events
        )
        recording.begin(self.line.now_ms)
        self.recordings[recording.sid] = recording
        self._tell_recording(recording, "in-progress")
        return recording

    def change_recording(self, sid: str, status: str, *, pause_behavior: str = "silence") -> Recording:
        """Pause, resume or stop one; `Twilio.CURRENT` is the latest. Raises KeyError, ValueError.

        `absent` stops one that holds nothing but silence.
        """
        sid = next(reversed(self.recordings), sid) if sid == "Twilio.CURRENT" else sid
        recording = self.recordings[sid]
        recording.change("stopped" if status == "absent" else status, self.line.now_ms, pause_behavior=pause_behavior)
        if status == "absent":
            recording.spans.clear()
        if status in ("stopped", "absent"):
            self._finish_recording(recording)
        return recording

    def _finish_recording(self, recording: Recording) -> None:
        recording.finish(self.line.now_ms)
        self._tell_recording(recording, recording.status)

    def _tell_recording(self, recording: Recording, event: str) -> None:
        if event in recording.callback_events:
            self.notify_later(recording.callback, dict(recording.callback_fields()))

    def recording_wav(self, sid: str) -> bytes:
        """One recording's audio. Raises KeyError."""
        return self.recordings[sid].wav(bytes(self.line.said), bytes(self.line.heard))

    async def changed(self) -> None:
        """Tell REST that this call looks different."""
        if self.phone.exchange:
            await self.phone.exchange.line_changed(self)

    def _close_record(self, end: End) -> None:
        self.ended = datetime.now(UTC)
        record, line = self.record, self.line
        for recording in self.recordings.values():
            if recording.status in ("in-progress", "paused"):
                self._finish_recording(recording)
        record.ended_by, record.late_ms = end.reason, line.late_ms
        record.said, record.heard = bytes(line.said), bytes(line.heard)
        if self._answered_at is not None:
            record.duration_seconds = round(self.phone.pace.now() - self._answered_at)
        record.errors += [Notice(warning.code, warning.text, 0) for warning in self.interpreter.warnings]


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
