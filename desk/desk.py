"""The desk: books, moves and cancels appointments, keeps customers, notes and messages, answers questions.

Every method is synchronous and safe to call from many threads; callers on an event loop use ``asyncio.to_thread``.
Every write carries an idempotency ``key`` that is stored in the same transaction as what it did: the same key again,
at once or after a crash, does nothing and returns the first result. A refused write stores nothing, so its key can be
used again. Refusals are `bot.errors.DeskRefusal`, in words that a model can act on.

That nobody's time is given away twice is decided by the database alone: an appointment occupies cells of five minutes
whose primary key is (business, staff, cell). See docs/decisions/0006. Every write takes its locks in one order, so that
no two can wait for each other: key, appointment, customer, new cells in ascending order, then the old cells.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, replace
from datetime import date, datetime, time
from itertools import islice
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from bot.errors import NotOpen, NotUnderstood, SlotTaken
from bot.ports import Clock, utc
from desk import bookings, calendar, faq, people
from desk.bookings import Wish
from desk.business import Business, Faq
from desk.calendar import Slot
from desk.database import insert_if_new, migrate, open_database
from desk.models import AppointmentRow, CommandRow, MessageRow, NoteRow
from desk.results import Appointment, Customer, Message, Note

__all__ = ["Appointment", "Customer", "Desk", "Message", "Note", "Slot", "migrate"]

Result = TypeVar("Result", bound=Appointment | Customer | Note | Message)

_HISTORY = 50
_ADAPTERS: dict[type, TypeAdapter[Any]] = {
    result: TypeAdapter(result) for result in (Appointment, Customer, Note, Message)
}


class Desk:
    """One business's desk on one database, whose tables `migrate` makes. Nothing is opened before `open` or first use.

    Raises ConfigurationError for a URL that is neither SQLite nor Postgres.
    """

    def __init__(self, database_url: str, business: Business, clock: Clock) -> None:
        self.business = business
        self._clock = clock
        self._database = open_database(database_url)
        self._opening = threading.Lock()
        self._open = False
        self._closed = False

    def open(self) -> None:
        """Check the database and bring its answers up to date with the business's; does nothing the second time.

        Raises ConfigurationError, with the cause, if the database cannot be used.
        """
        with self._opening:
            if not self._open:
                self._database.ping(CommandRow)
                with self._database.writing() as session:
                    faq.sync(session, self.business.id, self.business.faq, utc(self._clock))
                self._open = True

    def close(self) -> None:
        """Let go of the database. The last desk on it closes the connections."""
        with self._opening:
            if not self._closed:
                self._closed = True
                self._database.close()

    def ping(self) -> None:
        """Raise ConfigurationError, with the cause, if the database does not answer."""
        self._database.ping(CommandRow)

    # Calendar

    def find_slots(
        self, service_id: str, first_day: date, last_day: date, *, staff_id: str | None = None, limit: int = 6
    ) -> list[Slot]:
        """The first `limit` free slots on these local days, in order of time, one for each start.

        Empty if the business opens but nothing is free. Raises NotOffered for an unknown service or staff; NotOpen if
        all days are past, beyond the booking window or closed, with the nearest free slots as alternatives.
        """
        service, staff = bookings.who_gives(self.business, service_id, staff_id)
        if last_day < first_day:
            raise NotUnderstood("The last day is before the first day.", "Ask which days are meant.")
        now = utc(self._clock)
        noon = datetime.combine(first_day, time(12), self.business.zone)
        wish = Wish(service, staff, calendar.to_instant(noon, self.business.zone))
        with self._offering_alternatives(lambda _: wish), self._reading() as session:
            days = calendar.bookable_days(self.business, first_day, last_day, now)
            return list(islice(bookings.free_slots(session, self.business, service, staff, days, now), limit))

    def book(
        self,
        *,
        service_id: str,
        start: datetime,
        customer_id: int,
        staff_id: str | None = None,
        note: str = "",
        key: str,
    ) -> Appointment:
        """Book a service; a naive `start` is the business's wall clock. Without `staff_id`, the first who is free.

        Raises NotOffered (service, staff or customer), NotUnderstood (a time that the clocks skip), NotOpen and
        SlotTaken, these two with free `Slot`s nearby as alternatives.
        """

        def wish(_session: Session) -> Wish:
            return Wish.of(self.business, service_id, staff_id, start)

        def work(session: Session, now: datetime) -> Appointment:
            people.touch(session, self.business, customer_id, now)
            row = bookings.book(session, self.business, wish(session), customer_id, people.clean(note), now)
            return bookings.to_result(row, self.business)

        with self._offering_alternatives(wish):
            return self._once("book", key, Appointment, work)

    def reschedule(self, *, appointment_id: int, start: datetime, staff_id: str | None = None, key: str) -> Appointment:
        """Move an appointment, without `staff_id` with the same person if possible.

        Raises as `book` does, NotOffered also for an unknown or cancelled appointment, NotOpen for one that is over;
        the old time then stays booked.
        """

        def wish(row: AppointmentRow) -> Wish:
            return Wish.of(self.business, row.service_id, staff_id, start, rather=row.staff_id)

        def work(session: Session, now: datetime) -> Appointment:
            row = bookings.get(session, self.business, appointment_id)
            bookings.refuse_cancelled(row)
            bookings.refuse_over(self.business, row, now)
            people.touch(session, self.business, row.customer_id, now)
            bookings.move(session, self.business, row, wish(row), now)
            return bookings.to_result(row, self.business)

        with self._offering_alternatives(lambda session: wish(bookings.get(session, self.business, appointment_id))):
            return self._once("reschedule", key, Appointment, work)

    def cancel(self, *, appointment_id: int, reason: str = "", key: str) -> Appointment:
        """Cancel an appointment and free its time; one that was cancelled before comes back `already_cancelled`.

        Raises NotOffered for an unknown appointment, NotOpen for one that is over.
        """

        def work(session: Session, now: datetime) -> Appointment:
            row = bookings.get(session, self.business, appointment_id)
            if row.status == "cancelled":
                return bookings.to_result(row, self.business, already_cancelled=True)
            bookings.refuse_over(self.business, row, now)
            people.touch(session, self.business, row.customer_id, now)
            bookings.cancel(session, row, people.clean(reason), now)
            return bookings.to_result(row, self.business)

        return self._once("cancel", key, Appointment, work)

    def appointments(self, customer_id: int, *, upcoming: bool = True) -> list[Appointment]:
        """A customer's appointments: those booked and not yet over, soonest first; or all of them, latest first."""
        rows = select(AppointmentRow).filter_by(business_id=self.business.id, customer_id=customer_id)
        if upcoming:
            rows = rows.where(AppointmentRow.status == "booked", AppointmentRow.ends_at > utc(self._clock))
            rows = rows.order_by(AppointmentRow.starts_at, AppointmentRow.id)
        else:
            rows = rows.order_by(AppointmentRow.starts_at.desc(), AppointmentRow.id.desc())
        with self._reading() as session:
            return [bookings.to_result(row, self.business) for row in session.scalars(rows)]

    # People

    def find_customer(self, phone: str) -> Customer | None:
        """The customer at a number; if several share it, the one who was active last. See `find_customers`."""
        return next(iter(self.find_customers(phone)), None)

    def find_customers(self, phone: str) -> list[Customer]:
        """All customers at a number, the one who was active last first; none for a withheld number ("anonymous").

        A number without country code belongs to the business's country. Raises NotUnderstood if it cannot be one.
        """
        number = people.to_e164(phone, self.business, blank_allowed=True)
        with self._reading() as session:
            return [people.to_customer(row, self.business) for row in people.at_number(session, self.business, number)]

    def create_customer(self, *, name: str, phone: str, email: str = "", key: str) -> Customer:
        """A new customer, or the existing one with this number and name (letter case and spaces do not matter).

        Raises NotUnderstood for something that is not a name, a phone number or an e-mail address.
        """

        def work(session: Session, now: datetime) -> Customer:
            who = (people.to_name(name), people.to_e164(phone, self.business), people.to_email(email))
            return people.to_customer(people.insert_or_get(session, self.business, *who, now), self.business)

        return self._once("create_customer", key, Customer, work)

    def update_customer(
        self,
        customer_id: int,
        *,
        key: str,
        name: str | None = None,
        phone: str | None = None,
        email: str | None = None,
    ) -> Customer:
        """Change what is given. Raises NotOffered for an unknown customer, NotUnderstood as `create_customer` does.

        NotUnderstood too if another customer has this number and name already.
        """

        def work(session: Session, now: datetime) -> Customer:
            values: dict[str, str] = {}
            if name is not None:
                values["name"] = people.to_name(name)
            if phone is not None:
                values["phone"] = people.to_e164(phone, self.business)
            if email is not None:
                values["email"] = people.to_email(email)
            return people.to_customer(people.change(session, self.business, customer_id, values, now), self.business)

        return self._once("update_customer", key, Customer, work)

    def add_note(self, customer_id: int, text: str, *, call_id: str = "", key: str) -> Note:
        """Add a remark. Raises NotOffered for an unknown customer, NotUnderstood for an empty or endless text."""

        def work(session: Session, now: datetime) -> Note:
            words = people.required_text(text)
            row = people.insert_note(session, self.business, customer_id, words, call_id, now)
            return people.to_note(row, self.business)

        return self._once("add_note", key, Note, work)

    def take_message(self, *, caller_phone: str, name: str, text: str, urgent: bool = False, key: str) -> Message:
        """Keep a message for the business; number and name may be empty.

        Raises NotUnderstood for an empty or endless text and for digits that cannot be a phone number.
        """

        def work(session: Session, now: datetime) -> Message:
            phone = people.to_e164(caller_phone, self.business, blank_allowed=True)
            who = people.to_name(name) if name.strip() else ""
            words = people.required_text(text)
            row = people.insert_message(session, self.business, phone, who, words, urgent, now)
            return people.to_message(row, self.business)

        return self._once("take_message", key, Message, work)

    def history(self, customer_id: int) -> list[Appointment | Note | Message]:
        """A customer's appointments, notes and messages by when they were made: the newest 50, newest first."""
        business = self.business
        with self._reading() as session:

            def newest(table: Any) -> Any:
                rows = select(table).filter_by(business_id=business.id, customer_id=customer_id)
                return session.scalars(rows.order_by(table.created_at.desc(), table.id.desc()).limit(_HISTORY))

            entries: list[Appointment | Note | Message] = [
                *(bookings.to_result(row, business) for row in newest(AppointmentRow)),
                *(people.to_note(row, business) for row in newest(NoteRow)),
                *(people.to_message(row, business) for row in newest(MessageRow)),
            ]
        return sorted(entries, key=lambda entry: entry.created_at, reverse=True)[:_HISTORY]

    # Answers

    def search_faq(self, query: str, limit: int = 3) -> list[Faq]:
        """The business's best answers to a caller's words, best first; empty if none fits. Any text is safe."""
        with self._reading() as session:
            return faq.search(session, self.business.id, query, limit)

    # Sessions and keys

    def _reading(self) -> AbstractContextManager[Session]:
        if not self._open:
            self.open()
        return self._database.reading()

    def _writing(self) -> AbstractContextManager[Session]:
        if not self._open:
            self.open()
        return self._database.writing()

    def _once(
        self, kind: str, key: str, result_type: type[Result], work: Callable[[Session, datetime], Result]
    ) -> Result:
        """Do `work` in one transaction with its key, or return what was done under this key before."""
        if not key:
            raise ValueError(f"{kind} needs an idempotency key")
        command = {"business_id": self.business.id, "key": key}
        adapter: TypeAdapter[Result] = _ADAPTERS[result_type]
        with self._writing() as session:
            now = utc(self._clock)
            # Claiming the key first makes a concurrent command with the same key wait here for the outcome.
            if insert_if_new(session, CommandRow, {**command, "kind": kind, "created_at": now}):
                result = work(session, now)
                stored = adapter.dump_python(result, mode="json")
                session.execute(update(CommandRow).filter_by(**command).values(result=stored))
                return result
            first = session.scalars(select(CommandRow).filter_by(**command)).one()
            if first.kind != kind:
                raise ValueError(f"the idempotency key of {kind} was used for {first.kind} before")
            return self._in_zone(adapter.validate_python(first.result))

    @contextmanager
    def _offering_alternatives(self, wish: Callable[[Session], Wish]) -> Iterator[None]:
        """Let the refusal of a time name free ones nearby. They are sought when the transaction has ended."""
        try:
            yield
        except (NotOpen, SlotTaken) as refusal:
            with self._reading() as session:
                near = bookings.alternatives(session, self.business, wish(session), utc(self._clock))
            raise type(refusal)(refusal.reason, refusal.hint, near) from None

    def _in_zone(self, stored: Result) -> Result:
        """JSON keeps a moment's offset but not its zone."""
        moments: dict[str, Any] = {
            field.name: value.astimezone(self.business.zone)
            for field in fields(stored)
            if isinstance(value := getattr(stored, field.name), datetime)
        }
        return replace(stored, **moments)
