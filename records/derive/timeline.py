"""A tape read once, into what happened when on the playout clock.

The playout clock is the carrier's: 0 is its first ``start`` message, the caller's audio stands where its ``timestamp``
puts it, the bot's where the caller heard it. A call without a media stream has its 0 at the tape's first record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from bot.errors import TapeError
from bot.events import (
    BargeIn,
    BotStartedSpeaking,
    CallEnded,
    CallerSaid,
    CallEvent,
    MarkReturned,
    PlayoutResumed,
    StreamStopped,
)
from bot.tape import Record, TapeReader
from records.derive.bot_line import BotLine, Placed
from records.derive.caller import SAMPLES_PER_MS, CallerLine, Piece, Voiced, VoiceFinder, payload
from records.derive.clock import LineClock
from records.derive.model_side import ModelSide


@dataclass(frozen=True)
class Moment:
    """An event, and when it happened on the playout clock."""

    ms: float
    event: CallEvent


@dataclass
class Timeline:
    """One call on its playout clock; `read` makes it. The tape itself is not kept."""

    meta: dict[str, Any]
    began_wall_ns: int
    stream_offset_ms: float
    length_ms: float
    """From the first record to the last."""
    events: list[Moment]
    voice: list[Voiced]
    bot: Placed
    model: ModelSide
    clock: LineClock
    caller_end: int
    """The sample behind the caller's last audio."""
    streams: int
    lost_records: int
    damage: str = ""
    """Where the tape could not be read any further; empty for a sound one."""

    @property
    def samples(self) -> int:
        """How long the recording is."""
        return max(self.caller_end, self.bot.end)

    def of(self, *kinds: type[CallEvent]) -> Iterator[Moment]:
        """The events of these kinds, in order."""
        return (moment for moment in self.events if isinstance(moment.event, kinds))

    def ended(self) -> CallEnded | None:
        """How the call ended; None where the tape does not tell."""
        return next((m.event for m in reversed(self.events) if isinstance(m.event, CallEnded)), None)


@dataclass
class _Reader:
    """What one pass gathers."""

    began_ns: int = 0
    began_wall_ns: int = 0
    last_ms: float = 0.0
    records: int = 0
    lost: int = 0
    turn: int = -1
    stream_open: bool = False
    events: list[tuple[float, CallEvent]] = field(default_factory=list)
    clock: LineClock = field(default_factory=LineClock)
    voice: VoiceFinder = field(default_factory=VoiceFinder)
    bot: BotLine = field(default_factory=BotLine)
    model: ModelSide = field(default_factory=ModelSide)

    def __post_init__(self) -> None:
        self.caller = CallerLine(self.clock)

    def take(self, record: Record) -> None:
        if not self.records:
            self.began_ns, self.began_wall_ns = record.mono_ns, record.wall_ns
        self.records += 1
        at_ms = self.last_ms = (record.mono_ns - self.began_ns) / 1e6
        if record.channel == "event":
            self._event(at_ms, record.data)
        elif (message := parsed(record.data)) is not None:
            match record.channel:
                case "carrier.in":
                    self._from_carrier(at_ms, message)
                case "carrier.out":
                    self._to_carrier(at_ms, message)
                case "model.out":
                    self.model.frame(at_ms, message)
                case "model.in":
                    self.model.sent(at_ms, message, self.caller.received_ms)
                case "tape.gap":
                    self.lost += _count(message.get("lost"))

    def _from_carrier(self, at_ms: float, message: dict[str, Any]) -> None:
        match message.get("event"):
            case "media":
                if piece := self.caller.media(at_ms, message):
                    self.bot.caller_frame(piece.end / SAMPLES_PER_MS)
                    self.voice.feed(piece, at_ms, self.caller.received_ms)
            case "mark" if isinstance(message.get("mark"), dict):
                self.bot.returned(at_ms, str(message["mark"].get("name")), self.caller.end / SAMPLES_PER_MS)
            case "start":
                self._stream_over(at_ms)
                self.caller.started(at_ms, stream_sid(message))
                self.stream_open = True
            case "stop":
                self._stream_over(at_ms)

    def _stream_over(self, at_ms: float) -> None:
        if self.stream_open:
            self.stream_open = False
            self.bot.stream_over(at_ms)

    def _to_carrier(self, at_ms: float, message: dict[str, Any]) -> None:
        match message.get("event"):
            case "media" if isinstance(message.get("media"), dict):
                if mulaw := payload(message["media"]):
                    self.bot.media(at_ms, mulaw, self.turn)
            case "mark" if isinstance(message.get("mark"), dict):
                self.bot.mark(at_ms, str(message["mark"].get("name")))
            case "clear":
                self.bot.cleared(at_ms)

    def _event(self, at_ms: float, data: bytes) -> None:
        try:
            event = CallEvent.from_json(data)
        except (ValueError, TypeError, AttributeError):
            # Of a newer version, or damaged; what it tells stands on the wire's channels as well.
            return
        match event:
            case MarkReturned():
                return
            case BotStartedSpeaking():
                self.turn = event.turn
                if not event.clip:
                    self.model.bot_began(at_ms, event.turn)
            case BargeIn():
                self.model.cut_in(protected=False)
            case PlayoutResumed(why="protected"):
                self.model.cut_in(protected=True)
            case CallerSaid():
                self.model.caller_said(at_ms, event.text)
            case StreamStopped():
                self._stream_over(at_ms)
        self.events.append((at_ms, event))


def read(tape: TapeReader) -> Timeline:
    """Read a tape, in one pass and in little memory: of the audio only where it stands is kept.

    Reads what can be read: a tape that was never finished, of any layout, with messages of any kind on it; one that is
    damaged is read up to there, and `Timeline.damage` tells.
    """
    reader = _Reader()
    damage = ""
    try:
        for record in tape:
            reader.take(record)
    except TapeError as error:
        damage = str(error).removeprefix(f"{tape.path}: ")
    reader.model.over()
    clock = reader.clock
    if not clock.is_set:
        clock.frame(0.0, 0.0)
    clock.learnt()
    at = np.array([at_ms for at_ms, _ in reader.events])
    moments = clock.playouts(at).tolist() if len(at) else []
    return Timeline(
        meta=dict(tape.meta),
        began_wall_ns=reader.began_wall_ns,
        stream_offset_ms=-clock.playout(0.0),
        length_ms=reader.last_ms,
        events=[Moment(ms, event) for ms, (_, event) in zip(moments, reader.events, strict=True)],
        voice=reader.voice.found,
        bot=reader.bot.place(clock),
        model=reader.model,
        clock=clock,
        caller_end=reader.caller.end,
        streams=reader.caller.streams,
        lost_records=reader.lost,
        damage=damage,
    )


def pieces(tape: TapeReader, timeline: Timeline) -> Iterator[tuple[str, Piece]]:
    """The audio of a tape that was read before, in the order of its arrival: (``caller`` or ``bot``, piece).

    The bot's pieces are cut to what was played; those of which nothing was are left out.
    """
    line = CallerLine(LineClock())
    bot = 0
    began_ns: int | None = None
    try:
        for record in tape:
            began_ns = record.mono_ns if began_ns is None else began_ns
            if record.channel not in ("carrier.in", "carrier.out") or (message := parsed(record.data)) is None:
                continue
            kind = message.get("event")
            if record.channel == "carrier.out":
                media = message.get("media") if kind == "media" else None
                # A tape of a call in progress may have grown meanwhile.
                if isinstance(media, dict) and (mulaw := payload(media)) and bot < len(timeline.bot.start):
                    if played := int(timeline.bot.played[bot]):
                        yield "bot", Piece(int(timeline.bot.start[bot]), mulaw[:played])
                    bot += 1
            elif kind == "start":
                line.started((record.mono_ns - began_ns) / 1e6, stream_sid(message))
            elif kind == "media" and (piece := line.media((record.mono_ns - began_ns) / 1e6, message)):
                yield "caller", piece
    except TapeError:
        # `timeline.damage` has told.
        return


def stream_sid(message: dict[str, Any]) -> str:
    """The stream that a ``start`` message opens."""
    start = message.get("start")
    inner = start.get("streamSid") if isinstance(start, dict) else None
    return str(message.get("streamSid") or inner or "")


def parsed(data: bytes) -> dict[str, Any] | None:
    """A JSON object; None where it is none: what was malformed on the wire is malformed on the tape."""
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) else 1
