"""What a business is refused for, in words that name what is wrong, and when it is open."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time

import pytest

from desk.business import Business, Faq, Holiday, Service, Staff

NINE_TO_FIVE = ((time(9), time(17)),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone 'Mars/Olympus' is unknown"),
        ({"timezone": "../etc/passwd"}, "is unknown"),
        ({"phone_country": "XX"}, "phone_country 'XX' is unknown"),
        ({"name": " "}, "name is empty"),
        ({"hours": {}}, "open on no day"),
        ({"hours": {7: NINE_TO_FIVE}}, "weekday 7 is not 0"),
        ({"hours": {0: ((time(9), time(12)), (time(11), time(17)))}}, "Business hours, Monday: 11:00-17:00 overlaps"),
        ({"hours": {2: ((time(22), time(2)),)}}, "Wednesday: 22:00-02:00 closes before it opens"),
        ({"hours": {0: ((time(9, 2), time(12)),)}}, "09:02-12:00 is not on whole 5 minutes"),
        ({"slot_step_minutes": 7}, "slot_step_minutes is 7: use a multiple of 5"),
        ({"min_notice_minutes": -1}, "min_notice_minutes must be 0 or more"),
        ({"booking_window_days": 0}, "booking_window_days 1 or more"),
        ({"services": ()}, "at least one service"),
        ({"services": (Service("a", "A", 30), Service("a", "B", 30))}, "two services with the same id: 'a'"),
        (
            {"services": (Service("a", "A", 30), Service("b", "B", 30, also_called=("a ",)))},
            "two services called the same",
        ),
        ({"services": (Service("spa", "Spa", 30),)}, "Staff 'ana' offers unknown services: checkup"),
        ({"staff": (Staff("ana", "Ana", ("cleaning",)),)}, "Service 'checkup' has no staff"),
        ({"staff": (Staff("a", "A", ("cleaning",)), Staff("a", "B", ("checkup",)))}, "two staff with the same id"),
        (
            {"holidays": (Holiday(date(2026, 1, 1), "A"), Holiday(date(2026, 1, 1), "B"))},
            "two holidays on the same day",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(clinic, changes, words):
    with pytest.raises(ValueError, match=words):
        replace(clinic, **changes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Service("x", "X", 0), "Service 'x': minutes is 0: use a multiple of 5, 5 or more"),
        (lambda: Service("x", "X", 12), "Service 'x': minutes is 12"),
        (lambda: Service("x", "X", 30, buffer_minutes=-5), "Service 'x': buffer_minutes is -5"),
        (lambda: Service("", "X", 30), "id is empty"),
        (lambda: Staff("ana", "Ana", ()), "Staff 'ana' offers no service"),
        (lambda: Staff("ana", "Ana", ("x",), {0: ((time(12), time(9)),)}), "Staff 'ana', Monday: 12:00-09:00"),
        (lambda: Holiday(date(2026, 1, 1), "New Year", ((time(9), time(9)),)), "Holiday 2026-01-01: 09:00-09:00"),
        (lambda: Faq("Why?", ""), "answer is empty"),
    ],
)
def test_a_part_that_cannot_be_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_business_needs_little():
    shop = Business(
        id="shop",
        name="Shop",
        timezone="Europe/Berlin",
        services=(Service("cut", "Cut", 30),),
        staff=(Staff("al", "Al", ("cut",)),),
        hours={0: ((time(0), time(0)),)},
    )
    assert shop.hours_on(date(2026, 5, 4)) == ((time(0), time(0)),)
    assert shop.hours_on(date(2026, 5, 5)) == ()
    assert shop.find_service("CUT") is shop.services[0]
    assert shop.find_staff("nobody") is None


@pytest.mark.parametrize(
    ("moment", "is_open", "ana_is_there"),
    [
        ("2026-05-04T09:00-04:00", True, False),
        ("2026-05-04T11:59-04:00", True, True),
        ("2026-05-04T12:00-04:00", False, True),
        ("2026-05-04T15:59+00:00", True, True),
        ("2026-05-03T10:30-04:00", False, False),
        ("2026-05-22T11:30-04:00", True, True),  # closes early: for all
        ("2026-05-22T13:30-04:00", False, False),
        ("2026-05-25T11:30-04:00", False, False),
    ],
)
def test_hours_are_those_of_the_place_and_a_holiday_is_one_for_all(
    clinic: Business, moment: str, is_open: bool, ana_is_there: bool
) -> None:
    ana = dict.fromkeys(range(5), ((time(11), time(14)),))
    assert clinic.is_within(datetime.fromisoformat(moment)) is is_open
    assert clinic.is_within(datetime.fromisoformat(moment), ana) is ana_is_there
