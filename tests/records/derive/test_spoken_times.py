"""Which day and time words name, and which moments agree with them."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from records.derive.languages import RULES
from records.derive.spoken_deeds import spoken_moments
from records.derive.spoken_times import any_agrees, moments

TODAY = date(2026, 11, 27)  # a Friday
TUESDAY_NINE = datetime.fromisoformat("2026-12-01T09:00")
AFTERNOON = datetime.fromisoformat("2026-12-01T16:30")


@pytest.mark.parametrize(
    "text",
    [
        "Tuesday", "Tuesday at nine", "Tuesday at 9", "Tuesday, December 1 at 9:00 AM", "on December first",
        "Tuesday the 1st at nine o'clock", "the first of December, nine a.m.", "at 9 am", "2026-12-01 at 9:00",
        "the day is yours", "with Dr. Okafor at 12 High Street", "at nine for 30 minutes", "from eight to nine",
        "between 8:30 and 9:00", "at 8 to 10 am", "on the first floor",
        "am Dienstag um neun", "Dienstag, den 1. Dezember, um 9 Uhr", "am 1.12. um 9:00 Uhr",
        "Dienstagmorgen um neun Uhr", "am ersten Dezember", "von acht bis zehn Uhr", "guten Morgen",
        "el martes a las nueve", "el martes 1 de diciembre a las 9:00", "mañana no, el martes por la mañana",
        "mardi à neuf heures", "mardi 1er décembre à 9 h", "le premier décembre à 9h00", "de 8 à 10 heures",
    ],
)  # fmt: skip
def test_words_that_may_mean_tuesday_at_nine(text: str) -> None:
    assert any_agrees(spoken_moments(text), TUESDAY_NINE, TODAY)


@pytest.mark.parametrize(
    "text",
    [
        "Friday", "Tuesday at ten", "Tuesday at nine thirty", "Tuesday at half past nine",
        "Tuesday at a quarter to nine", "at 9 pm", "at noon", "December 2", "the first of November",
        "tomorrow at nine", "Tuesday the second",
        "at ten past nine",
        "am Freitag", "um halb neun", "um halb zehn", "um neun Uhr dreißig", "um 21 Uhr", "am 2. Dezember", "am 2.12.",
        "morgen um neun", "um Viertel nach neun", "um fünf nach neun",
        "el viernes", "el martes a las nueve y media", "a las nueve menos cuarto", "el 2 de diciembre", "para mañana",
        "vendredi", "mardi à neuf heures et demie", "à neuf heures moins le quart", "le 2 décembre", "à 9h30",
        "à vingt et une heures", "demain à neuf heures",
    ],
)  # fmt: skip
def test_words_that_cannot_mean_tuesday_at_nine(text: str) -> None:
    assert not any_agrees(spoken_moments(text), TUESDAY_NINE, TODAY)


@pytest.mark.parametrize(
    "text",
    [
        "Tuesday at four thirty", "at half past four", "at 4:30 PM", "at 16:30", "tomorrow",
        "Dienstagnachmittag um halb fünf", "um 16 Uhr 30", "um 16.30 Uhr", "um sechzehn Uhr dreißig",
        "a las cuatro y media de la tarde", "a las 16:30", "à seize heures trente", "à 16 h 30",
        "à quatre heures et demie",
    ],
)  # fmt: skip
def test_words_that_may_mean_half_past_four(text: str) -> None:
    assert any_agrees(spoken_moments(text), AFTERNOON, date(2026, 11, 30))


def test_a_list_is_told_apart_from_a_span() -> None:
    english = RULES["en"].times
    one, other = moments("tuesday at nine and friday at four", english)[0]
    assert (one.weekday, one.times[0].hour, other.weekday, other.times[0].hour) == (1, 9, 4, 4)
    first, second = moments("on tuesday at nine and at ten", english)[0]
    assert (first.weekday, second.weekday, second.times[0].hour) == (1, 1, 10)
    (span,) = moments("tuesday from 9 am to 10 am", english)[-1]
    assert [time.hour for time in span.times] == [9, 10]


def test_without_the_day_of_the_call_tomorrow_is_any_day() -> None:
    assert any_agrees(spoken_moments("tomorrow at nine"), TUESDAY_NINE, None)
