"""Finding, booking, listing, moving and cancelling appointments, on a real desk. Now is Monday, November 23, 10:00."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

Line = Any
OpenLine = Callable[..., Line]
CLEANING = {"service": "Cleaning", "day": "2026-12-01", "time": "15:00", "name": "Anna Bell"}


def times(answer: dict[str, Any]) -> list[str]:
    return [f"{slot['day'][5:]} {slot['time']}" for slot in answer["slots"]]


async def test_soonest_times_are_spread_over_days(open_line: OpenLine) -> None:
    answer = await open_line().run("find_slots", service="Cleaning")
    assert times(answer) == ["11-23 11:00", "11-23 12:30", "11-24 08:00", "11-24 09:30"]
    assert answer["say"] == (
        "Free times: Monday, November 23 at 11:00 AM and 12:30 PM; Tuesday, November 24 at 8:00 AM and 9:30 AM."
    )


async def test_times_of_one_day_lie_apart(open_line: OpenLine) -> None:
    answer = await open_line().run("find_slots", service="Cleaning", day="2026-12-01")
    assert times(answer) == ["12-01 08:00", "12-01 09:30", "12-01 11:00", "12-01 12:30"]


async def test_wanted_time_that_is_free_comes_first(open_line: OpenLine) -> None:
    answer = await open_line().run("find_slots", service="Cleaning", day="December 1st", time="3 pm")
    assert answer["say"] == "Tuesday, December 1 at 3:00 PM is free."
    assert times(answer)[0] == "12-01 15:00"


async def test_wanted_time_that_is_taken_brings_the_nearest(open_line: OpenLine) -> None:
    line = open_line()
    crown = {**CLEANING, "service": "Crown preparation", "time": "10:00"}
    await line.run("book_appointment", **crown)
    answer = await line.run("find_slots", service="Crown preparation", day="2026-12-01", time="10:30")
    assert answer["say"].startswith("10:30 AM is not free. Free times: Tuesday, December 1 at ")
    assert times(answer)[0] == "12-01 12:00"


async def test_part_of_the_day(open_line: OpenLine) -> None:
    line = open_line()
    assert times(await line.run("find_slots", service="Cleaning", day="2026-12-01", part_of_day="evening"))[0] == (
        "12-01 17:00"
    )
    answer = await line.run("find_slots", service="Crown preparation", day="2026-12-01", part_of_day="evening")
    assert answer["say"].startswith("Nothing is free on Tuesday, December 1 in the evening. Free times: Tuesday")
    assert answer["slots"]


@pytest.mark.parametrize(("day", "reason"), [("Sunday", "closed on Sundays"), ("November 26", "Thanksgiving")])
async def test_closed_day_says_why_and_offers_the_next(open_line: OpenLine, day: str, reason: str) -> None:
    answer = await open_line().run("find_slots", service="Emergency visit", day=day)
    assert reason in answer["say"]
    assert "Free times: " in answer["say"]
    assert len(answer["slots"]) > 1


async def test_person_who_is_away_that_day_is_told(open_line: OpenLine) -> None:
    answer = await open_line().run("find_slots", service="Cleaning", day="2026-11-28", staff="June Abbott")
    assert "Free times: Monday, November 30 at 8:00 AM" in answer["say"]
    assert {slot["with"] for slot in answer["slots"]} == {"June Abbott"}


async def test_full_day_offers_what_comes_after(open_line: OpenLine) -> None:
    line = open_line()
    for time in ("9:00", "10:30"):  # Dr. Lindqvist's Saturday, all of it: 90 minutes each, closing at one
        await line.run("book_appointment", **{**CLEANING, "service": "Whitening", "day": "2026-11-28", "time": time})
    answer = await line.run("find_slots", service="Whitening", day="2026-11-28")
    assert answer["say"].startswith("Nothing is free on Saturday, November 28. Free times: Monday, November 30")


async def test_too_far_ahead_says_how_far_bookings_go(open_line: OpenLine) -> None:
    line = open_line()
    answer = await line.run("find_slots", service="Cleaning", day="2028-01-03")
    assert "too far ahead: bookings go up to Tuesday 23 March 2027" in answer["say"]
    booking = await line.run("book_appointment", **{**CLEANING, "day": "2028-01-03"})
    assert "too far ahead" in booking["error"]
    assert line.statuses() == ["ok", "refused"]


async def test_staff_who_do_not_give_the_service(open_line: OpenLine) -> None:
    line = open_line()
    answer = await line.run("find_slots", service="Crown preparation", staff="June Abbott")
    assert "June Abbott" in answer["error"]
    assert answer["hint"]


async def test_anyone_is_nobody_in_particular(open_line: OpenLine) -> None:
    answer = await open_line().run("find_slots", service="Cleaning", day="2026-12-01", staff="no preference")
    assert answer["slots"]


async def test_booking_makes_the_customer_and_keeps_note_and_price(open_line: OpenLine) -> None:
    line = open_line()
    answer = await line.run("book_appointment", **CLEANING, note="afraid of needles", staff="Kevin")
    assert answer["with"] == "Kevin Tran"
    assert answer["price"] == "145 dollars without insurance"
    (customer,) = line.desk.find_customers("+12075550199")
    assert customer.name == "Anna Bell"
    (appointment,) = line.desk.appointments(customer.id)
    assert appointment.note == "afraid of needles"
    assert (appointment.staff_id, f"{appointment.start:%Y-%m-%dT%H:%M%z}") == ("tran", "2026-12-01T15:00-0500")


async def test_withheld_number_needs_a_number_to_book(open_line: OpenLine) -> None:
    line = open_line(number="anonymous")
    asked = await line.run("book_appointment", **CLEANING)
    assert "withheld" in asked["error"]
    assert "phone" in asked["hint"]
    done = await line.run("book_appointment", **CLEANING, phone="two oh seven five five five oh one two three")
    assert done["say"].startswith("Booked for Anna Bell")
    assert line.desk.find_customers("+12075550123")[0].name == "Anna Bell"
    assert "Tuesday, December 1" in (await line.run("list_appointments"))["say"]  # known by now


async def test_a_family_shares_a_number(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("book_appointment", **CLEANING)
    await line.run("book_appointment", **{**CLEANING, "time": "16:00", "name": "Jana Bell"})
    await line.run("book_appointment", **{**CLEANING, "time": "17:00", "name": "Jan Bell"})
    other = open_line(call_sid="CA2")
    everybody = await other.run("list_appointments")
    assert [entry["for"] for entry in everybody["appointments"]] == ["Anna Bell", "Jana Bell", "Jan Bell"]
    assert "Anna Bell: Cleaning with" in everybody["say"]
    unclear = await other.run("cancel_appointment")
    assert unclear["error"] == "Several appointments fit."
    assert len(unclear["alternatives"]) == 3
    done = await other.run("cancel_appointment", name="Anna Bell")
    assert "December 1 at 3:00 PM" in done["say"]


async def test_first_name_alone_is_the_same_customer_from_the_same_number(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("book_appointment", **CLEANING)
    await line.run("book_appointment", **{**CLEANING, "time": "10:00", "name": "Anna"})
    assert len(line.desk.find_customers("+12075550199")) == 1


@pytest.mark.parametrize(
    "said", ["1", "number 1", "#1", "cleaning", "teeth cleaning", "December 1", "Tuesday the first"]
)
async def test_appointment_may_be_named_in_many_ways(open_line: OpenLine, said: str) -> None:
    line = open_line()
    await line.run("book_appointment", **CLEANING)
    await line.run("book_appointment", **{**CLEANING, "service": "Checkup", "day": "2026-12-03", "time": "16:00"})
    done = await line.run("cancel_appointment", appointment=said, reason="travelling")
    assert done["number"] == 1
    (left,) = (await line.run("list_appointments"))["appointments"]
    assert left["service"] == "Checkup"


async def test_moving_keeps_service_and_person(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("book_appointment", **CLEANING, staff="Kevin Tran")
    done = await line.run("reschedule_appointment", day="2026-12-03", time="half past ten")
    assert done["say"] == "Moved: Cleaning with Kevin Tran on Thursday, December 3 at 10:30 AM."
    assert done["before"] == "Tuesday, December 1 at 3:00 PM"


async def test_moving_to_a_taken_time_keeps_the_old_one(open_line: OpenLine) -> None:
    line = open_line()
    crown = {**CLEANING, "service": "Crown preparation"}
    await line.run("book_appointment", **{**crown, "time": "9:00"})
    await line.run("book_appointment", **{**crown, "time": "14:00"})
    refused = await line.run("reschedule_appointment", appointment="1", day="2026-12-01", time="14:00")
    assert refused["alternatives"]
    (first, second) = (await line.run("list_appointments"))["appointments"]
    assert [first["start"], second["start"]] == ["2026-12-01T09:00", "2026-12-01T14:00"]


async def test_nothing_to_cancel(open_line: OpenLine) -> None:
    line = open_line()
    unknown = await line.run("cancel_appointment")
    assert "No customer is known" in unknown["error"]
    await line.run("save_customer", name="Anna Bell")
    assert (await line.run("cancel_appointment"))["error"] == "Anna Bell has no coming appointment."
    assert (await line.run("list_appointments"))["say"] == "Anna Bell has no coming appointment."


async def test_another_number_alone_opens_nothing(open_line: OpenLine) -> None:
    """Knowing somebody's number, or it and a first name, is not enough to hear or cancel their appointments."""
    await open_line().run("book_appointment", **CLEANING)
    stranger = open_line(number="+12075550111", call_sid="CA2")
    for extra in ({}, {"name": "Anna"}, {"name": "Bob Stone"}):
        for tool in ("list_appointments", "cancel_appointment", "find_customer"):
            answer = await stranger.run(tool, phone="207 555 0199", **extra)
            assert "Anna Bell" not in str(answer)
            assert "Cleaning" not in str(answer)
    with_name = await stranger.run("list_appointments", phone="207 555 0199", name="Anna Bell")
    assert with_name["appointments"][0]["service"] == "Cleaning"


async def test_number_of_somebody_elses_appointment_does_not_fit(open_line: OpenLine) -> None:
    await open_line().run("book_appointment", **CLEANING)
    stranger = open_line(number="+12075550111", call_sid="CA2")
    await stranger.run("book_appointment", **{**CLEANING, "time": "10:00", "name": "Bob Stone"})
    answer = await stranger.run("cancel_appointment", appointment="1")
    assert answer["error"] == "None of the caller's appointments fits."
    assert "Anna" not in str(answer)


async def test_wall_clock_is_the_business_s_through_the_change_to_summer_time(open_line: OpenLine) -> None:
    """Booked in winter, at 9:30 in summer: 8:30 in UTC."""
    line = open_line(
        "home_repair", number="+447700900123", at=datetime(2027, 3, 1, 10, tzinfo=ZoneInfo("Europe/London"))
    )
    wish = {"service": "Plumbing visit", "day": "2027-03-30", "time": "9.30", "name": "Anna Bell"}
    answer = await line.run("book_appointment", **wish)
    assert answer["when"] == "Tuesday, March 30 at 9:30 AM"
    (appointment,) = line.desk.appointments(line.desk.find_customer("+447700900123").id)
    assert appointment.start == datetime(2027, 3, 30, 8, 30, tzinfo=UTC)
