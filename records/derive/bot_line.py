"""The bot's side of the line: when each piece of audio that was sent was really played to the caller.

The carrier queues what it gets and plays it in order; a mark comes back when everything before it was played, and
``clear`` drops what waits (Twilio documentation, "Media Streams: WebSocket messages"). Marks come back on the socket
that brings the caller's frames, so each tells the playout time to within one frame, whatever the network does and
however the clocks drift; between two marks the audio lies end to end.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bot.audio import ulaw_to_pcm
from records.derive.caller import SAMPLES_PER_MS
from records.derive.clock import LineClock

_AUDIBLE = 250
"""Samples of the bot's clean voice louder than this (-42 dBov) can be heard."""
_LOUD = np.abs(np.frombuffer(ulaw_to_pcm(bytes(range(256))), "<i2").astype(np.int32)) >= _AUDIBLE
_PUNCTUAL = 0.1
"""So much of the audio is taken to have met no delay on its way but the one that all has."""


@dataclass(slots=True)
class _Mark:
    """A mark that was sent behind the chunk `after`; when it came back, and between which moments of playout time."""

    after: int
    returned_at: float | None = None
    earliest_ms: float = 0.0
    latest_ms: float = math.inf
    cleared: bool = False

    def by_ms(self, clock: LineClock) -> float:
        """The playout time by which the carrier had returned it."""
        assert self.returned_at is not None
        return max(self.earliest_ms, min(self.latest_ms, clock.playout(self.returned_at)))


@dataclass(slots=True)
class _Cut:
    """What waited at the carrier when the chunk `before` was sent had been dropped: at `at_ms` of our clock, by `mark`.

    `mark` is the last that waited: it came back when the carrier dropped the rest. None where the stream was over.
    """

    before: int
    at_ms: float
    mark: _Mark | None
    by_clear: bool

    def cut_ms(self, clock: LineClock, least_ms: float, usual_ms: float) -> float:
        """The playout time at which the audio stopped; what we send takes effect after the least lag, or the usual."""
        told_ms = clock.playout(self.at_ms)
        if not self.by_clear:
            return told_ms
        if self.mark is not None and self.mark.returned_at is not None:
            returned_ms = self.mark.by_ms(clock)
            if returned_ms > told_ms + least_ms:
                return returned_ms
        # No mark waited any more, or it was on its way already.
        return told_ms + usual_ms


@dataclass(slots=True)
class _Spurt:
    """Chunks that were played end to end, `first` to `last`; by its marks it began between two moments."""

    first: int
    last: int
    earliest_ms: float = -math.inf
    latest_ms: float = math.inf

    @property
    def is_marked(self) -> bool:
        """Whether a mark tells anything."""
        return self.latest_ms < math.inf

    def began_ms(self, punctual_ms: float) -> float:
        """The likeliest start, where it began at `punctual_ms` if its first audio met no delay."""
        if punctual_ms < self.earliest_ms:
            return (self.earliest_ms + self.latest_ms) / 2
        return min(punctual_ms, self.latest_ms)


@dataclass(frozen=True)
class Placed:
    """Where the chunks stand, one entry for each in the order of sending. Samples of the playout clock.

    ``start``; ``played``, how much of it was; ``size`` as sent; ``loud_from`` to ``loud_to``, the part that can be
    heard (0, 0 in a silent one); ``turn``; ``at_ms``, when it was sent, on our clock. ``lag_ms``: how long after it was
    sent audio begins to play where nothing waits, by the marks.
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

    def mark(self, name: str) -> None:
        """A mark was sent."""
        if self.sent:
            mark = self._pending[name] = _Mark(self.sent - 1)
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
            mark.cleared = True
        last = next(reversed(self._pending.values()), None) if by_clear else None
        self._cuts.append(_Cut(self.sent, at_ms, last, by_clear))

    # -- when it was played -------------------------------------------------------------------------------------------

    def place(self, clock: LineClock) -> Placed:
        """When each chunk was played. `clock` must have learnt all."""
        at_ms, size = np.array(self._at), np.array(self._size, np.int64)
        sent_ms = clock.playouts(at_ms)
        ends_ms = np.cumsum(size) / SAMPLES_PER_MS
        spurts = self._anchored(self._spurts(sent_ms, size), sent_ms, ends_ms, clock)
        lags = [spurt.latest_ms - sent_ms[spurt.first] for spurt in spurts if spurt.is_marked]
        lag_ms, usual_ms = np.quantile(lags, (_PUNCTUAL, 0.5)).tolist() if lags else (0.0, 0.0)
        cuts = [(cut.before, cut.cut_ms(clock, lag_ms, usual_ms)) for cut in self._cuts]
        start_ms = self._laid_out(spurts, sent_ms + lag_ms, ends_ms - size / SAMPLES_PER_MS, size, cuts)
        return Placed(
            start=np.rint(start_ms * SAMPLES_PER_MS).astype(np.int64),
            played=self._played(start_ms, size, cuts),
            size=size,
            loud_from=np.array(self._loud_from, np.int64),
            loud_to=np.array(self._loud_to, np.int64),
            turn=np.array(self._turn, np.int64),
            at_ms=at_ms,
            lag_ms=lag_ms,
        )

    def _spurts(self, sent_ms: NDArray[np.float64], size: NDArray[np.int64]) -> list[_Spurt]:
        """Chunks that found others before them in the queue, put together."""
        firsts = {cut.before for cut in self._cuts}
        spurts: list[_Spurt] = []
        free_ms = -math.inf
        for n, (sent, length) in enumerate(zip(sent_ms.tolist(), (size / SAMPLES_PER_MS).tolist(), strict=True)):
            if sent > free_ms or n in firsts:
                spurts.append(_Spurt(n, n))
                free_ms = sent
            spurts[-1].last = n
            free_ms += length
        return spurts

    def _anchored(
        self, spurts: list[_Spurt], sent_ms: NDArray[np.float64], ends_ms: NDArray[np.float64], clock: LineClock
    ) -> list[_Spurt]:
        """The spurts with what their marks tell of their starts, split where the playout paused in their midst."""
        marks = deque(mark for mark in self._marks if mark.returned_at is not None and not mark.cleared)
        result: list[_Spurt] = []
        for spurt in spurts:
            result.append(spurt)
            marked = spurt.first - 1
            while marks and marks[0].after <= spurt.last:
                mark = marks.popleft()
                if mark.after < spurt.first:
                    continue
                played_ms = ends_ms[mark.after] - _before(ends_ms, spurt.first)
                if mark.earliest_ms - played_ms > spurt.latest_ms:
                    # It came back later than the audio before it takes: the queue ran dry, at the latest chunk of all.
                    late = sent_ms[marked + 1 : mark.after + 1] - ends_ms[marked + 1 : mark.after + 1]
                    rest = _Spurt(marked + 1 + int(np.argmax(late)), spurt.last)
                    spurt.last = rest.first - 1
                    spurt = rest
                    result.append(spurt)
                    played_ms = ends_ms[mark.after] - _before(ends_ms, spurt.first)
                spurt.earliest_ms = max(spurt.earliest_ms, mark.earliest_ms - played_ms)
                spurt.latest_ms = min(spurt.latest_ms, mark.by_ms(clock) - played_ms)
                marked = mark.after
        return result

    @staticmethod
    def _laid_out(
        spurts: list[_Spurt],
        arrived_ms: NDArray[np.float64],
        begins_ms: NDArray[np.float64],
        size: NDArray[np.int64],
        cuts: list[tuple[int, float]],
    ) -> NDArray[np.float64]:
        """The start of each chunk. `begins_ms` counts the audio sent before it."""
        start_ms = np.zeros(len(size))
        free_ms = -math.inf
        waiting = iter(cuts)
        cut = next(waiting, None)
        for spurt in spurts:
            while cut is not None and cut[0] <= spurt.first:
                free_ms = min(free_ms, cut[1])
                cut = next(waiting, None)
            begin_ms = max(free_ms, spurt.began_ms(arrived_ms[spurt.first]))
            span = slice(spurt.first, spurt.last + 1)
            start_ms[span] = begin_ms + begins_ms[span] - begins_ms[spurt.first]
            free_ms = start_ms[spurt.last] + size[spurt.last] / SAMPLES_PER_MS
        return start_ms

    @staticmethod
    def _played(
        start_ms: NDArray[np.float64], size: NDArray[np.int64], cuts: list[tuple[int, float]]
    ) -> NDArray[np.int64]:
        played = size.copy()
        earlier = 0
        for before, cut_ms in cuts:
            span = slice(earlier, before)
            room = np.rint((cut_ms - start_ms[span]) * SAMPLES_PER_MS).astype(np.int64)
            played[span] = np.clip(room, 0, size[span])
            earlier = before
        return played


def _before(ends_ms: NDArray[np.float64], chunk: int) -> float:
    """How much audio was sent before a chunk."""
    return float(ends_ms[chunk - 1]) if chunk else 0.0
