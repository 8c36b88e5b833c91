"""The stand-in's mind and the real tools over a real desk: whole conversations, and what the desk holds after them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest

from desk.desk import Appointment, Message
from sandbox.mind import Reply, ToolCall, ToolResult
from sandbox.schema_mind import SchemaMind

OpenLine = Callable[..., Any]
NUMBER = "+12075550199"


@dataclass
class Talk:
    """A caller, a mind and the tools of a call."""

    line: Any
    mind: SchemaMind = field(default_factory=SchemaMind)
    calls: list[ToolCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        box = self.line.box
        declared = [
            {"name": each.name, "description": each.description, "parametersJsonSchema": each.parameters}
            for each in box.declarations
        ]
        instruction = {"parts": [{"text": box.system_instruction()}]}
        self.mind.begin({"systemInstruction": instruction, "tools": [{"functionDeclarations": declared}]})

    async def say(self, *utterances: str) -> str:
        """What the mind answers to the last of these."""
        said = ""
        for text in utterances:
            source = "text" if text.startswith("[") else "audio"
            said = await self._follow(self.mind.on_user(text, source))  # type: ignore[arg-type]
        return said

    async def _follow(self, reply: Reply) -> str:
        said = [reply.say]
        while reply.calls:
            self.calls += reply.calls
            results = [ToolResult(f"t{i}", each.name, await self.run(each)) for i, each in enumerate(reply.calls)]
            reply = self.mind.on_tool_results(results)
            said.append(reply.say)
        return " ".join(part for part in said if part)

    async def run(self, call: ToolCall) -> dict[str, Any]:
        return await self.line.run(call.name, **call.args)

    def called(self, name: str) -> list[dict[str, Any]]:
        return [each.args for each in self.calls if each.name == name]

    def appointments(self, number: str = NUMBER) -> list[Appointment]:
        people = self.line.desk.find_customers(number)
        return [each for person in people for each in self.line.desk.appointments(person.id)]

    def booked(self, number: str = NUMBER) -> list[tuple[str, str]]:
        return [(each.service_id, f"{each.start:%Y-%m-%d %H:%M}") for each in self.appointments(number)]


@pytest.fixture
def talk(open_line: OpenLine) -> Callable[..., Talk]:
    """talk(flow, number=...): a call in its first step, on Monday 2026-11-23 at ten in New York."""
    return lambda flow="dental", **options: Talk(open_line(flow, free=False, **options))


async def test_a_booking_with_a_correction(talk: Callable[..., Talk]) -> None:
    call = talk()
    assert "not a real model" in await call.say("i'd like to book a cleaning on tuesday at three")
    assert "name" in await call.say("actually make it four o'clock")
    asked = await call.say("my name is anna fisher")
    assert "Tuesday, November 24 at 4 PM" in asked
    assert asked.endswith("Shall I book the appointment?")
    assert call.booked() == []
    done = await call.say("yes please")
    assert done.startswith("Booked for Anna Fisher")
    assert done.endswith("Is there anything else?")
    assert "Goodbye" in await call.say("that's all goodbye")
    assert call.booked() == [("cleaning", "2026-11-24 16:00")]
    assert call.line.box.wants_hang_up
    assert [each.name for each in call.calls].count("book_appointment") == 1


async def test_a_known_caller_is_not_asked_for_the_name(talk: Callable[..., Talk]) -> None:
    await talk().say("book a checkup on tuesday at nine", "peter smith", "yes")
    call = talk(call_sid="CA2")
    asked = await call.say("a cleaning on wednesday at ten")
    assert "for Peter Smith" in asked
    await call.say("yes please")
    assert ("cleaning", "2026-11-25 10:00") in call.booked()


async def test_one_of_a_family_is_asked_for_the_name(talk: Callable[..., Talk]) -> None:
    await talk().say("book a checkup on tuesday at nine", "peter smith", "yes")
    await talk(call_sid="CA2").say("book a checkup on tuesday at ten", "it's for amy smith", "yes")
    await talk(call_sid="CA3").say("book a checkup on tuesday at eleven", "my name is amy smith", "yes")
    asked = await talk(call_sid="CA4").say("a cleaning on wednesday at ten")
    assert asked.endswith("May I have your first and last name?")


async def test_a_day_with_two_readings_is_chosen_by_the_caller(talk: Callable[..., Talk]) -> None:
    call = talk()
    asked = await call.say("book a cleaning next tuesday at ten in the morning")
    assert asked.endswith("Do you mean Tuesday, November 24 or Tuesday, December 1?")
    assert "Tuesday, December 1 at 10:00 AM is free" in await call.say("the second one")
    await call.say("it's anna fisher", "yes")
    assert call.booked() == [("cleaning", "2026-12-01 10:00")]


@pytest.mark.parametrize(("picked", "time"), [("the second one", "10:30"), ("at twelve", "12:00"), ("any", "09:00")])
async def test_times_are_offered_where_none_was_said(talk: Callable[..., Talk], picked: str, time: str) -> None:
    call = talk()
    offered = await call.say("do you have anything free for a checkup on friday")
    assert "9:00 AM and 10:30 AM and 12:00 PM" in offered
    await call.say(picked, "peter smith", "yes")
    assert call.booked() == [("checkup", f"2026-11-27 {time}")]


async def test_the_nearest_time_is_proposed_where_the_wanted_one_is_taken(talk: Callable[..., Talk]) -> None:
    for number, name in (("+12075550101", "jack hill"), ("+12075550102", "amy reed")):
        await talk(number=number, call_sid=name).say("book a cleaning on tuesday at eleven", name, "yes")
    call = talk()
    proposed = await call.say("book a cleaning on tuesday at eleven")
    assert "11:00 AM is not free" in proposed
    assert "Would Tuesday, November 24 at 10 AM suit you?" in proposed
    await call.say("my name is anna fisher", "yes")
    assert call.booked() == [("cleaning", "2026-11-24 10:00")]


async def test_moving_an_appointment(talk: Callable[..., Talk]) -> None:
    await talk().say("book a cleaning on tuesday at three", "anna fisher", "yes", "bye")
    call = talk(call_sid="CA2")
    asked = await call.say("i'd like to move my appointment to wednesday at ten")
    assert "Cleaning with June Abbott on Tuesday, November 24 at 3:00 PM to Wednesday, November 25 at 10 AM" in asked
    await call.say("yes please")
    assert call.booked() == [("cleaning", "2026-11-25 10:00")]


async def test_a_correction_after_the_booking_moves_it(talk: Callable[..., Talk]) -> None:
    call = talk()
    await call.say("book a cleaning on tuesday at three", "anna fisher", "yes", "actually make it four o'clock", "yes")
    assert call.booked() == [("cleaning", "2026-11-24 16:00")]


async def test_which_of_two_appointments_is_cancelled(talk: Callable[..., Talk]) -> None:
    call = talk()
    await call.say("book a cleaning on tuesday at three", "anna fisher", "yes")
    await call.say("book a checkup on wednesday at nine", "yes")
    assert (await call.say("i have to cancel my appointment")).endswith("Which one do you mean?")
    asked = await call.say("the checkup")
    assert "Checkup" in asked
    assert asked.endswith("Shall I cancel the appointment?")
    assert (await call.say("yes")).startswith("Cancelled: Checkup")
    assert call.booked() == [("cleaning", "2026-11-24 15:00")]


async def test_nothing_is_cancelled_without_a_yes(talk: Callable[..., Talk]) -> None:
    call = talk()
    await call.say("book a cleaning on tuesday at three", "anna fisher", "yes")
    await call.say("cancel my appointment", "no", "forget it")
    assert call.booked() == [("cleaning", "2026-11-24 15:00")]


async def test_questions_are_looked_up_and_the_goal_goes_on(talk: Callable[..., Talk]) -> None:
    call = talk()
    await call.say("i'd like to book a cleaning")
    answer = await call.say("do you take my insurance")
    assert "Delta Dental" in answer
    assert answer.endswith("For which day and time would you like it?")
    assert call.called("answer_question") == [{"question": "do you take my insurance"}]
    assert "145 dollars" in await call.say("how much is it")
    assert "Tuesday 8:00 AM to 7:00 PM" in await call.say("what are your opening hours")


async def test_a_message_is_read_back_and_taken(talk: Callable[..., Talk]) -> None:
    call = talk()
    assert (await call.say("can i leave a message")).endswith("What is the message?")
    asked = await call.say("my crown is loose", "john taylor")
    assert "my crown is loose" in asked
    assert "passed on" in await call.say("yes go ahead")
    customer = call.line.desk.find_customers(NUMBER)
    assert [each.args for each in call.calls if each.name == "take_message"] == [
        {"text": "my crown is loose", "name": "John Taylor"}
    ]
    assert customer == [] or any(isinstance(each, Message) for each in call.line.desk.history(customer[0].id))


async def test_a_withheld_number_is_asked_for(talk: Callable[..., Talk]) -> None:
    call = talk(number="anonymous")
    asked = await call.say("a filling on wednesday at two", "paul green", "yes")
    assert asked == "Your number is withheld. Could you tell me a phone number?"
    await call.say("two oh seven five five five oh one two three", "yes")
    assert call.booked("+12075550123") == [("filling", "2026-11-25 14:00")]


async def test_home_repairs_and_what_the_next_step_asks_for(talk: Callable[..., Talk]) -> None:
    call = talk("home_repair", number="+441174960999")
    assert (await call.say("i need somebody for my boiler")).endswith("Do you mean Boiler service or Boiler repair?")
    await call.say("boiler repair", "thursday at two", "john taylor")
    assert (await call.say("yes")).endswith("May I have the full address with postcode?")
    await call.say("five main street", "yes")
    assert call.booked("+441174960999") == [("boiler_repair", "2026-11-26 14:00")]
    assert call.called("add_note") == [{"text": "five main street"}]
    assert "Moved" in await call.say("can i move my appointment to friday at half past nine", "yes")
    assert [when for _, when in call.booked("+441174960999")] == ["2026-11-27 09:30"]


async def test_any_day_will_do(talk: Callable[..., Talk]) -> None:
    call = talk("home_repair", number="+441174960999")
    await call.say("i have a burst pipe", "as soon as possible", "the first one", "john taylor", "yes")
    (booked,) = call.appointments("+441174960999")
    assert booked.service_id == "urgent_leak"
    assert booked.start.date() == date(2026, 11, 23)


async def test_a_call_that_was_lost_is_taken_up_from_its_history(talk: Callable[..., Talk]) -> None:
    first = talk()
    await first.say("book a cleaning on tuesday at three", "my name is anna fisher")
    second = Talk(first.line)
    second.mind.remember(
        [
            ("user", "book a cleaning on tuesday at three"),
            ("model", "I am a practice stand-in, not a real model. Tuesday, November 24 at 3:00 PM is free."),
            ("user", "my name is anna fisher"),
        ]
    )
    note = "[Note: The connection was renewed. Carry on from here in a few words, without greeting again.]"
    said = await second.say(note)
    assert "not a real model" not in said
    assert said.endswith("Cleaning on Tuesday, November 24 at 3 PM for Anna Fisher. Shall I book the appointment?")
    await second.say("yes")
    assert second.booked() == [("cleaning", "2026-11-24 15:00")]
