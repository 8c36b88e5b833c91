"""Whole calls against the stand-ins, and what is derived from their tapes, beside what the carrier saw and heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from fakes.gemini import END_CALL, ListedEar, ListedMind

from benchmarks.made_tapes import loud_ms
from bot.tape import TapeReader
from records.derive import Derived, derive, load_prices
from records.derive.recording import blocks
from sandbox.conversation import Habits, Turn
from sandbox.mind import Reply, ToolCall

Say = Callable[..., Turn]
FRAME_MS = 20.0
# The stand-in stamps a frame with the end of its 20 ms, the derivation takes stamps for the beginning.
STAMP_MS = FRAME_MS


def tolerance(carrier: Any) -> float:
    """A frame, and what a busy machine made the stand-in late: the caller hears that, and the wire does not tell it."""
    return FRAME_MS + float(carrier.late_ms)


def loud_on_line(carrier: Any, track: np.ndarray) -> list[tuple[float, float]]:
    """Where a track of the recording is loud, on the phone's clock.

    The recording begins with the media stream and the phone's clock with the answer: on a busy machine frames pass
    between the two.
    """
    begins_ms = carrier.streams[0].start_ms - STAMP_MS
    return [(first + begins_ms, last + begins_ms) for first, last in loud_ms(track)]


async def derived(site: Any, call_sid: str) -> tuple[Derived, np.ndarray]:
    """What the call's tape gives: the record, and the recording's samples."""
    await site.tape_of(call_sid)
    tape = TapeReader(site.call(call_sid).tape_path)
    result = derive(tape, prices=load_prices())
    return result, np.concatenate(list(blocks(tape, result.timeline)))


def free_start(site: Any) -> tuple[str, str]:
    first = datetime.now(site.flow.zone).date() + timedelta(days=2)
    slot = site.app.state.parts.desk.find_slots("cleaning", first, first + timedelta(days=40), limit=1)[0]
    local = slot.start.astimezone(site.flow.zone)
    return local.date().isoformat(), local.strftime("%H:%M")


async def test_a_booking_is_told_heard_priced_and_recorded(open_site: Any, say: Say) -> None:
    minds: list[ListedMind] = []
    ear = ListedEar("I need a cleaning", "Yes, please", "No, thanks")
    async with open_site(lambda: minds.pop(0), gemini={"ear": ear}) as site:
        day, time = free_start(site)
        look = ToolCall("find_slots", {"service": "Cleaning", "day": day})
        book = ToolCall("book_appointment", {"service": "Cleaning", "day": day, "time": time, "name": "Ada Lovelace"})
        minds.append(
            ListedMind(
                Reply(calls=[look]),
                Reply(say="I have a free time at nine. Shall I book it?"),
                Reply(calls=[book]),
                Reply(say="You are booked. Anything else?"),
                END_CALL,
                "Goodbye.",
            )
        )
        carrier = await site.ring(say(), say(), say())
        result, recording = await derived(site, carrier.call_sid)
    record = result.record
    assert [(turn.speaker, turn.source, turn.text) for turn in record.turns] == [
        ("bot", "clip", site.flow.opening),
        ("caller", "model", "I need a cleaning"),
        ("bot", "model", "I have a free time at nine. Shall I book it?"),
        ("caller", "model", "Yes, please"),
        ("bot", "model", "You are booked. Anything else?"),
        ("caller", "model", "No, thanks"),
        ("bot", "model", "Goodbye."),
    ]
    assert (record.call_id, record.call_sid) == (carrier.call_sid, carrier.call_sid)
    assert (record.flow, record.flow_hash) == (site.flow.id, site.flow.content_hash)
    assert (record.outcome.disposition, record.outcome.end_reason) == ("booked", "goodbye")
    assert [(change.kind, change.id) for change in record.outcome.changes] == [("booking", "1")]
    assert record.outcome.steps == ("reception", "choose_time", "wrap_up")
    assert record.outcome.fields["name"] == "Ada Lovelace"
    assert [use.name for use in record.tools] == ["find_slots", "book_appointment", "end_call"]
    assert record.flags == ()
    assert record.cost.complete
    assert record.cost.usd > 0
    np.testing.assert_allclose(loud_on_line(carrier, recording[:, 1]), loud_ms(carrier.heard), atol=tolerance(carrier))
    np.testing.assert_allclose(loud_on_line(carrier, recording[:, 0]), loud_ms(carrier.said), atol=1)
    truths = [response.ms for response in carrier.responses()]
    np.testing.assert_allclose([waterfall.total_ms for waterfall in record.waterfalls], truths, atol=tolerance(carrier))
    for waterfall in record.waterfalls:
        assert abs(sum(stage.ms for stage in waterfall.stages) - waterfall.total_ms) < 0.1
    asked, booked, _ = ({stage.name for stage in waterfall.stages} for waterfall in record.waterfalls)
    assert {"to_us", "to_model", "model", "tools", "to_carrier", "playout"} <= asked & booked


async def test_an_interrupted_answer_ends_where_the_caller_heard_it_end(open_site: Any, say: Say) -> None:
    words = [f"word{n}" for n in range(60)]
    async with open_site(ListedMind(" ".join(words), "Yes?"), gemini={"speed": 1.0}) as site:
        carrier = await site.ring(say(), say(barge_in_ms=1200), habits=Habits(linger_ms=1500, hello_ms=20_000))
        result, recording = await derived(site, carrier.call_sid)
    cut = next(turn for turn in result.record.turns if turn.interrupted)
    assert cut.text.split() + cut.unheard.split() == words
    heard_ms = carrier.heard_segments[1].end_ms - carrier.heard_segments[1].start_ms
    # The stand-in's voice takes 60 ms for a word.
    assert abs(len(cut.text.split()) - heard_ms / 60) <= 2 + carrier.late_ms / 60
    assert cut.words[-1].end_ms <= cut.end_ms
    np.testing.assert_allclose(loud_on_line(carrier, recording[:, 1]), loud_ms(carrier.heard), atol=tolerance(carrier))
    figures = result.record.figures
    assert figures.interruptions == 1
    assert figures.barge_in_reaction_p95_ms is not None
    assert 0 < figures.talk_over_ms < 1_000


async def test_a_caller_who_is_sent_away_has_a_record(open_site: Any, tmp_path: Path) -> None:
    async with open_site(max_calls=1) as site:
        first = asyncio.create_task(site.ring(habits=Habits(linger_ms=2000, hello_ms=20_000)))
        while not site.of("stream_started"):
            await asyncio.sleep(0.02)
        carrier = await site.ring()
        await first
        while not (path := next((tmp_path / "tapes").rglob(f"{carrier.call_sid}.mcap"), None)):
            await asyncio.sleep(0.02)
        record = derive(TapeReader(path), prices=load_prices()).record
    assert (record.outcome.disposition, record.outcome.end_reason) == ("refused", "refused_busy")
    assert record.turns == ()
    assert record.flags == ()
    assert record.from_number == carrier.from_
    assert [(line.of, line.quantity) for line in record.cost.lines] == [("voice", 1)]


async def test_keys_and_a_hang_up_in_mid_sentence(open_site: Any) -> None:
    answer = " ".join(["word"] * 80)
    async with open_site(ListedMind(answer)) as site:
        call = site.dial(Turn(press="5"))
        caller = asyncio.create_task(call.run())
        while len(site.of("bot_started_speaking")) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.6)
        call.hang_up()
        carrier = await caller
        result, _ = await derived(site, carrier.call_sid)
    record = result.record
    assert [key.digit for key in record.keys] == ["5"]
    last = record.turns[-1]
    assert (last.speaker, last.interrupted) == ("bot", True)
    assert 2 < len(last.text.split()) < 40
    assert record.figures.interruptions == 0
    assert record.outcome.end_reason == "caller_hung_up"
