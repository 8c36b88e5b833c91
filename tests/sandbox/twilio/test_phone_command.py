"""`python -m sandbox` as somebody types it: processes of their own, real sockets, real speech."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sandbox import sound

ROOT = Path(__file__).parents[3]
AUDIO = ROOT.parent / "shared" / "data" / "audio"


async def run(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    import os

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sandbox",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | (env or {}),
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def talking(server: Any) -> Any:
    """A server that says something, listens, answers once and hangs up by closing."""

    async def stream(sock: Any) -> None:
        import base64

        await sock.begin()
        await sock.say(sound.tone((440,), 600), mark="greeting")
        loud = quiet = 0
        while loud < 5 or quiet < 30:
            frame = base64.b64decode((await sock.until("media"))["media"]["payload"])
            loud += sound.is_voiced(frame)
            quiet = 0 if sound.is_voiced(frame) else quiet + 1
        await sock.say(sound.tone((440,), 600), mark="answer")
        while (await sock.until("mark"))["mark"]["name"] != "answer":
            pass
        await sock.web.close()

    host = server.url.removeprefix("http://")
    server.pages |= {
        "/twilio/voice": f'<Response><Connect><Stream url="wss://{host}/media"/></Connect></Response>',
        "/twilio/status": "<Response/>",
    }
    server.stream = stream
    return server


@pytest.fixture
def card(tmp_path: Path, talking: Any, account: tuple[str, str]) -> Path:
    path = tmp_path / "sandbox.json"
    path.write_text(json.dumps({"server": talking.url, "account_sid": account[0], "auth_token": account[1]}))
    return path


class TestCall:
    async def test_speech_and_a_file_of_another_rate(self, card: Path, tmp_path: Path, talking: Any) -> None:
        at = np.arange(44100) / 44100
        with wave.open(str(tmp_path / "tone.wav"), "wb") as writer:
            writer.setnchannels(2)
            writer.setsampwidth(2)
            writer.setframerate(44100)
            one = (9000 * np.sin(2 * np.pi * 700 * at)).astype("<i2")
            writer.writeframes(np.stack([one, one], axis=1).tobytes())
        saved = tmp_path / "out.wav"
        status, out, err = await run("call", "--wav", str(tmp_path / "tone.wav"), "--save", str(saved),
                                     env={"DATA_DIR": str(tmp_path)})  # fmt: skip
        assert (status, err) == (0, "")
        assert "bot          spoke for 0.6 s" in out
        assert "marks: 2 played" in out
        assert "answered after" in out
        assert "31921" in out
        with wave.open(io.BytesIO(saved.read_bytes())) as reader:
            assert (reader.getnchannels(), reader.getframerate()) == (2, 8000)
            both = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2").reshape(-1, 2).astype(float)
        pitches = [np.argmax(np.abs(np.fft.rfft(both[:, side]))) * 8000 / len(both) for side in (0, 1)]
        assert pitches == pytest.approx([700, 440], abs=5)
        assert talking.at("/twilio/status")[0].form["CallStatus"] == "completed"
        assert talking.at("/twilio/voice")[0].form["From"] == "+12075550123"

    async def test_real_human_speech_is_heard_by_the_server(self, card: Path, talking: Any) -> None:
        recording = AUDIO / "asterisk" / "hello-world.wav"
        if not recording.is_file():
            pytest.skip(f"needs the shared recording {recording}")
        status, out, _ = await run("call", "--card", str(card), "--wav", str(recording))
        assert status == 0, out

    async def test_text_is_spoken(self, card: Path) -> None:
        status, out, _ = await run("call", "--card", str(card), "--say", "I would like an appointment")
        assert status == 0, out
        assert "caller       I would like an appointment" in out

    async def test_not_hearing_the_bot_is_a_failure(self, card: Path, server: Any) -> None:
        server.pages["/twilio/voice"] = "<Response><Say>We are closed</Say></Response>"
        status, out, _ = await run("call", "--card", str(card))
        assert status == 1
        assert "announced at 0.0 s: We are closed" in out

    async def test_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        status, out, _ = await run("call", "http://127.0.0.1:1", "--account-sid", "AC1", "--auth-token", "t")
        assert status == 1
        assert "application error 11205" in out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "start a server that has nothing configured"),
            (["nonsense", "--account-sid", "AC1", "--auth-token", "t"], "is not a URL"),
            (["http://h", "--account-sid", "a", "--auth-token", "t", "--loss", "2"], "--loss is a share"),
            (["http://h", "--account-sid", "a", "--auth-token", "t", "--script", "no.yaml"], "no.yaml"),
            (["http://h", "--account-sid", "a", "--auth-token", "t", "--wav", "no.wav"], "no.wav cannot be read"),
        ],
    )
    async def test_misuse_is_explained(self, tmp_path: Path, arguments: list[str], words: str) -> None:
        status, _, err = await run("call", *arguments, env={"DATA_DIR": str(tmp_path)})
        assert status == 2
        assert words in err
        assert "Traceback" not in err

    async def test_an_unknown_option_is_refused(self) -> None:
        status, _, err = await run("call", "--lod", "1")
        assert status == 2
        assert "--lod" in err


async def test_the_carrier_runs_by_itself_and_its_phone_can_be_hung_up(card: Path, server: Any) -> None:
    """Three processes: the exchange, a phone that registers there, and this one with the official client."""
    from twilio.http.http_client import TwilioHttpClient
    from twilio.rest import Client

    known = json.loads(card.read_text())  # noqa: ASYNC240
    exchange = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", "twilio", "--port", "0",
        "--account-sid", known["account_sid"], "--auth-token", known["auth_token"],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert exchange.stdout is not None
    http = TwilioHttpClient(timeout=5)
    try:
        ready = json.loads(await exchange.stdout.readline())
        card.write_text(json.dumps(known | {"twilio_api": ready["twilio"]}))  # noqa: ASYNC240
        client = Client(ready["account_sid"], ready["auth_token"], http_client=http)
        client.api.base_url = ready["twilio"]

        async def stream(sock: Any) -> None:
            await sock.begin()
            await sock.say(sound.tone((440,), 500), mark="said")
            await sock.until("mark")
            await asyncio.to_thread(lambda: client.calls(sock.start["callSid"]).update(status="completed"))
            await sock.drain()

        server.stream = stream
        status, out, err = await run("call", "--card", str(card))
        assert (status, err) == (0, "")
        assert "ended: ended by REST" in out
        (shown,) = await asyncio.to_thread(client.calls.list)
        assert shown.status == "completed"
    finally:
        http.session.close()
        exchange.terminate()
        assert await exchange.wait() == 0


async def test_without_sounddevice_the_microphone_says_what_to_install(card: Path) -> None:
    status, _, err = await run("call", "--card", str(card), "--mic")
    if status != 2:
        pytest.skip("this machine has a microphone")
    assert "--extra mic" in err or "libportaudio2" in err


class TestMicrophone:
    def test_frames_go_both_ways(self, monkeypatch: pytest.MonkeyPatch, voice: Any) -> None:
        """A sound card that plays 20 ms and records 20 ms when asked to."""
        from types import SimpleNamespace

        opened: dict[str, Any] = {}

        class Card:
            def __init__(self, **options: Any) -> None:
                opened.update(options)

            def start(self) -> None: ...

            def close(self) -> None:
                opened["closed"] = True

        fake = SimpleNamespace(RawStream=Card, PortAudioError=OSError)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        from sandbox.twilio.microphone import Microphone

        with Microphone() as caller:
            caller.prepare(voice)
            assert caller.tick(sound.tone((440,), 20)).audio == sound.SILENT_FRAME
            recorded = sound.decode(sound.tone((700,), 20)).astype("<i2").tobytes()
            played = bytearray(320)
            opened["callback"](recorded, memoryview(played), 160, None, None)
            assert bytes(played) == sound.decode(sound.tone((440,), 20)).astype("<i2").tobytes()
            assert caller.tick(sound.SILENT_FRAME).audio == sound.tone((700,), 20)
        assert (opened["samplerate"], opened["blocksize"], opened["closed"]) == (8000, 160, True)
