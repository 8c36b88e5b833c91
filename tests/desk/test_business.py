"""A business that does not fit together is refused in words that name what is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time

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
