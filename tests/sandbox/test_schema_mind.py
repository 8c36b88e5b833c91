"""A mind out of declared functions: businesses that have nothing to do with ours, notes of the client, odd results."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from sandbox.mind import Reply, ToolCall, ToolResult
from sandbox.schema_mind import SchemaMind

TODAY = "Today is Monday, 2026-11-23."
STAND_IN = "not a real model"


def declare(name: str, description: str, required: str = "", /, **properties: Any) -> dict[str, Any]:
    """A function declaration; a property is its description or its schema."""
    schemas = {
        key: {"type": "STRING", "description": value} if isinstance(value, str) else value
        for key, value in properties.items()
    }
    parameters = {"type": "OBJECT", "properties": schemas, "required": required.split()}
    return {"name": name, "description": description, "parameters": parameters}


PIZZA = [
    declare(
        "place_order",
        "Place an order for a pizza.",
        "size address phone",
        size={"type": "STRING", "enum": ["small", "medium", "large"], "description": "Size of the pizza."},
        address="Delivery address.",
        phone="The customer's phone number.",
        quantity={"type": "INTEGER", "description": "How many pizzas."},
    ),
    declare("get_order_status", "Tell how far an order is.", "order_id", order_id="Number of the order."),
    declare("hang_up", "End the call.", "reason", reason="Why."),
]
WEATHER = [
    declare("get_weather", "Get the weather for a city.", "city", city="The city.", day="Day as YYYY-MM-DD."),
]
HOTEL = [
    declare(
        "reserve_room",
        "Reserve a hotel room.",
        "arrival departure room_type guest_name",
        arrival="Arrival day as YYYY-MM-DD.",
        departure="Departure day as YYYY-MM-DD.",
        room_type={"type": "STRING", "enum": ["single", "double"], "description": "The room."},
        guest_name="Name of the guest.",
    ),
]
CLINIC = [
    declare("find_patient", "Find a patient by phone number.", "phone", phone="Phone number."),
    declare("create_patient", "Create a patient.", "name phone", name="Full name.", phone="Phone number."),
    declare(
        "book_visit",
        "Book a visit.",
        "patient_id start reason",
        patient_id={"type": "INTEGER", "description": "Id of the patient."},
        start="Start as YYYY-MM-DDTHH:MM.",
        reason={"type": "STRING", "enum": ["flu shot", "back pain"], "description": "Why."},
    ),
]


class Conversation:
    """A mind, what it called, and the results it is given: by the function's name, or a function of the arguments."""

    def __init__(self, functions: list[dict[str, Any]], instruction: str = TODAY, /, **results: Any) -> None:
        self.mind = SchemaMind(today=lambda: date(2026, 11, 23))
        self.setup = {
            "systemInstruction": {"parts": [{"text": instruction}]},
            "tools": [{"functionDeclarations": functions}],
        }
        self.mind.begin(self.setup)
        self.results = results
        self.calls: list[ToolCall] = []

    def say(self, *utterances: str) -> str:
        said = ""
        for text in utterances:
            said = self.follow(self.mind.on_user(text, "text" if text.startswith(("[", "Say")) else "audio"))
        return said

    def follow(self, reply: Reply) -> str:
        said = [reply.say]
        while reply.calls:
            self.calls += reply.calls
            reply = self.mind.on_tool_results([self.answer(call) for call in reply.calls])
            said.append(reply.say)
        return " ".join(part for part in said if part)

    def answer(self, call: ToolCall) -> ToolResult:
        result = self.results.get(call.name, {"result": "Done."})
        return ToolResult(call.name, call.name, result(call.args) if callable(result) else result)

    @property
    def called(self) -> list[tuple[str, dict[str, Any]]]:
        return [(call.name, call.args) for call in self.calls]


# -- other businesses --------------------------------------------------------------------------------------------------


def test_a_pizza_is_ordered() -> None:
    talk = Conversation(PIZZA, place_order={"message": "Your pizza comes in half an hour"})
    assert talk.say("hi i'd like to order a pizza").endswith("Which size would you like: small, medium or large?")
    assert talk.say("make it a large one") == "What is the delivery address?"
    assert talk.say("twelve main street") == "What is your phone number?"
    asked = talk.say("two oh seven five five five oh one two three")
    assert asked == ("Large, address: twelve main street, phone number 2 0 7 5 5 5 0 1 2 3. Shall I place the order?")
    assert "Medium" in talk.say("sorry a medium")
    assert talk.calls == []
    assert talk.say("yes") == "Your pizza comes in half an hour. Is there anything else?"
    order = {"size": "medium", "address": "twelve main street", "phone": "2075550123"}
    assert talk.called == [("place_order", order)]
    assert talk.say("no thank you").endswith("Goodbye.")
    assert talk.called[1] == ("hang_up", {"reason": "The caller said goodbye."})


def test_my_order_is_a_thing_and_not_a_wish() -> None:
    talk = Conversation(PIZZA, get_order_status={"status": "in the oven", "minutes_left": 10})
    assert talk.say("what is the status of my order").endswith("What is the number of the order?")
    assert talk.say("four two") == "Status: in the oven, minutes left: 10. Is there anything else?"


def test_a_read_needs_no_yes() -> None:
    talk = Conversation(WEATHER, get_weather={"output": "It will rain."})
    assert talk.say("what is the weather in san francisco tomorrow").startswith(f"I am a practice stand-in, {STAND_IN}")
    assert talk.called == [("get_weather", {"city": "san francisco", "day": "2026-11-24"})]
    assert "Goodbye" in talk.say("goodbye")  # no function ends the call: it says so itself


def test_a_missing_argument_of_a_read_is_asked_for() -> None:
    talk = Conversation(WEATHER, get_weather={"output": "Sunny."})
    assert talk.say("tell me the weather").endswith("What is the city?")
    talk.say("boston")
    assert talk.called == [("get_weather", {"city": "boston"})]


def test_two_days_of_one_function() -> None:
    talk = Conversation(HOTEL)
    assert talk.say("i want to reserve a double room").endswith("What is the arrival day?")
    assert talk.say("on friday") == "What is the departure day?"
    assert talk.say("sunday") == "May I have the name of the guest?"
    talk.say("my name is emma wilson", "yes")
    assert talk.called == [
        (
            "reserve_room",
            {"arrival": "2026-11-27", "departure": "2026-11-29", "room_type": "double", "guest_name": "Emma Wilson"},
        )
    ]


def test_an_id_is_looked_up_or_made() -> None:
    talk = Conversation(
        CLINIC,
        find_patient={"error": "Nobody has this number."},
        create_patient={"patient": {"id": 17}},
        book_visit={"say": "Booked."},
    )
    talk.say("i'd like to book a visit for a flu shot on wednesday at half past two")
    talk.say("two oh seven five five five oh one two three")
    talk.say("emma wilson")
    assert [name for name, _ in talk.called][:1] != ["book_visit"]
    assert talk.say("yes").startswith("Booked.")
    assert talk.called[-2:] == [
        ("create_patient", {"name": "Emma Wilson", "phone": "2075550123"}),
        ("book_visit", {"patient_id": 17, "start": "2026-11-25T14:30", "reason": "flu shot"}),
    ]


def test_without_functions_it_still_talks() -> None:
    talk = Conversation([], "Opening hours: Monday to Friday 9 to 5.")
    assert STAND_IN in talk.say("hello")
    assert talk.say("when are you open").startswith("Opening hours: Monday to Friday 9 to 5.")
    assert "Goodbye" in talk.say("goodbye")


# -- what it says first, and what it is told in writing ----------------------------------------------------------------


def test_it_says_once_that_it_is_a_stand_in() -> None:
    talk = Conversation(PIZZA)
    assert STAND_IN in talk.say("hello")
    assert STAND_IN not in talk.say("i'd like a pizza")
    talk.mind.begin(talk.setup)
    assert STAND_IN not in talk.say("large")
    assert STAND_IN in talk.say("are you a real person")


def test_it_says_so_again_where_it_was_cut_off_before() -> None:
    talk = Conversation(PIZZA)
    talk.say("hello")
    talk.mind.interrupted("I am a practice")
    assert STAND_IN in talk.say("hello")
    talk.mind.interrupted(f"I am a practice stand-in, {STAND_IN}. How")
    assert STAND_IN not in talk.say("hello")


@pytest.mark.parametrize("text", ['Say exactly: "Good day, all."', '[It has begun. Say exactly: "Good day, all."]'])
def test_what_is_to_be_said_exactly(text: str) -> None:
    talk = Conversation(PIZZA)
    assert talk.say(text) == "Good day, all."
    assert STAND_IN in talk.say("hello")


def test_typed_words_are_the_callers() -> None:
    mind = Conversation(PIZZA).mind
    assert "Which size" in mind.on_user("I'd like to order a pizza, please!", "text").say


def test_a_note_that_asks_for_nothing_is_not_answered() -> None:
    talk = Conversation(PIZZA)
    assert talk.say("[Note: The network is slow.]") == ""
    question = talk.say("i want to order a pizza").removeprefix(f"I am a practice stand-in, {STAND_IN}. ")
    assert talk.say("[Note: You said nothing. Answer the caller now.]") == question
    assert talk.say("[The line was silent.]") == f"Are you still there? {question}"
    assert talk.follow(talk.mind.on_user(" ", "text")) == question


@pytest.mark.parametrize(
    "typed",
    [
        "[Note: You said nothing. Answer the caller now.] a large one please",
        "a large one please [The line was silent.]",
        '[Note: x has finished meanwhile and returned {"slots": [1, 2]}.] a large one please',
    ],
)
def test_words_beside_a_note_are_not_lost(typed: str) -> None:
    talk = Conversation(PIZZA)
    talk.say("i want to order a pizza")
    assert talk.mind.on_user(typed, "text").say == "What is the delivery address?"


def test_keys() -> None:
    talk = Conversation(PIZZA)
    assert "You pressed 5." in talk.say("[The caller pressed 5]")
    talk.say("i want to order a pizza")
    assert talk.say("[The caller pressed 2]") == "What is the delivery address?"
    talk.say("one main street")
    assert "Medium" in talk.say("[The caller pressed 2075550123]")
    talk.say("[The caller pressed 1]")
    assert talk.called[0][1]["phone"] == "2075550123"


def test_a_result_told_in_a_note() -> None:
    talk = Conversation(PIZZA)
    talk.say("i want a large pizza", "one main street", "2075550123")
    assert talk.mind.on_user("yes", "audio").calls
    note = '[Note: place_order has finished meanwhile and returned {"say": "It is ordered."}.]'
    assert talk.say(note) == "It is ordered. Is there anything else?"


def test_history_from_another_session() -> None:
    talk = Conversation(PIZZA)
    talk.mind.remember(
        [
            ("user", "i want a large pizza"),
            ("model", f"I am a practice stand-in, {STAND_IN}. What is the delivery address?"),
            ("user", "one main street"),
            ("model", '[Called place_order; it returned {"say": "It is ordered."}]'),
        ]
    )
    assert talk.say("[Note: The connection was renewed. Carry on.]") == "Is there anything else?"


# -- not understood ----------------------------------------------------------------------------------------------------


def test_it_asks_again_in_other_words_and_then_offers_a_message() -> None:
    message = declare("take_message", "Take a message.", "text", text="The message.")
    talk = Conversation([*PIZZA, message])
    answers = [talk.say("").removeprefix(f"I am a practice stand-in, {STAND_IN}. ") for _ in range(3)]
    assert len(set(answers)) == 3
    assert answers[2].endswith("Shall I take a message instead?")
    assert talk.say("yes") == "What is the message?"
    talk.say("the pizza was cold", "yes")
    assert talk.called == [("take_message", {"text": "the pizza was cold"})]


def test_without_a_message_function_it_keeps_asking() -> None:
    talk = Conversation(PIZZA)
    talk.say("i want to order a pizza")
    assert [talk.say("") for _ in range(4)][3].endswith("Which size would you like: small, medium or large?")


@pytest.mark.parametrize("words", ["what", "pardon", "could you repeat that"])
def test_it_repeats_its_question(words: str) -> None:
    talk = Conversation(PIZZA)
    talk.say("i want to order a pizza")
    assert talk.say(words) == "Which size would you like: small, medium or large?"


def test_a_wish_is_dropped() -> None:
    talk = Conversation(PIZZA)
    talk.say("i want a large pizza", "one main street", "2075550123")
    assert talk.say("no") == "All right. What should I change?"
    assert talk.say("never mind") == "All right, I will leave it. Is there anything else?"
    assert talk.calls == []


# -- results -----------------------------------------------------------------------------------------------------------

SALON = [
    declare(
        "check_availability",
        "Check which times are free.",
        "service",
        service={"type": "STRING", "enum": ["haircut", "shave"], "description": "What."},
        day="Day as YYYY-MM-DD.",
        time="Time as HH:MM.",
    ),
    declare(
        "book",
        "Book a service.",
        "service day time name",
        service={"type": "STRING", "enum": ["haircut", "shave"], "description": "What."},
        day="Day as YYYY-MM-DD.",
        time="Time as HH:MM.",
        name="Name of the customer.",
    ),
]
ARGS = {"service": "haircut", "day": "2026-11-24", "time": "15:00", "name": "Emma Wilson"}


def salon(**results: Any) -> Conversation:
    return Conversation(SALON, **{"check_availability": {"available": True, "say": "That is free."}} | results)  # type: ignore[arg-type]


def test_alternatives_of_a_refusal_are_offered() -> None:
    def book(args: dict[str, Any]) -> dict[str, Any]:
        taken = {"error": "That is taken", "alternatives": ["Tuesday at 4 pm", "Tuesday at 5 pm"]}
        return taken if args["time"] == "15:00" else {"say": "Booked."}

    talk = salon(book=book)
    talk.say("a haircut on tuesday at three for emma wilson")
    asked = talk.say("yes")
    offered = "Tuesday, November 24 at 4 PM or Tuesday, November 24 at 5 PM"
    assert asked.startswith(f"That is taken. I could offer {offered}.")
    assert asked.endswith("Haircut on Tuesday, November 24 at 4 PM for Emma Wilson. Shall I book it?")
    assert "5 PM" in talk.say("at five")
    assert talk.say("yes").startswith("Booked.")
    assert talk.called[-1] == ("book", ARGS | {"time": "17:00"})


def test_a_hint_to_try_again_is_followed_once_or_twice_and_no_more() -> None:
    failing = {"error": "The system did not answer.", "hint": "Apologise, try once more."}
    talk = salon(book=failing)
    talk.say("a haircut on tuesday at three for emma wilson")
    assert talk.say("yes").endswith("What would you like to do instead?")
    assert talk.called.count(("book", ARGS)) == 3


def test_a_function_that_must_come_first_is_used_first() -> None:
    opened: list[str] = []

    def book(args: dict[str, Any]) -> dict[str, Any]:
        if "opened" not in opened:
            return {"error": "book cannot be used yet. First use open_calendar.", "hint": "Do that first."}
        return {"say": "Booked."}

    def open_calendar(args: dict[str, Any]) -> dict[str, Any]:
        opened.append("opened")
        return {"ok": True}

    talk = Conversation(
        [*SALON, declare("open_calendar", "Open the calendar.")],
        book=book,
        open_calendar=open_calendar,
        check_availability={"available": True},
    )
    talk.say("a haircut on tuesday at three for emma wilson")
    assert talk.say("yes").startswith("Booked.")
    assert [name for name, _ in talk.called][-3:] == ["book", "open_calendar", "book"]


def test_a_question_that_a_result_wants_asked() -> None:
    talk = salon(book={"say": "Booked.", "ask": "Have you been here before?"})
    talk.say("a haircut on tuesday at three for emma wilson")
    assert talk.say("yes") == "Booked. Have you been here before?"


def test_unavailable_days_are_asked_anew() -> None:
    talk = salon(check_availability={"slots": [], "say": "Nothing is free that day."})
    asked = talk.say("a haircut on tuesday at three for emma wilson")
    assert asked.endswith("Nothing is free that day. Which other day would suit you?")
    talk.results["check_availability"] = {"slots": [{"day": "2026-11-25", "time": "09:00"}], "say": "Free: nine."}
    assert "Wednesday, November 25 at 9 AM" in talk.say("wednesday at nine")


def test_results_that_come_one_by_one_are_answered_once() -> None:
    lookup = declare("find_customer", "Find the caller.", "", phone="Phone number.")
    mind = Conversation([*SALON, lookup]).mind
    reply = mind.on_user("a haircut on tuesday at three", "audio")
    assert {call.name for call in reply.calls} == {"find_customer", "check_availability"}
    assert mind.on_tool_results([ToolResult("1", "check_availability", {"available": True})]) == Reply()
    said = mind.on_tool_results([ToolResult("2", "find_customer", {"known": True, "name": "Emma Wilson"})]).say
    assert said.endswith("Haircut on Tuesday, November 24 at 3 PM for Emma Wilson. Shall I book it?")


def test_a_late_result_is_not_told_twice() -> None:
    talk = salon(book={"say": "Booked."})
    talk.say("a haircut on tuesday at three for emma wilson", "yes")
    assert talk.mind.on_tool_results([ToolResult("9", "book", {"say": "Booked."})]) == Reply()


@pytest.mark.parametrize(
    "response", [{}, {"error": {"code": 5}}, {"slots": "no"}, {"slots": [None, 3, {}]}, {"result": ["a"]}, {"say": 5}]
)
@pytest.mark.parametrize("function", ["check_availability", "book"])
def test_strange_results_break_nothing(function: str, response: dict[str, Any]) -> None:
    talk = salon(**{function: response})
    talk.say("a haircut on tuesday at three for emma wilson", "yes", "yes", "wednesday at four", "yes")
    assert talk.say("good bye").endswith("Goodbye.")


def test_strange_words_break_nothing() -> None:
    talk = Conversation([*PIZZA, *WEATHER, *HOTEL, *CLINIC, *SALON])
    said = ["no", "yes", "the last one", "two two two", "not at ten at eleven", "????", "\x00", "1" * 400, "in in in"]
    assert all(isinstance(talk.say(words), str) for words in said * 3)


def test_the_same_words_get_the_same_answers() -> None:
    words = ["i want a large pizza", "one main street", "what", "2075550123", "", "yes", "no"]
    first, second = Conversation(PIZZA), Conversation(PIZZA)
    assert [first.say(each) for each in words] == [second.say(each) for each in words]


# -- today and the grammar ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "tomorrow"),
    [
        ("Now it is Monday, 2026-03-02, 10:00.", "2026-03-03"),
        ("Today is March 2, 2026.", "2026-03-03"),
        ("Be friendly.", "2026-11-24"),
        ("Version 2026-99-99.", "2026-11-24"),
    ],
)
def test_today_is_what_the_instruction_says(instruction: str, tomorrow: str) -> None:
    talk = Conversation(WEATHER, instruction)
    talk.say("what is the weather in boston tomorrow")
    assert talk.called[0][1]["day"] == tomorrow


def test_the_grammar_expects_the_answer_to_the_last_question(grammar_of: Callable[[SchemaMind], str]) -> None:
    talk = salon()
    expected = [grammar_of(talk.mind)]
    for words in ("a haircut", "tuesday", "at three", "emma wilson"):
        talk.say(words)
        expected.append(grammar_of(talk.mind))
    assert expected == ["anything", "date", "time", "name", "yes_or_no"]


@pytest.fixture
def grammar_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[SchemaMind], str]:
    """What a mind expects to hear, as its grammar is told."""
    from sandbox.grammar import Grammar

    monkeypatch.setattr(Grammar, "for_functions", lambda functions, instruction, expected: expected)
    return lambda mind: str(mind.grammar())


# -- what a recogniser makes of words ----------------------------------------------------------------------------------


@pytest.mark.parametrize("yes", ["yep please move", "yeah not anna wright", "yeah on wednesday", "sure"])
def test_a_yes_stays_one_whatever_the_ear_adds(yes: str) -> None:
    talk = salon(book={"say": "Booked."})
    talk.say("a haircut on tuesday at three for emma wilson")
    assert talk.say(yes).startswith("Booked.")
    assert talk.called[-1] == ("book", ARGS)


def test_yes_and_no_is_neither() -> None:
    talk = salon()
    talk.say("a haircut on tuesday at three for emma wilson")
    assert talk.say("yes please no") == "Sorry, I need a yes or a no. Shall I book it?"


@pytest.mark.parametrize("no", ["yes but at four", "no at four", "actually make it four o'clock", "yes wait at four"])
def test_a_correction_is_not_a_yes(no: str) -> None:
    talk = salon()
    talk.say("a haircut on tuesday at three for emma wilson")
    assert "4 PM" in talk.say(no)
    assert "book" not in [name for name, _ in talk.called]


def test_a_settled_choice_is_only_changed_on_purpose() -> None:
    talk = salon()
    talk.say("i'd like a haircut", "the shave on tuesday")
    assert "Haircut" in talk.say("at three", "emma wilson")
    assert "Shave" in talk.say("actually a shave")
