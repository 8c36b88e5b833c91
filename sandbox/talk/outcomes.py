"""What a function's result says: words to speak, what it offers to choose from, what it asks to be done next.

Results are any JSON object. Understood are the customs of functions made for language models: `say`, `message` or
`result` to be spoken, `error` with a `hint`, lists of `alternatives` or of whatever was found, `next_step`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time
from typing import Any

from sandbox.declarations import Function
from sandbox.english import dates, times, word_set, words
from sandbox.talk.abilities import Abilities, slot_of
from sandbox.talk.phrasing import say_day, say_fields, say_time, sentence, your

_SPOKEN = ("say", "message", "result", "output", "answer", "text", "summary")
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}\S*)?|\d{1,2}:\d{2}(?::\d{2})?")


@dataclass(frozen=True)
class Offer:
    """One thing to choose: how it is called, its day and time if it has them, and its fields."""

    label: str
    day: date | None = None
    at: time | None = None
    fields: dict[str, Any] = field(default_factory=dict)


def spoken(result: dict[str, Any]) -> str:
    """The words of a result that went well."""
    for key in _SPOKEN:
        value = result.get(key)
        if isinstance(value, str) and value.strip():
            return sentence(value)
        if isinstance(value, dict):
            return spoken(value)
    return say_fields(result)


def error_of(result: dict[str, Any]) -> str:
    """Why it went wrong; "" if it went well."""
    error = result.get("error")
    if isinstance(error, dict):
        error = error.get("message") or "That did not work"
    if error is None and (result.get("success") is False or result.get("ok") is False):
        error = result.get("reason") or result.get("message") or "That did not work"
    if not error:
        return ""
    words_ = re.sub(r"^Nothing was done\.\s*|(?<![\w,] )\b[a-z_]+: (?=[A-Z'\"])", "", str(error))
    return sentence(your(words_))


def asks(result: dict[str, Any]) -> str:
    """The question that a result wants put to the caller; "" if none."""
    value = result.get("ask")
    return value if isinstance(value, str) else ""


def offers(result: dict[str, Any], today: date) -> list[Offer]:
    """What a result gives to choose from, in its order."""
    listed = result.get("alternatives")
    if not isinstance(listed, list):
        listed = next((value for value in _values(result) if isinstance(value, list) and value), [])
    return [offer for item in listed if (offer := _offer(item, today))]


def _values(result: dict[str, Any]) -> Iterator[Any]:
    for value in result.values():
        if isinstance(value, dict):
            yield from _values(value)
        else:
            yield value


def offers_in_words(text: str, today: date) -> list[Offer]:
    """The days or times that a sentence gives to choose from: "Tuesday, November 24 or Tuesday, December 1"."""
    said = words(text)
    days = dates(said, today)
    if len(days) > 1:
        return [Offer(_title(said[each.start : each.end]), day=each.value) for each in days]
    found = times(said, days, bare=False)
    if len(found) > 1:
        return [Offer(say_time(each.value), at=each.value) for each in found]
    return []


def _title(said: Sequence[str]) -> str:
    return " ".join(word.capitalize() for word in said)


def _offer(item: Any, today: date) -> Offer | None:
    if isinstance(item, str):
        said = words(item)
        days = dates(said, today)
        found = times(said, days)
        return Offer(item, days[0].value if days else None, found[0].value if found else None)
    if not isinstance(item, dict):
        return None
    day, at = _moment(item, today)
    label = next((str(item[key]) for key in ("when", "label", "title", "text", "say") if item.get(key)), "")
    return Offer(label or " ".join(_telling(item)), day, at, item)


def _telling(item: dict[str, Any]) -> list[str]:
    return [str(value) for value in item.values() if isinstance(value, str) and not _ISO.fullmatch(value)]


def _moment(item: dict[str, Any], today: date) -> tuple[date | None, time | None]:
    day, at = None, None
    for value in item.values():
        if isinstance(value, str) and _ISO.fullmatch(value):
            said = words(value.lower()[:16])
            found_days = dates(said, today)
            day = day or (found_days[0].value if found_days else None)
            found_times = times(said, ())
            at = at or (found_times[0].value if found_times else None)
    return day, at


def titled(found: list[Offer], result: dict[str, Any]) -> list[Offer]:
    """The same with the words that the result has for each: "Cleaning with June Abbott on Tuesday; Filling ..."."""
    parts = [part.strip(" .") for part in spoken(result).split(";")]
    if len(parts) != len(found):
        return [replace(each, label=", ".join(_telling(each.fields)) or each.label) for each in found]
    return [replace(each, label=part) for each, part in zip(found, parts, strict=True)]


def say_offer(offer: Offer, today: date) -> str:
    """An offered time: "Wednesday, December 2 at 11 AM"."""
    parts = ([say_day(offer.day, today)] if offer.day else []) + ([say_time(offer.at)] if offer.at else [])
    return " at ".join(parts) or offer.label


def task_of(next_step: str, abilities: Abilities) -> tuple[Function, str] | None:
    """What a `next_step` wants asked and kept: "Ask for the address. Save it with add_note."

    The function takes one text; the other half is what to ask for, in the step's words.
    """
    instruction = re.split(r"Functions for now|Available", next_step)[0]
    wish = re.search(r"\bAsk (?:the caller )?for ([^.:;]+)", instruction)
    for each in abilities.mentioned(instruction):
        required = [part for part in each.parameters if part.required]
        if wish and each.writes and len(required) == 1 and required[0].kind == "text":
            return each, wish[1]
    return None


_NAMES_OF = {
    "phone": r"phone|telephone|number",
    "name": r"name",
    "email": r"e-?mail",
    "date": r"day|date",
    "time": r"time",
    "datetime": r"day|date|time",
}


def slots_named(text: str, function: Function) -> set[str]:
    """The slots of `function` that a text asks for: "Ask for a phone number and pass it as phone."."""
    asked = " ".join(
        part for part in re.split(r"(?<=[.;])\s", text) if re.search(r"\b(ask|pass|give|need)\b", part, re.I)
    )
    found = set()
    for parameter in function.parameters:
        slot = slot_of(parameter)
        pattern = _NAMES_OF.get(slot) or re.escape(parameter.name.replace("_", " "))
        if re.search(rf"\b({pattern})\b", asked, re.IGNORECASE):
            found.add(slot)
    return found


def name_in(result: dict[str, Any]) -> str:
    """The name of the person whom a lookup found; "" if it found nobody, or is not sure."""
    unsure = re.search(r"\bask\b.*\bname\b", str(result.get("hint", "")), re.IGNORECASE)
    if unsure or error_of(result) or result.get("known") is False or result.get("found") is False:
        return ""
    for key in ("name", "full_name", "customer_name"):
        if isinstance(result.get(key), str):
            return str(result[key])
    return next((name for value in result.values() if isinstance(value, dict) and (name := name_in(value))), "")


_LABELS = {
    r"hours?|open|opens?|close|closes|closed": r"hours",
    r"address|located|location|where|directions": r"address|location",
    r"phone|telephone": r"phone",
    r"services?|offer": r"services",
}
_NOT_ABOUT = word_set(
    "what when where which who how do does did is are can could you your the a an i it to of for on in at my we be have"
    " has there any tell me about much many please would like with and or take takes need know get"
)


def answer_of(result: dict[str, Any], question: str, instruction: str) -> str:
    """The answer to a question: what a function found, unless the instruction itself plainly tells it."""
    if fact := fact_in(instruction, question):
        return fact
    return error_of(result) or spoken(result)


def fact_in(instruction: str, question: str) -> str:
    """A line "Opening hours: ..." for a question about hours; the part about a thing for what it costs or takes."""
    asked = words(question)
    if set(asked) & {"much", "cost", "costs", "price", "long"}:
        about = {word for word in asked if len(word) > 3} - _NOT_ABOUT - {"cost", "costs", "price", "long"}
        for part in re.split(r"[;\n]|(?<=:) ", instruction):
            head = part.split("(")[0]
            if "(" in part and about and about & set(words(head)) and len(head.split()) < 6:
                inside = re.split(r", also called|, with ", part.split("(", 1)[1].rstrip(" ).;"))[0]
                return sentence(f"{head.strip()}: {inside}")
    for pattern, label in _LABELS.items():
        is_about = any(re.fullmatch(pattern, word) for word in asked) and len(set(asked) - _NOT_ABOUT) <= 3
        line = re.search(rf"(?im)^((?:[\w ]*)(?:{label})): *(.{{3,250}})$", instruction)
        if is_about and line:
            return sentence(f"{line[1]}: {line[2]}")
    return ""


def identifier(result: dict[str, Any], parameter: str) -> Any:
    """The value for a parameter like customer_id in the result of what looks customers up or makes them; None if it
    has none."""
    if error_of(result):
        return None
    for key in (parameter, parameter.removesuffix("_id"), "id", "number"):
        if isinstance(result.get(key), str | int) and not isinstance(result[key], bool):
            return result[key]
    for value in result.values():
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict) and (found := identifier(inner, parameter)) is not None:
            return found
    return None
