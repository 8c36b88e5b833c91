"""What a setup may ask of the Gemini stand-in, model by model, and resumption (conformance items 8 to 13)."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from dataclasses import replace

import pytest
from google.genai import errors, types
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from sandbox.gemini import PROFILES, Profile
from sandbox.gemini.conversation import Conversation, Handles, Saved
from sandbox.gemini.profiles import find_profile
from sandbox.gemini.wire import Reject

LIVE = "gemini-3.8-live"
EXTENDED = "gemini-3.8-live-extended-thinking"
PREVIEW = "gemini-3.1-flash-live-preview"
NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k"


def changed(model: str, **fields) -> list[Profile]:
    """The profiles with one model's switches set differently."""
    return [replace(p, **fields) if model in p.models else p for p in PROFILES]


async def refused(gemini, server, model=LIVE, **config):
    with pytest.raises(errors.APIError) as error:
        async with gemini.connect(server, model, **config):
            pass
    return error.value


async def accepted(gemini, server, model=LIVE, **config):
    async with gemini.connect(server, model, **config) as session:
        assert session.setup_complete is not None
    return server.sessions[-1].setup


# --- 8: order


async def test_nothing_is_sent_before_the_setup_and_setup_complete_comes_first(gemini):
    async with gemini.serve() as server, connect(server.url.replace("https", "wss") + PATH, ssl=gemini.tls.client) as s:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await s.recv()
        await s.send(json.dumps({"setup": {"model": f"models/{LIVE}", "sessionResumption": {}}}))
        assert json.loads(await s.recv()) == {"setupComplete": {}}


@pytest.mark.parametrize(
    "messages",
    [
        [{"realtimeInput": {"text": "hi"}}],
        [{"clientContent": {"turnComplete": True}}],
        [{"setup": {"model": f"models/{LIVE}"}}, None, {"setup": {"model": f"models/{LIVE}"}}],
        [{"setup": {"model": f"models/{LIVE}"}}, {"realtimeInput": {"text": "too early"}}],
    ],
)
async def test_a_message_out_of_order_closes_with_1007(gemini, messages):
    async with gemini.serve() as server, connect(server.url.replace("https", "wss") + PATH, ssl=gemini.tls.client) as s:
        for message in messages:
            await (s.recv() if message is None else s.send(json.dumps(message)))
        await s.wait_closed()
        assert s.close_code == 1007
        await gemini.until(lambda: not server.sessions[-1].connected)
        assert server.sessions[-1].close_code == 1007


# --- 9: models


@pytest.mark.parametrize("model", ["gemini-9-live", "gemini-2.0-flash", "models/" + "x" * 200])
async def test_an_unknown_model_is_1008_with_a_cut_reason(gemini, model):
    async with gemini.serve() as server:
        error = await refused(gemini, server, model)
        assert error.code == 1008
        assert len(server.sessions[-1].close_reason.encode()) <= 123
        if len(model) < 30:
            assert "is not found for API version v1beta, or is not supported for bidiGenerateContent" in str(error)


def test_every_profile_is_found_by_its_ids_with_or_without_prefix():
    for profile in PROFILES:
        for model in profile.models:
            assert find_profile(PROFILES, model) is find_profile(PROFILES, f"models/{model}") is profile


# --- 10: Pipecat's setup

PIPECAT_SETUP = {
    "generationConfig": {
        "max_output_tokens": 4096,
        "media_resolution": "MEDIA_RESOLUTION_UNSPECIFIED",
        "response_modalities": ["AUDIO"],
        "speech_config": {
            "voice_config": {"prebuilt_voice_config": {"voice_name": "Charon"}},
            "language_code": "en-US",
        },
    },
    "systemInstruction": {"parts": [{"text": "You answer the phone."}], "role": "user"},
    "sessionResumption": {},
    "inputAudioTranscription": {},
    "outputAudioTranscription": {},
    "historyConfig": {"initial_history_in_client_content": True},
}


@pytest.mark.parametrize("model", [LIVE, PREVIEW, NATIVE, EXTENDED])
async def test_pipecats_default_setup_is_accepted(gemini, model):
    setup = {"model": f"models/{model}", **PIPECAT_SETUP}
    if model == EXTENDED:
        generation = {**setup["generationConfig"], "thinking_config": {"thinking_level": "LOW"}}
        setup = setup | {"generationConfig": generation}
    async with gemini.serve() as server, connect(server.url.replace("https", "wss") + PATH, ssl=gemini.tls.client) as s:
        await s.send(json.dumps({"setup": setup}))
        assert json.loads(await s.recv()) == {"setupComplete": {}}


# --- 11, 12: what models refuse


@pytest.mark.parametrize("model", [LIVE, PREVIEW, NATIVE])
async def test_text_output_is_refused(gemini, model):
    async with gemini.serve() as server:
        error = await refused(gemini, server, model, response_modalities=["TEXT"])
        assert error.code == 1007
        assert "combination of response modalities (TEXT) is not supported" in str(error)


def function(behavior=None):
    return [{"function_declarations": [{"name": "f"} | ({"behavior": behavior} if behavior else {})]}]


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (LIVE, {"thinking_config": {"thinking_level": "LOW"}}),
        (LIVE, {"proactivity": {"proactive_audio": False}}),
        (LIVE, {"enable_affective_dialog": True}),
        (EXTENDED, {}),
        (EXTENDED, {"thinking_config": {"thinking_level": "MINIMAL"}}),
        (EXTENDED, {"thinking_config": {"thinking_level": "LOW"}, "tools": function("BLOCKING")}),
        (PREVIEW, {"thinking_config": {"thinking_budget": 10}}),
        (PREVIEW, {"proactivity": {"proactive_audio": True}}),
        (PREVIEW, {"tools": [{"code_execution": {}}]}),
        (NATIVE, {"thinking_config": {"thinking_level": "LOW"}}),
        (NATIVE, {"proactivity": {"proactive_audio": True}}),
        (NATIVE, {"enable_affective_dialog": True}),
        (LIVE, {"tools": function() + function()}),
        (LIVE, {"context_window_compression": {"trigger_tokens": 100, "sliding_window": {"target_tokens": 200}}}),
        (LIVE, {"response_modalities": ["AUDIO", "IMAGE"]}),
    ],
)
async def test_what_a_model_does_not_support_closes_with_1007(gemini, model, config):
    async with gemini.serve() as server:
        assert (await refused(gemini, server, model, **config)).code == 1007


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (LIVE, {"proactivity": {"proactive_audio": True}}),
        (LIVE, {"tools": function("BLOCKING")}),
        (EXTENDED, {"thinking_config": {"thinking_level": "HIGH"}, "tools": function("NON_BLOCKING")}),
        (PREVIEW, {"thinking_config": {"thinking_level": "MINIMAL", "include_thoughts": True}}),
        (PREVIEW, {"tools": function("NON_BLOCKING")}),
        (NATIVE, {"thinking_config": {"thinking_budget": 0}}),
        (NATIVE, {"tools": function("NON_BLOCKING")}),
        (NATIVE, {"tools": [{"google_search": {}}]}),
    ],
)
async def test_what_a_model_supports_is_accepted(gemini, model, config):
    async with gemini.serve() as server:
        await accepted(gemini, server, model, **config)


async def test_affective_and_proactive_work_on_v1alpha_with_2_5(gemini):
    async with gemini.serve() as server:
        http = {"base_url": server.url, "api_version": "v1alpha"}
        wanted = {"enable_affective_dialog": True, "proactivity": {"proactive_audio": True}}
        await accepted(gemini, server, NATIVE, http_options=http, **wanted)
        assert server.sessions[-1].version == "v1alpha"


async def test_switches_take_the_other_side(gemini):
    lenient = changed(LIVE, thinking_config_when_none="ignore")
    async with gemini.serve(profiles=lenient) as server:
        await accepted(gemini, server, LIVE, thinking_config={"thinking_level": "LOW"})
    strict = changed(PREVIEW, non_blocking="reject")
    async with gemini.serve(profiles=strict) as server:
        assert (await refused(gemini, server, PREVIEW, tools=function("NON_BLOCKING"))).code == 1007


@pytest.mark.parametrize(
    "setup",
    [
        {"realtimeInputConfig": {"activityHandling": "SOMETIMES"}},
        {"realtimeInputConfig": {"automaticActivityDetection": {"silenceDurationMs": "soon"}}},
        {"realtimeInputConfig": {"automaticActivityDetection": {"silenceDurationMs": -1}}},
        {"realtimeInputConfig": {"automaticActivityDetection": {"endOfSpeechSensitivity": "HIGH"}}},
        {"generationConfig": {"mediaResolution": "TINY"}},
        {"generationConfig": []},
        {"generationConfig": {"responseMimeType": "text/plain"}},
        {"sessionResumption": {"handle": 5}},
        {"sessionResumption": {"transparent": True}},
        {"tools": {"functionDeclarations": []}},
        {"tools": [{"functionDeclarations": [{"description": "no name"}]}]},
        {"tools": [{"functionDeclarations": [{"name": "f", "behavior": "LATER"}]}]},
        {"systemInstruction": 7},
        {"model": ""},
        {"nonsense": {}},
    ],
)
async def test_a_malformed_setup_closes_with_1007(gemini, setup):
    async with gemini.serve() as server, connect(server.url.replace("https", "wss") + PATH, ssl=gemini.tls.client) as s:
        await s.send(json.dumps({"setup": {"model": f"models/{LIVE}"} | setup}))
        with pytest.raises(ConnectionClosed) as closed:
            await s.recv()
        assert closed.value.rcvd.code == 1007


async def test_a_null_handle_is_refused_by_3_1_only(gemini):
    async with gemini.serve() as server:
        for model, expected in ((PREVIEW, None), (LIVE, {"setupComplete": {}})):
            async with connect(server.url.replace("https", "wss") + PATH, ssl=gemini.tls.client) as s:
                setup = {"model": f"models/{model}", "sessionResumption": {"handle": None}}
                await s.send(json.dumps({"setup": setup}))
                if expected is None:
                    with pytest.raises(ConnectionClosed):
                        await s.recv()
                else:
                    assert json.loads(await s.recv()) == expected


# --- 13: resumption


async def one_turn(gemini, session, text="Hello"):
    """Plays one turn; the newest resumption handle that came with it."""
    await session.send_realtime_input(text=text)
    return [m.session_resumption_update for m in await gemini.turn(session) if m.session_resumption_update]


async def test_a_session_is_resumed_with_its_history_and_other_tools(gemini):
    mind = gemini.Mind("One.", "Two.")
    async with gemini.serve(mind) as server:
        async with gemini.connect(server, session_resumption={}) as session:
            (first,) = await one_turn(gemini, session)
            assert first.resumable
            assert str(uuid.UUID(first.new_handle)) == first.new_handle
            await gemini.until(lambda: len(server.sessions[0].frames_with("sessionResumptionUpdate", "newHandle")) == 2)
        newest = server.sessions[0].frames_with("sessionResumptionUpdate", "newHandle")[-1]
        async with gemini.connect(
            server, session_resumption={"handle": newest}, tools=function(), system_instruction="Changed."
        ) as session:
            await session.send_realtime_input(text="Go on")
            usage = (await gemini.turn(session))[-1].usage_metadata
    assert [text for text, _ in mind.said] == ["Hello", "Go on"]
    assert len(mind.setups) == 2
    assert mind.setups[1]["tools"]
    before = server.sessions[0].frames_with("usageMetadata")[-1]["promptTokenCount"]
    assert usage.prompt_token_count > before


async def test_a_resumed_session_cannot_change_its_model(gemini):
    async with gemini.serve() as server:
        async with gemini.connect(server, session_resumption={}) as session:
            (update,) = await one_turn(gemini, session)
        error = await refused(gemini, server, PREVIEW, session_resumption={"handle": update.new_handle})
        assert error.code == 1007


async def test_unknown_and_expired_handles_close_as_the_profile_says(gemini):
    short = changed(LIVE, handle_valid_seconds=0.0)
    async with gemini.serve(profiles=short) as server:
        async with gemini.connect(server, session_resumption={}) as session:
            (update,) = await one_turn(gemini, session)
        await gemini.until(lambda: not server.sessions[0].connected)
        for handle in (update.new_handle, str(uuid.uuid4())):
            error = await refused(gemini, server, session_resumption={"handle": handle})
            assert (error.code, "Requested entity was not found." in str(error)) == (1008, True)


async def test_a_handle_outlives_its_session_by_two_hours(gemini):
    handles = Handles(random.Random(1))
    profile = find_profile(PROFILES, LIVE)
    saved = Saved(1, LIVE, Conversation(), gemini.Mind(), 0.0)
    handle = handles.issue(saved)
    assert handles.redeem(handle, LIVE, 99_999, profile) is saved  # its session is still up
    handles.session_ended(1, 100_000)
    assert handles.redeem(handle, LIVE, 107_200, profile) is saved
    with pytest.raises(Reject):
        handles.redeem(handle, LIVE, 107_201, profile)


async def test_without_session_resumption_2_5_offers_no_handles(gemini):
    async with gemini.serve() as server, gemini.connect(server, NATIVE) as session:
        assert await one_turn(gemini, session) == []


async def test_the_setup_is_recorded_as_the_mind_gets_it(gemini):
    mind = gemini.Mind()
    async with gemini.serve(mind) as server:
        speech = types.SpeechConfig(
            voice_config=types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name="Puck"))
        )
        setup = await accepted(gemini, server, speech_config=speech, system_instruction="Be kind.")
    assert mind.setups == [setup]
    assert setup["generationConfig"]["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"] == "Puck"
