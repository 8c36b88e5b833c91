"""Appointments in the database: finding free time, taking it, giving it back; all in a given session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from bot.errors import NotOffered, NotOpen, SlotTaken
from desk import calendar
from desk.business import Business, Service, Staff
from desk.calendar import Slot
from desk.database import insert_if_new
from desk.models import AppointmentRow, BookedCellRow
from desk.results import Appointment

_ALTERNATIVES = 3
_ALTERNATIVE_DAYS = (1, 7, 30)


class _TakenError(Exception):
    """Somebody else has one of the cells; what the attempt wrote must be rolled back."""


@dataclass(frozen=True)
class Wish:
    """A service, who may give it (the first is asked first), and when (UTC)."""

    service: Service
    staff: tuple[Staff, ...]
    start: datetime

    @classmethod
    def of(
        cls, business: Business, service_id: str, staff_id: str | None, start: datetime, *, rather: str | None = None
    ) -> Wish:
        """The wish for a service from one person, or from anybody but `rather` this one.

        Raises NotOffered as `who_gives` does, NotUnderstood for a time that the clocks skip.
        """
        service, staff = who_gives(business, service_id, staff_id)
        staff = tuple(sorted(staff, key=lambda person: person.id != rather))
        return cls(service, staff, calendar.to_instant(start, business.zone))


def who_gives(business: Business, service_id: str, staff_id: str | None) -> tuple[Service, tuple[Staff, ...]]:
    """The service and who may give it. Raises NotOffered, with the names of what is offered."""
    service = business.find_service(service_id)
    if service is None:
        names = [offered.name for offered in business.services]
        raise NotOffered(f"There is no service {service_id!r}.", f"Offer one of: {', '.join(names)}.", names)
    staff = business.staff_for(service)
    if staff_id is None:
        return service, staff
    person = business.find_staff(staff_id)
    if person is None or person not in staff:
        names = [member.name for member in staff]
        reason = f"{person.name} does not do {service.name}." if person else f"Nobody called {staff_id!r} works here."
        raise NotOffered(reason, f"{service.name} is done by: {', '.join(names)}.", names)
    return service, (person,)


def free_slots(
    session: Session,
    business: Business,
    service: Service,
    staff: Sequence[Staff],
    days: tuple[date, date],
    now: datetime,
) -> Iterator[Slot]:
    """Free slots on these days, in order of time, one for each start."""
    low, high = calendar.cell_bounds(*days)
    rows = session.execute(
        select(BookedCellRow.staff_id, BookedCellRow.cell).where(
            BookedCellRow.business_id == business.id,
            BookedCellRow.staff_id.in_([person.id for person in staff]),
            BookedCellRow.cell.between(low, high),
        )
    )
    busy: dict[str, set[int]] = {}
    for staff_id, cell in rows:
        busy.setdefault(staff_id, set()).add(cell)
    return calendar.free_slots(business, service, staff, days, now, busy)


def alternatives(session: Session, business: Business, wish: Wish, now: datetime) -> tuple[Slot, ...]:
    """The free slots nearest to a wish. Somebody else at the very time comes first if one person was asked for."""
    everybody = business.staff_for(wish.service)
    today, day = now.astimezone(business.zone).date(), wish.start.astimezone(business.zone).date()
    day = min(max(day, today), calendar.last_bookable_day(business, now))

    def distance(slot: Slot) -> timedelta:
        return abs(slot.start - wish.start)

    same_time: list[Slot] = []
    if len(wish.staff) < len(everybody):
        found = free_slots(session, business, wish.service, everybody, (day, day), now)
        same_time = [slot for slot in found if not distance(slot)]
    near: list[Slot] = []
    for reach in map(timedelta, _ALTERNATIVE_DAYS):
        days = (max(day - reach, today), day + reach)
        near = sorted(free_slots(session, business, wish.service, wish.staff, days, now), key=distance)
        if len(near) >= _ALTERNATIVES:
            break
    return (*same_time, *near)[:_ALTERNATIVES]


def book(
    session: Session, business: Business, wish: Wish, customer_id: int, note: str, now: datetime
) -> AppointmentRow:
    """Insert an appointment with the first of the staff who is free. Raises NotOpen, SlotTaken."""
    calendar.refuse_closed(business, wish.service, wish.staff, wish.start, now)

    def insert_for(person: Staff) -> AppointmentRow:
        row = AppointmentRow(
            business_id=business.id,
            customer_id=customer_id,
            service_id=wish.service.id,
            staff_id=person.id,
            starts_at=wish.start,
            ends_at=wish.start + timedelta(minutes=wish.service.minutes),
            status="booked",
            note=note,
            cancel_reason="",
            created_at=now,
            cancelled_at=None,
        )
        session.add(row)
        session.flush()
        _occupy(session, row, person.id, calendar.cells(wish.service, wish.start), now)
        return row

    return _first_free(session, business, wish, insert_for)


def move(session: Session, business: Business, row: AppointmentRow, wish: Wish, now: datetime) -> None:
    """Move an appointment to the first of the staff who is free. Raises NotOpen, SlotTaken; nothing is changed then."""
    calendar.refuse_closed(business, wish.service, wish.staff, wish.start, now)
    former, length = row.staff_id, timedelta(minutes=wish.service.minutes)
    held = set(session.scalars(select(BookedCellRow.cell).filter_by(appointment_id=row.id)))
    wanted = calendar.cells(wish.service, wish.start)

    def move_to(person: Staff) -> AppointmentRow:
        kept = held.intersection(wanted) if person.id == former else set[int]()
        # New time first: whoever waits for it then never waits for somebody who waits for ours.
        _occupy(session, row, person.id, [cell for cell in wanted if cell not in kept], now)
        _vacate(session, row, former, held - kept)
        row.staff_id, row.starts_at, row.ends_at = person.id, wish.start, wish.start + length
        return row

    _first_free(session, business, wish, move_to)


def cancel(session: Session, row: AppointmentRow, reason: str, now: datetime) -> None:
    """Mark an appointment as cancelled and free its time."""
    row.status, row.cancel_reason, row.cancelled_at = "cancelled", reason, now
    session.execute(delete(BookedCellRow).where(BookedCellRow.appointment_id == row.id))


def get(session: Session, business: Business, appointment_id: int) -> AppointmentRow:
    """An appointment, locked until the transaction ends. Raises NotOffered."""
    query = select(AppointmentRow).filter_by(id=appointment_id, business_id=business.id).with_for_update()
    row = session.scalar(query)
    if row is None:
        raise NotOffered(f"There is no appointment {appointment_id}.", "List the customer's appointments.")
    return row


def refuse_over(business: Business, row: AppointmentRow, now: datetime) -> None:
    """Raise NotOpen for an appointment whose time has come: it can be neither moved nor cancelled."""
    if row.starts_at <= now:
        when = calendar.spoken_time(row.starts_at.astimezone(business.zone))
        raise NotOpen(f"The appointment of {when} has begun or is over.", "Offer to book a new one.")


def refuse_cancelled(row: AppointmentRow) -> None:
    """Raise NotOffered for a cancelled appointment: its time may belong to somebody else."""
    if row.status == "cancelled":
        raise NotOffered(f"Appointment {row.id} was cancelled.", "Offer to book a new one.")


def to_result(row: AppointmentRow, business: Business, *, already_cancelled: bool = False) -> Appointment:
    """The row as the desk hands it out."""
    return Appointment(
        id=row.id,
        customer_id=row.customer_id,
        service_id=row.service_id,
        staff_id=row.staff_id,
        start=row.starts_at.astimezone(business.zone),
        end=row.ends_at.astimezone(business.zone),
        status="cancelled" if row.status == "cancelled" else "booked",
        note=row.note,
        cancel_reason=row.cancel_reason,
        created_at=row.created_at.astimezone(business.zone),
        already_cancelled=already_cancelled,
    )


def _first_free(
    session: Session, business: Business, wish: Wish, attempt: Callable[[Staff], AppointmentRow]
) -> AppointmentRow:
    for person in wish.staff:
        if _may_start(business, wish, person):
            with suppress(_TakenError), session.begin_nested():
                return attempt(person)
    who = wish.staff[0].name if len(wish.staff) == 1 else "Everybody"
    when = calendar.spoken_time(wish.start.astimezone(business.zone))
    raise SlotTaken(f"{who} is taken on {when}.", "Offer one of the alternatives.")


def _may_start(business: Business, wish: Wish, person: Staff) -> bool:
    day = wish.start.astimezone(business.zone).date()
    return wish.start in calendar.starts_on(business, wish.service, person, day)


def _occupy(session: Session, row: AppointmentRow, staff_id: str, cells: Sequence[int], now: datetime) -> None:
    """Insert cells, in ascending order so that two transactions cannot wait for each other. Raises _TakenError."""
    common = {
        "business_id": row.business_id,
        "staff_id": staff_id,
        "appointment_id": row.id,
        "created_at": now,
    }
    if cells and not insert_if_new(session, BookedCellRow, *({**common, "cell": cell} for cell in cells)):
        raise _TakenError


def _vacate(session: Session, row: AppointmentRow, staff_id: str, cells: set[int]) -> None:
    session.execute(
        delete(BookedCellRow).where(
            BookedCellRow.business_id == row.business_id,
            BookedCellRow.staff_id == staff_id,
            BookedCellRow.cell.in_(cells),
        )
    )
