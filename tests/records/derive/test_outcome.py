"""How calls ended and what came of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.made_tapes import Heard, Says, at, silence, tone
from bot.events import (
    CallEvent,
    HandedOver,
    MessageRecorded,
    StepEntered,
    ToolCalled,
    ToolCancelled,
    ToolReturned,
)

APPOINTMENT = {"number": 12, "service": "Cleaning", "with": "June Abbott", "when": "Tuesday at 9:00 AM"}


def tool(ms: float, name: str, status: Any = "ok", call_id: str = "", **result: Any) -> list[tuple[float, CallEvent]]:
    call_id = call_id or f"fc_{ms:g}"
    return [
        (ms, ToolCalled(call_id, name, {"name": "Ada Lovelace"}, "reception")),
        (ms + 30, ToolReturned(call_id, name, status, result, 30.0)),
    ]


def talk(said: str = "hello", answer: str = "Very well.", *, words: bool = True) -> dict[str, Any]:
    return {
        "caller": at((1_000, tone(1_000, 300)), ms=12_000),
        "heard": [Heard(2_500, said)] if words else [],
        "bot": [Says(8_000, tone(1_000), answer)],
    }


BOOK = tool(4_000, "book_appointment", say="Booked for Ada: Cleaning.", **APPOINTMENT)
MOVE = tool(5_000, "reschedule_appointment", say="Moved: Cleaning.", **APPOINTMENT)
CANCEL = tool(6_000, "cancel_appointment", say="Cancelled: Cleaning.", **APPOINTMENT)
MESSAGE = tool(4_000, "take_message", say="The message is passed on.")
ANSWERED = tool(4_000, "answer_question", say="Until five.")
RECORDED = (11_000.0, MessageRecorded("RE1", "https://x.example/RE1", 9_000.0))


@pytest.mark.parametrize(
    ("options", "events", "ended", "expected"),
    [
        (talk(), BOOK, "goodbye", "booked"),
        (talk(), BOOK + MOVE, "goodbye", "booked"),
        (talk(), MOVE, "goodbye", "rescheduled"),
        (talk(), CANCEL, "goodbye", "cancelled"),
        (talk(), MOVE + CANCEL, "goodbye", "cancelled"),
        (talk(), BOOK + CANCEL, "goodbye", "answered"),
        (talk(), MESSAGE, "caller_hung_up", "message_taken"),
        (talk(), BOOK, "model_lost", "booked"),
        (talk(), [], "model_lost", "failed"),
        (talk(), [], "stream_lost", "failed"),
        (talk(), tool(4_000, "book_appointment", "refused", error="taken"), "goodbye", "answered"),
        (talk(), [], "transferred", "transferred"),
        (talk(), [], "nobody_there", "abandoned"),
        (talk(), [RECORDED], "message_taken", "message_taken"),
        (talk(answer="Which day would you like?"), [], "caller_hung_up", "abandoned"),
        (talk(answer="We are open until five."), [], "caller_hung_up", "answered"),
        (talk(answer="Anything else?"), ANSWERED, "caller_hung_up", "answered"),
        (talk() | {"bot": []}, [], "caller_hung_up", "abandoned"),
        ({"caller": silence(4_000), "bot": [Says(300, tone(900), "Hello.", clip=True)]}, [], "caller_hung_up",
         "no_conversation"),
        ({"caller": silence(4_000)}, [], "caller_silent", "no_conversation"),
        ({"caller": b"", "stops": False}, [], "never_connected", "no_conversation"),
    ],
)  # fmt: skip
def test_the_disposition(
    made: Callable[..., Any], options: dict[str, Any], events: list[Any], ended: str, expected: str
) -> None:
    outcome = made(**options, events=events, ended=ended).record.outcome
    assert (outcome.disposition, outcome.end_reason) == (expected, ended)


def test_changes_have_the_ids_of_what_was_written(made: Callable[..., Any]) -> None:
    again = tool(5_000, "book_appointment", "repeated", say="Booked for Ada: Cleaning.", **APPOINTMENT)
    read = tool(5_500, "list_appointments", appointments=[APPOINTMENT])
    record = made(**talk(answer="You're booked."), events=BOOK + again + read).record
    assert [(change.kind, change.id, change.tool_call_id) for change in record.outcome.changes] == [
        ("booking", "12", "fc_4000")
    ]
    assert [(use.number, use.name, use.status, use.committed) for use in record.tools] == [
        (1, "book_appointment", "ok", ("appointment:12",)),
        (2, "book_appointment", "repeated", ()),
        (3, "list_appointments", "ok", ()),
    ]
    assert record.tools[0].at_ms == pytest.approx(4_000, abs=50)
    assert record.outcome.fields["when"] == "Tuesday at 9:00 AM"
    assert record.outcome.summary.startswith('Booked for Ada: Cleaning. The caller began with: "hello".')
    assert record.flags == ()


def test_a_write_that_ended_after_it_was_withdrawn_counts(made: Callable[..., Any]) -> None:
    events = [BOOK[0], (4_010.0, ToolCancelled("fc_4000")), BOOK[1]]
    record = made(**talk(answer="I'm sorry, what was that?"), events=events).record
    assert record.tools[0].committed == ("appointment:12",)
    assert [flag.kind for flag in record.flags] == ["result_without_words"]


def timed_out(call_id: str) -> list[tuple[float, CallEvent]]:
    events = tool(4_000, "book_appointment", "timeout", call_id, error="It takes long.")
    return [events[0], (4_500.0, events[1][1])]


def result(ms: float, call_id: str, status: Any, key: str) -> tuple[float, CallEvent]:
    return ms, ToolReturned(call_id, "book_appointment", status, {"say": "Booked.", **APPOINTMENT}, 30.0, key)


def test_a_write_that_ended_after_its_time_was_up_counts(made: Callable[..., Any]) -> None:
    record = made(**talk(answer="One moment."), events=[*timed_out("a"), result(5_000, "a", "ok", "key")]).record
    assert [(use.status, use.committed) for use in record.tools] == [("ok", ("appointment:12",))]
    assert record.outcome.disposition == "booked"


@pytest.mark.parametrize("asked_again_as", ["a", "b"])
def test_a_write_that_the_model_asked_for_again_when_its_time_was_up_counts_once(
    made: Callable[..., Any], asked_again_as: str
) -> None:
    again = [
        (4_600.0 + 1_000 * number, ToolCalled(asked_again_as, "book_appointment", {}, "reception"))
        for number in range(2)
    ]
    told = [result(5_000.0 + 1_000 * number, asked_again_as, "repeated", "key") for number in range(2)]
    record = made(
        **talk(answer="You're booked."), events=[*timed_out("a"), again[0], told[0], again[1], told[1]]
    ).record
    assert [use.committed for use in record.tools] == [(), ("appointment:12",), ()]
    assert [(change.kind, change.id) for change in record.outcome.changes] == [("booking", "12")]


def test_calls_that_never_ended_say_so(made: Callable[..., Any]) -> None:
    events = [(4_000.0, BOOK[0][1]), (5_000.0, ToolCalled("b", "find_slots", {}, "")), (5_100.0, ToolCancelled("b"))]
    record = made(**talk(), events=events).record
    assert [use.status for use in record.tools] == ["unanswered", "withdrawn"]


def test_steps_are_told_in_order(made: Callable[..., Any]) -> None:
    steps = [(float(n), StepEntered(name)) for n, name in enumerate(("reception", "choose_time", "wrap_up"))]
    assert made(**talk(), events=steps).record.outcome.steps == ("reception", "choose_time", "wrap_up")


def test_a_promise_that_was_kept_without_a_tool_is_kept(made: Callable[..., Any]) -> None:
    promise = talk(answer="I'll put you through. Somebody will call you back otherwise.")
    kept = [
        (10_000.0, HandedOver("asked", "a cleaning", "+12075550143")),
        RECORDED,
    ]
    assert [flag.kind for flag in made(**promise, events=kept).record.flags] == ["unknown_price"] * 2, "the other leg"


def test_a_promise_that_nobody_kept_is_flagged(made: Callable[..., Any]) -> None:
    record = made(**talk(answer="I've cancelled it. I'll pass that on.")).record
    assert [(flag.kind, flag.turn, flag.detail) for flag in record.flags] == [
        ("promise_without_result", 2, "cancellation: i've cancelled it"),
        ("promise_without_result", 2, "message: i'll pass that on"),
    ]


def test_words_that_an_interruption_kept_back_told_nothing(made: Callable[..., Any]) -> None:
    options = talk() | {
        "bot": [Says(8_000, tone(3_000), "So let me see now what we have: you're booked.", cut_ms=9_000)]
    }
    record = made(**options, events=BOOK).record
    assert [(flag.kind, flag.turn) for flag in record.flags] == [("unheard_result", 2)]


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        # The call is at 22:33 on the 27th there, and at 09:33 on the 28th in UTC.
        ("Pacific/Pago_Pago", []),
        ("UTC", ["promise_contradicts_result"]),
        ("no/such", []),
    ],
)
def test_tomorrow_is_counted_at_the_business(made: Callable[..., Any], zone: str, expected: list[str]) -> None:
    booked = tool(4_000, "book_appointment", say="Booked.", number=12, start="2026-10-28T09:00")
    flow = {"id": "dental", "content": {"language": "en-US", "business": {"timezone": zone}}}
    options = talk(answer="You're booked for tomorrow at nine.")
    record = made(**options, events=booked, meta={"flow": flow}).record
    assert [flag.kind for flag in record.flags] == expected


def test_a_call_in_a_language_without_rules_says_that_it_was_not_checked(made: Callable[..., Any]) -> None:
    flow = {"id": "dental", "content": {"language": "pl-PL"}}
    record = made(**talk(answer="Wizyta jest umówiona."), events=BOOK, meta={"flow": flow}).record
    assert (record.commitment_check, record.flags) == ("not_made", ())
