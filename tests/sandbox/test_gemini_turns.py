"""Turns of the Gemini stand-in as the official SDK sees them (conformance items 14 to 24)."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest
from google.genai import errors, types

from sandbox.gemini import PROFILES
from sandbox.mind import Reply, ToolCall

LIVE = "gemini-3.8-live"
PREVIEW = "gemini-3.1-flash-live-preview"
NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
NO_DETECTION = {"automatic_activity_detection": {"disabled": True}}


def audio_of(messages):
    return b"".join(m.data for m in messages if m.data)


def spoken_text(messages):
    found = [m.server_content.output_transcription for m in messages if m.server_content]
    return "".join(t.text for t in found if t and t.text)


def heard_texts(messages):
    found = [m.server_content.input_transcription for m in messages if m.server_content]
    return [t.text for t in found if t]


def settled(frames):
    """Frames without what merely surrounds a turn."""
    return [f for f in frames if "sessionResumptionUpdate" not in f and "setupComplete" not in f]


# --- 14


@pytest.mark.parametrize("model", [LIVE, PREVIEW, NATIVE])
async def test_typed_text_is_answered_in_audio_words_and_usage(gemini, model):
    mind = gemini.Mind("Hello, this is a stand-in.")
    async with gemini.serve(mind) as server, gemini.connect(server, model) as session:
        await session.send_realtime_input(text="Hi")
        messages = await gemini.turn(session)
    assert mind.said == [("Hi", "text")]
    assert len(audio_of(messages)) == 5 * 24000 // 4 * 2
    assert spoken_text(messages) == "Hello, this is a stand-in."
    contents = [m.server_content for m in messages if m.server_content]
    assert [i for i, c in enumerate(contents) if c.generation_complete] == [len(contents) - 2]
    assert contents[-1].turn_complete
    assert messages[-1].usage_metadata.response_token_count == 31  # 1.25 s at 25 tokens a second
    last_word = max(i for i, c in enumerate(contents) if c.output_transcription)
    assert last_word < len(contents) - 2


async def test_audio_is_24_khz_pcm_in_the_standard_alphabet(gemini):
    async with gemini.serve() as server, gemini.connect(server) as session:
        await session.send_realtime_input(text="Hi")
        await gemini.turn(session)
        (turns) = server.sessions[0].frames_with("serverContent", "modelTurn")
    for turn in turns:
        blob = turn["parts"][0]["inlineData"]
        assert blob["mimeType"] == "audio/pcm;rate=24000"
        assert not set("-_") & set(blob["data"])


# --- 15


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
async def test_spoken_words_are_heard_transcribed_and_answered_at_any_rate(gemini, rate):
    mind, ear = gemini.Mind("Sure."), gemini.Ear("I want an appointment")
    async with gemini.serve(mind, ear=ear) as server, gemini.connect(server) as session:
        await gemini.say(session, rate=rate)
        messages = await gemini.turn(session)
    assert mind.said == [("I want an appointment", "audio")]
    assert heard_texts(messages) == ["I want an appointment"]
    assert spoken_text(messages) == "Sure."
    assert 1400 * 32 <= len(server.sessions[0].audio) <= 1500 * 32
    assert 1250 * 32 <= len(ear.heard[0]) <= 1400 * 32


@pytest.mark.parametrize(
    ("model", "silence_ms", "pause_ms", "turns"),
    [(NATIVE, 300, 500, 2), (NATIVE, 800, 500, 1), (NATIVE, None, 500, 1), (PREVIEW, 300, 500, 1)],
)
async def test_silence_duration_ends_the_turn_where_the_model_honours_it(gemini, model, silence_ms, pause_ms, turns):
    ear = gemini.Ear("one", "two")
    detection = {} if silence_ms is None else {"silence_duration_ms": silence_ms}
    config = {"realtime_input_config": {"automatic_activity_detection": detection}}
    async with gemini.serve(ear=ear) as server, gemini.connect(server, model, **config) as session:
        await gemini.say(session, pause_ms=pause_ms)
        await gemini.say(session, pause_ms=1000)
        await gemini.turn(session)
        assert len(ear.heard) == turns


@pytest.mark.parametrize(("model", "told"), [(LIVE, True), (PREVIEW, True), (NATIVE, False)])
async def test_voice_activity_is_told_by_3_x(gemini, model, told):
    async with gemini.serve() as server, gemini.connect(server, model) as session:
        await session.send_realtime_input(audio=types.Blob(data=bytes(32000), mime_type="audio/pcm;rate=16000"))
        await gemini.say(session)
        messages = await gemini.turn(session)
        activity = server.sessions[0].frames_with("voiceActivity")
    if not told:
        assert activity == []
        return
    assert activity == [
        {"type": "ACTIVITY_START", "audioOffset": "1s"},
        {"type": "ACTIVITY_END", "audioOffset": "2.3s"},
    ]
    assert [m.voice_activity.voice_activity_type.name for m in messages if m.voice_activity] == [
        "ACTIVITY_START",
        "ACTIVITY_END",
    ]


async def test_voice_activity_can_be_switched_off_for_3_8(gemini):
    quiet = [replace(p, voice_activity=False) for p in PROFILES]
    async with gemini.serve(profiles=quiet) as server, gemini.connect(server) as session:
        await gemini.say(session)
        await gemini.turn(session)
        assert server.sessions[0].frames_with("voiceActivity") == []


@pytest.mark.parametrize("rejects", [False, True])
async def test_audio_of_another_type_is_ignored_or_refused(gemini, rejects):
    profiles = [replace(p, wrong_mime="reject" if rejects else "ignore") for p in PROFILES]
    async with gemini.serve(profiles=profiles) as server, gemini.connect(server) as session:
        await session.send_realtime_input(audio=types.Blob(data=gemini.tone(500), mime_type="audio/wav"))
        if rejects:
            with pytest.raises(errors.APIError) as closed:
                await gemini.turn(session)
            assert closed.value.code == 1007
        else:
            await session.send_realtime_input(text="Hi")
            await gemini.turn(session)
            assert server.sessions[0].audio == b""


async def test_media_chunks_are_refused_by_3_x_and_heard_by_2_5(gemini):
    blob = {"data": "", "mimeType": "audio/pcm;rate=16000"}
    message = json.dumps({"realtimeInput": {"mediaChunks": [blob, blob]}})
    async with gemini.serve() as server:
        async with gemini.connect(server) as session:
            await session._ws.send(message)
            with pytest.raises(errors.APIError, match="media_chunks is deprecated"):
                await gemini.turn(session)
        async with gemini.connect(server, NATIVE) as session:
            await session._ws.send(message)
            await session.send_realtime_input(text="Hi")
            assert (await gemini.turn(session))[-1].server_content.turn_complete


# --- 16, 17: clientContent and history


async def test_client_content_accumulates_until_the_turn_is_complete(gemini):
    mind = gemini.Mind("I heard both.")
    async with gemini.serve(mind) as server, gemini.connect(server) as session:
        await session.send_client_content(
            turns=[
                {"role": "user", "parts": [{"text": "My name is Alice."}]},
                {"role": "model", "parts": [{"text": "Nice to meet you."}]},
                {"role": "user", "parts": [{"text": "First half,"}]},
            ],
            turn_complete=False,
        )
        await session.send_client_content(
            turns={"role": "user", "parts": [{"text": "second half."}]}, turn_complete=False
        )
        await asyncio.sleep(0.2)
        assert settled(server.sessions[0].frames) == []
        await session.send_client_content(turn_complete=True)
        messages = await gemini.turn(session)
    assert spoken_text(messages) == "I heard both."
    assert mind.remembered == [("user", "My name is Alice."), ("model", "Nice to meet you.")]
    assert mind.said == [("First half,\nsecond half.", "text")]


async def test_client_content_after_a_turn_is_refused_where_the_profile_says_so(gemini):
    early = [replace(p, client_content="initial only") for p in PROFILES]
    turn = {"role": "user", "parts": [{"text": "Hi"}]}
    async with gemini.serve(profiles=early) as server, gemini.connect(server, PREVIEW) as session:
        await session.send_client_content(turns=turn)
        await gemini.turn(session)
        await session.send_client_content(turns=turn)
        with pytest.raises(errors.APIError, match="invalid argument") as closed:
            await gemini.turn(session)
        assert closed.value.code == 1007


@pytest.mark.parametrize("model", [LIVE, PREVIEW])
async def test_seeded_history_is_not_answered_but_the_nudge_is(gemini, model):
    mind = gemini.Mind("Welcome back, Alice.")
    config = {"history_config": {"initial_history_in_client_content": True}}
    async with gemini.serve(mind) as server, gemini.connect(server, model, **config) as session:
        history = [
            {"role": "user", "parts": [{"text": "I am Alice."}]},
            {"role": "model", "parts": [{"text": "Hello Alice."}]},
        ]
        await session.send_client_content(turns=history, turn_complete=True)
        await asyncio.sleep(0.2)
        assert settled(server.sessions[0].frames) == []
        await session.send_realtime_input(text=" ")
        messages = await gemini.turn(session)
    assert mind.remembered == [("user", "I am Alice."), ("model", "Hello Alice.")]
    assert mind.said == [(" ", "text")]
    assert spoken_text(messages) == "Welcome back, Alice."


async def test_2_5_answers_its_first_client_content_whatever_history_config_says(gemini):
    config = {"history_config": {"initial_history_in_client_content": True}}
    async with gemini.serve() as server, gemini.connect(server, NATIVE, **config) as session:
        await session.send_client_content(turns={"role": "user", "parts": [{"text": "Greet the caller."}]})
        assert (await gemini.turn(session))[-1].server_content.turn_complete


# --- 18, 19: whose word ends a turn


async def test_audio_stream_end_closes_the_utterance_and_audio_reopens_it(gemini):
    ear = gemini.Ear("first", "second")
    async with gemini.serve(ear=ear) as server, gemini.connect(server) as session:
        for expected in ("first", "second"):
            await gemini.say(session, pause_ms=0)
            await session.send_realtime_input(audio_stream_end=True)
            assert heard_texts(await gemini.turn(session)) == [expected]
        offsets = [a["audioOffset"] for a in server.sessions[0].frames_with("voiceActivity")]
    assert offsets[0] == "0s"
    assert offsets[2] == "0.6s"


async def test_without_detection_only_activity_marks_delimit(gemini):
    ear = gemini.Ear("inside")
    async with (
        gemini.serve(ear=ear) as server,
        gemini.connect(server, realtime_input_config=NO_DETECTION) as session,
    ):
        await gemini.say(session)
        await asyncio.sleep(0.1)
        assert ear.heard == []
        await session.send_realtime_input(activity_start=types.ActivityStart())
        await gemini.say(session, ms=400, pause_ms=200)
        await session.send_realtime_input(activity_end=types.ActivityEnd())
        assert heard_texts(await gemini.turn(session)) == ["inside"]
        assert len(ear.heard[0]) == 600 * 32


@pytest.mark.parametrize(
    ("detects", "message"),
    [
        (True, {"activity_start": types.ActivityStart()}),
        (True, {"activity_end": types.ActivityEnd()}),
        (False, {"activity_end": types.ActivityEnd()}),
        (False, {"audio_stream_end": True}),
    ],
)
async def test_marks_that_do_not_fit_the_detection_close_with_1007(gemini, detects, message):
    config = {} if detects else {"realtime_input_config": NO_DETECTION}
    async with gemini.serve() as server, gemini.connect(server, **config) as session:
        await session.send_realtime_input(**message)
        with pytest.raises(errors.APIError) as closed:
            await gemini.turn(session)
        assert closed.value.code == 1007


# --- 20, 21: several turns, and the clock


async def test_several_turns_on_one_socket_with_idle_time_between(gemini):
    async with gemini.serve(gemini.Mind("One.", "Two.", "Three.")) as server, gemini.connect(server) as session:
        for expected in ("One.", "Two.", "Three."):
            await session.send_realtime_input(text="Next")
            assert spoken_text(await gemini.turn(session)) == expected
            await asyncio.sleep(0.3)  # 3 s of session time
        assert server.sessions[0].connected


@pytest.mark.parametrize(("model", "frame_ms"), [(LIVE, 200), (PREVIEW, 200), (NATIVE, 60)])
async def test_audio_comes_faster_than_real_time_and_turn_complete_waits_for_playback(gemini, model, frame_ms):
    words, speed = 40, 4.0
    seconds = words / 4
    async with (
        gemini.serve(gemini.Mind("word " * words), speed=speed) as server,
        gemini.connect(server, model) as session,
    ):
        await session.send_realtime_input(text="Hi")
        at = {}
        async for message in session.receive():
            content = message.server_content
            if message.data:
                at.setdefault("first audio", time.monotonic())
                at["last audio"] = time.monotonic()
            if content and content.turn_complete:
                at["turn complete"] = time.monotonic()
        sizes = {
            len(t["parts"][0]["inlineData"]["data"])
            for t in server.sessions[0].frames_with("serverContent", "modelTurn")
        }
    took = (at["turn complete"] - at["first audio"]) * speed
    assert took >= seconds * 0.98
    assert (at["last audio"] - at["first audio"]) * speed < took / 2
    assert max(sizes) == frame_ms * 48 * 4 // 3


# --- 22: shapes


async def test_3_8_bundles_words_with_audio_between_empty_frames(gemini, gemini_shape):
    async with gemini.serve(gemini.Mind("One two three")) as server, gemini.connect(server) as session:
        await session.send_realtime_input(text="Hi")
        await gemini.turn(session)
        frames = settled(server.sessions[0].frames)
    assert gemini_shape(frames) == [
        "{}",
        "content{}",
        "{}",
        "audio+outputTranscription",
        "{}",
        "audio+outputTranscription",
        "{}",
        "audio+outputTranscription",
        "{}",
        "audio",
        "generationComplete",
        "turnComplete+usageMetadata",
    ]
    assert all(f["serverContent"]["modelTurn"]["role"] == "model" for f in frames if "audio" in gemini_shape([f])[0])


async def test_2_5_sends_one_thing_a_frame_tokens_and_thoughts(gemini, gemini_shape):
    mind, ear = gemini.Mind(Reply(say="Yes", thought="**Thinking**")), gemini.Ear("Hello, I'm Bob.")
    config = {"thinking_config": {"include_thoughts": True}}
    async with gemini.serve(mind, ear=ear) as server, gemini.connect(server, NATIVE, **config) as session:
        await gemini.say(session)
        messages = await gemini.turn(session)
        shape = gemini_shape(settled(server.sessions[0].frames))
    assert heard_texts(messages) == [" Hello", ",", " I'm", " Bob", "."]
    assert shape == [
        *["inputTranscription"] * 5,
        "thought",
        "outputTranscription",
        *["audio"] * 5,
        "generationComplete",
        "turnComplete+usageMetadata",
    ]
    assert messages[-1].usage_metadata.thoughts_token_count == 3


# --- 23, 24


@pytest.mark.parametrize("model", [LIVE, PREVIEW, NATIVE])
async def test_no_transcription_unless_asked_for(gemini, model):
    config = {"input_audio_transcription": None, "output_audio_transcription": None}
    async with gemini.serve() as server, gemini.connect(server, model, **config) as session:
        await gemini.say(session)
        messages = await gemini.turn(session)
    assert audio_of(messages)
    assert (heard_texts(messages), spoken_text(messages)) == ([], "")


async def test_3_8_may_send_output_transcription_unasked(gemini):
    profiles = [replace(p, output_transcript_unasked=True) for p in PROFILES]
    async with (
        gemini.serve(gemini.Mind("Anyway."), profiles=profiles) as server,
        gemini.connect(server, output_audio_transcription=None) as session,
    ):
        await session.send_realtime_input(text="Hi")
        assert spoken_text(await gemini.turn(session)) == "Anyway."


async def test_usage_comes_with_turn_complete_only_and_grows_with_the_context(gemini):
    async with gemini.serve(gemini.Mind("One two three four.", "Five.")) as server, gemini.connect(server) as session:
        bills = []
        for _ in range(2):
            await gemini.say(session, ms=2000)
            messages = await gemini.turn(session)
            assert [m.usage_metadata is not None for m in messages].count(True) == 1
            bills.append(messages[-1].usage_metadata)
    first, second = bills
    assert first.response_token_count == 25
    assert {d.modality.name: d.token_count for d in first.response_tokens_details} == {"AUDIO": 25}
    prompt = {d.modality.name: d.token_count for d in first.prompt_tokens_details}
    assert prompt["AUDIO"] == 190 + 67  # 2.7 s of speech and its closing silence; 190 that 3.8 counts for nothing
    assert first.prompt_token_count > sum(prompt.values())
    assert first.total_token_count == first.prompt_token_count + first.response_token_count
    assert second.prompt_token_count == first.prompt_token_count + 25 + 67


async def test_a_tool_round_gives_the_result_to_the_mind_and_speaks_its_answer(gemini):
    mind = gemini.Mind(Reply(calls=[ToolCall("book", {"day": "Monday"})]), "Booked.")
    tools = [{"function_declarations": [{"name": "book", "parameters": {"type": "OBJECT"}, "behavior": "BLOCKING"}]}]
    async with gemini.serve(mind) as server, gemini.connect(server, tools=tools) as session:
        await session.send_realtime_input(text="Book Monday")
        messages = []
        async for message in session.receive():
            messages.append(message)
            for call in message.tool_call.function_calls if message.tool_call else ():
                await session.send_tool_response(
                    function_responses=[{"id": call.id, "name": call.name, "response": {"ok": True}}]
                )
    (called,) = [m.tool_call.function_calls for m in messages if m.tool_call]
    assert (called[0].name, called[0].args) == ("book", {"day": "Monday"})
    assert [r.response for r in mind.results] == [{"ok": True}]
    assert spoken_text(messages) == "Booked."
