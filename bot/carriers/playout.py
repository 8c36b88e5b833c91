"""What of the bot's audio the caller has heard, and what still waits at the carrier. Pure: fed moments, gives facts.

The carrier queues what it gets and plays it in order. A mark that was sent behind audio comes back when that audio has
been played; after a ``clear`` all pending marks come back at once and prove nothing, so each mark remembers how many
clears came before it (Twilio documentation, "Media Streams: WebSocket messages", mark and clear).

Amounts are milliseconds of audio (8 bytes of mu-law each), moments are monotonic milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MARK_EVERY_MS = 400
"""Most audio between two marks: how exactly it is known what an interrupted caller heard."""
_BYTES_PER_MS = 8


@dataclass(frozen=True, slots=True)
class Returned:
    """A mark of ours came back: if `how` is ``played``, `heard_ms` of `turn` were played, all of it where `is_end`."""

    how: Literal["played", "cleared"]
    turn: int
    heard_ms: float
    is_end: bool


@dataclass(frozen=True, slots=True)
class _Pending:
    turn: int
    in_turn_ms: float
    sent_ms: float
    is_end: bool
    clears: int


class Playout:
    """The queue at the carrier, as far as it can be known from here.

    Over the whole call: `sent_ms` of audio were handed over, `heard_ms` are proved by marks to have been played.
    """

    def __init__(self) -> None:
        self.sent_ms = 0.0
        self.heard_ms = 0.0
        self._pending: dict[str, _Pending] = {}
        self._clears = 0
        self._turn: int | None = None
        self._turn_ms = 0.0
        self._unmarked_ms = 0.0
        self._run_ms = 0.0
        self._run_ends_ms = 0.0
        self._marks = 0
        self._heard = (-1, 0.0)
        self._empty_at_ms = 0.0

    @property
    def turn(self) -> int | None:
        """The turn that is being sent; None between turns."""
        return self._turn

    @property
    def pending(self) -> int:
        """Marks that have not come back."""
        return len(self._pending)

    def waiting_ms(self, now_ms: float) -> float:
        """An estimate of the audio that waits at the carrier; each mark that comes back sets it right."""
        return max(0.0, self._empty_at_ms - now_ms)

    def play(self, size: int, turn: int, now_ms: float) -> str | None:
        """`size` bytes of `turn` are sent. Gives the name of the mark to send behind them, if one is due.

        One is due behind the first audio that finds the queue empty, each time there is half as much again, and at last
        every `MARK_EVERY_MS`. They show where the queue ran dry, which audio does that comes later than all before it:
        the n-th of n equally likely delays is the longest one time in n, so dense marks are worth most at the start.
        """
        if turn != self._turn:
            self._turn, self._turn_ms, self._unmarked_ms, self._marks = turn, 0.0, 0.0, 0
        length_ms = size / _BYTES_PER_MS
        if now_ms > self._run_ends_ms:
            self._run_ms, self._run_ends_ms = 0.0, now_ms
        marked_ms = self._run_ms - self._unmarked_ms
        self._run_ms += length_ms
        self._run_ends_ms += length_ms
        self.sent_ms += length_ms
        self._turn_ms += length_ms
        self._unmarked_ms += length_ms
        self._empty_at_ms = max(self._empty_at_ms, now_ms) + length_ms
        is_due = self._unmarked_ms >= min(MARK_EVERY_MS, marked_ms / 2)
        return self._mark(str(self._marks + 1)) if is_due else None

    def stopped(self) -> str | None:
        """Nothing more is sent for now, or a clear follows: its mark comes back with the last that was heard.

        Gives the name of the mark to send, if audio stands behind the last one.
        """
        return self._mark(str(self._marks + 1)) if self._turn is not None and self._unmarked_ms else None

    def end_turn(self) -> str | None:
        """All of the turn was sent. Gives the name of the mark to send; None where no turn is open."""
        if self._turn is None:
            return None
        name = self._mark("end")
        self._turn = None
        return name

    def clear(self, now_ms: float) -> float:
        """What waits at the carrier is dropped. Gives the estimate of how much that was."""
        waiting = self.waiting_ms(now_ms)
        self._clears += 1
        self._turn = None
        self._empty_at_ms = self._run_ends_ms = now_ms
        return waiting

    def returned(self, name: str, now_ms: float) -> Returned | None:
        """A mark came back; None where no such mark was pending."""
        mark = self._pending.pop(name, None)
        if mark is None:
            return None
        if mark.clears != self._clears:
            return Returned("cleared", mark.turn, 0.0, mark.is_end)
        already_ms = self._heard[1] if self._heard[0] == mark.turn else 0.0
        self.heard_ms += max(0.0, mark.in_turn_ms - already_ms)
        self._heard = (mark.turn, max(already_ms, mark.in_turn_ms))
        self._empty_at_ms = now_ms + self.sent_ms - mark.sent_ms
        return Returned("played", mark.turn, mark.in_turn_ms, mark.is_end)

    def lost(self, now_ms: float) -> None:
        """The stream is gone, and its pending marks with it."""
        self.clear(now_ms)
        self._pending.clear()

    def _mark(self, suffix: str) -> str:
        assert self._turn is not None
        name = f"turn:{self._turn}:{suffix}"
        while name in self._pending:
            name += "+"
        self._pending[name] = _Pending(self._turn, self._turn_ms, self.sent_ms, suffix == "end", self._clears)
        self._marks += 1
        self._unmarked_ms = 0.0
        return name
