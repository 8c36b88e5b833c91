"""Where a call stands, from status callbacks that come late, twice or in any order. Pure.

Source: Twilio documentation, "Voice: Status callbacks" (CallStatus, SequenceNumber): each change is a request of its
own, their order is not guaranteed and a request may be repeated.
"""

from __future__ import annotations

from typing import Literal

FINAL = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
"""After one of these the call is over for good."""
_RANK = {"queued": 0, "initiated": 1, "ringing": 2, "in-progress": 3} | dict.fromkeys(FINAL, 4)

Verdict = Literal["moved", "repeated", "late", "contradiction", "unknown"]


class CallStatus:
    """A state that only moves forward: queued < initiated < ringing < in-progress < any final one.

    The first final status wins and stays. ``status`` is empty until the first callback.
    """

    def __init__(self) -> None:
        self.status = ""
        self._seen: set[int] = set()

    @property
    def is_over(self) -> bool:
        """Whether the carrier has said that the call ended."""
        return self.status in FINAL

    def advance(self, status: str, sequence: int | None = None) -> Verdict:
        """Apply one callback; `sequence` is its SequenceNumber, where it has one.

        Only ``moved`` changed anything. The others say why not: ``repeated`` (the same callback or status again),
        ``late`` (an earlier status arrives after a later one), ``contradiction`` (another final status: the first one
        stays), ``unknown`` (no status of Twilio's).
        """
        rank = _RANK.get(status)
        if rank is None:
            return "unknown"
        if status == self.status or sequence in self._seen:
            return "repeated"
        if sequence is not None:
            self._seen.add(sequence)
        current = _RANK.get(self.status, -1)
        if rank > current:
            self.status = status
            return "moved"
        return "contradiction" if self.is_over and status in FINAL else "late"
