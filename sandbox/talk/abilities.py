"""What the declared functions are for: which one a caller wants, which others help it. Found by name and description.

Nothing here knows a certain set of functions. What a function is about is read from the verb in its name ("book",
"cancel", "find"), its nouns and its parameters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sandbox.declarations import Function, Parameter
from sandbox.english import word_set, words
from sandbox.talk.listening import Heard, alike

_VERBS = {
    "create": word_set("book schedule reserve make arrange create order buy place register submit request"),
    "cancel": word_set("cancel delete remove drop"),
    "move": word_set("reschedule move postpone shift change"),
    "update": word_set("update correct fix edit modify"),
    "list": word_set("list show check track status"),
    "find": word_set("find search availability lookup get look"),
    "transfer": word_set("transfer connect escalate handoff"),
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
    r"\b(speak|talk) (to|with) (an? (real |actual )?(person|human)|some(one|body))\b": "transfer",
    r"\b(free (time|slot)s?|available|availability|openings|an opening|anything free)\b": "find",
}
_PRONOUN_AFTER = r"\b(make|change|move|book|cancel) (it|that|this|sure)\b"
_TELLING = word_set("create cancel move message transfer")
_NOT_NOUNS = word_set("for by of the a an id new to from with")
_AVAILABILITY = word_set("free available availability slot slots opening openings")
_PEOPLE = word_set("customer caller client patient contact guest member person profile account user")
_QUESTION_NAMES = word_set("question query")
_WHEN = frozenset(("date", "time", "datetime"))
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
    kinds = (kind for word in function.verbs for kind, group in _VERBS.items() if word in group)
    return next(kinds, "")


def nouns_of(function: Function) -> set[str]:
    """What a function is about, singular: book_appointment is about an appointment."""
    return {word.removesuffix("s") for word in function.verbs[1:] if word not in _NOT_NOUNS}


def is_availability(function: Function) -> bool:
    """Whether this function looks for free times."""
    said = set(function.verbs) | set(words(function.description))
    return not function.writes and bool(_slots(function) & _WHEN) and bool(said & _AVAILABILITY)


def question_parameter(function: Function) -> Parameter | None:
    """The parameter that takes a caller's question, if this function answers questions."""
    others = [each for each in function.parameters if each.required and each.name.lower() not in _QUESTION_NAMES]
    if function.writes or others:
        return None
    return next((each for each in function.parameters if each.name.lower() in _QUESTION_NAMES), None)


def _slots(function: Function) -> set[str]:
    return {slot_of(each) for each in function.parameters}


def _needs_nothing(function: Function) -> bool:
    return not any(each.required for each in function.parameters)


def _stem(parameter: Parameter) -> set[str]:
    return {word.removesuffix("s") for word in re.findall(r"[a-z]+", parameter.name.lower())} - {"id"}


class Abilities:
    """The declared functions and what each of them is to the others."""

    def __init__(self, functions: Sequence[Function] = ()) -> None:
        self.functions = tuple(functions)
        self.ending = next((each for each in functions if each.ends_call), None)
        self.messenger = next((each for each in functions if verb_of(each) == "message" and each.writes), None)
        self.answerer = next((each for each in functions if question_parameter(each)), None)
        self.mover = next((each for each in functions if verb_of(each) == "move" and _slots(each) & _WHEN), None)

    def named(self, name: str) -> Function | None:
        """The function of that name."""
        return next((each for each in self.functions if each.name == name), None)

    def mentioned(self, text: str) -> list[Function]:
        """The functions that a text names, in the order in which it does."""
        places = [(match.start(), each) for each in self.functions if (match := _mention(each, text))]
        return [each for _, each in sorted(places, key=lambda place: place[0])]

    def wanted(self, heard: Heard, next_step: str = "") -> tuple[Function | None, float]:
        """The function that fits what was said, and how well: 3 for its deed, 2 for its thing, less for its values.

        Where several fit alike, one that `next_step` mentions.
        """
        goals = [each for each in self.functions if not each.ends_call and each is not self.answerer]
        goals.sort(key=lambda each: _mention(each, next_step) is None)
        scored = [(_score(heard, function), -place, function) for place, function in enumerate(goals)]
        score, _, best = max(scored, key=lambda entry: entry[:2], default=(0.0, 0, None))
        if best is None or score < _WORTH_A_GOAL:
            return None, 0.0
        if is_availability(best):  # nobody asks what is free but to take it
            best = next((each for each in goals if self.availability(each) is best), best)
        return best, score

    def availability(self, function: Function) -> Function | None:
        """The function that says what times are free, for one that needs a time."""
        if not function.writes or not _slots(function) & {"time", "datetime"}:
            return None
        return next((each for each in self.functions if is_availability(each)), None)

    def listing(self, function: Function) -> tuple[Function, Parameter | None] | None:
        """The function that lists what this one changes, and the parameter that takes which of them is meant."""
        if verb_of(function) not in ("cancel", "move", "update"):
            return None
        for other in self.functions:
            if other.writes or is_availability(other) or not _needs_nothing(other):
                continue
            if takes := next((each for each in function.parameters if other.name in each.description), None):
                return other, takes
            shared = nouns_of(other) & nouns_of(function)
            if shared and not shared & _PEOPLE:
                return other, next((each for each in function.parameters if _stem(each) & shared), None)
        return None

    def lookup(self, function: Function) -> Function | None:
        """The function that tells who calls, for one that needs a name."""
        if "name" not in _slots(function):
            return None
        finds = (each for each in self.functions if verb_of(each) == "find" and nouns_of(each) & _PEOPLE)
        return next((each for each in finds if not each.writes and _needs_nothing(each)), None)

    def producers(self, parameter: Parameter, goal: Function) -> list[Function]:
        """The functions whose result has an id that only they know: those that look it up, then those that make it.

        Nothing is made but for something new: an order that is to be cancelled must be there already.
        """
        if parameter.kind != "id":
            return []
        about = [each for each in self.functions if each is not goal and nouns_of(each) & _stem(parameter)]
        reads = [each for each in about if verb_of(each) in ("find", "list")]
        return reads + [each for each in about if verb_of(goal) == "create" and verb_of(each) in ("create", "save")]


def _mention(function: Function, text: str) -> re.Match[str] | None:
    return re.search(rf"\b{re.escape(function.name)}\b", text)


def _score(heard: Heard, function: Function) -> float:
    verb = verb_of(function)
    said = {word.removesuffix("s") for word in heard.words}
    nouns = sum(any(alike(word, noun) for word in said) for noun in nouns_of(function))
    telling = verb in _TELLING or nouns or is_availability(function)
    score = 3.0 * bool(telling and verb in _deeds(heard)) + (0.5 + 1.5 * nouns if nouns else 0.0)
    described = {word for word in words(function.description) if len(word) > 4}
    score += min(1.0, 0.25 * len(described & set(heard.words)))
    if any(heard.choice(each.name) for each in function.parameters):
        score += 2.0 if verb == "create" else 1.0
    if (heard.days or heard.times) and _slots(function) & _WHEN:
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
