"""Days and times as people say them, and back into words.

Everything is relative to now in the business's zone. What has two readings ("next Tuesday" said on a Monday, a bare
"seven" where the business is open at both) is refused with a hint that names both, because a wrong week is worse than
a question. Written forms (2026-12-01, 15:00) are always understood; spoken ones in English.
"""

from __future__ import annotations

import calendar
import re
from datetime import date, datetime, time, timedelta

from bot.errors import NotUnderstood
from bot.tools.registry import Here
from desk.business import WEEKDAYS, minutes_of

_DAYS = {day.lower(): number for number, day in enumerate(WEEKDAYS)}
_DAYS |= {"mon": 0, "tue": 1, "tues": 1, "wed": 2, "thu": 3, "thur": 3, "thurs": 3, "fri": 4, "sat": 5, "sun": 6}
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_MONTHS |= {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name} | {"sept": 9}
_UNITS = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
NUMBERS = {word: number for number, word in enumerate(_UNITS)} | {"oh": 0, "o": 0}
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_ORDINALS = {
    word: number
    for number, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "  # noqa: SIM905
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        start=1,
    )
} | {"thirtieth": 30}
_MONTH_FIRST = frozenset({"US", "PH", "PW", "FM", "MH", "PR", "GU", "AS", "VI", "MP"})
_RECENT = timedelta(days=60)
"""A date without its year that is not longer past than this was hardly meant for next year."""
_SOON = timedelta(days=14)

ASK_DAY = "Ask for the day, for example Tuesday, December 1."
ASK_TIME = "Ask for the time, for example half past three in the afternoon."


# -- into words --------------------------------------------------------------------------------------------------------


def say_day(day: date, today: date) -> str:
    """A day as it is spoken: Tuesday, December 1; with the year if it is not this one."""
    words = f"{WEEKDAYS[day.weekday()]}, {calendar.month_name[day.month]} {day.day}"
    return words if day.year == today.year else f"{words}, {day.year}"


def say_time(moment: time | datetime) -> str:
    """A time as it is spoken: 3:00 PM."""
    return f"{moment.hour % 12 or 12}:{moment.minute:02} {'AM' if moment.hour < 12 else 'PM'}"


def say_when(moment: datetime, now: datetime) -> str:
    """A local moment as it is spoken: Tuesday, December 1 at 3:00 PM."""
    return f"{say_day(moment.date(), now.date())} at {say_time(moment)}"


# -- days --------------------------------------------------------------------------------------------------------------


def understand_day(said: str, here: Here) -> date:
    """One day, today or later. Raises NotUnderstood."""
    first, last = understand_days(said, here)
    if first != last:
        raise NotUnderstood(f"{said!r} is more than one day.", ASK_DAY)
    return first


def understand_days(said: str, here: Here) -> tuple[date, date]:
    """First and last day of what was said ("next week", "tomorrow"), from today on. Raises NotUnderstood."""
    today, words = here.now.date(), _fold_day(said)
    if found := _stretch(words, today):
        return found
    day = _day(words, said, here)
    if day < today:
        raise NotUnderstood(f"{say_day(day, today)} has passed; today is {say_day(today, today)}.", ASK_DAY)
    return day, day


def _fold_day(said: str) -> str:
    words = " ".join(re.sub(r"[,!?]", " ", said.casefold()).split())
    if re.match(r"\d{4}-\d\d-\d\dt", words):
        return words[:10]
    words = re.sub(r"\s+(at|around|about|by)\s+(\d{1,2}\b|noon|half|quarter|" + "|".join(_UNITS) + r").*$", "", words)
    words = re.sub(r"\s*\b((in|during) the |early |late )?(morning|afternoon|evening|night)$", "", words)
    return re.sub(r"^(on|for|the|this coming|coming|please)\s+", "", words).strip(" .")


def _stretch(words: str, today: date) -> tuple[date, date] | None:
    monday = today - timedelta(days=today.weekday())
    if re.fullmatch(r"any ?(day|time)|asap|as soon as possible|soon|(the )?(soonest|earliest|next available).*", words):
        return today, today + _SOON
    if words == "this week":
        return today, monday + timedelta(days=6)
    if words == "next week":
        return monday + timedelta(days=7), monday + timedelta(days=13)
    if words in ("weekend", "this weekend", "the weekend"):
        return max(today, monday + timedelta(days=5)), monday + timedelta(days=6)
    if match := re.fullmatch(r"(?:in |this |next )?(\w+)", words):
        month = today.month if words == "this month" else today.month % 12 + 1 if words == "next month" else None
        month = month or (_MONTHS.get(match[1]) if not words.startswith("next") else None)
        if month:
            year = today.year + (month < today.month)
            last = date(year, month, calendar.monthrange(year, month)[1])
            return max(today, last.replace(day=1)), last
    return None


def _day(words: str, said: str, here: Here) -> date:
    today = here.now.date()
    if words in ("today", "tonight", "now"):
        return today
    if words == "tomorrow":
        return today + timedelta(days=1)
    if words in ("day after tomorrow", "the day after tomorrow"):
        return today + timedelta(days=2)
    if match := re.fullmatch(r"in (\w+) (days?|weeks?)|(\w+) (days?|weeks?) from (now|today)", words):
        count = _number([match[1] or match[3]])
        if count is not None and count <= 366:
            return today + timedelta(days=count * (7 if (match[2] or match[4]).startswith("week") else 1))
    if match := re.fullmatch(r"(?:a|one) week from (.+)|(.+?) (?:a )?week", words):
        return _day((match[1] or match[2]).removeprefix("on "), said, here) + timedelta(days=7)
    if match := re.fullmatch(r"(this |next |coming )?(\w+)", words):
        weekday = _DAYS.get(match[2])
        if weekday is not None:
            return _weekday(weekday, (match[1] or "").strip(), today)
    return _calendar_day(words, said, here)


def _weekday(weekday: int, which: str, today: date) -> date:
    """ "Next" means next week's to some callers and the coming one to others; only where both agree is it taken."""
    ahead = (weekday - today.weekday()) % 7
    name = WEEKDAYS[weekday]
    if ahead == 0:
        if which == "this":
            return today
        if which != "next":
            in_a_week = say_day(today + timedelta(days=7), today)
            raise NotUnderstood(f"Today is {name}.", f"Ask whether today or {in_a_week} is meant.")
        return today + timedelta(days=7)
    coming = today + timedelta(days=ahead)
    if which == "next" and today.weekday() < weekday:
        later = say_day(coming + timedelta(days=7), today)
        raise NotUnderstood(
            f"Next {name} may mean two days.", f"Ask whether {say_day(coming, today)} or {later} is meant."
        )
    return coming


def _calendar_day(words: str, said: str, here: Here) -> date:
    """A day by its number: with month, year and weekday as far as they were said."""
    if match := re.fullmatch(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", words):
        return _date(int(match[1]), int(match[2]), int(match[3]), said)
    tokens = [token for token in re.split(r"[\s-]+", words) if token not in ("the", "of", "and", "in", "on")]
    weekday = next((_DAYS[token.rstrip(".")] for token in tokens if token.rstrip(".") in _DAYS), None)
    tokens = [token for token in tokens if token.rstrip(".") not in _DAYS]
    if len(tokens) == 1 and (match := re.fullmatch(r"(\d{1,2})([./])(\d{1,2})[./]?(\d{4}|\d{2})?", tokens[0])):
        month: int | None
        month, number = _month_and_day(int(match[1]), int(match[3]), match[2], here)
        year = int(match[4]) + (2000 if len(match[4]) == 2 else 0) if match[4] else None
    else:
        months = [_MONTHS[token.rstrip(".")] for token in tokens if token.rstrip(".") in _MONTHS]
        rest = [token.rstrip(".") for token in tokens if token.rstrip(".") not in _MONTHS]
        number_found, year = _day_and_year(rest)
        if number_found is None or len(months) > 1 or (not months and year):
            raise NotUnderstood(f"{said[:40]!r} is not a day.", ASK_DAY)
        month, number = (months[0] if months else None), number_found
    found = _complete(number, month, year, said, here.now.date())
    if weekday is not None and found.weekday() != weekday:
        today = here.now.date()
        raise NotUnderstood(
            f"{say_day(found, today)} is not a {WEEKDAYS[weekday]}.", "Ask which is right, the weekday or the date."
        )
    return found


def _month_and_day(first: int, second: int, separator: str, here: Here) -> tuple[int, int]:
    """12/1 is December 1 in the US and January 12 in most countries; with points the day always comes first."""
    month_first = separator == "/" and here.business.phone_country in _MONTH_FIRST
    month, day = (first, second) if month_first else (second, first)
    if separator == "/" and here.business.phone_country == "CA" and first <= 12 and second <= 12 and first != second:
        raise NotUnderstood(f"{first}/{second} may mean two days.", "Ask for the month by its name.")
    return (month, day) if month <= 12 else (day, month)


def _day_and_year(tokens: list[str]) -> tuple[int | None, int | None]:
    """The number of the day and the year in what is left of the words."""
    for cut in range(len(tokens), 0, -1):
        head, tail = tokens[:cut], tokens[cut:]
        number = _number([re.sub(r"^(\d{1,2})(st|nd|rd|th)$", r"\1", token) for token in head])
        year = _year(tail)
        if number is not None and 1 <= number <= 31 and (not tail or year):
            return number, year
    return None, None


def _year(tokens: list[str]) -> int | None:
    if not tokens:
        return None
    if len(tokens) == 1 and re.fullmatch(r"2\d{3}", tokens[0]):
        return int(tokens[0])
    if tokens[:2] == ["two", "thousand"]:
        rest = _number(tokens[2:]) if tokens[2:] else 0
        return None if rest is None else 2000 + rest
    if tokens[0] == "twenty" and (rest := _number(tokens[1:])) is not None:
        return 2000 + rest
    return None


def _number(tokens: list[str]) -> int | None:
    """A number below 100: 21, twenty one, twenty first, a."""
    if len(tokens) == 1:
        token = tokens[0]
        if token.isascii() and token.isdigit() and len(token) <= 3:
            return int(token)
        if token in ("a", "an"):
            return 1
        return NUMBERS.get(token, _TENS.get(token, _ORDINALS.get(token)))
    if len(tokens) == 2 and tokens[0] in _TENS:
        unit = NUMBERS.get(tokens[1], _ORDINALS.get(tokens[1]))
        return _TENS[tokens[0]] + unit if unit is not None and 1 <= unit <= 9 else None
    return None


def _complete(number: int, month: int | None, year: int | None, said: str, today: date) -> date:
    """The date meant by a day's number; without month or year the next one there is."""
    if month is None:
        months = ((today.year + (today.month - 1 + n) // 12, (today.month - 1 + n) % 12 + 1) for n in range(4))
        for y, m in months:
            if number <= calendar.monthrange(y, m)[1] and (found := date(y, m, number)) >= today:
                return found
        raise NotUnderstood(f"{said[:40]!r} is not a day.", ASK_DAY)
    if year is not None:
        return _date(year, month, number, said)
    if month == 2 and number == 29:
        year = next(y for y in range(today.year, today.year + 9) if calendar.isleap(y) and date(y, 2, 29) >= today)
        return date(year, 2, 29)
    found = _date(today.year, month, number, said)
    return found if found >= today - _RECENT else found.replace(year=today.year + 1)


def _date(year: int, month: int, day: int, said: str) -> date:
    try:
        return date(year, month, day)
    except ValueError:
        raise NotUnderstood(f"There is no such day as {said[:40]!r}.", ASK_DAY) from None


# -- times -------------------------------------------------------------------------------------------------------------


def understand_time(said: str, here: Here) -> time:
    """A time of day. One said without AM or PM is the one at which the business is open. Raises NotUnderstood."""
    words = said.casefold().replace("’", "'")
    if match := re.fullmatch(
        r"(?:\d{4}-\d\d-\d\d[t ])?([01]\d|2[0-3]):([0-5]\d)(?::\d\d(?:\.\d+)?)?(z|[+-]\d\d:?\d\d)?", words
    ):
        if match[3]:
            raise NotUnderstood("The time has a time zone.", f"Give local time in {here.business.timezone}, as 15:00.")
        return time(int(match[1]), int(match[2]))
    half, words = _half_of_day(" ".join(re.sub(r"[,!?]", " ", words).split()))
    if words in ("noon", "midday", "12 noon", "twelve noon"):
        return time(12)
    if words in ("midnight", "12 midnight"):
        return time(0)
    minutes = _minutes(re.sub(r"^(at|around|about|by|for)\s+", "", words))
    if minutes is None:
        raise NotUnderstood(f"{said[:40]!r} is not a time.", ASK_TIME)
    return _resolve(minutes, half, here)


def _half_of_day(words: str) -> tuple[str, str]:
    """Whether it was said to be AM or PM ("" if not), and the words without that."""
    if match := re.fullmatch(r"(.*?)\s*\b(a\.?\s?m\.?|(?:in the |this |tomorrow )?morning)", words):
        return "am", match[1]
    if match := re.fullmatch(
        r"(.*?)\s*(?<=[\s\d])(am|pm|p\.?\s?m\.?|(?:in the |this )?(?:afternoon|evening)|at night|tonight)", words
    ):
        return ("am" if match[2] == "am" else "pm"), match[1]
    return "", words


def _minutes(words: str) -> int | None:
    """Minutes since midnight (or noon, if the hour is below 13) of what a clock is said to show."""
    words = re.sub(r"\s*o'? ?clock$", "", words).strip()
    if match := re.fullmatch(r"(\d{1,2})(?:\s*[:.h]\s*(\d{2}))?(?: hours)?h?", words):
        return _clock(int(match[1]), int(match[2] or 0))
    if match := re.fullmatch(r"([01]\d|2[0-3])([0-5]\d)(?: hours)?", words):
        return _clock(int(match[1]), int(match[2]))
    if match := re.fullmatch(
        r"(half|quarter|a quarter|[\w-]+)(?: minutes)? (past|after|to|before|till|of) ([\w-]+)", words
    ):
        named = {"half": 30, "quarter": 15, "a quarter": 15}.get(match[1])
        part, hour = named or _number(match[1].split("-")), _number(match[3].split("-"))
        if part is None or hour is None or not 0 < part < 60 or (part == 30 and match[2] not in ("past", "after")):
            return None
        if match[2] in ("past", "after"):
            return _clock(hour, part)
        return _clock(hour - 1 if hour > 1 else 12, 60 - part)
    tokens = re.split(r"[\s-]+", words)
    for cut in (1, 2):
        hour, rest = _number(tokens[:cut]), tokens[cut:]
        minute = _number([t for t in rest if t not in ("oh", "o")]) if rest else 0
        if hour is not None and minute is not None and (not rest or minute >= 10 or rest[0] in ("oh", "o")):
            return _clock(hour, minute)
    return None


def _clock(hour: int, minute: int) -> int | None:
    return hour * 60 + minute if hour < 24 and minute < 60 else None


def _resolve(minutes: int, half: str, here: Here) -> time:
    hour, minute = divmod(minutes, 60)
    if hour > 12 or hour == 0:
        if half == "am" and hour > 12:
            raise NotUnderstood(f"{hour}:{minute:02} is not in the morning.", ASK_TIME)
        return time(hour, minute)
    readings = [time(hour % 12, minute), time(hour % 12 + 12, minute)]
    if half:
        return readings[half == "pm"]
    open_readings = [reading for reading in readings if _ever_open(reading, here)]
    if len(open_readings) == 1:
        return open_readings[0]
    words = " or ".join(map(say_time, readings))
    problem = "both are within opening hours" if open_readings else "neither is within opening hours"
    raise NotUnderstood(f"It is not clear whether {words} is meant; {problem}.", f"Ask whether {words} is meant.")


def _ever_open(moment: time, here: Here) -> bool:
    minute = moment.hour * 60 + moment.minute
    periods = [minutes_of(period) for week in here.business.hours.values() for period in week]
    return any(opens <= minute < closes for opens, closes in periods)
