"""How long an event loop is held, and by what: a timer in the loop, and a thread that looks where it is meanwhile."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

TICK_SECONDS = 0.002
LOOK_SECONDS = 0.004
"""The thread looks this often whether the timer is late; a call into C that does not let go of the interpreter is seen
when it has returned, before the next line of Python runs."""
MOST_SEEN = 5
_ROOT = Path(__file__).parent.parent
_OURS = tuple(f"{_ROOT / package}/" for package in ("bot", "desk"))


class Hold(NamedTuple):
    """How late a timer came, and what the loop's own thread worked meanwhile (at most that)."""

    ms: float
    cpu_ms: float
    cause: str


_NONE = Hold(0.0, 0.0, "")


class HoldMonitor:
    """How long the event loop is held: a timer every 2 ms, how late it came, and what CPU its thread used meanwhile.

    uvloop runs no Python of asyncio's, so there is no callback to put a stopwatch around. A hold whose CPU is much
    shorter than itself was not ours: the machine had other work, or another thread had the interpreter. CPU itself is
    dearer where others use the machine's caches: several times, on a busy one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watches = 0
        self._holds: list[Hold] = []
        self._due: float | None = None
        self._loop_thread = 0
        self._seen: list[str] = []
        self._collecting = 0.0
        self._collected: dict[int, float] = {}

    def start(self) -> None:
        """Watch from now on, anew. From any thread."""
        self._loop.call_soon_threadsafe(self._begin)

    def stop(self) -> dict[str, Any]:
        """Stop watching: the longest hold by the clock and by CPU, in ms, with their causes; and how many over 5 ms."""
        self._watches += 1
        if self._collected_callback in gc.callbacks:
            gc.callbacks.remove(self._collected_callback)
        longest = max(self._holds, default=_NONE)
        busiest = max(self._holds, key=lambda hold: hold.cpu_ms, default=_NONE)
        return {
            "longest_ms": longest.ms,
            "cause": longest.cause,
            "longest_cpu_ms": busiest.cpu_ms,
            "cpu_cause": busiest.cause,
            "over_5_ms": sum(hold.ms > 5 for hold in self._holds),
            "ticks": len(self._holds),
        }

    # -- in the loop --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._watches += 1
        self._holds = []
        self._due = None
        self._loop_thread = threading.get_ident()
        if self._collected_callback not in gc.callbacks:
            gc.callbacks.append(self._collected_callback)
        threading.Thread(target=self._look, args=(self._watches,), name="holds", daemon=True).start()
        self._tick(self._watches, None, 0.0)

    def _tick(self, watch: int, due: float | None, cpu: float) -> None:
        if watch != self._watches:
            return
        now, cpu_now = time.monotonic(), time.thread_time()
        if due is not None:
            held = (now - due) * 1000
            self._holds.append(Hold(held, min(held, (cpu_now - cpu) * 1000), self._cause(held)))
        self._seen = []
        self._collected = {}
        self._due = now + TICK_SECONDS
        self._loop.call_later(TICK_SECONDS, self._tick, watch, self._due, cpu_now)

    def _cause(self, held: float) -> str:
        causes = [
            f"garbage collection, generation {generation}, {ms:.1f} ms"
            for generation, ms in self._collected.items()
            if ms > held / 4
        ]
        return "; ".join(causes + list(dict.fromkeys(self._seen)))

    def _collected_callback(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.monotonic()
        else:
            generation = info["generation"]
            took = (time.monotonic() - self._collecting) * 1000
            self._collected[generation] = self._collected.get(generation, 0.0) + took

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _look(self, watch: int) -> None:
        while watch == self._watches:
            time.sleep(LOOK_SECONDS)
            due, seen = self._due, self._seen
            if due is not None and time.monotonic() - due > LOOK_SECONDS and len(seen) < MOST_SEEN:
                seen.append(where(sys._current_frames().get(self._loop_thread)))


def where(frame: FrameType | None) -> str:
    """Where a thread is: the function it is in, and the one of ours that has led there."""
    if frame is None:
        return "nowhere"
    inmost = _name(frame)
    ours: FrameType | None = frame
    while ours is not None and not ours.f_code.co_filename.startswith(_OURS):
        ours = ours.f_back
    return inmost if ours is None or ours is frame else f"{inmost} of {_name(ours)}"


def _name(frame: FrameType) -> str:
    code = frame.f_code
    path = Path(code.co_filename)
    file = (
        path.relative_to(_ROOT).as_posix() if code.co_filename.startswith(_OURS) else f"{path.parent.name}/{path.name}"
    )
    return f"{file} {code.co_qualname}"
