"""What a business is: services, staff, hours, holidays, answers. Plain frozen values, checked when they are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cached_property
from zoneinfo import ZoneInfo

import phonenumbers

CELL_MINUTES = 5
"""The calendar's grain: every duration and every opening time is a multiple of it (docs/decisions/0006)."""

Period = tuple[time, time]
"""Opens, closes; wall clock. A closing time of 00:00 means midnight at the end of the day."""

WeekHours = Mapping[int, Sequence[Period]]
"""Weekday (0 Monday to 6 Sunday) to its opening periods; a weekday left out is closed."""

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Service:
    """Something a customer can book. `minutes` with the customer, then `buffer_minutes` kept free after it."""

    id: str
    name: str
    minutes: int
    buffer_minutes: int = 0
    price: str = ""
    description: str = ""
    also_called: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_words(f"Service {self.id!r}", id=self.id, name=self.name)
        _require_cells(f"Service {self.id!r}: minutes", self.minutes, at_least=CELL_MINUTES)
        _require_cells(f"Service {self.id!r}: buffer_minutes", self.buffer_minutes, at_least=0)


@dataclass(frozen=True)
class Staff:
    """Somebody who gives `services` (ids). Works the business's hours, or `hours` as far as the business is open."""

    id: str
    name: str
    services: tuple[str, ...]
    hours: WeekHours | None = None

    def __post_init__(self) -> None:
        _require_words(f"Staff {self.id!r}", id=self.id, name=self.name)
        if not self.services:
            raise ValueError(f"Staff {self.id!r} offers no service: list at least one service id.")
        if self.hours is not None:
            _check_week(f"Staff {self.id!r}", self.hours)


@dataclass(frozen=True)
class Holiday:
    """A day that is not like its weekday: closed, or open in `hours` instead."""

    day: date
    name: str
    hours: tuple[Period, ...] = ()

    def __post_init__(self) -> None:
        _check_periods(f"Holiday {self.day}", self.hours)


@dataclass(frozen=True)
class Faq:
    """A question callers ask and the business's answer."""

    question: str
    answer: str

    def __post_init__(self) -> None:
        _require_words(f"FAQ {self.question!r}", question=self.question, answer=self.answer)


@dataclass(frozen=True, kw_only=True)
class Business:
    """A business that takes appointments.

    `timezone` is an IANA name, `phone_country` the ISO 3166 region that phone numbers without a country code belong to.
    Appointments start every `slot_step_minutes` from opening, at least `min_notice_minutes` from now and at most
    `booking_window_days` ahead. Raises ValueError, in words that name what is wrong, if the parts do not fit together.
    """

    id: str
    name: str
    timezone: str
    services: tuple[Service, ...]
    staff: tuple[Staff, ...]
    hours: WeekHours
    phone_country: str = "US"
    holidays: tuple[Holiday, ...] = ()
    faq: tuple[Faq, ...] = ()
    address: str = ""
    phone: str = ""
    booking_window_days: int = 60
    slot_step_minutes: int = 30
    min_notice_minutes: int = 60

    def __post_init__(self) -> None:
        _require_words(f"Business {self.id!r}", id=self.id, name=self.name)
        try:
            ZoneInfo(self.timezone)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(
                f"timezone {self.timezone!r} is unknown: use an IANA name such as Europe/Berlin."
            ) from error
        if self.phone_country not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f"phone_country {self.phone_country!r} is unknown: use two letters such as US or DE.")
        _check_week("Business hours", self.hours)
        if not any(self.hours.values()):
            raise ValueError("Business hours: open on no day of the week; give at least one opening period.")
        _require_cells("slot_step_minutes", self.slot_step_minutes, at_least=CELL_MINUTES)
        if self.min_notice_minutes < 0 or self.booking_window_days < 1:
            raise ValueError("min_notice_minutes must be 0 or more and booking_window_days 1 or more.")
        self._check_services_and_staff()
        _require_unique("holidays on the same day", (str(holiday.day) for holiday in self.holidays))

    def _check_services_and_staff(self) -> None:
        if not self.services:
            raise ValueError("A business needs at least one service.")
        _require_unique("services with the same id", (service.id for service in self.services))
        _require_unique("staff with the same id", (person.id for person in self.staff))
        _require_unique(
            "services called the same",
            (word for service in self.services for word in {_fold(service.name), *map(_fold, service.also_called)}),
        )
        known = {service.id for service in self.services}
        for person in self.staff:
            if unknown := sorted(set(person.services) - known):
                raise ValueError(f"Staff {person.id!r} offers unknown services: {', '.join(unknown)}.")
        for service in self.services:
            if not self.staff_for(service):
                raise ValueError(f"Service {service.id!r} has no staff: nobody could be booked for it.")

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone of the hours."""
        return ZoneInfo(self.timezone)

    @cached_property
    def _holiday_by_day(self) -> Mapping[date, Holiday]:
        return {holiday.day: holiday for holiday in self.holidays}

    def find_service(self, words: str) -> Service | None:
        """The service with this id, name or other name; letter case does not matter."""
        wanted = _fold(words)
        for service in self.services:
            if wanted in {_fold(service.id), _fold(service.name), *map(_fold, service.also_called)}:
                return service
        return None

    def find_staff(self, words: str) -> Staff | None:
        """The member of staff with this id or name; letter case does not matter."""
        wanted = _fold(words)
        return next((person for person in self.staff if wanted in {_fold(person.id), _fold(person.name)}), None)

    def staff_for(self, service: Service) -> tuple[Staff, ...]:
        """Who gives a service, in the order of the business's list: the first is asked first."""
        return tuple(person for person in self.staff if service.id in person.services)

    def holiday(self, day: date) -> Holiday | None:
        """The holiday on a day, if it is one."""
        return self._holiday_by_day.get(day)

    def hours_on(self, day: date, week: WeekHours | None = None) -> Sequence[Period]:
        """When the business is open on a day, or who has a `week` of their own is there; empty if closed.

        On a holiday the holiday's hours are those of all.
        """
        holiday = self.holiday(day)
        usual = self.hours if week is None else week
        return holiday.hours if holiday else usual.get(day.weekday(), ())

    def is_within(self, moment: datetime, week: WeekHours | None = None) -> bool:
        """Whether a moment lies within `hours_on` its day. The moment has a time zone, any."""
        local = moment.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        return any(opens <= minute < closes for opens, closes in map(minutes_of, self.hours_on(local.date(), week)))


def minutes_of(period: Period) -> tuple[int, int]:
    """An opening period in minutes since midnight; closing at 00:00 is 1440."""
    opens, closes = period
    return opens.hour * 60 + opens.minute, (closes.hour * 60 + closes.minute) or 24 * 60


def _fold(words: str) -> str:
    return " ".join(words.casefold().split())


def _check_week(owner: str, hours: WeekHours) -> None:
    for weekday, periods in hours.items():
        if weekday not in range(7):
            raise ValueError(f"{owner}: weekday {weekday!r} is not 0 (Monday) to 6 (Sunday).")
        _check_periods(f"{owner}, {WEEKDAYS[weekday]}", periods)


def _check_periods(owner: str, periods: Sequence[Period]) -> None:
    closed_at = 0
    for opens, closes in periods:
        start, end = minutes_of((opens, closes))
        said = f"{opens:%H:%M}-{closes:%H:%M}"
        if any(moment.second or moment.microsecond or moment.minute % CELL_MINUTES for moment in (opens, closes)):
            raise ValueError(f"{owner}: {said} is not on whole {CELL_MINUTES} minutes.")
        if start >= end:
            raise ValueError(f"{owner}: {said} closes before it opens; split hours past midnight at 00:00.")
        if start < closed_at:
            raise ValueError(f"{owner}: {said} overlaps or comes before the period in front of it.")
        closed_at = end


def _require_words(owner: str, **fields: str) -> None:
    for name, value in fields.items():
        if not value.strip():
            raise ValueError(f"{owner}: {name} is empty.")


def _require_cells(what: str, minutes: int, *, at_least: int) -> None:
    if minutes < at_least or minutes % CELL_MINUTES:
        raise ValueError(f"{what} is {minutes}: use a multiple of {CELL_MINUTES}, {at_least} or more.")


def _require_unique(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"There are two {what}: {value!r}.")
        seen.add(value)
