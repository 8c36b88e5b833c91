"""What comes next in a conversation: look something up, ask for what is missing, have it confirmed, do it."""

from __future__ import annotations

from datetime import date
from typing import Any

from sandbox.declarations import Function, Parameter
from sandbox.mind import Reply, ToolCall
from sandbox.talk.abilities import Abilities, slot_of
from sandbox.talk.goals import Goal
from sandbox.talk.listening import Heard
from sandbox.talk.outcomes import Offer
from sandbox.talk.phrasing import ANYTHING_ELSE, HOW_CAN_I_HELP, ask_again_for, ask_for, either, read_back, shall_i


class Plan:
    """Where a conversation stands.

    `asking` is what was asked last: a slot, or confirm, offer, listing, instead, anything_else, message; "" for
    nothing. `question` are the words of it. `last` is the goal that was reached last, `lasting` what is known of the
    caller whatever the goal, `loose` what was said before there was a goal.
    """

    def __init__(self) -> None:
        self.abilities = Abilities()
        self.instruction = ""
        self.today = date.min
        self.goal: Goal | None = None
        self.asking = ""
        self.question = HOW_CAN_I_HELP
        self.offers: list[Offer] = []
        self.last: Goal | None = None
        self.next_step = ""
        self.lasting: dict[str, Any] = {}
        self.loose: Heard | None = None
        self._offer_question = ""
        self._looked_up = False

    @property
    def asked(self) -> Parameter | None:
        """The parameter that was asked for."""
        if self.goal is None:
            return None
        parameters = (*self.goal.function.parameters, *self.goal.extra)
        return next((each for each in parameters if self.goal.slot(each) == self.asking), None)

    def start(self, function: Function, heard: Heard) -> Reply:
        """Turn to what the caller wants, with what was said about it."""
        goal = Goal(function)
        goal.values |= {slot: value for slot, value in self.lasting.items() if slot in goal.slots}
        if self.last and goal.verb == "move" and not heard.days and "date" in self.last.values:
            goal.values["date"] = self.last.values["date"]
        self.goal, self.offers, self.asking = goal, [], ""
        for each in (self.loose, heard):
            if each:
                goal.take(each)
        self.loose = None
        goal.take_words(heard)
        return self.which_choice(heard) or self.advance()

    def which_choice(self, heard: Heard) -> Reply | None:
        """The question which value was meant, where several fit what was said alike."""
        unclear = [fitting for fitting in heard.choices.values() if 1 < len(fitting) <= 3]
        if not unclear:
            return None
        return self.ask(self.asking, f"Do you mean {either([each.value for each in unclear[0]])}?")

    def advance(self, before: str = "") -> Reply:
        """Whatever is next for the goal: look something up, ask, have it confirmed, do it."""
        goal = self.goal
        if goal is None:
            return self.ask("anything_else" if before else "", ANYTHING_ELSE if before else HOW_CAN_I_HELP, before)
        if calls := self._helping_calls(goal):
            return Reply(before, calls)
        sources = self._sources(goal)
        missing = [each for each in goal.missing() if each.name not in sources]
        if missing and self.offers and slot_of(missing[0]) in ("date", "time", "datetime"):
            return self.ask("offer", self._offer_question, before)
        if missing:
            slot = goal.slot(missing[0])
            wording = ask_again_for if before and slot == self.asking else ask_for
            return self.ask(slot, wording(missing[0], missing), before)
        if goal.function.writes and not goal.confirmed:
            return self.ask("confirm", f"{read_back(goal, self.today)} {shall_i(goal.function)}".strip(), before)
        function = next(iter(sources.values()), goal.function)
        goal.tried.add(function.name)
        return Reply(before, [ToolCall(function.name, goal.arguments(function))])

    def _sources(self, goal: Goal) -> dict[str, Function]:
        """For ids that no caller can know: which function tells them. What those need is asked of the caller."""
        sources = {}
        for parameter in goal.missing():
            makers = self.abilities.producers(parameter, goal.function)
            maker = next((each for each in makers if each.name not in goal.tried), None)
            if maker:
                sources[parameter.name] = maker
                known = {each.name for each in (*goal.function.parameters, *goal.extra)}
                goal.extra += [each for each in maker.parameters if each.required and each.name not in known]
        return sources

    def ask(self, asking: str, question: str, before: str = "") -> Reply:
        """Put a question, after the words `before`."""
        if asking == "offer":
            self._offer_question = question
        self.asking, self.question = asking, question
        return Reply(f"{before} {question}".strip())

    def _helping_calls(self, goal: Goal) -> list[ToolCall]:
        calls: list[ToolCall] = []
        listing = self.abilities.listing(goal.function)
        if listing and not goal.listed:
            goal.listed = True
            known = goal.arguments(listing[0])
            args = {
                each.name: known[each.name]
                for each in listing[0].parameters
                if slot_of(each) in goal.demanded & set(goal.values)
            }
            return [ToolCall(listing[0].name, args)]
        check = self._check(goal)
        lookup = self.abilities.lookup(goal.function)
        missing = [slot_of(each) for each in goal.missing()]
        if lookup and not self._looked_up and "name" in missing and (check or missing[0] == "name"):
            self._looked_up = True
            calls.append(ToolCall(lookup.name, {}))
        if check:
            goal.checked = check.args
            calls.append(check)
        return calls

    def _check(self, goal: Goal) -> ToolCall | None:
        """The look for free times, where enough is known and it was not made yet."""
        function = self.abilities.availability(goal.function)
        if function is None or not ("date" in goal.values or goal.flexible):
            return None
        args = goal.arguments(function)
        complete = all(each.name in args for each in function.parameters if each.required)
        return ToolCall(function.name, args) if complete and args != goal.checked else None

    def count_as_checked(self, goal: Goal) -> None:
        """The goal's day and time are known to be free."""
        if function := self.abilities.availability(goal.function):
            goal.checked = goal.arguments(function)

    def end_goal(self) -> None:
        """Nothing is to be done any more."""
        self.goal, self.offers, self.asking = None, [], ""

    def choose_listed(self, goal: Goal, offer: Offer) -> None:
        """It is this of the listed things that is to be changed."""
        goal.subject = offer.label
        listing = self.abilities.listing(goal.function)
        if listing and listing[1]:
            numbers = (offer.fields.get(key) for key in (listing[1].name, "number", "id"))
            number = next((each for each in numbers if each is not None), offer.label)
            goal.values[listing[1].name] = str(number) if listing[1].kind == "text" else number
        if goal.verb == "cancel" or (offer.day and goal.values.get("date") == offer.day and "time" not in goal.values):
            goal.forget("date", "time")  # it said which one, not what is to become of it
        parameters = [each for function in self.abilities.functions for each in function.parameters]
        for each in parameters:
            if offer.fields.get(each.name) in [choice.value for choice in each.choices]:
                goal.values.setdefault(each.name, offer.fields[each.name])

    def drop(self) -> Reply:
        """The caller does not want it any more."""
        self.end_goal()
        return self.ask("anything_else", ANYTHING_ELSE, "All right, I will leave it.")
