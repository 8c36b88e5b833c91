"""Calls from webhook to hang-up: what the caller heard, what the desk holds, what the tape says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
from fakes.gemini import END_CALL, ListedMind

from sandbox.conversation import Habits, Turn
from sandbox.gemini.faults import Faults
from sandbox.mind import Reply, ToolCall
from sandbox.twilio.exchange import RestFault

Say = Callable[..., Turn]


def free_starts(site: Any, count: int) -> list[tuple[str, str]]:
    """(day, time) of free cleanings, each on another day."""
    first = datetime.now(site.flow.zone).date() + timedelta(days=2)
    slots = site.app.state.parts.desk.find_slots("cleaning", first, first + timedelta(days=40), limit=2000)
    starts = {}
    for slot in slots:
        local = slot.start.astimezone(site.flow.zone)
        starts.setdefault(local.date().isoformat(), local.strftime("%H:%M"))
    return list(starts.items())[:count]


def booking(start: tuple[str, str], name: str = "Ada Lovelace") -> list[Reply]:
    day, time = start
    look = ToolCall("find_slots", {"service": "Cleaning", "day": day})
    book = ToolCall("book_appointment", {"service": "Cleaning", "day": day, "time": time, "name": name})
    return [Reply(calls=[look]), Reply(calls=[book]), Reply(say="You are booked.")]


async def test_a_caller_is_greeted_answered_and_seen_out(open_site: Any, say: Say) -> None:
    async with open_site(ListedMind("We are open from eight to five.", END_CALL, "Goodbye.")) as site:
        record = await site.ring(say(), say())
        events = await site.tape_of(record.call_sid)
    assert record.problems() == []
    assert [events[0].kind, events[-1].kind] == ["call_received", "call_ended"]
    assert events[-1].reason == "goodbye"
    said = [event for event in events if event.kind == "bot_said"]
    assert [event.text for event in said] == [site.flow.opening, "We are open from eight to five.", "Goodbye."]
    assert all(event.heard == 1.0 and not event.interrupted for event in said)
    assert len([event for event in events if event.kind == "model_connected"]) == 1
    answers = [event for event in events if event.kind == "bot_started_speaking" and event.response_ms is not None]
    assert len(answers) == 2
    assert [order.path.rsplit("/", 1)[1] for order in site.exchange.orders] == [f"{record.call_sid}.json"]


async def test_the_greeting_starts_before_the_model_is_ready(open_site: Any) -> None:
    async with open_site(gemini={"faults": Faults(setup_seconds=2.5)}, warm=False) as site:
        site.gemini.faults.every = Faults()
        await site.app.state.parts.greetings.warm(site.flow)
        site.gemini.faults.every = Faults(setup_seconds=6.0)  # 3 s at this speed
        record = await site.ring(habits=Habits(linger_ms=3500, hello_ms=20_000))
        kinds = [event.kind for event in await site.tape_of(record.call_sid)]
    assert kinds.index("bot_started_speaking") < kinds.index("model_connected")
    assert record.heard_segments[0].start_ms < 500


async def test_ten_calls_at_once_each_end_with_their_own_booking(open_site: Any, say: Say) -> None:
    minds: list[ListedMind] = []
    async with open_site(lambda: minds.pop(0)) as site:
        starts = free_starts(site, 10)
        minds += [ListedMind(*booking(start, f"Ada {chr(65 + n)}"), END_CALL, "Bye.") for n, start in enumerate(starts)]
        records = await asyncio.gather(*(site.ring(say(), say(), from_=f"+1207555010{n}") for n in range(10)))
        tapes = [await site.tape_of(record.call_sid) for record in records]
        desk = site.app.state.parts.desk
        booked = {
            (customer.name, appointment.start.astimezone(site.flow.zone).strftime("%Y-%m-%d %H:%M"))
            for n in range(10)
            for customer in desk.find_customers(f"+1207555010{n}")
            for appointment in desk.appointments(customer.id)
        }
    assert booked == {(f"Ada {chr(65 + n)}", " ".join(start)) for n, start in enumerate(starts)}
    assert [events[-1].reason for events in tapes] == ["goodbye"] * 10
    assert [record.problems() for record in records] == [[]] * 10


async def test_a_caller_who_hangs_up_while_a_booking_runs_is_booked(open_site: Any, say: Say) -> None:
    minds: list[ListedMind] = []
    async with open_site(lambda: minds.pop(0)) as site:
        minds.append(ListedMind(*booking(free_starts(site, 1)[0])))
        call = site.dial(say())
        caller = asyncio.create_task(call.run())
        while not any(event.name == "book_appointment" for event in site.of("tool_called")):
            await asyncio.sleep(0.002)
        call.hang_up()
        record = await caller
        events = await site.tape_of(record.call_sid)
    returned = [event for event in events if event.kind == "tool_returned" and event.name == "book_appointment"]
    assert [event.status for event in returned] == ["ok"]
    assert events[-1].reason == "caller_hung_up"


async def test_barge_in_clears_what_waits_and_cuts_the_turn_at_what_was_heard(open_site: Any, say: Say) -> None:
    long_answer = " ".join(["word"] * 60)
    async with open_site(ListedMind(long_answer, "Yes?"), gemini={"speed": 1.0}) as site:
        record = await site.ring(say(), say(barge_in_ms=1200), habits=Habits(linger_ms=1500, hello_ms=20_000))
        events = await site.tape_of(record.call_sid)
    cut = [event for event in events if event.kind == "bot_said" and event.interrupted]
    assert len(cut) == 1
    assert 5 < len(cut[0].text.split()) < 50
    assert 0.5 < cut[0].heard < 1.0
    assert any(event.kind == "barge_in" for event in events)
    assert record.problems() == []


async def test_a_key_reaches_the_model_in_words(open_site: Any) -> None:
    async with open_site(ListedMind("You pressed five.")) as site:
        record = await site.ring(Turn(press="5"), habits=Habits(linger_ms=1500, hello_ms=20_000))
        await site.tape_of(record.call_sid)
    assert "[The caller pressed 5]" in site.gemini.sessions[-1].texts
    assert [event.digit for event in site.of("key_pressed")] == ["5"]


async def test_a_caller_over_the_limit_hears_a_sentence(open_site: Any, say: Say) -> None:
    async with open_site(max_calls=1) as site:
        first = asyncio.create_task(site.ring(habits=Habits(linger_ms=4000, hello_ms=20_000)))
        while not site.of("stream_started"):
            await asyncio.sleep(0.02)
        second = await site.ring()
        await first
    assert [text for _, text in second.announcements] == [site.flow.phrases.sorry_busy]
    assert 'switchboard_refused_total{reason="refused_busy"} 1.0' in await site.metrics()


async def test_without_a_model_the_caller_hears_why_and_the_next_one_hears_it_at_once(open_site: Any) -> None:
    async with open_site() as site:
        site.gemini.faults.every = Faults(refuse_connect=True)
        first = await site.ring(habits=Habits(stays=True, hello_ms=60_000))
        events = await site.tape_of(first.call_sid)
        second = await site.ring()
        async with httpx.AsyncClient() as http:
            ready = await http.get(f"{site.url}/readyz")
    sorry = site.flow.phrases.sorry_unreachable
    assert [text for _, text in first.announcements] == [sorry]
    assert events[-1].reason == "model_lost"
    assert [text for _, text in second.announcements] == [sorry]
    assert not second.streams
    assert (ready.status_code, ready.json()["reasons"][0].split(":")[0]) == (503, "model")


async def test_a_model_that_is_gone_is_replaced_by_the_next(open_site: Any, say: Say) -> None:
    models = ("gemini-9.9-live", "gemini-3.8-live")
    async with open_site(ListedMind("Here I am."), gemini_models=models) as site:
        record = await site.ring(say(), habits=Habits(linger_ms=1500, hello_ms=20_000))
        events = await site.tape_of(record.call_sid)
    assert [event.model for event in events if event.kind == "model_connected"] == ["gemini-3.8-live"]
    assert "Here I am." in [event.text for event in events if event.kind == "bot_said"]


async def test_a_refused_hang_up_still_ends_the_call(open_site: Any, say: Say) -> None:
    async with open_site(ListedMind(END_CALL, "Goodbye.")) as site:
        site.exchange.faults.append(RestFault(path="Calls", times=99, refuse=(403, 20003)))
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
    assert [verb.name for verb in record.trace][-1] == "Hangup"
    assert [event.failure for event in events if event.kind == "trouble"] == ["hang_up_refused"]
    assert events[-1].reason == "goodbye"


async def test_a_second_webhook_for_a_call_is_the_same_call(open_site: Any) -> None:
    async with open_site() as site:
        calls = site.app.state.calls
        same = {"call_sid": "CA" + "1" * 32, "account_sid": "AC1", "from_number": "+12075550100", "to_number": "+1"}
        first, second = calls.receive(**same), calls.receive(**same)
        assert first is second
        assert first.stream_token == second.stream_token
        first.end("never_connected")
        await first.over()
    assert [event.kind for event in await site.tape_of(first.call_sid)].count("call_received") == 1


async def test_draining_refuses_new_callers_and_lets_the_others_finish(open_site: Any, say: Say) -> None:
    async with open_site(ListedMind("Still here.", END_CALL, "Bye.")) as site:
        first = asyncio.create_task(site.ring(say(), say()))
        while not site.of("stream_started"):
            await asyncio.sleep(0.02)
        drain = asyncio.create_task(site.app.state.calls.drain(60))
        await asyncio.sleep(0)
        second = await site.ring()
        record = await first
        await drain
        events = await site.tape_of(record.call_sid)
    assert [text for _, text in second.announcements] == [site.flow.phrases.sorry_closed_down]
    assert events[-1].reason == "goodbye"


async def test_a_server_that_stops_ends_its_calls_in_words(open_site: Any) -> None:
    async with open_site() as site:
        caller = asyncio.create_task(site.ring())
        while not site.of("stream_started"):
            await asyncio.sleep(0.02)
        await site.app.state.calls.see_out()
        record = await caller
    assert [text for _, text in record.announcements] == [site.flow.phrases.sorry_closed_down]
    assert [event.reason for event in site.of("call_ended")] == ["shutdown"]
