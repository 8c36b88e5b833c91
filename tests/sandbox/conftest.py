"""Fixtures for the stand-ins' tests. Everything named gemini_* drives `GeminiStandIn` with the official SDK."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import trustme
from fakes.gemini import ListedEar, ListedMind, LoudnessDetector, ToneVoice, silence, tone
from google import genai
from google.genai import types

from sandbox.gemini import GeminiStandIn

KEY = "stand-in-key"


@dataclass
class Tls:
    """A server context with SAN 127.0.0.1 and the client context that trusts it."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="session")
def gemini_tls() -> Tls:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(server, client)


@pytest.fixture(scope="session")
def gemini_client(gemini_tls: Tls) -> genai.Client:
    """The unmodified SDK client. Where to connect is told per connection (LiveConnectConfig.http_options)."""
    options = types.HttpOptions(base_url="https://127.0.0.1:1", async_client_args={"ssl": gemini_tls.client})
    return genai.Client(api_key=KEY, http_options=options)


class GeminiTests:
    """What a test needs to talk to a stand-in through the SDK."""

    Mind = ListedMind
    Ear = ListedEar
    Voice = ToneVoice
    Detector = LoudnessDetector
    tone = staticmethod(tone)
    silence = staticmethod(silence)
    key = KEY

    def __init__(self, tls: Tls, client: genai.Client) -> None:
        self.tls = tls
        self.client = client

    @contextlib.asynccontextmanager
    async def serve(
        self, mind: ListedMind | Callable[[], Any] | None = None, **options: Any
    ) -> AsyncIterator[GeminiStandIn]:
        """A stand-in 10 times faster than the real service, over TLS, with a listed mind, a tone and a listed ear."""
        factory = mind if callable(mind) else (lambda: mind or ListedMind())
        settings: dict[str, Any] = {
            "mind_factory": factory,
            "voice": ToneVoice(),
            "ear": ListedEar(),
            "detector_factory": LoudnessDetector,
            "tls": self.tls.server,
            "speed": 10.0,
        }
        async with GeminiStandIn(**(settings | options)) as server:
            yield server
        for record in server.sessions:
            check_frames(record.frames)

    def connect(self, server: GeminiStandIn, model: str = "gemini-3.8-live", **config: Any) -> Any:
        """`client.aio.live.connect` with both transcriptions on."""
        merged = {
            "response_modalities": ["AUDIO"],
            "input_audio_transcription": {},
            "output_audio_transcription": {},
            "http_options": {"base_url": server.url},
        } | config
        return self.client.aio.live.connect(model=model, config={k: v for k, v in merged.items() if v is not None})

    async def turn(self, session: Any, seconds: float = 10) -> list[types.LiveServerMessage]:
        """All messages of one turn, as `receive()` gives them."""
        async with asyncio.timeout(seconds):
            return [message async for message in session.receive()]

    async def say(self, session: Any, ms: int = 600, pause_ms: int = 900, rate: int = 16000) -> None:
        """One utterance in 100 ms messages, with the silence that ends it."""
        pcm = tone(ms, rate) + silence(pause_ms, rate)
        step = rate // 5
        for at in range(0, len(pcm), step):
            blob = types.Blob(data=pcm[at : at + step], mime_type=f"audio/pcm;rate={rate}")
            await session.send_realtime_input(audio=blob)

    async def until(self, condition: Callable[[], Any], seconds: float = 5) -> Any:
        """Waits for something the server does without a message to the client."""
        for _ in range(int(seconds * 200)):
            if found := condition():
                return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"Not within {seconds} s.")


@pytest.fixture
def gemini(gemini_tls: Tls, gemini_client: genai.Client) -> GeminiTests:
    return GeminiTests(gemini_tls, gemini_client)


@pytest.fixture
def gemini_shape() -> Callable[[Iterable[dict[str, Any]]], list[str]]:
    return outline


# Conformance item 45: the SDK's receive() raises TypeError on a frame whose only key it does not know.
SERVER_MESSAGES = {
    "setupComplete",
    "serverContent",
    "toolCall",
    "toolCallCancellation",
    "goAway",
    "sessionResumptionUpdate",
    "usageMetadata",
    "voiceActivity",
    "voiceActivityDetectionSignal",
}


def check_frames(frames: list[dict[str, Any]]) -> None:
    """What must hold for every frame of every session: known keys, well below the SDK's 1 MiB, setupComplete first."""
    for frame in frames:
        assert set(frame) <= SERVER_MESSAGES
        assert len(json.dumps(frame)) < 500_000
    assert [index for index, frame in enumerate(frames) if "setupComplete" in frame] in ([], [0])


def outline(frames: Iterable[dict[str, Any]]) -> list[str]:
    """Frames as words, for comparing order and shape: "audio+text", "generationComplete", "{}"..."""
    return [_word(frame) for frame in frames]


def _word(frame: dict[str, Any]) -> str:
    if not frame:
        return "{}"
    words: list[str] = []
    for name, body in frame.items():
        if name != "serverContent":
            words.append(name)
        elif not body:
            words.append("content{}")
        for field, value in body.items() if name == "serverContent" else ():
            if field == "modelTurn":
                words.extend("thought" if part.get("thought") else "audio" for part in value["parts"])
            else:
                words.append(field)
    return "+".join(words)
