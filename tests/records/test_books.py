"""What a killed server had written in the books and not yet told its tape: recovery puts it on the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import StillClock
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.made_tapes import CALL, EPOCH_NS, Heard, Says, at, tone, write_tape
from bot.events import CallEvent, ToolCalled, ToolReturned, WriteFound
from bot.flow import load_flow
from bot.tape import TapeReader, recover_tape
from desk.commands import command_key
from desk.database import Database, open_database
from desk.desk import Desk, migrate
from records.books import missing_writes
from records.derive import derive, load_prices
from records.record import CallRecord

BEGAN = datetime.fromtimestamp(EPOCH_NS / 1e9, UTC)
BOOK = command_key(CALL, "book")
Events = list[tuple[float, CallEvent]]


@pytest.fixture
def database_url(make_database: Callable[..., str]) -> str:
    return make_database(migrate)


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    """The dental practice's, five seconds into the call."""
    business = load_flow(Path("flows/dental.yaml")).desk_business()
    desk = Desk(database_url, business, StillClock(BEGAN + timedelta(seconds=5)))
    yield desk
    desk.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def recovered(tmp_path: Path, database: Database) -> Callable[..., CallRecord]:
    """The record of a call whose server was killed, with these events on its tape."""

    def recover(events: Events = [], missing: Callable[[TapeReader], Any] | None = None) -> CallRecord:  # noqa: B006
        write_tape(
            tmp_path / f"{CALL}.mcap",
            caller=at((1_000, tone(1_000, 300)), ms=12_000),
            heard=[Heard(2_500, "a cleaning on Tuesday please")],
            bot=[Says(3_000, tone(1_000), "One moment, please.")],
            events=events,
            ended="",
            finished=False,
        )
        part = tmp_path / f"{CALL}.mcap.part"
        tape = recover_tape(part, StillClock(), missing or (lambda tape: missing_writes(tape, database)))
        assert tape is not None
        return derive(TapeReader(tape), prices=load_prices()).record

    return recover


def book(desk: Desk, key: str = BOOK, days: int = 7) -> int:
    """An appointment of a new customer; gives its number."""
    customer = desk.create_customer(name="Ada Lovelace", phone="+12075550100", key=f"{key}:customer")
    first = BEGAN.date() + timedelta(days=days)
    slot = desk.find_slots("cleaning", first, first + timedelta(days=7))[0]
    return desk.book(service_id="cleaning", start=slot.start, customer_id=customer.id, key=key).id


def called(ms: float = 4_000) -> Events:
    return [(ms, ToolCalled("fc-1", "book_appointment", {"name": "Ada Lovelace"}, "choose_time"))]


def returned(key: str, number: int, ms: float = 4_050) -> Events:
    return [(ms, ToolReturned("fc-1", "book_appointment", "ok", {"say": "Booked.", "number": number}, 50.0, key))]


def changes(record: CallRecord) -> list[tuple[str, str]]:
    return [(change.kind, change.id) for change in record.outcome.changes]


def test_a_booking_whose_result_the_kill_took_is_on_the_record(
    desk: Desk, recovered: Callable[..., CallRecord]
) -> None:
    number = book(desk)
    record = recovered(called())
    assert (record.outcome.disposition, record.outcome.end_reason) == ("booked", "interrupted")
    [change] = record.outcome.changes
    assert (change.kind, change.id, change.tool_call_id) == ("booking", str(number), "fc-1")
    assert "found in the books" in change.text
    [tool] = record.tools
    assert (tool.name, tool.status, tool.step) == ("book_appointment", "found", "choose_time")
    assert record.outcome.fields["name"] == "Ada Lovelace"
    assert {flag.kind for flag in record.flags} == {"interrupted", "result_without_words"}


def test_so_is_one_whose_very_call_the_kill_took(desk: Desk, recovered: Callable[..., CallRecord]) -> None:
    number = book(desk)
    record = recovered()
    assert changes(record) == [("booking", str(number))]
    assert [(tool.name, tool.status) for tool in record.tools] == [("book_appointment", "found")]


def test_what_the_tape_tells_is_not_told_twice(desk: Desk, recovered: Callable[..., CallRecord]) -> None:
    number = book(desk)
    record = recovered(called() + returned(BOOK, number))
    assert changes(record) == [("booking", str(number))]
    assert [tool.status for tool in record.tools] == ["ok"]


def test_only_the_writes_of_this_call_since_its_tape_began_are_found(
    desk: Desk, database_url: str, recovered: Callable[..., CallRecord]
) -> None:
    book(desk, command_key("CA" + "8" * 32, "book"))
    before = Desk(database_url, desk.business, StillClock(BEGAN - timedelta(minutes=1)))
    book(before, command_key(CALL, "the tape before"), days=14)
    before.close()
    assert changes(recovered()) == []


def test_every_kind_of_write_is_found_in_the_order_of_the_books(
    desk: Desk, recovered: Callable[..., CallRecord]
) -> None:
    clock = desk._clock
    assert isinstance(clock, StillClock)

    def key(wish: str) -> str:
        clock.forward(1)
        return command_key(CALL, wish)

    number = book(desk)
    customer = desk.create_customer(name="Charles Babbage", phone="+12075550101", key=key("save"))
    desk.update_customer(customer.id, email="charles@example.com", key=key("update"))
    desk.add_note(customer.id, "Allergic to latex.", key=key("note"))
    desk.take_message(caller_phone="+12075550101", name="Charles Babbage", text="Call me.", key=key("message"))
    later = desk.find_slots("cleaning", (BEGAN + timedelta(days=21)).date(), (BEGAN + timedelta(days=28)).date())[0]
    desk.reschedule(appointment_id=number, start=later.start, key=key("move"))
    desk.cancel(appointment_id=number, key=key("cancel"))
    record = recovered()
    assert [kind for kind, _ in changes(record)] == [
        "booking", "customer", "customer", "note", "message", "reschedule", "cancellation",
    ]  # fmt: skip
    assert [id for kind, id in changes(record) if kind in ("booking", "reschedule", "cancellation")] == [
        str(number)
    ] * 3
    assert record.outcome.disposition == "message_taken", "what was booked was cancelled again"


def test_a_tape_waits_for_books_that_do_not_answer(tmp_path: Path, recovered: Callable[..., CallRecord]) -> None:
    def away(_: TapeReader) -> list[WriteFound]:
        raise SQLAlchemyError

    with pytest.raises(SQLAlchemyError):
        recovered(missing=away)
    part = tmp_path / f"{CALL}.mcap.part"
    kinds = [CallEvent.from_json(record.data).kind for record in TapeReader(part) if record.channel == "event"]
    assert "call_received" in kinds
    assert "call_ended" not in kinds
    assert recover_tape(part, StillClock()) is not None
