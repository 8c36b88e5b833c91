"""A `GeminiSession` in a pipeline of its own, against the Gemini stand-in over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fakes.gemini import ListedEar, ListedMind, LoudnessDetector, ToneVoice, tone
from pipecat.frames.frames import Frame, InputAudioRawFrame, TTSAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from bot.errors import ModelError
from bot.events import CallEvent
from bot.flow import Flow, Speech, load_flow
from bot.gemini import GeminiSession
from bot.gemini_client import GeminiClients
from bot.metrics import Metrics
from bot.pipeline import run_pipeline
from bot.ports import SystemClock
from bot.settings import Settings
from bot.tape import TapeDeck
from bot.tools import ToolDeclaration, UnheardResult
from sandbox.gemini import FaultPlan, Faults, GeminiStandIn, SessionRecord

FLOWS = Path(__file__).parents[3] / "flows"
LIVE = "gemini-3.8-live"
PREVIEW = "gemini-3.1-flash-live-preview"
NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
THINKING = "gemini-3.8-live-extended-thinking"
KEY = "a-test-key"


@dataclass
class FakeTools:
    """Answers `book` (a write) and `look_up` (a read); `gate` holds them back."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    ran: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    unheard: list[UnheardResult] = field(default_factory=list)
    instruction: str = "You answer the phone of a dentist."
    declarations: list[ToolDeclaration] = field(
        default_factory=lambda: [
            ToolDeclaration(
                "book",
                "Books an appointment.",
                {
                    "type": "object",
                    "properties": {"day": {"type": "string", "description": "The day."}},
                    "required": ["day"],
                },
                writes=True,
            ),
            ToolDeclaration("look_up", "Looks the caller up.", {"type": "object", "properties": {}}, writes=False),
        ]
    )

    def __post_init__(self) -> None:
        self.gate.set()

    def system_instruction(self) -> str:
        return self.instruction

    async def run(self, call_id: str, name: str, args: dict[str, Any]) -> dict[str, Any]:
        self.ran.append((call_id, name, args))
        await self.gate.wait()
        return {"say": f"{name} is done."}

    def cancel(self, call_id: str) -> None:
        self.cancelled.append(call_id)

    def unheard_results(self) -> list[UnheardResult]:
        results, self.unheard = self.unheard, []
        return results


class HeardTurns:
    """Notes what the session says about the bot's turns."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.audio_ns: list[int] = []

    def model_spoke(self, now_ns: int) -> None:
        self.audio_ns.append(now_ns)

    def text(self, words: str, speech: str) -> None:
        self.words.append(words)


class Frames(FrameProcessor):
    """The pipeline's end: keeps what comes down."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.seen.append(frame)
        await self.push_frame(frame, direction)

    def of(self, *kinds: type[Frame]) -> list[Frame]:
        return [frame for frame in self.seen if isinstance(frame, kinds)]


@dataclass
class Call:
    """One session at work, and all that came of it."""

    session: GeminiSession
    worker: PipelineWorker
    frames: Frames
    tools: FakeTools
    turns: HeardTurns
    events: list[CallEvent]
    tape: list[tuple[str, dict[str, Any]]]
    lost: list[ModelError]

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.kind == kind]

    @property
    def audio(self) -> bytes:
        return b"".join(frame.audio for frame in self.frames.of(TTSAudioRawFrame))  # type: ignore[attr-defined]

    async def hear(self, pcm: bytes) -> None:
        """The caller's audio, as fast as the pipeline takes it."""
        for at in range(0, len(pcm), 640):
            await self.worker.queue_frame(InputAudioRawFrame(pcm[at : at + 640], 16000, 1))

    async def say(self, ms: int = 600, pause_ms: int = 900) -> None:
        """One utterance of the caller, with the silence that ends it."""
        await self.hear(tone(ms) + bytes(32 * pause_ms))

    async def until(self, condition: Callable[[], Any], seconds: float = 15) -> Any:
        """Wait for something to become true."""
        return await until(condition, seconds, lambda: f"{self.events}")

    async def turns_done(self, count: int = 1) -> None:
        """Wait for the bot's `count`-th whole turn, and until all its frames have come down."""
        await self.until(lambda: len(self.of("tokens_used")) >= count)
        assert await self.worker.flush_pipeline()


async def until(condition: Callable[[], Any], seconds: float = 15, what: Callable[[], str] = str) -> Any:
    for _ in range(int(seconds * 200)):
        if found := condition():
            return found
        await asyncio.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {what()}")


class GeminiHouse:
    """What a test needs: a stand-in, clients for it, calls over it."""

    Mind = ListedMind
    Ear = ListedEar
    Tools = FakeTools
    live, preview, native, thinking = LIVE, PREVIEW, NATIVE, THINKING
    tone = staticmethod(tone)
    until = staticmethod(until)

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.folder = folder
        self.tls = tls
        self.flow: Flow = load_flow(FLOWS / "dental.yaml").model_copy(update={"speech": Speech(silence_ms=700)})

    @contextlib.asynccontextmanager
    async def serve(
        self, mind: ListedMind | None = None, faults: Faults | dict[int, Faults] | None = None, **options: Any
    ) -> AsyncIterator[GeminiStandIn]:
        """A stand-in 20 times faster than the real service. `faults`: of every session, or by the session's number."""
        shared = mind or ListedMind()
        plan = FaultPlan(sessions=faults) if isinstance(faults, dict) else FaultPlan(faults or Faults())
        settings: dict[str, Any] = {
            "mind_factory": lambda: shared,
            "voice": ToneVoice(),
            "ear": ListedEar(),
            "detector_factory": LoudnessDetector,
            "speed": 20.0,
            "tls": self.tls,
        }
        async with GeminiStandIn(faults=plan, **(settings | options)) as server:
            yield server

    async def clients(self, url: str, *models: str, key: str = KEY) -> GeminiClients:
        settings = Settings(_env_file=None, google_api_key=key, gemini_base_url=url, gemini_models=models or (LIVE,))  # type: ignore[call-arg,arg-type]
        clients = GeminiClients(settings)
        await clients.open()
        return clients

    @contextlib.asynccontextmanager
    async def call(
        self, url: str, *models: str, key: str = KEY, tools: FakeTools | None = None, **flow: Any
    ) -> AsyncIterator[Call]:
        """A running session; `flow` replaces fields of the dental flow."""
        events: list[CallEvent] = []
        tape: list[tuple[str, dict[str, Any]]] = []
        lost: list[ModelError] = []
        tools, turns, frames = tools or FakeTools(), HeardTurns(), Frames()
        clock, metrics = SystemClock(), Metrics()
        deck = TapeDeck(self.folder, clock, lambda trouble: None)
        written = deck.open("CA1", {})

        def record(event: CallEvent) -> None:
            """What becomes of the events of a call (`bot.call.Call.record`)."""
            events.append(event)
            written.put("event", event.to_json())
            metrics.observe(event)

        session = GeminiSession(
            await self.clients(url, key=key),
            models=models or (LIVE,),
            flow=self.flow.model_copy(update=flow),
            toolbox=tools,
            turns=turns,
            clock=clock,
            record=record,
            on_lost=lost.append,
            tap=lambda channel, data: tape.append((channel, json.loads(data))),
        )
        worker = PipelineWorker(
            Pipeline([session, frames]),
            params=PipelineParams(audio_in_sample_rate=16000, audio_out_sample_rate=24000),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
        )
        running = asyncio.create_task(run_pipeline(worker))
        try:
            yield Call(session, worker, frames, tools, turns, events, tape, lost)
        finally:
            await worker.cancel()
            await asyncio.wait_for(running, 10)
            await deck.close()

    def typed(self, mind: ListedMind) -> list[str]:
        """The texts that the model was sent."""
        return [text for text, source in mind.said if source == "text"]

    def setup(self, record: SessionRecord) -> dict[str, Any]:
        assert record.setup is not None
        return record.setup


@pytest.fixture
def gemini(tmp_path: Path) -> GeminiHouse:
    return GeminiHouse(tmp_path)


@pytest.fixture
def over_tls(gemini: GeminiHouse, secure: ssl.SSLContext) -> None:
    """The stand-in speaks TLS, as the service does."""
    gemini.tls = secure
