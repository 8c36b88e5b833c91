"""The days and times that words name, as far as they are certain, and whether a moment agrees with them.

What is named is compared and nothing is guessed: "at nine" agrees with nine in the morning and in the evening, and a
sentence with no day in it agrees with every day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from records.derive.languages import Times

_LAST_HOUR = 24


@dataclass(frozen=True)
class ClockTime:
    """A time of day; `exact` where it is told which half of the day is meant."""

    hour: int
    minute: int
    exact: bool


@dataclass(frozen=True)
class Moment:
    """A day, a time of it, or both, as far as they were named. `times` are alternatives: the ends of a span."""

    weekday: int | None = None
    month: int | None = None
    day: int | None = None
    ahead: int | None = None
    """Days from the day of the call."""
    times: tuple[ClockTime, ...] = ()

    @property
    def has_day(self) -> bool:
        """Whether a day is named."""
        return (self.weekday, self.day, self.ahead) != (None, None, None)

    def agrees(self, start: datetime, today: date | None) -> bool:
        """Whether a local moment may be the one that is named; `today` is the day of the call."""
        if self.weekday is not None and self.weekday != start.weekday():
            return False
        if self.month is not None and self.month != start.month:
            return False
        if self.day is not None and self.day != start.day:
            return False
        if self.ahead is not None and today is not None and start.date() != today + timedelta(days=self.ahead):
            return False
        return not self.times or any(_is_at(clock_time, start) for clock_time in self.times)


def _is_at(told: ClockTime, start: datetime) -> bool:
    if told.minute != start.minute:
        return False
    return told.hour == start.hour if told.exact else told.hour % 12 == start.hour % 12


@dataclass(frozen=True)
class _Part:
    start: int
    end: int
    moment: Moment


def moments(text: str, times: Times) -> list[list[Moment]]:
    """The moments that plain text names: lists of those that are told in one breath ("Tuesday at nine and Friday")."""
    groups: list[list[Moment]] = []
    end = None
    for part in _parts(text, times):
        between = "" if end is None else text[end : part.start]
        if end is not None and times.link.fullmatch(between) and (joined := _joined(groups[-1][-1], part.moment)):
            groups[-1][-1] = joined
        elif end is not None and (times.also.fullmatch(between) or times.link.fullmatch(between)):
            groups[-1].append(_with_day_of(groups[-1][-1], part.moment))
        elif end is not None and _is_span(text, groups[-1][-1], part, between):
            last = groups[-1][-1]
            groups[-1][-1] = replace(last, times=(*last.times, *part.moment.times))
        else:
            groups.append([part.moment])
        end = part.end
    return groups


_SPAN = re.compile(r" ?(?:to|until|till|-|–|bis|hasta|a|à|jusqu'à) ?")


def _is_span(text: str, last: Moment, part: _Part, between: str) -> bool:
    return bool(last.times and not part.moment.has_day and _SPAN.fullmatch(between))


def _joined(one: Moment, other: Moment) -> Moment | None:
    """Two parts of one moment; None where they tell the same part of it twice."""
    if one.times and other.times:
        return None
    if (one.weekday is not None and other.weekday is not None) or (one.day is not None and other.day is not None):
        return None
    if one.ahead is not None and other.ahead is not None:
        return None
    return Moment(
        weekday=one.weekday if other.weekday is None else other.weekday,
        month=one.month if other.month is None else other.month,
        day=one.day if other.day is None else other.day,
        ahead=one.ahead if other.ahead is None else other.ahead,
        times=one.times or other.times,
    )


def _with_day_of(before: Moment, moment: Moment) -> Moment:
    """ "Tuesday at nine and at ten": the second is on the day of the first."""
    return moment if moment.has_day else replace(before, times=moment.times)


def _parts(text: str, times: Times) -> Iterator[_Part]:
    found = [_Part(*match.span(), moment) for match in times.dates.finditer(text) if (moment := _day(match, times))]
    for match in times.times.finditer(text):
        if any(part.start < match.end() and match.start() < part.end for part in found if part.moment.has_day):
            continue
        before = max((part.end for part in found if part.end <= match.start()), default=0)
        clock = _clock_time(match, times)
        # "Nine to ten o'clock": the first number is no time to us, so the second is not the beginning.
        if clock is not None and not times.number.search(text[before : match.start()]):
            found.append(_Part(*match.span(), Moment(times=(clock,))))
    return iter(sorted(found, key=lambda part: part.start))


def _day(match: re.Match[str], times: Times) -> Moment | None:
    told = _told(match)
    if "weekday" in told:
        return Moment(weekday=times.weekdays[told["weekday"]])
    if "ahead" in told:
        return Moment(ahead=times.ahead[told["ahead"].replace("-", " ")])
    day = _number(told["day"], times)
    month = told.get("month")
    month_number = None if month is None else times.months.get(month) or _number(month, times)
    if day is None or not 1 <= day <= 31 or (month_number is not None and not 1 <= month_number <= 12):
        return None
    return Moment(month=month_number, day=day)


def _clock_time(match: re.Match[str], times: Times) -> ClockTime | None:
    told = _told(match)
    if "noon" in told:
        return ClockTime(12, 0, True)
    hour, minute = _number(told["h"], times), 0
    if "m" in told:
        minute_told = _number(told["m"], times)
        if minute_told is None:
            return None
        minute = minute_told
    if hour is None or hour > _LAST_HOUR or minute > 59:
        return None
    if "part" in told:
        part = times.parts.get(told["part"].replace("-", " "))
        part = _number(told["part"].split(" min")[0], times) if part is None else part
        if part is None:
            return None
        hour, minute = (hour - 1, 60 - part) if "to" in told else (hour, part)
    if times.next_hour and (early := times.next_hour.match(match[0])):
        hour, minute = hour - 1, 30 if early[0] == "halb " else 45
    if ap := told.get("ap"):
        return ClockTime(hour % 12 + (12 if ap == "pm" else 0), minute, True)
    return ClockTime(hour % 24, minute, exact=hour > 12 or hour == 0)


def _told(match: re.Match[str]) -> dict[str, str]:
    """The groups that matched, by their names without the numbers that tell them apart."""
    return {name.rstrip("0123456789"): value for name, value in match.groupdict().items() if value is not None}


def _number(word: str, times: Times) -> int | None:
    word = word.replace("-", " ")
    if word in times.numbers:
        return times.numbers[word]
    digits = re.match(r"\d+", word)
    return int(digits[0]) if digits else None


def any_agrees(groups: Sequence[Sequence[Moment]], start: datetime, today: date | None) -> bool:
    """Whether one of several moments agrees; True where none is named."""
    named = [moment for group in groups for moment in group]
    return not named or any(moment.agrees(start, today) for moment in named)
