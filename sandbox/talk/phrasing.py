"""The stand-in's sentences: questions made of a parameter's description, read-backs, hints as a person says them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, time
from typing import Any

from sandbox.declarations import Function, Parameter
from sandbox.english import MONTHS, WEEKDAYS, words
from sandbox.talk.abilities import is_person, slot_of
from sandbox.talk.goals import Goal

PREFACE = "I am a practice stand-in, not a real model."
NOT_HEARD = (
    "Sorry, I did not catch that.",
    "I am sorry, could you say that again?",
    "I still did not understand you.",
)
ANYTHING_ELSE = "Is there anything else?"
GOODBYE = "Thank you for calling. Goodbye."
HOW_CAN_I_HELP = "How can I help you?"
_LONGEST_HEAD = 12
_MOST_CHOICES = 4
_TEXTS = ("text", "content", "body", "message", "note", "words")


def sentence(text: str) -> str:
    """`text` with a capital first and an end."""
    text = " ".join(text.split())
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def say_day(day: date, today: date) -> str:
    """Wednesday, December 2; with the year where it is not this one."""
    year = f", {day.year}" if day.year != today.year else ""
    return f"{WEEKDAYS[day.weekday()].title()}, {MONTHS[day.month - 1].title()} {day.day}{year}"


def say_time(moment: time) -> str:
    """3 PM, 3:30 PM."""
    minutes = f":{moment.minute:02}" if moment.minute else ""
    return f"{moment.hour % 12 or 12}{minutes} {'AM' if moment.hour < 12 else 'PM'}"


def label_of(parameter: Parameter) -> str:
    """A parameter's name in words."""
    return " ".join(words(re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", parameter.name)))


def either(items: Sequence[str]) -> str:
    """a, b or c"""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"


def ask_for(parameter: Parameter, missing: Sequence[Parameter] = ()) -> str:
    """The question for one parameter. A day is asked together with its time where both are `missing`."""
    slot = slot_of(parameter)
    if parameter.choices:
        values = [choice.value for choice in parameter.choices]
        if len(values) <= _MOST_CHOICES:
            return f"Which {label_of(parameter)} would you like: {either(values)}?"
        return f"Which {label_of(parameter)} would you like? For example {either(values[:3])}."
    if slot == "date" and not set(words(label_of(parameter))) & {"date", "day"}:
        return f"What is {_head(parameter) or 'the ' + label_of(parameter)}?"
    if slot in ("date", "datetime"):
        with_time = slot == "datetime" or any(slot_of(each) == "time" for each in missing)
        return "For which day and time would you like it?" if with_time else "For which day would you like it?"
    if slot == "time":
        return "At what time would you like it?"
    head = _head(parameter)
    if parameter.kind == "name" and is_person(parameter):
        own = re.match(r"the ((?:first|full|last)\b.*?name)", head)
        return f"May I have {f'your {own[1]}' if own else head or 'your name'}?"
    if parameter.kind in ("phone", "email"):
        return f"What is {head or {'phone': 'your phone number', 'email': 'your e-mail address'}[parameter.kind]}?"
    if parameter.kind == "number":
        return f"What {label_of(parameter)} would you like?" if not head else f"What is {head}?"
    return f"What is {head or 'the ' + label_of(parameter)}?"


def ask_again_for(parameter: Parameter, missing: Sequence[Parameter] = ()) -> str:
    """The question for one parameter, the second time."""
    short = {"name": "And your name, please?", "phone": "And your phone number, please?", "time": "And at what time?"}
    return short.get(slot_of(parameter)) or ask_for(parameter, missing)


def _head(parameter: Parameter) -> str:
    """The description's first words as a thing to ask for: "the first and last name of ..."; "" if they are none."""
    head = re.split(r"[.,;:(]| as [A-Z]| in 24", parameter.description)[0].strip()
    head = re.sub(r"\b(the )?(caller|customer|user|client)'s\b", "your", head, flags=re.IGNORECASE)
    if not head or len(head.split()) > _LONGEST_HEAD or re.match(r"(only|what|which|true|how|if|as)\b", head.lower()):
        return ""
    head = head if head[:2].isupper() else head[0].lower() + head[1:]
    return head if re.match(r"(the|your|an?)\b", head) else f"the {head}"


def ask_thing(thing: str) -> str:
    """A question for what an instruction wants asked for."""
    return f"May I have {your(thing.split(', and for')[0].strip())}?"


def read_back(goal: Goal, today: date) -> str:
    """What is about to be done, as one phrase."""
    parts = [goal.subject] if goal.subject else []
    values = goal.values
    for parameter in goal.function.parameters:
        slot = slot_of(parameter)
        beside = slot in ("date", "time", "datetime", "name") or (goal.subject and parameter.kind in ("text", "id"))
        if goal.knows(parameter) and not beside:
            parts.append(_part(goal.function, parameter, values[slot]))
    own = {slot_of(each) for each in goal.function.parameters}
    moment = _moment(goal, own, today)
    text = ", ".join(parts)
    if moment:
        text = f"{text} {'to' if goal.subject and goal.verb == 'move' else 'on'} {moment}" if text else f"on {moment}"
    if "name" in own and values.get("name") and not goal.subject:
        text = f"{text} {'from' if goal.verb == 'message' else 'for'} {values['name']}".strip()
    return sentence(text) if text else ""


def _moment(goal: Goal, own: set[str], today: date) -> str:
    day, at = goal.values.get("date"), goal.values.get("time")
    if not own & {"date", "time", "datetime"}:
        return ""
    return " at ".join(([say_day(day, today)] if day else []) + ([say_time(at)] if at else []))


def _part(function: Function, parameter: Parameter, value: Any) -> str:
    if parameter.kind == "phone":
        return f"phone number {' '.join(str(value))}"
    if isinstance(value, bool):
        return label_of(parameter) if value else f"not {label_of(parameter)}"
    if parameter.choices:
        return str(value)
    label = label_of(parameter)
    return f"{function.verbs[-1] if label in _TEXTS else label}: {value}"


def shall_i(function: Function) -> str:
    """ "Shall I book the appointment?" """
    verbs = function.verbs
    nouns = [word for word in verbs[1:] if word not in ("the", "a", "an")]
    return f"Shall I {verbs[0]} the {' '.join(nouns)}?" if nouns else f"Shall I {verbs[0]} it?"


def question_from_hint(hint: str) -> str:
    """A hint that says what to ask, as the question; "" where it says something else (hints are not read aloud)."""
    if match := re.search(r"\bAsk whether (.+?) (?:is|are) meant", hint):
        return f"Do you mean {match[1]}?"
    if match := re.search(r"\bAsk which (?:one )?is (?:meant|right)[:,]? *([^.]*)", hint):
        return f"Which one do you mean: {match[1]}?" if match[1] else "Which one do you mean?"
    if match := re.search(r"\bAsk for ([^.;]+?)(?:,? and pass[^.]*|, for example[^.]*)?[.;]?$", hint.split(". ")[0]):
        return f"Could you tell me {your(match[1])}?"
    if match := re.search(r"\bOffer (.+?)\.", hint):
        return f"I can offer {match[1].replace(', or to', ', or')}."
    return ""


def your(text: str) -> str:
    """A text about the caller, as it is said to the caller."""
    text = re.sub(r"\b(the )?(caller|customer)'s\b", "your", text, flags=re.IGNORECASE)
    return re.sub(r"\bthe caller\b", "you", text, flags=re.IGNORECASE)


def say_fields(result: dict[str, Any]) -> str:
    """A result without words: its plain values, at most four."""
    plain = [
        f"{key.replace('_', ' ')}: {value}"
        for key, value in result.items()
        if isinstance(value, str | int | float)
        and not isinstance(value, bool)
        and key not in ("hint", "next_step", "ask")
    ]
    return sentence(", ".join(plain[:4]))
