"""Our monotonic clock told in playout time, learnt from the caller's frames as they arrived.

The carrier stamps each frame of the caller with its own clock; the frame reaches us after the network's delay, which
only ever adds. The least delayed frame of each stretch of time therefore shows how the two clocks stand (the lower
envelope, as in RFC 5905's clock filter), and how they drift.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WINDOW_MS = 5_000.0
_DRIFT = 0.000_5
"""Two clocks part by at most this much (RFC 5905 assumes the same 500 ppm of a disciplined clock)."""


class LineClock:
    """Maps ``at_ms`` (our clock, from the tape's first record) to playout ms (0 at the carrier's first ``start``).

    A moment of ours is told as the end of the caller's audio that was reaching us then. `frame` learns; `playout` may
    be asked at any time and is exact once everything was learnt.
    """

    def __init__(self) -> None:
        self._window: int | None = None
        self._at: list[float] = []
        self._offset: list[float] = []
        self._smooth: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def is_set(self) -> bool:
        """Whether anything was learnt: a call without a media stream has no playout clock."""
        return bool(self._at)

    def frame(self, at_ms: float, end_ms: float) -> None:
        """Audio of the caller that ends at `end_ms` of playout time reached us at `at_ms`."""
        window, offset = int(at_ms // _WINDOW_MS), at_ms - end_ms
        if window != self._window:
            self._window = window
            self._at.append(at_ms)
            self._offset.append(offset)
        elif offset < self._offset[-1]:
            self._at[-1], self._offset[-1] = at_ms, offset

    def latest(self, at_ms: float) -> float:
        """`at_ms` in playout time by what is known so far; negative before the stream."""
        return at_ms - min(self._offset[-2:], default=at_ms)

    def learnt(self) -> None:
        """Nothing more comes: take out of the envelope what was not drift but delay."""
        at, offset = np.array(self._at or [0.0]), np.array(self._offset or [0.0])
        for order in (range(1, len(at)), range(len(at) - 2, -1, -1)):
            step = 1 if order.step < 0 else -1
            for n in order:
                offset[n] = min(offset[n], offset[n + step] + _DRIFT * abs(at[n] - at[n + step]))
        self._smooth = at, offset

    def playout(self, at_ms: float) -> float:
        """`at_ms` in playout time."""
        return float(self.playouts(np.array([at_ms]))[0])

    def playouts(self, at_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Many moments in playout time."""
        assert self._smooth is not None, "call learnt() first"
        result: NDArray[np.float64] = at_ms - np.interp(at_ms, *self._smooth)
        return result
