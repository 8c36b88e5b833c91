"""Customers, notes and messages in the database, and the checks of what callers say about themselves."""

from __future__ import annotations

import re
from datetime import datetime

import phonenumbers
from phonenumbers import NumberParseException, ValidationResult
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from bot.errors import NotOffered, NotUnderstood
from desk.business import Business
from desk.database import insert_if_new
from desk.models import CustomerRow, MessageRow, NoteRow
from desk.results import Customer, Message, Note

_LONGEST_NAME = 120
_LONGEST_TEXT = 4000
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")


def to_e164(phone: str, business: Business, *, blank_allowed: bool = False) -> str:
    """A number as E.164; without a country code it belongs to the business's country. Raises NotUnderstood.

    With `blank_allowed`, what has no digits at all ("", "anonymous": a withheld number) becomes "".
    """
    if blank_allowed and not any(letter.isdigit() for letter in phone):
        return ""
    try:
        number = phonenumbers.parse(phone, business.phone_country)
    except NumberParseException:
        raise NotUnderstood("That is not a phone number.", "Ask for the number digit by digit.") from None
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible == ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
        raise NotUnderstood("That phone number lacks its area code.", "Ask for the number with area code.")
    if possible != ValidationResult.IS_POSSIBLE:
        problem = "short" if possible == ValidationResult.TOO_SHORT else "long"
        if possible not in (ValidationResult.TOO_SHORT, ValidationResult.TOO_LONG):
            raise NotUnderstood("That is not a phone number.", "Ask for the number digit by digit.")
        raise NotUnderstood(f"That phone number is too {problem}.", "Ask for the number digit by digit.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def clean(text: str) -> str:
    """Text without control characters (Postgres refuses NUL) and without blanks around it."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t").strip()


def required_text(text: str) -> str:
    """A note's or message's words. Raises NotUnderstood if there are none or too many."""
    words = clean(text)
    if not words:
        raise NotUnderstood("There is no text.", "Ask what should be written down.")
    if len(words) > _LONGEST_TEXT:
        raise NotUnderstood(f"The text is longer than {_LONGEST_TEXT} characters.", "Write a shorter one.")
    return words


def to_name(name: str) -> str:
    """A person's name on one line. Raises NotUnderstood if it has no letter or is too long."""
    words = " ".join(clean(name).split())
    if not any(letter.isalpha() for letter in words) or len(words) > _LONGEST_NAME:
        raise NotUnderstood("That is not a name.", "Ask for first and last name.")
    return words


def to_email(email: str) -> str:
    """An e-mail address or "". Raises NotUnderstood."""
    address = clean(email)
    if address and not _EMAIL.fullmatch(address):
        raise NotUnderstood("That is not an e-mail address.", "Ask for it letter by letter, or go on without.")
    return address


def at_number(session: Session, business: Business, number: str) -> list[CustomerRow]:
    """Everybody at an E.164 number, the one who was active last first."""
    rows = select(CustomerRow).filter_by(business_id=business.id, phone=number)
    return list(session.scalars(rows.order_by(CustomerRow.last_active_at.desc(), CustomerRow.id.desc())))


def insert_or_get(
    session: Session, business: Business, name: str, phone: str, email: str, now: datetime
) -> CustomerRow:
    """A new customer, or the one there is with this number and name; an e-mail address that was missing is added."""
    who = {"business_id": business.id, "phone": phone, "name_key": name.casefold()}
    details = {"name": name, "email": email, "created_at": now, "last_active_at": now}
    insert_if_new(session, CustomerRow, {**who, **details})
    row = session.scalars(select(CustomerRow).filter_by(**who)).one()
    row.last_active_at, row.email = now, row.email or email
    return row


def change(
    session: Session, business: Business, customer_id: int, values: dict[str, str], now: datetime
) -> CustomerRow:
    """Set what `values` holds. Raises NotOffered, and NotUnderstood if somebody else has this number and name."""
    touch(session, business, customer_id, now)
    row = session.scalars(select(CustomerRow).filter_by(id=customer_id)).one()
    try:
        with session.begin_nested():
            for column, value in values.items():
                setattr(row, column, value)
            row.name_key = row.name.casefold()
    except IntegrityError:
        raise NotUnderstood(
            "There already is another customer with this name and phone number.", "Use that customer instead."
        ) from None
    return row


def touch(session: Session, business: Business, customer_id: int, now: datetime) -> None:
    """Note that a customer was active, which also locks the row. Raises NotOffered for an unknown customer."""
    known = update(CustomerRow).filter_by(id=customer_id, business_id=business.id).values(last_active_at=now)
    if session.execute(known.returning(CustomerRow.id)).first() is None:
        raise NotOffered(f"There is no customer {customer_id}.", "Look the caller up or create a customer first.")


def insert_note(
    session: Session, business: Business, customer_id: int, words: str, call_id: str, now: datetime
) -> NoteRow:
    """Insert a remark about a customer. Raises NotOffered for an unknown customer."""
    touch(session, business, customer_id, now)
    row = NoteRow(business_id=business.id, customer_id=customer_id, text=words, call_id=call_id, created_at=now)
    session.add(row)
    session.flush()
    return row


def insert_message(
    session: Session, business: Business, phone: str, name: str, words: str, urgent: bool, now: datetime
) -> MessageRow:
    """Insert a message, tied to a customer if exactly one fits: by number and name, or by number alone."""
    fitting = at_number(session, business, phone) if phone else []
    if name:
        fitting = [row for row in fitting if row.name_key == name.casefold()]
    row = MessageRow(
        business_id=business.id,
        customer_id=fitting[0].id if len(fitting) == 1 else None,
        caller_phone=phone,
        name=name,
        text=words,
        urgent=urgent,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def to_customer(row: CustomerRow, business: Business) -> Customer:
    """The row as the desk hands it out."""
    return Customer(row.id, row.name, row.phone, row.email, row.created_at.astimezone(business.zone))


def to_note(row: NoteRow, business: Business) -> Note:
    """The row as the desk hands it out."""
    return Note(row.id, row.customer_id, row.text, row.call_id, row.created_at.astimezone(business.zone))


def to_message(row: MessageRow, business: Business) -> Message:
    """The row as the desk hands it out."""
    made = row.created_at.astimezone(business.zone)
    return Message(row.id, row.customer_id, row.caller_phone, row.name, row.text, row.urgent, made)
