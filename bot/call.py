"""One call from answer to hang-up: its parts, its timers, its end.

A `Call` begins with the carrier's webhook: tape, tools, model session and pipeline start at once, so that the model is
ready when the media stream opens. It ends once, with one reason, whoever says so first: the caller, the carrier, the
model, a tool, a timer or the server. Whatever the reason, the caller hears words before the line closes, unless it was
the caller who hung up.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from loguru import logger

from bot.carriers import START_SECONDS, NextStep, OpenStream
from bot.carriers.call_status import FINAL, CallStatus
from bot.carriers.media_socket import MediaSerializer, MediaSocket, StreamEnd
from bot.carriers.twilio import CarrierRest
from bot.errors import CarrierUnreachable, ModelError, StreamRejected
from bot.events import (
    BargeIn,
    BotStartedSpeaking,
    CallEnded,
    CallEvent,
    CallReceived,
    CallStatusChanged,
    EndReason,
    HangUpRequested,
    ModelConnected,
    StreamStarted,
    ToolReturned,
    Trouble,
)
from bot.flow import Flow
from bot.gemini import GeminiSession
from bot.gemini_client import GeminiClients
from bot.greeting import Greetings
from bot.handover import Cause, Handover
from bot.lane import take_apart
from bot.logs import call_context
from bot.metrics import Metrics
from bot.pipeline import build_pipeline, run_pipeline
from bot.ports import Clock, Ids
from bot.ready_words import ReadyWords
from bot.settings import Settings
from bot.silence import GIVE_UP_SECONDS, LOOK_SECONDS, NUDGE_SECONDS, Sight, Silence
from bot.tape import TapeDeck
from bot.tools import CallFacts, ToolBox
from bot.turns import Turns
from desk.desk import Desk

ANSWER_SECONDS = 15.0
"""The media stream must open this soon after the webhook."""
REJOIN_SECONDS = 15.0
"""A caller whose stream broke is waited for this long; the carrier asks for the next step within its own time-outs."""
HAND_OVER_SECONDS = 15.0
"""A carrier that is to hand a caller over asks what comes next this soon after the stream is gone."""
HANG_UP_SECONDS = 3.0
"""A hang-up that takes longer is helped by closing the stream: then the carrier asks, and is told to hang up."""
STREAM_END_SECONDS = 3.0
"""After a hang-up the carrier ends the stream this soon, or we do."""

_NUDGE = (
    "[The caller waits and hears nothing. Answer now in a few words; if you did not understand, ask again; "
    "if you cannot help, say so and offer to take a message]"
)

CallListener = Callable[[str, CallEvent, int], None]
"""Gets (call sid, event, monotonic ns) of every event of every call; must be quick and must not raise."""


@dataclass
class CallParts:
    """What calls share. `greetings` comes with the first warmed model; `listeners` may change while calls run."""

    settings: Settings
    flow: Flow
    desk: Desk
    clock: Clock
    ids: Ids
    clients: GeminiClients
    rest: CarrierRest
    metrics: Metrics
    deck: TapeDeck
    greetings: Greetings
    code_version: str
    listeners: list[CallListener] = field(default_factory=list)


class Call:
    """A call that was taken. Fulfils `bot.carriers.Call`; `Calls` (bot/calls.py) makes it and forgets it."""

    def __init__(self, parts: CallParts, *, call_sid: str, account_sid: str, from_number: str, to_number: str) -> None:
        self.call_sid = call_sid
        self.reason: EndReason | None = None
        self.tape_path: Path | None = None
        self.model_failure: ModelError | None = None
        self.handover: Handover | None = None
        self._parts = parts
        self._clock = parts.clock
        self._flow = parts.flow
        self._ids = parts.ids.child()
        self._token: str | None = self._ids.token()
        self._begun_ns = self._clock.now_ns()
        self._parting = ""
        self._ending = asyncio.Event()
        self._parting_asked = asyncio.Event()
        self._stream_over = asyncio.Event()
        self._stream_over.set()
        self._streams = 0
        self._stream_ns: int | None = None
        self._greeted = False
        self._closed = False
        self._pipeline_over = False
        self._status = CallStatus()
        self._timers: set[asyncio.Task[None]] = set()
        self._reactions: tuple[Callable[[CallEvent], None], ...] = ()
        self._tape = parts.deck.open(call_sid, self._meta(account_sid))
        self.record(CallReceived(call_sid, from_number, to_number, self._flow.id))
        self._turns = Turns(self.record)
        limits = self._flow.limits
        self._silence = Silence(
            self._begun_ns / 1e9, caller_seconds=limits.caller_silence_seconds, questions=limits.still_there_times
        )
        self.facts = CallFacts(call_sid, from_number, to_number)
        self._toolbox = ToolBox(self._flow, parts.desk, self._clock, self.facts, self.record)
        self._media = MediaSocket(self._clock, self._turns, parts.metrics, self._tape.put, self.record)
        self._gemini = GeminiSession(
            parts.clients,
            models=self._flow.models or parts.settings.gemini_models,
            flow=self._flow,
            toolbox=self._toolbox,
            turns=self._turns,
            clock=self._clock,
            record=self.record,
            tap=self._tape.put,
            on_lost=self._model_lost,
        )
        self._worker = build_pipeline(self._media, MediaSerializer(self._media), self._gemini)
        self._words = ReadyWords(
            self._flow,
            parts.greetings,
            self._clock,
            self.record,
            media=self._media,
            turns=self._turns,
            gemini=self._gemini,
            worker=self._worker,
        )
        # What happens before all parts are there concerns none of them.
        self._reactions = (self._words.see, self._react)
        self._task = asyncio.create_task(self._run(), name=f"call {call_sid}")

    def _meta(self, account_sid: str) -> dict[str, object]:
        return {
            "account": account_sid,
            "flow": {
                "id": self._flow.id,
                "hash": self._flow.content_hash,
                "content": self._flow.model_dump(mode="json"),
            },
            "models": list(self._flow.models or self._parts.settings.gemini_models),
            "code": self._parts.code_version,
            "settings": self._parts.settings.without_secrets(),
        }

    # -- events -------------------------------------------------------------------------------------------------------

    def record(self, event: CallEvent) -> None:
        """The one door for what happens on this call: tape, figures, whoever watches."""
        if self._closed:
            return
        # What was booked is in the business's books by now: a kill must not find it missing here.
        self._tape.put("event", event.to_json(), soon=isinstance(event, ToolReturned))
        self._parts.metrics.observe(event)
        for listener in self._parts.listeners:
            listener(self.call_sid, event, self._clock.now_ns())
        for reaction in self._reactions:
            reaction(event)

    def _react(self, event: CallEvent) -> None:
        match event:
            case BotStartedSpeaking() if self._stream_ns is not None:
                self._parts.metrics.first_audio_seconds.observe((self._clock.now_ns() - self._stream_ns) / 1e9)
                self._stream_ns = None
            case BargeIn(by="caller"):
                self._silence.caller_cut_in(self._clock.now_ns() / 1e9)
            case ToolReturned(status="ok") if self._toolbox.wants_hang_up and not self._words.saying_goodbye:
                self._words.saying_goodbye = True
                self._after(self._hang_up_after_last_words())
            case ToolReturned(status="ok") if self._toolbox.wants_person:
                self._hand_over("asked", self._toolbox.wants_person)
            case ModelConnected():
                self.model_failure = None

    # -- the carrier's side -------------------------------------------------------------------------------------------

    @property
    def stream_token(self) -> str:
        """The secret that the next media stream must show. Empty once the call is over."""
        if self._token is None and self.reason is None:
            self._token = self._ids.token()
        return self._token or ""

    def claim(self, token: str) -> None:
        """Spend the token.

        Raises `bot.errors.StreamRejected`: the call is over, the token is wrong or spent, or a stream is open.
        """
        if self.reason is not None:
            raise StreamRejected("call_over", "The call is over; no media stream can be opened for it.")
        if self._media.attached:
            raise StreamRejected("second_stream", "The call has an open media stream; a second one is refused.")
        if self._token is None or not hmac.compare_digest(self._token.encode(), token.encode()):
            raise StreamRejected("bad_token", "The media stream's token is wrong or spent.")
        self._token = None

    async def serve_stream(self, opened: OpenStream) -> None:
        """Carry the media stream; returns when it is over and its socket closed."""
        with call_context(self.call_sid):
            self._media.attach(opened)
            self._stream_over.clear()
            self._streams += 1
            now_ns = self._clock.now_ns()
            self._stream_ns = None if self._greeted else now_ns
            self.record(StreamStarted(opened.started.stream_sid, (now_ns - self._begun_ns) / 1e6))
            if not self._greeted:
                self._greeted = True
                self._after(self._words.greet())
                self._after(self._watch_for_silence())
            how: StreamEnd = "lost"
            try:
                how = await self._media.serve()
            finally:
                self._stream_over.set()
                if how == "stop":
                    self.end("caller_hung_up")
                elif how == "lost" and self.reason is None:
                    self._after(self._give_up_unless_rejoined())
                elif how == "closed" and self.reason is None:
                    # Before its end a call's stream is closed by nobody but its pipeline, which breaks down.
                    self._pipeline_failed("closed the stream")

    def after_stream(self) -> NextStep:
        """The stream is over and the caller is still there: the parting words, or another stream."""
        if self.reason is None:
            return NextStep("", "reconnect", self._flow.language)
        self._parting_asked.set()
        return self.handover.next_step(self._parting) if self.handover else self.parting

    @property
    def parting(self) -> NextStep:
        """What the carrier does at the end of a call that nobody takes over: the parting words, and a hang-up."""
        return NextStep(self._parting, "hang_up", self._flow.language)

    def carrier_status(self, status: str, sequence: int | None) -> None:
        """The carrier tells how the call stands; late and repeated tellings change nothing."""
        if self._status.advance(status, sequence) == "moved":
            self.record(CallStatusChanged(status))
            if status in FINAL:
                self.end("caller_hung_up")
                if self.handover:
                    self.handover.caller_gone()

    def carrier_failed(self, trouble: Trouble) -> None:
        """Something failed between the carrier and us: counted, and on the tape while there is one."""
        if self._closed:
            self._parts.metrics.observe(trouble)
        else:
            self.record(trouble)

    # -- the end ------------------------------------------------------------------------------------------------------

    def end(self, reason: EndReason, say: str = "") -> None:
        """End the call. The first reason stays; `say` is spoken by the carrier after our stream is closed."""
        if self.reason is None:
            self.reason = reason
            self._parting = say
            self._ending.set()
        elif reason == "shutdown" and self.handover:
            self.handover.let_go()

    async def over(self) -> None:
        """Wait until the call has ended and its tape is closed."""
        await asyncio.shield(self._task)

    def _model_lost(self, error: ModelError) -> None:
        """No model answers any more: the carrier says sorry in our place."""
        if self._closed:
            return
        self.model_failure = error
        before_a_word = not self._words.bot_spoke or not self._gemini.was_ready
        phrase = "sorry_unreachable" if before_a_word else "sorry_lost"
        self._give_up("model_lost", Trouble(f"model_{error.kind}", "model", phrase))

    def _give_up(self, cause: Literal["model_lost", "model_silent", "failed"], trouble: Trouble) -> None:
        """We cannot help any more: the caller is handed over where the flow says so, or hears why the call ends."""
        if self._flow.handover is None:
            self.record(trouble)
            self.end(cause, getattr(self._flow.phrases, trouble.caller_heard))
        else:
            self.record(replace(trouble, caller_heard="handover"))
            self._hand_over(cause)

    def _hand_over(self, cause: Cause, why: str = "") -> None:
        if self.reason is None:
            self.handover = Handover(self._flow, self.facts, cause, why, self._clock, self.record)
            self.end("transferred", self.handover.words)

    async def _run(self) -> None:
        with call_context(self.call_sid):
            pipeline = asyncio.create_task(run_pipeline(self._worker), name=f"pipeline {self.call_sid}")
            pipeline.add_done_callback(self._pipeline_done)
            self._after(self._give_up_unless_answered())
            self._after(self._keep_to_the_limit())
            try:
                await self._ending.wait()
                with self._failure_told():
                    await self._leave_the_line()
            finally:
                try:
                    with self._failure_told():
                        await self._tear_down(pipeline)
                    if self.handover:
                        await self.handover.until_over()
                        self.reason = self.handover.outcome
                finally:
                    await self._close_tape()

    @contextmanager
    def _failure_told(self, heard: str = "nothing") -> Iterator[None]:
        """A part of the end that fails by a fault of ours is told, and the next one follows all the same."""
        try:
            yield
        except Exception as error:
            logger.opt(exception=error).error("The end of the call failed")
            self.record(Trouble("call_end", "call", heard, type(error).__name__))

    def _pipeline_done(self, task: asyncio.Task[None]) -> None:
        if self.reason is not None or task.cancelled():
            return
        error = task.exception()
        self._pipeline_failed(type(error).__name__ if error else "ended by itself")

    def _pipeline_failed(self, detail: str) -> None:
        self._pipeline_over = True
        self._give_up("failed", Trouble("pipeline", "pipeline", "sorry_lost", detail))

    async def _leave_the_line(self) -> None:
        """Close the caller's line: last words where there are any, then a hang-up, or what a handover says."""
        assert self.reason is not None
        if self.reason == "caller_hung_up" or self._status.is_over:
            return
        said = False
        with self._failure_told(self._parting_heard):
            said = await self._say_parting()
        if self.handover or not said:
            # The carrier asks what comes next when the stream is gone: it says the parting words and hangs up itself,
            # or takes the caller elsewhere, whom a hang-up of ours would cut off.
            unstarted = 0.0 if self._media.attached else START_SECONDS
            await self._media.close()
            with suppress(TimeoutError):
                # A socket that has not said `start` is not known to be this call's: its own limit closes it.
                async with asyncio.timeout(unstarted + (HAND_OVER_SECONDS if self.handover else STREAM_END_SECONDS)):
                    await self._parting_asked.wait()
                    return
        self.record(HangUpRequested(self.reason))
        try:
            async with asyncio.timeout(HANG_UP_SECONDS):
                await self._parts.rest.hang_up(self.call_sid)
        except (CarrierUnreachable, TimeoutError) as error:
            # Closing the socket makes the carrier ask what comes next, and `after_stream` answers with a hang-up.
            detail = str(error) or f"no answer within {HANG_UP_SECONDS:g} s"
            self.record(Trouble("hang_up_refused", "carrier", "nothing", detail))
            await self._media.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(STREAM_END_SECONDS):
                await self._stream_over.wait()

    async def _say_parting(self) -> bool:
        """Say the parting words in the bot's own voice where that can be done; else the carrier says them.

        What is being heard comes first, unless the server stops. Gives whether nothing is left to be said.
        """
        if self.reason != "shutdown":
            await self._words.finish()
        if self._parting and (self._pipeline_over or not await self._words.say_last(self._parting)):
            return False
        self._parting = ""
        return True

    @property
    def _parting_heard(self) -> str:
        """What the caller hears where the carrier parts in our place, as a `Trouble` tells it."""
        phrases = (name for name, words in self._flow.phrases if words == self._parting)
        return "handover" if self.handover else next(phrases, "nothing")

    async def _tear_down(self, pipeline: asyncio.Task[None]) -> None:
        for timer in self._timers:
            timer.cancel()
        await asyncio.gather(*self._timers, return_exceptions=True)
        await self._media.close()
        await self._worker.cancel(reason="the call is over")
        await asyncio.wait({pipeline}, timeout=5)
        left = await self._toolbox.finish()
        if left:
            self.record(Trouble("writes_unfinished", "tools", "nothing", f"{left} still running"))
        self._turns.line_lost()
        if pipeline.done():
            take_apart(self._worker)

    async def _close_tape(self) -> None:
        self.record(CallEnded(self.reason or "failed", (self._clock.now_ns() - self._begun_ns) / 1e6))
        self._closed = True
        self.tape_path = await self._tape.close({"seed": self._ids.seed.hex()})
        # The call is known for a while yet, for the carrier's late questions; what it talked with need not be.
        self._reactions = ()
        del self._words, self._worker, self._gemini, self._media, self._turns, self._silence, self._toolbox, self._tape

    # -- timers -------------------------------------------------------------------------------------------------------

    def _after(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._timers.add(task)
        task.add_done_callback(self._timer_done)

    def _timer_done(self, task: asyncio.Task[None]) -> None:
        self._timers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("A step of the call failed")
            self._give_up("failed", Trouble("call_step", "call", "sorry_lost", type(error).__name__))

    async def _give_up_unless_answered(self) -> None:
        await self._clock.sleep(ANSWER_SECONDS)
        if not self._greeted:
            self.record(Trouble("never_connected", "carrier", "sorry_unreachable"))
            self.end("never_connected", self._flow.phrases.sorry_unreachable)

    async def _give_up_unless_rejoined(self) -> None:
        lost = self._streams
        await self._clock.sleep(REJOIN_SECONDS)
        if self._streams == lost:
            self.record(Trouble("stream_lost", "carrier", "sorry_lost"))
            self.end("stream_lost", self._flow.phrases.sorry_lost)

    async def _keep_to_the_limit(self) -> None:
        await self._clock.sleep(self._flow.limits.max_call_minutes * 60)
        self.end("time_limit", self._flow.phrases.goodbye)

    async def _hang_up_after_last_words(self) -> None:
        """The model has asked to end the call; where the caller hears no goodbye of it, the flow's own is said."""
        said = await self._words.model_says_goodbye(has_answered=not self._silence.caller_spoke_last)
        self.end("goodbye", "" if said else self._flow.phrases.goodbye)

    # -- silence ------------------------------------------------------------------------------------------------------

    async def _watch_for_silence(self) -> None:
        while self.reason is None:
            await self._clock.sleep(LOOK_SECONDS)
            if self._words.saying_goodbye:
                return
            match self._silence.see(self._clock.now_ns() / 1e9, self._sight()):
                case "one_moment" | "still_there" as phrase:
                    await self._words.fill(phrase)
                case "nudge":
                    self.record(Trouble("model_quiet", "model", "nothing", f"no answer for {NUDGE_SECONDS:g} s"))
                    await self._gemini.say_to_model(_NUDGE)
                case "give_up" if self._gemini.connected:
                    detail = f"no answer for {GIVE_UP_SECONDS:g} s"
                    self._give_up("model_silent", Trouble("model_silent", "model", "sorry_lost", detail))
                case "give_up":
                    self._model_lost(ModelError("timeout", f"No session for {GIVE_UP_SECONDS:g} s."))
                case "goodbye":
                    self.end("caller_silent", self._flow.phrases.goodbye)

    def _sight(self) -> Sight:
        return Sight(
            line_open=self._media.attached,
            bot_sounds=self._words.bot_sounds,
            voiced_ms=self._turns.voiced_ms,
            model_spoke_s=_seconds(self._turns.model_spoke_ns),
            model_acted_s=_seconds(self._gemini.acted_ns),
            model_owes=self._gemini.owes_words,
            tool_runs=self._gemini.runs_tools,
            connected=self._gemini.connected,
        )


def _seconds(moment_ns: int | None) -> float | None:
    return None if moment_ns is None else moment_ns / 1e9
