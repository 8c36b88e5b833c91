"""The mind that serves unless another is put in, behind the real socket, for each model: typed words, calls, speech."""

from __future__ import annotations

import asyncio

import pytest
from google.genai import types

from sandbox.schema_mind import SchemaMind

MODELS = [
    "gemini-3.8-live",
    "gemini-3.8-live-extended-thinking",
    "gemini-3.1-flash-live-preview",
    "gemini-2.5-flash-native-audio-preview-12-2025",
]
TEXT = {"type": "STRING"}
SERVICE = {"type": "STRING", "enum": ["haircut", "shave"]}
WHEN = {"service": SERVICE, "day": TEXT, "time": TEXT}
SALON = [
    {
        "function_declarations": [
            {
                "name": "check_availability",
                "description": "Check which times are free.",
                "parameters": {"type": "OBJECT", "properties": WHEN, "required": ["service"]},
            },
            {"name": "find_customer", "description": "Find the caller.", "parameters": {"type": "OBJECT"}},
            {
                "name": "book",
                "description": "Book a service.",
                "parameters": {
                    "type": "OBJECT",
                    "properties": WHEN | {"name": TEXT},
                    "required": ["service", "day", "time", "name"],
                },
            },
        ]
    }
]
RESULTS = {
    "check_availability": {"available": True},
    "find_customer": {"name": "Emma Wilson"},
    "book": {"say": "Booked for Emma."},
}


async def talk(session: object, words: str, until: str) -> tuple[str, list[str]]:
    """Type `words`, answer the calls, and listen until `until` was said: (what was said, what was called)."""
    await session.send_realtime_input(text=words)  # type: ignore[attr-defined]
    said, called = "", []
    async with asyncio.timeout(20):
        while until not in said:
            async for message in session.receive():  # type: ignore[attr-defined]
                if message.tool_call:
                    for call in message.tool_call.function_calls:
                        called.append(call.name)
                        response = types.FunctionResponse(id=call.id, name=call.name, response=RESULTS[call.name])
                        await session.send_tool_response(function_responses=[response])  # type: ignore[attr-defined]
                content = message.server_content
                if content and content.output_transcription and content.output_transcription.text:
                    said += content.output_transcription.text
    return said, called


async def test_a_mind_that_is_cut_off_at_once_still_says_what_it_is(gemini):
    async with gemini.serve(SchemaMind(), speed=1) as server, gemini.connect(server, tools=SALON) as session:
        await session.send_realtime_input(text="Hello.")
        await session.send_realtime_input(text="Hello?")
        said, _ = await talk(session, "Hello!", "help you?")
        assert "I am a practice stand-in, not a real model." in said
        assert server.sessions[0].texts == ["Hello.", "Hello?", "Hello!"]


@pytest.mark.parametrize("model", MODELS)
async def test_a_booking_through_the_official_client(gemini, model):
    options: dict = {
        "tools": SALON,
        "system_instruction": "Today is Monday, 2026-11-23.",
        "output_audio_transcription": {},
    }
    if model.endswith("thinking"):
        options["thinking_config"] = {"thinking_level": "LOW"}
    async with gemini.serve(SchemaMind(), speed=20) as server, gemini.connect(server, model, **options) as session:
        said, called = await talk(session, "A haircut on Tuesday at three, please.", "Shall I book it?")
        assert said.startswith("I am a practice stand-in, not a real model.")
        assert "Haircut on Tuesday, November 24 at 3 PM for Emma Wilson." in said
        assert sorted(called) == ["check_availability", "find_customer"]
        said, called = await talk(session, "Yes, please.", "anything else?")
        assert (said.split(".")[0], called) == ("Booked for Emma", ["book"])
