"""Tools about customers: look up, create, update, add a note. Also whom a call is about, for every other tool.

A caller is known by the number they call from. A number that is only said proves nothing, so it needs the right name
with it before anything of its customer is told or changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bot.errors import NotOffered, NotUnderstood
from bot.tools.arguments import EmailSaid, NameSaid, PhoneSaid, Text, is_full_name, same_person, say_phone
from bot.tools.dates import say_day, say_when
from bot.tools.registry import Answer, Work, tool
from desk.desk import Appointment, Customer


async def who_calls(work: Work, phone: str | None = None, name: str | None = None) -> list[Customer]:
    """Everybody this call may be about, the one active last first; a family shares a number.

    Raises NotUnderstood where the number is withheld and none was said.
    """
    number = phone or work.here.caller_number
    known = work.memory.customer
    if number is None and known is None:
        raise NotUnderstood("The caller's number is withheld.", "Ask for phone number and name, and pass both.")
    people: list[Customer] = []
    if number is not None and (number == work.here.caller_number or (name is not None and is_full_name(name))):
        people = await work.at_desk(work.desk.find_customers, number)
    if known is not None and phone in (None, known.phone):
        people = [known, *(person for person in people if person.id != known.id)]
    return people if name is None else _of_name(people, name)


def _of_name(people: Sequence[Customer], name: str) -> list[Customer]:
    """Those who bear a name; those whose name is only spelled alike count where nobody bears it exactly."""
    exact = [person for person in people if same_person(person.name, name, likeness=1.0)]
    return exact or [person for person in people if same_person(person.name, name)]


async def known_callers(work: Work, phone: str | None = None, name: str | None = None) -> list[Customer]:
    """As `who_calls`, but raises NotOffered where nobody is known, saying what to ask."""
    people = await who_calls(work, phone, name)
    if people:
        return people
    if name is None or not is_full_name(name):
        hint = "Ask for phone number and full name, and pass both."
        raise NotOffered("No customer is known by what was said.", hint)
    raise NotOffered(
        "No customer is known by this number and name.", "Ask for both again; say nothing about who else may be known."
    )


async def customer_for(work: Work, name: str, phone: str | None, email: str = "", *, key: str) -> Customer:
    """The customer of this name and number, created (with `key`) if new.

    Raises NotUnderstood if there is no number.
    """
    number = phone or work.here.caller_number
    if number is None:
        raise NotUnderstood("The caller's number is withheld.", "Ask for a phone number and pass it as phone.")
    customer: Customer | None = None
    if number == work.here.caller_number:
        people: list[Customer] = await work.at_desk(work.desk.find_customers, number)
        customer = next((person for person in people if same_person(person.name, name, likeness=1.0)), None)
    if customer is None:
        customer = await work.at_desk(work.desk.create_customer, name=name, phone=number, email=email, key=key)
    work.memory.customer = customer
    return customer


def appointment_data(work: Work, appointment: Appointment) -> dict[str, Any]:
    """An appointment as the model reads it."""
    services = {service.id: service.name for service in work.business.services}
    staff = {person.id: person.name for person in work.business.staff}
    return {
        "number": appointment.id,
        "service": services.get(appointment.service_id, appointment.service_id),
        "with": staff.get(appointment.staff_id, appointment.staff_id),
        "when": say_when(appointment.start, work.here.now),
        "start": f"{appointment.start:%Y-%m-%dT%H:%M}",
    }


def say_appointment(work: Work, appointment: Appointment) -> str:
    """An appointment as it is spoken."""
    data = appointment_data(work, appointment)
    return f"{data['service']} with {data['with']} on {data['when']}"


@tool(outcomes=("known", "unknown"))
async def find_customer(work: Work, phone: PhoneSaid | None = None, name: NameSaid | None = None) -> Answer:
    """Look the caller up by the number they call from. Use it once, early, when it helps to know who calls.

    Args:
        phone: Only if the caller is to be found by another number than the one they call from; needs name too.
        name: The caller's name, if they said it.
    """
    people = await who_calls(work, phone, name)
    if not people:
        hint = "Ask for the caller's name when it is needed; a booking makes a new customer by itself."
        return Answer("No customer is known yet by this number.", {"known": False, "hint": hint}, "unknown")
    customer = people[0]
    if name is not None or len(people) == 1 or customer == work.memory.customer:
        work.memory.customer = customer
        people = [customer]
    past = [entry for entry in await work.at_desk(work.desk.history, customer.id) if isinstance(entry, Appointment)]
    upcoming: list[Appointment] = await work.at_desk(work.desk.appointments, customer.id)
    visits = [entry for entry in past if entry.status == "booked" and entry.end <= work.here.now]
    data: dict[str, Any] = {"known": True, "name": customer.name}
    data["upcoming_appointments"] = [appointment_data(work, appointment) for appointment in upcoming]
    if visits:
        latest = max(visits, key=lambda entry: entry.start)
        data["last_visit"] = say_day(latest.start.date(), work.here.now.date())
    if others := [person.name for person in people[1:]]:
        data |= {"others_at_this_number": others, "hint": "Ask for the caller's name; it may be one of the others."}
    return Answer(f"The caller is {'probably ' if others else ''}{customer.name}.", data, "known")


@tool(writes=True)
async def save_customer(
    work: Work, name: NameSaid, phone: PhoneSaid | None = None, email: EmailSaid | None = None
) -> Answer:
    """Keep the caller as a customer: name and number. Not needed before a booking, which does it by itself.

    Args:
        name: First and last name.
        phone: Phone number with area code; leave out for the number the caller is calling from.
        email: E-mail address, if the caller wants to give it.
    """
    customer = await customer_for(work, name, phone, email or "", key=work.key)
    if email and customer.email != email and customer.phone == work.here.caller_number:
        customer = await work.at_desk(work.desk.update_customer, customer.id, email=email, key=f"{work.key}:email")
    return Answer(f"{customer.name} is saved with {say_phone(customer.phone)}.", {"name": customer.name})


@tool(writes=True, undoes=("update_customer",))
async def update_customer(
    work: Work, name: NameSaid | None = None, phone: PhoneSaid | None = None, email: EmailSaid | None = None
) -> Answer:
    """Correct the caller's own record: name, phone number or e-mail address. Read the change back first.

    Args:
        name: The right first and last name.
        phone: The new phone number with area code.
        email: The new e-mail address.
    """
    if name is None and phone is None and email is None:
        raise NotUnderstood("Nothing was given to change.", "Ask what is to be corrected.")
    customer = await _of_this_call(work)
    customer = await work.at_desk(
        work.desk.update_customer, customer.id, name=name, phone=phone, email=email, key=work.key
    )
    work.memory.customer = customer
    changed = [what for what, value in (("name", name), ("phone number", phone), ("e-mail address", email)) if value]
    return Answer(f"The {' and '.join(changed)} is corrected.", {"name": customer.name, "changed": changed})


@tool(writes=True)
async def add_note(work: Work, text: Text) -> Answer:
    """Write a remark into the caller's record, for the staff: a wish, an allergy, a gate code. Not for messages.

    Args:
        text: The remark, in one or two sentences.
    """
    customer = await _of_this_call(work)
    await work.at_desk(work.desk.add_note, customer.id, text, call_id=work.call.call_sid, key=work.key)
    return Answer("The note is saved.")


async def _of_this_call(work: Work) -> Customer:
    """The customer whose record may be changed. Raises NotOffered where it is nobody, or not clear who."""
    if work.memory.customer is not None:
        return work.memory.customer
    people = await who_calls(work)
    if not people:
        raise NotOffered(
            "There is no record for this caller yet.", "Save the customer first, or take a message for the staff."
        )
    if len(people) > 1:
        raise NotOffered(
            "Several customers share this number.", "Ask for the name and use find_customer with it first."
        )
    return people[0]
