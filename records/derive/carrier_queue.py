"""The carrier's queue, seen from its marks: when each chunk of audio that was sent into it began to play.

A chunk's *offset* is the playout time at which it began, less all the audio that was sent before it. Until something is
dropped it never falls: it stays while the queue holds out, and grows by the silence where the queue runs dry. So a mark
tells more than of its own chunk: all behind it began with that offset or more, all before it with that or less. Within
these bounds the fewest silences are taken to be the true ones. Moments are ms of playout time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_TOGETHER_MS = 5.0
"""A mark that was sent so soon behind its chunk came to the carrier with it, and did not find the chunk played."""
_INEXACT_MS = 0.05
"""Our clock is told in playout time to within so much where nothing is delayed."""
_TOUCH_MS = 0.001
"""Bounds that overlap by less do not: one frame of the caller ends where the next begins."""


@dataclass(frozen=True)
class Marks:
    """The marks that came back, in the order of sending; one entry for each.

    ``after``: the chunk that it was sent behind. It came back between ``earliest_ms`` and ``latest_ms``.
    ``cleared_ms``: when a ``clear`` was sent that may have brought it back; infinite where none was.
    """

    after: NDArray[np.int64]
    sent_ms: Array
    earliest_ms: Array
    latest_ms: Array
    cleared_ms: Array


@dataclass(slots=True)
class _Run:
    """Chunks that were played end to end, `first` to before `end`, with an offset between two bounds."""

    first: int
    end: int
    least_ms: float
    most_ms: float


class CarrierQueue:
    """When chunks were played that were sent at `sent_ms`, each `length_ms` long.

    `cuts` are the chunks before which what waited was dropped. A *lag* is the time from when a chunk was sent to when
    it began, where nothing waited before it: ``least_lag_ms`` is the shortest, ``usual_lag_ms`` the median.
    """

    def __init__(self, sent_ms: Array, length_ms: Array, cuts: Sequence[int], marks: Marks) -> None:
        self._sent_ms = sent_ms
        self._ends_ms = np.cumsum(length_ms)
        self._before_ms = self._ends_ms - length_ms
        self._stretches = [slice(first, end) for first, end in pairwise((0, *cuts, len(sent_ms))) if first < end]
        lags = self._bounds(marks, 0.0)[1] + self._before_ms - sent_ms
        self.least_lag_ms = float(lags.min(initial=math.inf)) if np.isfinite(lags).any() else 0.0
        self._runs = self._fitted(*self._bounds(marks, self.least_lag_ms))
        lags = np.array([self._lag_ms(run) for run in self._runs if run.most_ms < math.inf])
        self.usual_lag_ms = float(np.median(lags)) if len(lags) else self.least_lag_ms

    def starts_ms(self, cuts: Sequence[tuple[int, float]]) -> Array:
        """When each chunk began, or would have. `cuts`: before which chunk, and when, what waited was dropped."""
        offset_ms = np.zeros(len(self._sent_ms))
        for run in self._runs:
            offset_ms[run.first : run.end] = self._offset_ms(run)
        for (first, cut_ms), (end, _) in pairwise((*cuts, (len(offset_ms), 0.0))):
            if 0 < first < end:
                free_ms = min(cut_ms, offset_ms[first - 1] + self._ends_ms[first - 1])
                offset_ms[first:end] = np.maximum(offset_ms[first:end], free_ms - self._before_ms[first])
        starts: Array = offset_ms + self._before_ms
        return starts

    def _bounds(self, marks: Marks, least_lag_ms: float) -> tuple[Array, Array]:
        """Between what the marks put the offset of each chunk."""
        high = np.full(len(self._sent_ms), math.inf)
        low = -high
        ends_ms = self._ends_ms[marks.after]
        # One that came back before the clear can have taken effect came back because its audio had been played.
        is_played = marks.latest_ms < marks.cleared_ms + least_lag_ms
        np.minimum.at(high, marks.after[is_played], (marks.latest_ms - ends_ms)[is_played])
        is_with = marks.sent_ms - self._sent_ms[marks.after] <= _TOGETHER_MS
        np.maximum.at(low, marks.after[is_with], (marks.earliest_ms - ends_ms)[is_with])
        for stretch in self._stretches:
            low[stretch] = np.maximum.accumulate(low[stretch])
            high[stretch] = np.minimum.accumulate(high[stretch][::-1])[::-1]
        return low, high

    def _fitted(self, low: Array, high: Array) -> list[_Run]:
        late_ms = self._sent_ms - self._before_ms
        low = np.maximum(low, late_ms + self.least_lag_ms - _INEXACT_MS)
        runs: list[_Run] = []
        for stretch in self._stretches:
            low[stretch] = np.minimum(np.maximum.accumulate(low[stretch]), high[stretch])
            first = stretch.start
            while first < stretch.stop:
                # As far as one offset fits; where no mark is behind it, the least.
                most_ms = high[first] if high[first] < math.inf else low[first] + _INEXACT_MS
                end = first + 1 + int(np.searchsorted(low[first + 1 : stretch.stop], most_ms - _TOUCH_MS))
                if end < stretch.stop:
                    # The queue ran dry somewhere up to here: before the latest of the chunks that allow it.
                    early = max(first + 1, first + int(np.searchsorted(high[first:end], low[end] + _TOUCH_MS)))
                    end = early + int(np.argmax(late_ms[early : end + 1]))
                runs.append(_Run(first, end, low[end - 1], high[first]))
                first = end
        return runs

    def _offset_ms(self, run: _Run) -> float:
        """The middle of what it can be; without a mark behind it, what it usually is."""
        if run.most_ms < math.inf:
            return (run.least_ms + run.most_ms) / 2
        return run.least_ms + self.usual_lag_ms - self.least_lag_ms

    def _lag_ms(self, run: _Run) -> float:
        return self._offset_ms(run) + float(self._before_ms[run.first] - self._sent_ms[run.first])
