"""Slot arithmetic: when a service can start. Pure; no database, no clock.

Opening hours are wall-clock times in the business's zone, appointments are stretches of real time. The two meet in
`open_spans`, which cuts a day at its change of UTC offset: an hour that the clocks skip does not exist, an hour that
they repeat exists twice, and an appointment across a change lasts its real minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from bot.errors import NotOpen, NotUnderstood
from desk.business import CELL_MINUTES, WEEKDAYS, Business, Service, Staff, minutes_of

Span = tuple[datetime, datetime]
"""A half-open stretch of real time; both ends aware, in UTC."""

_CELL_SECONDS = CELL_MINUTES * 60
_MARGIN = timedelta(hours=3)


@dataclass(frozen=True)
class Slot:
    """A time that can be booked. `start` and `end` are aware, in the business's zone; `end` is without the buffer."""

    service_id: str
    staff_id: str
    start: datetime
    end: datetime


def cells(service: Service, start: datetime) -> range:
    """The cells that an appointment occupies, buffer included: counts of five minutes since 1970 in UTC."""
    first = int(start.timestamp()) // _CELL_SECONDS
    return range(first, first + (service.minutes + service.buffer_minutes) // CELL_MINUTES)


def cell_bounds(first_day: date, last_day: date) -> tuple[int, int]:
    """Cells that surely contain these days in any time zone."""
    low = datetime.combine(first_day, time(), UTC) - timedelta(days=1)
    high = datetime.combine(last_day, time(), UTC) + timedelta(days=3)
    return int(low.timestamp()) // _CELL_SECONDS, int(high.timestamp()) // _CELL_SECONDS


def to_instant(wanted: datetime, zone: ZoneInfo) -> datetime:
    """The moment meant by `wanted`, in UTC; a naive datetime is wall clock in `zone`, its `fold` tells a repeated hour.

    Raises NotUnderstood for a wall-clock time that the clocks skip, and at the ends of the calendar.
    """
    local = wanted if wanted.tzinfo else wanted.replace(tzinfo=zone)
    try:
        instant = local.astimezone(UTC)
    except OverflowError:
        raise NotUnderstood(f"The year {wanted.year} is out of reach.", "Ask for the day again.") from None
    if instant.astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None):
        raise NotUnderstood(
            f"{spoken_day(local.date())} has no {local:%H:%M}: the clocks go forward.", "Offer a later time."
        )
    return instant


def free_slots(
    business: Business,
    service: Service,
    staff: Sequence[Staff],
    days: tuple[date, date],
    now: datetime,
    busy: Mapping[str, set[int]],
) -> Iterator[Slot]:
    """Free slots from the first to the last of `days`, in order of time, one for each start.

    Where several of `staff` are free the first of them has the slot. `busy` holds the occupied cells of each staff id.
    """
    first, last = days
    earliest, horizon = now + timedelta(minutes=business.min_notice_minutes), last_bookable_day(business, now)
    for offset in range((min(last, horizon) - first).days + 1):
        day = first + timedelta(days=offset)
        found: dict[datetime, str] = {}
        for person in staff:
            taken = busy.get(person.id, set())
            for start in starts_on(business, service, person, day):
                if start >= earliest and start not in found and taken.isdisjoint(cells(service, start)):
                    found[start] = person.id
        for start in sorted(found):
            yield slot(business, service, found[start], start)


def slot(business: Business, service: Service, staff_id: str, start: datetime) -> Slot:
    """The slot of a service that starts at a moment."""
    end = start + timedelta(minutes=service.minutes)
    return Slot(service.id, staff_id, start.astimezone(business.zone), end.astimezone(business.zone))


def starts_on(business: Business, service: Service, person: Staff, day: date) -> list[datetime]:
    """Moments (UTC) on a local day at which `person` could start `service` if nothing else were booked."""
    hours = hours_of(business, person, day)
    if not hours:
        return []
    spans = open_spans(business, person, day - timedelta(days=1), day + timedelta(days=1))
    length = timedelta(minutes=service.minutes)
    return [
        start
        for start in _grid(business, day, hours)
        if any(opens <= start and start + length <= closes for opens, closes in spans)
    ]


def open_spans(business: Business, person: Staff, first_day: date, last_day: date) -> list[Span]:
    """When `person` works from the first to the last day, as real time; spans that touch (over midnight) are one."""
    spans: list[Span] = []
    for offset in range((last_day - first_day).days + 1):
        day = first_day + timedelta(days=offset)
        for span in _spans_of_day(business.zone, day, hours_of(business, person, day)):
            if spans and spans[-1][1] == span[0]:
                spans[-1] = (spans[-1][0], span[1])
            else:
                spans.append(span)
    return spans


def hours_of(business: Business, person: Staff, day: date) -> list[tuple[int, int]]:
    """When `person` works on a day: own hours where the business is open; minutes since midnight, wall clock."""
    business_hours = [minutes_of(period) for period in business.hours_on(day)]
    if person.hours is None:
        return business_hours
    own = [minutes_of(period) for period in person.hours.get(day.weekday(), ())]
    overlaps = ((max(a, c), min(b, d)) for a, b in business_hours for c, d in own)
    return [(opens, closes) for opens, closes in overlaps if opens < closes]


def refuse_closed(business: Business, service: Service, staff: Sequence[Staff], start: datetime, now: datetime) -> None:
    """Raise NotOpen, saying why, unless one of `staff` could start `service` at `start` if nothing else were booked."""
    local = start.astimezone(business.zone)
    if start <= now:
        raise NotOpen(f"{spoken_time(local)} has already passed.", "Ask for a time in the future.")
    if start < now + timedelta(minutes=business.min_notice_minutes):
        raise NotOpen(
            f"{spoken_time(local)} is too soon: bookings need {business.min_notice_minutes} minutes' notice.",
            "Offer a later time.",
        )
    if local.date() > last_bookable_day(business, now):
        raise NotOpen(
            f"{spoken_time(local)} is too far ahead: bookings go up to {spoken_day(last_bookable_day(business, now))}.",
            "Offer an earlier day.",
        )
    if any(start in starts_on(business, service, person, local.date()) for person in staff):
        return
    if not business.hours_on(local.date()):
        raise _closed(business, local.date())
    raise _off_grid(business, service, staff, local)


def bookable_days(business: Business, first: date, last: date, now: datetime) -> tuple[date, date]:
    """The part of these local days that can be booked. Raises NotOpen, saying why, if there is none."""
    today, horizon = now.astimezone(business.zone).date(), last_bookable_day(business, now)
    if last < today:
        raise NotOpen(f"{spoken_day(last)} is in the past.", "Ask for a day from today on.")
    if first > horizon:
        raise NotOpen(
            f"{spoken_day(first)} is too far ahead: bookings go up to {spoken_day(horizon)}.",
            "Offer an earlier day.",
        )
    first, last = max(first, today), min(last, horizon)
    if not any(business.hours_on(first + timedelta(days=offset)) for offset in range((last - first).days + 1)):
        raise _closed(business, first)
    return first, last


def last_bookable_day(business: Business, now: datetime) -> date:
    """The last local day that can be booked now."""
    return now.astimezone(business.zone).date() + timedelta(days=business.booking_window_days)


def spoken_day(day: date) -> str:
    """A day in words: Monday 4 May 2026."""
    return f"{day:%A} {day.day} {day:%B %Y}"


def spoken_time(local: datetime) -> str:
    """A local moment in words: Monday 4 May 2026 at 09:30."""
    return f"{spoken_day(local.date())} at {local:%H:%M}"


def _closed(business: Business, day: date) -> NotOpen:
    holiday = business.holiday(day)
    why = holiday.name if holiday else f"closed on {WEEKDAYS[day.weekday()]}s"
    return NotOpen(f"{business.name} is closed on {spoken_day(day)} ({why}).", "Offer another day.")


def _off_grid(business: Business, service: Service, staff: Sequence[Staff], local: datetime) -> NotOpen:
    day, minute = local.date(), local.hour * 60 + local.minute
    hours = [period for person in staff for period in hours_of(business, person, day)]
    if any(opens <= minute and minute + service.minutes <= closes for opens, closes in hours):
        return NotOpen(
            f"Appointments do not start at {local:%H:%M}: they start every {business.slot_step_minutes} minutes.",
            "Offer the nearest start.",
        )
    if not hours:
        names = " and ".join(person.name for person in staff)
        return NotOpen(f"{names} does not work on {spoken_day(day)}.", "Offer another day or somebody else.")
    return NotOpen(
        f"{service.name} takes {service.minutes} minutes and must lie within "
        f"{_spoken_periods(hours)} on {spoken_day(day)}; {local:%H:%M} does not.",
        "Offer a time within these hours.",
    )


def _spoken_periods(hours: Sequence[tuple[int, int]]) -> str:
    said = dict.fromkeys(f"{a // 60:02}:{a % 60:02} to {b // 60:02}:{b % 60:02}" for a, b in sorted(hours))
    return " and ".join(said)


def _grid(business: Business, day: date, hours: Sequence[tuple[int, int]]) -> list[datetime]:
    """Wall-clock starts as moments: none for a skipped time, two for a repeated one."""
    midnight = datetime.combine(day, time())
    walls = [
        midnight + timedelta(minutes=minute)
        for opens, closes in hours
        for minute in range(opens, closes, business.slot_step_minutes)
    ]
    stretches = _constant_offsets(business.zone, day)
    moments = {wall - offset for low, high, offset in stretches for wall in walls if low <= wall - offset < high}
    return [moment.replace(tzinfo=UTC) for moment in sorted(moments)]


def _spans_of_day(zone: ZoneInfo, day: date, hours: Sequence[tuple[int, int]]) -> list[Span]:
    """Real time whose wall clock lies on `day` within `hours`."""
    midnight = datetime.combine(day, time())
    spans = [
        (
            max(midnight + timedelta(minutes=opens) - offset, low),
            min(midnight + timedelta(minutes=closes) - offset, high),
        )
        for low, high, offset in _constant_offsets(zone, day)
        for opens, closes in hours
    ]
    return [(a.replace(tzinfo=UTC), b.replace(tzinfo=UTC)) for a, b in sorted(spans) if a < b]


@lru_cache(maxsize=4096)
def _constant_offsets(zone: ZoneInfo, day: date) -> list[tuple[datetime, datetime, timedelta]]:
    """The stretches around a local day in which the UTC offset does not change; bounds are naive UTC.

    A zone changes its offset at most once within a day and its margins, so a bisection finds the change.
    """

    def offset_at(moment: datetime) -> timedelta:
        return moment.replace(tzinfo=UTC).astimezone(zone).utcoffset() or timedelta()

    midnight = datetime.combine(day, time(), zone).astimezone(UTC).replace(tzinfo=None)
    low, high = midnight - _MARGIN, midnight + timedelta(days=1) + _MARGIN
    before, after = offset_at(low), offset_at(high)
    if before == after:
        return [(low, high, before)]
    left, right = low, high
    while right - left > timedelta(seconds=1):
        middle = left + timedelta(seconds=(right - left) // timedelta(seconds=2))
        left, right = (middle, right) if offset_at(middle) == before else (left, middle)
    return [(low, right, before), (right, high, after)]
