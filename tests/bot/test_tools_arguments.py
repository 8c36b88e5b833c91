"""Services, people, numbers and names as callers say them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import NotOffered, NotUnderstood
from bot.flow import load_flow
from bot.tools.arguments import (
    same_person,
    understand_email,
    understand_name,
    understand_part_of_day,
    understand_phone,
    understand_service,
    understand_staff,
)
from bot.tools.registry import Here

FLOWS = Path(__file__).parents[2] / "flows"
DENTIST = load_flow(FLOWS / "dental.yaml").desk_business()
REPAIRS = load_flow(FLOWS / "home_repair.yaml").desk_business()
HERE = Here(DENTIST, datetime(2026, 11, 23, 10, tzinfo=DENTIST.zone), "+12075550199")
WITHHELD = Here(DENTIST, HERE.now)
BRISTOL = Here(REPAIRS, HERE.now, "+447700900123")


@pytest.mark.parametrize(
    ("said", "service"),
    [
        ("cleaning", "cleaning"),
        ("Cleaning", "cleaning"),
        ("a cleaning", "cleaning"),
        ("teeth cleaning", "cleaning"),
        ("cleanning", "cleaning"),
        ("childrens_visit", "childrens_visit"),
        ("childrens visit", "childrens_visit"),
        ("check up", "checkup"),
        ("toothache", "emergency"),
        ("I have a toothache", "emergency"),
        ("emergency", "emergency"),
        ("crown", "crown"),
        ("new patient", "new_patient_exam"),
        ("whitening", "whitening"),
    ],
)
def test_service(said: str, service: str) -> None:
    assert understand_service(said, HERE).id == service


@pytest.mark.parametrize("said", ["massage", "visit", "a haircut please", "", "😀", "x" * 500])
def test_service_that_must_be_asked(said: str) -> None:
    with pytest.raises(NotOffered) as refusal:
        understand_service(said, HERE)
    assert "Ask which is meant: " in refusal.value.hint
    assert refusal.value.alternatives


@pytest.mark.parametrize(
    ("said", "staff"),
    [
        ("Dr. Ngozi Okafor", "okafor"),
        ("doctor Okafor", "okafor"),
        ("Okafor", "okafor"),
        ("with June", "abbott"),
        ("Lindquist", "lindqvist"),
        ("anyone", None),
        ("no preference", None),
        ("it doesn't matter", None),
    ],
)
def test_staff(said: str, staff: str | None) -> None:
    found = understand_staff(said, HERE)
    assert (found.id if found else None) == staff


def test_staff_who_do_not_work_here() -> None:
    with pytest.raises(NotOffered, match="There is no member of staff 'Dr\\. House'"):
        understand_staff("Dr. House", HERE)


@pytest.mark.parametrize(
    ("said", "here", "number"),
    [
        ("207 555 0123", HERE, "+12075550123"),
        ("(207) 555-0123", HERE, "+12075550123"),
        ("1-207-555-0123", HERE, "+12075550123"),
        ("+44 117 496 0123", HERE, "+441174960123"),
        ("two oh seven, five five five, oh one two three", HERE, "+12075550123"),
        ("two zero seven triple five oh one double two", HERE, "+12075550122"),
        ("plus one two oh seven 555 0123", HERE, "+12075550123"),
        ("0117 496 0123", BRISTOL, "+441174960123"),
        ("oh one one seven, four nine six, oh one two three", BRISTOL, "+441174960123"),
        ("07700 900123", BRISTOL, "+447700900123"),
        ("this number", HERE, "+12075550199"),
        ("the number I'm calling from", HERE, "+12075550199"),
        ("my number", HERE, "+12075550199"),
        ("same number", HERE, "+12075550199"),
    ],
)
def test_phone(said: str, here: Here, number: str) -> None:
    assert understand_phone(said, here) == number


@pytest.mark.parametrize(
    ("said", "here", "words"),
    [
        ("555 0123", HERE, "lacks its area code"),
        ("20755501", HERE, "too short"),
        ("207 555 0123 4567 89", HERE, "too long"),
        ("no idea", HERE, "not a phone number"),
        ("+999 123", HERE, "not a phone number"),
        ("", HERE, "not a phone number"),
        ("this number", WITHHELD, "withheld"),
    ],
)
def test_phone_that_must_be_asked(said: str, here: Here, words: str) -> None:
    with pytest.raises(NotUnderstood) as refusal:
        understand_phone(said, here)
    assert words in refusal.value.reason
    assert "digit by digit" in refusal.value.hint


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Anna Bell", "Anna Bell"),
        ("anna  bell", "Anna Bell"),
        ("ANNA BELL", "Anna Bell"),
        ("My name is Anna Bell.", "Anna Bell"),
        ("it's Ronan O'Neill", "Ronan O'Neill"),
        ("Hi, this is Jean-Luc de la Tour", "Jean-Luc de la Tour"),
        ("S M I T H", "Smith"),
        ("Łukasz Żółć", "Łukasz Żółć"),
        ("李小龍", "李小龍"),
        ("Mr. B. King", "Mr. B. King"),
        ("Anna\nBell; DROP TABLE", "Anna Bell DROP TABLE"),
    ],
)
def test_name(said: str, name: str) -> None:
    assert understand_name(said, HERE) == name


@pytest.mark.parametrize("said", ["", "???", "12345", "caller", "Unknown caller", "Agent 47", "x" * 100, "my name is "])
def test_no_name(said: str) -> None:
    with pytest.raises(NotUnderstood):
        understand_name(said, HERE)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Anna Bell", "anna bell", True),
        ("Anna Bell", "Anna", True),
        ("Ana Bell", "Anna Bell", True),
        ("Dr. Anna Bell", "Anna Bell", True),
        ("Anna Bell", "Bob Bell", False),
        ("Anna Bell", "Anna Stone", False),
        ("Rob Bell", "Bob Bell", False),
    ],
)
def test_same_person(first: str, second: str, same: bool) -> None:
    assert same_person(first, second) is same
    assert same_person(second, first) is same


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("anna@example.com", "anna@example.com"),
        ("Anna.Bell@Example.co.uk", "anna.bell@example.co.uk"),
        ("anna dot bell at example dot com", "anna.bell@example.com"),
        ("a underscore b at my dash shop dot org", "a_b@my-shop.org"),
    ],
)
def test_email(said: str, address: str) -> None:
    assert understand_email(said, HERE) == address


@pytest.mark.parametrize("said", ["anna", "anna at", "@example.com", "a b c", "anna@example"])
def test_no_email(said: str) -> None:
    with pytest.raises(NotUnderstood):
        understand_email(said, HERE)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("morning", "morning"),
        ("in the afternoon", "afternoon"),
        ("after work", "evening"),
        ("after lunch", "afternoon"),
        ("before noon", "morning"),
        ("any time", None),
    ],
)
def test_part_of_day(said: str, part: str | None) -> None:
    assert understand_part_of_day(said, HERE) == part


UNDERSTAND = [
    understand_service,
    understand_staff,
    understand_phone,
    understand_name,
    understand_email,
    understand_part_of_day,
]


@given(st.sampled_from(UNDERSTAND), st.text(max_size=60))
def test_anything_is_understood_or_refused_with_a_hint(understand: object, said: str) -> None:
    hint = "none needed"
    try:
        understand(said, HERE)  # type: ignore[operator]
    except (NotOffered, NotUnderstood) as refusal:
        hint = refusal.hint
    assert hint
