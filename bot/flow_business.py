"""The business of a flow file: hours, services, staff, answers; and what every block of a flow is made of."""

from __future__ import annotations

import re
from datetime import date, time
from typing import Annotated, Any
from zoneinfo import available_timezones

import phonenumbers
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

import desk.business
from bot.flow_yaml import nearest
from desk.business import Period

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def wrong(problem: str, cure: str) -> PydanticCustomError:
    """A complaint about a value: what is wrong with it and what to do."""
    return PydanticCustomError("flow", "{problem}", {"problem": problem, "cure": cure})


def _zone(value: str) -> str:
    if value not in available_timezones():
        close = nearest(value, sorted(available_timezones()), "").rstrip(":")
        cure = close if close.startswith("Did") else "Use an IANA name such as America/Chicago or Europe/Berlin."
        raise wrong(f"{value!r} is not a time zone.", cure)
    return value


def _country(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise wrong(f"{value!r} is not a country.", "Use the two capital letters of ISO 3166, such as US, GB or DE.")
    return value


def _period(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})", value.strip())
    if not match:
        raise wrong(f"{value!r} is not a stretch of time.", "Write it as 8:30-17:00, in 24 hours; `closed` for none.")
    opens_h, opens_m, closes_h, closes_m = map(int, match.groups())
    try:
        midnight = (closes_h, closes_m) == (24, 0)
        return time(opens_h, opens_m), time() if midnight else time(closes_h, closes_m)
    except ValueError:
        raise wrong(f"{value!r} has a time that no clock shows.", "Use 0:00 to 24:00, as in 8:30-17:00.") from None


def _periods(value: Any) -> Any:
    if value == "closed":
        return ()
    return (value,) if isinstance(value, str) else value


_PERIOD_PATTERN = r"^\d{1,2}:\d{2}\s*[-–]\s*\d{1,2}:\d{2}$"
_PERIOD_SCHEMA = {"type": "string", "pattern": _PERIOD_PATTERN}
Words = Annotated[str, StringConstraints(min_length=1)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Instruction = Annotated[str, StringConstraints(min_length=1, max_length=1200)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Minutes = Annotated[int, Field(ge=0, le=24 * 60, multiple_of=desk.business.CELL_MINUTES)]
Days = Annotated[int, Field(ge=0, le=36_500)]
OpenPeriod = Annotated[Period, BeforeValidator(_period)]
Periods = Annotated[
    tuple[OpenPeriod, ...],
    BeforeValidator(_periods),
    WithJsonSchema({"anyOf": [{"const": "closed"}, _PERIOD_SCHEMA, {"type": "array", "items": _PERIOD_SCHEMA}]}),
]


class Block(BaseModel):
    """A block of keys in a flow file. A docstring under a field is its description, for editors and complaints."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, use_attribute_docstrings=True)


class Week(Block):
    """Opening hours by weekday: `closed`, one stretch such as 8:00-17:00, or a list of them. Not named means closed."""

    monday: Periods = ()
    """Hours on Mondays."""
    tuesday: Periods = ()
    """Hours on Tuesdays."""
    wednesday: Periods = ()
    """Hours on Wednesdays."""
    thursday: Periods = ()
    """Hours on Thursdays."""
    friday: Periods = ()
    """Hours on Fridays."""
    saturday: Periods = ()
    """Hours on Saturdays."""
    sunday: Periods = ()
    """Hours on Sundays."""

    def by_weekday(self) -> dict[int, tuple[Period, ...]]:
        """The hours as the desk reads them."""
        return {number: hours for number, day in enumerate(WEEKDAYS) if (hours := getattr(self, day))}


class ServiceEntry(Block):
    """Something that can be booked."""

    id: Name
    """Lower-case name under which staff refer to the service; stored with appointments, so do not change it."""
    name: Words
    """What it is called on the phone."""
    minutes: Annotated[int, Field(ge=5, le=24 * 60, multiple_of=desk.business.CELL_MINUTES)]
    """How long it takes, in steps of 5 minutes."""
    buffer_minutes: Minutes = 0
    """Minutes kept free afterwards, in steps of 5."""
    price: str = ""
    """The price in words, as it should be said."""
    description: str = ""
    """One sentence about it, for the model."""
    also_called: tuple[Words, ...] = ()
    """Other words callers use for it."""


class StaffEntry(Block):
    """Somebody who can be booked."""

    id: Name
    """Lower-case name stored with appointments, so do not change it."""
    name: Words
    """What they are called on the phone."""
    services: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Ids of the services they give."""
    hours: Week | None = None
    """When they work, within the business's hours; left out, all of them."""


class HolidayEntry(Block):
    """A day that is not like its weekday."""

    day: Annotated[date, Field(strict=False)]
    """The day, as 2026-12-25."""
    name: Words
    """What it is called on the phone."""
    hours: Periods = ()
    """Hours on that day; left out, closed."""


class FaqEntry(Block):
    """A question callers ask."""

    question: Words
    """The question, in a caller's words."""
    answer: Words
    """The answer, as it may be said."""


class Booking(Block):
    """Rules for appointments."""

    window_days: Annotated[int, Field(ge=1, le=730)] = 60
    """How many days ahead can be booked."""
    slot_step_minutes: Annotated[int, Field(ge=5, le=240, multiple_of=desk.business.CELL_MINUTES)] = 30
    """Appointments start every so many minutes from opening."""
    min_notice_minutes: Annotated[int, Field(ge=0, le=14 * 24 * 60)] = 60
    """How long before its start an appointment can still be booked."""


class BusinessEntry(Block):
    """The business behind the phone."""

    name: Words
    """The business's name, as it is said."""
    timezone: Annotated[str, AfterValidator(_zone)]
    """IANA name of the zone in which hours and appointments are meant."""
    phone_country: Annotated[str, AfterValidator(_country)] = "US"
    """Country of phone numbers that are said without a country code: two capital letters."""
    address: Words
    """Where it is, as it should be said."""
    phone: str = ""
    """The number people call, as it should be said."""
    hours: Week
    """When the business is open."""
    holidays: tuple[HolidayEntry, ...] = ()
    """Days that are not like their weekday."""
    services: Annotated[tuple[ServiceEntry, ...], Field(min_length=1)]
    """What can be booked."""
    staff: Annotated[tuple[StaffEntry, ...], Field(min_length=1)]
    """Who can be booked."""
    faq: tuple[FaqEntry, ...] = ()
    """Questions and answers, found by full-text search."""
    booking: Booking = Booking()
    """Rules for appointments."""

    def at_desk(self, id: str) -> desk.business.Business:
        """The business as the desk knows it. Raises ValueError, in words, if its parts do not fit together."""
        return desk.business.Business(
            id=id,
            name=self.name,
            timezone=self.timezone,
            phone_country=self.phone_country,
            address=self.address,
            phone=self.phone,
            hours=self.hours.by_weekday(),
            holidays=tuple(desk.business.Holiday(day.day, day.name, day.hours) for day in self.holidays),
            services=tuple(desk.business.Service(**dict(service)) for service in self.services),
            staff=tuple(
                desk.business.Staff(
                    person.id, person.name, person.services, person.hours.by_weekday() if person.hours else None
                )
                for person in self.staff
            ),
            faq=tuple(desk.business.Faq(entry.question, entry.answer) for entry in self.faq),
            booking_window_days=self.booking.window_days,
            slot_step_minutes=self.booking.slot_step_minutes,
            min_notice_minutes=self.booking.min_notice_minutes,
        )
