"""What a caller hears when the carrier's side breaks, or our own loop is held. docs/runbook.md lists these tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from fakes.events import kinds, said, troubles
from fakes.gemini import END_CALL, ListedMind
from pipecat.workers.runner import WorkerRunner

from bot.call import REJOIN_SECONDS
from bot.events import Trouble
from bot.ports import SystemClock
from bot.ready_words import ReadyWords
from bot.tools import ToolBox
from sandbox.conversation import Habits, Turn
from sandbox.twilio.exchange import RestFault
from sandbox.twilio.stream import Faults as LineFaults

Say = Callable[..., Turn]
PATIENT = Habits(end_ms=1500, stays=True, hello_ms=30_000)


def fail(*_: object) -> None:
    """A fault of ours."""
    raise ZeroDivisionError


def allow_three_seconds(site: Any) -> None:
    """Calls of this site may last no longer."""
    parts = site.app.state.parts
    limits = parts.flow.limits.model_copy(update={"max_call_minutes": 0.05})
    parts.flow = parts.flow.model_copy(update={"limits": limits})


def mind() -> ListedMind:
    return ListedMind("This is the first answer.", END_CALL, "Good bye to you.")


async def test_a_socket_that_is_cut_is_opened_again_and_the_conversation_goes_on(open_site: Any, say: Say) -> None:
    async with open_site(mind()) as site:
        call = site.dial(say(), say(), habits=PATIENT)
        caller = asyncio.create_task(call.run())
        while not site.of("bot_stopped_speaking"):
            await asyncio.sleep(0.02)
        call.line.stream._socket.transport.abort()
        record = await caller
        events = await site.tape_of(record.call_sid)
    assert [event.how for event in events if event.kind == "stream_stopped"] == ["lost", "stop"]
    assert len(record.streams) == 2
    assert said(events)[-2:] == ["This is the first answer.", "Good bye to you."]
    assert len([event for event in events if event.kind == "model_connected"]) == 1
    assert events[-1].reason == "goodbye"


async def test_a_stream_that_breaks_again_is_waited_for_anew(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for the first stream ends while the third is awaited: the call goes on."""
    sleep, first_wait, waits = SystemClock.sleep, asyncio.Event(), []

    async def until_told(self: SystemClock, seconds: float) -> None:
        if seconds == REJOIN_SECONDS and not waits:
            waits.append(seconds)
            await first_wait.wait()
        else:
            await sleep(self, seconds)

    def second_break(_sid: str, event: Any, _: int) -> None:
        if event.kind == "stream_stopped" and waits and len(site.of("stream_started")) == 2:
            first_wait.set()

    monkeypatch.setattr(SystemClock, "sleep", until_told)
    async with open_site(mind()) as site:
        site.app.state.parts.listeners.append(second_break)
        call = site.dial(say(), say(), habits=PATIENT)
        caller = asyncio.create_task(call.run())
        for streams in (1, 2):
            while len(site.of("stream_started")) < streams or not site.of("bot_stopped_speaking"):
                await asyncio.sleep(0.02)
            call.line.stream._socket.transport.abort()
        record = await caller
        events = await site.tape_of(record.call_sid)
    assert first_wait.is_set()
    assert [event.how for event in events if event.kind == "stream_stopped"] == ["lost", "lost", "stop"]
    assert "stream_lost" not in troubles(events)
    assert events[-1].reason == "goodbye"


async def test_a_line_that_falls_silent_without_a_word_is_found_out(
    open_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.carriers.media_socket.QUIET_SECONDS", 1.0)
    monkeypatch.setattr("bot.call.REJOIN_SECONDS", 1.0)
    monkeypatch.setattr("bot.call.START_SECONDS", 0.0)
    async with open_site() as site:
        site.phone.faults = LineFaults(half_open_after_ms=1_000)
        call = site.dial()
        caller = asyncio.create_task(call.run())
        while not site.of("call_ended"):
            await asyncio.sleep(0.05)
        call.hang_up()
        record = await caller
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert troubles(events) == ["carrier_quiet", "stream_lost"]
    assert events[-1].reason == "stream_lost"
    assert failures["stream_lost"] == failures["carrier_quiet"] == 1


async def test_stalls_and_bursts_lose_nothing(open_site: Any, say: Say) -> None:
    async with open_site(mind()) as site:
        site.phone.faults = LineFaults(burst_ms=600, jitter_ms=80)
        record = await site.ring(say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]
    assert [event.heard for event in events if event.kind == "bot_said"] == [1.0] * 3
    assert troubles(events) == []
    assert record.problems() == []


async def test_a_webhook_of_ours_that_fails_is_spoken_and_counted(open_site: Any) -> None:
    async with open_site() as site:
        site.app.state.calls.receive = lambda **_: 1 / 0
        record = await site.ring()
        failures = site.failures()
    assert [text for _, text in record.announcements] == [site.flow.phrases.sorry_unreachable]
    assert failures == {"webhook_failed": 1}
    assert record.ended_by == "<Hangup>"


async def test_a_stream_that_never_opens_ends_in_words(open_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is opened, and closed by us when nothing came for 5 s: then the carrier asks, however late that is."""
    monkeypatch.setattr("bot.call.ANSWER_SECONDS", 0.5)
    monkeypatch.setattr("bot.call.STREAM_END_SECONDS", 1.0)
    async with open_site() as site:
        site.phone.faults = LineFaults(never_start=True)
        record = await site.ring()
        events = await site.tape_of(record.call_sid)
    assert troubles(events) == ["never_connected"]
    assert events[-1].reason == "never_connected"
    assert [text for _, text in record.announcements] == [site.flow.phrases.sorry_unreachable]
    assert record.ended_by == "<Hangup>"


async def test_a_hang_up_that_is_never_answered_keeps_nobody_on_the_line(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.call.HANG_UP_SECONDS", 0.5)
    async with open_site(ListedMind(END_CALL, "Good bye to you.")) as site:
        site.exchange.faults.append(RestFault(path="Calls", times=99, hang=True))
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert [verb.name for verb in record.trace][-1] == "Hangup"
    assert troubles(events) == ["hang_up_refused"]
    assert failures == {"hang_up_refused": 1}
    assert events[-1].reason == "goodbye"


async def test_a_held_event_loop_loses_no_words_and_is_seen(open_site: Any, say: Say) -> None:
    words = " ".join(["word"] * 30)
    async with open_site(ListedMind(words, END_CALL, "Good bye to you.")) as site:
        caller = asyncio.create_task(site.ring(say(), say(), habits=PATIENT))
        while len(site.of("bot_started_speaking")) < 2:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        time.sleep(0.3)  # noqa: ASYNC251
        record = await caller
        events = await site.tape_of(record.call_sid)
        metrics = await site.metrics()
    assert said(events) == [site.flow.opening, words, "Good bye to you."]
    assert [event.heard for event in events if event.kind == "bot_said"] == [1.0] * 3
    assert troubles(events) == []
    shorter = next(line for line in metrics.splitlines() if 'loop_hold_seconds_bucket{le="0.16"}' in line)
    every = next(line for line in metrics.splitlines() if "loop_hold_seconds_count" in line)
    assert float(every.split()[-1]) > float(shorter.split()[-1])


async def test_a_pipeline_that_breaks_down_ends_in_words(open_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = WorkerRunner.run

    async def break_down(self: WorkerRunner) -> None:
        async with asyncio.timeout(1.5):
            await run(self)

    monkeypatch.setattr(WorkerRunner, "run", break_down)
    async with open_site() as site:
        record = await site.ring()
        events = await site.tape_of(record.call_sid)
    assert troubles(events) == ["pipeline"]
    assert [text for _, text in record.announcements] == [site.flow.phrases.sorry_lost]
    assert events[-1].reason == "failed"


async def test_a_step_of_the_call_that_fails_ends_it_in_words(open_site: Any) -> None:
    async with open_site() as site:
        site.app.state.parts.greetings.clip = lambda _flow, _words: 1 / 0
        record = await site.ring()
        events = await site.tape_of(record.call_sid)
    assert troubles(events) == ["call_step"]
    assert said(events) == [site.flow.phrases.sorry_lost]
    assert events[-1].reason == "failed"


@pytest.mark.parametrize("step", ["finish", "say_last"])
async def test_last_words_that_fail_are_said_by_the_carrier(
    open_site: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(ReadyWords, step, fail)
    async with open_site() as site:
        allow_three_seconds(site)
        record = await site.ring()
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert kinds(events, "trouble") == [Trouble("call_end", "call", "goodbye", "ZeroDivisionError")]
    assert failures == {"call_end": 1}
    assert [text for _, text in record.announcements] == [site.flow.phrases.goodbye]
    assert [verb.name for verb in record.trace] == ["Connect", "Say", "Hangup"]
    assert events[-1].reason == "time_limit"


async def test_a_hang_up_that_fails_by_a_fault_of_ours_keeps_nobody_on_the_line(open_site: Any, say: Say) -> None:
    async with open_site(ListedMind(END_CALL, "Good bye to you.")) as site:
        site.app.state.parts.rest.hang_up = fail
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert kinds(events, "trouble") == [Trouble("call_end", "call", "nothing", "ZeroDivisionError")]
    assert failures == {"call_end": 1}
    assert said(events)[-1] == "Good bye to you."
    assert [verb.name for verb in record.trace] == ["Connect", "Hangup"]
    assert events[-1].reason == "goodbye"


async def test_a_call_whose_parts_cannot_be_taken_apart_is_over_all_the_same(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToolBox, "finish", fail)
    async with open_site(ListedMind(END_CALL, "Good bye to you.")) as site:
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
        failures, metrics = site.failures(), await site.metrics()
    assert kinds(events, "trouble") == [Trouble("call_end", "call", "nothing", "ZeroDivisionError")]
    assert failures == {"call_end": 1}
    assert record.problems() == []
    assert events[-1].reason == "goodbye"
    assert "switchboard_calls_in_progress 0.0" in metrics


async def test_the_longest_allowed_call_ends_in_words(open_site: Any) -> None:
    async with open_site() as site:
        allow_three_seconds(site)
        record = await site.ring()
        events = await site.tape_of(record.call_sid)
    assert said(events) == [site.flow.opening, site.flow.phrases.goodbye]
    assert [event.heard for event in events if event.kind == "bot_said"] == [1.0, 1.0]
    assert troubles(events) == []
    assert events[-1].reason == "time_limit"
