"""Many sessions at once, and clients that do not read (conformance item 47)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

from sandbox.gemini import PROFILES
from sandbox.mind import Reply

WORDS = 24  # 6 s


class SlowVoice:
    """A voice that holds its thread for a while, as a recogniser or a long synthesis does."""

    def __init__(self, voice, seconds):
        self.voice = voice
        self.seconds = seconds

    def speak(self, text, *, rate=24000):
        time.sleep(self.seconds)
        return self.voice.speak(text, rate=rate)


async def paced_turn(session, speed):
    """One turn; (seconds from first audio to turnComplete in session time, bytes of audio)."""
    await session.send_realtime_input(text="Talk")
    first, size = 0.0, 0
    async for message in session.receive():
        if message.data:
            first = first or time.monotonic()
            size += len(message.data)
    return (time.monotonic() - first) * speed, size


async def test_twenty_sessions_keep_their_own_pace(gemini):
    speed, count = 2.0, 20
    async with (
        gemini.serve(lambda: gemini.Mind("word " * WORDS), speed=speed) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        sessions = [await stack.enter_async_context(gemini.connect(server)) for _ in range(count)]
        turns = await asyncio.gather(*(paced_turn(session, speed) for session in sessions))
    for took, size in turns:
        assert size == 6 * 48000
        assert 5.8 <= took <= 30  # played out, and not held up by the nineteen others, who would make it 120


async def test_a_slow_voice_in_one_session_does_not_hold_up_another(gemini):
    class Voice(SlowVoice):
        def speak(self, text, *, rate=24000):
            return super().speak(text, rate=rate) if "slowly" in text else self.voice.speak(text, rate=rate)

    minds = [gemini.Mind("slowly"), gemini.Mind(Reply(say="at once"))]
    async with (
        gemini.serve(lambda: minds.pop(0), voice=Voice(gemini.Voice(), 1.5)) as server,
        gemini.connect(server) as slow,
        gemini.connect(server) as quick,
    ):
        waiting = asyncio.create_task(gemini.turn(slow))
        await slow.send_realtime_input(text="Go")
        await quick.send_realtime_input(text="Go")
        await gemini.turn(quick)
        assert not waiting.done()
        assert (await waiting)[-1].server_content.turn_complete


async def test_a_client_that_does_not_read_holds_up_only_itself(gemini):
    """The SDK queues 16 frames, then the socket fills: the server waits for it, and loses nothing."""
    minds = [gemini.Mind("word " * 1600), gemini.Mind("Quick.")]
    ageless = [replace(p, connection_seconds=1e6, audio_session_seconds=1e6) for p in PROFILES]
    async with (
        gemini.serve(lambda: minds.pop(0), profiles=ageless, speed=500.0) as server,
        gemini.connect(server) as deaf,
        gemini.connect(server) as other,
    ):
        await deaf.send_realtime_input(text="Talk")
        stuck = -1
        while len(server.sessions[0].frames) != stuck or stuck < 20:
            stuck = len(server.sessions[0].frames)
            await asyncio.sleep(0.5)
        assert stuck < 2000
        await other.send_realtime_input(text="Hi")
        assert (await gemini.turn(other))[-1].server_content.turn_complete
        await asyncio.sleep(0.2)
        assert len(server.sessions[0].frames) == stuck
        messages = await gemini.turn(deaf, 30)
    assert sum(len(m.data) for m in messages if m.data) == 400 * 48000


async def test_two_stand_ins_live_in_one_loop(gemini):
    async with gemini.serve() as one, gemini.serve() as two:
        assert one.port != two.port
        for server in (one, two):
            async with gemini.connect(server) as session:
                await session.send_realtime_input(text="Hi")
                await gemini.turn(session)
        assert [len(one.sessions), len(two.sessions)] == [1, 1]


async def test_a_long_running_server_keeps_no_audio_and_no_frames(gemini):
    async with gemini.serve(record=False) as server, gemini.connect(server) as session:
        await gemini.say(session)
        await gemini.turn(session)
        record = server.sessions[0]
        assert (len(record.audio), record.frames, record.heard) == (0, [], [])
        assert record.setup["model"] == "models/gemini-3.8-live"
