"""A clinic, a clock that stands still, and a fresh database on each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, time
from typing import Any

import pytest
from fakes.clock import StillClock

from desk.business import Business, Faq, Holiday, Service, Staff
from desk.desk import Desk, migrate


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture(scope="session")
def clinic() -> Business:
    """Open Monday to Friday 9-12 and 13-17; Ana does everything, Ben only cleanings and not on Fridays."""
    week = {day: ((time(9), time(12)), (time(13), time(17))) for day in range(5)}
    return Business(
        id="clinic",
        name="Smile Clinic",
        timezone="America/New_York",
        services=(
            Service("cleaning", "Cleaning", 45, buffer_minutes=15, also_called=("hygiene",)),
            Service("checkup", "Check-up", 30),
            Service("root-canal", "Root canal", 90, buffer_minutes=30),
        ),
        staff=(
            Staff("ana", "Dr. Ana Ruiz", ("cleaning", "checkup", "root-canal")),
            Staff("ben", "Ben Ode", ("cleaning",), {day: ((time(8), time(15)),) for day in range(4)}),
        ),
        hours=week,
        holidays=(
            Holiday(date(2026, 5, 25), "Memorial Day"),
            Holiday(date(2026, 5, 22), "Early close", ((time(9), time(12)),)),
        ),
        faq=(
            Faq("Where can I park?", "There is free parking behind the building."),
            Faq("Which insurance plans do you accept?", "We accept Delta Dental, Aetna and Cigna."),
            Faq("What does a cleaning cost?", "A cleaning is 120 dollars; insurance often covers it."),
            Faq("Do you treat children?", "Yes, from the age of three. Café and toys in the waiting room."),
        ),
        slot_step_minutes=30,
        min_notice_minutes=60,
        booking_window_days=60,
    )


@pytest.fixture
def database_url(make_database: Callable[..., str]) -> str:
    """A database with the desk's tables."""
    return make_database(migrate)


@pytest.fixture
def open_desk(database_url: str, clinic: Business, clock: StillClock) -> Iterator[Callable[..., Desk]]:
    """Opens desks on the test's database, the clinic's with changes to it."""
    desks: list[Desk] = []

    def open_one(**changes: Any) -> Desk:
        desks.append(Desk(database_url, replace(clinic, **changes), clock))
        return desks[-1]

    yield open_one
    for desk in desks:
        desk.close()


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    return open_desk()


@pytest.fixture
def customer_id(desk: Desk) -> int:
    return desk.create_customer(name="Maria Lopez", phone="+12125550101", key="maria").id


@pytest.fixture
def rows(database_url: str) -> Callable[..., list[tuple[Any, ...]]]:
    """Runs SQL on the test's database past the desk."""
    from desk.database import make_engine

    def run(sql: str) -> list[tuple[Any, ...]]:
        engine = make_engine(database_url)
        try:
            with engine.begin() as connection:
                result = connection.exec_driver_sql(sql)
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            engine.dispose()

    return run
