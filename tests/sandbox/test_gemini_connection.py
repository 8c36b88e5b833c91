"""Connecting to the Gemini stand-in: paths, keys, tokens, TLS, frames, JSON (conformance items 1 to 7)."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from google import genai
from google.genai import errors, live, types
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sandbox.gemini import PROFILES
from sandbox.gemini.wire import (
    Close,
    Reject,
    as_int,
    camel,
    decode_bytes,
    duration,
    normalise,
    parse_client_message,
    pcm_rate,
)

# The SDK calls its token support experimental, once per process.
pytestmark = pytest.mark.filterwarnings("ignore::google.genai.errors.ExperimentalWarning")

SERVICE = "ws/google.ai.generativelanguage.{}.GenerativeService.BidiGenerateContent{}"
SETUP = {"setup": {"model": "models/gemini-3.8-live", "generationConfig": {"responseModalities": ["AUDIO"]}}}


def raw(gemini, server, path, **options):
    """A bare WebSocket, as browsers and other languages use."""
    url = server.url.replace("https", "wss") + path
    return connect(url, ssl=gemini.tls.client, **options)


async def first_frame(gemini, server, path, setup=SETUP, **options):
    async with raw(gemini, server, path, **options) as socket:
        await socket.send(json.dumps(setup))
        return await socket.recv()


async def closed_with(gemini, server, path, setup=SETUP, **options):
    with pytest.raises(ConnectionClosed) as closed:
        await first_frame(gemini, server, path, setup, **options)
    return closed.value.rcvd.code, closed.value.rcvd.reason


# --- 1, 2: paths and keys


@pytest.mark.parametrize("slashes", ["/", "//"])
@pytest.mark.parametrize("version", ["v1beta", "v1alpha"])
async def test_the_service_path_is_accepted(gemini, slashes, version):
    async with gemini.serve() as server:
        path = slashes + SERVICE.format(version, "") + "?key=k"
        assert json.loads(await first_frame(gemini, server, path)) == {"setupComplete": {}}


@pytest.mark.parametrize("path", ["/", "/ws/other", "/" + SERVICE.format("v1", "") + "?key=k"])
async def test_any_other_path_is_404(gemini, path):
    async with gemini.serve() as server:
        with pytest.raises(InvalidStatus) as refused:
            await first_frame(gemini, server, path)
        assert refused.value.response.status_code == 404


async def test_the_sdk_connects_with_its_own_trailing_slash(gemini):
    async with gemini.serve() as server:
        options = {"base_url": server.url + "/"}
        async with gemini.connect(server, http_options=options) as session:
            assert session.setup_complete is not None


@pytest.mark.parametrize("query", ["?key=wrong", ""])
async def test_a_missing_or_wrong_key_is_told_after_the_setup(gemini, query):
    async with gemini.serve(api_keys=["right"]) as server:
        path = "/" + SERVICE.format("v1beta", "")
        assert await closed_with(gemini, server, path + query) == (
            1007,
            "API key not valid. Please pass a valid API key.",
        )
        assert json.loads(await first_frame(gemini, server, path + "?key=right")) == {"setupComplete": {}}


async def test_a_wrong_key_can_be_refused_at_the_upgrade(gemini):
    async with gemini.serve(api_keys=["right"], refuse_keys_at_upgrade=403) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with gemini.connect(server):
                pass
        assert refused.value.response.status_code == 403


async def test_the_sdk_sees_a_wrong_key_as_api_error_1007(gemini):
    async with gemini.serve(api_keys=["right"]) as server:
        with pytest.raises(errors.APIError) as refused:
            async with gemini.connect(server):
                pass
        assert refused.value.code == 1007
        assert "API key not valid" in str(refused.value)


# --- 3, 4: ephemeral tokens


@pytest.fixture
def mint(gemini):
    """Makes a token with the SDK's own `auth_tokens.create`, against the stand-in over TLS."""

    async def make(server, **config):
        async with httpx.AsyncClient(verify=gemini.tls.client) as http:
            options = types.HttpOptions(api_version="v1alpha", base_url=server.url, httpx_async_client=http)
            client = genai.Client(api_key=gemini.key, http_options=options)
            return (await client.aio.auth_tokens.create(config=config)).name

    return make


async def with_token(gemini, server, token, model="gemini-3.8-live", **config):
    client = genai.Client(
        api_key=token,
        http_options=types.HttpOptions(
            api_version="v1alpha", base_url=server.url, async_client_args={"ssl": gemini.tls.client}
        ),
    )
    async with client.aio.live.connect(model=model, config=config):
        return server.sessions[-1].setup


async def test_a_token_opens_one_session_and_then_is_spent(gemini, mint):
    async with gemini.serve() as server:
        token = await mint(server, uses=1)
        assert token.startswith("auth_tokens/")
        await with_token(gemini, server, token)
        with pytest.raises(errors.APIError, match="Token has been used too many times") as spent:
            await with_token(gemini, server, token)
        assert spent.value.code == 1011


async def test_a_token_may_come_in_the_query(gemini, mint):
    async with gemini.serve() as server:
        token = await mint(server, uses=0)
        path = "/" + SERVICE.format("v1alpha", "Constrained") + "?access_token=" + token
        for _ in range(2):
            assert json.loads(await first_frame(gemini, server, path)) == {"setupComplete": {}}


async def test_an_expired_or_unknown_token_opens_nothing(gemini, mint):
    async with gemini.serve() as server:
        past = datetime.now(UTC) - timedelta(seconds=5)
        token = await mint(server, new_session_expire_time=past)
        with pytest.raises(errors.APIError, match="expired"):
            await with_token(gemini, server, token)
        with pytest.raises(errors.APIError) as unknown:
            await with_token(gemini, server, "auth_tokens/made-up")
        assert unknown.value.code == 1007


async def test_a_token_with_a_setup_locks_all_of_it(gemini, mint):
    async with gemini.serve() as server:
        fixed = {"model": "gemini-3.8-live", "config": {"system_instruction": "Fixed.", "temperature": 0.1}}
        token = await mint(server, live_connect_constraints=fixed)
        setup = await with_token(gemini, server, token, "gemini-3.1-flash-live-preview", temperature=0.9)
    assert setup["model"] == "models/gemini-3.8-live"
    assert setup["systemInstruction"]["parts"] == [{"text": "Fixed."}]
    assert setup["generationConfig"]["temperature"] == 0.1


async def test_a_field_mask_locks_only_its_fields(gemini, mint):
    async with gemini.serve() as server:
        fixed = {"model": "gemini-3.8-live", "config": {"temperature": 0.1, "response_modalities": ["AUDIO"]}}
        token = await mint(server, live_connect_constraints=fixed, lock_additional_fields=["top_p"])
        setup = await with_token(
            gemini, server, token, temperature=0.9, top_p=0.5, system_instruction="The client's own."
        )
    assert setup["generationConfig"] == {"temperature": 0.1, "responseModalities": ["AUDIO"]}
    assert setup["systemInstruction"]["parts"] == [{"text": "The client's own."}]


async def test_a_token_without_a_setup_locks_nothing(gemini, mint):
    async with gemini.serve() as server:
        setup = await with_token(gemini, server, await mint(server), temperature=0.9)
    assert setup["generationConfig"]["temperature"] == 0.9


async def test_tokens_need_a_good_key_and_a_sane_request(gemini):
    async with gemini.serve(api_keys=["right"]) as server, httpx.AsyncClient(verify=gemini.tls.client) as http:
        url, good = server.url + "/v1alpha/auth_tokens", {"x-goog-api-key": "right"}
        assert (await http.post(url, json={})).status_code == 400
        assert (await http.post(url, json={"uses": "many"}, headers=good)).status_code == 400
        assert (await http.post(url, content=b"{", headers=good)).status_code == 400
        assert (await http.get(url, headers=good)).status_code == 405


# --- 5: with and without TLS (option A is what every other test uses)


async def test_plain_ws_works_with_the_one_patch_that_the_sdk_needs(gemini, monkeypatch):
    def plain(uri, **options):
        options.pop("ssl", None)
        return connect(uri.replace("wss://", "ws://", 1), **options)

    monkeypatch.setattr(live, "ws_connect", plain)
    async with gemini.serve(tls=None) as server:
        assert server.url.startswith("http://127.0.0.1:")
        async with gemini.connect(server) as session:
            await session.send_realtime_input(text="Hello")
            assert (await gemini.turn(session))[-1].server_content.turn_complete


# --- 6: frames


async def test_frames_are_binary_unless_switched_to_text(gemini):
    path = "/" + SERVICE.format("v1beta", "") + "?key=k"
    async with gemini.serve() as server:
        assert isinstance(await first_frame(gemini, server, path), bytes)
    as_text = [replace(profile, binary_frames=False) for profile in PROFILES]
    async with gemini.serve(profiles=as_text) as server:
        assert isinstance(await first_frame(gemini, server, path), str)
        async with gemini.connect(server) as session:
            await session.send_realtime_input(text="Hello")
            assert (await gemini.turn(session))[-1].server_content.turn_complete


@pytest.mark.parametrize("wanted", [True, False])
async def test_compression_is_negotiated_only_when_asked_for(gemini, wanted):
    async with gemini.serve(compression=wanted) as server:
        path = "/" + SERVICE.format("v1beta", "") + "?key=k"
        async with raw(gemini, server, path) as socket:
            assert bool(socket.protocol.extensions) is wanted
        async with gemini.connect(server) as session:
            await session.send_realtime_input(text="Hello")
            assert (await gemini.turn(session))[-1].server_content.turn_complete


async def test_pings_are_answered_also_while_speaking(gemini):
    async with gemini.serve(gemini.Mind("word " * 40)) as server:
        path = "/" + SERVICE.format("v1beta", "") + "?key=k"
        async with raw(gemini, server, path) as socket:
            await socket.send(json.dumps(SETUP))
            await socket.recv()
            await socket.send(json.dumps({"realtimeInput": {"text": "talk"}}))
            latency = await (await socket.ping())
            assert 0 <= latency < 5


async def test_it_listens_within_100_ms_of_being_asked(gemini):
    async with gemini.serve():
        pass
    began = time.monotonic()
    async with gemini.serve():
        took = time.monotonic() - began
    assert took < 0.5  # 5 ms alone; a loaded machine may take longer


# --- 7: JSON


async def test_snake_case_and_camel_case_setups_mean_the_same(gemini):
    path = "/" + SERVICE.format("v1beta", "") + "?key=k"
    camel_setup = {
        "model": "models/gemini-3.8-live",
        "generationConfig": {"responseModalities": ["AUDIO"], "maxOutputTokens": 5},
        "realtimeInputConfig": {"automaticActivityDetection": {"silenceDurationMs": "500"}},
        "contextWindowCompression": {"triggerTokens": "9000", "slidingWindow": {"targetTokens": "100"}},
        "tools": [{"functionDeclarations": [{"name": "a_b", "parameters": {"properties": {"x_y": {"anyOf": []}}}}]}],
    }
    snake_setup = {
        "model": "models/gemini-3.8-live",
        "generation_config": {"response_modalities": ["AUDIO"], "max_output_tokens": 5},
        "realtime_input_config": {"automatic_activity_detection": {"silence_duration_ms": "500"}},
        "context_window_compression": {"trigger_tokens": "9000", "sliding_window": {"target_tokens": "100"}},
        "tools": [{"function_declarations": [{"name": "a_b", "parameters": {"properties": {"x_y": {"any_of": []}}}}]}],
    }
    async with gemini.serve() as server:
        for setup in (camel_setup, snake_setup):
            await first_frame(gemini, server, path, {"setup": setup})
        assert server.sessions[0].setup == server.sessions[1].setup == camel_setup


async def test_what_is_not_a_message_closes_with_1007(gemini):
    path = "/" + SERVICE.format("v1beta", "") + "?key=k"
    async with gemini.serve() as server:
        for wrong in ([], {}, {"setup": {}, "toolResponse": {}}, {"hello": {}}, {"setup": 1}, {"setup": {"what": 1}}):
            code, _ = await closed_with(gemini, server, path, wrong)
            assert code == 1007
        async with raw(gemini, server, path) as socket:
            await socket.send("{not json")
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd.code == 1007


@given(st.binary(max_size=64))
def test_both_base64_alphabets_padded_or_not(data):
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert decode_bytes(text) == data
        assert decode_bytes(text.rstrip("=")) == data


@pytest.mark.parametrize("broken", ["a", "ab!c", None, 5])
def test_broken_base64_is_refused(broken):
    with pytest.raises(Reject):
        decode_bytes(broken)


def test_names_are_converted_but_user_data_is_left_alone():
    assert camel("automatic_activity_detection") == "automaticActivityDetection"
    message = {
        "tool_response": {
            "functionResponses": [{"id": "1", "will_continue": True, "response": {"snake_key": {"deep_key": 1}}}]
        }
    }
    assert normalise(message) == {
        "toolResponse": {
            "functionResponses": [{"id": "1", "willContinue": True, "response": {"snake_key": {"deep_key": 1}}}]
        }
    }
    assert parse_client_message(b'{"realtime_input":{"audio":{"mime_type":"m"}}}') == (
        "realtimeInput",
        {"audio": {"mimeType": "m"}},
    )


def test_int64_may_be_a_string():
    assert as_int("9007199254740993") == 9007199254740993
    for wrong in ("x", 1.5, True, None):
        with pytest.raises(Reject):
            as_int(wrong)


def test_rates_durations_and_reasons():
    assert [pcm_rate(m) for m in ("audio/pcm", "audio/pcm;rate=8000", "audio/PCM; rate=24000")] == [16000, 8000, 24000]
    assert [pcm_rate(m) for m in ("audio/wav", "audio/pcm;rate=1", None, "audio/pcm;rate=99999")] == [None] * 4
    assert [duration(s) for s in (50, 1.88, 0.0004)] == ["50s", "1.88s", "0s"]
    assert len(Close(1008, "é" * 100).reason.encode()) == 122
