"""Telephone English: which words stand for numbers, dates, times, names, yes and no, and what they mean.

Pure functions from words to values. `words()` makes words of typed text and of recognised speech alike; each finder
returns what it found with the span of words that said it, so that no word is read twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Generic, TypeVar

T = TypeVar("T")

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"),
    *("twentieth", "twenty first", "twenty second", "twenty third", "twenty fourth", "twenty fifth"),
    *("twenty sixth", "twenty seventh", "twenty eighth", "twenty ninth", "thirtieth", "thirty first"),
)
NUMBERS = {word: value for value, word in enumerate(UNITS + TEENS)} | TENS
DIGITS = {word: str(value) for value, word in enumerate(UNITS[:10])} | {"oh": "0", "o": "0"}
DAY_PARTS = {"morning": "am", "afternoon": "pm", "evening": "pm", "night": "pm", "am": "am", "pm": "pm"}


def word_set(text: str) -> frozenset[str]:
    """The words of `text`, for word lists that stay readable."""
    return frozenset(text.split())


YES = word_set("yes yeah yep yup sure ok okay correct right exactly absolutely perfect great fine definitely certainly")
NO = word_set("no nope nah not don't wrong")
FIRST_NAMES = word_set(
    """james mary john patricia robert jennifer michael linda david elizabeth william barbara richard susan joseph
    jessica thomas sarah charles karen christopher lisa daniel nancy matthew betty anthony margaret mark sandra donald
    ashley steven kimberly paul emily andrew donna joshua michelle kenneth carol kevin amanda brian dorothy george
    melissa edward deborah ronald stephanie timothy rebecca jason sharon jeffrey laura ryan cynthia jacob kathleen gary
    amy nicholas angela eric shirley jonathan anna stephen brenda larry pamela justin emma scott nicole brandon helen
    benjamin samantha samuel katherine gregory christine frank debra alexander rachel raymond carolyn patrick janet
    jack catherine dennis maria jerry heather peter alice henry julia carlos diana luis grace adam olivia nathan sophia
    priya ana"""
)
LAST_NAMES = word_set(
    """smith johnson williams brown jones garcia miller davis rodriguez martinez hernandez lopez gonzalez wilson
    anderson thomas taylor moore jackson martin lee perez thompson white harris sanchez clark ramirez lewis robinson
    walker young allen king wright scott torres nguyen hill flores green adams nelson baker hall rivera campbell
    mitchell carter roberts gomez phillips evans turner diaz parker cruz edwards collins reyes stewart morris morales
    murphy cook rogers gutierrez ortiz morgan cooper peterson bailey reed kelly howard ramos kim cox ward richardson
    watson brooks chavez wood james bennett gray mendoza ruiz hughes price alvarez castillo sanders patel myers long
    ross foster jimenez miles doe fisher shah"""
)


@dataclass(frozen=True)
class Found(Generic[T]):
    """A value and the words `start` (inclusive) to `end` (exclusive) that said it."""

    value: T
    start: int
    end: int


_TOKEN = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:t\d{2}:\d{2})?"  # ISO date or date and time
    r"|\+?\d[\d\s().-]{5,}\d"  # telephone number
    r"|\d{1,2}:\d{2}"
    r"|\d+(?:st|nd|rd|th)?"
    r"|[^\W\d_]+(?:['’][^\W\d_]+)*",
)
_MERIDIEM = re.compile(r"(?<![a-z])([ap])\.?\s?m(?![a-z])\.?")


def words(text: str) -> list[str]:
    """Lower-case words of `text`, without punctuation; times, ISO dates and telephone numbers stay one word."""
    lowered = _MERIDIEM.sub(r" \1m ", text.lower().replace("’", "'")).replace("after noon", "afternoon")
    return [re.sub(r"[\s().-]", "", word) if _is_phone(word) else word for word in _TOKEN.findall(lowered)]


def _is_phone(word: str) -> bool:
    return not re.match(r"\d{4}-\d{2}-\d{2}", word) and sum(map(str.isdigit, word)) >= 7


def number_words(value: int) -> str:
    """0..9999 as a person says it: "forty two", "one hundred five"."""
    if value >= 100:
        size, name = (1000, "thousand") if value >= 1000 else (100, "hundred")
        rest = f" {number_words(value % size)}" if value % size else ""
        return f"{number_words(value // size)} {name}{rest}"
    if value < 20:
        return (UNITS + TEENS)[value]
    tens = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty"} | {
        70: "seventy",
        80: "eighty",
        90: "ninety",
    }
    return tens[value - value % 10] + (f" {UNITS[value % 10]}" if value % 10 else "")


def number_at(said: Sequence[str], at: int) -> Found[int] | None:
    """The number 0..99 that starts with word `at`: "4", "four", "forty five"."""
    if at >= len(said):
        return None
    word = said[at]
    if word.isdigit() and len(word) <= 2:
        return Found(int(word), at, at + 1)
    if word not in NUMBERS:
        return None
    unit = NUMBERS.get(said[at + 1], 99) if at + 1 < len(said) else 99
    if word in TENS and 1 <= unit <= 9:
        return Found(TENS[word] + unit, at, at + 2)
    return Found(NUMBERS[word], at, at + 1)


def ordinal_at(said: Sequence[str], at: int) -> Found[int] | None:
    """The day of a month or place in a list that starts with word `at`: "3rd", "third", "twenty first"."""
    for length in (2, 1):
        phrase = " ".join(said[at : at + length])
        if len(said[at : at + length]) == length and phrase in ORDINALS:
            return Found(ORDINALS.index(phrase) + 1, at, at + length)
    if at < len(said) and (match := re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)", said[at])):
        return Found(int(match[1]), at, at + 1)
    return None


def _day_number(said: Sequence[str], at: int) -> Found[int] | None:
    found = ordinal_at(said, at) or number_at(said, at)
    return found if found and 1 <= found.value <= 31 else None


def dates(said: Sequence[str], today: date) -> list[Found[date]]:
    """Every day that is named, relative to `today`; a weekday means the next one after today."""
    found = []
    at = 0
    while at < len(said):
        here = _date_at(said, at, today)
        if here:
            found.append(here)
        at = here.end if here else at + 1
    return found


def _date_at(said: Sequence[str], at: int, today: date) -> Found[date] | None:
    return _near_date(said, at, today) or _calendar_date(said, at, today)


def _near_date(said: Sequence[str], at: int, today: date) -> Found[date] | None:
    word, rest = said[at], list(said[at : at + 4])
    if match := re.match(r"\d{4}-\d{2}-\d{2}", word):
        try:
            return Found(date.fromisoformat(match[0]), at, at + 1)
        except ValueError:
            return None
    if rest == ["the", "day", "after", "tomorrow"]:
        return Found(today + timedelta(2), at, at + 4)
    if word in ("today", "tonight"):
        return Found(today, at, at + 1)
    if word == "tomorrow":
        return Found(today + timedelta(1), at, at + 1)
    if rest[:2] == ["next", "week"]:
        return Found(today + timedelta(7 - today.weekday()), at, at + 2)
    if word == "in" and (count := number_at(said, at + 1) or _article(said, at + 1)):
        unit = said[count.end] if count.end < len(said) else ""
        if unit in ("day", "days", "week", "weeks"):
            days = count.value * (7 if unit.startswith("week") else 1)
            return Found(today + timedelta(days), at, count.end + 1)
    skip = 1 if word in ("next", "this", "coming") else 0
    if at + skip < len(said) and said[at + skip].removesuffix("s") in WEEKDAYS:
        ahead = (WEEKDAYS.index(said[at + skip].removesuffix("s")) - today.weekday() - 1) % 7 + 1
        end = at + skip + 1
        named = _calendar_date(said, end, today) if end < len(said) else None
        return Found(named.value, at, named.end) if named else Found(today + timedelta(ahead), at, end)
    return None


def _article(said: Sequence[str], at: int) -> Found[int] | None:
    return Found(1, at, at + 1) if at < len(said) and said[at] in ("a", "an") else None


def _calendar_date(said: Sequence[str], at: int, today: date) -> Found[date] | None:
    """ "march third", "march 3 2027", "the third of march", "the fifteenth" (of the month that comes next)."""
    if said[at] in MONTHS:
        month = MONTHS.index(said[at]) + 1
        skip = 1 if said[at + 1 : at + 2] == ["the"] else 0
        if day := _day_number(said, at + 1 + skip):
            year = said[day.end] if day.end < len(said) and re.fullmatch(r"20\d\d", said[day.end]) else ""
            return _on(today, day.value, month, at, day.end + bool(year), int(year or 0))
        return None
    skip = 1 if said[at] == "the" else 0
    day = _day_number(said, at + skip) if at + skip < len(said) else None
    if not day:
        return None
    after = list(said[day.end : day.end + 2])
    month_at = day.end + (1 if after[:1] == ["of"] else 0)
    if month_at < len(said) and said[month_at] in MONTHS:
        return _on(today, day.value, MONTHS.index(said[month_at]) + 1, at, month_at + 1)
    if skip and ordinal_at(said, at + 1) and after[:1] not in (["one"], ["time"], ["slot"], ["option"]):
        return _on(today, day.value, None, at, day.end)
    return None


def _on(today: date, day: int, month: int | None, start: int, end: int, year: int = 0) -> Found[date] | None:
    """The first such day from today on."""
    for ahead in range(14):
        months = today.year * 12 + today.month - 1 + ahead
        try:
            candidate = date(months // 12, months % 12 + 1, day)
        except ValueError:
            continue
        in_month = month is None or candidate.month == month
        if in_month and candidate >= today and (not year or candidate.year == year):
            return Found(candidate, start, end)
    return None


_BEFORE_A_TIME = word_set("at by to around about it past until till than")


def times(said: Sequence[str], taken: Sequence[Found[date]] = (), *, bare: bool = False) -> list[Found[time]]:
    """Every time of day that is named outside the `taken` spans.

    Hours without am or pm are taken in a business's day: 1 to 7 are in the afternoon. `bare`: a lone number counts
    as a time (the answer to "at what time?"); otherwise it needs "at", "make it", "o'clock" or the like.
    """
    used = {at for span in taken for at in range(span.start, span.end)}
    found = []
    at = 0
    while at < len(said):
        here = None if at in used else _time_at(said, at, bare or (at > 0 and said[at - 1] in _BEFORE_A_TIME))
        if here and here.end - 1 not in used:
            found.append(_with_day_part(said, here))
        at = found[-1].end if found and found[-1].end > at else at + 1
    return [Found(time(*divmod(minutes.value, 60)), minutes.start, minutes.end) for minutes in found]


def _time_at(said: Sequence[str], at: int, bare: bool) -> Found[int] | None:
    """Minutes since midnight, the half of the day still open."""
    word = said[at]
    if word in ("noon", "midday", "midnight"):
        return Found(0 if word == "midnight" else 720, at, at + 1)
    if match := re.search(r"(?:^|t)(\d{1,2}):(\d{2})$", word):
        hour, minute = int(match[1]), int(match[2])
        return Found(hour * 60 + minute, at, at + 1) if hour < 24 and minute < 60 else None
    if past := _past_or_to(said, at):
        return past
    hour_said = number_at(said, at)
    if not hour_said or not 1 <= hour_said.value <= 12 or hour_said.end - at > 1:
        return None
    hour, end = hour_said.value, hour_said.end
    following = list(said[end : end + 4])
    if following[:1] == ["o'clock"]:
        return Found(hour * 60, at, end + 1)
    if minutes_said := _minutes_at(said, end):
        return Found(hour * 60 + minutes_said.value, at, minutes_said.end)
    named = following[:1] in (["am"], ["pm"]) or following[:2] == ["in", "the"]
    return Found(hour * 60, at, end) if bare or named else None


def _minutes_at(said: Sequence[str], at: int) -> Found[int] | None:
    if said[at : at + 1] == ["oh"] and (unit := number_at(said, at + 1)) and unit.value < 10:
        return Found(unit.value, at, unit.end)
    minute = number_at(said, at)
    return minute if minute and 10 <= minute.value < 60 else None


def _past_or_to(said: Sequence[str], at: int) -> Found[int] | None:
    at_amount = at + 1 if said[at] == "a" else at
    amount = {"half": 30, "quarter": 15}.get(said[at_amount]) if at_amount < len(said) else None
    end = at_amount + 1
    if amount is None:
        minutes = number_at(said, at)
        if not minutes or minutes.value >= 60:
            return None
        amount, end = minutes.value, minutes.end
        end += 1 if said[end : end + 1] == ["minutes"] else 0
    relation = said[end] if end < len(said) else ""
    hour = number_at(said, end + 1)
    if relation not in ("past", "after", "to", "of", "till") or not hour or not 1 <= hour.value <= 12:
        return None
    signed = amount if relation in ("past", "after") else -amount
    return Found(hour.value * 60 + signed, at, hour.end)


def _with_day_part(said: Sequence[str], found: Found[int]) -> Found[int]:
    end = found.end
    following = list(said[end : end + 3])
    if following[:2] == ["in", "the"] and following[2:3] and following[2] in DAY_PARTS:
        half, end = DAY_PARTS[following[2]], end + 3
    elif following[:2] == ["at", "night"]:
        half, end = "pm", end + 2
    elif following and following[0] in ("am", "pm"):
        half, end = following[0], end + 1
    else:
        half = ""
    minutes = found.value
    if half == "pm" and minutes < 720:
        minutes += 720
    elif half == "am" and minutes >= 720:
        minutes -= 720
    elif not half and 0 < minutes < 8 * 60 and not re.match(r"0\d:|\d{4}-", said[found.start]):
        minutes += 720
    return Found(minutes % 1440, found.start, end)


def phones(said: Sequence[str]) -> list[Found[str]]:
    """Every run of at least seven digits, said one by one, in pairs ("double five") or typed."""
    found = []
    at = 0
    while at < len(said):
        digits, end = _digits_from(said, at)
        if sum(map(str.isdigit, digits)) >= 7:
            found.append(Found(digits, at, end))
        at = max(end, at + 1)
    return found


def _digits_from(said: Sequence[str], at: int) -> tuple[str, int]:
    digits, end = "", at
    while end < len(said):
        word, after = said[end], said[end + 1] if end + 1 < len(said) else ""
        if re.fullmatch(r"\+?\d+", word):
            digits += word
        elif word == "plus" and not digits:
            digits += "+"
        elif word in ("double", "triple") and after in DIGITS:
            digits += DIGITS[after] * (2 if word == "double" else 3)
            end += 1
        elif word in DIGITS:
            digits += DIGITS[word]
        elif word in NUMBERS and digits:
            digits += str(NUMBERS[word])
        else:
            break
        end += 1
    return digits, end


_NAME_LEADS = (
    ("my", "name", "is"),
    ("my", "name's"),
    ("the", "name", "is"),
    ("name", "is"),
    ("this", "is"),
    ("under", "the", "name"),
    ("i'm",),
    ("i", "am"),
    ("it's",),
    ("it", "is"),
    ("for",),
    ("under",),
    ("called",),
)
_NOT_NAMES = word_set(
    "a an the and or is it it's i i'm my me you at on in for to of with yes no please speaking here calling actually "
    "sorry thanks thank about uh um well that that's this number phone appointment today tomorrow if so just not also "
    "can could would like want need have name"
) | set(WEEKDAYS)


def names(said: Sequence[str], *, bare: bool = False) -> list[Found[str]]:
    """Every personal name, in title case.

    After "my name is" or "this is" any words are a name; after weaker leads ("it's", "for") only well-known names are,
    unless `bare` says that a name was asked for: then the answer's words are one.
    """
    found: list[Found[str]] = []
    for at in range(len(said)):
        for lead in _NAME_LEADS:
            if tuple(said[at : at + len(lead)]) == lead:
                start = at + len(lead)
                end = _name_end(said, start, anything=bare or "name" in lead or lead == ("this", "is"))
                if end > start:
                    found.append(Found(" ".join(said[start:end]).title(), start, end))
                break
    found = [name for i, name in enumerate(found) if i == 0 or name.start != found[i - 1].start]
    if not found and bare:
        spans = [(at, _name_end(said, at, anything=True)) for at in range(len(said))]
        start, end = max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
        if end > start:
            found.append(Found(" ".join(said[start:end]).title(), start, end))
    return found


def _name_end(said: Sequence[str], start: int, *, anything: bool) -> int:
    known = FIRST_NAMES | LAST_NAMES
    end = start
    while end < len(said) and end - start < 3 and said[end] not in _NOT_NAMES and said[end].isalpha():
        if not anything and said[end] not in known:
            break
        end += 1
    return end


def without(said: Sequence[str], spans: Sequence[Found[T]]) -> Iterator[str]:
    """The words outside `spans`."""
    used = {at for span in spans for at in range(span.start, span.end)}
    return (word for at, word in enumerate(said) if at not in used)
