"""A canary for upgrades of Pipecat and google-genai: each name that the bot takes from their insides is as it was.

When a test here fails after an upgrade: read what the name does now, compare with docs/decisions/0001, then run
tests/bot/gemini. The versions are pinned in pyproject.toml.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import pytest
from google.genai import live
from google.genai.live import AsyncLive, AsyncSession
from pipecat.frames.frames import Frame, InterruptionFrame, TTSAudioRawFrame
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.google.gemini_live.llm import GeminiLiveLLMService
from pipecat.services.llm_service import LLMService
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.websocket.fastapi import FastAPIWebsocketClient, FastAPIWebsocketOutputTransport

import bot.gemini_client
from bot.gemini import GeminiSession

SERVICE = GeminiLiveLLMService


def source(thing: Any) -> str:
    return inspect.getsource(thing)


def test_the_versions_are_those_that_were_read() -> None:
    assert (version("pipecat-ai"), version("google-genai"), version("websockets")) == ("1.14.0", "2.34.0", "17.4")


# -- Pipecat's Gemini service: what the session replaces, and who calls it ---------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("create_client", ["self"]),
        ("service_metadata_frame", ["self"]),
        ("process_frame", ["self", "frame", "direction"]),
        ("_connect", ["self", "session_resumption_handle"]),
        ("_disconnect", ["self"]),
        ("_handle_server_message", ["self", "message"]),
        ("_handle_msg_tool_call", ["self", "message"]),
        ("_handle_msg_resumption_update", ["self", "message"]),
        ("_send_user_text", ["self", "text"]),
        ("_tool_result", ["self", "tool_call_id", "tool_name", "tool_result_message", "is_final", "spoken"]),
    ],
)
def test_what_the_session_replaces_is_there_and_called_alike(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(SERVICE, name)).parameters) == parameters
    assert list(inspect.signature(getattr(GeminiSession, name)).parameters) == parameters


def test_the_session_replaces_nothing_else() -> None:
    inherited = {name for kind in SERVICE.__mro__ for name in vars(kind)}
    replaced = {name for name in vars(GeminiSession) if name in inherited and not name.startswith(("__", "_abc"))}
    assert replaced == {
        "_END_FRAME_DEFERRAL_TIMEOUT_SECS",
        "_connect",
        "_disconnect",
        "_handle_msg_resumption_update",
        "_handle_msg_tool_call",
        "_handle_server_message",
        "_send_user_text",
        "_tool_result",
        "create_client",
        "process_frame",
        "service_metadata_frame",
    }


def test_the_connection_is_opened_in_setup_and_closed_at_every_end() -> None:
    assert "await self._connect()" in source(SERVICE.setup)
    for end in (SERVICE.stop, SERVICE.cancel, SERVICE.cleanup):
        assert "await self._disconnect()" in source(end)
    closing = source(SERVICE._disconnect)
    assert "self.cancel_task(self._connection_task" in closing
    assert "await self._session.close()" in closing


def test_an_end_frame_waits_for_the_bot_and_is_released_when_it_is_quiet() -> None:
    assert "if self._bot_is_responding:" in source(SERVICE.process_frame)
    assert "_release_deferred_end_frame" in source(SERVICE._set_bot_is_responding)
    assert "_END_FRAME_DEFERRAL_TIMEOUT_SECS" in source(SERVICE._create_end_frame_deferral_timeout)


def test_the_result_of_a_function_comes_through_push_frame_to_tool_result() -> None:
    assert "_handle_function_call_result" in source(SERVICE.push_frame)
    assert "self._tool_result(" in source(SERVICE._handle_function_call_result)
    assert "run_function_calls" in source(SERVICE._handle_msg_tool_call)
    assert "self._context" in source(SERVICE._handle_msg_tool_call)


def test_the_handle_is_kept_where_the_session_looks_for_it() -> None:
    assert "self._session_resumption_handle = update.new_handle" in source(SERVICE._handle_msg_resumption_update)


def test_a_handler_for_every_function_exists_and_survives_interruptions() -> None:
    assert "None in self._functions" in source(LLMService.run_function_calls)
    assert "entry.cancel_on_interruption" in source(LLMService._handle_interruptions)


# -- Pipecat's transport: what bot/pipeline.py and MediaSocket rely on ------------------------------------------------


def test_frames_that_may_not_be_interrupted_survive_in_the_output() -> None:
    assert TTSAudioRawFrame(audio=b"", sample_rate=24000, num_channels=1).interruptible is True
    assert Frame.__dataclass_fields__["interruptible"].init is False
    assert "_audio_queue.reset()" in source(BaseOutputTransport.MediaSender.handle_interruptions)


def test_words_and_marks_keep_their_place_between_the_audio() -> None:
    placing = source(BaseOutputTransport._handle_frame)
    assert "handle_sync_frame" in placing
    assert "handle_tts_stopped" in placing
    sending = source(BaseOutputTransport.MediaSender._audio_task_handler)
    assert "self._transport.push_frame(frame)" in sending


def test_an_interruption_is_written_to_the_carrier() -> None:
    assert "isinstance(frame, InterruptionFrame)" in source(FastAPIWebsocketOutputTransport.process_frame)
    assert "_write_frame(frame)" in source(FastAPIWebsocketOutputTransport.process_frame)
    assert InterruptionFrame().interruptible


def test_the_transport_uses_of_a_websocket_what_media_socket_has() -> None:
    used = source(FastAPIWebsocketClient)
    for name in ("client_state", "application_state", "close()"):
        assert f"self._websocket.{name}" in used


def test_direct_mode_is_there_for_what_only_looks_on() -> None:
    assert "enable_direct_mode" in inspect.signature(FrameProcessor.__init__).parameters


# -- google-genai: one name ------------------------------------------------------------------------------------------


def test_sessions_are_opened_through_the_one_name_that_is_replaced() -> None:
    assert live.ws_connect is bot.gemini_client._open_socket  # type: ignore[attr-defined,comparison-overlap]
    opening = source(AsyncLive.connect)
    assert opening.count("ws_connect(") == 1
    assert "uri, additional_headers=headers, **self._api_client._websocket_ssl_ctx" in opening


def test_a_session_uses_of_its_socket_what_tapped_socket_has() -> None:
    used = {
        line.split("self._ws.")[1].split("(")[0] for line in source(AsyncSession).splitlines() if "self._ws." in line
    }
    assert used == {"send", "recv", "close"}


def test_a_frame_that_cannot_be_read_is_told_as_type_or_value_error() -> None:
    assert "raise ValueError" in source(AsyncSession._receive)
    assert "APIError.raise_error" in source(AsyncSession._receive)
