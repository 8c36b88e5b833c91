"""Whose turn it is, how long the answer took, and what the caller really heard. Pure: fed facts, gives events.

Heard-truth: audio counts as heard when the carrier returns the mark that stood behind it (Twilio Media Streams: a mark
comes back when everything queued before it was played; after a ``clear`` all pending marks come back at once and prove
nothing). A turn of the bot is told once, when it has been played to its end or was cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from bot.events import BargeIn, BotSaid, BotStartedSpeaking, BotStoppedSpeaking, CallEvent

_FRAME_MS = 20.0


@dataclass
class _Turn:
    number: int
    text: list[str] = field(default_factory=list)
    speech: str = ""
    sent_ms: float = 0.0
    heard_ms: float = 0.0
    told: bool = False
    clip: str = ""
    aside: bool = False

    @property
    def heard(self) -> float:
        return min(1.0, self.heard_ms / self.sent_ms) if self.sent_ms else 0.0


class Turns:
    """The bot's turns of one call.

    `record` gets the events. `on_heard` gets the model's speech (its name), how many ms of its audio were heard, and
    whether it was cut. All moments are monotonic nanoseconds.
    """

    def __init__(self, record: Callable[[CallEvent], None]) -> None:
        self._record = record
        self.on_heard: Callable[[str, float, bool], None] = lambda speech, heard_ms, cut: None
        self._turn = _Turn(0)
        self._open: dict[int, _Turn] = {}
        self._caller_voiced_ns: int | None = None
        self._model_audio_ns: int | None = None
        self._speaking = False
        self.voiced_ms = 0.0
        """Voice of the caller so far."""
        self.model_spoke_ns: int | None = None
        """When audio of the model last arrived."""

    @property
    def number(self) -> int:
        """The turn that is being spoken, or was last."""
        return self._turn.number

    @property
    def bot_is_heard(self) -> bool:
        """Whether audio of the bot is still on its way to the caller's ear."""
        return any(turn.sent_ms > turn.heard_ms for turn in self._open.values())

    @property
    def may_be_cut(self) -> bool:
        """Whether the caller may cut off what is being said. Ready-made words are said to their end."""
        return not self._turn.clip

    def caller_voiced(self, now_ns: int) -> None:
        """A frame of the caller had voice in it."""
        self._caller_voiced_ns = now_ns
        self.voiced_ms += _FRAME_MS

    def model_spoke(self, now_ns: int) -> None:
        """Audio of the model arrived; the first of a turn is when its answer came."""
        self.model_spoke_ns = now_ns
        if self._model_audio_ns is None:
            self._model_audio_ns = now_ns

    def text(self, words: str, speech: str = "") -> None:
        """Words of the turn as the model transcribes itself (they may run ahead of the audio), from its `speech`."""
        self._turn.text.append(words)
        self._turn.speech = speech

    def clip(self, words: str, *, aside: bool) -> None:
        """Ready-made words come next. An `aside` fills a silence: it is no answer, and the caller goes on waiting."""
        self.text(words)
        self._turn.clip = words
        self._turn.aside = aside

    def audio_sent(self, milliseconds: float, now_ns: int) -> int:
        """Audio of the bot went to the carrier; gives the number of the turn that it belongs to."""
        if not self._speaking:
            self._speaking = True
            self._open[self._turn.number] = self._turn
            self._begin(now_ns)
        self._turn.sent_ms += milliseconds
        return self._turn.number

    def _begin(self, now_ns: int) -> None:
        turn = self._turn
        if turn.aside:
            self._record(BotStartedSpeaking(turn.number, None, None, turn.clip))
            return
        response_ms = _between(self._caller_voiced_ns, now_ns)
        model_ms = _between(self._caller_voiced_ns, self._model_audio_ns)
        self._record(BotStartedSpeaking(turn.number, response_ms, model_ms, turn.clip))
        self._caller_voiced_ns = None

    def ended(self) -> None:
        """The model has said all of this turn; the next audio or words open another."""
        if not self._speaking and not self._turn.text:
            return
        if not self._speaking:
            # Words without a sound: nobody heard them, and no mark will ever say so.
            self._tell(self._turn, interrupted=False)
        self._next()

    def played(self, number: int, heard_ms: float, is_end: bool) -> None:
        """A mark came back: `heard_ms` of turn `number` were played; `is_end` where that was all of it."""
        turn = self._open.get(number)
        if turn is None:
            return
        turn.heard_ms = turn.sent_ms if is_end else max(turn.heard_ms, heard_ms)
        # A turn that the model is still speaking has no end to play.
        if is_end and turn is not self._turn:
            del self._open[number]
            self._record(BotStoppedSpeaking(number))
            self._tell(turn, interrupted=False)

    def interrupted(self, by: Literal["model", "caller"] = "model") -> None:
        """The caller cut in, as `by` says, and what waited at the carrier was cleared."""
        cut = list(self._open.values())
        self._open.clear()
        if cut:
            self._record(BargeIn(cut[-1].number, sum(turn.sent_ms - turn.heard_ms for turn in cut), by))
        for turn in cut:
            self._tell(turn, interrupted=True)
        if self._speaking or self._turn.text:
            self._tell(self._turn, interrupted=True)
            self._next()

    def line_lost(self) -> None:
        """The media stream is gone, with what waited at the carrier: tell the turns as far as they were heard."""
        for turn in self._open.values():
            self._tell(turn, interrupted=True)
        self._open.clear()
        if self._speaking or self._turn.text:
            self._tell(self._turn, interrupted=True)
            self._next()

    def _tell(self, turn: _Turn, *, interrupted: bool) -> None:
        words = " ".join("".join(turn.text).split())
        if words and not turn.told:
            self._record(BotSaid(words, round(turn.heard, 3), interrupted))
            self.on_heard(turn.speech, turn.heard_ms, interrupted)
        turn.told = True

    def _next(self) -> None:
        if not self._turn.aside:
            # The answer to what was said before an aside may have come while it was spoken.
            self._model_audio_ns = None
        self._turn = _Turn(self._turn.number + 1)
        self._speaking = False


def _between(earlier_ns: int | None, later_ns: int | None) -> float | None:
    if earlier_ns is None or later_ns is None or later_ns < earlier_ns:
        return None
    return round((later_ns - earlier_ns) / 1e6, 1)
