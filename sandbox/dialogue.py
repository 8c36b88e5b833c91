"""The stand-in's conversation: what the caller wants done, what is asked next, what a result changes.

Pure: fed utterances that were understood (`Heard`) and results of functions, it answers with `Reply`s.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from sandbox.declarations import Function, Parameter
from sandbox.goals import (
    Goal,
    availability_for,
    is_availability,
    listing_for,
    lookup_for,
    question_parameter,
    slot_of,
    takes_any_words,
    verb_of,
    wanted,
)
from sandbox.listening import Heard
from sandbox.mind import Reply, ToolCall, ToolResult
from sandbox.outcomes import (
    Offer,
    answer_of,
    asks,
    error_of,
    functions_named,
    name_in,
    offers,
    offers_in_words,
    say_offer,
    slots_named,
    spoken,
    task_of,
    titled,
)
from sandbox.phrasing import (
    ANYTHING_ELSE,
    GOODBYE,
    HOW_CAN_I_HELP,
    NOT_HEARD,
    PREFACE,
    ask_for,
    ask_thing,
    either,
    question_from_hint,
    read_back,
    sentence,
    shall_i,
)

_LASTING = ("name", "phone", "email")
_TURNS_AWAY = 5.0
_ABOUT_ME = (
    r"\b(are you (an? )?(real|robot|machine|human|person|computer|ai|bot)|who are you|(speaking|talking) to an?)\b"
)
_DROP = r"\b(forget|never ?mind|cancel (it|that)|nothing|leave it)\b"


class Dialogue:
    """One conversation. `asking` is what was asked last: a slot, or confirm, offer, listing, instead, anything_else,
    message; "" for nothing. `question` are the words of it."""

    def __init__(self) -> None:
        self.functions: tuple[Function, ...] = ()
        self.instruction = ""
        self.today = date.min
        self.goal: Goal | None = None
        self.asking = ""
        self.question = HOW_CAN_I_HELP
        self.offers: list[Offer] = []
        self._offer_question = ""
        self._last: Goal | None = None
        self._lasting: dict[str, Any] = {}
        self._looked_up = False
        self._misses = 0
        self._asked_words = ""

    @property
    def asked(self) -> Parameter | None:
        """The parameter that was asked for."""
        parameters = self.goal.function.parameters if self.goal else ()
        return next((each for each in parameters if slot_of(each) == self.asking), None)

    # -- the caller ----------------------------------------------------------------------------------------------------

    def not_heard(self) -> Reply:
        """Nothing was understood."""
        self._misses += 1
        sorry = NOT_HEARD[min(self._misses, len(NOT_HEARD)) - 1]
        if self._misses >= len(NOT_HEARD) and self._message_function():
            return self._ask("message", "Shall I take a message instead?", sorry)
        return Reply(f"{sorry} {self.question}" if self._misses > 1 else sorry)

    def hear(self, heard: Heard) -> Reply:
        """The heart of it: what the caller's words change, and what comes next."""
        goal = self.goal
        for slot, found in (("name", heard.names), ("phone", heard.phones), ("email", heard.emails)):
            if found:
                self._lasting[slot] = found[-1]
        if heard.again:
            return Reply(self.question)
        if heard.says(_ABOUT_ME):
            return Reply(f"{PREFACE} {self.question}")
        if self.asking == "confirm" and heard.yes and goal and not heard.has_values:
            goal.confirmed = True
            return self.advance()
        if self._leaves(heard):
            return self._leave()
        if self.asking == "message" and (heard.yes or heard.no):
            return self._answer_to_message(heard)
        if (other := self._other_function(heard)) is not None:
            return self._start(other, heard)
        if self._is_question(heard) and (reply := self._look_up(heard)):
            return reply
        self._misses = self._misses if not heard.has_values and not heard.yes and not heard.no else 0
        return self._go_on(goal, heard) if goal else self._without_a_goal(heard)

    def _leaves(self, heard: Heard) -> bool:
        if self.goal is not None:
            return heard.says(r"\bbye\b|\bgoodbye\b|\bhang up\b")
        ended = self.asking == "anything_else" and not heard.has_values
        return heard.bye or (ended and (heard.no or (heard.thanks and not heard.yes)))

    def _leave(self) -> Reply:
        self.goal, self.asking = None, ""
        ending = next((each for each in self.functions if each.ends_call), None)
        if ending is None:
            return Reply(GOODBYE)
        reasons = {
            each.name: each.choices[0].value if each.choices else "The caller said goodbye."
            for each in ending.parameters
            if each.required
        }
        return Reply(calls=[ToolCall(ending.name, reasons)])

    def _other_function(self, heard: Heard) -> Function | None:
        """The function the caller turns to, if it is not the one at hand."""
        if self._takes_any_words():
            return None
        function, score = wanted(heard, self.functions)
        if function is None:
            return None
        if is_availability(function):
            function = next((f for f in self.functions if availability_for(f, self.functions) is function), function)
        if self.goal is None:
            is_fact = heard.question and score < 3 and not (heard.days or heard.times)
            return None if is_fact else function
        if function is self.goal.function or score < _TURNS_AWAY or verb_of(function) == self.goal.verb:
            return None
        return None if availability_for(self.goal.function, self.functions) and heard.has_values else function

    def _takes_any_words(self) -> bool:
        return self.asked is not None and takes_any_words(self.asked)

    def _is_question(self, heard: Heard) -> bool:
        if self._takes_any_words() or (self.goal and (heard.days or heard.times or heard.names)):
            return False
        return heard.question or (self.goal is None and len(heard.words) > 3 and not heard.has_values)

    def _look_up(self, heard: Heard) -> Reply | None:
        for function in self.functions:
            if parameter := question_parameter(function):
                self._asked_words = heard.text
                return Reply(calls=[ToolCall(function.name, {parameter.name: heard.text})])
        if found := answer_of({}, heard.text, self.instruction):
            return Reply(f"{found} {self.question}")
        return None

    def _without_a_goal(self, heard: Heard) -> Reply:
        if self._last and (heard.days or heard.times):
            moves = (
                each for each in self.functions if verb_of(each) == "move" and {"time", "datetime"} & Goal(each).slots
            )
            if mover := next(moves, None):
                return self._start(mover, heard)
        if heard.yes and self.asking == "anything_else":
            return self._ask("", "What can I do for you?")
        if heard.names:
            return self._ask("", HOW_CAN_I_HELP, f"Thank you, {heard.names[-1]}.")
        if len(heard.words) > 3:
            return self._ask("", HOW_CAN_I_HELP, f"I am sorry, I can only help to {self._abilities()}.")
        return self._ask("", HOW_CAN_I_HELP)

    def _abilities(self) -> str:
        deeds = [" ".join(each.verbs) for each in self.functions if not each.ends_call]
        return either(deeds[:4]) if deeds else "listen"

    def _go_on(self, goal: Goal, heard: Heard) -> Reply:
        """An answer to what was asked, a correction, or something beside the point."""
        if self.asking in ("offer", "listing") and (picked := self._picked(heard)):
            goal.take(heard)
            return self._pick(goal, picked)
        if self._takes_any_words() and heard.no and len(heard.words) < 5:
            return self._refused(goal)
        proposed = bool(self.offers) and "time" in goal.values
        changed = goal.take(heard, self.asking)
        if proposed and heard.days and not heard.times:
            goal.forget("time")
        unclear = [fitting for fitting in heard.choices.values() if 1 < len(fitting) <= 3]
        if unclear and not changed:
            return self._ask(self.asking, f"Do you mean {either([each.value for each in unclear[0]])}?")
        if changed:
            goal.confirmed = False
            return self.advance()
        if heard.any and self.asking in ("date", "datetime", "time", "offer"):
            goal.flexible = True
            return self.advance()
        if heard.no or (self.asking == "instead" and heard.says(_DROP)):
            return self._refused(goal)
        if self.asking == "confirm":
            return (
                self._ask("confirm", shall_i(goal.function), "Sorry, I need a yes or a no.")
                if not heard.has_values
                else self.advance()
            )
        return self.not_heard() if self.asking else self.advance()

    def _refused(self, goal: Goal) -> Reply:
        if self.asking == "offer":
            self.offers = []
            goal.forget("date", "time")
            return self._ask("date", "Which other day or time would suit you?", "All right.")
        if self.asking == "confirm":
            return self._ask("instead", "What should I change?", "All right.")
        self._end_goal()
        return self._ask("anything_else", ANYTHING_ELSE, "All right, I will leave it.")

    def _picked(self, heard: Heard) -> Offer | None:
        if not self.offers:
            return None
        if heard.ordinal and heard.ordinal <= len(self.offers) and not heard.times:
            return self.offers[heard.ordinal - 1 if heard.ordinal > 0 else -1]
        fits = [each for each in self.offers if self._fits(each, heard)]
        if fits and (heard.days or heard.times):
            return fits[0]
        if self.asking == "listing":
            fits = [each for each in self.offers if any(len(w) > 3 and w in each.label.lower() for w in heard.words)]
            return fits[0] if len(fits) == 1 else None
        return self.offers[0] if (heard.yes or heard.any) and not heard.has_values else None

    def _fits(self, offer: Offer, heard: Heard) -> bool:
        day_fits = not heard.days or offer.day == heard.days[-1].value
        return day_fits and (not heard.times or offer.at == heard.times[-1])

    def _pick(self, goal: Goal, offer: Offer) -> Reply:
        if self.asking == "listing":
            self._choose_listed(goal, offer)
        else:
            goal.settle(offer.day, offer.at)
            if offer.at:
                self._count_as_checked(goal)
        self.offers = []
        return self.advance()

    def _answer_to_message(self, heard: Heard) -> Reply:
        self._misses = 0
        function = self._message_function()
        if heard.yes and function:
            return self._start(function, Heard(""))
        return self.advance("All right.") if self.goal else self._ask("", HOW_CAN_I_HELP)

    def _message_function(self) -> Function | None:
        return next((each for each in self.functions if verb_of(each) == "message"), None)

    # -- what comes next -----------------------------------------------------------------------------------------------

    def _start(self, function: Function, heard: Heard) -> Reply:
        goal = Goal(function)
        goal.values |= {slot: value for slot, value in self._lasting.items() if slot in goal.slots}
        if self._last and goal.verb == "move" and not heard.days and "date" in self._last.values:
            goal.values["date"] = self._last.values["date"]
        self.goal, self.offers, self.asking, self._misses = goal, [], "", 0
        goal.take(heard)
        goal.take_words(heard)
        unclear = [fitting for fitting in heard.choices.values() if 1 < len(fitting) <= 3]
        if unclear:
            return self._ask("", f"Do you mean {either([each.value for each in unclear[0]])}?")
        return self.advance()

    def advance(self, before: str = "") -> Reply:
        """Whatever is next for the goal: look something up, ask, have it confirmed, do it."""
        goal = self.goal
        if goal is None:
            return self._ask("anything_else" if before else "", ANYTHING_ELSE if before else HOW_CAN_I_HELP, before)
        if calls := self._helping_calls(goal):
            return Reply(before, calls)
        missing = goal.missing()
        if missing and self.offers and slot_of(missing[0]) in ("date", "time", "datetime"):
            return self._ask("offer", self._offer_question, before)
        if missing:
            slot = slot_of(missing[0])
            slot = "date" if slot == "datetime" and "date" not in goal.values else slot
            return self._ask(slot, ask_for(missing[0], missing), before)
        if goal.function.writes and not goal.confirmed:
            return self._ask("confirm", f"{read_back(goal, self.today)} {shall_i(goal.function)}".strip(), before)
        return Reply(before, [ToolCall(goal.function.name, goal.arguments())])

    def _ask(self, asking: str, question: str, before: str = "") -> Reply:
        if asking == "offer":
            self._offer_question = question
        self.asking, self.question = asking, question
        return Reply(f"{before} {question}".strip())

    def _helping_calls(self, goal: Goal) -> list[ToolCall]:
        calls = []
        listing = listing_for(goal.function, self.functions)
        if listing and not goal.listed:
            goal.listed = True
            known = goal.arguments(listing[0])
            args = {
                each.name: known[each.name]
                for each in listing[0].parameters
                if slot_of(each) in goal.demanded & set(goal.values)
            }
            return [ToolCall(listing[0].name, args)]
        if check := self._check(goal):
            goal.checked = check.args
            calls.append(check)
        lookup = lookup_for(goal.function, self.functions)
        asks_name = any(slot_of(each) == "name" for each in goal.missing())
        if lookup and asks_name and not self._looked_up and (calls or slot_of(goal.missing()[0]) == "name"):
            self._looked_up = True
            calls.append(ToolCall(lookup.name, {}))
        return calls

    def _check(self, goal: Goal) -> ToolCall | None:
        """The look for free times, where enough is known and it was not made yet."""
        function = availability_for(goal.function, self.functions)
        if function is None or not ("date" in goal.values or goal.flexible):
            return None
        args = goal.arguments(function)
        complete = all(each.name in args for each in function.parameters if each.required)
        return ToolCall(function.name, args) if complete and args != goal.checked else None

    def _count_as_checked(self, goal: Goal) -> None:
        if function := availability_for(goal.function, self.functions):
            goal.checked = goal.arguments(function)

    def _end_goal(self) -> None:
        self.goal, self.offers, self.asking = None, [], ""

    # -- results -------------------------------------------------------------------------------------------------------

    def result(self, result: ToolResult) -> Reply | str:
        """Take in a result: a Reply where it decides what comes next, else words to say before that ("" for none)."""
        function = next((each for each in self.functions if each.name == result.name), None)
        goal, response = self.goal, result.response
        if function is None:
            return spoken(response)
        if function.ends_call:
            return Reply(GOODBYE)
        if question_parameter(function):
            return self._answered(response)
        if goal and function is goal.function:
            return self._failed(goal, function, response) if error_of(response) else self._succeeded(goal, response)
        if goal and function is availability_for(goal.function, self.functions):
            return self._failed(goal, function, response) if error_of(response) else self._times(goal, response)
        listing = listing_for(goal.function, self.functions) if goal else None
        if goal and listing and function is listing[0]:
            return self._failed(goal, function, response) if error_of(response) else self._listed(goal, response)
        if goal and function is lookup_for(goal.function, self.functions):
            if name := name_in(response):
                goal.values.setdefault("name", name)
            return ""
        return error_of(response) or ("" if goal else spoken(response))

    def _answered(self, response: dict[str, Any]) -> Reply:
        words = answer_of(response, self._asked_words, self.instruction)
        if self.goal:
            return Reply(f"{words} {self.question}")
        return self._ask("anything_else", ANYTHING_ELSE, words)

    def _succeeded(self, goal: Goal, response: dict[str, Any]) -> Reply:
        self._last = goal
        self._end_goal()
        said = spoken(response)
        if question := asks(response):
            return self._ask("", question, said)
        task = task_of(str(response.get("next_step", "")), self.functions)
        if task:
            function, thing = task
            self.goal = Goal(function)
            parameter = self.goal.missing()[0]
            return self._ask(slot_of(parameter), ask_thing(thing), said)
        return self._ask("anything_else", ANYTHING_ELSE, said)

    def _times(self, goal: Goal, response: dict[str, Any]) -> Reply | str:
        said = spoken(response)
        found = [each for each in offers(response, self.today) if each.at]
        if not found:
            if response.get("available") is True or not any(isinstance(each, list) for each in response.values()):
                return said
            goal.forget("date", "time")
            return self._ask("date", "Which other day would suit you?", said)
        if goal.said_day and len({each.day for each in found}) == 1:
            goal.settle(found[0].day, None)
        return self._offer_times(goal, found, said)

    def _offer_times(self, goal: Goal, found: list[Offer], said: str) -> Reply | str:
        """Go on where the wanted time is free; else propose the nearest, or let the caller choose."""
        day, at = goal.values.get("date"), goal.values.get("time")
        exact = [each for each in found if each.at == at and (not each.day or not day or each.day == day)]
        if exact:
            goal.settle(exact[0].day, exact[0].at)
            self._count_as_checked(goal)
            self.offers = []
            return said if goal.missing() else "That time is free."
        self.offers = found
        if at is None:
            return self._ask("offer", "Which one suits you?", said)
        goal.settle(found[0].day, found[0].at)
        self._count_as_checked(goal)
        if not goal.missing():
            return said
        return self._ask("offer", f"Would {say_offer(found[0], self.today)} suit you?", said)

    def _listed(self, goal: Goal, response: dict[str, Any]) -> Reply | str:
        found = titled(offers(response, self.today), response)
        if not found:
            self._end_goal()
            return self._ask("anything_else", ANYTHING_ELSE, spoken(response))
        said_day = goal.values.get("date")
        meant = [each for each in found if each.day and each.day == said_day]
        if len(found) > 1 and len(meant) != 1:
            self.offers = found
            return self._ask("listing", "Which one do you mean?", spoken(response))
        self._choose_listed(goal, meant[0] if meant else found[0])
        return ""

    def _choose_listed(self, goal: Goal, offer: Offer) -> None:
        goal.subject = offer.label
        listing = listing_for(goal.function, self.functions)
        if listing and listing[1]:
            numbers = (offer.fields.get(key) for key in (listing[1].name, "number", "id"))
            goal.values[listing[1].name] = next((str(each) for each in numbers if each is not None), offer.label)
        if goal.verb == "cancel" or (offer.day and goal.values.get("date") == offer.day and "time" not in goal.values):
            goal.forget("date", "time")  # it said which one, not what is to become of it
        choices = {
            each.name: each.choices for function in self.functions for each in function.parameters if each.choices
        }
        for name, value in offer.fields.items():
            if any(choice.value == value for choice in choices.get(name, ())):
                goal.values.setdefault(name, value)

    def _failed(self, goal: Goal, function: Function, response: dict[str, Any]) -> Reply | str:
        """Do what error and hint say: use another function first, try again, offer what is possible, ask."""
        error, hint = error_of(response), str(response.get("hint") or "")
        first = [each for each in functions_named(error, self.functions) if each is not function and not each.ends_call]
        if goal.retried < 2 and (reply := self._first_use(goal, first)):
            goal.retried += 1
            return reply
        again = re.search(r"\b(once more|same (tool|function)|try again)\b", hint)
        if again and goal.retried < 2:
            goal.retried += 1
            return Reply("One moment, please.", [ToolCall(function.name, goal.arguments(function))])
        goal.confirmed = False
        found = offers(response, self.today) or offers_in_words(hint, self.today)
        if found:
            return self._offer(goal, function, found, error, hint)
        slots = slots_named(f"{hint} {error}", function)
        if slots and not again:
            goal.demanded |= slots
            goal.forget(*slots)
            goal.listed = False
            return self._ask_again(goal, error, hint)
        if self._message_function() and goal.function is not self._message_function():
            return self._ask("message", "Shall I take a message for the staff?", error)
        return self._ask("instead", "What would you like to do instead?", error)

    def _first_use(self, goal: Goal, first: list[Function]) -> Reply | None:
        for function in first:
            args = goal.arguments(function)
            if all(each.name in args for each in function.parameters if each.required):
                if function is availability_for(goal.function, self.functions):
                    goal.checked = args
                return Reply(calls=[ToolCall(function.name, args)])
        return None

    def _offer(self, goal: Goal, function: Function, found: list[Offer], error: str, hint: str) -> Reply | str:
        question = question_from_hint(hint)
        if all(each.at for each in found):
            goal.values.setdefault("time", found[0].at)
            times = either([say_offer(each, self.today) for each in found[:3]])
            if not question:
                error = f"{error} I could offer {times}."
            return self._offer_times(goal, found, error)
        self.offers = found
        if all(each.day for each in found):
            goal.forget("date")
            return self._ask("offer", question or f"Do you mean {either([each.label for each in found[:3]])}?", error)
        listing = listing_for(goal.function, self.functions)
        if listing and listing[1]:
            return self._ask(
                "listing", "Which one do you mean?", f"{error} {sentence('; '.join(each.label for each in found))}"
            )
        labels = {each.label for each in found}
        for parameter in function.parameters:
            if labels & {choice.value for choice in parameter.choices}:
                goal.forget(parameter.name)
                return self._ask(slot_of(parameter), question or ask_for(parameter), error)
        return self._ask("instead", question or "Which would you like?", error)

    def _ask_again(self, goal: Goal, error: str, hint: str) -> Reply:
        missing = goal.missing()
        if not missing:
            return self._ask("instead", question_from_hint(hint) or "What would you like instead?", error)
        only = len(missing) == 1 and question_from_hint(hint)
        return self._ask(slot_of(missing[0]), only or ask_for(missing[0], missing), error)
