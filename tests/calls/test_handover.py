"""A caller who is handed over: to a person who answers, is busy or never does; to a recorder; and out in words.

The stand-in carrier rings the stand-in person, whispers and records over the real webhooks. docs/runbook.md lists these
tests by name.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fakes.events import said
from fakes.gemini import ListedMind

from bot.events import Trouble
from bot.flow import Week
from bot.ready_words import ReadyWords
from sandbox.conversation import Habits, Turn
from sandbox.gemini.faults import Faults
from sandbox.mind import Reply, ToolCall
from sandbox.twilio import Callee

Say = Callable[..., Turn]
ALWAYS = Week.model_validate(dict.fromkeys(Week.model_fields, "0:00-24:00"))
NEVER = Week()
STAFF = "+12075550123"
CALLER = "+12075550177"
WHY = "Ada Lovelace has a question about her bill."
PERSON = Reply(calls=[ToolCall("transfer_to_human", {"reason": WHY})])
THERE = Callee(rings_ms=400, talks_ms=1000)
WAITS = Habits(end_ms=800, stays=True, hello_ms=60_000)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.carriers.twilio._QUIET_SECONDS", 1.5)
    monkeypatch.setattr("bot.handover.RECORDING_SECONDS", 3.0)


def of(events: list[Any], *kinds: str) -> list[Any]:
    return [event for event in events if event.kind in kinds]


def announced(record: Any) -> list[str]:
    return [text for _, text in record.announcements]


def messages(folder: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(folder / "switchboard.db") as database:
        rows = database.execute("SELECT caller_phone, text FROM desk_messages").fetchall()
    database.close()
    return rows


async def test_a_caller_who_asks_for_a_person_is_put_through(open_site: Any, say: Say) -> None:
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: THERE}
        record = await site.ring(say(), from_=CALLER)
        events = await site.tape_of(record.call_sid)
        orders, metrics = site.exchange.orders, await site.metrics()
    handing_over = site.flow.handover.handing_over
    assert said(events) == [site.flow.opening, handing_over]
    assert all(event.heard == 1.0 for event in of(events, "bot_said"))
    assert [verb.name for verb in record.trace] == ["Connect", "Dial", "Hangup"]
    (dial,) = [verb for verb in record.trace if verb.name == "Dial"]
    assert dial.attributes["answerOnBridge"] == "true"
    assert dial.attributes["timeout"] == "1"
    assert "callerId" not in dial.attributes
    assert [noun.text for noun in dial.nouns] == [STAFF]
    (gather, *_) = record.whispers
    assert gather.noun("Say").text == (
        f"A caller from the assistant's line. Number: {' '.join(CALLER)}. {WHY} Press any key to take the call."
    )
    # Our hang-up would have cut the caller off: there was none.
    assert orders == []
    assert record.duration_seconds >= 3
    assert [event.kind for event in of(events, "handed_over", "handover_answered", "hang_up_requested")] == [
        "handed_over",
        "handover_answered",
    ]
    (handed,) = of(events, "handed_over")
    assert (handed.cause, handed.why, handed.number) == ("asked", WHY, STAFF)
    assert 300 < of(events, "handover_answered")[0].ring_ms < 3000
    assert events[-1].reason == "transferred"
    assert 'switchboard_handovers_total{outcome="answered"} 1.0' in metrics
    assert 'switchboard_calls_total{outcome="transferred"} 1.0' in metrics
    # What our closing of the stream leaves in Twilio's debugger is all there is.
    assert [problem.partition(" ")[0] for problem in record.problems()] == ["31921"]


async def test_words_that_fail_keep_nobody_from_the_person(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReadyWords, "say_last", lambda *_: 1 / 0)
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: THERE}
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert of(events, "trouble") == [Trouble("call_end", "call", "handover", "ZeroDivisionError")]
    assert failures == {"call_end": 1}
    assert announced(record) == [site.flow.handover.handing_over]
    assert [verb.name for verb in record.trace] == ["Connect", "Say", "Dial", "Hangup"]
    assert events[-1].reason == "transferred"


@pytest.mark.parametrize(
    ("person", "status"),
    [
        (Callee(outcome="busy", rings_ms=200), "busy"),
        (Callee(outcome="failed", rings_ms=200), "failed"),
        (Callee(rings_ms=60_000), "no-answer"),
        (Callee(rings_ms=200, presses=""), "no-answer"),
    ],
    ids=["busy", "failed", "no answer", "an answering machine"],
)
async def test_where_no_person_takes_the_call_a_message_is_recorded(
    open_site: Any, say: Say, tmp_path: Path, person: Callee, status: str
) -> None:
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: person}
        call = site.dial(say(), say(1500), habits=WAITS, from_=CALLER)
        record = await call.run()
        events = await site.tape_of(record.call_sid)
        metrics, failures = await site.metrics(), site.failures()
        kept = messages(tmp_path)
        recordings = list(call.recordings.values())
    assert announced(record) == [site.flow.handover.nobody_there, site.flow.phrases.goodbye]
    assert [verb.name for verb in record.trace] == ["Connect", "Dial", "Say", "Record", "Say", "Hangup"]
    assert [event.status for event in of(events, "handover_failed")] == [status]
    (left,) = of(events, "message_recorded")
    (recording,) = recordings
    assert left.recording_sid == recording.sid
    assert left.duration_ms >= 1000
    assert kept == [(CALLER, f"Voice message of {left.duration_ms / 1000:g} seconds: {left.url}")]
    assert events[-1].reason == "message_taken"
    assert f'switchboard_handovers_total{{outcome="{status}"}} 1.0' in metrics
    assert "switchboard_messages_recorded_total 1.0" in metrics
    assert failures == {}
    assert site.exchange.orders == []


async def test_a_caller_who_hangs_up_while_it_rings_is_gone(open_site: Any, say: Say) -> None:
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: Callee(rings_ms=60_000)}
        call = site.dial(say())
        caller = asyncio.create_task(call.run())
        while "Dial/Number" not in call.interpreter.executed:
            await asyncio.sleep(0.02)
        call.hang_up()
        record = await caller
        events = await site.tape_of(record.call_sid)
        # Whether Twilio asks the action of a caller who is gone is not documented: it changes nothing.
        late = await asked(site, "after-dial", record.call_sid, DialCallStatus="canceled", CallStatus="completed")
    assert [event.status for event in of(events, "handover_failed")] == ["canceled"]
    assert events[-1].reason == "caller_hung_up"
    assert "<Dial" not in late


async def test_a_caller_who_says_nothing_to_the_recorder_is_seen_out(open_site: Any, say: Say, tmp_path: Path) -> None:
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: Callee(outcome="busy", rings_ms=200)}
        record = await site.ring(say(), habits=WAITS)
        events = await site.tape_of(record.call_sid)
        kept = messages(tmp_path)
    assert announced(record) == [site.flow.handover.nobody_there, site.flow.phrases.goodbye]
    assert record.ended_by == "<Hangup>"
    assert events[-1].reason == "nobody_there"
    assert kept == []


async def test_a_message_of_a_caller_who_hangs_up_after_it_is_kept(open_site: Any, say: Say, tmp_path: Path) -> None:
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: Callee(outcome="busy", rings_ms=200)}
        call = site.dial(say(), say(1500), Turn(hang_up=True, at_once=True), habits=WAITS)
        record = await call.run()
        events = await site.tape_of(record.call_sid)
        kept = messages(tmp_path)
    assert record.ended_by == "caller hung up"
    assert len(kept) == len(of(events, "message_recorded")) == 1
    assert events[-1].reason == "message_taken"


async def test_a_message_is_kept_though_the_database_is_away_at_first(
    open_site: Any, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: Callee(outcome="busy", rings_ms=200)}
        desk = site.app.state.parts.desk
        keep, tries = desk.take_message, [0]

        def away_at_first(**facts: Any) -> Any:
            tries[0] += 1
            if tries[0] <= 2:
                raise sqlite3.OperationalError("unable to open database file")
            return keep(**facts)

        monkeypatch.setattr(desk, "take_message", away_at_first)
        record = await site.ring(say(), say(1500), habits=WAITS)
        events = await site.tape_of(record.call_sid)
        kept, failures = messages(tmp_path), site.failures()
    assert len(kept) == len(of(events, "message_recorded")) == 1
    assert failures["message_not_stored"] == 2


async def test_outside_the_hours_of_the_person_the_model_is_told_so(open_site: Any, say: Say) -> None:
    mind = ListedMind(PERSON, "Nobody is there now. May I take a message?", Reply(calls=[ToolCall("end_call")]), "Bye.")
    async with open_site(mind, staffed=NEVER) as site:
        record = await site.ring(say(), say())
        events = await site.tape_of(record.call_sid)
    (refused,) = [event for event in of(events, "tool_returned") if event.name == "transfer_to_human"]
    assert refused.status == "refused"
    assert "take a message" in refused.result["hint"]
    assert said(events)[1:] == ["Nobody is there now. May I take a message?", "Bye."]
    assert events[-1].reason == "goodbye"


async def test_a_model_that_is_lost_ends_with_a_person_and_not_in_the_greeting(open_site: Any, say: Say) -> None:
    async with open_site(staffed=ALWAYS) as site:
        site.gemini.faults.every = Faults(wrong_key=True)
        site.phone.callees = {STAFF: THERE}
        record = await site.ring(habits=WAITS)
        events = await site.tape_of(record.call_sid)
        again = await site.ring(habits=WAITS)
        failures, metrics = site.failures(), await site.metrics()
    assert said(events) == [site.flow.opening, site.flow.handover.handing_over]
    assert all(event.heard == 1.0 and not event.interrupted for event in of(events, "bot_said"))
    (trouble,) = of(events, "trouble")
    assert (trouble.failure, trouble.caller_heard) == ("model_bad_key", "handover")
    assert of(events, "handed_over")[0].cause == "model_lost"
    assert events[-1].reason == "transferred"
    assert announced(record) == []
    # The next caller is not sent away either.
    assert "Dial" in [verb.name for verb in again.trace]
    assert failures["model_bad_key"] >= 2
    assert 'switchboard_handovers_total{outcome="answered"} 2.0' in metrics


@pytest.mark.usefixtures("hasty")
async def test_a_model_that_falls_silent_ends_with_a_person(open_site: Any, say: Say) -> None:
    async with open_site(gemini={"faults": Faults(mute=True)}, staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: THERE}
        record = await site.ring(say(), habits=WAITS)
        events = await site.tape_of(record.call_sid)
    assert said(events) == [site.flow.opening, site.flow.phrases.one_moment, site.flow.handover.handing_over]
    assert of(events, "handed_over")[0].cause == "model_silent"
    assert events[-1].reason == "transferred"


async def test_a_model_that_is_lost_when_nobody_is_there_leads_to_the_recorder(
    open_site: Any, say: Say, tmp_path: Path
) -> None:
    async with open_site(staffed=NEVER) as site:
        site.gemini.faults.every = Faults(wrong_key=True)
        record = await site.ring(Turn(pause_ms=4000), say(1500), habits=WAITS)
        events = await site.tape_of(record.call_sid)
        kept = messages(tmp_path)
    assert [verb.name for verb in record.trace] == ["Connect", "Say", "Record", "Say", "Hangup"]
    assert len(kept) == 1
    assert [event.number for event in of(events, "handed_over")] == [""]
    assert events[-1].reason == "model_lost"


async def asked(site: Any, route: str, call_sid: str, **fields: str) -> str:
    """What a signed request of the carrier is answered with."""
    webhooks = site.phone.webhooks(f"{site.url}/twilio/{route}")
    try:
        sent = await webhooks.request(f"{site.url}/twilio/{route}", {"CallSid": call_sid, "From": CALLER} | fields)
    finally:
        await webhooks.aclose()
    assert not sent.error
    return sent.body.decode()


async def test_what_the_carrier_asks_twice_is_answered_alike_and_done_once(
    open_site: Any, say: Say, tmp_path: Path
) -> None:
    recorded = {
        "RecordingSid": "RE" + "0" * 32,
        "RecordingUrl": "https://api.example.com/RE0",
        "RecordingDuration": "7",
    }
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: Callee(rings_ms=60_000)}
        live = site.dial(say(), from_=CALLER)
        caller = asyncio.create_task(live.run())
        while "Dial/Number" not in live.interpreter.executed:
            await asyncio.sleep(0.02)
        sid = live.sid
        rings = [await asked(site, "after-stream", sid) for _ in range(2)]
        busy = {"DialCallStatus": "busy", "DialBridged": "false"}
        after = [await asked(site, "after-dial", sid, **busy) for _ in range(3)]
        late = await asked(site, "accept", "CA" + "f" * 32, ParentCallSid=sid)
        notes = [await asked(site, "recording", sid, RecordingStatus="completed", **recorded) for _ in range(2)]
        goodbyes = [await asked(site, "after-message", sid, **recorded) for _ in range(2)]
        events = await site.tape_of(sid)
        kept = messages(tmp_path)
        live.hang_up()
        await caller
    assert rings[0] == rings[1]
    assert "<Dial" in rings[0]
    assert len(set(after)) == 1
    assert "<Record" in after[0]
    assert "<Dial" not in after[0]
    assert late.endswith("<Response />")
    assert notes == ["", ""]
    assert goodbyes[0] == goodbyes[1]
    assert [event.status for event in of(events, "handover_failed")] == ["busy"]
    assert len(of(events, "message_recorded", "handover_answered")) == 1
    assert kept == [(CALLER, "Voice message of 7 seconds: https://api.example.com/RE0")]


async def test_a_caller_of_a_server_that_was_restarted_is_helped_all_the_same(open_site: Any, tmp_path: Path) -> None:
    sid = "CA" + "7" * 32
    recorded = {
        "RecordingSid": "RE" + "0" * 32,
        "RecordingUrl": "https://api.example.com/RE0",
        "RecordingDuration": "7",
    }
    async with open_site(staffed=ALWAYS) as site:
        talked = await asked(site, "after-dial", sid, DialCallStatus="completed", DialBridged="true")
        nobody = await asked(site, "after-dial", sid, DialCallStatus="no-answer", DialBridged="false")
        briefing = await asked(site, "briefing", "CA" + "8" * 32, ParentCallSid=sid)
        await asked(site, "recording", sid, RecordingStatus="completed", **recorded)
        await asked(site, "recording", sid, RecordingStatus="absent", RecordingSid="RE" + "1" * 32)
        kept = messages(tmp_path)
    assert "<Hangup" in talked
    assert "<Say" not in talked
    assert "<Record" in nobody
    assert site.flow.handover.nobody_there in unescape(nobody)
    assert "<Gather" in briefing
    assert kept == [(CALLER, "Voice message of 7 seconds: https://api.example.com/RE0")]


async def test_an_answer_of_ours_that_cannot_be_used_does_not_ring_twice(
    open_site: Any, say: Say, tmp_path: Path
) -> None:
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: Callee(outcome="busy", rings_ms=200)}
        calls = site.app.state.calls

        def unusable(*args: Any, **options: Any) -> Any:
            del calls.after_dial
            return replace(calls.after_dial(*args, **options), say="\x00")

        calls.after_dial = unusable
        record = await site.ring(say(), say(1500), habits=WAITS)
        events = await site.tape_of(record.call_sid)
        failures, kept = site.failures(), messages(tmp_path)
    assert announced(record) == [site.flow.handover.nobody_there, site.flow.phrases.goodbye]
    assert [verb.name for verb in record.trace].count("Dial") == 1
    # What cannot be read is no TwiML: 12100 (https://www.twilio.com/docs/api/errors/12100).
    assert failures == {"twilio_12100": 1}
    assert [event.failure for event in of(events, "trouble")] == ["twilio_12100"]
    assert len(kept) == 1
    assert events[-1].reason == "message_taken"


async def test_a_server_that_stops_lets_go_of_a_caller_who_is_being_put_through(open_site: Any, say: Say) -> None:
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: Callee(rings_ms=60_000)}
        live = site.dial(say())
        caller = asyncio.create_task(live.run())
        while "Dial/Number" not in live.interpreter.executed:
            await asyncio.sleep(0.02)
        assert site.app.state.calls.in_progress == []
        async with asyncio.timeout(5):
            await site.app.state.calls.see_out()
        events = await site.tape_of(live.sid)
        assert live.status == "in-progress"
        live.hang_up()
        await caller
    assert events[-1].kind == "call_ended"
    assert site.exchange.orders == []


async def test_a_carrier_that_never_tells_how_the_ringing_ended_is_not_waited_for(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.handover.SLACK_SECONDS", -10.5)
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: Callee(rings_ms=60_000)}
        live = site.dial(say())
        caller = asyncio.create_task(live.run())
        while not site.of("call_ended"):
            await asyncio.sleep(0.02)
        events = await site.tape_of(live.sid)
        live.hang_up()
        await caller
        failures = site.failures()
    assert [event.failure for event in of(events, "trouble")] == ["handover_lost"]
    assert failures == {"handover_lost": 1}
    assert events[-1].reason == "nobody_there"


async def test_a_withheld_number_is_not_shown_to_the_person(open_site: Any, say: Say) -> None:
    async with open_site(ListedMind(PERSON), staffed=ALWAYS) as site:
        site.phone.callees = {STAFF: THERE}
        record = await site.ring(say(), from_="+266696687")
    (dial,) = [verb for verb in record.trace if verb.name == "Dial"]
    assert dial.attributes["callerId"] == record.to
    assert "Number: -." in record.whispers[0].noun("Say").text
