"""What a function's result changes in the conversation: it is done, refused with a way out, or something to choose."""

from __future__ import annotations

import re
from typing import Any

from sandbox.declarations import Function
from sandbox.mind import Reply, ToolCall, ToolResult
from sandbox.talk.abilities import slot_of
from sandbox.talk.goals import Goal
from sandbox.talk.outcomes import (
    Offer,
    answer_of,
    asks,
    error_of,
    identifier,
    name_in,
    offers,
    offers_in_words,
    say_offer,
    slots_named,
    spoken,
    task_of,
    titled,
)
from sandbox.talk.phrasing import ANYTHING_ELSE, GOODBYE, ask_for, ask_thing, either, question_from_hint, sentence
from sandbox.talk.planning import Plan


class Consequences:
    """Takes results into a `Plan`. `asked_words` is the question that was looked up last."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._told = ""
        self.asked_words = ""

    def result(self, result: ToolResult) -> Reply | str:
        """Take in a result: a Reply where it decides what comes next, else words to say before that ("" for none)."""
        function, goal, response = self._plan.abilities.named(result.name), self._plan.goal, result.response
        if function is None:
            return spoken(response)
        if function.ends_call:
            return Reply(GOODBYE)
        if function is self._plan.abilities.answerer:
            return self._answered(response)
        if goal is None:
            return self._late(response)
        failed = bool(error_of(response))
        if function is goal.function:
            return self._failed(goal, function, response) if failed else self._succeeded(goal, response)
        if function is self._plan.abilities.availability(goal.function):
            return self._failed(goal, function, response) if failed else self._times(goal, response)
        listing = self._plan.abilities.listing(goal.function)
        if listing and function is listing[0]:
            return self._failed(goal, function, response) if failed else self._listed(goal, response)
        return self._helped(goal, response)

    def _late(self, response: dict[str, Any]) -> str:
        """A result that nobody waits for any more: told, but not twice."""
        said = error_of(response) or spoken(response)
        return "" if said == self._told else said

    def _helped(self, goal: Goal, response: dict[str, Any]) -> str:
        """What a function told that helps the goal: who calls, an id."""
        if name := name_in(response):
            goal.values.setdefault("name", name)
        for parameter in goal.missing():
            if parameter.kind == "id" and (value := identifier(response, parameter.name)) is not None:
                goal.values[parameter.name] = value
        return ""

    def _answered(self, response: dict[str, Any]) -> Reply:
        words = answer_of(response, self.asked_words, self._plan.instruction)
        if self._plan.goal:
            return Reply(f"{words} {self._plan.question}")
        nothing_found = words == spoken(response) and len(response) < 3
        if nothing_found and self._plan.abilities.messenger and "take a message" in str(response.get("hint")):
            return self._plan.ask("message", "Shall I take a message for the staff?", words)
        return self._plan.ask("anything_else", ANYTHING_ELSE, words)

    def _succeeded(self, goal: Goal, response: dict[str, Any]) -> Reply:
        self._plan.last, self._plan.next_step = goal, str(response.get("next_step", ""))
        self._plan.end_goal()
        said = self._told = spoken(response)
        if question := asks(response):
            return self._plan.ask("", question, said)
        task = task_of(self._plan.next_step, self._plan.abilities)
        if task:
            function, thing = task
            self._plan.goal = Goal(function)
            parameter = self._plan.goal.missing()[0]
            return self._plan.ask(slot_of(parameter), ask_thing(thing), said)
        return self._plan.ask("anything_else", ANYTHING_ELSE, said)

    def _times(self, goal: Goal, response: dict[str, Any]) -> Reply | str:
        said = spoken(response)
        found = [each for each in offers(response, self._plan.today) if each.at]
        if not found:
            if response.get("available") is True or not any(isinstance(each, list) for each in response.values()):
                return said
            goal.forget("date", "time")
            return self._plan.ask("date", "Which other day would suit you?", said)
        if goal.said_day and len({each.day for each in found}) == 1:
            goal.settle(found[0].day, None)
        return self._offer_times(goal, found, said)

    def _offer_times(self, goal: Goal, found: list[Offer], said: str) -> Reply | str:
        """Go on where the wanted time is free; else propose the nearest, or let the caller choose."""
        day, at = goal.values.get("date"), goal.values.get("time")
        exact = [each for each in found if each.at == at and (not each.day or not day or each.day == day)]
        if exact:
            goal.settle(exact[0].day, exact[0].at)
            self._plan.count_as_checked(goal)
            self._plan.offers = []
            return said if goal.missing() else "That time is free."
        self._plan.offers = found
        if at is None:
            return self._plan.ask("offer", "Which one suits you?", said)
        goal.settle(found[0].day, found[0].at)
        self._plan.count_as_checked(goal)
        if not goal.missing():
            return said
        return self._plan.ask("offer", f"Would {say_offer(found[0], self._plan.today)} suit you?", said)

    def _listed(self, goal: Goal, response: dict[str, Any]) -> Reply | str:
        found = titled(offers(response, self._plan.today), response)
        if not found:
            self._plan.end_goal()
            return self._plan.ask("anything_else", ANYTHING_ELSE, spoken(response))
        said_day = goal.values.get("date")
        meant = [each for each in found if each.day and each.day == said_day]
        if len(found) > 1 and len(meant) != 1:
            self._plan.offers = found
            return self._plan.ask("listing", "Which one do you mean?", spoken(response))
        self._plan.choose_listed(goal, meant[0] if meant else found[0])
        return ""

    def _failed(self, goal: Goal, function: Function, response: dict[str, Any]) -> Reply | str:
        """Do what error and hint say: use another function first, try again, offer what is possible, ask."""
        error, hint = error_of(response), str(response.get("hint") or "")
        first = [each for each in self._plan.abilities.mentioned(error) if each is not function and not each.ends_call]
        if goal.retried < 2 and (reply := self._first_use(goal, first)):
            goal.retried += 1
            return reply
        again = re.search(r"\b(once more|same (tool|function)|try again)\b", hint)
        if again and goal.retried < 2:
            goal.retried += 1
            return Reply("One moment, please.", [ToolCall(function.name, goal.arguments(function))])
        goal.confirmed = False
        found = offers(response, self._plan.today) or offers_in_words(hint, self._plan.today)
        if found:
            return self._offer(goal, function, found, error, hint)
        slots = slots_named(f"{hint} {error}", function)
        if slots and not again:
            goal.demanded |= slots
            own = {each.name for each in (*goal.function.parameters, *goal.extra)}
            goal.extra += [each for each in function.parameters if slot_of(each) in slots and each.name not in own]
            goal.forget(*slots)
            goal.listed = False
            return self._ask_again(goal, error, hint)
        if self._plan.abilities.messenger and goal.function is not self._plan.abilities.messenger:
            return self._plan.ask("message", "Shall I take a message for the staff?", error)
        return self._plan.ask("instead", "What would you like to do instead?", error)

    def _first_use(self, goal: Goal, first: list[Function]) -> Reply | None:
        for function in first:
            args = goal.arguments(function)
            if all(each.name in args for each in function.parameters if each.required):
                if function is self._plan.abilities.availability(goal.function):
                    goal.checked = args
                return Reply(calls=[ToolCall(function.name, args)])
        return None

    def _offer(self, goal: Goal, function: Function, found: list[Offer], error: str, hint: str) -> Reply | str:
        question = question_from_hint(hint)
        if all(each.at for each in found):
            goal.values.setdefault("time", found[0].at)
            times = either([say_offer(each, self._plan.today) for each in found[:3]])
            if not question:
                error = f"{error} I could offer {times}."
            return self._offer_times(goal, found, error)
        self._plan.offers = found
        if all(each.day for each in found):
            goal.forget("date")
            question = question or f"Do you mean {either([each.label for each in found[:3]])}?"
            return self._plan.ask("offer", question, error)
        listing = self._plan.abilities.listing(goal.function)
        if listing and listing[1]:
            return self._plan.ask(
                "listing", "Which one do you mean?", f"{error} {sentence('; '.join(each.label for each in found))}"
            )
        labels = {each.label for each in found}
        for parameter in function.parameters:
            if labels & {choice.value for choice in parameter.choices}:
                goal.forget(parameter.name)
                return self._plan.ask(slot_of(parameter), question or ask_for(parameter), error)
        return self._plan.ask("instead", question or "Which would you like?", error)

    def _ask_again(self, goal: Goal, error: str, hint: str) -> Reply:
        missing = goal.missing()
        if not missing:
            return self._plan.ask("instead", question_from_hint(hint) or "What would you like instead?", error)
        only = len(missing) == 1 and question_from_hint(hint)
        return self._plan.ask(slot_of(missing[0]), only or ask_for(missing[0], missing), error)
