"""Customers: found by the caller's number, saved, corrected, noted; strangers learn nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Line = Any
OpenLine = Callable[..., Line]


async def test_unknown_caller_is_told_as_such(open_line: OpenLine) -> None:
    answer = await open_line().run("find_customer")
    assert answer["known"] is False
    assert answer["hint"]


async def test_known_caller_comes_with_visits(open_line: OpenLine) -> None:
    line = open_line()
    booking = {"service": "Cleaning", "day": "2026-12-01", "time": "15:00", "name": "Anna Bell"}
    await line.run("book_appointment", **booking)
    await line.run("book_appointment", **{**booking, "day": "2026-12-08"})
    later = open_line(call_sid="CA2", at=line.clock.now.replace(month=12, day=2))
    answer = await later.run("find_customer")
    assert answer["say"] == "The caller is Anna Bell."
    assert answer["last_visit"] == "Tuesday, December 1"
    assert [entry["when"] for entry in answer["upcoming_appointments"]] == ["Tuesday, December 8 at 3:00 PM"]


async def test_several_at_one_number_are_told_apart_by_name(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("save_customer", name="Anna Bell")
    await line.run("save_customer", name="Bob Bell")
    other = open_line(call_sid="CA2")
    answer = await other.run("find_customer")
    assert answer["say"].startswith("The caller is probably ")
    assert answer["hint"]
    assert "Several customers" in (await other.run("add_note", text="prefers mornings"))["error"]
    assert (await other.run("find_customer", name="Anna Bell"))["name"] == "Anna Bell"
    assert "others_at_this_number" not in await other.run("find_customer")
    assert (await other.run("add_note", text="prefers mornings"))["say"] == "The note is saved."


async def test_withheld_number_is_asked_for(open_line: OpenLine) -> None:
    line = open_line(number="anonymous")
    assert "withheld" in (await line.run("find_customer"))["error"]
    assert "withheld" in (await line.run("save_customer", name="Anna Bell"))["error"]
    assert "withheld" in (await line.run("save_customer", name="Anna Bell", phone="this number"))["error"]
    saved = await line.run("save_customer", name="Anna Bell", phone="207-555-0123")
    assert saved["say"] == "Anna Bell is saved with the number ending in 0 1 2 3."
    assert (await line.run("find_customer"))["name"] == "Anna Bell"


@pytest.mark.parametrize(
    "number", ["anonymous", "", "+266696687", "sip:alice@example.com", "+86282452253", "Restricted", "+1"]
)
async def test_any_word_for_a_withheld_number(open_line: OpenLine, number: str) -> None:
    answer = await open_line(number=number).run("list_appointments")
    assert answer == {
        "error": "The caller's number is withheld.",
        "hint": "Ask for phone number and name, and pass both.",
    }


async def test_save_with_email_twice_is_one_customer(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("save_customer", name="anna bell")
    await line.run("save_customer", name="Anna Bell", email="anna dot bell at example dot com")
    (customer,) = line.desk.find_customers("+12075550199")
    assert (customer.name, customer.email) == ("Anna Bell", "anna.bell@example.com")


async def test_update_changes_only_what_was_given(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("save_customer", name="Ana Bel")
    answer = await line.run("update_customer", name="Anna Bell", phone="(207) 555-0177")
    assert answer["say"] == "The name and phone number is corrected."
    (customer,) = line.desk.find_customers("+12075550177")
    assert (customer.name, customer.email) == ("Anna Bell", "")
    await line.run("update_customer", email="anna@example.com")  # still the same customer, by another number now
    assert line.desk.find_customers("+12075550177")[0].email == "anna@example.com"


async def test_there_and_back_and_there_again(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("save_customer", name="Anna Bell")
    for name in ("Anna Stone", "Anna Bell", "Anna Stone"):
        await line.run("update_customer", name=name)
    assert line.desk.find_customers("+12075550199")[0].name == "Anna Stone"


async def test_update_of_nothing_and_of_nobody(open_line: OpenLine) -> None:
    line = open_line()
    assert "Nothing was given" in (await line.run("update_customer"))["error"]
    assert "no record" in (await line.run("update_customer", name="Anna Bell"))["error"]
    assert "no record" in (await line.run("add_note", text="gate code 12"))["error"]


async def test_note_reaches_the_customer_s_history_with_the_call(open_line: OpenLine) -> None:
    line = open_line()
    await line.run("save_customer", name="Anna Bell")
    await line.run("add_note", text="Latex allergy.")
    await line.run("add_note", text="latex allergy. ")
    (customer,) = line.desk.find_customers("+12075550199")
    (note,) = line.desk.history(customer.id)
    assert (note.text, note.call_id) == ("Latex allergy.", "CA1")
    assert line.statuses() == ["ok", "ok", "repeated"]
