"""Writes that were done, and how those of one call are found again: by their idempotency keys.

A key begins with a digest of its call's id. The id itself is not in it: a call may be erased, and its bookings stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from desk.database import Database
from desk.models import CommandRow

_CALL_DIGITS, _WISH_DIGITS = 16, 24


@dataclass(frozen=True)
class Command:
    """A write: its key, what it was (``book``), and its result as JSON has it."""

    key: str
    kind: str
    result: Mapping[str, Any]


def command_key(call_sid: str, wish: str) -> str:
    """The idempotency key of a wish, the same as often as it is uttered on a call. Parts of it add ``:part``."""
    return _digest(call_sid)[:_CALL_DIGITS] + _digest(wish)[:_WISH_DIGITS]


def commands_of(database: Database, business_id: str, call_sid: str, since: datetime) -> list[Command]:
    """What was written on a call from a moment on, oldest first, the parts of greater writes left out. Blocking."""
    call = _digest(call_sid)[:_CALL_DIGITS]
    query = (
        select(CommandRow.key, CommandRow.kind, CommandRow.result)
        .where(CommandRow.business_id == business_id)
        # Digits and small letters of one length: every collation orders them alike.
        .where(CommandRow.key.between(call + _WISH_DIGITS * "0", call + _WISH_DIGITS * "f"))
        .where(CommandRow.created_at >= since, CommandRow.key.not_like("%:%"))
        .order_by(CommandRow.created_at, CommandRow.key)
    )
    with database.reading() as session:
        return [Command(key, kind, result or {}) for key, kind, result in session.execute(query)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
