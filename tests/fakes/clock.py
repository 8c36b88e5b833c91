"""A clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class StillClock:
    """Moves only when a test moves it; it starts at noon UTC on Friday 1 May 2026, or at `now`."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def now_ns(self) -> int:
        return self.wall_ns()

    def wall_ns(self) -> int:
        return int(self.now.timestamp() * 1e9)

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("what is tested here never sleeps")
