"""Taking the floor from the Gemini stand-in (conformance items 25 to 29)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from google.genai import types

from sandbox.gemini import PROFILES

LONG = "word " * 24  # 6 s
SLOW_DELIVERY = [replace(p, delivery_factor=1.0) for p in PROFILES]
KEEP_TALKING = {"activity_handling": "NO_INTERRUPTION"}


async def start_talking(gemini, session, server, *, after="modelTurn"):
    """Has the model speak; returns once the frame that holds `after` is out."""
    await session.send_realtime_input(text="Talk")
    await gemini.until(lambda: server.sessions[-1].frames_with("serverContent", after))


def contents(frames):
    return [next(iter(f["serverContent"])) for f in frames if f.get("serverContent")]


@pytest.mark.parametrize("model", ["gemini-3.8-live", "gemini-3.1-flash-live-preview"])
async def test_speech_during_generation_interrupts(gemini, model):
    async with (
        gemini.serve(gemini.Mind(LONG, "Yes?"), profiles=SLOW_DELIVERY, speed=5.0) as server,
        gemini.connect(server, model) as session,
    ):
        await start_talking(gemini, session, server)
        await gemini.say(session)
        first = await gemini.turn(session)
        second = await gemini.turn(session)
        kinds = contents(server.sessions[0].frames)
    end = [(bool(m.server_content.interrupted), bool(m.server_content.turn_complete)) for m in first[-2:]]
    assert end == [(True, False), (False, True)]
    assert not any(m.server_content.generation_complete for m in first if m.server_content)
    assert first[-1].usage_metadata.response_token_count < 6 * 25
    after = kinds[kinds.index("turnComplete") + 1 :]
    assert after[0] == "inputTranscription"
    assert len([m for m in second if m.data]) == 2
    assert after[-2:] == ["generationComplete", "turnComplete"]


async def test_speech_in_the_assumed_playback_still_interrupts(gemini):
    async with gemini.serve(gemini.Mind(LONG, "Yes?"), speed=5.0) as server, gemini.connect(server) as session:
        await start_talking(gemini, session, server, after="generationComplete")
        await gemini.say(session)
        first = await gemini.turn(session)
        assert (await gemini.turn(session))[-1].server_content.turn_complete
    marks = [name for m in first if m.server_content for name in m.server_content.model_fields_set]
    assert [name for name in marks if name != "model_turn" and name != "output_transcription"] == [
        "generation_complete",
        "interrupted",
        "turn_complete",
    ]
    assert first[-1].usage_metadata.response_token_count == 6 * 25


async def test_no_interruption_lets_the_model_finish_and_answers_afterwards(gemini):
    mind = gemini.Mind(LONG, "Yes?")
    async with gemini.serve(mind) as server, gemini.connect(server, realtime_input_config=KEEP_TALKING) as session:
        await start_talking(gemini, session, server)
        await gemini.say(session)
        first, second = await gemini.turn(session), await gemini.turn(session)
        assert server.sessions[0].frames_with("serverContent", "interrupted") == []
    assert sum(len(m.data) for m in first if m.data) == 6 * 48000
    assert sum(len(m.data) for m in second if m.data) == 12000
    assert mind.said == [("Talk", "text"), ("something", "audio")]


async def test_speech_after_turn_complete_interrupts_nothing(gemini):
    async with gemini.serve() as server, gemini.connect(server) as session:
        for _ in range(2):
            await gemini.say(session)
            await gemini.turn(session)
        assert server.sessions[0].frames_with("serverContent", "interrupted") == []


@pytest.mark.parametrize("config", [{}, {"realtime_input_config": KEEP_TALKING}])
async def test_client_content_interrupts_whatever_the_handling(gemini, config):
    async with gemini.serve(gemini.Mind(LONG)) as server, gemini.connect(server, **config) as session:
        await start_talking(gemini, session, server)
        await session.send_client_content(turn_complete=False)
        first = await gemini.turn(session)
        assert first[-2].server_content.interrupted
        sent = len(server.sessions[0].frames)
        await asyncio.sleep(0.3)
        assert len(server.sessions[0].frames) == sent


async def test_typed_text_and_activity_start_interrupt(gemini):
    manual = {"automatic_activity_detection": {"disabled": True}}
    async with (
        gemini.serve(gemini.Mind(LONG, LONG, "Done.")) as server,
        gemini.connect(server, realtime_input_config=manual) as session,
    ):
        await start_talking(gemini, session, server)
        await session.send_realtime_input(text="Stop")
        assert (await gemini.turn(session))[-2].server_content.interrupted
        sent = len(server.sessions[0].frames_with("serverContent", "modelTurn"))
        await gemini.until(lambda: len(server.sessions[0].frames_with("serverContent", "modelTurn")) > sent)
        await session.send_realtime_input(activity_start=types.ActivityStart())
        assert (await gemini.turn(session))[-2].server_content.interrupted
        await session.send_realtime_input(activity_end=types.ActivityEnd())
        assert (await gemini.turn(session))[-1].server_content.turn_complete


async def test_only_what_was_sent_before_the_interruption_is_billed_later(gemini):
    async with gemini.serve(gemini.Mind(LONG, "Yes?"), profiles=SLOW_DELIVERY) as server, gemini.connect(server) as s:
        await start_talking(gemini, s, server)
        await s.send_realtime_input(text="Stop")
        first, second = (await gemini.turn(s))[-1].usage_metadata, (await gemini.turn(s))[-1].usage_metadata
    grew = second.prompt_token_count - first.prompt_token_count
    assert first.response_token_count < 100
    assert grew == first.response_token_count + 1  # "Stop" is one token


async def test_a_pause_in_speech_gives_the_mind_both_halves_once(gemini):
    """The user goes on while the first half is still being recognised: one answer, to both."""
    mind, ear = gemini.Mind("Both."), gemini.Ear("first half", "second half")
    async with gemini.serve(mind, ear=ear) as server, gemini.connect(server) as session:
        pcm = gemini.tone(500) + gemini.silence(800) + gemini.tone(500)
        await session.send_realtime_input(audio=types.Blob(data=pcm, mime_type="audio/pcm;rate=16000"))
        await gemini.until(lambda: server.sessions[0].heard == ["first half"])
        assert mind.said == []
        await session.send_realtime_input(audio=types.Blob(data=gemini.silence(900), mime_type="audio/pcm;rate=16000"))
        await gemini.turn(session)
    assert mind.said == [("first half second half", "audio")]
