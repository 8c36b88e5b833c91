"""Handing a caller over: to a person, and to a recorder where nobody answers.

Our part of a call ends when the media stream does. Then the carrier asks what comes next, rings the person (who hears a
briefing and presses a key), and asks again how that went; or it records what the caller says. `Handover` keeps the
place, so that a question that is asked twice gets the same answer, and says what became of the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from bot.carriers import Briefing, Dialled, NextStep, RecordedMessage, Ring, TakeMessage
from bot.events import CallEvent, EndReason, HandedOver, HandoverAnswered, HandoverFailed, MessageRecorded, Trouble
from bot.ports import Clock, utc
from bot.tools.registry import CallFacts
from desk.business import Business, WeekHours

if TYPE_CHECKING:
    from bot.flow import Flow

KEY_SECONDS = 10
"""The person who picked up has so long to press a key once the briefing has been said."""
SLACK_SECONDS = 45.0
"""For words that are said, and requests that are repeated, before and after ringing and recording."""
RECORD_SECONDS = 120
"""The longest message."""
RECORDING_SECONDS = 15.0
"""A recording is told of this soon after the caller has hung up."""

Cause = Literal["asked", "model_lost", "model_silent", "failed"]


@dataclass(frozen=True)
class StaffLine:
    """The person who takes over: an E.164 number, how long it rings, its hours where they are not the business's."""

    number: str
    ring_seconds: int
    hours: WeekHours | None = None

    def is_staffed(self, business: Business, now: datetime, called: str) -> bool:
        """Whether somebody should answer now. A holiday of the business overrides the weekday's hours.

        `called` is the number that the caller dialled: to ring that would bring the caller back here.
        """
        return called != self.number and business.is_within(now, self.hours)


class Handover:
    """One caller's way out of our call. `record` gets the events.

    The flow must have a ``handover``. Where its person is not there to be rung, the caller goes straight to the
    recorder. `why` are words for the person who picks up.
    """

    def __init__(
        self, flow: Flow, call: CallFacts, cause: Cause, why: str, clock: Clock, record: Callable[[CallEvent], None]
    ) -> None:
        line = flow.staff_line
        staffed = line is not None and line.is_staffed(flow.desk_business(), utc(clock), call.to_number)
        self._flow = flow
        self._call = call
        self._cause = cause
        self._why = why
        self._clock = clock
        self._record = record
        self._line = line if staffed else None
        self._rings = staffed
        self._rung_ns = clock.now_ns()
        self._answered = False
        self._status: Dialled | None = None
        self._caller_gone = False
        self._recordings: set[str] = set()
        self._over = False
        self._moved = asyncio.Event()
        record(HandedOver(cause, why, self._line.number if self._line else ""))

    @property
    def words(self) -> str:
        """What the caller hears before our stream is closed."""
        return self._flow.handover.handing_over if self._line and self._flow.handover else ""

    @property
    def outcome(self) -> EndReason:
        """How the call ended, once it is over."""
        if self._answered:
            return "transferred"
        if self._cause != "asked":
            return self._cause
        if self._recordings:
            return "message_taken"
        return "caller_hung_up" if self._status == "canceled" else "nobody_there"

    def next_step(self, say: str = "") -> NextStep:
        """What the carrier is to do with a caller who is still there, after `say` if it rings somebody."""
        if self._rings and self._line:
            self._rung_ns = self._clock.now_ns()
            # A withheld number cannot be shown; ours can.
            shown = "" if self._call.caller_number else self._call.to_number
            return NextStep(say, Ring(self._line.number, self._line.ring_seconds, shown), self._flow.language)
        if self._answered or self._recordings:
            return NextStep("", "hang_up", self._flow.language)
        return message_step(self._flow)

    def briefing(self) -> Briefing:
        """What the person who picks up hears."""
        return briefing_for(self._flow, self._call.caller_number, self._why)

    def accepted(self) -> None:
        """The person took the call: ours is over."""
        if self._rings:
            self._rings = False
            self._answered = True
            self._record(HandoverAnswered((self._clock.now_ns() - self._rung_ns) / 1e6))
            self._end()

    def dial_ended(self, status: Dialled, *, bridged: bool) -> None:
        """Ringing, and the talk if there was one, is over. Told again, it changes nothing."""
        if not self._rings:
            return
        if bridged:
            self.accepted()
        else:
            self._failed(status)

    def message_recorded(self, message: RecordedMessage) -> None:
        """The caller left a message. The carrier tells it twice: as the recorder's end and as a finished recording."""
        if message.recording_sid not in self._recordings:
            self._recordings.add(message.recording_sid)
            self._record(MessageRecorded(message.recording_sid, message.url, message.seconds * 1000))
        self._end()

    def caller_gone(self) -> None:
        """The caller has hung up. A recording that was going on may still be told of."""
        self._caller_gone = True
        if self._rings:
            self._failed("canceled")
            self._end()
        self._moved.set()

    def let_go(self) -> None:
        """The server stops: what becomes of the caller is the carrier's business from here on."""
        self._end()

    async def until_over(self) -> None:
        """Wait until the caller has gone elsewhere, or the carrier has told nothing for longer than it may take."""
        while not self._over:
            self._moved.clear()
            try:
                async with asyncio.timeout(self._patience_seconds()):
                    await self._moved.wait()
            except TimeoutError:
                self._lost_sight()
        # What is told later changes nothing: the call is over, and must not be kept for it.
        self._record = _nobody

    def _patience_seconds(self) -> float:
        if self._caller_gone:
            return RECORDING_SECONDS
        if self._rings and self._line:
            return self._line.ring_seconds + KEY_SECONDS + SLACK_SECONDS
        return RECORD_SECONDS + SLACK_SECONDS

    def _lost_sight(self) -> None:
        """Nothing to worry about where a caller left no message."""
        if self._rings:
            self._rings = False
            self._record(Trouble("handover_lost", "carrier", "nothing", "it was never told how the ringing ended"))
        self._end()

    def _failed(self, status: Dialled) -> None:
        self._rings = False
        self._status = status
        self._record(HandoverFailed(status))
        self._moved.set()

    def _end(self) -> None:
        self._over = True
        self._moved.set()


def _nobody(event: CallEvent) -> None:
    """Takes an event of a call that is over."""


def message_step(flow: Flow) -> NextStep:
    """The caller is asked for a message, if the flow has words for it, and the call ends."""
    if flow.handover is None:
        return NextStep(flow.phrases.goodbye, "hang_up", flow.language)
    return NextStep(flow.handover.nobody_there, TakeMessage(flow.phrases.goodbye), flow.language)


def briefing_for(flow: Flow, number: str | None = None, why: str = "") -> Briefing:
    """What a person who picks up hears of a caller, from the flow's words; digits are read one by one."""
    words = flow.handover.briefing if flow.handover else ""
    words = words.replace("{caller}", " ".join(number) if number else "-").replace("{reason}", why)
    return Briefing(" ".join(words.split()), flow.language, KEY_SECONDS)
