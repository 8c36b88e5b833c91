"""Fixtures for the bot's tests: a clock that stands still until told, and a line to the tools of a call."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bot.events import CallEvent
from bot.flow import Flow, load_flow
from bot.tools import CallFacts, ToolBox
from desk.commands import Command, commands_of
from desk.desk import Desk, migrate

FLOWS = Path(__file__).parents[2] / "flows"
MONDAY_AT_TEN = datetime(2026, 11, 23, 10, tzinfo=ZoneInfo("America/New_York"))


class HeldClock:
    """Both clocks show `now`; it moves when `advance` says so."""

    def __init__(self, now: datetime = MONDAY_AT_TEN) -> None:
        self.now = now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    def now_ns(self) -> int:
        return self.wall_ns()

    def wall_ns(self) -> int:
        return int(self.now.astimezone(UTC).timestamp() * 1e9)

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds=seconds)
        await asyncio.sleep(0)


@dataclass
class ToolLine:
    """A call's tools over a real desk. `run` numbers its calls c1, c2, ... unless told."""

    flow: Flow
    desk: Desk
    clock: HeldClock
    facts: CallFacts
    events: list[CallEvent] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.box = ToolBox(self.flow, self.desk, self.clock, self.facts, self.events.append)

    async def run(self, tool: str, call_id: str | None = None, /, **args: Any) -> dict[str, Any]:
        self.count += 1
        return await self.box.run(call_id or f"c{self.count}", tool, args)

    def statuses(self, kind: str = "tool_returned") -> list[str]:
        return [event.status for event in self.events if event.kind == kind]  # type: ignore[attr-defined]

    def commands(self) -> list[Command]:
        """What stands in the business's books of this call."""
        long_ago = datetime(2000, 1, 1, tzinfo=UTC)
        return commands_of(self.desk._database, self.flow.id, self.facts.call_sid, long_ago)


@pytest.fixture(scope="session")
def migrated_file(sqlite_template: Callable[..., Path]) -> Path:
    """An empty SQLite database with the desk's tables, to be copied."""
    return sqlite_template(migrate)


OpenLine = Callable[..., ToolLine]

_load_flow = cache(load_flow)  # reading the YAML takes 60 ms


@pytest.fixture
def open_line(tmp_path: Path, migrated_file: Path) -> Iterator[OpenLine]:
    """Makes a `ToolLine`: open_line(flow="dental", number="+12075550199", free=True, at=MONDAY_AT_TEN, call_sid="CA1").

    `free` lets every tool run in every step. All lines of a test share one database.
    """
    path = tmp_path / "desk.db"
    shutil.copy(migrated_file, path)
    desks: list[Desk] = []

    def make(
        flow: str = "dental",
        *,
        number: str = "+12075550199",
        free: bool = True,
        at: datetime = MONDAY_AT_TEN,
        call_sid: str = "CA1",
    ) -> ToolLine:
        loaded = _load_flow(FLOWS / f"{flow}.yaml")
        if free:
            loaded = loaded.model_copy(update={"anytime": tuple(use.name for use in loaded.tools)})
        clock = HeldClock(at)
        desks.append(Desk(f"sqlite:///{path}", loaded.desk_business(), clock))
        return ToolLine(loaded, desks[-1], clock, CallFacts(call_sid, number, "+12075550142"))

    yield make
    for desk in desks:
        desk.close()


@pytest.fixture
def held_clock() -> HeldClock:
    """A clock that stands still on Monday, 2026-11-23, 10:00 in New York."""
    return HeldClock()
