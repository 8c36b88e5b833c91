"""The Gemini stand-in with its real voice and its real ear: words go in and come out as sound."""

from __future__ import annotations

import asyncio

import pytest
from google.genai import types

from sandbox.ear import Ear, Grammar
from sandbox.voice import Voice

BOOK = {
    "name": "book_appointment",
    "description": "Books an appointment.",
    "parameters": {
        "type": "OBJECT",
        "properties": {"service": {"type": "STRING", "enum": ["cleaning", "filling"]}, "day": {"type": "STRING"}},
        "required": ["service"],
    },
}


@pytest.fixture
def expecting(gemini):
    class Expecting(gemini.Mind):
        """Expects to hear what the declared tools are about."""

        def grammar(self):
            return Grammar.from_tools([BOOK])

    return Expecting


async def test_spoken_words_are_recognised_and_the_answer_is_speech(gemini, expecting):
    mind = expecting("This is a stand-in. Which day?")
    manual = {"automatic_activity_detection": {"disabled": True}}
    async with (
        gemini.serve(mind, voice=Voice(), ear=Ear()) as server,
        gemini.connect(server, tools=[{"function_declarations": [BOOK]}], realtime_input_config=manual) as session,
    ):
        said = await asyncio.to_thread(Voice().speak, "I would like a cleaning", rate=16000)
        await session.send_realtime_input(activity_start=types.ActivityStart())
        await session.send_realtime_input(audio=types.Blob(data=said, mime_type="audio/pcm;rate=16000"))
        await session.send_realtime_input(activity_end=types.ActivityEnd())
        messages = await gemini.turn(session, 30)
    (heard,) = mind.said
    assert "cleaning" in heard[0]
    assert server.sessions[0].heard == [heard[0]]
    answer = b"".join(m.data for m in messages if m.data)
    assert answer == await asyncio.to_thread(Voice().speak, "This is a stand-in. Which day?", rate=24000)
