"""What a caller hears when the model fails, falls silent or goes away. docs/runbook.md lists these tests by name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from fakes.events import kinds, said, troubles
from fakes.gemini import END_CALL, ListedMind

from bot.gemini import GeminiSession
from sandbox.conversation import Habits, Turn
from sandbox.gemini import Close, FaultPlan
from sandbox.gemini.faults import Faults
from sandbox.mind import Reply, ToolCall

Say = Callable[..., Turn]
PARKING = Reply(calls=[ToolCall("answer_question", {"question": "Where can I park?"})])
BRIEF = Habits(linger_ms=4000, hello_ms=30_000)
PATIENT = Habits(end_ms=2500, stays=True, hello_ms=30_000)


async def test_a_model_that_takes_audio_and_says_nothing(open_site: Any, say: Say) -> None:
    """At the real times: a phrase after 3 s, asked again after 5 s, the end in words after 8 s."""
    async with open_site(gemini={"faults": Faults(mute=True)}) as site:
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
        phrases, failures = site.flow.phrases, site.failures()
    assert said(events) == [site.flow.opening, phrases.one_moment, phrases.sorry_lost]
    assert all(event.heard == 1.0 for event in kinds(events, "bot_said"))
    assert record.announcements == []
    assert troubles(events) == ["model_quiet", "model_silent"]
    assert events[-1].reason == "model_silent"
    assert failures["model_silent"] == failures["model_quiet"] == 1
    spoke = record.said_segments[-1].end_ms
    filler, sorry = [segment.start_ms - spoke for segment in record.heard_segments[1:]][:2]
    assert 2_900 < filler < 4_200
    assert 7_900 < sorry < 9_500
    # Fillers are no answers: the response times stay true.
    assert all(event.response_ms is None for event in kinds(events, "bot_started_speaking")[:2])


@pytest.mark.usefixtures("hasty")
async def test_without_a_clip_the_carrier_says_the_last_words(open_site: Any, say: Say) -> None:
    async with open_site(gemini={"faults": Faults(mute=True)}) as site:
        site.app.state.parts.greetings.ready = lambda flow, words: None
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
    assert [text for _, text in record.announcements] == [site.flow.phrases.sorry_lost]
    assert events[-1].reason == "model_silent"


@pytest.mark.usefixtures("hasty")
async def test_a_model_that_missed_what_was_said_answers_when_it_is_asked_again(open_site: Any, say: Say) -> None:
    mind = ListedMind("Sorry, what was that?", END_CALL, "Good bye to you.")
    async with open_site(mind, gemini={"faults": Faults(swallowed_utterance=(1,))}) as site:
        record = await site.ring(say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
    assert said(events) == [
        site.flow.opening,
        site.flow.phrases.one_moment,
        "Sorry, what was that?",
        "Good bye to you.",
    ]
    assert troubles(events) == ["model_quiet"]
    assert events[-1].reason == "goodbye"


@pytest.mark.usefixtures("hasty")
async def test_a_connection_that_takes_nothing_any_more_does_not_hold_the_call_up(open_site: Any, say: Say) -> None:
    async with open_site(gemini={"faults": Faults(mute=True)}) as site:
        call = site.dial(say())
        caller = asyncio.create_task(call.run())
        while not site.of("bot_stopped_speaking"):
            await asyncio.sleep(0.02)
        # What the transport says when the network takes nothing: from here on everything that is sent waits.
        site.call(site.events[0][0])._gemini._session._ws._websocket.pause_writing()
        record = await caller
        events = await site.tape_of(record.call_sid)
    assert said(events) == [site.flow.opening, site.flow.phrases.one_moment, site.flow.phrases.sorry_lost]
    assert troubles(events) == ["model_quiet", "model_silent"]
    assert events[-1].reason == "model_silent"


@pytest.mark.usefixtures("hasty")
async def test_a_model_that_stalls_and_takes_nothing_ends_in_words_though_no_clip_is_ready(
    open_site: Any, say: Say
) -> None:
    faults = FaultPlan(sessions={1: Faults(stall_at_bot_ms=800, stall_seconds=600)})
    async with open_site(ListedMind(" ".join(["word"] * 40)), gemini={"faults": faults}) as site:
        greetings, opening = site.app.state.parts.greetings, site.flow.opening
        clip_of = greetings.clip
        greetings.clip = lambda flow, words: clip_of(flow, words) if words == opening else None
        greetings.ready = lambda flow, words: None
        caller = asyncio.create_task(site.dial(say()).run())
        while len(site.of("bot_started_speaking")) < 2:
            await asyncio.sleep(0.02)
        session = site.call(site.events[0][0])._gemini._session
        session._ws._websocket.pause_writing()
        # The transport's buffer takes a few words more; a full one takes none.
        session.send_realtime_input = lambda **_: asyncio.sleep(600)
        record = await caller
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert [text for _, text in record.announcements] == [site.flow.phrases.sorry_lost]
    assert troubles(events) == ["model_quiet", "model_silent"]
    assert failures["model_silent"] == 1
    assert events[-1].reason == "model_silent"
    stopped, sorry = record.heard_segments[1].end_ms, record.announcements[0][0]
    assert sorry - stopped < 8_000 / 2 + 2_500


@pytest.mark.usefixtures("hasty")
async def test_a_model_that_only_has_empty_turns(open_site: Any, say: Say) -> None:
    async with open_site(gemini={"faults": Faults(empty_turn=tuple(range(1, 50)))}) as site:
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert said(events)[-1] == site.flow.phrases.sorry_lost
    assert failures["model_empty_turn"] == 2
    assert failures["model_silent"] == 1
    assert events[-1].reason == "model_silent"


@pytest.mark.usefixtures("hasty")
async def test_a_turn_that_the_model_refuses_is_asked_for_again(open_site: Any, say: Say) -> None:
    mind = ListedMind("Not said.", "Here is the answer.", END_CALL, "Good bye to you.")
    async with open_site(mind, gemini={"faults": Faults(refused_turn=(1,))}) as site:
        record = await site.ring(say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
    assert said(events) == [site.flow.opening, "Here is the answer.", "Good bye to you."]
    assert troubles(events) == ["model_turn_refused", "model_empty_turn"]
    assert next(event.detail for event in kinds(events, "trouble")) == "RESPONSE_REJECTED"
    assert events[-1].reason == "goodbye"


async def test_a_message_that_we_cannot_handle_is_told_and_the_conversation_goes_on(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear, broken = GeminiSession._hear, iter([True])

    def hear_once_in_vain(self: GeminiSession, transcription: Any) -> None:
        if next(broken, False):
            raise KeyError("a fault of ours")
        hear(self, transcription)

    monkeypatch.setattr(GeminiSession, "_hear", hear_once_in_vain)
    async with open_site(ListedMind("This is the first answer.", END_CALL, "Good bye to you.")) as site:
        record = await site.ring(say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]
    assert [event.detail for event in kinds(events, "trouble")] == ["KeyError"]
    assert events[-1].reason == "goodbye"


async def test_models_that_refuse_the_setup_are_passed_over(open_site: Any, say: Say) -> None:
    """A flow that one model does not take, and a key that may not use another: the third one answers."""
    refused = {
        1: Faults(setup_close=Close(1007, "Request contains an invalid argument.")),
        2: Faults(setup_close=Close(1008, "The project has no billing account.")),
    }
    models = ("gemini-3.8-live", "gemini-2.5-flash-native-audio-preview-12-2025", "gemini-3.1-flash-live-preview")
    mind = ListedMind("This is the first answer.", END_CALL, "Good bye to you.")
    async with open_site(mind, gemini={"faults": FaultPlan(sessions=refused)}, gemini_models=models) as site:
        record = await site.ring(say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
    failed = [(event.model, event.failure) for event in kinds(events, "model_failed")]
    assert failed == [(models[0], "rejected_setup"), (models[1], "no_live_access")]
    assert [event.model for event in kinds(events, "model_connected")] == [models[2]]
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]


ODD = {
    "no turnComplete": Faults(missing_turn_complete=(1,)),
    "two parts": Faults(two_parts=True),
    "usage alone": Faults(usage_alone=True),
    "a transcript twice": Faults(duplicate_transcript=(1,)),
    "all at once": Faults(missing_turn_complete=(1,), usage_alone=True, two_parts=True, duplicate_transcript=(1,)),
}


@pytest.mark.parametrize("odd", ODD)
async def test_odd_messages_of_the_model_change_nothing_for_the_caller(open_site: Any, say: Say, odd: str) -> None:
    mind = ListedMind("This is the first answer.", END_CALL, "Good bye to you.")
    async with open_site(mind, gemini={"faults": ODD[odd]}) as site:
        record = await site.ring(say(), say())
        events = await site.tape_of(record.call_sid)
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]
    assert all(event.heard == 1.0 for event in kinds(events, "bot_said"))
    assert [event.text for event in kinds(events, "caller_said")] == ["something"] * 2
    # What was used is told with turnComplete, or by itself; only a turn that never ends does not tell.
    assert len(kinds(events, "tokens_used")) >= (1 if ODD[odd].missing_turn_complete else 2)
    assert troubles(events) == []
    assert events[-1].reason == "goodbye"


async def test_a_function_that_does_not_exist_is_told_and_the_conversation_goes_on(open_site: Any, say: Say) -> None:
    mind = ListedMind("This is the first answer.", END_CALL, "Good bye to you.")
    async with open_site(mind, gemini={"faults": Faults(unknown_function_call=(1,))}) as site:
        record = await site.ring(say(), say())
        events = await site.tape_of(record.call_sid)
        metrics = await site.metrics()
    unknown = kinds(events, "tool_returned")[0]
    assert unknown.status == "unknown"
    assert "end_call" in unknown.result["hint"]
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]
    assert 'switchboard_tool_seconds_count{status="unknown",tool="unknown"} 1.0' in metrics
    assert events[-1].reason == "goodbye"


@pytest.mark.usefixtures("hasty")
async def test_a_slow_function_is_filled_in_for_and_its_answer_follows_the_phrase(open_site: Any, say: Say) -> None:
    async with open_site(ListedMind(PARKING, "Behind the house.", END_CALL, "Good bye to you.")) as site:
        desk = site.app.state.parts.desk
        search = desk.search_faq

        def slowly(*args: Any, **options: Any) -> Any:
            time.sleep(2.2)
            return search(*args, **options)

        desk.search_faq = slowly
        record = await site.ring(say(), say(), habits=PATIENT)
        events = await site.tape_of(record.call_sid)
        metrics = await site.metrics()
    one_moment = site.flow.phrases.one_moment
    assert said(events) == [site.flow.opening, one_moment, "Behind the house.", "Good bye to you."]
    assert all(event.heard == 1.0 and not event.interrupted for event in kinds(events, "bot_said"))
    assert troubles(events) == []
    filler, answer = kinds(events, "bot_started_speaking")[1:3]
    assert filler.response_ms is None
    assert answer.response_ms > 2_200
    assert 'switchboard_silence_filled_total{phrase="one_moment",source="cache"} 1.0' in metrics


@pytest.mark.parametrize("seconds", [4.8, 600.0], ids=["for a while", "for good"])
@pytest.mark.usefixtures("hasty")
async def test_a_model_that_stalls_in_its_sentence_is_filled_in_for(open_site: Any, say: Say, seconds: float) -> None:
    """The stand-in's seconds are half as long here."""
    words = " ".join(["word"] * 40)
    faults = FaultPlan(sessions={1: Faults(stall_at_bot_ms=800, stall_seconds=seconds)})
    mind = ListedMind(words, "Sorry, where was I?")
    async with open_site(mind, gemini={"faults": faults}) as site:
        record = await site.ring(say(), habits=BRIEF)
        events = await site.tape_of(record.call_sid)
    one_moment, (_, begun, filler, *rest) = site.flow.phrases.one_moment, said(events)
    assert filler == one_moment
    assert begun.split() == ["word"] * len(begun.split())
    if seconds < 10:
        assert len(begun.split()) + len(" ".join(rest).split()) == 40
        assert troubles(events) == []
    else:
        assert rest[-1] == "Sorry, where was I?"
        assert troubles(events) == ["model_quiet"]
    stop, start = record.heard_segments[1].end_ms, record.heard_segments[2].start_ms
    assert start - stop < 1_500 + 900


@pytest.mark.usefixtures("hasty")
async def test_a_long_reconnect_is_filled_in_for(open_site: Any, say: Say) -> None:
    plan = FaultPlan(sessions={1: Faults(close_before_first_word=(1,)), 2: Faults(setup_seconds=4.0)})
    async with open_site(ListedMind("Lost.", "Here I am again."), gemini={"faults": plan}) as site:
        record = await site.ring(say(), habits=BRIEF)
        events = await site.tape_of(record.call_sid)
    assert said(events)[:2] == [site.flow.opening, site.flow.phrases.one_moment]
    assert len(said(events)) == 3
    assert [event.failure for event in kinds(events, "model_failed")] == ["internal"]


@pytest.mark.usefixtures("hasty")
async def test_a_model_that_cannot_be_reached_in_time_is_not_waited_for(open_site: Any) -> None:
    async with open_site(gemini={"faults": Faults(setup_seconds=600)}) as site:
        record = await site.ring()
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert [text for _, text in record.announcements] == [site.flow.phrases.sorry_unreachable]
    assert events[-1].reason == "model_lost"
    assert failures["model_timeout"] == 1


async def test_a_model_that_is_lost_in_the_greeting_does_not_cut_it_off(open_site: Any) -> None:
    async with open_site(gemini={"faults": Faults(wrong_key=True)}) as site:
        record = await site.ring()
        events = await site.tape_of(record.call_sid)
    (opening,) = kinds(events, "bot_said")
    assert (opening.text, opening.heard, opening.interrupted) == (site.flow.opening, 1.0, False)
    assert [text for _, text in record.announcements] == [site.flow.phrases.sorry_unreachable]
    order = [event.kind for event in events if event.kind in ("trouble", "bot_stopped_speaking", "stream_stopped")]
    assert order == ["trouble", "bot_stopped_speaking", "stream_stopped"]


async def test_a_model_that_is_lost_in_its_sentence_is_heard_to_the_end_of_it(open_site: Any, say: Say) -> None:
    faults = FaultPlan(every=Faults(wrong_key=True), sessions={1: Faults(drop_at_bot_ms=2400)})
    async with open_site(ListedMind(" ".join(["word"] * 60)), gemini={"faults": faults}) as site:
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
    _, answer, sorry = kinds(events, "bot_said")
    assert (answer.heard, answer.interrupted) == (1.0, False)
    assert len(answer.text.split()) >= 30
    assert (sorry.text, sorry.heard) == (site.flow.phrases.sorry_lost, 1.0)
    assert events[-1].reason == "model_lost"


async def test_the_ten_minute_cut_is_not_heard(open_site: Any, say: Say) -> None:
    plan = FaultPlan(sessions={1: Faults(go_away_at_seconds=1.0, go_away_left_seconds=8.0)})
    async with open_site(
        ListedMind("This is the first answer.", END_CALL, "Good bye to you."), gemini={"faults": plan}
    ) as site:
        record = await site.ring(say(), say())
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert said(events) == [site.flow.opening, "This is the first answer.", "Good bye to you."]
    assert len(kinds(events, "model_go_away")) == 1
    assert [event.resumed for event in kinds(events, "model_connected")] == [False, True]
    assert failures == {}


async def test_a_model_that_drops_in_its_goodbye(open_site: Any, say: Say) -> None:
    goodbye = " ".join(["bye"] * 40)
    async with open_site(ListedMind(END_CALL, goodbye), gemini={"faults": Faults(drop_at_bot_ms=600)}) as site:
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
        failures = site.failures()
    assert said(events)[-1] == site.flow.phrases.goodbye, said(events)
    assert kinds(events, "bot_said")[-1].heard == 1.0
    assert events[-1].reason == "goodbye"
    assert failures["model_dropped"] >= 1


async def test_a_model_that_ends_the_call_without_a_word(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.ready_words.LAST_WORDS_SECONDS", 0.6)
    async with open_site(ListedMind(END_CALL, *[Reply()] * 5)) as site:
        record = await site.ring(say())
        events = await site.tape_of(record.call_sid)
    assert said(events) == [site.flow.opening, site.flow.phrases.goodbye]
    assert events[-1].reason == "goodbye"


async def test_a_caller_who_says_nothing_is_asked_and_seen_out(open_site: Any) -> None:
    async with open_site() as site:
        parts = site.app.state.parts
        limits = parts.flow.limits.model_copy(update={"caller_silence_seconds": 1.0})
        parts.flow = parts.flow.model_copy(update={"limits": limits})
        record = await site.ring()
        events = await site.tape_of(record.call_sid)
        metrics = await site.metrics()
    phrases = site.flow.phrases
    assert said(events) == [site.flow.opening, phrases.still_there, phrases.still_there, phrases.goodbye]
    assert events[-1].reason == "caller_silent"
    assert record.status == "completed"
    assert 'switchboard_calls_total{outcome="caller_silent"} 1.0' in metrics
    assert 'switchboard_silence_filled_total{phrase="still_there",source="cache"} 2.0' in metrics
