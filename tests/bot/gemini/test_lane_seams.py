"""A canary for upgrades of Pipecat: each name that bot/lane.py takes from its transport is as it was.

When a test here fails after an upgrade: read what the name does now, compare with docs/decisions/0017, then run
tests/bot/test_media_socket.py, tests/bot/gemini and tests/calls/test_memory.py.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from pipecat.frames.frames import InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BOT_VAD_STOP_FALLBACK_SECS, BaseOutputTransport
from pipecat.transports.websocket.fastapi import (
    FastAPIWebsocketInputTransport,
    FastAPIWebsocketOutputTransport,
    FastAPIWebsocketTransport,
)
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.messages import Assembler, SimpleQueue
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.protocol import Protocol

from bot import lane
from bot.gemini_client import _text_frame

SENDER = BaseOutputTransport.MediaSender


def source(thing: Any) -> str:
    return inspect.getsource(thing)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lane._Input, FastAPIWebsocketInputTransport),
        (lane._Output, FastAPIWebsocketOutputTransport),
        (lane._Sender, SENDER),
    ],
)
def test_what_the_lane_replaces_is_there_and_called_alike(ours: type, theirs: type) -> None:
    replaced = {name for name in vars(ours) if not name.startswith("__")} - {"_next_queued", "_hear", "_abc_impl"}
    expected = {
        lane._Input: {"_create_audio_task", "_receive_messages", "push_audio_frame"},
        lane._Output: {"set_transport_ready", "write_audio_frame", "_write_audio_sleep"},
        lane._Sender: {"_audio_task_handler"},
    }
    assert replaced == expected[ours]
    for name in replaced:
        parameters = inspect.signature(getattr(theirs, name)).parameters
        assert list(inspect.signature(getattr(ours, name)).parameters) == list(parameters), name


def test_the_two_ends_of_the_transport_are_made_as_the_lane_makes_them() -> None:
    making = source(FastAPIWebsocketTransport.__init__)
    assert "self._input = FastAPIWebsocketInputTransport(" in making
    assert "self._output = FastAPIWebsocketOutputTransport(" in making
    assert making.count("self, self._client, self._params, name=") == 2
    assert "return self._input" in source(FastAPIWebsocketTransport.input)
    assert "return self._output" in source(FastAPIWebsocketTransport.output)


def test_the_input_makes_a_queue_only_for_what_the_lane_passes_on_at_once() -> None:
    assert "_audio_in_queue" not in source(FastAPIWebsocketInputTransport)
    users = [
        name
        for name, member in vars(BaseInputTransport).items()
        if callable(member) and "_audio_in_q" in source(member)
    ]
    assert sorted(users) == ["_audio_task_handler", "_create_audio_task", "push_audio_frame"]
    assert "if self._audio_task:" in source(BaseInputTransport._cancel_audio_task)
    assert "await self.push_audio_frame(frame)" in source(FastAPIWebsocketInputTransport._receive_messages)
    assert "self._paused = False" in source(BaseInputTransport.start)


def test_reading_begins_with_the_pipeline_and_ends_with_it() -> None:
    assert "self._receive_task = self.create_task(self._receive_messages())" in source(
        FastAPIWebsocketInputTransport.start
    )
    assert "await self.cancel_task(self._receive_task)" in source(FastAPIWebsocketInputTransport._stop_tasks)
    for ending in (FastAPIWebsocketInputTransport.stop, FastAPIWebsocketInputTransport.cancel):
        assert "await self._teardown()" in source(ending)
    assert "await self._stop_tasks()" in source(FastAPIWebsocketInputTransport._teardown)


def test_a_callers_frame_has_all_that_a_frame_has() -> None:
    ours, theirs = lane.CallerFrame(bytes(640), 16_000), InputAudioRawFrame(bytes(640), 16_000, 1)
    known = {"id", "name"}
    assert {name: getattr(ours, name) for name in vars(theirs) if name not in known} == {
        name: value for name, value in vars(theirs).items() if name not in known
    }
    assert {ours.name in str(ours), ours.name in repr(ours)} == {True}


def test_direct_mode_takes_a_frame_while_it_is_pushed() -> None:
    queueing = source(FrameProcessor.queue_frame)
    assert "if self._enable_direct_mode:" in queueing
    assert "__process_frame(frame, direction, callback)" in queueing


def test_the_output_makes_its_sender_where_the_lane_makes_its_own() -> None:
    ready = source(BaseOutputTransport.set_transport_ready)
    assert "self._media_senders[None] = BaseOutputTransport.MediaSender(" in ready
    assert "OutputTransportReadyFrame()" in ready
    assert list(inspect.signature(SENDER.__init__).parameters)[1:] == [
        "transport",
        "destination",
        "sample_rate",
        "audio_chunk_size",
        "params",
    ]


def test_a_write_is_a_serialised_frame_and_a_wait() -> None:
    writing = source(FastAPIWebsocketOutputTransport.write_audio_frame)
    assert "await self._write_frame(frame)" in writing
    assert "await self._write_audio_sleep()" in writing
    assert "serializer.serialize(frame)" in source(FastAPIWebsocketOutputTransport._write_frame)
    assert "self._send_interval = (self.audio_chunk_size / self.sample_rate) / 2" in source(
        FastAPIWebsocketOutputTransport
    )
    interrupted = source(FastAPIWebsocketOutputTransport.process_frame)
    assert "await self._write_frame(frame)\n            self._next_send_time = 0" in interrupted


def test_the_senders_queue_is_handled_as_the_lane_handles_it() -> None:
    handling = source(SENDER._audio_task_handler)
    assert "await self._handle_frame(frame)" in handling
    assert "isinstance(frame, EndFrame)" in handling
    assert BOT_VAD_STOP_FALLBACK_SECS == 3
    assert "await self._bot_stopped_speaking()" in source(SENDER._next_frame)
    speaking = source(SENDER._handle_bot_speech)
    assert "self._tts_audio_received = True" in speaking
    assert "await self._bot_started_speaking()" in source(SENDER._bot_currently_speaking)
    # What else that does is for speech streams, and for idle timers that are off.
    assert "_bot_speech_last_time" in source(SENDER._maybe_bot_currently_speaking)
    assert "self._audio_queue = FrameQueue()" in source(SENDER._create_audio_task)


def test_all_of_a_pipeline_can_be_found_to_be_taken_apart() -> None:
    assert "self._transport = transport" in source(FastAPIWebsocketInputTransport.__init__)
    assert "return self._pipeline" in source(PipelineWorker.pipeline.fget)
    assert "return self._processors" in source(Pipeline.processors.fget)
    # The worker's own ends are in its pipeline.
    assert "self._processors: list[FrameProcessor] = [self._source, *processors, self._sink]" in source(
        Pipeline.__init__
    )


# -- websockets: what sends the caller's audio past its `send` ---------------------------------------------------------


@pytest.mark.parametrize("length", [1, 125, 126, 640, 65_535])
def test_a_frame_is_laid_out_as_websockets_lays_it_out(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.gemini_client.mask_key", lambda: b"mask")
    monkeypatch.setattr("secrets.token_bytes", lambda count: b"mask"[:count])
    text = b"x" * length
    assert _text_frame(text) == WireFrame(Opcode.TEXT, text).serialize(mask=True)


def test_a_message_is_put_together_and_sent_as_the_lane_does_it() -> None:
    sending = source(ClientConnection.send)
    assert "self.protocol.send_text(message" in sending
    context = source(ClientConnection.send_context)
    assert "self.protocol.state is expected_state" in context
    assert "self.send_data()" in context
    assert "self.transport.write(data)" in source(ClientConnection.send_data)
    assert "self.writes.append(" in source(Protocol.send_frame)
    assert "self.send_frame(Frame(TEXT, data, fin))" in source(Protocol.send_text)
    assert "await self.drain()" in context
    assert "if self.paused:" in source(ClientConnection.drain)
    assert "self.paused = True" in source(ClientConnection.pause_writing)


def test_what_has_come_and_was_not_read_can_be_counted() -> None:
    assert "self.frames: SimpleQueue[Frame] = SimpleQueue()" in source(Assembler.__init__)
    assert "self.recv_messages = Assembler(" in source(ClientConnection.__mro__[1].connection_made)
    assert "return len(self.queue)" in source(SimpleQueue.__len__)
