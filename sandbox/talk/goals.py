"""What a caller wants done: the function, what is known for it, and what is still to be asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

from sandbox.declarations import Function, Parameter
from sandbox.talk.abilities import slot_of, takes_any_words, verb_of
from sandbox.talk.listening import Heard


@dataclass
class Goal:
    """What the caller wants done: a function and what is known for it.

    `values` are by slot, in their final form; `said_day` the words of a day that has two readings. `checked` are the
    arguments with which free times were looked for, `subject` names the listed thing that is to be changed, `demanded`
    are slots that a result asked for though they are optional, `extra` the parameters of functions that must help
    first, `tried` the names of those that did. `flexible`: any day will do.
    """

    function: Function
    values: dict[str, Any] = field(default_factory=dict)
    said_day: str = ""
    checked: dict[str, Any] | None = None
    listed: bool = False
    subject: str = ""
    demanded: set[str] = field(default_factory=set)
    extra: list[Parameter] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
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

    def slot(self, parameter: Parameter) -> str:
        """As `slot_of`, but the second day of a function (a departure) has a slot of its own."""
        days = [each for each in self.function.parameters if slot_of(each) == "date"]
        return parameter.name if parameter in days[1:] else slot_of(parameter)

    def missing(self) -> list[Parameter]:
        """What must be asked: what is required or demanded, and for whom something is booked."""
        return [each for each in self._parameters if self._wants(each) and not self.knows(each)]

    @property
    def _parameters(self) -> list[Parameter]:
        return [*self.function.parameters, *self.extra]

    def _wants(self, parameter: Parameter) -> bool:
        slot = slot_of(parameter)
        return parameter.required or slot in self.demanded or (self.verb == "create" and slot == "name")

    def knows(self, parameter: Parameter) -> bool:
        """Whether there is a value for this parameter."""
        slot = self.slot(parameter)
        if slot == "datetime":
            return "date" in self.values and "time" in self.values
        return slot in self.values

    def arguments(self, function: Function | None = None) -> dict[str, Any]:
        """The arguments that are known, for the goal's function or one that helps it."""
        return {each.name: self._argument(each) for each in (function or self.function).parameters if self.knows(each)}

    def _argument(self, parameter: Parameter) -> Any:
        slot = self.slot(parameter)
        if slot == "datetime":
            return f"{self.values['date'].isoformat()}T{self.values['time']:%H:%M}"
        value = self.values[slot]
        if slot == "date":
            # Only the declared function knows what "next Tuesday" means here: let it ask, where it takes words.
            words_allowed = "as said" in parameter.description.lower()
            return self.said_day if self.said_day and words_allowed else value.isoformat()
        if isinstance(value, date):
            return value.isoformat()
        return f"{value:%H:%M}" if slot == "time" else value

    def settle(self, day: date | None, at: time | None) -> None:
        """Take a day and a time that were offered."""
        if day:
            self.values["date"], self.said_day = day, ""
        if at:
            self.values["time"] = at

    def forget(self, *slots: str) -> None:
        """Drop values that turned out wrong."""
        for slot in ("date", "time") if "datetime" in slots else slots:
            self.values.pop(slot, None)
        if {"date", "datetime"} & set(slots):
            self.said_day, self.checked = "", None

    def take(self, heard: Heard, asked: str = "") -> bool:
        """Fill in what was said; `asked` is the slot that was asked for. Whether anything changed."""
        before = (dict(self.values), self.said_day)
        if any(self.slot(each) == asked and takes_any_words(each) for each in self._parameters):
            self.values[asked] = heard.text
            return True
        self._take_days(heard, asked)
        if heard.times:
            self.values["time"] = heard.times[-1]
        for slot, found in (("name", heard.names), ("phone", heard.phones), ("email", heard.emails)):
            if found:
                self.values[slot] = found[-1]
        for name, fitting in heard.choices.items():
            if len(fitting) == 1 and (name == asked or name not in self.values or heard.corrects):
                self.values[name] = fitting[0].value
        for parameter in self._parameters:
            self._take_plain(parameter, heard, asked)
        return (self.values, self.said_day) != before

    def _take_days(self, heard: Heard, asked: str) -> None:
        slots = [self.slot(each) for each in self.function.parameters if slot_of(each) == "date"]
        if len(slots) > 1 and heard.days:
            begin = slots.index(asked) if asked in slots else 0
            self.values |= {slot: day.value for slot, day in zip(slots[begin:], heard.days, strict=False)}
        elif heard.days:
            self.values["date"] = heard.days[-1].value
            self.said_day = heard.days[-1].said if heard.days[-1].ambiguous else ""

    def _take_plain(self, parameter: Parameter, heard: Heard, asked: str) -> None:
        slot = self.slot(parameter)
        is_asked = slot == asked
        if parameter.kind == "boolean" and (is_asked or heard.says(rf"\b{slot.replace('_', ' ')}\b")):
            self.values[slot] = not heard.no
        elif parameter.kind == "number" and heard.numbers and (is_asked or heard.numbers[0] > 1):
            self.values[slot] = heard.numbers[-1]
        elif parameter.kind == "phone" and is_asked and not heard.phones and heard.numbers:
            self.values[slot] = "".join(map(str, heard.numbers))

    def take_words(self, heard: Heard) -> None:
        """Words that are the value themselves: the message in "tell them I'll be late", the city in "weather in"."""
        texts = [
            each for each in self.function.parameters if each.required and takes_any_words(each) and each.kind != "id"
        ]
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
