"""Whatever the model calls, whenever it stops waiting: an answer it can act on, one booking for one wish."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.events import CallEvent
from bot.tools import TOOLS

Line = Any
OpenLine = Callable[..., Line]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SAID = st.sampled_from(
    "tomorrow;next Tuesday;2026-12-01;15:00;3 pm;half past three;Cleaning;toothache;Dr. Okafor;anyone;"  # noqa: SIM905
    "Anna Bell;five five five oh one two three;207 555 0123;this number;morning;1;true;;null;a at b dot com".split(";")
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, Any]:
    name = draw(st.sampled_from(sorted(TOOLS)) | st.text(max_size=10))
    known = [parameter.name for parameter in TOOLS[name].parameters] if name in TOOLS else ["x"]
    keys = st.sampled_from([*known, "zzz"]) if known else st.text(max_size=5)
    return name, draw(st.dictionaries(keys, SAID | JSON, max_size=8) | JSON)


@pytest.fixture
def on_two_lines(open_line: OpenLine) -> Iterator[Callable[[bool, str, Any], tuple[Line, dict[str, Any]]]]:
    """Runs one tool, with any arguments, on a line where all tools are free or on one that follows its steps."""
    lines = {free: open_line(free=free) for free in (True, False)}
    with asyncio.Runner() as runner:

        def call(free: bool, name: str, args: Any) -> tuple[Line, dict[str, Any]]:
            line = lines[free]
            line.events.clear()
            line.count += 1
            return line, runner.run(line.box.run(f"id{line.count}", name, args))

        yield call


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=calls(), free=st.booleans())
def test_whatever_the_model_calls_it_gets_an_answer(
    on_two_lines: Callable[[bool, str, Any], tuple[Line, dict[str, Any]]], wanted: tuple[str, Any], free: bool
) -> None:
    line, answer = on_two_lines(free, *wanted)
    assert answer.get("say") or answer["error"]
    returned = line.events[-1]
    assert returned.kind == "tool_returned"
    assert returned.status in ("ok", "refused", "invalid", "unknown", "repeated")
    assert returned.result == answer
    for event in line.events:
        assert CallEvent.from_json(event.to_json()) == event


@pytest.mark.parametrize("seed", range(4))
async def test_any_storm_of_calls_and_withdrawals_books_each_wish_once(open_line: OpenLine, seed: int) -> None:
    """Sixty calls for three wishes on a slow desk that loses some answers; half are interrupted or withdrawn."""
    line, chance = open_line(), random.Random(seed)
    book = line.desk.book

    def slow(**kwargs: Any) -> Any:
        time.sleep(chance.random() * 0.02)
        appointment = book(**kwargs)
        time.sleep(chance.random() * 0.02)
        if chance.random() < 0.1:
            raise ConnectionError("the answer got lost")
        return appointment

    line.desk.book = slow
    line.box._timeouts["book_appointment"] = 0.03

    async def call() -> dict[str, Any] | None:
        await asyncio.sleep(chance.random() * 0.2)
        wish = {
            "service": "Cleaning",
            "day": "2026-12-01",
            "name": "Anna Bell",
            "time": chance.choice(["9", "10", "11"]),
        }
        handler = asyncio.create_task(line.box.run(f"x{chance.randrange(25)}", "book_appointment", wish))
        await asyncio.sleep(chance.random() * 0.03)
        if chance.random() < 0.3:
            handler.cancel()
        elif chance.random() < 0.4:
            line.box.cancel(f"x{chance.randrange(25)}")
        (answer,) = await asyncio.gather(handler, return_exceptions=True)
        return None if isinstance(answer, asyncio.CancelledError) else answer

    answers = await asyncio.gather(*(call() for _ in range(60)))
    assert await line.box.finish() == 0
    assert all(answer is None or answer.get("say") or answer["error"] for answer in answers)
    (customer,) = line.desk.find_customers(line.facts.from_number)
    starts = [appointment.start for appointment in line.desk.appointments(customer.id)]
    assert len(starts) == len(set(starts)) <= 3
    told = [answer["number"] for answer in answers if answer and "number" in answer]
    told += [entry.result["number"] for entry in line.box.unheard_results() if "number" in entry.result]
    assert {entry.id for entry in line.desk.appointments(customer.id)} >= set(told)
