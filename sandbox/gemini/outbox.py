"""What a session wants done: frames to send, work for voice and ear, the end of the connection; now or later.

Pure. The session puts things in, the shell (`sandbox.gemini.server`) takes them out one at a time, so an interruption
can still take back what has not gone out. All times are seconds of session time.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sandbox.gemini.wire import Close, Json

if TYPE_CHECKING:
    from sandbox.ear import Grammar

Step = Callable[[float], None]
Then = Callable[[Any, float], None]


@dataclass(frozen=True)
class Send:
    """Send this frame."""

    frame: Json


@dataclass(frozen=True)
class End:
    """Close with this code and reason; None: the TCP connection just goes."""

    close: Close | None


@dataclass(frozen=True)
class Speak:
    """Have `text` spoken (s16le mono 24 kHz), then `outbox.done(job, pcm, now)`."""

    job: int
    text: str


@dataclass(frozen=True)
class Hear:
    """Have s16le mono 16 kHz recognised, then `outbox.done(job, text, now)`."""

    job: int
    pcm: bytes
    grammar: Grammar


Action = Send | End | Speak | Hear


class Outbox:
    """Actions to take now, and steps that will run later (in order of due time, then of arrival)."""

    def __init__(self) -> None:
        self._actions: deque[Action] = deque()
        self._later: list[tuple[float, int, int, Step]] = []
        self._order = itertools.count(1)
        self._jobs: dict[int, Then] = {}
        self.ended = False

    def send(self, frame: Json) -> None:
        """Queues a frame."""
        if not self.ended:
            self._actions.append(Send(frame))

    def send_at(self, due: float, frame: Json, *, turn: int = 0) -> None:
        """Queues a frame for later."""
        self.at(due, lambda _now: self.send(frame), turn=turn)

    def end(self, close: Close | None) -> None:
        """Ends the connection once the frames queued so far are out; nothing is sent after that."""
        if not self.ended:
            self.ended = True
            self._actions.append(End(close))

    def speak(self, text: str, then: Then) -> None:
        """Asks the voice; `then(pcm, now)` when it has spoken."""
        job = next(self._order)
        self._jobs[job] = then
        self._actions.append(Speak(job, text))

    def hear(self, pcm: bytes, grammar: Grammar, then: Then) -> None:
        """Asks the ear; `then(text, now)` when it has listened."""
        job = next(self._order)
        self._jobs[job] = then
        self._actions.append(Hear(job, pcm, grammar))

    def done(self, job: int, result: Any, now: float) -> None:
        """A job of voice or ear is finished."""
        then = self._jobs.pop(job)
        if not self.ended:
            then(result, now)

    def at(self, due: float, step: Step, *, turn: int = 0) -> None:
        """Runs `step(now)` at `due`; `turn` > 0 ties it to that turn."""
        heapq.heappush(self._later, (due, next(self._order), turn, step))

    def every(self, first: float, interval: float, step: Step) -> None:
        """Runs `step(now)` at `first` and then every `interval` seconds."""
        self.at(first, partial(self._again, first, interval, step))

    def drop_turn(self, turn: int) -> None:
        """Forgets everything still to come of a turn."""
        self._later = [entry for entry in self._later if entry[2] != turn]
        heapq.heapify(self._later)

    def next_due(self) -> float | None:
        """When the next step is due, or None."""
        return self._later[0][0] if self._later and not self.ended else None

    def take(self, now: float) -> Action | None:
        """The next action to take at `now`, or None: then wait until `next_due()` or for input."""
        while not self._actions and not self.ended and self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[3](now)
        return self._actions.popleft() if self._actions else None

    def _again(self, due: float, interval: float, step: Step, now: float) -> None:
        step(now)
        self.every(max(due + interval, now), interval, step)
