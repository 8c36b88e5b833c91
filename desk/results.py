"""What the desk hands out: frozen values, detached from the database, that survive a trip through JSON.

Times are aware, in the business's zone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class Customer:
    """A person at an E.164 phone number; several may share one."""

    id: int
    name: str
    phone: str
    email: str
    created_at: datetime


@dataclass(frozen=True)
class Appointment:
    """An appointment as it stood after the command that returned it. `end` is without the service's buffer.

    `already_cancelled` is True if a cancellation found it cancelled before.
    """

    id: int
    customer_id: int
    service_id: str
    staff_id: str
    start: datetime
    end: datetime
    status: Literal["booked", "cancelled"]
    note: str
    cancel_reason: str
    created_at: datetime
    already_cancelled: bool = False


@dataclass(frozen=True)
class Note:
    """A remark about a customer."""

    id: int
    customer_id: int
    text: str
    call_id: str
    created_at: datetime


@dataclass(frozen=True)
class Message:
    """A message that a caller left. `customer_id` is None unless exactly one known person fits number and name."""

    id: int
    customer_id: int | None
    caller_phone: str
    name: str
    text: str
    urgent: bool
    created_at: datetime
