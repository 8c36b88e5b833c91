"""The tool box: checks, one run for one wish, interruptions, withdrawals, timeouts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from bot.errors import NotOpen
from bot.events import CallEvent

CLEANING = {"service": "Cleaning", "day": "2026-12-01", "time": "15:00", "name": "Anna Bell"}
Line = Any
OpenLine = Callable[..., Line]


class Gate:
    """Lets a desk method begin, then holds it until `open` is called; counts how often it was entered."""

    def __init__(self, line: Line, method: str) -> None:
        self.entered, self._go = threading.Event(), threading.Event()
        self.times = 0
        inner = getattr(line.desk, method)

        def held(*args: Any, **kwargs: Any) -> Any:
            self.times += 1
            self.entered.set()
            assert self._go.wait(20)
            return inner(*args, **kwargs)

        setattr(line.desk, method, held)

    def open(self) -> None:
        self._go.set()

    async def until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 20)


def booked(line: Line) -> list[str]:
    """Starts of all coming appointments at the caller's number."""
    people = line.desk.find_customers(line.facts.from_number)
    return [f"{a.start:%m-%d %H:%M}" for person in people for a in line.desk.appointments(person.id)]


async def settle(line: Line) -> None:
    assert await line.box.finish() == 0


# -- the way of a call ------------------------------------------------------------------------------------------------


async def test_a_booking_goes_through_steps_to_a_row_and_words(open_line: OpenLine) -> None:
    line = open_line(free=False)
    refused = await line.run("book_appointment", **CLEANING)
    assert "First use find_slots." in refused["error"]
    found = await line.run("find_slots", service="cleaning", day="2026-12-01", time="3 pm")
    assert found["say"] == "Tuesday, December 1 at 3:00 PM is free."
    assert "book after a clear yes" in found["next_step"]
    done = await line.run("book_appointment", **CLEANING)
    assert done["say"] == "Booked for Anna Bell: Cleaning with June Abbott on Tuesday, December 1 at 3:00 PM."
    assert booked(line) == ["12-01 15:00"]
    assert line.statuses() == ["refused", "ok", "ok"]
    assert [e.step for e in line.events if e.kind == "step_entered"] == ["reception", "choose_time", "wrap_up"]
    assert [e.step for e in line.events if e.kind == "tool_called"] == ["reception", "reception", "choose_time"]


async def test_unknown_tool_is_answered_with_the_list(open_line: OpenLine) -> None:
    line = open_line()
    answer = await line.run("delete_everything")
    assert "no tool 'delete_everything'" in answer["error"]
    assert "find_slots, book_appointment" in answer["hint"]
    assert line.statuses() == ["unknown"]


async def test_wrong_arguments_are_all_named_and_nothing_is_done(open_line: OpenLine) -> None:
    line = open_line()
    answer = await line.run("book_appointment", service="massage", day="2026-02-30", time="15:00", color="red")
    assert "There is no service 'massage'" in answer["error"]
    assert "no such day" in answer["error"]
    assert "name: missing" in answer["error"]
    assert "color: no such argument" in answer["error"]
    assert "Ask which is meant: Cleaning, Checkup" in answer["hint"]
    assert line.statuses() == ["invalid"]
    assert booked(line) == []


async def test_step_refusal_comes_before_complaints_about_arguments(open_line: OpenLine) -> None:
    line = open_line(free=False)
    answer = await line.run("book_appointment", service="massage")
    assert "First use find_slots." in answer["error"]
    assert line.statuses() == ["refused"]


async def test_refusal_of_the_desk_carries_alternatives_and_moves_nothing(open_line: OpenLine) -> None:
    line = open_line(free=False)
    await line.run("find_slots", service="Crown preparation")
    first = {**CLEANING, "service": "Crown preparation", "time": "14:00", "name": "Anna Bell"}
    await line.run("book_appointment", **first)
    answer = await line.run("book_appointment", **{**first, "name": "Bob Stone"})
    assert line.statuses()[-1] == "refused"
    assert answer["alternatives"][0].keys() == {"when", "day", "time", "with"}
    assert answer["hint"]
    assert booked(line) == ["12-01 14:00"]


async def test_end_call_asks_for_the_hang_up(open_line: OpenLine) -> None:
    line = open_line()
    assert not line.box.wants_hang_up
    await line.run("end_call")
    assert line.box.wants_hang_up


async def test_durations_come_from_the_clock(open_line: OpenLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line = open_line()

    def slow(*_: Any, **__: Any) -> list[Any]:
        line.clock.advance(seconds=1.5)
        return []

    monkeypatch.setattr(line.desk, "search_faq", slow)
    await line.run("answer_question", question="parking")
    assert line.events[-1].duration_ms == pytest.approx(1500)


async def test_events_can_stand_on_a_tape(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("book_appointment", **CLEANING, note="a\ud800b", phone=10**30)
    await line.run("find_slots", service="Cleaning", day=float("nan"))
    for event in line.events:
        assert CallEvent.from_json(event.to_json()) == event


# -- once -------------------------------------------------------------------------------------------------------------


async def test_hundred_identical_calls_at_once_book_once(open_line: OpenLine) -> None:
    line = open_line()
    answers = await asyncio.gather(*(line.run("book_appointment", **CLEANING) for _ in range(100)))
    assert {answer["number"] for answer in answers} == {1}
    assert booked(line) == ["12-01 15:00"]
    assert sorted(line.statuses()) == ["ok"] + ["repeated"] * 99


async def test_same_call_id_again_gets_the_first_result_for_reads_too(open_line: OpenLine) -> None:
    line = open_line()
    first = await line.run("find_slots", "x1", service="Cleaning", day="2026-12-01")
    await line.run("book_appointment", **{**CLEANING, "time": first["slots"][0]["time"]})
    again = await line.run("find_slots", "x1", service="Cleaning", day="2026-12-01")
    assert again["slots"] == first["slots"]
    fresh = await line.run("find_slots", "x2", service="Cleaning", day="2026-12-01")
    assert fresh["slots"][0]["with"] == "Kevin Tran" or fresh["slots"] != first["slots"]
    assert line.statuses() == ["ok", "ok", "repeated", "ok"]


async def test_same_call_id_with_another_wish_is_another_call(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("book_appointment", "x1", **CLEANING)
    await line.run("book_appointment", "x1", **{**CLEANING, "time": "10:00"})
    assert booked(line) == ["12-01 10:00", "12-01 15:00"]


@pytest.mark.parametrize(
    "reworded",
    [
        {"day": "December 1st"},
        {"time": "3 pm"},
        {"time": "three o'clock"},
        {"service": "teeth cleaning"},
        {"name": "anna bell"},
        {"staff": ""},
        {"note": None},
    ],
)
async def test_same_wish_in_other_words_books_once(open_line: OpenLine, reworded: dict[str, Any]) -> None:
    line = open_line()
    first = await line.run("book_appointment", **CLEANING)
    again = await line.run("book_appointment", **{**CLEANING, **reworded})
    assert again["number"] == first["number"]
    assert "done once" in again["note"]
    assert booked(line) == ["12-01 15:00"]


async def test_repeated_booking_is_answered_even_where_the_step_no_longer_allows_it(open_line: OpenLine) -> None:
    line = open_line("home_repair", free=False, number="+447700900123")
    await line.run("find_slots", service="Plumbing visit", day="2026-12-01")
    wish = {"service": "Plumbing visit", "day": "2026-12-01", "time": "9:30", "name": "Anna Bell"}
    first = await line.run("book_appointment", **wish)
    assert "book_appointment" not in line.box.steps.allowed
    again = await line.run("book_appointment", **wish)
    assert again["number"] == first["number"]
    assert "full address" in again["next_step"]


async def test_what_was_taken_back_may_be_wished_again(open_line: OpenLine) -> None:
    line = open_line()
    first = await line.run("book_appointment", **CLEANING)
    await line.run("cancel_appointment")
    assert booked(line) == []
    again = await line.run("book_appointment", **CLEANING)
    assert again["number"] != first["number"]
    await line.run("cancel_appointment")
    assert booked(line) == []
    assert line.statuses() == ["ok"] * 4


async def test_moving_there_and_back_and_there_again(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("book_appointment", **CLEANING)
    for time in ("10:00", "11:00", "10:00"):
        await line.run("reschedule_appointment", day="2026-12-02", time=time)
    assert booked(line) == ["12-02 10:00"]
    assert line.statuses() == ["ok"] * 4


async def test_failed_write_may_be_tried_again(open_line: OpenLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line = open_line()
    inner, fail = line.desk.book, [True]

    def flaky(**kwargs: Any) -> Any:
        if fail.pop() if fail else False:
            raise OSError("disk on fire for +12075550199")
        return inner(**kwargs)

    monkeypatch.setattr(line.desk, "book", flaky)
    failed = await line.run("book_appointment", **CLEANING)
    assert "problem" in failed["error"]
    assert "try once more" in failed["hint"]
    assert "fire" not in str(failed)
    done = await line.run("book_appointment", **CLEANING)
    assert done["say"].startswith("Booked")
    assert line.statuses() == ["error", "ok"]


async def test_write_that_was_stored_before_it_failed_is_found_again(
    open_line: OpenLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the database got lost: the same idempotency key brings the first booking back."""
    line = open_line()
    inner, lose = line.desk.book, [True]

    def lossy(**kwargs: Any) -> Any:
        result = inner(**kwargs)
        if lose and lose.pop():
            raise ConnectionError("lost")
        return result

    monkeypatch.setattr(line.desk, "book", lossy)
    await line.run("book_appointment", **CLEANING)
    done = await line.run("book_appointment", **CLEANING)
    assert done["number"] == 1
    assert booked(line) == ["12-01 15:00"]


async def test_two_calls_with_the_same_wish_are_two_wishes(open_line: OpenLine) -> None:
    one, two = open_line(call_sid="CA1"), open_line(call_sid="CA2")
    await one.run("book_appointment", **CLEANING)
    await two.run("book_appointment", **CLEANING)
    assert booked(one) == ["12-01 15:00", "12-01 15:00"]  # June Abbott and Kevin Tran


async def test_a_log_line_about_a_failure_has_no_caller_data(
    open_line: OpenLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loguru import logger

    line, lines = open_line(), list[str]()
    monkeypatch.setattr(line.desk, "search_faq", lambda _: {}["the caller's secret"])
    sink = logger.add(lambda message: lines.append(str(message)), level=0)
    try:
        await line.run("answer_question", question="my secret")
    finally:
        logger.remove(sink)
    assert "answer_question failed with KeyError" in "".join(lines)
    assert "secret" not in "".join(lines)


# -- interruption, withdrawal, timeouts -------------------------------------------------------------------------------


async def test_interrupted_write_books_once_and_the_repeated_call_gets_its_result(open_line: OpenLine) -> None:
    line = open_line()
    gate = Gate(line, "book")
    handler = asyncio.create_task(line.run("book_appointment", "x1", **CLEANING))
    await gate.until_entered()
    handler.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handler
    again = asyncio.create_task(line.run("book_appointment", "x2", **CLEANING))
    await asyncio.sleep(0)
    gate.open()
    answer = await again
    assert answer["say"].startswith("Booked for Anna Bell")
    assert gate.times == 1
    assert booked(line) == ["12-01 15:00"]
    assert [e.call_id for e in line.events if e.kind == "tool_cancelled"] == ["x1"]
    assert line.statuses() == ["repeated"]
    assert line.box.unheard_results() == []


async def test_interrupted_write_that_nobody_repeats_is_unheard(open_line: OpenLine) -> None:
    line = open_line(free=False)
    await line.run("find_slots", service="Cleaning")
    gate = Gate(line, "book")
    handler = asyncio.create_task(line.run("book_appointment", "x1", **CLEANING))
    await gate.until_entered()
    handler.cancel()
    await asyncio.gather(handler, return_exceptions=True)
    assert line.box.unheard_results() == []  # not yet known
    gate.open()
    await settle(line)
    (unheard,) = line.box.unheard_results()
    assert (unheard.call_id, unheard.name) == ("x1", "book_appointment")
    assert unheard.result["say"].startswith("Booked for Anna Bell")
    assert line.box.unheard_results() == []  # handed out once
    assert line.statuses() == ["ok", "ok"]  # the tape knows how it ended
    assert line.box.steps.current.name == "wrap_up"
    again = await line.run("book_appointment", "x1", **CLEANING)
    assert again["say"] == unheard.result["say"]
    assert line.statuses()[-1] == "repeated"
    assert booked(line) == ["12-01 15:00"]


async def test_unheard_result_that_a_repeated_call_got_is_no_longer_unheard(open_line: OpenLine) -> None:
    line = open_line()
    gate = Gate(line, "book")
    handler = asyncio.create_task(line.run("book_appointment", **CLEANING))
    await gate.until_entered()
    handler.cancel()
    await asyncio.gather(handler, return_exceptions=True)
    gate.open()
    await settle(line)
    await line.run("book_appointment", **CLEANING)
    assert line.box.unheard_results() == []


async def test_withdrawn_write_is_finished_and_unheard(open_line: OpenLine) -> None:
    line = open_line()
    gate = Gate(line, "book")
    handler = asyncio.create_task(line.run("book_appointment", "x1", **CLEANING))
    await gate.until_entered()
    line.box.cancel("x1")
    line.box.cancel("x1")
    assert await handler == {"error": "The call was withdrawn."}
    gate.open()
    await settle(line)
    assert [unheard.result["number"] for unheard in line.box.unheard_results()] == [1]
    assert [e.kind for e in line.events[1:]] == ["tool_called", "tool_cancelled", "tool_returned"]


async def test_withdrawn_read_is_dropped(open_line: OpenLine) -> None:
    line = open_line()
    gate = Gate(line, "search_faq")
    handler = asyncio.create_task(line.run("answer_question", "x1", question="parking"))
    await gate.until_entered()
    line.box.cancel("x1")
    assert await handler == {"error": "The call was withdrawn."}
    gate.open()
    await settle(line)
    assert line.box.unheard_results() == []
    assert line.statuses() == []
    assert (await line.run("answer_question", "x1", question="parking"))["answers"]  # re-sent: runs afresh


async def test_call_withdrawn_before_it_began_does_not_begin(open_line: OpenLine) -> None:
    line = open_line()
    line.box.cancel("x1")
    assert "withdrawn" in (await line.run("book_appointment", "x1", **CLEANING))["error"]
    assert booked(line) == []
    assert (await line.run("book_appointment", "x1", **CLEANING))["number"] == 1


async def test_withdrawal_that_crosses_the_result_makes_it_unheard(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("book_appointment", "x1", **CLEANING)
    line.box.cancel("x1")
    assert [unheard.call_id for unheard in line.box.unheard_results()] == ["x1"]


async def test_withdrawing_one_of_two_waiting_calls_leaves_the_other(open_line: OpenLine) -> None:
    line = open_line()
    gate = Gate(line, "book")
    first = asyncio.create_task(line.run("book_appointment", "x1", **CLEANING))
    await gate.until_entered()
    second = asyncio.create_task(line.run("book_appointment", "x2", **CLEANING))
    await asyncio.sleep(0)
    line.box.cancel("x1")
    gate.open()
    assert "withdrawn" in (await first)["error"]
    assert (await second)["number"] == 1
    assert line.box.unheard_results() == []


async def test_slow_read_times_out_with_a_reason(open_line: OpenLine) -> None:
    line = open_line()
    line.box._timeouts["answer_question"] = 0.05
    gate = Gate(line, "search_faq")
    answer = await line.run("answer_question", question="parking")
    assert "did not answer in time" in answer["error"]
    assert answer["hint"]
    assert line.statuses() == ["timeout"]
    gate.open()
    await settle(line)


async def test_slow_write_times_out_goes_on_and_can_be_asked_again(open_line: OpenLine) -> None:
    line = open_line()
    line.box._timeouts["book_appointment"] = 0.05
    gate = Gate(line, "book")
    answer = await line.run("book_appointment", **CLEANING)
    assert "may still go through" in answer["error"]
    line.box._timeouts["book_appointment"] = 20
    again = asyncio.create_task(line.run("book_appointment", **CLEANING))
    await asyncio.sleep(0)
    gate.open()
    assert (await again)["number"] == 1
    assert line.statuses() == ["timeout", "repeated"]
    assert gate.times == 1
    [command] = line.commands()
    assert [event.key for event in line.events if event.kind == "tool_returned"] == ["", command.key]
    assert line.box.unheard_results() == []


async def test_late_write_is_on_the_tape_and_unheard(open_line: OpenLine) -> None:
    line = open_line()
    line.box._timeouts["book_appointment"] = 0.05
    gate = Gate(line, "book")
    await line.run("book_appointment", **CLEANING)
    gate.open()
    await settle(line)
    assert line.statuses() == ["timeout", "ok"]
    assert len(line.box.unheard_results()) == 1


async def test_late_refusal_is_unheard_too_and_may_be_tried_again(
    open_line: OpenLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = open_line()

    def refuse(**_: Any) -> None:
        raise NotOpen("We are closed then.", "Ask for another day.")

    with monkeypatch.context() as patch:
        patch.setattr(line.desk, "book", refuse)
        gate = Gate(line, "book")
        handler = asyncio.create_task(line.run("book_appointment", **CLEANING))
        await gate.until_entered()
        handler.cancel()
        await asyncio.gather(handler, return_exceptions=True)
        gate.open()
        await settle(line)
    assert line.box.unheard_results()[0].result["error"] == "We are closed then."
    assert (await line.run("book_appointment", **CLEANING))["number"] == 1


async def test_finish_waits_for_writes_only_so_long(open_line: OpenLine) -> None:
    line = open_line()
    gate = Gate(line, "book")
    handler = asyncio.create_task(line.run("book_appointment", **CLEANING))
    await gate.until_entered()
    handler.cancel()
    await asyncio.gather(handler, return_exceptions=True)
    assert await line.box.finish(within_seconds=0.01) == 1
    gate.open()
    assert await line.box.finish() == 0
    assert booked(line) == ["12-01 15:00"]


async def test_timeouts_come_from_the_flow(open_line: OpenLine) -> None:
    line = open_line()
    assert line.box._timeouts["book_appointment"] == 10
    assert line.box._timeouts["find_slots"] == 8
