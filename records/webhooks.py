"""Webhooks to the operator's systems: a signed message when a call is finished, and one when it is flagged.

Signed as Standard Webhooks has it (https://www.standardwebhooks.com): HMAC-SHA256 over ``ID.TIMESTAMP.BODY``, in the
headers ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``; the id stays the same when a message is sent
again, so that a receiver can tell. The body has the call's outcome and figures, and no transcript: that is fetched by
whoever may. It is made anew for each attempt, so that nothing of an erased call is kept here or sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import httpx
import orjson
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from bot.errors import SwitchboardError
from bot.ports import Clock, utc
from desk.database import Database, insert_if_new
from records.models import AttemptRow, DeliveryRow
from records.record import CallRecord

Event = Literal["call.finished", "call.flagged"]
State = Literal["pending", "queued", "delivered", "failed", "given_up"]

PAUSES = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 43200)
"""Seconds until a message is sent again, after its first failure, its second, and so on: 27 hours in all."""
TIMEOUT_SECONDS = 10.0
GONE = 410
"""By this status a receiver says that it wants no more of it."""


class NotDelivered(SwitchboardError):
    """A receiver did not take a message."""


@dataclass(frozen=True)
class Delivery:
    """A message and where it goes, by `target_key` (`key_of`)."""

    id: str
    call_id: str
    event: Event
    target_key: str


def key_of(url: str) -> str:
    """What stands for an address where the address itself, which may hold a secret, should not stand."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def delivery_id(call_id: str, event: Event, url: str) -> str:
    """The id of the message about a call to a receiver: the same however often it is asked for."""
    return "msg_" + hashlib.sha256(f"{call_id}\n{event}\n{url}".encode()).hexdigest()[:32]


def body_of(event: Event, record: CallRecord) -> bytes:
    """The message: ``type``, ``timestamp`` (the call's end) and ``data``."""
    ended = record.began_at + timedelta(milliseconds=record.duration_ms)
    data: dict[str, Any] = {
        name: getattr(record, name)
        for name in ("call_id", "call_sid", "flow", "from_number", "to_number", "began_at", "duration_ms", "language")
    }
    data |= {
        "disposition": record.outcome.disposition,
        "end_reason": record.outcome.end_reason,
        "summary": record.outcome.summary,
        "fields": dict(record.outcome.fields),
        "changes": [asdict(change) for change in record.outcome.changes],
        "flags": [asdict(flag) for flag in record.flags],
        "figures": asdict(record.figures),
        "cost": {"usd": record.cost.usd, "complete": record.cost.complete},
    }
    return orjson.dumps({"type": event, "timestamp": ended, "data": data}, option=orjson.OPT_UTC_Z)


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``. `secret`: ``whsec_`` and the key in base64, or the key itself as text."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(signed).decode()


class Webhooks:
    """The messages of this server's calls. Every method blocks."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        urls: tuple[str, ...],
        secret: str,
        record_of: Callable[[str], CallRecord | None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._urls = {key_of(url): url for url in urls}
        self._secret = secret
        self._record_of = record_of
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False)

    def announce(self, record: CallRecord) -> list[Delivery]:
        """Write down the messages about a call, once; gives them all, those of an earlier try too."""
        events: tuple[Event, ...] = ("call.finished", "call.flagged") if record.flags else ("call.finished",)
        found = []
        with self._database.writing() as session:
            for url in self._urls.values():
                for event in events:
                    delivery = Delivery(delivery_id(record.call_id, event, url), record.call_id, event, key_of(url))
                    row = asdict(delivery) | {
                        "target": _shown(url), "state": "pending", "tries": 0, "next_try_at": utc(self._clock),
                        "created_at": utc(self._clock),
                    }  # fmt: skip
                    insert_if_new(session, DeliveryRow, row)
                    found.append(delivery)
        return found

    def deliver(self, message_id: str) -> None:
        """Send a message, and write down how that went. Raises `NotDelivered` where it is to be sent again."""
        with self._database.reading() as session:
            row = session.get(DeliveryRow, message_id)
        if row is None or row.state in ("delivered", "given_up"):
            return
        url, record = self._urls.get(row.target_key), self._record_of(row.call_id)
        if url is None or record is None:
            self._write_down(message_id, Answer(None, 0.0, "the call or the receiver is gone"), b"", give_up=True)
            return
        body = body_of(cast(Event, row.event), record)
        answer = self._send(url, message_id, body)
        if self._write_down(message_id, answer, body, give_up=answer.status == GONE) == "failed":
            raise NotDelivered(f"{_shown(url)}: {answer.error}")

    def due(self) -> list[tuple[str, str]]:
        """Messages whose time has come to be sent, or sent again: id and `Delivery.target_key`."""
        query = select(DeliveryRow.id, DeliveryRow.target_key)
        query = query.where(DeliveryRow.state.in_(("pending", "failed")), DeliveryRow.next_try_at <= utc(self._clock))
        with self._database.reading() as session:
            return [(message_id, key) for message_id, key in session.execute(query)]

    def queued(self, message_id: str) -> None:
        """Somebody is about to send it; told before it is handed on, or an answer could be there first."""
        with self._database.writing() as session:
            row = session.get(DeliveryRow, message_id)
            if row is not None and row.state in ("pending", "failed"):
                row.state, row.next_try_at = "queued", None

    def all_queued(self) -> set[str]:
        """Messages that somebody is to send."""
        with self._database.reading() as session:
            return set(session.scalars(select(DeliveryRow.id).where(DeliveryRow.state == "queued")))

    def lost(self, message_id: str) -> None:
        """Nobody sends a queued message any more. That counts as an attempt, so that it cannot go on for ever."""
        with self._database.writing() as session:
            row = session.get(DeliveryRow, message_id, with_for_update=True)
            if row is not None and row.state == "queued":
                self._note(session, row, Answer(None, 0.0, "whoever was to send it has failed"), b"")

    def _send(self, url: str, message_id: str, body: bytes) -> Answer:
        timestamp = self._clock.wall_ns() // 10**9
        headers = {
            "content-type": "application/json",
            "user-agent": "Switchboard",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._secret, message_id, timestamp, body),
        }
        began_ns = self._clock.now_ns()
        status, error = None, ""
        try:
            # Only the status counts: a receiver's long answer is not waited for.
            with self._client.stream("POST", url, content=body, headers=headers) as response:
                status = response.status_code
            error = "" if response.is_success else f"answered {status}"
        except httpx.TimeoutException:
            error = f"no answer in {TIMEOUT_SECONDS:g} s"
        except Exception as problem:  # httpx does not count everything as its own: an address it cannot use, for one
            error = type(problem).__name__
        return Answer(status, (self._clock.now_ns() - began_ns) / 1e6, error)

    def _write_down(self, message_id: str, answer: Answer, body: bytes, *, give_up: bool) -> State:
        with self._database.writing() as session:
            return self._note(session, session.get_one(DeliveryRow, message_id), answer, body, give_up=give_up)

    def _note(self, session: Session, row: DeliveryRow, answer: Answer, body: bytes, *, give_up: bool = False) -> State:
        now = utc(self._clock)
        row.tries += 1
        before = select(func.count()).select_from(AttemptRow).where(AttemptRow.delivery == row.id)
        number = session.scalars(before).one() + 1
        session.add(
            AttemptRow(
                delivery=row.id, number=number, at=now, status=answer.status, duration_ms=answer.ms,
                error=answer.error, body_sha256=hashlib.sha256(body).hexdigest(),
            )
        )  # fmt: skip
        state: State = "delivered" if not answer.error else "failed"
        if answer.error and (give_up or row.tries > len(PAUSES)):
            state = "given_up"
        row.state = state
        row.next_try_at = now + timedelta(seconds=PAUSES[row.tries - 1]) if state == "failed" else None
        return state


# -- the delivery log -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """One attempt to deliver, as `python -m records jobs` shows it; ``status`` None where there was no answer."""

    at: datetime
    status: int | None
    ms: float
    error: str


@dataclass(frozen=True)
class Logged:
    """A message and what became of it so far."""

    call_id: str
    event: Event
    target: str
    state: State
    tries: int
    next_try_at: datetime | None
    attempts: tuple[Attempt, ...]


def delivery_log(database: Database, call_id: str | None = None) -> list[Logged]:
    """The messages that are not delivered, oldest first; with a call's id all of that call."""
    which = _undelivered() if call_id is None else DeliveryRow.call_id == call_id
    query = select(DeliveryRow).where(which).order_by(DeliveryRow.created_at, DeliveryRow.id)
    tries = select(AttemptRow).join(DeliveryRow, AttemptRow.delivery == DeliveryRow.id).where(which)
    attempts: dict[str, list[Attempt]] = {}
    with database.reading() as session:
        for row in session.scalars(tries.order_by(AttemptRow.delivery, AttemptRow.number)):
            attempts.setdefault(row.delivery, []).append(Attempt(row.at, row.status, row.duration_ms, row.error))
        return [
            Logged(
                row.call_id, cast(Event, row.event), row.target, cast(State, row.state), row.tries, row.next_try_at,
                tuple(attempts.get(row.id, ())),
            )
            for row in session.scalars(query)
        ]  # fmt: skip


def delivery_counts(database: Database) -> dict[str, int]:
    """How many messages are waiting to be sent, and how many have failed: those that are sent again too."""
    query = select(DeliveryRow.state, func.count()).where(_undelivered()).group_by(DeliveryRow.state)
    counts = {"webhooks_pending": 0, "webhooks_failed": 0}
    with database.reading() as session:
        for state, count in session.execute(query):
            counts["webhooks_pending" if state in ("pending", "queued") else "webhooks_failed"] += count
    return counts


def _undelivered() -> ColumnElement[bool]:
    """What a receiver should have and has not. Who wants no more of it (`GONE`), or is gone, lacks nothing."""
    tried_out = and_(DeliveryRow.state == "given_up", DeliveryRow.tries > len(PAUSES))
    return or_(DeliveryRow.state.in_(("pending", "queued", "failed")), tried_out)


def retry_deliveries(database: Database, call_id: str, clock: Clock) -> int:
    """Have what was not delivered of a call sent again now; how many messages those are."""
    query = select(DeliveryRow).where(
        DeliveryRow.call_id == call_id, DeliveryRow.state.in_(("queued", "failed", "given_up"))
    )
    with database.writing() as session:
        rows = session.scalars(query).all()
        for row in rows:
            row.state, row.next_try_at, row.tries = "failed", utc(clock), 0
        return len(rows)


@dataclass(frozen=True)
class Answer:
    """What came of an attempt: the receiver's HTTP status, if any; how long it took; what was wrong, if anything."""

    status: int | None
    ms: float
    error: str


def _shown(url: str) -> str:
    """An address without what may be a secret in it: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
