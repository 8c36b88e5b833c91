"""The pipeline's side of the line: there before the carrier's socket, and still there when that one breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from fakes.carrier import SILENCE, START, Carrier, Line, settle
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputTextRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.workers.runner import WorkerRunner

from bot import lane
from bot.carriers import media_socket
from bot.carriers.media_socket import MediaSerializer, end_of_turn
from bot.carriers.media_stream import MAX_MESSAGE
from bot.errors import StreamRejected
from bot.events import (
    BargeIn,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    KeyPressed,
    MarkReturned,
    StreamStopped,
    Trouble,
)
from bot.lane import CallerFrame, CallTransport


@pytest.fixture
async def line() -> Line:
    return Line()


@pytest.fixture
async def carrier() -> Carrier:
    return Carrier()


# -- before, between and after streams --------------------------------------------------------------------------------


async def test_before_the_stream_the_pipeline_waits_and_audio_is_dropped_with_one_word(line: Line) -> None:
    reading = asyncio.create_task(line.socket.receive())
    await line.socket.play(SILENCE)
    await line.socket.play(SILENCE)
    await line.socket.clear()
    await line.socket.end_turn()
    await settle()
    assert not reading.done()
    assert [event.failure for event in line.of(Trouble)] == ["bot_audio_dropped"]
    assert line.tape == []
    assert line.socket.client_state.name == "CONNECTED"
    reading.cancel()


async def test_the_messages_read_before_are_on_the_tape_and_their_problems_are_told(
    line: Line, carrier: Carrier
) -> None:
    line.socket.attach(carrier.opened('{"event":"connected"}', "garbage"))
    assert [data for channel, data in line.tape if channel == "carrier.in"] == [
        b'{"event":"connected"}',
        b"garbage",
        START.encode(),
    ]
    assert [event.failure for event in line.of(Trouble)] == ["carrier_not_json"]
    assert line.bad("not_json") == 1


async def test_the_caller_is_heard_and_every_message_is_on_the_tape(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        carrier.speaks(b"\x01" * 160)
        carrier.says("dtmf", dtmf={"digit": "5"})
        carrier.speaks(b"\x02" * 160)
        received = [await line.socket.receive() for _ in range(3)]
    assert [message.get("bytes") or message.get("text") for message in received] == [b"\x01" * 160, "5", b"\x02" * 160]
    assert line.of(KeyPressed) == [KeyPressed("5")]
    assert len([1 for channel, _ in line.tape if channel == "carrier.in"]) == 4
    assert not line.of(Trouble)


async def test_a_second_stream_is_refused_while_one_is_open(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        with pytest.raises(StreamRejected) as refused:
            line.socket.attach(Carrier().opened())
        assert refused.value.kind == "second_stream"
        await line.socket.play(SILENCE)
    assert carrier.audio() == SILENCE


async def test_a_stop_ends_the_stream_and_the_pipeline_goes_on_waiting(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier) as serving:
        carrier.says("stop", stop={})
        assert await serving == "stop"
    assert line.of(StreamStopped) == [StreamStopped("stop")]
    assert carrier.closed
    assert not line.socket.attached
    assert line.socket.client_state.name == "CONNECTED"


async def test_a_broken_socket_is_a_lost_stream_and_another_one_takes_over(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier) as serving:
        await line.socket.play(SILENCE)
        carrier.hangs_up()
        assert await serving == "lost"
    assert line.of(StreamStopped) == [StreamStopped("lost")]
    second = Carrier()
    async with line.open(second):
        second.speaks(b"\x03" * 160)
        assert (await line.socket.receive())["bytes"] == b"\x03" * 160
        await line.socket.play(SILENCE)
    assert second.audio() == SILENCE
    assert not line.of(Trouble)


async def test_a_stream_without_a_message_for_long_is_lost(
    line: Line, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_socket, "QUIET_SECONDS", 0.05)
    line.socket.attach(carrier.opened())
    assert await line.socket.serve() == "lost"
    assert [event.failure for event in line.of(Trouble)] == ["carrier_quiet"]
    assert carrier.closed


async def test_a_peer_that_takes_nothing_is_lost_and_holds_nobody_up_for_long(
    line: Line, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_socket, "STUCK_SECONDS", 0.05)
    async with line.open(carrier) as serving:
        carrier.stuck = True
        sends = (line.socket.play(SILENCE), line.socket.clear(), line.socket.play(SILENCE))
        await asyncio.wait_for(asyncio.gather(*sends), 5)
        assert await serving == "lost"
    assert [event.failure for event in line.of(Trouble)] == ["carrier_stuck"]
    assert carrier.closed


async def test_a_send_into_a_broken_socket_ends_the_stream_without_an_error(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier) as serving:
        carrier.broken = True
        await line.socket.play(SILENCE)
        assert await serving == "lost"
    assert line.of(StreamStopped) == [StreamStopped("lost")]


async def test_close_ends_the_stream_and_the_pipelines_reading_once(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier) as serving:
        await line.socket.close()
        await line.socket.close()
        assert await serving == "closed"
        assert (await line.socket.receive())["type"] == "websocket.disconnect"
    assert line.of(StreamStopped) == [StreamStopped("closed")]
    assert line.socket.client_state.name == "DISCONNECTED"
    with pytest.raises(StreamRejected) as refused:
        line.socket.attach(Carrier().opened())
    assert refused.value.kind == "call_over"


async def test_close_between_attach_and_serve_ends_it_too(line: Line, carrier: Carrier) -> None:
    line.socket.attach(carrier.opened())
    await line.socket.close()
    assert await line.socket.serve() == "closed"
    assert carrier.closed


# -- bad messages -----------------------------------------------------------------------------------------------------


async def test_bad_messages_are_counted_each_told_once_and_survived(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        for _ in range(3):
            carrier.raw("x" * 1_000_000)
        carrier.says("applause")
        carrier.says("mark", mark={"name": "nobody's"})
        carrier._inbox.put_nowait({"type": "websocket.receive", "bytes": b"\x00" * 10, "text": None})
        carrier.speaks()
        assert (await line.socket.receive())["bytes"] == SILENCE
    assert line.bad("oversized") == 3
    assert line.bad("unknown_event") == 1
    assert line.bad("unknown_mark") == 1
    assert line.bad("binary") == 1
    assert [event.failure for event in line.of(Trouble)] == [
        "carrier_oversized",
        "carrier_unknown_event",
        "carrier_unknown_mark",
        "carrier_binary",
    ]
    assert max(len(data) for _, data in line.tape) == MAX_MESSAGE


async def test_a_pipeline_that_does_not_read_loses_the_oldest_audio_and_is_told(
    line: Line, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line.open(carrier):
        for n in range(media_socket.BACKLOG_FRAMES + 2):
            carrier.speaks(bytes([n % 250]) * 160)
        async with asyncio.timeout(10):
            while not carrier.is_read:
                await asyncio.sleep(0.01)
        assert (await line.socket.receive())["bytes"][0] == 2
    assert [event.failure for event in line.of(Trouble)] == ["caller_audio_dropped"]


# -- marks ------------------------------------------------------------------------------------------------------------


async def test_marks_follow_the_audio_and_tell_when_a_turn_was_played(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        for size in (3200, 160, 160):
            await line.socket.play(b"\xff" * size)
        await line.socket.end_turn()
        assert carrier.events() == ["media", "mark", "media", "media", "mark"]
        assert carrier.marks() == ["turn:0:1", "turn:0:end"]
        for name in carrier.marks():
            carrier.says("mark", mark={"name": name})
        await settle()
        assert line.socket.playout.heard_ms == 440
    assert line.of(BotStartedSpeaking) == [BotStartedSpeaking(0, None, None)]
    assert line.of(MarkReturned) == [MarkReturned("turn:0:1", "played"), MarkReturned("turn:0:end", "played")]
    assert line.of(BotStoppedSpeaking) == [BotStoppedSpeaking(0)]
    out = [json.loads(data) for channel, data in line.tape if channel == "carrier.out"]
    assert out == carrier.sent


async def test_after_a_clear_marks_do_not_mean_heard(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        for size in (3200, 3200):
            await line.socket.play(b"\xff" * size)
        carrier.says("mark", mark={"name": "turn:0:1"})
        await settle()
        await line.socket.clear()
        carrier.says("mark", mark={"name": "turn:0:2"})
        await settle()
        assert carrier.events() == ["media", "mark", "media", "mark", "clear"]
        assert line.socket.waiting_ms() == 0
    assert line.of(MarkReturned) == [MarkReturned("turn:0:1", "played"), MarkReturned("turn:0:2", "cleared")]
    assert line.of(BargeIn) == [BargeIn(0, 400.0)]
    assert not line.of(BotStoppedSpeaking)


async def test_a_mark_tells_when_a_clear_took_effect(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        for size in (3200, 160, 160):
            await line.socket.play(b"\xff" * size)
        await line.socket.clear()
        assert carrier.events() == ["media", "mark", "media", "media", "mark", "clear"]
        for name in carrier.marks():
            carrier.says("mark", mark={"name": name})
        await settle()
        # Nothing waits any more that a mark could stand behind.
        await line.socket.clear()
        assert carrier.events()[5:] == ["clear", "clear"]
        assert line.socket.playout.heard_ms == 0
        assert line.socket.playout.pending == 0
    assert line.of(MarkReturned) == [MarkReturned("turn:0:1", "cleared"), MarkReturned("turn:0:2", "cleared")]
    assert line.of(BargeIn)[0] == BargeIn(0, 440.0)


# -- the serializer ---------------------------------------------------------------------------------------------------


async def test_the_serializer_gives_16_khz_audio_and_keys_as_words(line: Line) -> None:
    serializer = MediaSerializer(line.socket)
    frame = await serializer.deserialize(SILENCE)
    assert isinstance(frame, InputAudioRawFrame)
    assert (frame.sample_rate, frame.num_channels, len(frame.audio)) == (16_000, 1, 640)
    key = await serializer.deserialize("#")
    assert isinstance(key, InputTextRawFrame)
    assert key.text == "[The caller pressed #]"


async def test_the_end_of_a_turn_flushes_the_filter_and_an_interruption_empties_it(
    line: Line, carrier: Carrier
) -> None:
    serializer = MediaSerializer(line.socket)
    loud = OutputAudioRawFrame((np.ones(960, "<i2") * 20_000).tobytes(), 24_000, 1)
    silent = OutputAudioRawFrame(bytes(1920), 24_000, 1)
    async with line.open(carrier):
        await serializer.serialize(loud)
        await serializer.serialize(end_of_turn())
        assert len(carrier.audio()) == 320 + 32
        await serializer.serialize(loud)
        await serializer.serialize(InterruptionFrame())
        before = len(carrier.audio())
        await serializer.serialize(end_of_turn())
        assert carrier.events()[-1] == "clear", "no turn, so no tail and no mark"
        await serializer.serialize(silent)
        assert set(carrier.audio()[before:]) == {0xFF}, "nothing of the interrupted answer enters the next one"


# -- within Pipecat ---------------------------------------------------------------------------------------------------


class Model(FrameProcessor):
    """Stands where the model stands: keeps what comes up, sends down what a test puts in."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Frame] = []
        self.fails_at = 0
        self.seen: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.seen.append(frame)
        if isinstance(frame, InputAudioRawFrame | InputTextRawFrame):
            self.heard.append(frame)
            if self.fails_at == len(self.heard):
                raise ArithmeticError("a fault of ours")
            return
        await self.push_frame(frame, direction)


@asynccontextmanager
async def running(line: Line) -> AsyncIterator[tuple[Model, PipelineWorker]]:
    params = FastAPIWebsocketParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        audio_out_end_silence_secs=0,
        serializer=MediaSerializer(line.socket),
        allowed_origins=[],
    )
    transport = CallTransport(line.socket, params)
    model = Model()
    worker = PipelineWorker(
        Pipeline([transport.input(), model, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=24_000),
        enable_rtvi=False,
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        yield model, worker
    finally:
        await worker.cancel()
        await asyncio.wait_for(running, 10)


async def until(condition: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def answer(milliseconds: int) -> list[Frame]:
    audio = (np.sin(np.arange(24 * milliseconds) / 8) * 8000).astype("<i2").tobytes()
    return [TTSStartedFrame(), TTSAudioRawFrame(audio, 24_000, 1), TTSStoppedFrame(), end_of_turn()]


async def test_pipecat_carries_a_conversation_over_it(line: Line, carrier: Carrier) -> None:
    async with running(line) as (model, worker), line.open(carrier):
        carrier.speaks()
        carrier.says("dtmf", dtmf={"digit": "7"})
        await until(lambda: len(model.heard) == 2)
        await worker.queue_frames(answer(500))
        await until(lambda: "turn:0:end" in carrier.marks())
        # 500 ms in chunks of 40 ms, the last one padded, and the 4 ms tail of the filter.
        assert len(carrier.audio()) == 8 * (13 * 40 + 4)
        assert carrier.events()[-1] == "mark"
        assert carrier.marks() == [*(f"turn:0:{n}" for n in range(1, 7)), "turn:0:end"]
    # A key is a system frame and may overtake the audio.
    assert {type(frame) for frame in model.heard} == {CallerFrame, InputTextRawFrame}
    assert [frame.sample_rate for frame in model.heard if isinstance(frame, InputAudioRawFrame)] == [16_000]
    assert line.of(StreamStopped) == [StreamStopped("lost")]


async def test_what_was_said_before_the_pipeline_ran_is_heard_first(line: Line, carrier: Carrier) -> None:
    async with line.open(carrier):
        for payload in (b"\xff" * 80, b"\xff" * 160):
            carrier.speaks(payload)
        await settle()
        async with running(line) as (model, _):
            await until(lambda: len(model.heard) == 2)
            assert line.socket.on_audio is not None
            carrier.speaks(b"\xff" * 240)
            await until(lambda: len(model.heard) == 3)
        assert [frame.num_frames for frame in model.heard if isinstance(frame, CallerFrame)] == [160, 320, 480]
        assert line.socket.on_audio is None, "the pipeline has ended"


async def test_pipecat_survives_the_loss_of_a_stream_and_goes_on_over_the_next(line: Line, carrier: Carrier) -> None:
    async with running(line) as (model, worker):
        async with line.open(carrier):
            carrier.speaks()
            await until(lambda: len(model.heard) == 1)
        second = Carrier()
        async with line.open(second):
            second.speaks()
            await until(lambda: len(model.heard) == 2)
            await worker.queue_frames(answer(120))
            await until(lambda: "turn:0:end" in second.marks())
    assert second.audio()


async def test_a_fault_behind_the_transport_costs_one_frame_of_the_caller(line: Line, carrier: Carrier) -> None:
    async with running(line) as (model, _), line.open(carrier):
        model.fails_at = 1
        carrier.speaks()
        await until(lambda: len(model.heard) == 1)
        carrier.speaks()
        await until(lambda: len(model.heard) == 2)


async def test_an_interruption_is_on_the_wire_before_it_has_been_pushed(line: Line, carrier: Carrier) -> None:
    async with running(line) as (model, worker), line.open(carrier):
        await worker.queue_frames(answer(1000))
        await until(lambda: carrier.audio())
        await model.push_frame(InterruptionFrame())
        assert carrier.events()[-1] == "clear"


async def test_a_turn_that_never_ends_is_over_when_nothing_comes(
    line: Line, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "BOT_VAD_STOP_FALLBACK_SECS", 0.05)
    async with running(line) as (model, worker), line.open(carrier):
        await worker.queue_frames(answer(100)[:2])
        await until(lambda: BotStoppedSpeakingFrame in [type(frame) for frame in model.seen])


async def test_an_interruption_clears_the_line_and_cuts_the_turn(line: Line, carrier: Carrier) -> None:
    async with running(line) as (_, worker), line.open(carrier):
        await worker.queue_frames(answer(5000))
        await until(lambda: len(carrier.audio()) > 8 * 200)
        await worker.queue_frames([InterruptionFrame()])
        await until(lambda: "clear" in carrier.events())
        await asyncio.sleep(0.2)
        assert carrier.events()[-1] == "clear"
        assert "turn:0:end" not in carrier.marks()
        await worker.queue_frames(answer(120))
        await until(lambda: "turn:1:end" in carrier.marks())
    assert [event.turn for event in line.of(BargeIn)] == [0]


async def test_the_end_of_the_pipeline_closes_the_stream(line: Line, carrier: Carrier) -> None:
    async with running(line) as (_, worker), line.open(carrier) as serving:
        await worker.queue_frames([*answer(120), EndFrame()])
        assert await asyncio.wait_for(serving, 5) == "closed"
        assert carrier.marks()[-1] == "turn:0:end"


async def test_a_pipeline_that_ends_before_any_stream_ends_cleanly(line: Line) -> None:
    async with running(line) as (_, worker):
        await worker.queue_frames([EndFrame()])
        await until(lambda: line.socket.client_state.name == "DISCONNECTED")
    assert not line.events


async def test_a_pipeline_at_other_rates_is_refused(line: Line) -> None:
    class Setup:
        audio_in_sample_rate = 8000
        audio_out_sample_rate = 24_000

    with pytest.raises(ValueError, match="16000, 24000"):
        await MediaSerializer(line.socket).setup(Setup())  # type: ignore[arg-type]
