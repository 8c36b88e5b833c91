"""The bot's side of the line: when each piece of audio that was sent was really played to the caller.

The carrier queues what it gets and plays it in order; a mark comes back when everything before it was played, and
``clear`` drops what waits (Twilio documentation, "Media Streams: WebSocket messages"). Marks come back on the socket
that brings the caller's frames, so each tells the playout time to within one frame, whatever the network does and
however the clocks drift; `records.derive.carrier_queue` puts together what they tell.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bot.audio import ulaw_to_pcm
from records.derive.caller import SAMPLES_PER_MS
from records.derive.carrier_queue import CarrierQueue, Marks
from records.derive.clock import LineClock

_AUDIBLE = 250
"""Samples of the bot's clean voice louder than this (-42 dBov) can be heard."""
_LOUD = np.abs(np.frombuffer(ulaw_to_pcm(bytes(range(256))), "<i2").astype(np.int32)) >= _AUDIBLE


@dataclass(slots=True)
class _Mark:
    """A mark that was sent at `at_ms` behind the chunk `after`; when it came back, and between which caller's frames.

    `cleared_at`: when ``clear`` was sent while it waited. Never is infinite.
    """

    after: int
    at_ms: float
    returned_at: float = math.inf
    earliest_ms: float = -math.inf
    latest_ms: float = math.inf
    cleared_at: float = math.inf


@dataclass(slots=True)
class _Cut:
    """What waited at the carrier when the chunk `before` was sent had been dropped: at `at_ms` of our clock, by `mark`.

    `mark` is the last that waited: it came back when the carrier dropped the rest. None where the stream was over.
    """

    before: int
    at_ms: float
    mark: _Mark | None
    by_clear: bool


@dataclass(frozen=True)
class Placed:
    """Where the chunks stand, one entry for each in the order of sending. Samples of the playout clock.

    ``start``; ``played``, how much of it was; ``size`` as sent; ``loud_from`` to ``loud_to``, the part that can be
    heard (0, 0 in a silent one); ``turn``; ``at_ms``, when it was sent, on our clock. ``lag_ms``: how long after it was
    sent audio begins to play at the soonest, by the marks: the least round trip.
    """

    start: NDArray[np.int64]
    played: NDArray[np.int64]
    size: NDArray[np.int64]
    loud_from: NDArray[np.int64]
    loud_to: NDArray[np.int64]
    turn: NDArray[np.int64]
    at_ms: NDArray[np.float64]
    lag_ms: float

    @property
    def end(self) -> int:
        """The sample behind the last that was played."""
        return int((self.start + self.played).max(initial=0))

    def audible(self) -> list[tuple[int, int]]:
        """Stretches in which the bot was heard, in order; pauses within a chunk do not count."""
        begins = self.start + self.loud_from
        ends = self.start + np.minimum(self.loud_to, self.played)
        keep = ends > begins
        return join(list(zip(begins[keep].tolist(), ends[keep].tolist(), strict=True)), 0)


Number = TypeVar("Number", int, float)


def join(stretches: Iterable[tuple[Number, Number]], gap: Number) -> list[tuple[Number, Number]]:
    """Stretches in order, those that are at most `gap` apart made one."""
    joined: list[tuple[Number, Number]] = []
    for start, end in sorted(stretches):
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


class BotLine:
    """Gathers what was sent and what came back; `place` then tells when it was played."""

    def __init__(self) -> None:
        self._at = array("d")
        self._size = array("l")
        self._loud_from = array("l")
        self._loud_to = array("l")
        self._turn = array("l")
        self._marks: list[_Mark] = []
        self._pending: dict[str, _Mark] = {}
        self._just_returned: list[_Mark] = []
        self._cuts: list[_Cut] = []

    @property
    def sent(self) -> int:
        """How many chunks were sent."""
        return len(self._at)

    def media(self, at_ms: float, mulaw: bytes, turn: int) -> None:
        """A chunk was sent, as part of a turn."""
        loud = np.flatnonzero(_LOUD[np.frombuffer(mulaw, np.uint8)])
        self._at.append(at_ms)
        self._size.append(len(mulaw))
        self._loud_from.append(int(loud[0]) if len(loud) else 0)
        self._loud_to.append(int(loud[-1]) + 1 if len(loud) else 0)
        self._turn.append(turn)

    def mark(self, at_ms: float, name: str) -> None:
        """A mark was sent."""
        if self.sent:
            mark = self._pending[name] = _Mark(self.sent - 1, at_ms)
            self._marks.append(mark)

    def returned(self, at_ms: float, name: str, caller_end_ms: float) -> None:
        """A mark came back, behind the caller's audio that ended at `caller_end_ms`."""
        mark = self._pending.pop(name, None)
        if mark is not None:
            mark.returned_at, mark.earliest_ms = at_ms, caller_end_ms
            self._just_returned.append(mark)

    def caller_frame(self, end_ms: float) -> None:
        """The caller's audio went on, to `end_ms`: what came back before it was returned before then."""
        for mark in self._just_returned:
            mark.latest_ms = end_ms
        self._just_returned.clear()

    def cleared(self, at_ms: float) -> None:
        """``clear`` was sent."""
        self._cut(at_ms, by_clear=True)

    def stream_over(self, at_ms: float) -> None:
        """The stream is over, and what waited at the carrier is gone with it."""
        self._cut(at_ms, by_clear=False)
        self._pending.clear()

    def _cut(self, at_ms: float, *, by_clear: bool) -> None:
        for mark in self._pending.values():
            mark.cleared_at = min(mark.cleared_at, at_ms)
        last = next(reversed(self._pending.values()), None) if by_clear else None
        self._cuts.append(_Cut(self.sent, at_ms, last, by_clear))

    # -- when it was played -------------------------------------------------------------------------------------------

    def place(self, clock: LineClock) -> Placed:
        """When each chunk was played. `clock` must have learnt all."""
        at_ms, size = np.array(self._at), np.array(self._size, np.int64)
        firsts = [cut.before for cut in self._cuts]
        queue = CarrierQueue(clock.playouts(at_ms), size / SAMPLES_PER_MS, firsts, self._returned(clock))
        cuts = [(cut.before, _cut_ms(cut, queue, clock)) for cut in self._cuts]
        start_ms = queue.starts_ms(cuts)
        return Placed(
            start=np.rint(start_ms * SAMPLES_PER_MS).astype(np.int64),
            played=_played(start_ms, size, cuts),
            size=size,
            loud_from=np.array(self._loud_from, np.int64),
            loud_to=np.array(self._loud_to, np.int64),
            turn=np.array(self._turn, np.int64),
            at_ms=at_ms,
            lag_ms=queue.least_lag_ms,
        )

    def _returned(self, clock: LineClock) -> Marks:
        back = [mark for mark in self._marks if mark.returned_at < math.inf]
        at_ms, returned_at, earliest_ms, latest_ms, cleared_at = (
            np.array([getattr(mark, name) for mark in back], np.float64)
            for name in ("at_ms", "returned_at", "earliest_ms", "latest_ms", "cleared_at")
        )
        return Marks(
            after=np.array([mark.after for mark in back], np.int64),
            sent_ms=clock.playouts(at_ms),
            earliest_ms=earliest_ms,
            latest_ms=np.maximum(earliest_ms, np.minimum(latest_ms, clock.playouts(returned_at))),
            cleared_ms=clock.playouts(cleared_at),
        )


def _cut_ms(cut: _Cut, queue: CarrierQueue, clock: LineClock) -> float:
    """The playout time at which the audio stopped."""
    told_ms = clock.playout(cut.at_ms)
    if not cut.by_clear:
        return told_ms
    soonest_ms = told_ms + queue.least_lag_ms
    if cut.mark is not None and cut.mark.returned_at < math.inf:
        latest_ms = min(cut.mark.latest_ms, clock.playout(cut.mark.returned_at))
        if latest_ms >= soonest_ms:
            return (max(cut.mark.earliest_ms, soonest_ms) + latest_ms) / 2
    # No mark waited any more, or it was on its way already.
    return told_ms + queue.usual_lag_ms


def _played(start_ms: NDArray[np.float64], size: NDArray[np.int64], cuts: list[tuple[int, float]]) -> NDArray[np.int64]:
    """How much of each chunk was."""
    played = size.copy()
    earlier = 0
    for before, cut_ms in cuts:
        span = slice(earlier, before)
        room = np.rint((cut_ms - start_ms[span]) * SAMPLES_PER_MS).astype(np.int64)
        played[span] = np.clip(room, 0, size[span])
        earlier = before
    return played
