"""Tools about appointments: find free times, book, list, move, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from bot.errors import DeskRefusal, NotOffered, NotOpen, NotUnderstood
from bot.tools.arguments import (
    PARTS_OF_DAY,
    DaySaid,
    DaysSaid,
    NameSaid,
    PartOfDay,
    PhoneSaid,
    ServiceSaid,
    StaffSaid,
    Text,
    TimeSaid,
    understand_service,
)
from bot.tools.dates import say_day, say_time, say_when, understand_days
from bot.tools.people import appointment_data, customer_for, known_callers, say_appointment
from bot.tools.registry import Answer, Work, tool
from desk.desk import Appointment, Customer, Slot

_AHEAD = timedelta(days=14)
_MOST_SLOTS = 400
_OFFERED = 4
"""More than four times cannot be kept in mind on the phone."""


@tool(outcomes=("free", "none"))
async def find_slots(
    work: Work,
    service: ServiceSaid,
    day: DaysSaid | None = None,
    time: TimeSaid | None = None,
    part_of_day: PartOfDay | None = None,
    staff: StaffSaid | None = None,
) -> Answer:
    """Find free times for a service. Use it before any time is offered or promised.

    Args:
        service: What the caller wants, one of the services.
        day: Wanted day as YYYY-MM-DD, or as said: tomorrow, next Tuesday, December 3, next week. Leave out for the
            soonest.
        time: Wanted time as HH:MM in 24 hours, or as said: 3 pm, half past nine. Leave out if any time will do.
        part_of_day: Only if the caller wants the morning, afternoon or evening.
        staff: Only if the caller wants a certain person.
    """
    today = work.here.now.date()
    first, last = day or (today, today + _AHEAD)

    async def free(begin: date, end: date) -> list[Slot]:
        person = staff.id if staff else None
        return await work.at_desk(work.desk.find_slots, service.id, begin, end, staff_id=person, limit=_MOST_SLOTS)

    try:
        slots = await free(first, last)
    except NotOpen as refusal:
        nearest = next((entry.start.date() for entry in refusal.alternatives if isinstance(entry, Slot)), None)
        if nearest is None:
            raise
        return _offer(work, await free(nearest, nearest + _AHEAD), time, f"{refusal.reason} ", "none")
    nothing = f"Nothing is free {_days_in_words(first, last, today)}"
    if not slots:
        after = last + timedelta(days=1)
        return _offer(work, await free(after, after + _AHEAD), time, f"{nothing}. ", "none")
    fitting = [slot for slot in slots if part_of_day is None or _lies_in(slot, part_of_day)]
    if not fitting:
        return _offer(work, slots, time, f"{nothing} in the {part_of_day}. ", "none")
    return _offer(work, fitting, time, "", "free")


def _days_in_words(first: date, last: date, today: date) -> str:
    if first == last:
        return f"on {say_day(first, today)}"
    return f"from {say_day(first, today)} to {say_day(last, today)}"


def _lies_in(slot: Slot, part_of_day: str) -> bool:
    begins, ends = PARTS_OF_DAY[part_of_day]
    return begins <= slot.start.time() < ends


def _offer(work: Work, slots: Sequence[Slot], wanted: time | None, before: str, outcome: str) -> Answer:
    now = work.here.now
    chosen = _nearest(slots, wanted) if wanted else _spread(slots)
    if not chosen:
        hint = "Offer another service, another person, or to take a message."
        return Answer(
            f"{before}Nothing is free in the two weeks after that either.", {"slots": [], "hint": hint}, "none"
        )
    if wanted and chosen[0].start.time() == wanted:
        say = f"{before}{say_when(chosen[0].start, now)} is free."
    else:
        missed = f"{say_time(wanted)} is not free. " if wanted and not before else ""
        say = f"{before}{missed}Free times: {_say_slots(chosen, now)}."
    return Answer(say, {"slots": [slot_data(work, slot) for slot in chosen]}, outcome)


def _spread(slots: Sequence[Slot]) -> list[Slot]:
    """A few of the slots, in order: on each day at least ninety minutes apart, at most two if there are more days."""
    several_days = bool(slots) and slots[0].start.date() != slots[-1].start.date()
    chosen: list[Slot] = []
    on_day = 0
    for slot in slots:
        same_day = bool(chosen) and slot.start.date() == chosen[-1].start.date()
        if same_day and (slot.start - chosen[-1].start < timedelta(minutes=90) or (several_days and on_day == 2)):
            continue
        on_day = on_day + 1 if same_day else 1
        chosen.append(slot)
    return chosen[:_OFFERED]


def _nearest(slots: Sequence[Slot], wanted: time) -> list[Slot]:
    """A few slots of the first day that has any, the one nearest to the wanted time first."""
    exact = [slot for slot in slots if slot.start.time() == wanted]
    day = (exact or list(slots))[0].start.date() if slots else None
    on_day = [slot for slot in slots if slot.start.date() == day]

    def distance(slot: Slot) -> int:
        moment = slot.start.time()
        return abs(moment.hour * 60 + moment.minute - wanted.hour * 60 - wanted.minute)

    return sorted(on_day, key=distance)[: _OFFERED - 1]


def _say_slots(slots: Sequence[Slot], now: datetime) -> str:
    """Slots as they are spoken, the day named once: Tuesday, December 1 at 9:00 AM and 1:00 PM; Thursday, ..."""
    days: dict[date, list[Slot]] = {}
    for slot in slots:
        days.setdefault(slot.start.date(), []).append(slot)
    parts = (
        f"{say_day(day, now.date())} at {' and '.join(say_time(slot.start) for slot in on_day)}"
        for day, on_day in days.items()
    )
    return "; ".join(parts)


def slot_data(work: Work, slot: Slot) -> dict[str, Any]:
    """A slot as the model reads it."""
    staff = {person.id: person.name for person in work.business.staff}
    return {
        "when": say_when(slot.start, work.here.now),
        "day": f"{slot.start:%Y-%m-%d}",
        "time": f"{slot.start:%H:%M}",
        "with": staff.get(slot.staff_id, slot.staff_id),
    }


@tool(writes=True, undoes=("cancel_appointment", "reschedule_appointment"))
async def book_appointment(
    work: Work,
    service: ServiceSaid,
    day: DaySaid,
    time: TimeSaid,
    name: NameSaid,
    staff: StaffSaid | None = None,
    phone: PhoneSaid | None = None,
    note: Text | None = None,
) -> Answer:
    """Book an appointment at an exact time. Only after the caller said yes to service, day, time and name.

    Args:
        service: What is booked, one of the services.
        day: The day as YYYY-MM-DD.
        time: The start as HH:MM in 24 hours.
        name: First and last name of the person the appointment is for.
        staff: Only if the caller wants a certain person.
        phone: Phone number with area code; leave out for the number the caller is calling from.
        note: What the staff should know beforehand, if the caller said so.
    """
    customer = await customer_for(work, name, phone, key=f"{work.key}:customer")
    appointment: Appointment = await work.at_desk(
        work.desk.book,
        service_id=service.id,
        start=datetime.combine(day, time, work.business.zone),
        customer_id=customer.id,
        staff_id=staff.id if staff else None,
        note=note or "",
        key=work.key,
    )
    data = {**appointment_data(work, appointment), "name": customer.name, "price": service.price}
    return Answer(f"Booked for {customer.name}: {say_appointment(work, appointment)}.", data)


@tool(outcomes=("some", "none"))
async def list_appointments(work: Work, phone: PhoneSaid | None = None, name: NameSaid | None = None) -> Answer:
    """List the caller's coming appointments.

    Args:
        phone: Only if they were booked under another number than the caller's; needs name too.
        name: The name they were booked under; needed with phone.
    """
    people = await known_callers(work, phone, name)
    found = await _coming(work, people)
    if not found:
        return Answer(f"{_names(people)} has no coming appointment.", {"appointments": []}, "none")
    data = [{**appointment_data(work, entry), "for": customer.name} for customer, entry in found]
    said = [say_appointment(work, entry) for _, entry in found]
    if len({customer.id for customer, _ in found}) > 1:
        said = [f"{customer.name}: {words}" for (customer, _), words in zip(found, said, strict=True)]
    return Answer("; ".join(said) + ".", {"appointments": data}, "some")


@tool(writes=True, undoes=("book_appointment", "reschedule_appointment"))
async def reschedule_appointment(
    work: Work,
    day: DaySaid,
    time: TimeSaid,
    appointment: str | None = None,
    staff: StaffSaid | None = None,
    phone: PhoneSaid | None = None,
    name: NameSaid | None = None,
) -> Answer:
    """Move one of the caller's appointments to another exact time. Only after the caller said yes to it.

    Args:
        day: The new day as YYYY-MM-DD.
        time: The new start as HH:MM in 24 hours.
        appointment: Its number from list_appointments, or its service or day; leave out if there is only one.
        staff: Only if the caller wants a certain person.
        phone: Only if it was booked under another number than the caller's; needs name too.
        name: The name it was booked under; needed with phone.
    """
    before = await _chosen(work, await known_callers(work, phone, name), appointment)
    after: Appointment = await work.at_desk(
        work.desk.reschedule,
        appointment_id=before.id,
        start=datetime.combine(day, time, work.business.zone),
        staff_id=staff.id if staff else None,
        key=work.key,
    )
    data = {**appointment_data(work, after), "before": say_when(before.start, work.here.now)}
    return Answer(f"Moved: {say_appointment(work, after)}.", data)


@tool(writes=True, undoes=("book_appointment", "reschedule_appointment"))
async def cancel_appointment(
    work: Work,
    appointment: str | None = None,
    reason: Text | None = None,
    phone: PhoneSaid | None = None,
    name: NameSaid | None = None,
) -> Answer:
    """Cancel one of the caller's appointments. Only after the caller said which one and confirmed it.

    Args:
        appointment: Its number from list_appointments, or its service or day; leave out if there is only one.
        reason: Why, if the caller said so. Do not ask.
        phone: Only if it was booked under another number than the caller's; needs name too.
        name: The name it was booked under; needed with phone.
    """
    chosen = await _chosen(work, await known_callers(work, phone, name), appointment)
    cancelled: Appointment = await work.at_desk(
        work.desk.cancel, appointment_id=chosen.id, reason=reason or "", key=work.key
    )
    return Answer(f"Cancelled: {say_appointment(work, cancelled)}.", appointment_data(work, cancelled))


async def _coming(work: Work, people: Sequence[Customer]) -> list[tuple[Customer, Appointment]]:
    """Coming appointments of these people, soonest first."""
    found = [
        (person, appointment)
        for person in people
        for appointment in await work.at_desk(work.desk.appointments, person.id)
    ]
    return sorted(found, key=lambda entry: entry[1].start)


async def _chosen(work: Work, people: Sequence[Customer], said: str | None) -> Appointment:
    """The coming appointment that is meant. Raises NotOffered, with all of them, if it is not clear."""
    coming = await _coming(work, people)
    if not coming:
        raise NotOffered(
            f"{_names(people)} has no coming appointment.", "Ask whether it was booked under another name or number."
        )
    found = [entry for entry in coming if _is_meant(work, entry[1], said)] if said else coming
    if len(found) == 1:
        return found[0][1]
    problem = "Several appointments fit." if found else "None of the caller's appointments fits."
    choice = [
        f"number {appointment.id}: {say_appointment(work, appointment)}, for {person.name}"
        for person, appointment in found or coming
    ]
    raise NotOffered(problem, "Ask which one is meant and pass its number.", choice)


def _names(people: Sequence[Customer]) -> str:
    return " or ".join(person.name for person in people[:3])


def _is_meant(work: Work, appointment: Appointment, said: str) -> bool:
    digits = said.strip().removeprefix("#").removeprefix("number ").strip()
    if digits.isascii() and digits.isdigit():
        return int(digits[:18]) == appointment.id
    try:
        return understand_service(said, work.here).id == appointment.service_id
    except DeskRefusal:
        pass
    try:
        first, last = understand_days(said, work.here)
    except NotUnderstood:
        return False
    return first <= appointment.start.date() <= last
