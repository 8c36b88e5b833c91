"""Slot arithmetic against a slow oracle that looks at every five minutes, and on the days when the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.errors import NotOpen, NotUnderstood
from desk.business import Business, Holiday, Service, Staff, minutes_of
from desk.calendar import cells, free_slots, open_spans, starts_on, to_instant

ZONES = ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo")

# Days on which the clocks change, and how many appointments of so many minutes fit into the 24-hour day.
CHANGES = [
    ("America/New_York", date(2026, 3, 8), 60, 23),
    ("America/New_York", date(2026, 11, 1), 60, 25),
    ("Europe/Berlin", date(2026, 3, 29), 60, 23),
    ("Europe/Berlin", date(2026, 10, 25), 60, 25),
    ("Australia/Lord_Howe", date(2026, 10, 4), 30, 47),
    ("Australia/Lord_Howe", date(2026, 4, 5), 30, 49),
    ("America/Sao_Paulo", date(2018, 11, 4), 60, 23),  # skips midnight itself
    ("America/Sao_Paulo", date(2018, 2, 17), 60, 25),  # repeats the last hour of the day
]
ALWAYS = {day: ((time(0), time(0)),) for day in range(7)}


def shop(zone, hours=ALWAYS, staff_hours=None, minutes=60, buffer=0, step=60, **more):
    return Business(
        id="shop",
        name="Shop",
        timezone=zone,
        services=(Service("cut", "Cut", minutes, buffer),),
        staff=(Staff("al", "Al", ("cut",), staff_hours), Staff("bo", "Bo", ("cut",))),
        hours=hours,
        slot_step_minutes=step,
        min_notice_minutes=0,
        booking_window_days=365,
        **more,
    )


def slots_on(business, first, last, busy=None, now=None, staff=None):
    now = now or datetime.combine(first, time(), UTC) - timedelta(days=3)
    return list(free_slots(business, business.services[0], staff or business.staff, (first, last), now, busy or {}))


@pytest.mark.parametrize(("zone", "day", "minutes", "count"), CHANGES)
def test_a_day_on_which_the_clocks_change_has_its_real_hours(zone, day, minutes, count):
    business = shop(zone, minutes=minutes, step=minutes)
    found = slots_on(business, day, day)
    assert len(found) == count
    moments = [slot.start.astimezone(UTC) for slot in found]
    assert {later - earlier for earlier, later in pairwise(moments)} == {timedelta(minutes=minutes)}
    assert all(slot.end.astimezone(UTC) - slot.start.astimezone(UTC) == timedelta(minutes=minutes) for slot in found)
    assert all(slot.start.date() == day for slot in found)
    for other in (day - timedelta(days=3), day + timedelta(days=3)):
        assert len(slots_on(business, other, other)) == 24 * 60 // minutes


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
def test_opening_hours_stay_wall_clock_over_a_change(zone):
    business = shop(zone, {day: ((time(9), time(10)),) for day in range(7)})
    found = slots_on(business, date(2026, 1, 1), date(2026, 12, 1))
    assert len(found) == 335
    assert {f"{slot.start:%H:%M}" for slot in found} == {"09:00"}
    assert len({slot.start.utcoffset() for slot in found}) == 2


def test_slots_do_not_exist_in_the_gap_and_exist_twice_in_the_fold():
    spring = [slot.start.isoformat() for slot in slots_on(shop("America/New_York"), date(2026, 3, 8), date(2026, 3, 8))]
    assert spring[1:3] == ["2026-03-08T01:00:00-05:00", "2026-03-08T03:00:00-04:00"]
    autumn = [
        slot.start.isoformat() for slot in slots_on(shop("America/New_York"), date(2026, 11, 1), date(2026, 11, 1))
    ]
    assert autumn[1:4] == ["2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T02:00:00-05:00"]


def test_hours_that_end_within_the_fold_are_open_twice_but_not_in_between():
    business = shop("America/New_York", {6: ((time(0), time(1, 30)),)}, minutes=30, step=30)
    found = [slot.start.isoformat()[11:] for slot in slots_on(business, date(2026, 11, 1), date(2026, 11, 1))]
    assert found == ["00:00:00-04:00", "00:30:00-04:00", "01:00:00-04:00", "01:00:00-05:00"]


def test_an_appointment_may_run_over_midnight_if_both_days_are_open():
    late = {0: ((time(22), time(0)),), 1: ((time(0), time(2)),)}
    business = shop("Europe/Berlin", late, minutes=90, step=30)
    found = slots_on(business, date(2026, 5, 4), date(2026, 5, 5))
    assert [f"{slot.start:%a %H:%M}" for slot in found] == [
        *("Mon 22:00", "Mon 22:30", "Mon 23:00", "Mon 23:30", "Tue 00:00", "Tue 00:30")
    ]


def test_holidays_replace_the_weekdays_hours_and_staff_hours_only_narrow_them():
    monday = date(2026, 5, 4)
    special = Holiday(monday, "Inventory", ((time(10), time(12)),))
    business = shop("Europe/Berlin", staff_hours={0: ((time(11), time(20)),)}, holidays=(special,))
    al, bo = business.staff
    hours = [
        [start.astimezone(business.zone).hour for start in starts_on(business, business.services[0], person, monday)]
        for person in (al, bo)
    ]
    assert hours == [[11], [10, 11]]
    assert slots_on(shop("Europe/Berlin", holidays=(Holiday(monday, "May Day"),)), monday, monday) == []


def test_a_wall_clock_time_is_read_in_the_business_zone():
    zone = ZoneInfo("America/New_York")
    assert to_instant(datetime(2026, 5, 4, 9), zone).isoformat() == "2026-05-04T13:00:00+00:00"  # noqa: DTZ001
    berlin = datetime(2026, 5, 4, 9, tzinfo=ZoneInfo("Europe/Berlin"))
    assert to_instant(berlin, zone).isoformat() == "2026-05-04T07:00:00+00:00"
    for skipped in (datetime(2026, 3, 8, 2, 30), datetime(2026, 3, 8, 2, 30, tzinfo=zone)):  # noqa: DTZ001
        with pytest.raises(NotUnderstood, match="Sunday 8 March 2026 has no 02:30"):
            to_instant(skipped, zone)


@pytest.mark.parametrize("day", [date.min, date.max])
def test_the_ends_of_the_calendar_are_refused_in_words(desk, customer_id, day):
    with pytest.raises((NotOpen, NotUnderstood)):
        desk.find_slots("checkup", day, day)
    for clock_time in (time(0), time(23, 30)):
        with pytest.raises((NotOpen, NotUnderstood)):
            desk.book(service_id="checkup", start=datetime.combine(day, clock_time), customer_id=customer_id, key="k")


# ---- the oracle

FIVE = timedelta(minutes=5)


def works(business, person, moment):
    """Whether somebody works in the five minutes from a moment on, straight from the definition."""
    local = moment.astimezone(business.zone)
    minute = local.hour * 60 + local.minute
    periods = [minutes_of(period) for period in business.hours_on(local.date())]
    own = [(0, 1440)] if person.hours is None else [minutes_of(p) for p in person.hours.get(local.weekday(), ())]
    return any(a <= minute < b for a, b in periods) and any(a <= minute < b for a, b in own)


def on_grid(business, person, local):
    minute = local.hour * 60 + local.minute
    periods = [minutes_of(period) for period in business.hours_on(local.date())]
    own = [(0, 1440)] if person.hours is None else [minutes_of(p) for p in person.hours.get(local.weekday(), ())]
    both = [(max(a, c), min(b, d)) for a, b in periods for c, d in own]
    return any(a <= minute < b and (minute - a) % business.slot_step_minutes == 0 for a, b in both)


def expected_starts(business, person, day, busy):
    service = business.services[0]
    moment = datetime.combine(day, time(), UTC) - timedelta(hours=15)
    found = []
    while moment < datetime.combine(day, time(), UTC) + timedelta(hours=40):
        local = moment.astimezone(business.zone)
        if local.date() == day and on_grid(business, person, local):
            during = [moment + FIVE * n for n in range(service.minutes // 5)]
            if all(works(business, person, part) for part in during) and not busy.intersection(cells(service, moment)):
                found.append(moment)
        moment += FIVE
    return found


def periods():
    return st.lists(st.integers(0, 288), min_size=2, max_size=4, unique=True).map(
        lambda ends: tuple(
            (clock(a), clock(b)) for a, b in zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False) if a < 288
        )
    )


def clock(cell):
    return time(cell * 5 // 60 % 24, cell * 5 % 60)


weeks = st.dictionaries(st.integers(0, 6), periods(), min_size=4).filter(lambda week: any(week.values()))
days = st.one_of(
    st.sampled_from([day + timedelta(days=n) for _, day, _, _ in CHANGES for n in (-1, 0)]),
    st.dates(date(2016, 1, 1), date(2029, 12, 31)),
)


@settings(max_examples=60)
@given(data=st.data(), zone=st.sampled_from(ZONES), first=days)
def test_slots_are_exactly_those_that_the_definition_allows(data, zone, first):
    business = shop(
        zone,
        data.draw(weeks),
        data.draw(st.none() | weeks),
        minutes=5 * data.draw(st.integers(1, 30)),
        buffer=5 * data.draw(st.integers(0, 6)),
        step=5 * data.draw(st.integers(1, 24)),
        holidays=tuple(data.draw(st.lists(st.just(Holiday(first, "Special", data.draw(periods()))), max_size=1))),
    )
    base = int(datetime.combine(first, time(), UTC).timestamp()) // 300
    offsets = st.sets(st.integers(-200, 700), max_size=60)
    busy = {person.id: {base + offset for offset in data.draw(offsets)} for person in business.staff}
    last = first + timedelta(days=1)

    expected: dict[datetime, str] = {}
    for day in (first, last):
        for person in business.staff:
            for moment in expected_starts(business, person, day, busy[person.id]):
                expected.setdefault(moment, person.id)

    found = slots_on(business, first, last, busy)
    assert [(slot.start.astimezone(UTC), slot.staff_id) for slot in found] == sorted(expected.items())
    assert all(slot.start == slot.start.astimezone(UTC).astimezone(business.zone) for slot in found)
    minutes = timedelta(minutes=business.services[0].minutes)
    assert all(slot.end.astimezone(UTC) - slot.start.astimezone(UTC) == minutes for slot in found)


@settings(max_examples=25)
@given(data=st.data(), zone=st.sampled_from(ZONES), day=days)
def test_booking_every_slot_offered_never_overlaps_and_leaves_the_person_only_gaps(data, zone, day):
    buffer = 5 * data.draw(st.integers(0, 4))
    business = shop(zone, data.draw(weeks), minutes=5 * data.draw(st.integers(2, 12)), buffer=buffer, step=15)
    service, person = business.services[0], business.staff[1]
    busy: set[int] = set()
    while offered := slots_on(business, day, day, {person.id: busy}, staff=[person]):
        wanted = set(cells(service, data.draw(st.sampled_from(offered)).start))
        assert not wanted & busy
        busy |= wanted
    assert expected_starts(business, person, day, busy) == []


@settings(max_examples=40)
@given(zone=st.sampled_from(ZONES), first=days, week=weeks)
def test_open_spans_are_the_minutes_that_the_definition_calls_open(zone, first, week):
    business = shop(zone, week)
    person = business.staff[1]
    spans = open_spans(business, person, first, first)
    moment = datetime.combine(first, time(), UTC) - timedelta(hours=15)
    while moment < datetime.combine(first, time(), UTC) + timedelta(hours=40):
        inside = any(opens <= moment < closes for opens, closes in spans)
        assert inside == (moment.astimezone(business.zone).date() == first and works(business, person, moment))
        moment += FIVE


@settings(max_examples=40)
@given(zone=st.sampled_from(ZONES), day=days, ahead=st.integers(0, 3000))
def test_nothing_is_offered_too_soon_or_too_far_ahead(zone, day, ahead):
    business = shop(zone)
    now = datetime.combine(day, time(), UTC) + timedelta(minutes=ahead)
    found = slots_on(business, day, day + timedelta(days=2), now=now)
    assert all(slot.start >= now for slot in found)
    today = now.astimezone(business.zone).date()
    late = slots_on(business, today + timedelta(days=364), today + timedelta(days=370), now=now)
    assert {slot.start.date() for slot in late} == {today + timedelta(days=364), today + timedelta(days=365)}
