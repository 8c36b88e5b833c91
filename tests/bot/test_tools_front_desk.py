"""Answers from the FAQ, messages, the end of the call; and what the model is told at connect."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from bot.tools import CallFacts, ToolBox

Line = Any
OpenLine = Callable[..., Line]


def messages(line: Line, tmp_path: Any) -> list[Any]:
    engine = create_engine(f"sqlite:///{tmp_path / 'desk.db'}")
    try:
        with engine.connect() as connection:
            return list(connection.execute(text("select caller_phone, name, text, urgent from desk_messages")))
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("do you take Delta Dental", "in network with Delta Dental"),
        ("where can I leave my car", "free spaces"),
        ("is there parking", "free spaces"),
        ("what happens if I cancel late", "24 hours"),
    ],
)
async def test_questions_find_their_answer(open_line: OpenLine, question: str, words: str) -> None:
    answer = await open_line().run("answer_question", question=question)
    assert words in str(answer["answers"])


async def test_no_answer_is_said_honestly(open_line: OpenLine) -> None:
    answer = await open_line().run("answer_question", question="Can you repair my bicycle?")
    assert answer["say"] == "There is no answer to this on file."
    assert "do not guess" in answer["hint"]


async def test_message_is_kept_once(open_line: OpenLine, tmp_path: Any) -> None:
    line = open_line()
    wish = {"text": "Please call about my X-rays.", "name": "Anna Bell", "urgent": "true"}
    answer = await line.run("take_message", **wish)
    await line.run("take_message", **wish)
    assert answer["say"] == "The message is passed on; the staff will call back on the number ending in 0 1 9 9."
    assert messages(line, tmp_path) == [("+12075550199", "Anna Bell", "Please call about my X-rays.", 1)]


async def test_message_from_a_withheld_number_needs_one(open_line: OpenLine, tmp_path: Any) -> None:
    line = open_line(number="anonymous")
    asked = await line.run("take_message", text="Call me.", name="Anna Bell")
    assert "withheld" in asked["error"]
    await line.run("take_message", text="Call me.", name="Anna Bell", phone="207 555 0123")
    assert messages(line, tmp_path) == [("+12075550123", "Anna Bell", "Call me.", 0)]


async def test_endless_text_is_refused(open_line: OpenLine) -> None:
    line = open_line()
    assert "longer than" in (await line.run("take_message", text="x" * 3000, name="Anna Bell"))["error"]


# -- the briefing -----------------------------------------------------------------------------------------------------


async def test_briefing_tells_what_a_call_needs(open_line: OpenLine) -> None:
    words = open_line(free=False).box.system_instruction()
    for needed in (
        "You are Marina",
        "Monday, 2026-11-23, 10:00 AM, in America/New_York",
        "You have already said: \"Harbor Street Dental, hello! I'm Marina",
        "Do not greet again",
        "Monday 8:00 AM to 5:00 PM; Tuesday 8:00 AM to 7:00 PM",
        "Sunday closed",
        "Thursday, November 26 (Thanksgiving) closed",
        "Cleaning (60 minutes, 145 dollars without insurance, with June Abbott or Kevin Tran, also called hygiene",
        "41 Harbor Street",
        "Current step: Find out what the caller needs.",
        "yes, you are an AI assistant",
        "square brackets",
        "Speak en-US",
    ):
        assert needed in words
    assert len(words) < 6000


async def test_briefing_after_a_reconnect_knows_step_and_deeds(open_line: OpenLine) -> None:
    line = open_line(free=False)
    await line.run("find_slots", service="Cleaning")
    await line.run("book_appointment", service="Cleaning", day="2026-12-01", time="15:00", name="Anna Bell")
    words = line.box.system_instruction()
    assert "Current step: Confirm in one sentence what was done." in words
    assert "- Booked for Anna Bell: Cleaning with June Abbott on Tuesday, December 1 at 3:00 PM." in words


async def test_briefing_stays_short_through_a_long_call(open_line: OpenLine) -> None:
    line = open_line("home_repair", number="+447700900123")
    line.clock.advance(days=26)  # all of Christmas is ahead
    await line.run("save_customer", name="Anna Bell")
    for number in range(12):
        await line.run("add_note", text=f"Remark {number}: " + "the boiler is in the attic " * 20)
    assert len(line.box.system_instruction()) < 6000


WHY = "Ada Lovelace has a question about her bill."


async def test_a_person_is_fetched_while_somebody_is_there(open_line: OpenLine) -> None:
    line = open_line()
    answer = await line.run("transfer_to_human", reason=WHY)
    assert "Say nothing more" in answer["hint"]
    assert line.box.wants_person == WHY
    assert not line.box.wants_hang_up


@pytest.mark.parametrize(
    ("moment", "flow"),
    [
        ("2026-11-23T17:00-05:00", "dental"),  # closing time
        ("2026-11-22T10:00-05:00", "dental"),  # a Sunday
        ("2026-11-26T10:00-05:00", "dental"),  # Thanksgiving
        ("2026-11-28T10:00+00:00", "home_repair"),  # a Saturday: the business is open, its office is not
        ("2026-12-24T14:00+00:00", "home_repair"),  # Christmas Eve, when the business closes at noon
    ],
)
async def test_nobody_is_fetched_out_of_hours(open_line: OpenLine, moment: str, flow: str) -> None:
    line = open_line(flow, at=datetime.fromisoformat(moment))
    answer = await line.run("transfer_to_human", reason=WHY)
    assert answer["error"] == "Nobody can come to the phone right now."
    assert "take a message" in answer["hint"]
    assert line.box.wants_person == ""


async def test_our_own_number_is_not_rung(open_line: OpenLine) -> None:
    line = open_line()
    line.box = ToolBox(line.flow, line.desk, line.clock, CallFacts("CA1", "+12075550199", "+12075550123"), print)
    assert "error" in await line.run("transfer_to_human", reason=WHY)
