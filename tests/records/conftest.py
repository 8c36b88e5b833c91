"""A fresh database on each engine, a clock that stands still, and records of calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from fakes.clock import NOON, StillClock

from records.record import (
    CallRecord,
    Change,
    Cost,
    CostLine,
    Figures,
    Flag,
    KeyPress,
    Outcome,
    Stage,
    ToolUse,
    Turn,
    Waterfall,
    Word,
)
from records.store import Store, migrate


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def database_url(make_database: Callable[..., str]) -> str:
    """A database with the records' tables."""
    return make_database(migrate)


@pytest.fixture
def store(database_url: str, clock: StillClock) -> Iterator[Store]:
    store = Store(database_url, clock)
    store.open()
    yield store
    store.close()


@pytest.fixture
def sql(database_url: str) -> Callable[..., list[tuple[Any, ...]]]:
    """Runs SQL on the test's database past the store."""
    from desk.database import make_engine

    def run(statement: str) -> list[tuple[Any, ...]]:
        engine = make_engine(database_url)
        try:
            with engine.begin() as connection:
                result = connection.exec_driver_sql(statement)
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            engine.dispose()

    return run


def said(number: int, speaker: Any, text: str, **more: Any) -> Turn:
    """A turn of two seconds, with word times."""
    start = number * 2000.0
    words = tuple(Word(word, start + at * 100, start + at * 100 + 90.5) for at, word in enumerate(text.split()))
    return Turn(number, speaker, start, start + 2000, text, words=words, **more)


@pytest.fixture(scope="session")
def make_record() -> Callable[..., CallRecord]:
    """A record in which everything is filled in; `minutes` after noon, `said` the turns, and other fields."""

    def make(call_id: str = "CA1", minutes: float = 0, **changes: Any) -> CallRecord:
        return replace(_full_record(call_id, NOON + timedelta(minutes=minutes)), **changes)

    return make


def _full_record(call_id: str, began_at: datetime) -> CallRecord:
    turns = (
        said(0, "bot", "Hello, this is Smile Clinic. This call is recorded.", source="clip", language="en-US"),
        said(1, "caller", "I'd like a cleaning on Tuesday, por favor. Olé!", language="en-US"),
        said(2, "bot", "You are booked for Tuesday", unheard=" at three in the afternoon.", interrupted=True),
        Turn(3, "caller", 6000.25, 7000, "", gap=True, source="none"),
    )
    tools = (
        ToolUse(0, "fc-1", "find_slots", {"service": "cleaning"}, "ok", {"slots": []}, "booking", 3000, 12.5),
        ToolUse(
            1, "fc-2", "book_appointment", {"name": "Zoë Ångström", "nested": {"a": [1, 2.5, None, True]}}, "ok",
            {"say": "Booked."}, "booking", 3500.125, 20, ("appointment:12", "customer:3"),
        ),
    )  # fmt: skip
    return CallRecord(
        call_id=call_id,
        call_sid=call_id.partition(".")[0],
        account="AC1",
        flow="dental",
        flow_hash="ab" * 32,
        from_number="+12125550101",
        to_number="+12125550199",
        began_at=began_at,
        duration_ms=61_000.5,
        stream_offset_ms=812.25,
        code="0.1.0",
        model="gemini-3.1-flash-live-preview",
        language="en-US",
        tape_sha256="cd" * 32,
        tape_bytes=123_456,
        derived_by=1,
        outcome=Outcome(
            "booked",
            "goodbye",
            (Change("appointment", "12", "fc-2", "Cleaning on Tuesday at three"),),
            ("greeting", "booking"),
            "The caller booked a cleaning.",
            {"service": "cleaning", "wishes": ["window seat"]},
            "gemini-3.8-flash",
        ),
        figures=Figures(700.5, 1200.25, 180.0, 1, 90.5, 2100.0, 8000.0, 20_000.0, 0.71),
        cost=Cost(
            0.0123,
            False,
            "2026-11-01",
            (CostLine("audio_in", "gemini-3.1-flash-live-preview", 250.0, 0.00075, 2), CostLine("x", "y", 1.0, None)),
        ),
        turns=turns,
        tools=tools,
        keys=(KeyPress(4100.5, "5"),),
        waterfalls=(Waterfall(2, 3900.0, 850.5, (Stage("endpointing", 600.0), Stage("model", 250.5))),),
        flags=(
            Flag("unheard_result", "three in the afternoon was not heard", 2),
            Flag("voice_without_words", "the caller's voice, and no words", 3),
            Flag("unknown_price", "no price for x"),
        ),
        retention={"audio": 30},
    )
