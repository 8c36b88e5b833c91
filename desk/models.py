"""The desk's tables. They may share a database with the call records, hence the prefix ``desk_``.

Every row carries the id of its business and the moment it was made. Nothing is loaded lazily: there are no
relationships, each query names what it reads.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from desk.database import CONSTRAINT_NAMES, UtcDateTime


class Base(DeclarativeBase):
    """What the desk's tables have in common."""

    metadata = MetaData(naming_convention=CONSTRAINT_NAMES)
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON(none_as_null=True)}  # noqa: RUF012 (SQLAlchemy's own form)


class CustomerRow(Base):
    """A person at a phone number. A family shares a number; `name_key` is the name folded for comparison."""

    __tablename__ = "desk_customers"
    __table_args__ = (UniqueConstraint("business_id", "phone", "name_key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    business_id: Mapped[str]
    phone: Mapped[str]
    name: Mapped[str]
    name_key: Mapped[str]
    email: Mapped[str]
    created_at: Mapped[datetime]
    last_active_at: Mapped[datetime]


class AppointmentRow(Base):
    """An appointment, booked or cancelled. The time it occupies is in `BookedCellRow`."""

    __tablename__ = "desk_appointments"
    __table_args__ = (
        CheckConstraint("status IN ('booked', 'cancelled')", name="status"),
        CheckConstraint("ends_at > starts_at", name="ends_after_start"),
        Index(None, "customer_id", "starts_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    business_id: Mapped[str]
    customer_id: Mapped[int] = mapped_column(ForeignKey("desk_customers.id"))
    service_id: Mapped[str]
    staff_id: Mapped[str]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    status: Mapped[str]
    note: Mapped[str]
    cancel_reason: Mapped[str]
    created_at: Mapped[datetime]
    cancelled_at: Mapped[datetime | None]


class BookedCellRow(Base):
    """Five minutes of somebody's time. The primary key is what makes a double booking impossible."""

    __tablename__ = "desk_booked_cells"
    __table_args__ = ({"sqlite_with_rowid": False},)

    business_id: Mapped[str] = mapped_column(primary_key=True)
    staff_id: Mapped[str] = mapped_column(primary_key=True)
    cell: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    appointment_id: Mapped[int] = mapped_column(ForeignKey("desk_appointments.id"), index=True)
    created_at: Mapped[datetime]


class NoteRow(Base):
    """A remark about a customer; `call_id` is empty if it was not made on a call."""

    __tablename__ = "desk_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    business_id: Mapped[str]
    customer_id: Mapped[int] = mapped_column(ForeignKey("desk_customers.id"), index=True)
    call_id: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[datetime]


class MessageRow(Base):
    """A message for the business; `caller_phone` is empty for a withheld number."""

    __tablename__ = "desk_messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    business_id: Mapped[str] = mapped_column(index=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("desk_customers.id"), index=True)
    caller_phone: Mapped[str]
    name: Mapped[str]
    text: Mapped[str]
    urgent: Mapped[bool]
    created_at: Mapped[datetime]


class CommandRow(Base):
    """A write that was done, under its idempotency key, with its first result. `result` is null while it runs."""

    __tablename__ = "desk_commands"

    business_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    result: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]


class FaqRow(Base):
    """One answer of the business's list, kept in step with it when a desk opens."""

    __tablename__ = "desk_faq"
    __table_args__ = (UniqueConstraint("business_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    business_id: Mapped[str]
    position: Mapped[int]
    question: Mapped[str]
    answer: Mapped[str]
    created_at: Mapped[datetime]
