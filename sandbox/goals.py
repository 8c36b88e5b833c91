"""Which declared function a caller wants, and which other functions help it: found by their names and descriptions.

Nothing here knows a certain set of functions. What a function is about is read from the verb in its name ("book",
"cancel", "find"), its nouns and its parameters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

from sandbox.declarations import Function, Parameter
from sandbox.english import word_set, words
from sandbox.listening import Heard, alike

_VERBS = {
    "create": word_set("book schedule reserve make arrange create order buy place register submit request"),
    "cancel": word_set("cancel delete remove drop"),
    "move": word_set("reschedule move postpone shift change"),
    "update": word_set("update correct fix edit modify"),
    "list": word_set("list show check track status"),
    "find": word_set("find search availability lookup get look"),
    "message": word_set("message callback voicemail"),
    "note": word_set("note remark"),
    "save": word_set("save add"),
    "ask": word_set("question answer faq ask"),
}
_PHRASES = {
    r"\b(set up|come in|i need an?|i want an?|i'd like an?|i would like an?|send (some(one|body)|an?))\b": "create",
    r"\b(call off|can't make it|cannot make it|not (be )?able to come)\b": "cancel",
    r"\b(another|different|other) (time|day|date)\b": "move",
    r"\b(what|which|any|my) appointments\b|\b(when is|when's) my\b|\bdo i have\b|\bwhen am i\b": "list",
    r"\b(call (me )?back|ring me back|tell (them|him|her|the)|i will be late|i'll be late|running late)\b": "message",
    r"\b(speak|talk) (to|with) (an?|some\w*|the|one)\b": "message",
    r"\b(free (time|slot)s?|available|availability|openings|an opening|anything free)\b": "find",
}
_PRONOUN_AFTER = r"\b(make|change|move|book|cancel) (it|that|this|sure)\b"
_TELLING = word_set("create cancel move message")
_NOT_NOUNS = word_set("for by of the a an id new to from with")
_AVAILABILITY = word_set("free available availability slot slots opening openings")
_PEOPLE = word_set("customer caller client patient contact guest member person profile account user")
_QUESTION_NAMES = word_set("question query")
_WORTH_A_GOAL = 2.0


def slot_of(parameter: Parameter) -> str:
    """Under what a value is remembered: parameters of several functions that mean the same share a slot."""
    if parameter.kind in ("date", "time", "datetime", "phone", "email"):
        return parameter.kind
    if parameter.kind == "name" and is_person(parameter):
        return "name"
    return parameter.name


def is_person(parameter: Parameter) -> bool:
    """Whether a name is that of a person, not of a city or a file."""
    own = set(words(re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", parameter.name)))
    return own <= _PEOPLE | word_set("name first last full given family")


def takes_any_words(parameter: Parameter) -> bool:
    """Whether whatever is answered is the value: a message, an address, a city."""
    return parameter.kind in ("text", "id") or (parameter.kind == "name" and not is_person(parameter))


def verb_of(function: Function) -> str:
    """The kind of deed in a function's name: "create", "cancel", "move", "list", "find", ...; "" if none is known."""
    for word in function.verbs:
        for kind, group in _VERBS.items():
            if word in group:
                return kind
    return ""


def nouns_of(function: Function) -> set[str]:
    """What a function is about, singular: book_appointment is about an appointment."""
    verbs = {word for group in _VERBS.values() for word in group} - word_set("message note question order")
    first = function.verbs[:1]
    return {
        word.removesuffix("s")
        for word in function.verbs
        if word not in _NOT_NOUNS and (word not in verbs) and [word] != first
    } or {word.removesuffix("s") for word in function.verbs[1:]}


def question_parameter(function: Function) -> Parameter | None:
    """The parameter that takes a caller's question, if this function answers questions."""
    others = [each for each in function.parameters if each.required and each.name.lower() not in _QUESTION_NAMES]
    if function.writes or others:
        return None
    return next((each for each in function.parameters if each.name.lower() in _QUESTION_NAMES), None)


def wanted(heard: Heard, functions: Sequence[Function]) -> tuple[Function | None, float]:
    """The function that fits what was said, and how well: 3 for its deed, 2 for its thing, less for its values."""
    scored = [(_score(heard, function), -place, function) for place, function in enumerate(functions)]
    scored = [entry for entry in scored if not entry[2].ends_call and question_parameter(entry[2]) is None]
    if not scored:
        return None, 0.0
    score, _, best = max(scored, key=lambda entry: entry[:2])
    return (best, score) if score >= _WORTH_A_GOAL else (None, 0.0)


def _score(heard: Heard, function: Function) -> float:
    deeds = _deeds(heard)
    verb = verb_of(function)
    nouns = [noun for noun in nouns_of(function) if any(alike(word.removesuffix("s"), noun) for word in heard.words)]
    telling = verb in _TELLING or bool(nouns) or is_availability(function)
    named = verb in deeds and telling
    score = 3.0 * named + 2.0 * bool(nouns)
    described = {word for word in words(function.description) if len(word) > 4}
    score += min(1.0, 0.25 * len(described & set(heard.words)))
    if any(heard.choice(each.name) for each in function.parameters if each.choices):
        score += 1.5 if verb == "create" else 1.0
    own = {slot_of(each) for each in function.parameters}
    if (heard.days or heard.times) and own & {"date", "time", "datetime"}:
        score += 1.0 if verb == "create" else 0.5
    if verb == "create" and heard.says(r"\b(like|want|need|have|get|would)\b") and (nouns or heard.choices):
        score += 1.0
    return score


def _deeds(heard: Heard) -> set[str]:
    """The kinds of deeds that were named. "my order" is a thing, "make it four" a correction."""
    text = re.sub(_PRONOUN_AFTER, " ", heard.text)
    text = re.sub(r"\b(my|the|an?|your) (order|request|question|message|note|book)\b", r"\2s", text)
    said = set(text.split())
    found = {kind for kind, group in _VERBS.items() if said & group}
    found |= {kind for pattern, kind in _PHRASES.items() if re.search(pattern, heard.text)}
    if re.search(r"\b(leave|take|pass on) an? message\b|\bmessages\b", text):
        found.add("message")
    return found


def availability_for(function: Function, functions: Sequence[Function]) -> Function | None:
    """The function that says what times are free, for one that needs a day and time."""
    own = {slot_of(each) for each in function.parameters}
    if not function.writes or not own & {"time", "datetime"}:
        return None
    return next((each for each in functions if is_availability(each) and each is not function), None)


def is_availability(function: Function) -> bool:
    """Whether this function looks for free times."""
    said = set(function.verbs) | set(words(function.description))
    times = {slot_of(each) for each in function.parameters} & {"date", "time", "datetime"}
    return not function.writes and bool(times) and bool(said & _AVAILABILITY)


def listing_for(function: Function, functions: Sequence[Function]) -> tuple[Function, Parameter | None] | None:
    """The function that lists what this one changes, and the parameter that takes which of them is meant."""
    if verb_of(function) not in ("cancel", "move", "update"):
        return None
    for other in functions:
        if (
            other.writes
            or other is function
            or is_availability(other)
            or any(each.required for each in other.parameters)
        ):
            continue
        takes = next((each for each in function.parameters if other.name in each.description), None)
        if takes:
            return other, takes
        shared = nouns_of(other) & nouns_of(function)
        if shared and not shared & _PEOPLE:
            return other, next((each for each in function.parameters if _stem(each) & shared), None)
    return None


def _stem(parameter: Parameter) -> set[str]:
    return {word.removesuffix("s") for word in re.findall(r"[a-z]+", parameter.name.lower())}


def lookup_for(function: Function, functions: Sequence[Function]) -> Function | None:
    """The function that tells who calls, for one that needs a name."""
    if not any(slot_of(each) == "name" for each in function.parameters):
        return None
    for other in functions:
        free = not any(each.required for each in other.parameters)
        if not other.writes and free and verb_of(other) == "find" and nouns_of(other) & _PEOPLE:
            return other
    return None


@dataclass
class Goal:
    """What the caller wants done: a function and what is known for it.

    `values` are by slot, in their final form; `said_day` the words of a day that has two readings. `checked` are the
    arguments with which free times were looked for, `subject` names the listed thing that is to be changed, `demanded`
    are slots that a result asked for though they are optional. `flexible`: any day will do.
    """

    function: Function
    values: dict[str, Any] = field(default_factory=dict)
    said_day: str = ""
    checked: dict[str, Any] | None = None
    listed: bool = False
    subject: str = ""
    demanded: set[str] = field(default_factory=set)
    flexible: bool = False
    confirmed: bool = False
    retried: int = 0

    @property
    def verb(self) -> str:
        """The kind of deed."""
        return verb_of(self.function)

    @property
    def slots(self) -> set[str]:
        """The slots of the function's parameters."""
        return {slot_of(each) for each in self.function.parameters}

    def missing(self) -> list[Parameter]:
        """What must be asked: what is required or demanded, and for whom something is booked."""
        return [each for each in self.function.parameters if self._wants(each) and not self.knows(each)]

    def _wants(self, parameter: Parameter) -> bool:
        slot = slot_of(parameter)
        return parameter.required or slot in self.demanded or (self.verb == "create" and slot == "name")

    def knows(self, parameter: Parameter) -> bool:
        """Whether there is a value for this parameter."""
        slot = slot_of(parameter)
        if slot == "datetime":
            return "date" in self.values and "time" in self.values
        return slot in self.values

    def arguments(self, function: Function | None = None) -> dict[str, Any]:
        """The arguments that are known, for the goal's function or one that helps it."""
        return {each.name: self._argument(each) for each in (function or self.function).parameters if self.knows(each)}

    def _argument(self, parameter: Parameter) -> Any:
        slot = slot_of(parameter)
        if slot == "datetime":
            return f"{self.values['date'].isoformat()}T{self.values['time']:%H:%M}"
        value = self.values[slot]
        if slot == "date":
            # Only the declared function knows what "next Tuesday" means here: let it ask, where it takes words.
            words_allowed = "as said" in parameter.description.lower()
            return self.said_day if self.said_day and words_allowed else value.isoformat()
        return f"{value:%H:%M}" if slot == "time" else value

    def settle(self, day: date | None, at: time | None) -> None:
        """Take a day and a time that were offered."""
        if day:
            self.values["date"], self.said_day = day, ""
        if at:
            self.values["time"] = at

    def forget(self, *slots: str) -> None:
        """Drop values that turned out wrong."""
        for slot in slots:
            self.values.pop(slot, None)
        if "date" in slots:
            self.said_day = ""
        self.checked = None

    def take(self, heard: Heard, asked: str = "") -> bool:
        """Fill in what was said; `asked` is the slot that was asked for. Whether anything changed."""
        before = (dict(self.values), self.said_day)
        if heard.days:
            self.values["date"] = heard.days[-1].value
            self.said_day = heard.days[-1].said if heard.days[-1].ambiguous else ""
        if heard.times:
            self.values["time"] = heard.times[-1]
        for slot, found in (("name", heard.names), ("phone", heard.phones), ("email", heard.emails)):
            if found:
                self.values[slot] = found[-1]
        for name, fitting in heard.choices.items():
            if len(fitting) == 1:
                self.values[name] = fitting[0].value
        for parameter in self.function.parameters:
            self._take_plain(parameter, heard, asked)
        return (self.values, self.said_day) != before

    def _take_plain(self, parameter: Parameter, heard: Heard, asked: str) -> None:
        slot = slot_of(parameter)
        is_asked = slot == asked
        if parameter.kind == "boolean" and (is_asked or heard.says(rf"\b{slot.replace('_', ' ')}\b")):
            self.values[slot] = not heard.no
        elif parameter.kind == "number" and heard.numbers and (is_asked or heard.numbers[0] > 1):
            self.values[slot] = heard.numbers[-1]
        elif parameter.kind == "phone" and is_asked and not heard.phones and heard.numbers:
            self.values[slot] = "".join(map(str, heard.numbers))
        elif is_asked and takes_any_words(parameter):
            self.values[slot] = heard.text

    def take_words(self, heard: Heard) -> None:
        """Words that are the value themselves: the message in "tell them I'll be late", the city in "weather in"."""
        texts = [each for each in self.function.parameters if each.required and takes_any_words(each)]
        if len(texts) == 1 and not self.knows(texts[0]):
            pattern = _TOLD if self.verb == "message" else _WHERE
            found = None if self.function.writes and self.verb != "message" else re.search(pattern, heard.text)
            if found:
                self.values[texts[0].name] = next(group for group in found.groups() if group).strip()


_TOLD = (
    r"\b(?:tell|ask) (?:them|him|her|the \w+)(?: that| to)? (.+)|\b((?:please )?call me back.*)"
    r"|\b((?:i'll|i will|i'm|i am) .*\blate.*)"
)
_WHERE = r"\b(?:in|for|of|about|near|to|at) ((?:(?!\b(?:today|tomorrow|tonight|on|please|this|next)\b)[\w' ])+)"
