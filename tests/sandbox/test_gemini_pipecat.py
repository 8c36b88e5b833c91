"""Pipecat's own GeminiLiveLLMService, unmodified, against the stand-in over TLS (conformance item 46)."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from dataclasses import replace

import pytest
from google.genai.types import HttpOptions

from sandbox.gemini import PROFILES, Close, FaultPlan, Faults
from sandbox.mind import Reply, ToolCall

# Pipecat imports audioop, which Python is about to drop.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pipecat.frames.frames import (
        InputAudioRawFrame,
        InterruptionFrame,
        LLMRunFrame,
        TranscriptionFrame,
        TTSAudioRawFrame,
        TTSTextFrame,
    )
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.services.google.gemini_live.llm import GeminiLiveLLMService
    from pipecat.services.llm_service import FunctionCallParams
    from pipecat.workers.runner import WorkerRunner

# Pipecat still sets what the SDK now calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Setting `LiveConnectConfig.generation_config`:DeprecationWarning")

MODELS = [
    "models/gemini-3.8-live",
    "models/gemini-3.1-flash-live-preview",
    "models/gemini-2.5-flash-native-audio-latest",
]


class Recorder(FrameProcessor):
    """Keeps what comes down from the service."""

    def __init__(self):
        super().__init__()
        self.audio = bytearray()
        self.text = ""
        self.interruptions = 0
        self.rates = set()

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.audio += frame.audio
            self.rates.add(frame.sample_rate)
        elif isinstance(frame, TTSTextFrame):
            self.text += frame.text
        elif isinstance(frame, InterruptionFrame):
            self.interruptions += 1
        await self.push_frame(frame, direction)


class Listener(FrameProcessor):
    """Keeps the transcriptions that the service sends upstream."""

    def __init__(self):
        super().__init__()
        self.heard = []

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            self.heard.append(frame.text)
        await self.push_frame(frame, direction)


class Call:
    """One pipeline around the service: user aggregator, listener, service, recorder, assistant aggregator."""

    def __init__(self, gemini, server, model, tools=None):
        self.gemini = gemini
        options = HttpOptions(base_url=server.url, async_client_args={"ssl": gemini.tls.client})
        self.llm = GeminiLiveLLMService(
            api_key=gemini.key,
            http_options=options,
            tools=tools,
            settings=GeminiLiveLLMService.Settings(model=model, system_instruction="Answer the phone."),
        )
        self.recorder, self.listener = Recorder(), Listener()
        user, assistant = LLMContextAggregatorPair(LLMContext([{"role": "user", "content": "Greet the caller."}]))
        self.worker = PipelineWorker(
            Pipeline([user, self.listener, self.llm, self.recorder, assistant]),
            params=PipelineParams(audio_in_sample_rate=16000, audio_out_sample_rate=24000),
            enable_rtvi=False,
        )

    async def speak(self, ms=600, pause_ms=900):
        pcm = self.gemini.tone(ms) + self.gemini.silence(pause_ms)
        frames = [InputAudioRawFrame(pcm[at : at + 640], 16000, 1) for at in range(0, len(pcm), 640)]
        await self.worker.queue_frames(frames)

    async def until(self, condition):
        return await self.gemini.until(condition, 10)


@pytest.fixture
def call(gemini):
    @contextlib.asynccontextmanager
    async def start(server, model, tools=None):
        running = Call(gemini, server, model, tools)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(running.worker)
        task = asyncio.create_task(runner.run())
        await running.worker.queue_frames([LLMRunFrame()])
        try:
            yield running
        finally:
            await running.worker.cancel()
            await asyncio.wait_for(task, 10)

    return start


def turns_done(server, number=0):
    return len(server.sessions[number].frames_with("serverContent", "turnComplete")) if server.sessions else 0


@pytest.mark.parametrize("model", MODELS)
async def test_greeting_then_a_spoken_turn(gemini, call, model):
    ear = gemini.Ear("I would like an appointment.")
    async with gemini.serve(gemini.Mind("Hello there, caller.", "Certainly."), ear=ear) as server:
        async with call(server, model) as live:
            await live.until(lambda: turns_done(server) == 1)
            await live.until(lambda: live.recorder.text == "Hello there, caller.")
            assert (len(live.recorder.audio), live.recorder.rates) == (3 * 12000, {24000})
            await live.speak()
            await live.until(lambda: turns_done(server) == 2)
            await live.until(lambda: len(live.recorder.audio) == 4 * 12000)
            await live.until(lambda: live.listener.heard)
        assert "".join(live.listener.heard).strip() == "I would like an appointment."
        assert len(server.sessions) == 1
        assert server.sessions[0].setup["model"] == model


@pytest.mark.parametrize("model", MODELS)
async def test_barge_in_reaches_the_pipeline_as_an_interruption(gemini, call, model):
    slow = [replace(p, delivery_factor=1.0) for p in PROFILES]
    async with gemini.serve(gemini.Mind("word " * 40, "Yes?"), profiles=slow, speed=5.0) as server:
        async with call(server, model) as live:
            await live.until(lambda: len(live.recorder.audio) > 9600)
            await live.speak()
            await live.until(lambda: live.recorder.interruptions)
            await live.until(lambda: turns_done(server) == 2)
        assert server.sessions[0].frames_with("serverContent", "interrupted") == [True]


async def look_up(params: FunctionCallParams, name: str):
    """Looks a customer up.

    Args:
        name: The customer's name.
    """
    await params.result_callback({"phone": "555 0100", "asked": name})


@pytest.mark.parametrize("model", MODELS)
async def test_a_tool_round(gemini, call, model):
    mind = gemini.Mind(Reply(calls=[ToolCall("look_up", {"name": "Ada"})]), "Found her.")
    async with gemini.serve(mind) as server:
        async with call(server, model, [look_up]) as live:
            await live.until(lambda: live.recorder.text == "Found her.")
            await live.until(lambda: turns_done(server) == 1)
        (body,) = server.sessions[0].tool_responses
    assert [(r.name, r.response) for r in mind.results] == [("look_up", {"phone": "555 0100", "asked": "Ada"})]
    assert body["functionResponses"][0]["name"] == "look_up"


@pytest.mark.parametrize("model", MODELS)
async def test_after_a_close_it_reconnects_with_its_handle_and_goes_on(gemini, call, model):
    mind = gemini.Mind("Hello.", "Still here.")
    plan = FaultPlan()
    async with gemini.serve(mind, faults=plan) as server:
        async with call(server, model) as live:
            await live.until(lambda: turns_done(server) == 1)
            handles = server.sessions[0].frames_with("sessionResumptionUpdate", "newHandle")
            await live.until(lambda: server.sessions[0].frames_with("sessionResumptionUpdate", "newHandle"))
            await asyncio.sleep(0.1)
            plan.sessions[1] = Faults(drop_at_caller_ms=100, drop_close=Close(1011, "Deadline expired"))
            await live.speak(ms=200)
            await live.until(lambda: len(server.sessions) == 2 and server.sessions[1].frames)
            await asyncio.sleep(0.1)
            await live.speak()
            await live.until(lambda: turns_done(server, 1) == 1)
        handles = server.sessions[0].frames_with("sessionResumptionUpdate", "newHandle")
        assert server.sessions[1].setup["sessionResumption"]["handle"] in handles
    assert len(mind.setups) == 2
    assert "Still here." in live.recorder.text
