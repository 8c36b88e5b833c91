"""The day that the sample call asks for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from bot.app import find_flow
from bot.flow import load_flow
from bot.serve import sample_weekday
from desk.business import Business, Holiday


@pytest.fixture(scope="module")
def business() -> Business:
    return load_flow(find_flow("dental")).desk_business()


def _asked(business: Business, today: date) -> str:
    clock: Any = SimpleNamespace(wall_ns=lambda: int(datetime(*today.timetuple()[:3], tzinfo=UTC).timestamp() * 1e9))
    return sample_weekday(business, clock)


@pytest.mark.parametrize(
    ("today", "asked"),
    [
        (date(2026, 11, 16), "Wednesday"),
        (date(2026, 11, 19), "Monday"),  # Saturday and Sunday lie between
        (date(2026, 11, 24), "Friday"),  # Thursday is Thanksgiving
    ],
)
def test_it_is_a_working_day_two_to_five_days_ahead(business: Business, today: date, asked: str) -> None:
    holidays = (Holiday(date(2026, 11, 26), "Thanksgiving"),)
    assert _asked(replace(business, holidays=holidays), today) == asked


def test_where_every_day_is_a_holiday_one_is_asked_for_all_the_same(business: Business) -> None:
    holidays = tuple(Holiday(date(2026, 12, day), "closed") for day in range(1, 32))
    assert _asked(replace(business, holidays=holidays), date(2026, 12, 7)) == "Wednesday"
