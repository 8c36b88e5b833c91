"""The session of a call against the stand-in: setup for each model, turns, transcripts, usage, functions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pipecat.frames.frames import EndFrame, InterruptionFrame, TTSStartedFrame, TTSStoppedFrame

from bot.flow import Grounding, Speech
from bot.tools import UnheardResult
from sandbox.gemini import Faults
from sandbox.mind import Reply, ToolCall

House = Any
LIVE = "gemini-3.8-live"
PREVIEW = "gemini-3.1-flash-live-preview"
NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
THINKING = "gemini-3.8-live-extended-thinking"
ALL = [NATIVE, PREVIEW, LIVE, THINKING]

# -- setup ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ALL)
async def test_one_connection_whose_setup_has_all_that_the_call_needs(gemini: House, model: str) -> None:
    async with gemini.serve() as server, gemini.call(server.url, model, language="en-GB", voice="Kore") as call:
        await call.session.say_to_model("Hello.")
        await call.turns_done()
        assert len(server.sessions) == 1
        setup = gemini.setup(server.sessions[0])
    assert setup["model"] == f"models/{model}"
    assert setup["generationConfig"]["responseModalities"] == ["AUDIO"]
    speech = setup["generationConfig"]["speechConfig"]
    assert (speech["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"], speech["languageCode"]) == ("Kore", "en-GB")
    assert setup["systemInstruction"]["parts"] == [{"text": "You answer the phone of a dentist."}]
    assert setup["sessionResumption"] == {}
    assert setup["contextWindowCompression"] == {"slidingWindow": {}}
    assert "outputAudioTranscription" in setup
    assert "historyConfig" not in setup
    names = [function["name"] for tool in setup["tools"] for function in tool["functionDeclarations"]]
    assert names == ["book", "look_up"]
    (connected,) = call.of("model_connected")
    assert (connected.model, connected.resumed) == (model, False)
    assert connected.setup_ms > 0


@pytest.mark.parametrize(
    ("model", "thinking", "behavior", "hints"),
    [
        (NATIVE, {"thinkingBudget": 0}, None, {}),
        (PREVIEW, {"thinkingLevel": "MINIMAL"}, None, {}),
        (LIVE, None, "BLOCKING", {"languageCodes": ["en-US"]}),
        (THINKING, {"thinkingLevel": "LOW"}, "NON_BLOCKING", {"languageCodes": ["en-US"]}),
    ],
)
async def test_each_model_is_set_up_as_it_wants(
    gemini: House, model: str, thinking: Any, behavior: str | None, hints: dict[str, Any]
) -> None:
    async with gemini.serve() as server, gemini.call(server.url, model) as call:
        await call.until(lambda: call.session.was_ready)
        setup = gemini.setup(server.sessions[0])
    assert setup["generationConfig"].get("thinkingConfig") == thinking
    assert [f.get("behavior") for f in setup["tools"][0]["functionDeclarations"]] == [behavior] * 2
    assert setup["inputAudioTranscription"] == hints


async def test_how_the_flow_wants_turns_found_and_the_web_searched_is_in_the_setup(gemini: House) -> None:
    speech = Speech(start_sensitivity="low", end_sensitivity="high", silence_ms=640, prefix_ms=120)
    changes = {"speech": speech, "grounding": Grounding(google_search=True)}
    async with gemini.serve() as server, gemini.call(server.url, **changes) as call:
        await call.until(lambda: call.session.was_ready)
        setup = gemini.setup(server.sessions[0])
    assert setup["realtimeInputConfig"]["automaticActivityDetection"] == {
        "startOfSpeechSensitivity": "START_SENSITIVITY_LOW",
        "endOfSpeechSensitivity": "END_SENSITIVITY_HIGH",
        "silenceDurationMs": 640,
        "prefixPaddingMs": 120,
    }
    assert sorted(key for tool in setup["tools"] for key in tool) == ["functionDeclarations", "googleSearch"]


# -- turns ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ALL)
async def test_what_the_caller_says_is_transcribed_and_answered(gemini: House, model: str) -> None:
    mind, ear = gemini.Mind("We have time on Monday."), gemini.Ear("I would like an appointment")
    async with gemini.serve(mind, ear=ear) as server, gemini.call(server.url, model) as call:
        await call.say()
        await call.turns_done()
        assert mind.said == [("I would like an appointment", "audio")]
        assert [event.text for event in call.of("caller_said")] == ["I would like an appointment"]
        assert len(call.audio) == 5 * 24000 // 4 * 2
        kinds = [type(frame) for frame in call.frames.of(TTSStartedFrame, TTSStoppedFrame)]
        assert kinds == [TTSStartedFrame, TTSStoppedFrame]
        assert not call.of("trouble")
        assert len(call.turns.audio_ns) >= 1


async def test_the_model_does_not_speak_until_spoken_to(gemini: House) -> None:
    mind = gemini.Mind()
    async with gemini.serve(mind) as server, gemini.call(server.url) as call:
        await call.until(lambda: call.session.was_ready)
        await call.hear(bytes(32 * 1000))
        await gemini.until(lambda: len(server.sessions[0].audio) >= 32000)
        assert mind.said == []
        assert call.audio == b""


async def test_the_greeting_can_be_asked_of_the_model_before_it_is_there(gemini: House) -> None:
    mind = gemini.Mind("Good morning.")
    async with gemini.serve(mind) as server, gemini.call(server.url) as call:
        await call.session.greet("Good morning.")
        await call.turns_done()
    assert gemini.typed(mind) == ['[The call has just been answered. Say exactly: "Good morning."]']


async def test_audio_behind_a_thought_in_one_message_is_heard(gemini: House) -> None:
    faults = Faults(two_parts=True)
    mind = gemini.Mind(Reply(say="one two three four", thought="**hm**"))
    async with gemini.serve(mind, faults) as server, gemini.call(server.url, NATIVE) as call:
        await call.session.say_to_model("Count.")
        await call.turns_done()
        parts = [len(turn["parts"]) for turn in server.sessions[0].frames_with("serverContent", "modelTurn")]
    assert max(parts) > 1
    assert len(call.audio) == 4 * 24000 // 4 * 2


async def test_usage_is_recorded_also_when_it_comes_alone(gemini: House) -> None:
    async with gemini.serve(faults=Faults(usage_alone=True)) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Hello.")
        await call.turns_done()
        (sent,) = server.sessions[0].frames_with("usageMetadata")
    (used,) = call.of("tokens_used")
    assert used.model == LIVE
    assert used.usage == sent


@pytest.mark.usefixtures("over_tls")
async def test_a_transcript_that_comes_twice_is_told_once(gemini: House) -> None:
    ear = gemini.Ear("My name is Bell")
    async with (
        gemini.serve(faults=Faults(duplicate_transcript=(1,)), ear=ear) as server,
        gemini.call(server.url) as call,
    ):
        await call.say()
        await call.turns_done()
        assert len(server.sessions[0].frames_with("serverContent", "inputTranscription")) == 2
    assert [event.text for event in call.of("caller_said")] == ["My name is Bell"]


async def test_what_was_searched_is_recorded(gemini: House) -> None:
    mind = gemini.Mind(Reply(say="It rains.", search_queries=["weather Portland"]))
    changes = {"grounding": Grounding(google_search=True)}
    async with gemini.serve(mind) as server, gemini.call(server.url, **changes) as call:
        await call.session.say_to_model("How is the weather?")
        await call.turns_done()
    (grounded,) = call.of("grounded")
    assert grounded.queries == ["weather Portland"]
    assert grounded.sources


async def test_an_interruption_goes_down_the_pipeline_at_once_and_ends_the_turn(gemini: House) -> None:
    mind = gemini.Mind(" ".join(["word"] * 80), "Yes?")
    async with gemini.serve(mind) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Talk.")
        await call.until(lambda: call.audio)
        await call.say()
        await call.turns_done(2)
        order = [type(f) for f in call.frames.of(TTSStartedFrame, TTSStoppedFrame, InterruptionFrame)]
    # Whether all audio of the first turn was there when it was cut, is a matter of the stand-in's speed.
    assert order.count(InterruptionFrame) == 1
    assert [kind for kind in order if kind is not InterruptionFrame] == [TTSStartedFrame, TTSStoppedFrame] * 2
    assert order.index(InterruptionFrame) in (1, 2)


@pytest.mark.usefixtures("over_tls")
async def test_a_turn_without_a_word_is_asked_for_again(gemini: House) -> None:
    mind = gemini.Mind("Never heard.", "Here I am.")
    async with gemini.serve(mind, Faults(empty_turn=(1,))) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Hello.")
        await call.turns_done(2)
    assert [event.failure for event in call.of("trouble")] == ["model_empty_turn"]
    assert gemini.typed(mind) == ["Hello.", "[Note: You said nothing. Answer the caller now.]"]
    assert call.audio


# -- the tape ---------------------------------------------------------------------------------------------------------


async def test_every_frame_is_on_the_tape_and_the_callers_audio_by_reference(gemini: House) -> None:
    async with gemini.serve() as server, gemini.call(server.url) as call:
        await call.say()
        await call.turns_done()
        sent = [data for channel, data in call.tape if channel == "model.in"]
        came = [data for channel, data in call.tape if channel == "model.out"]
        frames = server.sessions[0].frames
        assert list(sent[0]) == ["setup"]
        assert came == frames[: len(came)]
        assert list(came[0]) == ["setupComplete"]
        audio = [data["realtimeInput"]["audio"] for data in sent[1:]]
        assert {item["ref"] for item in audio} == {"carrier.in"}
        assert sum(item["ms"] for item in audio) == 1500
        assert len(server.sessions[0].audio) == 1500 * 32


# -- functions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ALL)
async def test_a_function_runs_and_its_answer_is_spoken_of(gemini: House, model: str) -> None:
    mind = gemini.Mind(Reply(calls=[ToolCall("book", {"day": "Monday"})]), "It is booked.")
    async with gemini.serve(mind) as server, gemini.call(server.url, model) as call:
        await call.session.say_to_model("Monday please.")
        await call.until(lambda: call.audio)
        (response,) = [r for body in server.sessions[0].tool_responses for r in body["functionResponses"]]
    ((call_id, name, args),) = call.tools.ran
    assert (name, args) == ("book", {"day": "Monday"})
    assert response["id"] == call_id
    assert response["response"] == {"say": "book is done."}
    assert response.get("scheduling") == ("WHEN_IDLE" if model == THINKING else None)
    assert [result.response for result in mind.results] == [{"say": "book is done."}]


async def test_several_functions_at_once_are_all_answered(gemini: House) -> None:
    calls = [ToolCall("book", {"day": "Monday"}), ToolCall("look_up"), ToolCall("nobody_declared_this")]
    mind = gemini.Mind(Reply(calls=calls), "Done.")
    async with gemini.serve(mind) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Go.")
        await call.until(lambda: call.audio)
    assert {name for _, name, _ in call.tools.ran} == {"book", "look_up", "nobody_declared_this"}
    assert {result.name for result in mind.results} == {"book", "look_up", "nobody_declared_this"}


@pytest.mark.parametrize("model", ALL)
async def test_a_caller_who_interrupts_a_write_neither_stops_it_nor_the_conversation(gemini: House, model: str) -> None:
    tools = gemini.Tools()
    tools.gate.clear()
    mind = gemini.Mind(Reply(calls=[ToolCall("book", {"day": "Monday"})]))
    async with gemini.serve(mind) as server, gemini.call(server.url, model, tools=tools) as call:
        await call.session.say_to_model("Monday please.")
        await call.until(lambda: tools.ran)
        await call.say()
        await asyncio.sleep(0.3)
        tools.gate.set()
        await call.until(lambda: tools.cancelled or server.sessions[0].tool_responses)
        await call.until(lambda: call.audio)
        answered = [r["id"] for body in server.sessions[0].tool_responses for r in body["functionResponses"]]
        assert len(server.sessions) == 1
    # Either the model withdrew the call, or it was given the answer; never neither.
    assert sorted(answered + tools.cancelled) == [tools.ran[0][0]]


async def test_a_write_that_ends_after_its_call_was_withdrawn_is_told_as_a_note(gemini: House) -> None:
    tools = gemini.Tools()
    tools.gate.clear()
    mind = gemini.Mind(Reply(calls=[ToolCall("book", {"day": "Monday"})]), "Yes?", "By the way, it is booked.")
    faults = Faults(cancel_tool_call_ms=100)
    async with gemini.serve(mind, faults) as server, gemini.call(server.url, tools=tools) as call:
        await call.session.say_to_model("Monday please.")
        await call.until(lambda: tools.cancelled)
        tools.unheard.append(UnheardResult(tools.cancelled[0], "book", {"say": "Booked."}))
        tools.gate.set()
        await call.say()
        await call.until(lambda: len(gemini.typed(mind)) == 2)
        assert server.sessions[0].tool_responses == []
    assert gemini.typed(mind)[1] == '[Note: book has finished meanwhile and returned {"say": "Booked."}.]'


async def test_the_older_model_gets_no_audio_while_it_waits_for_a_function(gemini: House) -> None:
    tools = gemini.Tools()
    tools.gate.clear()
    mind = gemini.Mind(Reply(calls=[ToolCall("look_up")]), "Hello Anna.")
    faults = Faults(refuse_audio_in_tool_call=True)
    async with gemini.serve(mind, faults) as server, gemini.call(server.url, NATIVE, tools=tools) as call:
        await call.session.say_to_model("Hello.")
        await call.until(lambda: tools.ran)
        await call.hear(bytes(32 * 500))
        await asyncio.sleep(0.1)
        assert len(server.sessions[0].audio) == 0
        tools.gate.set()
        await call.until(lambda: len(server.sessions[0].audio) == 32 * 500)
        await call.turns_done()
        assert server.sessions[0].connected


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_an_end_waits_for_the_turn_and_closes_the_session(gemini: House) -> None:
    mind = gemini.Mind("Goodbye and thank you for calling.")
    async with gemini.serve(mind) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Bye.")
        await call.until(lambda: call.audio)
        await call.worker.queue_frame(EndFrame())
        await call.until(lambda: call.frames.of(EndFrame))
        assert len(call.audio) == 6 * 24000 // 4 * 2
        await gemini.until(lambda: not server.sessions[0].connected)


async def test_a_turn_that_is_never_declared_complete_does_not_swallow_the_next(gemini: House) -> None:
    mind = gemini.Mind("one two", "three four")
    async with gemini.serve(mind, Faults(missing_turn_complete=(1,))) as server, gemini.call(server.url) as call:
        await call.session.say_to_model("Count.")
        await call.until(lambda: call.frames.of(TTSStoppedFrame))
        await asyncio.sleep(0.1)
        await call.session.say_to_model("On.")
        await call.turns_done()
        kinds = [type(frame) for frame in call.frames.of(TTSStartedFrame, TTSStoppedFrame)]
    assert kinds == [TTSStartedFrame, TTSStoppedFrame] * 2
    assert len(call.audio) == 4 * 24000 // 4 * 2


@pytest.mark.usefixtures("over_tls")
async def test_a_tool_layer_that_has_broken_down_does_not_keep_the_model_waiting(
    gemini: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.gemini.TOOL_BACKSTOP_SECONDS", 0.5)
    tools = gemini.Tools()
    tools.gate.clear()
    mind = gemini.Mind(Reply(calls=[ToolCall("look_up")]), "I am sorry.")
    async with gemini.serve(mind) as server, gemini.call(server.url, tools=tools) as call:
        await call.session.say_to_model("Who am I?")
        await call.turns_done()
        tools.gate.set()
    assert [set(result.response) for result in mind.results] == [{"error", "hint"}]
    assert [event.failure for event in call.of("trouble")] == ["tool_backstop"]
    assert call.audio
