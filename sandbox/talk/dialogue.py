"""What the stand-in makes of a caller's words: an answer, a correction, another wish, a question, a goodbye.

Pure: fed utterances that were understood (`Heard`), it answers with `Reply`s. What comes next is `planning`'s business,
what results mean `consequences`'.
"""

from __future__ import annotations

from sandbox.declarations import Function
from sandbox.mind import Reply, ToolCall
from sandbox.talk.abilities import question_parameter, takes_any_words, verb_of
from sandbox.talk.consequences import Consequences
from sandbox.talk.goals import Goal
from sandbox.talk.listening import Heard
from sandbox.talk.outcomes import Offer, answer_of
from sandbox.talk.phrasing import ANYTHING_ELSE, GOODBYE, HOW_CAN_I_HELP, NOT_HEARD, PREFACE, either, shall_i
from sandbox.talk.planning import Plan

_TURNS_AWAY = 5.0
_ABOUT_ME = (
    r"\b(are you (an? )?(real|robot|machine|human|person|computer|ai|bot)|who are you|(speaking|talking) to an?)\b"
)
_DROP = r"\b(forget|never ?mind|cancel (it|that)|nothing|leave it)\b"


class Dialogue:
    """The caller's side of one conversation."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.consequences = Consequences(self.plan)
        self._misses = 0

    def not_heard(self) -> Reply:
        """Nothing was understood."""
        self._misses += 1
        sorry = NOT_HEARD[min(self._misses, len(NOT_HEARD)) - 1]
        if self._misses >= len(NOT_HEARD) and self.plan.abilities.messenger:
            return self.plan.ask("message", "Shall I take a message instead?", sorry)
        return Reply(f"{sorry} {self.plan.question}" if self._misses > 1 else sorry)

    def hear(self, heard: Heard) -> Reply:
        """The heart of it: what the caller's words change, and what comes next."""
        goal = self.plan.goal
        if heard.again:
            return Reply(self.plan.question)
        if heard.says(_ABOUT_ME):
            return Reply(f"{PREFACE} {self.plan.question}")
        if self.plan.asking == "confirm" and goal and (heard.plain_yes or (heard.yes and not heard.has_values)):
            goal.confirmed = True
            return self.plan.advance()
        self._remember_caller(heard)
        if self._leaves(heard):
            return self._leave()
        if self.plan.asking == "message" and (heard.yes or heard.no):
            return self._answer_to_message(heard)
        if (other := self._other_function(heard)) is not None:
            return self.plan.start(other, heard)
        if self._is_question(heard) and (reply := self._look_up(heard)):
            return reply
        self._misses = self._misses if not heard.has_values and not heard.yes and not heard.no else 0
        return self._go_on(goal, heard) if goal else self._without_a_goal(heard)

    def _remember_caller(self, heard: Heard) -> None:
        for slot, found in (("name", heard.names), ("phone", heard.phones), ("email", heard.emails)):
            if found and not self._takes_any_words():
                self.plan.lasting[slot] = found[-1]

    def _leaves(self, heard: Heard) -> bool:
        if self.plan.goal is not None:
            return heard.says(r"\bbye\b|\bgoodbye\b|\bhang up\b")
        ended = self.plan.asking == "anything_else" and not heard.has_values
        return heard.bye or (ended and (heard.no or (heard.thanks and not heard.yes)))

    def _leave(self) -> Reply:
        self.plan.goal, self.plan.asking = None, ""
        ending = self.plan.abilities.ending
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
        function, score = self.plan.abilities.wanted(heard, self.plan.next_step)
        if function is None:
            return None
        if self.plan.goal is None:
            is_fact = heard.question and score < 3 and function.writes and not (heard.days or heard.times)
            return None if is_fact else function
        if function is self.plan.goal.function or score < _TURNS_AWAY or verb_of(function) == self.plan.goal.verb:
            return None
        return None if self.plan.abilities.availability(self.plan.goal.function) and heard.has_values else function

    def _takes_any_words(self) -> bool:
        return self.plan.asked is not None and takes_any_words(self.plan.asked)

    def _is_question(self, heard: Heard) -> bool:
        if self._takes_any_words() or (self.plan.goal and (heard.days or heard.times or heard.names)):
            return False
        return heard.question or (self.plan.goal is None and len(heard.words) > 3 and not heard.has_values)

    def _look_up(self, heard: Heard) -> Reply | None:
        function = self.plan.abilities.answerer
        if function and (parameter := question_parameter(function)):
            things = [str(value) for value in self.plan.goal.values.values()] if self.plan.goal else []
            self.consequences.asked_words = " ".join([heard.text, *(things if "it" in heard.words else [])])
            return Reply(calls=[ToolCall(function.name, {parameter.name: heard.text})])
        if found := answer_of({}, heard.text, self.plan.instruction):
            return Reply(f"{found} {self.plan.question}")
        return None

    def _without_a_goal(self, heard: Heard) -> Reply:
        if self.plan.last and (heard.days or heard.times) and self.plan.abilities.mover:
            return self.plan.start(self.plan.abilities.mover, heard)
        if heard.yes and self.plan.asking == "anything_else":
            return self.plan.ask("", "What can I do for you?")
        self.plan.loose = heard if heard.has_values else self.plan.loose
        if heard.names:
            return self.plan.ask("", HOW_CAN_I_HELP, f"Thank you, {heard.names[-1]}.")
        if len(heard.words) > 3:
            return self.plan.ask("", HOW_CAN_I_HELP, f"I am sorry, I can only help to {self._abilities()}.")
        return self.plan.ask("", HOW_CAN_I_HELP)

    def _abilities(self) -> str:
        deeds = [" ".join(each.verbs) for each in self.plan.abilities.functions if not each.ends_call]
        return either(deeds[:4]) if deeds else "listen"

    def _go_on(self, goal: Goal, heard: Heard) -> Reply:
        """An answer to what was asked, a correction, or something beside the point."""
        if self.plan.asking in ("offer", "listing") and (picked := self._picked(heard)):
            if self.plan.asking == "offer":
                goal.take(heard)
            return self._pick(goal, picked)
        if self._takes_any_words() and heard.no and len(heard.words) < 5:
            return self._refused(goal)
        proposed = bool(self.plan.offers) and "time" in goal.values
        changed = goal.take(heard, self.plan.asking)
        if proposed and heard.days and not heard.times:
            goal.forget("time")
        if not changed and (question := self.plan.which_choice(heard)):
            return question
        if changed:
            goal.confirmed = False
            return self.plan.advance()
        if self.plan.asking == "confirm" and heard.yes:
            goal.confirmed = True
            return self.plan.advance()
        if heard.any and self.plan.asking in ("date", "datetime", "time", "offer"):
            goal.flexible = True
            return self.plan.advance()
        if heard.says(_DROP):
            return self.plan.drop()
        if heard.no:
            return self._refused(goal)
        if self.plan.asking == "confirm":
            return self.plan.ask("confirm", shall_i(goal.function), "Sorry, I need a yes or a no.")
        return self.not_heard() if self.plan.asking else self.plan.advance()

    def _refused(self, goal: Goal) -> Reply:
        if self.plan.asking == "offer":
            self.plan.offers = []
            goal.forget("date", "time")
            return self.plan.ask("date", "Which other day or time would suit you?", "All right.")
        if self.plan.asking == "confirm":
            return self.plan.ask("instead", "What should I change?", "All right.")
        return self.plan.drop()

    def _picked(self, heard: Heard) -> Offer | None:
        if not self.plan.offers:
            return None
        if heard.ordinal and heard.ordinal <= len(self.plan.offers) and not heard.times:
            return self.plan.offers[heard.ordinal - 1 if heard.ordinal > 0 else -1]
        fits = [each for each in self.plan.offers if self._fits(each, heard)]
        if fits and (heard.days or heard.times):
            return fits[0]
        if self.plan.asking == "listing":
            said = [word for word in heard.words if len(word) > 3]
            fits = [each for each in self.plan.offers if any(word in each.label.lower() for word in said)]
            return fits[0] if len(fits) == 1 else None
        return self.plan.offers[0] if (heard.yes or heard.any) and not heard.has_values else None

    def _fits(self, offer: Offer, heard: Heard) -> bool:
        day_fits = not heard.days or offer.day == heard.days[-1].value
        return day_fits and (not heard.times or offer.at == heard.times[-1])

    def _pick(self, goal: Goal, offer: Offer) -> Reply:
        if self.plan.asking == "listing":
            self.plan.choose_listed(goal, offer)
        else:
            goal.settle(offer.day, offer.at)
            if offer.at:
                self.plan.count_as_checked(goal)
        self.plan.offers = []
        return self.plan.advance()

    def _answer_to_message(self, heard: Heard) -> Reply:
        self._misses = 0
        if heard.yes and self.plan.abilities.messenger:
            return self.plan.start(self.plan.abilities.messenger, Heard(""))
        return (
            self.plan.advance("All right.")
            if self.plan.goal
            else self.plan.ask("anything_else", ANYTHING_ELSE, "All right.")
        )
