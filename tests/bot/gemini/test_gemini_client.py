"""The way to the Live API: errors by name, words read aloud, the doctor's probe, TLS, and an unharmed SDK."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from google import genai
from google.genai import types

from bot.errors import ModelError
from bot.gemini_client import is_word_for_word, probe, speak_once
from bot.gemini_frames import audio_of, speech_alone
from bot.gemini_models import LIVE_3_8, live_config, profile_of
from sandbox.gemini import Close, Faults

House = Any
LIVE = "gemini-3.8-live"
NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
MODELS = [NATIVE, "gemini-3.1-flash-live-preview", LIVE, "gemini-3.8-live-extended-thinking"]


async def failure(house: House, url: str, model: str = LIVE, key: str = "a-test-key") -> ModelError:
    clients = await house.clients(url, key=key)
    with pytest.raises(ModelError) as caught:
        async with clients.connect(model, live_config(LIVE_3_8, house.flow, "Be brief.", [])):
            raise AssertionError("it connected")
    return caught.value


async def test_the_client_is_made_off_the_loop_and_shared(gemini: House) -> None:
    async with gemini.serve() as server:
        clients = await gemini.clients(server.url)
        client = clients.client
        await clients.open()
        assert clients.client is client


async def test_a_rehearsal_goes_through_the_sdk_and_reaches_no_server(gemini: House) -> None:
    clients = await gemini.clients("http://127.0.0.1:9")
    for model in MODELS:
        config = live_config(profile_of(model), gemini.flow, "Be brief.", gemini.Tools().declarations)
        await clients.rehearse(model, config)


async def test_a_setup_says_its_own_tools_whoever_had_them_put_into_words(gemini: House) -> None:
    functions = gemini.Tools().declarations
    wanted = [
        (functions, "first"),
        (functions, "second"),
        ([], "third"),
        (functions[:1], "fourth"),
        (functions, "fifth"),
    ]
    setups: list[dict[str, Any]] = []

    def tap(channel: str, frame: bytes) -> None:
        if channel == "model.in":
            setups.append(json.loads(frame)["setup"])

    async with gemini.serve() as server:
        clients = await gemini.clients(server.url)
        for tools, instruction in wanted:
            async with clients.connect(LIVE, live_config(LIVE_3_8, gemini.flow, instruction, tools), tap):
                pass
        alone = await gemini.clients(server.url)
        async with alone.connect(LIVE, live_config(LIVE_3_8, gemini.flow, "fifth", functions), tap):
            pass
        assert [session.close_code for session in server.sessions] == [1000] * 6
    assert [setup["systemInstruction"]["parts"][0]["text"] for setup in setups[:5]] == [word for _, word in wanted]
    named = [
        [each["name"] for tool in setup.get("tools", []) for each in tool["functionDeclarations"]] for setup in setups
    ]
    assert named == [[each.name for each in tools] for tools, _ in wanted] + [[each.name for each in functions]]
    assert setups[4] == setups[5], "as the SDK says them, whether for the first time or not"


# -- audio alone ------------------------------------------------------------------------------------------------------


def audio_frame(*, data: str = "AQID/+8=", rate: str = ";rate=24000", **extra: Any) -> dict[str, Any]:
    """A frame as the service sends it; `extra` goes into its serverContent."""
    part = {"inlineData": {"mimeType": f"audio/pcm{rate}", "data": data}}
    return {"serverContent": {"modelTurn": {"parts": [part]}, **extra}}


def by_the_sdk(frame: bytes) -> types.LiveServerMessage:
    return types.LiveServerMessage.model_validate(json.loads(frame))


def test_audio_alone_is_read_as_the_sdk_reads_it() -> None:
    with_role = audio_frame()
    with_role["serverContent"]["modelTurn"]["role"] = "model"
    url_safe = audio_frame(data="AQID_-8=")
    for frame in (audio_frame(), url_safe, audio_frame(rate=""), audio_frame(rate="; rate=24000"), with_role):
        data = json.dumps(frame).encode()
        assert speech_alone(data) == audio_of(by_the_sdk(data)) == bytes([1, 2, 3, 255, 239])
        assert speech_alone(data.decode()) == speech_alone(data)


TWO_PARTS, WITH_THOUGHT, WITH_USAGE, WITH_METADATA = (audio_frame() for _ in range(4))
TWO_PARTS["serverContent"]["modelTurn"]["parts"] *= 2
WITH_THOUGHT["serverContent"]["modelTurn"]["parts"][0]["thought"] = True
WITH_USAGE["usageMetadata"] = {"totalTokenCount": 1}
WITH_METADATA["serverContent"]["modelTurn"]["parts"][0]["inlineData"]["displayName"] = "a"


@pytest.mark.parametrize(
    "frame",
    [
        audio_frame(outputTranscription={"text": "It is"}),
        audio_frame(interrupted=True),
        audio_frame(turnComplete=True),
        audio_frame(rate=";rate=16000"),
        audio_frame(data="not base64"),
        audio_frame(data=""),
        TWO_PARTS,
        WITH_THOUGHT,
        WITH_USAGE,
        WITH_METADATA,
        {"serverContent": {"modelTurn": {"parts": []}}},
        {"serverContent": {"modelTurn": None}},
        {"serverContent": []},
        {"setupComplete": {}},
        {},
        [],
        None,
    ],
)
def test_every_other_frame_is_left_to_the_sdk(frame: Any) -> None:
    assert speech_alone(json.dumps(frame)) is None


def test_a_frame_that_is_no_json_is_left_to_the_sdk() -> None:
    assert speech_alone(b"\xff{") is None


RECORDED = sorted((Path(__file__).parents[4] / "shared/data/gemini-recordings").glob("*.jsonl"))


@pytest.mark.skipif(not RECORDED, reason="the recordings of the service are not in this repository")
def test_recorded_frames_are_read_as_the_sdk_reads_them() -> None:
    alone = 0
    for line in (line for path in RECORDED for line in path.read_text().splitlines()):
        # The recordings hold no audio, only where it was.
        frame = json.dumps(json.loads(line).get("frame")).replace('"data": ""', '"data": "AQID/+8="').encode()
        if (speech := speech_alone(frame)) is None:
            continue
        alone += 1
        message = by_the_sdk(frame)
        assert speech == audio_of(message)
        assert message.model_fields_set == {"server_content"}
        assert message.server_content
        assert message.server_content.model_fields_set == {"model_turn"}
    assert alone > 50


async def test_audio_alone_keeps_its_place_between_the_messages_that_the_sdk_reads(gemini: House) -> None:
    async with gemini.serve(gemini.Mind("one two three")) as server:
        clients = await gemini.clients(server.url)
        kinds: list[str] = []
        pcm = b""
        async with clients.connect(LIVE, live_config(LIVE_3_8, gemini.flow, "Be brief.", [])) as connection:
            for turn in (1, 2):
                await connection.session.send_realtime_input(text="Count.")
                async for message in connection.messages():
                    if isinstance(message, bytes):
                        kinds.append("audio")
                        pcm += message
                    elif message.server_content and message.server_content.turn_complete:
                        kinds.append(f"end of {turn}")
                        break
    assert kinds.count("audio") >= 2
    assert kinds[-1] == "end of 2"
    assert kinds.index("end of 1") < len(kinds) - 2, "audio of the second turn came through, too"
    assert len(pcm) % 2 == 0


# -- errors -----------------------------------------------------------------------------------------------------------


async def test_a_wrong_key_is_named(gemini: House) -> None:
    async with gemini.serve(api_keys=["right"]) as server:
        error = await failure(gemini, server.url, key="wrong")
    assert error.kind == "bad_key"
    assert "GOOGLE_API_KEY" in error.cure


async def test_a_key_refused_at_the_upgrade_is_named(gemini: House) -> None:
    async with gemini.serve(api_keys=["right"], refuse_keys_at_upgrade=403) as server:
        assert (await failure(gemini, server.url, key="wrong")).kind == "no_live_access"


async def test_an_unknown_model_is_named(gemini: House) -> None:
    async with gemini.serve() as server:
        error = await failure(gemini, server.url, model="gemini-9-live")
    assert error.kind == "unknown_model"
    assert "GEMINI_MODELS" in error.cure


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        (Faults(upgrade_status=429), "quota"),
        (Faults(upgrade_status=503), "internal"),
        (Faults(upgrade_status=404), "unknown_model"),
        (Faults(refuse_connect=True), "unreachable"),
        (Faults(setup_close=Close(1008, "Publisher model projects/x was not found.")), "unknown_model"),
        (Faults(setup_close=Close(1008, "Operation is not implemented, or supported, or enabled.")), "dropped"),
        (Faults(setup_close=Close(1008, "")), "dropped"),
        (Faults(setup_close=Close(1007, "Request contains an invalid argument.")), "rejected_setup"),
        (Faults(setup_close=Close(1011, "The service is currently unavailable.")), "internal"),
        (Faults(setup_close=Close(1011, "You exceeded your current quota, please check your plan")), "quota"),
        (Faults(setup_close=Close(1007, "API key expired. Please renew the API key.")), "bad_key"),
    ],
)
async def test_refusals_are_told_apart_by_their_words_first(gemini: House, faults: Faults, kind: str) -> None:
    async with gemini.serve(faults=faults) as server:
        error = await failure(gemini, server.url)
    assert error.kind == kind
    assert error.cure


async def test_nobody_there_is_unreachable(gemini: House) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert (await failure(gemini, url)).kind == "unreachable"


async def test_a_session_that_is_never_ready_is_given_up_in_time(gemini: House, monkeypatch: Any) -> None:
    monkeypatch.setattr("bot.gemini_client.SETUP_SECONDS", 0.6)
    async with gemini.serve(faults=Faults(setup_seconds=2000)) as server:
        error = await failure(gemini, server.url)
        assert error.kind == "timeout"
        await gemini.until(lambda: not server.sessions[0].connected)


async def test_a_secure_service_is_reached_with_its_certificate_checked(
    gemini: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with gemini.serve(gemini.Mind("Hello."), tls=context) as server:
        assert (await failure(gemini, server.url)).kind == "unreachable"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        async with gemini.call(server.url) as call:
            await call.session.say_to_model("Hello.")
            await call.turns_done()
    assert call.audio


async def test_the_sdk_is_unharmed_for_everybody_else(gemini: House) -> None:
    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.configure_trust(client_side)
    async with gemini.serve(gemini.Mind("Hello."), tls=server_side) as server:
        options = types.HttpOptions(base_url=server.url, async_client_args={"ssl": client_side})
        client = genai.Client(api_key="x", http_options=options)
        async with client.aio.live.connect(model=LIVE, config={"response_modalities": ["AUDIO"]}) as session:
            await session.send_realtime_input(text="Hi")
            messages = [message async for message in session.receive()]
    assert b"".join(message.data for message in messages if message.data)


# -- words without a call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
async def test_words_are_read_aloud_word_for_word(gemini: House, model: str) -> None:
    words = "Thank you for calling. This call is recorded."
    mind = gemini.Mind(words)
    async with gemini.serve(mind) as server:
        clip = await speak_once(await gemini.clients(server.url), model, words, "Kore", "en-US")
        setup = gemini.setup(server.sessions[0])
        assert setup["generationConfig"]["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"] == "Kore"
        await gemini.until(lambda: not server.sessions[0].connected)
    assert gemini.typed(mind) == [f'Say exactly: "{words}"']
    assert clip.transcript == words
    assert len(clip.pcm24k) == 8 * 24000 // 4 * 2


async def test_other_words_are_not_taken_for_the_notice(gemini: House) -> None:
    async with gemini.serve(gemini.Mind("Thank you for calling us today, my friend.")) as server:
        clients = await gemini.clients(server.url)
        with pytest.raises(ModelError, match="other words"):
            await speak_once(clients, LIVE, "Thank you for calling. This call is recorded.", "Kore", "en-US")


async def test_the_second_model_speaks_when_the_first_cannot(gemini: House) -> None:
    faults = {1: Faults(setup_close=Close(1011, "The service is currently unavailable."))}
    async with gemini.serve(gemini.Mind("Hello."), faults) as server:
        clients = await gemini.clients(server.url, NATIVE, LIVE)
        assert await clients.speak("Hello.", "Kore", "en-US")
        assert [gemini.setup(record)["model"] for record in server.sessions] == [f"models/{NATIVE}", f"models/{LIVE}"]


@pytest.mark.parametrize(
    ("asked", "said", "same"),
    [
        ("This call is recorded.", "this call is recorded", True),
        ("Welcome to Brightsmile Dental.", "Welcome to Bright Smile dental", True),
        (
            "Hello, we're open 24 hours a day. What can we do?",
            "Hello, we’re open twenty-four hours a day. What can we do?",
            True,
        ),
        (
            "Hello. I am an assistant. This call is recorded. How can I help?",
            "Hello. I am an assistant. How can I help?",
            False,
        ),
        ("This call is recorded.", "Sure, here it is: This call is recorded.", False),
        ("Dieser Anruf wird aufgezeichnet.", "dieser anruf wird aufgezeichnet", True),
        ("This call is recorded.", "", False),
    ],
)
def test_word_for_word(asked: str, said: str, same: bool) -> None:
    assert is_word_for_word(asked, said) is same


async def test_the_probe_times_setup_and_first_audio(gemini: House) -> None:
    async with gemini.serve(gemini.Mind("Hello.")) as server:
        result = await probe(await gemini.clients(server.url), LIVE)
    assert result.setup_ms > 0
    assert result.first_audio_ms > 0


async def test_the_probe_names_a_model_that_opens_but_does_not_speak(gemini: House) -> None:
    async with gemini.serve(faults=Faults(empty_turn=(1,))) as server:
        with pytest.raises(ModelError, match="does not speak"):
            await probe(await gemini.clients(server.url), LIVE)


async def test_two_calls_at_once_have_each_their_own_tape(gemini: House) -> None:
    async with (
        gemini.serve(gemini.Mind("One.", "Two.")) as server,
        gemini.call(server.url) as first,
        gemini.call(server.url, NATIVE) as second,
    ):
        await asyncio.gather(first.session.say_to_model("First."), second.session.say_to_model("Second."))
        await first.turns_done()
        await second.turns_done()
    for call, model, words in ((first, LIVE, "First."), (second, NATIVE, "Second.")):
        sent = [data for channel, data in call.tape if channel == "model.in"]
        assert sent[0]["setup"]["model"] == f"models/{model}"
        assert [data["realtime_input"]["text"] for data in sent[1:]] == [words]
