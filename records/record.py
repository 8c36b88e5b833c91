"""The record of a finished call: plain values that code derives from its tape and can derive again.

`records.derive` makes a `CallRecord` from a tape; `records.store` keeps it and gives it back. Times called ``…_ms`` are
milliseconds on the call's playout clock: 0 is the carrier's first ``start`` message, and audio stands where the caller
heard it, or said it. A call that never had a media stream has its 0 at the webhook.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from bot.events import EndReason, Speaker

LONG_SILENCE_MS = 3_000.0
"""From here on a silence is told: so long does a call wait before it fills one."""

Disposition = Literal[
    "booked",  # an appointment was made
    "rescheduled",
    "cancelled",
    "message_taken",
    "transferred",  # handed to a human
    "answered",  # a conversation without a change: questions answered
    "abandoned",  # the caller hung up before anything was settled
    "no_conversation",  # the caller did not speak, or the media stream never opened
    "refused",  # the call was not taken: busy, draining, no model
    "failed",  # the call ended by a failure of ours or the model's
]
FlagKind = Literal[
    "promise_without_result",  # the bot said it booked, changed or noted something, and no tool did
    "promise_contradicts_result",  # the bot told another day or time than the one that was committed
    "result_without_words",  # a tool committed something, and the caller did not hear of it
    "unheard_result",  # the words were sent, and an interruption or the end kept them from being heard
    "voice_without_words",  # the caller's voice is on the tape, and nobody wrote down words
    "records_lost",  # the tape has a gap
    "interrupted",  # the server died during the call
    "unknown_price",  # a model or kind of token that the price table does not have, or minutes that no tape has
]


CommitmentCheck = Literal[
    "made",
    "partly",  # some of the bot's words were in a language without rules: neither they nor results were checked
    "not_made",  # all were
]


@dataclass(frozen=True)
class Word:
    """One word and when it sounded."""

    text: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class Turn:
    """One turn of the conversation, in the order of its audio.

    ``text`` is what was said and heard. ``unheard`` is the rest of a bot's turn that an interruption cut off. A
    caller's turn that has voice and no words has ``gap`` set and an empty ``text``, or the second recogniser's words
    (``source`` tells). ``word_times`` tells what the times in ``words`` are worth: the words are spread over the voice
    by their letters, because no model tells when it heard or said them.
    """

    number: int
    speaker: Speaker
    start_ms: float
    end_ms: float
    text: str
    unheard: str = ""
    interrupted: bool = False
    gap: bool = False
    language: str = ""
    source: Literal["model", "clip", "recogniser", "none"] = "model"
    words: tuple[Word, ...] = ()
    word_times: Literal["estimated"] = "estimated"


@dataclass(frozen=True)
class ToolUse:
    """One function call. ``committed`` names what it wrote: ``("appointment:12",)``; empty for reads and refusals."""

    number: int
    call_id: str
    name: str
    arguments: Mapping[str, Any]
    status: str
    result: Mapping[str, Any]
    step: str
    at_ms: float
    duration_ms: float
    committed: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyPress:
    """A key of the caller's phone."""

    at_ms: float
    digit: str


@dataclass(frozen=True)
class Stage:
    """One stage of a `Waterfall`."""

    name: str
    ms: float


@dataclass(frozen=True)
class Waterfall:
    """Where the time went between the caller's last voiced sample and the first sample of the answer played to them.

    The stages follow each other and add up to ``total_ms``.
    """

    turn: int
    caller_stopped_ms: float
    total_ms: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Silence:
    """Nobody was heard on the line."""

    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class Figures:
    """Figures of the whole call. None where there was nothing to measure."""

    voice_to_voice_p50_ms: float | None
    voice_to_voice_p95_ms: float | None
    barge_in_reaction_p95_ms: float | None
    interruptions: int
    talk_over_ms: float
    longest_silence_ms: float
    caller_talk_ms: float
    bot_talk_ms: float
    talk_ratio: float | None
    """The bot's share of all talk, 0 to 1."""
    silences: tuple[Silence, ...] = ()
    """Those of at least `LONG_SILENCE_MS`, from the stream's beginning to the last sound."""


@dataclass(frozen=True)
class CostLine:
    """One thing that costs money. ``usd`` is None where it is not known; a ``quantity`` of 0: nor is how much of it.

    ``what``: ``text_in``, ``audio_in``, ``image_in``, ``text_out``, ``audio_out`` (tokens; ``tokens`` where the kind is
    not known either), ``search`` (queries) or ``carrier_minutes``, ``of`` the caller's leg (``voice``), its
    ``media_stream``, the leg to the person (``transfer``) or a ``recording``. ``turn`` is the number of the bot's turn,
    or None for what belongs to the whole call.
    """

    what: str
    of: str
    quantity: float
    usd: float | None
    turn: int | None = None


@dataclass(frozen=True)
class Cost:
    """What the call cost. ``usd`` is the sum of the known lines; ``complete`` tells whether all were known."""

    usd: float
    complete: bool
    price_date: str
    lines: tuple[CostLine, ...]


@dataclass(frozen=True)
class TextUsage:
    """What the text model used up for a call once; ``tokens`` by kind, empty where it did not say."""

    purpose: Literal["summary", "hearing"]
    model: str
    tokens: Mapping[str, int]


@dataclass(frozen=True)
class Change:
    """Something that the call wrote in the business's books."""

    kind: str
    id: str
    tool_call_id: str
    text: str


@dataclass(frozen=True)
class Flag:
    """Something an operator should look at. ``turn`` is the number of the turn it concerns."""

    kind: FlagKind
    detail: str
    turn: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How the call ended and what came of it. ``summarised_by``: a text model's id, or ``rules``."""

    disposition: Disposition
    end_reason: EndReason | Literal["interrupted"]
    changes: tuple[Change, ...]
    steps: tuple[str, ...]
    summary: str
    fields: Mapping[str, Any]
    summarised_by: str = "rules"


@dataclass(frozen=True)
class CallRecord:
    """Everything that was derived from one tape.

    ``call_id`` names the tape (``CA…``, or ``CA….2`` when the carrier sent the call a second time), ``call_sid`` is the
    carrier's. ``derived_by`` is the version of the derivation that made it.
    """

    call_id: str
    call_sid: str
    account: str
    flow: str
    flow_hash: str
    from_number: str
    to_number: str
    began_at: datetime
    duration_ms: float
    stream_offset_ms: float
    """From the first record of the tape to the playout clock's 0."""
    code: str
    model: str
    language: str
    tape_sha256: str
    tape_bytes: int
    derived_by: int
    outcome: Outcome
    figures: Figures
    cost: Cost
    turns: tuple[Turn, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    keys: tuple[KeyPress, ...] = ()
    waterfalls: tuple[Waterfall, ...] = ()
    flags: tuple[Flag, ...] = ()
    retention: Mapping[str, int] = field(default_factory=dict)
    """Days to keep ``audio``, ``transcript`` and ``number``, where the flow that answered says so."""
    commitment_check: CommitmentCheck = "made"
    """Whether promises were held against results: no flag means nothing where they were not."""
    text_usage: tuple[TextUsage, ...] = ()
    """Every time the text model was asked about this call, for this record and those before it."""
