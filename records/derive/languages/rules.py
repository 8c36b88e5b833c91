"""What a language's table of rules is made of; the tables are the other modules of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Deed = Literal[
    "booking",
    "change",
    "cancellation",
    "message",  # to the staff, who call back
    "record",  # in the caller's own file
    "transfer",
    "text",  # a text message to the caller
    "email",
    "anything",  # "consider it done"
]


@dataclass(frozen=True)
class Times:
    """Days and times of day. What lies within a date is no time.

    Groups of `dates`: ``month`` (a name or a number) and ``day``; or ``weekday``; or ``ahead`` (by name, of days from
    today). Groups of `times`: ``h``, ``m``; ``part`` (minutes by name: a quarter) with ``to`` where they are still to
    come to the hour; ``ap`` (am or pm); or ``noon``. A number behind a name only keeps it apart from another.
    """

    weekdays: Mapping[str, int]
    months: Mapping[str, int]
    numbers: Mapping[str, int]
    """Words of numbers and of ordinals."""
    parts: Mapping[str, int]
    ahead: Mapping[str, int]
    dates: re.Pattern[str]
    times: re.Pattern[str]
    link: re.Pattern[str]
    """What may stand between the parts of one moment."""
    also: re.Pattern[str]
    """What stands between one moment and the next of a list."""
    number: re.Pattern[str]
    """A number that ends the text before a time: the time is only the end of a span."""
    next_hour: re.Pattern[str] | None = None
    """Where this is matched the hour is the one to come: halb zehn."""


@dataclass(frozen=True)
class Rules:
    """How a language tells of deeds: patterns on plain clauses (`records.derive.spoken_deeds`)."""

    done: Mapping[Deed, re.Pattern[str]]
    """Told as done: "I've booked it"."""
    state: Mapping[Deed, re.Pattern[str]]
    """Told as how things stand, which may have been so before the call: "you're booked"."""
    announced: Mapping[Deed, re.Pattern[str]]
    """Told as about to be done: "I'll book it"."""
    sure: re.Pattern[str]
    """What makes no offer of what follows it, though it sounds like one: "I can confirm that"."""
    unless: re.Pattern[str]
    """What makes an offer of a whole sentence: "if you like"."""
    not_so: re.Pattern[str]
    """What makes a denial, a possibility or a wish of a clause where it stands before the deed's end."""
    asks_again: re.Pattern[str]
    """How a question begins that asks whether the sentence before it is right."""
    generic: re.Pattern[str]
    """Words by which a result may be told, however they are put."""
    several: Mapping[int, re.Pattern[str]]
    """Words for so many at once: both."""
    further: re.Pattern[str]
    """Words for one more: another, too."""
    times: Times


def any_of(*patterns: str) -> re.Pattern[str]:
    """One pattern of several."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


def words_of(*tables: Mapping[str, int]) -> str:
    """A pattern for the words of some tables, the longest first; a space in them may be a hyphen."""
    words = sorted({word for table in tables for word in table}, key=len, reverse=True)
    return "(?:" + "|".join(re.escape(word).replace(r"\ ", "[ -]") for word in words) + ")"


def numbered(words: str, first: int = 0) -> dict[str, int]:
    """The words of a text by their place; ``a/b`` are two for one place, a hyphen in a word becomes a space."""
    places = enumerate(words.split(), first)
    return {word.replace("-", " "): number for number, both in places for word in both.split("/")}
