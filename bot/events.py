"""The vocabulary of a call: every `CallEvent` that can stand on a tape's ``event`` channel.

The live page, the records, the metrics, replay and the tests all read this one list. An event is a frozen dataclass of
plain values; `to_json` and `from_json` carry it over the tape. Times are not in the event: the tape stamps each record
with both clocks. Durations are milliseconds, offsets into audio are milliseconds on the carrier's stream clock (which
starts at 0 with the media stream).

To measure or show something new: one event here, one derivation in records/derive.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import orjson

EndReason = Literal[
    "caller_hung_up",  # the caller put the phone down
    "goodbye",  # the bot said goodbye and hung up
    "refused_busy",  # over MAX_CALLS
    "refused_draining",  # shutting down
    "refused_model",  # the model could not be reached when the call came in
    "model_lost",  # the model went away during the call and no other could take over
    "stream_lost",  # the media stream broke and did not come back
    "never_connected",  # the carrier never opened the media stream
    "model_silent",  # the model was there and said nothing, though it was asked again
    "caller_silent",  # the caller did not say a word for long and heard goodbye
    "time_limit",  # the longest allowed call was reached
    "transferred",  # a person took the caller over
    "message_taken",  # the caller asked for a person, nobody was there, and the caller's message was recorded
    "nobody_there",  # the caller asked for a person, nobody was there, and no message was left
    "shutdown",  # the server stopped before the call had ended
    "failed",  # an error of ours
    "interrupted",  # the server died during the call; the end was added when its tape was found
]
Speaker = Literal["caller", "bot"]


@dataclass(frozen=True)
class CallEvent:
    """Base of all events. ``kind`` is the name on the tape."""

    kind: ClassVar[str] = ""
    _by_kind: ClassVar[dict[str, type[CallEvent]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        CallEvent._by_kind[cls.kind] = cls

    def to_json(self) -> bytes:
        """The event as sorted-key JSON: ``{"kind": ..., **fields}``."""
        return orjson.dumps({"kind": self.kind, **vars(self)}, option=orjson.OPT_SORT_KEYS)

    @staticmethod
    def from_json(data: bytes | str) -> CallEvent:
        """Read one event back; fields that this version does not know are dropped.

        Raises ``ValueError`` where the kind is unknown.
        """
        values = orjson.loads(data)
        kind = values.pop("kind", None)
        cls = CallEvent._by_kind.get(kind)
        if cls is None:
            raise ValueError(f"unknown event kind {kind!r}")
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in known})


# -- the call ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CallReceived(CallEvent):
    """The carrier's webhook came in and the call was taken."""

    kind = "call_received"
    call_sid: str
    from_number: str
    to_number: str
    flow: str


@dataclass(frozen=True)
class CallRefused(CallEvent):
    """The carrier's webhook came in and the caller heard why the call cannot be taken."""

    kind = "call_refused"
    call_sid: str
    reason: EndReason


@dataclass(frozen=True)
class StreamStarted(CallEvent):
    """The media stream is open. ``wait_ms`` counts from the webhook."""

    kind = "stream_started"
    stream_sid: str
    wait_ms: float


@dataclass(frozen=True)
class StreamStopped(CallEvent):
    """The media stream is over: ``stop`` (said by the carrier), ``lost`` (the socket broke) or ``closed`` (by us)."""

    kind = "stream_stopped"
    how: Literal["stop", "lost", "closed"]


@dataclass(frozen=True)
class CallStatusChanged(CallEvent):
    """The carrier's status callback moved the call on."""

    kind = "call_status"
    status: str


@dataclass(frozen=True)
class HangUpRequested(CallEvent):
    """We ask the carrier to end the call."""

    kind = "hang_up_requested"
    reason: EndReason


@dataclass(frozen=True)
class CallEnded(CallEvent):
    """The last event of every call."""

    kind = "call_ended"
    reason: EndReason
    duration_ms: float


# -- what was said ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GreetingStarted(CallEvent):
    """The greeting is going out: from the ``cache``, or spoken by the ``model`` because no clip was ready."""

    kind = "greeting_started"
    source: Literal["cache", "model"]
    text: str


@dataclass(frozen=True)
class CallerSaid(CallEvent):
    """Words of the caller as the model transcribed them."""

    kind = "caller_said"
    text: str


@dataclass(frozen=True)
class BotSaid(CallEvent):
    """One turn of the bot.

    ``text`` is what was sent to the carrier: words that an interruption kept back are not in it. ``heard`` is how much
    of the sent audio was played before the turn ended or was cut (0 to 1, by marks); ``interrupted``: it was cut.
    """

    kind = "bot_said"
    text: str
    heard: float
    interrupted: bool


@dataclass(frozen=True)
class BotStartedSpeaking(CallEvent):
    """First audio of a bot turn went to the carrier.

    ``response_ms`` counts from the last voiced audio of the caller as it reached us (None for a turn that answers no
    speech); ``model_ms`` from there to the model's first audio of this turn. ``clip`` are the ready-made words that are
    said; empty where the model speaks.
    """

    kind = "bot_started_speaking"
    turn: int
    response_ms: float | None
    model_ms: float | None
    clip: str = ""


@dataclass(frozen=True)
class BotStoppedSpeaking(CallEvent):
    """The last audio of a bot turn was played to the caller (its mark came back)."""

    kind = "bot_stopped_speaking"
    turn: int


@dataclass(frozen=True)
class SilenceFilled(CallEvent):
    """The line was silent for too long and a ready-made phrase was said: ``one_moment`` or ``still_there``.

    ``source`` is ``cache``, or ``none`` where no clip was ready and nothing could be said.
    """

    kind = "silence_filled"
    phrase: str
    source: Literal["cache", "none"]


@dataclass(frozen=True)
class PlayoutPaused(CallEvent):
    """Voice came from the caller's side while the bot spoke: nothing is sent any more.

    The caller still hears ``waiting_ms`` that wait at the carrier. `PlayoutResumed` or `BargeIn` follows.
    """

    kind = "playout_paused"
    turn: int
    waiting_ms: float


@dataclass(frozen=True)
class PlayoutResumed(CallEvent):
    """It was no interruption: after ``paused_ms`` the bot goes on where it stopped.

    ``why``: the caller's side was ``quiet`` again; it was neither quiet nor speech up to the ``limit``; somebody went
    on speaking over ``protected`` words, which are said to their end; or the bot had ``finished`` when it was paused.
    """

    kind = "playout_resumed"
    turn: int
    paused_ms: float
    why: Literal["quiet", "limit", "protected", "finished"]


@dataclass(frozen=True)
class BargeIn(CallEvent):
    """The caller interrupted the bot, and what waited at the carrier was cleared.

    ``by`` tells who said so: the ``model``, or the ``caller`` by speaking on without a word of the model.
    """

    kind = "barge_in"
    turn: int
    cleared_ms: float
    by: Literal["model", "caller"] = "model"


@dataclass(frozen=True)
class KeyPressed(CallEvent):
    """A key of the caller's phone. The digit is caller data."""

    kind = "key_pressed"
    digit: str


@dataclass(frozen=True)
class MarkReturned(CallEvent):
    """The carrier returned a mark: everything before it was ``played``, or ``cleared`` unheard."""

    kind = "mark_returned"
    name: str
    how: Literal["played", "cleared"]


# -- steps and tools --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepEntered(CallEvent):
    """The conversation reached a step of the flow."""

    kind = "step_entered"
    step: str


@dataclass(frozen=True)
class ToolCalled(CallEvent):
    """The model called a function. ``call_id`` is the model's; ``arguments`` as they came."""

    kind = "tool_called"
    call_id: str
    name: str
    arguments: dict[str, Any]
    step: str


@dataclass(frozen=True)
class ToolReturned(CallEvent):
    """The answer that goes back to the model.

    ``key`` names what was written in the business's books; empty where nothing was.
    ``status``: ``ok``; ``refused`` (the business or the step said no); ``invalid`` (arguments); ``unknown`` (no such
    tool); ``timeout`` or ``error`` (ours); ``repeated`` (the same call again: the first result was given, nothing ran).
    """

    kind = "tool_returned"
    call_id: str
    name: str
    status: Literal["ok", "refused", "invalid", "unknown", "timeout", "error", "repeated"]
    result: dict[str, Any]
    duration_ms: float
    key: str = ""


@dataclass(frozen=True)
class WriteFound(CallEvent):
    """A write of this call stood in the business's books, and its result not on the tape, when that was recovered.

    ``command`` (``book``, ``take_message``, ...) and ``result`` are the desk's, ``key`` names the write there.
    """

    kind = "write_found"
    command: str
    key: str
    result: dict[str, Any]


@dataclass(frozen=True)
class ToolCancelled(CallEvent):
    """The model withdrew a call; a write that had begun is finished all the same."""

    kind = "tool_cancelled"
    call_id: str


# -- people -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HandedOver(CallEvent):
    """Our part of the call is over: a person is to be rung, or a message to be recorded where `number` is empty.

    ``cause``: the caller ``asked``, or what failed. ``why`` are the model's words for whoever picks up; `number` is the
    flow's, in E.164.
    """

    kind = "handed_over"
    cause: str
    why: str
    number: str


@dataclass(frozen=True)
class HandoverAnswered(CallEvent):
    """A person took the call over, ``ring_ms`` after the carrier was told to ring."""

    kind = "handover_answered"
    ring_ms: float


@dataclass(frozen=True)
class HandoverFailed(CallEvent):
    """No person took the call: ``busy``, ``no-answer``, ``failed``, or ``canceled`` by a caller who hung up."""

    kind = "handover_failed"
    status: str


@dataclass(frozen=True)
class MessageRecorded(CallEvent):
    """The caller spoke a message to the carrier's recorder; it lies at ``url``."""

    kind = "message_recorded"
    recording_sid: str
    url: str
    duration_ms: float


# -- the model --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelConnected(CallEvent):
    """A session is ready. ``setup_ms`` from the attempt to setupComplete."""

    kind = "model_connected"
    model: str
    setup_ms: float
    resumed: bool


@dataclass(frozen=True)
class ModelFailed(CallEvent):
    """A session could not be opened or was lost.

    ``failure`` is a `bot.errors.ModelFailure`; ``detail`` has no caller data.
    """

    kind = "model_failed"
    model: str
    failure: str
    detail: str


@dataclass(frozen=True)
class ModelGoAway(CallEvent):
    """The model announced that it will close the connection."""

    kind = "model_go_away"
    time_left_ms: float


@dataclass(frozen=True)
class TokensUsed(CallEvent):
    """Usage as the model reported it for one turn, whole (field names as on the wire)."""

    kind = "tokens_used"
    model: str
    usage: dict[str, Any]


@dataclass(frozen=True)
class Grounded(CallEvent):
    """The model searched the web for its answer."""

    kind = "grounded"
    queries: list[str]
    sources: list[str]


# -- trouble ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble(CallEvent):
    """Something failed and the call went on, or ended in words. ``failure`` is also the label of a counter.

    ``caller_heard`` tells how it sounded on the line: ``nothing`` where it cannot be heard, else the phrase's name.
    """

    kind = "trouble"
    failure: str
    where: str
    caller_heard: str
    detail: str = ""
