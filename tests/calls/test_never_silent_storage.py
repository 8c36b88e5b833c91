"""What a caller hears when a database or a disk fails. docs/runbook.md lists these tests by name."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from fakes.events import said
from fakes.gemini import END_CALL, ListedMind

from bot.tape import TapeReader, TapeWriter
from bot.tools import ToolBox
from sandbox.conversation import Habits, Turn
from sandbox.gemini.faults import Faults
from sandbox.mind import Reply, ToolCall

Say = Callable[..., Turn]
PATIENT = Habits(end_ms=2500, stays=True, hello_ms=30_000)
MESSAGE = ToolCall("take_message", {"name": "Ada Lovelace", "message": "Please call me back."})


def statuses(events: list[Any], tool: str) -> list[str]:
    return [event.status for event in events if event.kind == "tool_returned" and event.name == tool]


def booking(site: Any) -> Reply:
    first = datetime.now(site.flow.zone).date() + timedelta(days=2)
    slot = site.app.state.parts.desk.find_slots("cleaning", first, first + timedelta(days=40), limit=1)[0]
    local = slot.start.astimezone(site.flow.zone)
    when = {"day": local.date().isoformat(), "time": local.strftime("%H:%M")}
    return Reply(calls=[ToolCall("book_appointment", {"service": "Cleaning", "name": "Ada Lovelace", **when})])


def look(site: Any) -> Reply:
    first = datetime.now(site.flow.zone).date() + timedelta(days=2)
    return Reply(calls=[ToolCall("find_slots", {"service": "Cleaning", "day": first.isoformat()})])


def appointments(site: Any) -> int:
    desk = site.app.state.parts.desk
    return sum(len(desk.appointments(customer.id)) for customer in desk.find_customers("+15005550100"))


async def test_a_booking_that_runs_on_after_the_call_is_told(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller has hung up, and the database holds the booking up for longer than the end of a call waits."""
    finish, minds = ToolBox.finish, list[ListedMind]()
    monkeypatch.setattr(ToolBox, "finish", lambda toolbox: finish(toolbox, 0.3))
    async with open_site(lambda: minds.pop(0)) as site:
        minds.append(ListedMind(look(site), booking(site)))
        desk, released = site.app.state.parts.desk, threading.Event()
        book = desk.book

        def held_up(*args: Any, **options: Any) -> Any:
            released.wait(20)
            return book(*args, **options)

        monkeypatch.setattr(desk, "book", held_up)
        call = site.dial(say())
        caller = asyncio.create_task(call.run())
        while not any(event.name == "book_appointment" for event in site.of("tool_called")):
            await asyncio.sleep(0.01)
        call.hang_up()
        record = await caller
        events = await site.tape_of(record.call_sid)
        assert appointments(site) == 0
        released.set()
        async with asyncio.timeout(10):
            while not appointments(site):
                await asyncio.sleep(0.02)
    assert [event.failure for event in events if event.kind == "trouble"] == ["writes_unfinished"]
    assert events[-1].reason == "caller_hung_up"


async def test_a_database_that_is_locked_for_a_while_books_all_the_same(
    open_site: Any, say: Say, tmp_path: Path, hasty: None
) -> None:
    minds: list[ListedMind] = []
    async with open_site(lambda: minds.pop(0)) as site:
        minds.append(ListedMind(look(site), booking(site), "You are booked.", END_CALL, "Good bye to you."))
        lock = sqlite3.connect(tmp_path / "switchboard.db", isolation_level=None, check_same_thread=False)
        lock.execute("BEGIN IMMEDIATE")

        def unlock(sid: str, event: Any, _: int) -> None:
            if event.kind == "silence_filled":
                lock.rollback()

        site.app.state.parts.listeners.append(unlock)
        record = await site.ring(say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
        booked = appointments(site)
        lock.close()
    assert statuses(events, "book_appointment") == ["ok"]
    assert said(events)[1:] == [site.flow.phrases.one_moment, "You are booked.", "Good bye to you."]
    assert booked == 1


async def test_a_booking_that_takes_too_long_is_made_once_and_can_be_asked_for_again(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    minds: list[ListedMind] = []
    async with open_site(lambda: minds.pop(0)) as site:
        parts = site.app.state.parts
        tools = tuple(use.model_copy(update={"timeout_seconds": 0.5}) for use in parts.flow.tools)
        parts.flow = parts.flow.model_copy(update={"tools": tools})
        wish = booking(site)
        minds.append(ListedMind(look(site), wish, "I cannot see it.", wish, "You are booked.", END_CALL, "Good bye."))
        book, told = parts.desk.book, threading.Event()

        def slowly(*args: Any, **options: Any) -> Any:
            told.wait(20)
            return book(*args, **options)

        def go_on(_sid: str, event: Any, _: int) -> None:
            if event.kind == "bot_said" and event.text == "I cannot see it.":
                told.set()

        monkeypatch.setattr(parts.desk, "book", slowly)
        parts.listeners.append(go_on)
        record = await site.ring(say(), say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
        booked = appointments(site)
    timeout, *again = [event for event in events if event.kind == "tool_returned" and event.name == "book_appointment"]
    assert timeout.status == "timeout"
    assert "call the same tool again" in timeout.result["hint"]
    assert {event.status for event in again} & {"ok", "repeated"}
    assert said(events)[1:] == ["I cannot see it.", "You are booked.", "Good bye."]
    assert booked == 1


async def test_a_booking_that_the_model_withdraws_is_made_once_and_told_as_a_note(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    minds: list[ListedMind] = []
    async with open_site(lambda: minds.pop(0)) as site:
        # It may be asked once more before the note comes, or not.
        mind = ListedMind(look(site), booking(site), "It is booked.", "It is booked.")
        minds.append(mind)
        desk = site.app.state.parts.desk
        book, withdrawn = desk.book, threading.Event()

        def slowly(*args: Any, **options: Any) -> Any:
            withdrawn.wait(20)
            return book(*args, **options)

        def withdraw(_sid: str, event: Any, _: int) -> None:
            if event.kind == "tool_returned" and event.name == "find_slots":
                site.gemini.faults.every = Faults(cancel_tool_call_ms=300)
            elif event.kind == "tool_cancelled":
                withdrawn.set()

        monkeypatch.setattr(desk, "book", slowly)
        site.app.state.parts.listeners.append(withdraw)
        record = await site.ring(say(), habits=Habits(linger_ms=8000, hello_ms=30_000))
        events = await site.tape_of(record.call_sid)
        booked = appointments(site)
    assert statuses(events, "book_appointment") == ["ok"]
    assert len([text for text, _ in mind.said if "book_appointment has finished meanwhile" in text]) == 1
    assert said(events)[-1] == "It is booked."
    assert booked == 1


async def test_a_database_that_is_gone_is_told_in_words_and_counted(open_site: Any, say: Say, tmp_path: Path) -> None:
    minds: list[ListedMind] = []
    async with open_site(lambda: minds.pop(0)) as site:
        minds.append(ListedMind(look(site), booking(site), "I cannot book now.", END_CALL, "Good bye to you."))
        with sqlite3.connect(tmp_path / "switchboard.db") as database:
            database.execute("ALTER TABLE desk_commands RENAME TO gone")
        database.close()
        record = await site.ring(say(), say())
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert statuses(events, "book_appointment") == ["error"]
    assert "message" in str([event.result for event in events if event.kind == "tool_returned"][-2])
    assert said(events) == [site.flow.opening, "I cannot book now.", "Good bye to you."]
    assert failures["tool_error"] == 1
    assert events[-1].reason == "goodbye"


async def test_a_database_on_a_full_disk_is_told_in_words_and_counted(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    minds: list[ListedMind] = []
    async with open_site(lambda: minds.pop(0)) as site:
        minds.append(ListedMind(look(site), booking(site), "I cannot book now.", END_CALL, "Good bye to you."))
        desk = site.app.state.parts.desk

        def full(*args: Any, **options: Any) -> Any:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(desk, "book", full)
        record = await site.ring(say(), say())
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert statuses(events, "book_appointment") == ["error"]
    assert said(events)[1] == "I cannot book now."
    assert failures["tool_error"] == 1


async def test_a_tape_that_cannot_be_written_harms_no_call(open_site: Any, say: Say, tmp_path: Path) -> None:
    minds: list[ListedMind] = []
    async with open_site(lambda: minds.pop(0)) as site:
        minds.append(ListedMind(look(site), booking(site), "You are booked.", END_CALL, "Good bye to you."))
        (tmp_path / "tapes").write_text("a file where the folder should be")
        record = await site.ring(say(), say())
        await site.call(record.call_sid).over()
        booked, failures = appointments(site), site.failures()
        lost = site.app.state.parts.metrics.tape_lost_records._value.get()
    assert said([event for _, event in site.events])[1:] == ["You are booked.", "Good bye to you."]
    assert [event.reason for event in site.of("call_ended")] == ["goodbye"]
    assert booked == 1
    assert failures["tape_write_failed"] >= 1
    assert lost > 0


async def test_a_disk_that_is_too_slow_leaves_a_marked_gap_and_harms_no_call(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.tape.QUEUE_BYTES", 100_000)
    write, goes_on = TapeWriter._write, threading.Event()

    def slowly(self: TapeWriter, data: bytes) -> None:
        goes_on.wait(20)
        write(self, data)

    monkeypatch.setattr(TapeWriter, "_write", slowly)
    async with open_site(ListedMind("This is the answer.", END_CALL, "Good bye to you.")) as site:

        def speed_up(_sid: str, event: Any, _: int) -> None:
            if event.kind == "bot_said" and event.text == "This is the answer.":
                goes_on.set()

        site.app.state.parts.listeners.append(speed_up)
        record = await site.ring(say(), say())
        await site.tape_of(record.call_sid)
        records = list(TapeReader(site.call(record.call_sid).tape_path))
        failures, lost = site.failures(), site.app.state.parts.metrics.tape_lost_records._value.get()
    gaps = [orjson.loads(each.data)["lost"] for each in records if each.channel == "tape.gap"]
    assert sum(gaps) == lost > 0
    assert failures.keys() == {"tape_queue_full"}
    assert said([event for _, event in site.events]) == [site.flow.opening, "This is the answer.", "Good bye to you."]
    assert site.of("call_ended")[0].reason == "goodbye"


async def test_a_disk_that_is_full_for_a_while_costs_nothing(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = TapeWriter._write
    full = [True]

    def refuse(self: TapeWriter, data: bytes) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, data)

    monkeypatch.setattr(TapeWriter, "_write", refuse)
    async with open_site(ListedMind("This is the answer.", END_CALL, "Good bye to you.")) as site:
        until = time.monotonic() + 2

        def room_again(sid: str, event: Any, _: int) -> None:
            full[0] = full[0] and time.monotonic() < until

        site.app.state.parts.listeners.append(room_again)
        record = await site.ring(say(), say())
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
        path = site.call(record.call_sid).tape_path
    assert said(events) == [site.flow.opening, "This is the answer.", "Good bye to you."]
    assert [event.kind for event in events] == [event.kind for _, event in site.events]
    assert failures == {"tape_write_failed": 1, "tape_write_resumed": 1}
    assert not TapeReader(path).truncated
