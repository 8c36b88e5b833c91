"""Days and times as callers say them. Now is Monday, 2026-11-23, 10:00 in New York; the dentist's hours apply."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import NotUnderstood
from bot.flow import load_flow
from bot.tools.dates import say_day, say_time, say_when, understand_day, understand_days, understand_time
from bot.tools.registry import Here

FLOWS = Path(__file__).parents[2] / "flows"
DENTIST = load_flow(FLOWS / "dental.yaml").desk_business()
REPAIRS = load_flow(FLOWS / "home_repair.yaml").desk_business()
HERE = Here(DENTIST, datetime(2026, 11, 23, 10, tzinfo=DENTIST.zone))
BRISTOL = Here(REPAIRS, datetime(2026, 11, 23, 10, tzinfo=REPAIRS.zone))


def at(year: int, month: int, day: int) -> Here:
    return Here(DENTIST, datetime(year, month, day, 10, tzinfo=DENTIST.zone))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-12-01", date(2026, 12, 1)),
        ("2026-12-01T15:00:00", date(2026, 12, 1)),
        ("2026/12/1", date(2026, 12, 1)),
        ("today", date(2026, 11, 23)),
        ("Tomorrow", date(2026, 11, 24)),
        ("tomorrow morning", date(2026, 11, 24)),
        ("tomorrow at 3 pm", date(2026, 11, 24)),
        ("the day after tomorrow", date(2026, 11, 25)),
        ("in three days", date(2026, 11, 26)),
        ("in a week", date(2026, 11, 30)),
        ("two weeks from now", date(2026, 12, 7)),
        ("a week from tomorrow", date(2026, 12, 1)),
        ("a week from Wednesday", date(2026, 12, 2)),
        ("Tuesday week", date(2026, 12, 1)),
        ("Tuesday", date(2026, 11, 24)),
        ("on Friday afternoon", date(2026, 11, 27)),
        ("this Thursday", date(2026, 11, 26)),
        ("this Monday", date(2026, 11, 23)),
        ("next Monday", date(2026, 11, 30)),
        ("sunday", date(2026, 11, 29)),
        ("December 1", date(2026, 12, 1)),
        ("Dec 3rd", date(2026, 12, 3)),
        ("Dec. 3", date(2026, 12, 3)),
        ("december first", date(2026, 12, 1)),
        ("the third of March", date(2027, 3, 3)),
        ("3rd of March, 2027", date(2027, 3, 3)),
        ("March third twenty twenty seven", date(2027, 3, 3)),
        ("the twenty-first of December", date(2026, 12, 21)),
        ("december twenty first", date(2026, 12, 21)),
        ("Tuesday, December 1st", date(2026, 12, 1)),
        ("Tuesday the first of December 2026", date(2026, 12, 1)),
        ("the 30th", date(2026, 11, 30)),
        ("the fifth", date(2026, 12, 5)),
        ("Tuesday the 1st", date(2026, 12, 1)),
        ("12/1", date(2026, 12, 1)),
        ("12/1/26", date(2026, 12, 1)),
        ("12/01/2026", date(2026, 12, 1)),
        ("13/12/2026", date(2026, 12, 13)),
        ("1.12.2026", date(2026, 12, 1)),
        ("January 4", date(2027, 1, 4)),
        ("February 29", date(2028, 2, 29)),
    ],
)
def test_day(said: str, meant: date) -> None:
    assert understand_day(said, HERE) == meant


@pytest.mark.parametrize(
    ("said", "first", "last"),
    [
        ("this week", date(2026, 11, 23), date(2026, 11, 29)),
        ("next week", date(2026, 11, 30), date(2026, 12, 6)),
        ("the weekend", date(2026, 11, 28), date(2026, 11, 29)),
        ("in December", date(2026, 12, 1), date(2026, 12, 31)),
        ("next month", date(2026, 12, 1), date(2026, 12, 31)),
        ("this month", date(2026, 11, 23), date(2026, 11, 30)),
        ("as soon as possible", date(2026, 11, 23), date(2026, 12, 7)),
        ("any day", date(2026, 11, 23), date(2026, 12, 7)),
        ("tomorrow", date(2026, 11, 24), date(2026, 11, 24)),
    ],
)
def test_stretch_of_days(said: str, first: date, last: date) -> None:
    assert understand_days(said, HERE) == (first, last)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("next Tuesday", "Tuesday, November 24 or Tuesday, December 1"),
        ("Monday", "today or Monday, November 30"),
        ("Wednesday December 1st", "the weekday or the date"),
        ("yesterday", "Ask for the day"),
        ("2026-11-22", "today is Monday, November 23"),
        ("November 1", "has passed"),
        ("February 30", "no such day"),
        ("2026-13-01", "no such day"),
        ("2026-02-29", "no such day"),
        ("next week", "more than one day"),
        ("Monday or Tuesday", "Ask for the day"),
        ("the 32nd", "Ask for the day"),
        ("soonish", "Ask for the day"),
        ("99999999999999999999", "Ask for the day"),
        ("", "Ask for the day"),
    ],
)
def test_day_that_must_be_asked_again(said: str, words: str) -> None:
    with pytest.raises(NotUnderstood) as refusal:
        understand_day(said, HERE)
    assert words in f"{refusal.value.reason} {refusal.value.hint}"


def test_next_tuesday_is_clear_where_both_readings_agree() -> None:
    assert understand_day("next Tuesday", at(2026, 11, 27)) == date(2026, 12, 1)


def test_slashes_follow_the_country() -> None:
    assert understand_day("1/12", BRISTOL) == date(2026, 12, 1)
    assert understand_day("1/12", HERE) == date(2027, 1, 12)


def test_a_day_of_a_leap_year_is_found_from_the_day_itself() -> None:
    assert understand_day("February 29", at(2028, 2, 29)) == date(2028, 2, 29)


@pytest.mark.parametrize("today", [date(2026, 11, 30), date(2026, 12, 31), date(2028, 2, 29), date(2027, 10, 31)])
@pytest.mark.parametrize(
    "said",
    [
        "next month",
        "this month",
        "the 31st",
        "the 30th",
        "February",
        "next week",
        "weekend",
        "February 29",
    ],
)
def test_ends_of_months_and_years_are_never_in_the_past(today: date, said: str) -> None:
    first, last = understand_days(said, at(today.year, today.month, today.day))
    assert today <= first <= last


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("15:00", time(15)),
        ("08:30", time(8, 30)),
        ("2026-12-01T15:00", time(15)),
        ("15:00:00", time(15)),
        ("15.30", time(15, 30)),
        ("15h30", time(15, 30)),
        ("1530", time(15, 30)),
        ("3 pm", time(15)),
        ("3pm", time(15)),
        ("3:30 p.m.", time(15, 30)),
        ("at 3 p m", time(15)),
        ("nine fifteen am", time(9, 15)),
        ("10 A.M.", time(10)),
        ("12 am", time(0)),
        ("12 pm", time(12)),
        ("noon", time(12)),
        ("midnight", time(0)),
        ("half past three", time(15, 30)),
        ("quarter to nine", time(8, 45)),
        ("a quarter past ten", time(10, 15)),
        ("ten past four", time(16, 10)),
        ("twenty to five", time(16, 40)),
        ("twenty-five past nine", time(9, 25)),
        ("quarter to one", time(12, 45)),
        ("three o'clock", time(15)),
        ("ten o’clock in the morning", time(10)),
        ("three thirty", time(15, 30)),
        ("two forty five", time(14, 45)),
        ("two oh five", time(14, 5)),
        ("three in the afternoon", time(15)),
        ("six in the evening", time(18)),
        ("twelve thirty", time(12, 30)),
        ("9", time(9)),
        ("2", time(14)),
        ("fifteen hundred hours", None),
        ("fifteen thirty", time(15, 30)),
    ],
)
def test_time(said: str, meant: time | None) -> None:
    if meant is None:
        with pytest.raises(NotUnderstood):
            understand_time(said, HERE)
    else:
        assert understand_time(said, HERE) == meant


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("8", None),
        ("seven", "7:00 AM or 7:00 PM"),
        ("25:00", "Ask for the time"),
        ("3:75", "Ask for the time"),
        ("15 in the morning", "not in the morning"),
        ("half three", "Ask for the time"),
        ("soon", "Ask for the time"),
        ("", "Ask for the time"),
        ("15:00Z", "time zone"),
        ("2026-12-01T15:00+01:00", "time zone"),
    ],
)
def test_time_that_must_be_asked_again(said: str, words: str | None) -> None:
    if words is None:
        assert understand_time(said, HERE) == time(8)
        return
    with pytest.raises(NotUnderstood) as refusal:
        understand_time(said, HERE)
    assert words in f"{refusal.value.reason} {refusal.value.hint}"


def test_a_bare_hour_that_is_open_twice_is_asked() -> None:
    with pytest.raises(NotUnderstood, match="both are within opening hours"):
        understand_time("7:45", BRISTOL)


def test_words_for_days_and_times() -> None:
    today = date(2026, 11, 23)
    assert say_day(date(2026, 12, 1), today) == "Tuesday, December 1"
    assert say_day(date(2027, 1, 4), today) == "Monday, January 4, 2027"
    assert say_time(time(0, 5)) == "12:05 AM"
    assert say_time(time(12)) == "12:00 PM"
    assert say_when(datetime(2026, 12, 1, 15, tzinfo=DENTIST.zone), HERE.now) == "Tuesday, December 1 at 3:00 PM"


@given(st.dates(date(2026, 11, 23), date(2036, 1, 1)))
def test_what_is_said_for_a_day_is_understood_as_that_day(day: date) -> None:
    assert understand_day(f"{say_day(day, HERE.now.date())}", HERE) == day
    assert understand_day(f"{day:%B} {day.day} {day.year}", HERE) == day


@given(st.times())
def test_what_is_said_for_a_time_is_understood_as_that_time(moment: time) -> None:
    assert understand_time(say_time(moment), HERE) == moment.replace(second=0, microsecond=0)


def understood(understand: Callable[[str, Here], Any], said: str) -> Any:
    """What was understood, or what to ask."""
    try:
        return understand(said, HERE)
    except NotUnderstood as refusal:
        return refusal.hint


@given(st.text(max_size=40))
def test_any_words_are_a_day_or_a_question(said: str) -> None:
    match understood(understand_days, said):
        case str() as hint:
            assert hint
        case (first, last):
            assert HERE.now.date() <= first <= last


SPOKEN = st.lists(
    st.sampled_from(
        "next this tuesday monday week month december dec the of first 31st 2027 12/1 at 3 pm half past "  # noqa: SIM905
        "quarter to nine twenty oh noon in a day days from now tomorrow morning 29 february o'clock 12".split()
    ),
    max_size=6,
).map(" ".join)


@given(SPOKEN)
def test_any_mixture_of_such_words_is_understood_or_asked(said: str) -> None:
    assert understood(understand_days, said)
    assert understood(understand_time, said) != ""
