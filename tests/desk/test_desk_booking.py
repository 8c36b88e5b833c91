"""Booking, moving and cancelling, and what the desk says when it cannot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest

from bot.errors import NotOffered, NotOpen, NotUnderstood, SlotTaken

MONDAY = date(2026, 5, 4)
FRIDAY = date(2026, 5, 8)


def at(hour, minute=0, day=MONDAY):
    """A naive time: the business's wall clock."""
    return datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001


def wall(slots):
    return [f"{slot.start:%H:%M}" for slot in slots]


def who_and_when(slots):
    return [(slot.staff_id, f"{slot.start:%a %H:%M}") for slot in slots]


@pytest.fixture
def book(desk, customer_id):
    def run(service, start, staff=None, **more):
        details = {"customer_id": customer_id, "key": f"{service}/{start}/{staff}", **more}
        return desk.book(service_id=service, start=start, staff_id=staff, **details)

    return run


@pytest.fixture
def occupied(rows):
    """Who has how many booked cells, and the appointments they belong to."""

    def read():
        return rows(
            "SELECT c.staff_id, count(*), c.appointment_id FROM desk_booked_cells c JOIN desk_appointments a"
            " ON a.id = c.appointment_id AND a.staff_id = c.staff_id AND a.status = 'booked'"
            " GROUP BY c.staff_id, c.appointment_id ORDER BY 3"
        )

    return read


def test_booked_time_is_no_longer_offered(desk, book, customer_id, rows):
    assert wall(desk.find_slots("checkup", MONDAY, MONDAY, limit=3)) == ["09:00", "09:30", "10:00"]
    booked = book("checkup", at(9, 30), note=" first visit\0 ")
    assert booked.start.isoformat() == "2026-05-04T09:30:00-04:00"
    assert booked.end.isoformat() == "2026-05-04T10:00:00-04:00"
    assert (booked.staff_id, booked.status, booked.note) == ("ana", "booked", "first visit")
    assert wall(desk.find_slots("checkup", MONDAY, MONDAY, limit=3)) == ["09:00", "10:00", "10:30"]
    assert rows("SELECT count(*), min(cell) * 300 FROM desk_booked_cells") == [(6, int(booked.start.timestamp()))]
    assert desk.appointments(customer_id) == [booked]


def test_slots_respect_lunch_the_buffer_and_each_persons_hours(desk, book):
    book("cleaning", at(9), "ana")
    # 45 minutes and a buffer of 15 after them: Ana is free again at 10:00; the last before lunch starts at 11:00.
    day = desk.find_slots("cleaning", MONDAY, MONDAY, staff_id="ana", limit=99)
    assert wall(day) == ["10:00", "10:30", "11:00", "13:00", "13:30", "14:00", "14:30", "15:00", "15:30", "16:00"]
    # Ben is here from 8 to 15, but the clinic opens at 9.
    day = desk.find_slots("cleaning", MONDAY, MONDAY, staff_id="ben", limit=99)
    assert wall(day) == ["09:00", "09:30", "10:00", "10:30", "11:00", "13:00", "13:30", "14:00"]
    assert desk.find_slots("cleaning", FRIDAY, FRIDAY, staff_id="ben") == []


def test_anybody_means_the_first_who_is_free_and_each_start_is_offered_once(desk, book):
    assert who_and_when(desk.find_slots("cleaning", MONDAY, MONDAY, limit=2)) == [
        ("ana", "Mon 09:00"),
        ("ana", "Mon 09:30"),
    ]
    assert book("cleaning", at(9), key="1").staff_id == "ana"
    assert who_and_when(desk.find_slots("cleaning", MONDAY, MONDAY, limit=2)) == [
        ("ben", "Mon 09:00"),
        ("ben", "Mon 09:30"),
    ]
    assert book("cleaning", at(9), key="2").staff_id == "ben"
    with pytest.raises(SlotTaken, match="Everybody is taken on Monday 4 May 2026 at 09:00"):
        book("cleaning", at(9), key="3")


def test_a_taken_slot_names_free_ones_nearby_and_who_else_has_that_very_time(book):
    book("cleaning", at(10), "ana")
    with pytest.raises(SlotTaken) as refusal:
        book("cleaning", at(10), "ana", key="again")
    assert who_and_when(refusal.value.alternatives) == [
        ("ben", "Mon 10:00"),
        ("ana", "Mon 09:00"),
        ("ana", "Mon 11:00"),
    ]
    assert "Dr. Ana Ruiz" in refusal.value.reason
    assert refusal.value.hint


def test_a_refused_booking_leaves_nothing_and_its_key_can_be_used_again(desk, book, rows):
    first = book("checkup", at(9))
    with pytest.raises(SlotTaken):
        book("checkup", at(9), key="mine")
    assert rows("SELECT count(*) FROM desk_appointments") == [(1,)]
    assert rows("SELECT count(*) FROM desk_commands WHERE key = 'mine'") == [(0,)]
    desk.cancel(appointment_id=first.id, key="free it")
    assert book("checkup", at(9), key="mine").status == "booked"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (at(8, 30, day=date(2026, 5, 1)), "2026 at 08:30 is too soon"),
        (at(9, day=date(2026, 4, 30)), "already passed"),
        (at(9, day=date(2026, 7, 2)), "too far ahead: bookings go up to Tuesday 30 June 2026"),
        (at(9, day=date(2026, 5, 9)), "closed on Saturday 9 May 2026 .closed on Saturdays"),
        (at(9, day=date(2026, 5, 25)), "closed on Monday 25 May 2026 .Memorial Day"),
        (at(14, day=date(2026, 5, 22)), "09:00 to 12:00 on Friday 22 May 2026; 14:00 does not"),
        (at(8), "09:00 to 12:00 and 13:00 to 17:00"),
        (at(11, 45), "09:00 to 12:00 and 13:00 to 17:00"),
        (at(10, 10), "start every 30 minutes"),
    ],
)
def test_times_that_are_not_open_are_explained_with_times_that_are(book, desk, start, words):
    with pytest.raises(NotOpen, match=words) as refusal:
        book("checkup", start)
    offered = refusal.value.alternatives
    assert len(offered) == 3
    free = desk.find_slots("checkup", date(2026, 5, 1), date(2026, 6, 30), limit=9999)
    assert set(offered) <= set(free)
    wanted = start.replace(tzinfo=offered[0].start.tzinfo)
    nearest = sorted(free, key=lambda slot: abs(slot.start - wanted))[:3]
    assert {abs(slot.start - wanted) for slot in offered} == {abs(slot.start - wanted) for slot in nearest}


def test_notice_is_counted_from_now(desk, clock, customer_id):
    clock.now = datetime(2026, 5, 4, 13, 5, tzinfo=UTC)  # 09:05 in New York
    assert wall(desk.find_slots("checkup", MONDAY, MONDAY, limit=1)) == ["10:30"]
    with pytest.raises(NotOpen, match="60 minutes' notice"):
        desk.book(service_id="checkup", start=at(10), customer_id=customer_id, key="k")


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (date(2026, 4, 1), date(2026, 4, 3), "in the past"),
        (date(2026, 9, 1), date(2026, 9, 3), "too far ahead"),
        (date(2026, 5, 9), date(2026, 5, 10), "closed on Saturday"),
    ],
)
def test_searching_days_that_cannot_be_booked_offers_others(desk, first, last, words):
    with pytest.raises(NotOpen, match=words) as refusal:
        desk.find_slots("checkup", first, last)
    assert len(refusal.value.alternatives) == 3


def test_a_search_over_many_days_is_cut_to_those_that_can_be_booked(desk):
    found = desk.find_slots("checkup", date(2025, 1, 1), date(2030, 1, 1), limit=9999)
    assert found[0].start.date() == date(2026, 5, 1)
    assert found[-1].start.date() == date(2026, 6, 30)
    with pytest.raises(NotUnderstood):
        desk.find_slots("checkup", FRIDAY, MONDAY)


def test_unknown_things_are_refused_with_what_there_is(desk, book):
    with pytest.raises(NotOffered) as refusal:
        desk.find_slots("massage", MONDAY, MONDAY)
    assert refusal.value.alternatives == ("Cleaning", "Check-up", "Root canal")
    with pytest.raises(NotOffered, match="Ben Ode does not do Check-up") as refusal:
        book("checkup", at(9), "ben")
    assert refusal.value.alternatives == ("Dr. Ana Ruiz",)
    with pytest.raises(NotOffered, match="Nobody called 'zoe'"):
        book("checkup", at(9), "zoe")
    with pytest.raises(NotOffered, match="no customer 999"):
        book("checkup", at(9), customer_id=999)
    for call in (desk.cancel, lambda **more: desk.reschedule(start=at(9), **more)):
        with pytest.raises(NotOffered, match="no appointment 999"):
            call(appointment_id=999, key="k")


def test_services_and_staff_are_found_by_name_and_other_names(book):
    assert book("Hygiene ", at(9), "dr. ana  RUIZ").service_id == "cleaning"


def test_rescheduling_frees_the_old_time_and_keeps_the_person(desk, book, occupied):
    first = book("cleaning", at(9), "ben")
    moved = desk.reschedule(appointment_id=first.id, start=at(10), key="move")
    assert (moved.id, moved.staff_id, wall([moved])) == (first.id, "ben", ["10:00"])
    assert occupied() == [("ben", 12, first.id)]
    assert book("cleaning", at(9), "ben", key="other").staff_id == "ben"


def test_rescheduling_goes_to_somebody_else_only_if_nobody_was_asked_for(desk, book, occupied):
    mine, others = book("cleaning", at(9), "ben"), book("cleaning", at(10), "ben")
    with pytest.raises(SlotTaken):
        desk.reschedule(appointment_id=mine.id, start=at(10), staff_id="ben", key="move")
    assert occupied() == [("ben", 12, mine.id), ("ben", 12, others.id)]
    assert desk.reschedule(appointment_id=mine.id, start=at(10), key="move").staff_id == "ana"
    assert occupied() == [("ana", 12, mine.id), ("ben", 12, others.id)]


def test_rescheduling_tries_everybody_and_leaves_no_time_behind(open_desk, clinic, customer_id, occupied):
    ana, ben = clinic.staff
    desk = open_desk(staff=(ana, ben, replace(ben, id="cy", name="Cy Ito")))

    def book(start, staff, key):
        return desk.book(service_id="cleaning", start=start, staff_id=staff, customer_id=customer_id, key=key)

    mine = book(at(9), "ben", "1")
    others = [book(at(10), "ben", "2"), book(at(10), "ana", "3")]
    assert desk.reschedule(appointment_id=mine.id, start=at(10), key="move").staff_id == "cy"
    assert occupied() == [("cy", 12, mine.id), ("ben", 12, others[0].id), ("ana", 12, others[1].id)]


def test_rescheduling_by_half_an_hour_overlaps_only_itself(desk, book, occupied, customer_id):
    first = book("root-canal", at(9))
    moved = desk.reschedule(appointment_id=first.id, start=at(9, 30), key="move")
    assert occupied() == [("ana", 24, first.id)]
    assert desk.appointments(customer_id) == [moved]
    desk.reschedule(appointment_id=first.id, start=at(9, 30), key="to the same time")
    assert occupied() == [("ana", 24, first.id)]


def test_a_failed_rescheduling_keeps_the_old_time(desk, book, occupied, customer_id):
    mine, others = book("checkup", at(9)), book("checkup", at(10))
    for start, refusal in ((at(10), SlotTaken), (at(7), NotOpen)):
        with pytest.raises(refusal) as refused:
            desk.reschedule(appointment_id=mine.id, start=start, key="move")
        assert len(refused.value.alternatives) == 3
    assert desk.appointments(customer_id) == [mine, others]
    assert occupied() == [("ana", 6, mine.id), ("ana", 6, others.id)]


def test_cancelling_frees_the_time_and_may_be_said_twice(desk, book, occupied, customer_id):
    first = book("checkup", at(9))
    gone = desk.cancel(appointment_id=first.id, reason="is ill", key="c1")
    assert (gone.status, gone.cancel_reason, gone.already_cancelled) == ("cancelled", "is ill", False)
    again = desk.cancel(appointment_id=first.id, reason="really", key="c2")
    assert (again.status, again.cancel_reason, again.already_cancelled) == ("cancelled", "is ill", True)
    assert occupied() == []
    assert book("checkup", at(9), key="other").id != first.id
    with pytest.raises(NotOffered, match="was cancelled"):
        desk.reschedule(appointment_id=first.id, start=at(10), key="move")
    assert [item.status for item in desk.appointments(customer_id, upcoming=False)] == ["booked", "cancelled"]


def test_what_has_begun_can_be_neither_moved_nor_cancelled(desk, book, clock, customer_id):
    first = book("checkup", at(9))
    clock.now = first.start.astimezone(UTC)
    assert desk.appointments(customer_id) == [first]
    for call in (desk.cancel, lambda **more: desk.reschedule(start=at(15), **more)):
        with pytest.raises(NotOpen, match="has begun or is over"):
            call(appointment_id=first.id, key="k")
    clock.now += timedelta(minutes=30)
    assert desk.appointments(customer_id) == []
    assert desk.appointments(customer_id, upcoming=False) == [first]


def test_the_same_key_returns_the_first_result_even_after_the_world_moved_on(desk, book, clock):
    first = book("checkup", at(9), key="k1")
    assert book("checkup", at(9), key="k1") == first
    desk.cancel(appointment_id=first.id, key="c1")
    clock.now += timedelta(days=100)
    repeated = book("checkup", at(9), key="k1")
    assert repeated == first
    assert repeated.start.tzinfo is first.start.tzinfo
    assert desk.cancel(appointment_id=first.id, key="c1").already_cancelled is False


def test_a_key_belongs_to_one_kind_of_write_and_to_one_business(desk, book, open_desk, customer_id):
    book("checkup", at(9), key="k1")
    with pytest.raises(ValueError, match="key of add_note was used for book"):
        desk.add_note(customer_id, "x", key="k1")
    with pytest.raises(ValueError, match="needs an idempotency key"):
        desk.add_note(customer_id, "x", key="")
    other = open_desk(id="other")
    theirs = other.create_customer(name="Maria Lopez", phone="+12125550101", key="k1")
    assert theirs.id != customer_id


def test_two_businesses_share_a_database_but_nothing_in_it(desk, book, open_desk, customer_id):
    mine = book("checkup", at(9))
    other = open_desk(id="other")
    assert other.find_customer("+12125550101") is None
    assert other.appointments(customer_id) == []
    assert other.history(customer_id) == []
    with pytest.raises(NotOffered):
        other.cancel(appointment_id=mine.id, key="c")
    with pytest.raises(NotOffered):
        other.book(service_id="checkup", start=at(9), customer_id=customer_id, key="b")
    theirs = other.create_customer(name="Zed Young", phone="+12125550109", key="z")
    assert other.book(service_id="checkup", start=at(9), customer_id=theirs.id, key="b").staff_id == "ana"


def test_a_time_that_the_clocks_skip_is_not_understood_and_a_repeated_one_is_told_apart(open_desk, clock):

    night = open_desk(id="night", hours={6: ((time(0), time(6)),)})
    who = night.create_customer(name="Nox", phone="+12125550107", key="nox").id
    clock.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with pytest.raises(NotUnderstood, match="the clocks go forward"):
        night.book(service_id="checkup", start=at(2, 30, date(2026, 3, 8)), customer_id=who, key="1")
    longest = night.book(service_id="root-canal", start=at(1, 30, date(2026, 3, 8)), customer_id=who, key="2")
    assert longest.end.isoformat() == "2026-03-08T04:00:00-04:00"
    assert longest.end.astimezone(UTC) - longest.start.astimezone(UTC) == timedelta(minutes=90)

    clock.now = datetime(2026, 10, 20, 12, tzinfo=UTC)
    twice = at(1, 30, date(2026, 11, 1))
    one = night.book(service_id="checkup", start=twice, customer_id=who, key="3")
    two = night.book(service_id="checkup", start=twice.replace(fold=1), customer_id=who, key="4")
    assert [one.start.isoformat(), two.start.isoformat()] == ["2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00"]
    repeated = night.book(service_id="checkup", start=twice.replace(fold=1), customer_id=who, key="4")
    assert repeated.start.isoformat() == "2026-11-01T01:30:00-05:00"
