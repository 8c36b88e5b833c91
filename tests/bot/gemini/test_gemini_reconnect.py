"""What the session does when the service refuses, drops, ages or forgets: nothing is lost, nothing is silent.

Every test runs twice: over plain sockets, and over TLS, where the SDK opens its connection as it does to the service.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from pipecat.frames.frames import EndFrame, TTSStartedFrame, TTSStoppedFrame

from sandbox.gemini import Close, Faults
from sandbox.mind import Reply, ToolCall

House = Any
LIVE = "gemini-3.8-live"
PREVIEW = "gemini-3.1-flash-live-preview"
NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
THINKING = "gemini-3.8-live-extended-thinking"
ALL = [NATIVE, PREVIEW, LIVE, THINKING]
UNAVAILABLE = Close(1011, "The service is currently unavailable.")
QUOTA = Close(1011, "You exceeded your current quota, please check your plan and billing details.")


@pytest.fixture(params=["plain", "tls"])
def gemini(request: pytest.FixtureRequest, gemini: House) -> House:
    if request.param == "tls":
        gemini.tls = request.getfixturevalue("secure")
    return gemini


def failures(call: Any) -> list[tuple[str, str]]:
    return [(event.model, event.failure) for event in call.of("model_failed")]


# -- the first connection ---------------------------------------------------------------------------------------------


async def test_a_model_that_does_not_exist_is_passed_over_now_and_by_the_next_call(gemini: House) -> None:
    async with gemini.serve(gemini.Mind("Hello there.")) as server:
        async with gemini.call(server.url, "gemini-9-live", LIVE) as call:
            await call.until(lambda: call.session.was_ready)
        assert failures(call) == [("gemini-9-live", "unknown_model")]
        assert call.of("model_connected")[0].model == LIVE
        clients = await gemini.clients(server.url, "gemini-9-live", LIVE)
        assert await clients.speak("Hello there.", "Kore", "en-US")
        assert clients.preferred(("gemini-9-live", LIVE)) == [LIVE, "gemini-9-live"]


async def test_a_model_whose_quota_is_used_up_hands_over_to_the_next(gemini: House) -> None:
    faults = {1: Faults(setup_close=QUOTA)}
    async with gemini.serve(faults=faults) as server, gemini.call(server.url, PREVIEW, LIVE) as call:
        await call.until(lambda: call.session.was_ready)
    assert failures(call) == [(PREVIEW, "quota")]
    assert call.of("model_connected")[0].model == LIVE


async def test_an_upgrade_that_is_refused_with_429_hands_over_to_the_next(gemini: House) -> None:
    faults = {1: Faults(upgrade_status=429)}
    async with gemini.serve(faults=faults) as server, gemini.call(server.url, PREVIEW, LIVE) as call:
        await call.until(lambda: call.session.was_ready)
        assert server.url.startswith("https" if gemini.tls else "http:")
    assert failures(call) == [(PREVIEW, "quota")]
    assert call.of("model_connected")[0].model == LIVE


async def test_a_refused_connection_is_tried_again(gemini: House) -> None:
    faults = {1: Faults(refuse_connect=True), 2: Faults(setup_close=UNAVAILABLE)}
    async with gemini.serve(gemini.Mind("Hello."), faults=faults) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Hello.")
        await call.turns_done()
    assert failures(call) == [(LIVE, "unreachable"), (LIVE, "internal")]
    assert call.audio
    assert not call.lost


async def test_a_bad_key_ends_it_at_once_and_says_why(gemini: House) -> None:
    async with gemini.serve(api_keys=["another"]) as server, gemini.call(server.url, PREVIEW, LIVE) as call:
        await call.until(lambda: call.lost)
        assert len(server.sessions) == 1
    assert call.lost[0].kind == "bad_key"
    assert "GOOGLE_API_KEY" in call.lost[0].cure
    assert not call.session.was_ready


async def test_when_no_model_is_left_the_call_is_told_once(gemini: House) -> None:
    faults = Faults(setup_close=UNAVAILABLE)
    async with gemini.serve(faults=faults) as server, gemini.call(server.url, PREVIEW, LIVE) as call:
        await call.until(lambda: call.lost, seconds=20)
        await call.hear(bytes(32 * 200))
        await asyncio.sleep(0.1)
    assert failures(call) == [(PREVIEW, "internal")] * 5 + [(LIVE, "internal")] * 5
    assert [error.kind for error in call.lost] == ["internal"]
    assert len(call.of("model_failed")) == 10


async def test_what_the_caller_says_before_the_session_is_ready_is_heard(gemini: House) -> None:
    mind, ear = gemini.Mind("Of course."), gemini.Ear("Hello is anybody there")
    async with gemini.serve(mind, Faults(setup_seconds=10), ear=ear) as server, gemini.call(server.url) as call:
        await call.say(600)
        assert not call.session.was_ready
        await call.turns_done()
        assert bytes(server.sessions[0].audio) == gemini.tone(600) + bytes(32 * 900)
    assert mind.said == [("Hello is anybody there", "audio")]


# -- drops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ALL)
async def test_after_a_drop_the_session_goes_on_by_its_handle(gemini: House, model: str) -> None:
    mind = gemini.Mind("First answer.", "Second answer.")
    async with gemini.serve(mind, {1: Faults(drop_after_ms=4000)}) as server, gemini.call(server.url, model) as call:
        await call.session.say_to_model("One.")
        await call.until(lambda: len(call.of("model_connected")) == 2)
        await call.session.say_to_model("Two.")
        await call.turns_done(2)
        handle = gemini.setup(server.sessions[1])["sessionResumption"]["handle"]
        issued = [update["newHandle"] for update in server.sessions[0].frames_with("sessionResumptionUpdate") if update]
        assert handle == issued[-1]
        assert server.sessions[1].client_contents == []
    assert failures(call) == [(model, "dropped")]
    assert [event.resumed for event in call.of("model_connected")] == [False, True]
    assert [text for text in gemini.typed(mind) if not text.startswith("[Note")] == ["One.", "Two."]


@pytest.mark.parametrize("model", ALL)
async def test_without_a_handle_the_conversation_is_told_again(gemini: House, model: str) -> None:
    mind = gemini.Mind("First answer.", "Second answer.", "Third answer.")
    faults = {1: Faults(drop_after_ms=4000, no_handle=True), 2: Faults(no_handle=True)}
    async with gemini.serve(mind, faults) as server, gemini.call(server.url, model) as call:
        ear_text = "One"
        await call.session.say_to_model(ear_text)
        await call.until(lambda: len(call.of("model_connected")) == 2)
        await call.session.say_to_model("Two.")
        await call.turns_done(2)
        setup = gemini.setup(server.sessions[1])
        (content,) = server.sessions[1].client_contents
    assert setup["sessionResumption"] == {}
    assert content["turnComplete"] is True
    told = [(turn["role"], turn["parts"][0]["text"]) for turn in content["turns"]]
    assert told[0] == ("model", "First answer.")
    if model == NATIVE:
        assert told[-1][0] == "user"
        assert "historyConfig" not in setup
    else:
        assert len(told) == 1
        assert setup["historyConfig"] == {"initialHistoryInClientContent": True}
        assert mind.remembered == [("model", "First answer.")]


async def test_a_handle_that_has_expired_costs_one_try(gemini: House) -> None:
    mind = gemini.Mind("First answer.", "Second answer.")
    faults = {1: Faults(drop_after_ms=4000), 2: Faults(expired_handle=True)}
    async with gemini.serve(mind, faults) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("One.")
        await call.until(lambda: len(call.of("model_connected")) == 2)
        assert "handle" in gemini.setup(server.sessions[1])["sessionResumption"]
        assert gemini.setup(server.sessions[2])["sessionResumption"] == {}
        await call.until(lambda: mind.remembered)
    assert failures(call) == [(LIVE, "dropped"), (LIVE, "dropped")]
    assert not call.lost


async def test_a_drop_while_the_bot_speaks_ends_its_turn_and_it_carries_on(gemini: House) -> None:
    mind = gemini.Mind(" ".join(["word"] * 40), "where was I")
    async with gemini.serve(mind, {1: Faults(drop_at_bot_ms=2000)}) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Talk.")
        await call.turns_done()
        speech = [type(frame) for frame in call.frames.of(TTSStartedFrame, TTSStoppedFrame)]
        await call.worker.queue_frame(EndFrame())
        await call.until(lambda: call.frames.of(EndFrame), seconds=5)
    assert speech == [TTSStartedFrame, TTSStoppedFrame] * 2
    assert len(gemini.typed(mind)) == 2
    assert "You were cut off while saying: word word" in gemini.typed(mind)[1]


async def test_a_drop_while_the_caller_speaks_loses_none_of_it(gemini: House) -> None:
    mind, ear = gemini.Mind("Of course."), gemini.Ear("A long sentence")
    faults = {1: Faults(drop_at_caller_ms=800)}
    async with gemini.serve(mind, faults, ear=ear) as server, gemini.call(server.url) as call:
        await call.until(lambda: call.session.was_ready)
        await call.hear(gemini.tone(1000))
        await call.until(lambda: len(call.of("model_connected")) == 2)
        await call.hear(gemini.tone(500) + bytes(32 * 900))
        await call.turns_done()
        assert mind.said == [("A long sentence", "audio")]
        assert len(ear.heard[0]) >= 1500 * 32


async def test_what_the_caller_says_in_the_gap_is_heard_after_it(gemini: House) -> None:
    mind, ear = gemini.Mind("Of course."), gemini.Ear("In the gap")
    faults = {1: Faults(drop_after_ms=2000), 2: Faults(setup_close=UNAVAILABLE), 3: Faults(setup_close=UNAVAILABLE)}
    async with gemini.serve(mind, faults, ear=ear) as server, gemini.call(server.url) as call:
        await call.until(lambda: call.of("model_failed"))
        await call.say()
        await call.turns_done()
        assert len(server.sessions) == 4
    assert mind.said == [("In the gap", "audio")]
    assert not call.lost


async def test_an_answer_that_was_owed_when_the_connection_broke_is_given(gemini: House) -> None:
    mind, ear = gemini.Mind("Never heard.", "On Monday."), gemini.Ear("When do you have time")
    faults = {1: Faults(close_before_first_word=(1,))}
    async with gemini.serve(mind, faults, ear=ear) as server, gemini.call(server.url, PREVIEW) as call:
        await call.say()
        await call.turns_done()
    assert [event.text for event in call.of("caller_said")] == ["When do you have time"]
    assert len(gemini.typed(mind)) == 1
    assert "caller: When do you have time" in gemini.typed(mind)[0]
    assert call.audio


async def test_a_greeting_that_was_asked_for_and_not_spoken_is_asked_for_again(gemini: House) -> None:
    mind = gemini.Mind("Never heard.", "Good morning.")
    faults = {1: Faults(close_before_first_word=(1,))}
    async with gemini.serve(mind, faults) as server, gemini.call(server.url) as call:
        await call.session.greet("Good morning.")
        await call.turns_done()
    assert gemini.typed(mind) == ['[The call has just been answered. Say exactly: "Good morning."]'] * 2
    assert len(call.audio) == 2 * 24000 // 4 * 2


async def test_what_was_answered_is_not_asked_again(gemini: House) -> None:
    mind = gemini.Mind("Good morning.")
    async with gemini.serve(mind, {1: Faults(drop_after_ms=4000)}) as server, gemini.call(server.url) as call:
        await call.session.greet("Good morning.")
        await call.until(lambda: len(call.of("model_connected")) == 2)
        await call.hear(bytes(32 * 300))
        await gemini.until(lambda: len(server.sessions[1].audio) >= 32 * 300)
    assert len(gemini.typed(mind)) == 1


async def test_many_drops_in_a_row_are_counted_and_end_in_one_word(gemini: House) -> None:
    async with gemini.serve(faults=Faults(drop_after_ms=200)) as server, gemini.call(server.url) as call:
        await call.until(lambda: call.lost, seconds=20)
        assert len(server.sessions) == 5
    assert failures(call) == [(LIVE, "dropped")] * 5
    assert len(call.lost) == 1


async def test_a_model_that_keeps_dropping_hands_over_with_the_conversation(gemini: House) -> None:
    mind = gemini.Mind("First answer.")
    faults = {number: Faults(drop_after_ms=4000 if number == 1 else 100) for number in range(1, 6)}
    async with gemini.serve(mind, faults) as server, gemini.call(server.url, PREVIEW, LIVE) as call:
        await call.session.say_to_model("One.")
        await call.until(lambda: len(server.sessions) == 6 and call.of("model_connected")[-1].model == LIVE, seconds=20)
        await call.until(lambda: server.sessions[5].client_contents)
        assert gemini.setup(server.sessions[5])["sessionResumption"] == {}
    assert not call.lost
    assert ("model", "First answer.") in mind.remembered


# -- functions and the gap --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ALL)
async def test_an_answer_for_a_connection_that_is_gone_reaches_the_model_once(gemini: House, model: str) -> None:
    tools = gemini.Tools()
    tools.gate.clear()
    mind = gemini.Mind(Reply(calls=[ToolCall("book", {"day": "Monday"})]), *["And now?"] * 5)
    faults = {1: Faults(drop_in_tool_call=True)}
    async with gemini.serve(mind, faults) as server, gemini.call(server.url, model, tools=tools) as call:
        await call.session.say_to_model("Monday please.")
        await call.until(lambda: tools.ran and len(call.of("model_connected")) == 2)
        await call.turns_done()
        tools.gate.set()
        await call.until(lambda: [text for text in gemini.typed(mind) if "book is done" in text])
        await call.turns_done(2)
        await call.session.say_to_model("And?")
        await call.turns_done(3)
        assert all(not record.tool_responses for record in server.sessions)
    assert len([text for text in gemini.typed(mind) if "book is done" in text]) == 1
    assert len(tools.ran) == 1


async def test_an_answer_that_comes_in_the_gap_is_told_when_the_session_is_back(gemini: House) -> None:
    tools = gemini.Tools()
    tools.gate.clear()
    mind = gemini.Mind(Reply(calls=[ToolCall("book", {"day": "Monday"})]), "It is booked.")
    faults = {1: Faults(drop_in_tool_call=True), 2: Faults(setup_seconds=10)}
    async with gemini.serve(mind, faults) as server, gemini.call(server.url, tools=tools) as call:
        await call.session.say_to_model("Monday please.")
        await call.until(lambda: tools.ran and call.of("model_failed"))
        tools.gate.set()
        await call.turns_done()
        assert all(not record.tool_responses for record in server.sessions)
    assert len(gemini.typed(mind)) == 2
    assert 'book has finished meanwhile and returned {"say": "book is done."}' in gemini.typed(mind)[1]


async def test_old_answers_are_not_sent_to_a_new_session(gemini: House) -> None:
    mind = gemini.Mind(Reply(calls=[ToolCall("book", {"day": "Monday"})]), "It is booked.", "Fine.")
    async with gemini.serve(mind, {1: Faults(drop_after_ms=6000)}) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Monday please.")
        await call.until(lambda: len(call.of("model_connected")) == 2)
        await call.session.say_to_model("Thanks.")
        await call.turns_done(2)
        assert server.sessions[1].tool_responses == []
    assert not [text for text in gemini.typed(mind) if "book is done" in text]


async def test_the_setup_after_a_drop_brings_the_instruction_as_it_is_now(gemini: House) -> None:
    async with gemini.serve(faults={1: Faults(drop_after_ms=2000)}) as server, gemini.call(server.url) as call:
        await call.until(lambda: call.session.was_ready)
        call.tools.instruction = "The caller has booked; say goodbye."
        await call.until(lambda: len(call.of("model_connected")) == 2)
        parts = gemini.setup(server.sessions[1])["systemInstruction"]["parts"]
    assert parts == [{"text": "The caller has booked; say goodbye."}]


# -- ageing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ALL)
async def test_a_connection_that_will_be_closed_is_left_in_a_pause(gemini: House, model: str) -> None:
    mind = gemini.Mind(" ".join(["word"] * 20), "Second answer.")
    faults = {1: Faults(go_away_at_seconds=3.0, go_away_left_seconds=1000)}
    async with gemini.serve(mind, faults) as server, gemini.call(server.url, model) as call:
        await call.session.say_to_model("Talk.")
        await call.until(lambda: len(call.of("model_connected")) == 2)
        assert len(call.of("tokens_used")) == 1
        assert len(call.audio) == 20 * 24000 // 4 * 2
        await call.session.say_to_model("Go on.")
        await call.turns_done(2)
        assert [record.close_code for record in server.sessions][:1] == [1000]
    assert call.of("model_go_away")[0].time_left_ms == 1_000_000
    assert call.of("model_connected")[1].resumed
    assert not call.of("model_failed")
    assert gemini.typed(mind) == ["Talk.", "Go on."]


async def test_a_connection_that_will_be_closed_is_left_in_time_even_in_a_sentence(gemini: House) -> None:
    mind = gemini.Mind(" ".join(["word"] * 40), "And so on.")
    faults = {1: Faults(go_away_at_seconds=1.5, go_away_left_seconds=2.5)}
    async with gemini.serve(mind, faults, speed=1.0) as server, gemini.call(server.url, PREVIEW) as call:
        await call.session.say_to_model("Talk.")
        await call.until(lambda: len(gemini.typed(mind)) == 2)
        assert server.sessions[0].close_code == 1000
    assert not failures(call)
    assert "You were cut off while saying: word" in gemini.typed(mind)[1]


async def test_sessions_that_must_be_left_at_once_are_opened_ever_more_slowly_and_answer(gemini: House) -> None:
    mind, loop, opened = gemini.Mind("Here I am."), asyncio.get_running_loop(), []
    faults = Faults(go_away_at_seconds=0.0, go_away_left_seconds=1000)
    async with gemini.serve(mind, faults) as server, gemini.call(server.url) as call:
        for count in range(1, 6):
            await call.until(lambda count=count: len(call.of("model_connected")) >= count)
            opened.append(loop.time())
        await call.session.say_to_model("Hello?")
        await call.turns_done()
    # The first is replaced at once; then 0.3 s, 0.6 s, 1.2 s, each spread by a quarter.
    pauses = [later - earlier for earlier, later in pairwise(opened)][1:]
    assert all(pause >= least for pause, least in zip(pauses, (0.2, 0.4, 0.8), strict=True)), pauses
    assert len(call.of("model_go_away")) >= 4
    assert not call.of("model_failed")
    assert call.audio


# -- what cannot be read or written -----------------------------------------------------------------------------------


async def test_what_a_connection_does_not_take_is_bounded_and_its_loss_told_once(gemini: House) -> None:
    """Eleven seconds of the caller while the network takes nothing: the first is lost, the rest is answered."""
    mind, ear = gemini.Mind("Of course."), gemini.Ear("A long story")
    async with gemini.serve(mind, ear=ear) as server, gemini.call(server.url) as call:
        await call.until(lambda: call.session.connected)
        socket = call.session._session._ws._websocket
        socket.pause_writing()
        await call.hear(bytes(32 * 1000) + gemini.tone(10_000))
        await call.until(lambda: call.of("trouble"))
        assert await call.worker.flush_pipeline()
        assert not server.sessions[0].audio
        socket.resume_writing()
        await call.hear(bytes(32 * 900))
        await call.turns_done()
        heard = bytes(server.sessions[0].audio)
    assert [event.failure for event in call.of("trouble")] == ["caller_audio_dropped"]
    assert heard == (gemini.tone(10_000) + bytes(32 * 900))[-len(heard) :]
    assert 10_000 <= len(heard) / 32 <= 10_900
    assert call.audio


async def test_frames_that_cannot_be_read_are_counted_and_survived(gemini: House, monkeypatch: Any) -> None:
    from google.genai.live import AsyncSession

    read = AsyncSession._receive
    broken = iter([True, False])

    async def receive(self: AsyncSession) -> Any:
        message = await read(self)
        if next(broken, False):
            raise TypeError("a frame whose only key is unknown")
        return message

    monkeypatch.setattr(AsyncSession, "_receive", receive)
    async with gemini.serve(gemini.Mind("Hello.")) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Hello.")
        await call.turns_done()
        assert len(server.sessions) == 1
    assert [event.failure for event in call.of("trouble")] == ["model_frame_unreadable"]
