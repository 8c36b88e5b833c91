"""How a session of the Gemini stand-in ages (conformance items 38 to 43)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from google.genai import errors, types

from sandbox.gemini import PROFILES, Close, Faults
from sandbox.gemini.conversation import Conversation, Handles
from sandbox.gemini.faults import FaultPlan
from sandbox.gemini.outbox import End, Send
from sandbox.gemini.session import Parts, Session
from sandbox.gemini.setup import Compression
from sandbox.mind import Reply, ToolCall

LIVE = "gemini-3.8-live"
EXTENDED = "gemini-3.8-live-extended-thinking"
PREVIEW = "gemini-3.1-flash-live-preview"


def aged(**fields):
    return [replace(p, **fields) for p in PROFILES]


# --- 38: goAway


@pytest.mark.parametrize("close", [Close(1011, "Deadline expired"), Close(1008, "aborted"), Close(1000, "cancelled")])
async def test_go_away_then_the_close_that_was_asked_for(gemini, close):
    faults = Faults(go_away_at_seconds=2, go_away_left_seconds=3, go_away_close=close)
    async with gemini.serve(faults=faults) as server, gemini.connect(server) as session:
        with pytest.raises(errors.APIError) as closed:
            await gemini.turn(session)
        assert server.sessions[0].frames_with("goAway", "timeLeft") == ["3s"]
    assert closed.value.code == close.code
    assert close.reason in str(closed.value)


async def test_by_default_the_connection_lives_ten_minutes_and_warns_50_s_before(gemini):
    async with gemini.serve(speed=2000.0) as server, gemini.connect(server) as session:
        with pytest.raises(errors.APIError, match="Deadline expired") as closed:
            async for _ in session.receive():
                pass
        assert server.sessions[0].frames_with("goAway", "timeLeft") == ["50s"]
    assert closed.value.code == 1011


async def test_a_client_that_heeds_go_away_closes_normally(gemini):
    faults = Faults(go_away_at_seconds=1, go_away_left_seconds=50)
    async with gemini.serve(faults=faults) as server:
        async with gemini.connect(server) as session:
            async for message in session.receive():
                if message.go_away:
                    assert message.go_away.time_left == "50s"
                    break
        await gemini.until(lambda: not server.sessions[0].connected)
        assert server.sessions[0].close_code == 1000


# --- 39: resumption updates


async def test_a_new_handle_after_each_turn_and_none_while_tools_run(gemini):
    mind = gemini.Mind(Reply(calls=[ToolCall("f")]), "Done.")
    tools = [{"function_declarations": [{"name": "f", "behavior": "BLOCKING"}]}]
    async with gemini.serve(mind) as server, gemini.connect(server, tools=tools, session_resumption={}) as session:
        await session.send_realtime_input(text="Go")
        async for message in session.receive():
            if message.tool_call:
                call = message.tool_call.function_calls[0]
                await asyncio.sleep(0.1)
                assert server.sessions[0].frames_with("sessionResumptionUpdate")[-1] == {}
                await session.send_tool_response(
                    function_responses=[{"id": call.id, "name": "f", "response": {"ok": 1}}]
                )
        await gemini.until(lambda: len(server.sessions[0].frames_with("sessionResumptionUpdate")) == 3)
        first, during, last = server.sessions[0].frames_with("sessionResumptionUpdate")
    assert during == {}
    assert first["resumable"]
    assert last["resumable"]
    assert first["newHandle"] != last["newHandle"]


async def test_3_1_renews_its_handle_every_second_or_so(gemini):
    async with gemini.serve() as server, gemini.connect(server, PREVIEW, session_resumption={}):
        await gemini.until(lambda: len(server.sessions[0].frames_with("sessionResumptionUpdate")) >= 4)
        handles = [u["newHandle"] for u in server.sessions[0].frames_with("sessionResumptionUpdate")]
    assert len(set(handles)) == len(handles)


# --- 40: compression


async def test_the_prompt_shrinks_to_the_target_once_past_the_trigger(gemini):
    window = {"trigger_tokens": 700, "sliding_window": {"target_tokens": 300}}
    quiet = aged(phantom_audio_tokens=0, unexplained_prompt_tokens=0)
    async with (
        gemini.serve(gemini.Mind(*["word " * 40] * 6), profiles=quiet) as server,
        gemini.connect(server, context_window_compression=window, system_instruction="x" * 100) as session,
    ):
        prompts = []
        for _ in range(6):
            await session.send_realtime_input(text="Tell me")
            prompts.append((await gemini.turn(session))[-1].usage_metadata.prompt_token_count)
    # 250 tokens of speech a turn, 2 of text, 25 of instruction
    assert prompts == [27, 279, 531, 279, 531, 279]


def test_the_cut_lands_on_a_user_turn_and_keeps_the_instruction():
    context = Conversation(fixed_tokens=50)
    for number in range(4):
        context.add("user", f"question {number}", text_tokens=10)
        context.add("model", f"answer {number}", audio_tokens=100)
    assert not context.compress(Compression(490, 200))
    assert context.compress(Compression(489, 260))
    assert [entry.text for entry in context.entries] == ["question 3", "answer 3"]
    assert sum(context.tokens()) == 160


# --- 41: session length


@pytest.mark.parametrize(
    ("compressed", "video", "seconds"), [(False, False, 900), (True, False, None), (False, True, 120)]
)
def test_without_compression_a_session_ends_after_15_minutes_or_2_with_video(gemini, compressed, video, seconds):
    """On the session itself, with a clock of its own: 20 minutes pass in no time."""
    session = bare_session(gemini, connection_seconds=10_000.0)
    window = b',"contextWindowCompression":{"slidingWindow":{}}' if compressed else b""
    session.received(b'{"setup":{"model":"models/gemini-3.8-live"' + window + b"}}", 0.0)
    frames, ended = run_until(session, 1.0)
    if video:
        session.received(b'{"realtimeInput":{"video":{"data":"","mimeType":"image/jpeg"}}}', 1.0)
    frames, ended = run_until(session, 1200.0)
    if seconds is None:
        assert ended is None
    else:
        at, action = ended
        assert at == pytest.approx(seconds + 0.8, abs=0.1)
        assert action.close.code == 1011
    if seconds == 900:
        assert [f for f in frames if "goAway" in f] == [{"goAway": {"timeLeft": "50s"}}]


def test_resuming_does_not_reset_the_15_minutes(gemini):
    parts = bare_parts(gemini, connection_seconds=10_000.0)
    first = bare_session(gemini, parts)
    first.received(b'{"setup":{"model":"models/gemini-3.8-live","sessionResumption":{}}}', 0.0)
    run_until(first, 700.8)
    first.received(b'{"realtimeInput":{"text":"hello"}}', 700.8)
    frames, _ = run_until(first, 800.0)
    handle = [f["sessionResumptionUpdate"]["newHandle"] for f in frames if "sessionResumptionUpdate" in f][-1]
    first.closed(800.0)
    second = bare_session(gemini, parts)
    setup = b'{"setup":{"model":"models/gemini-3.8-live","sessionResumption":{"handle":"%s"}}}' % handle.encode()
    second.received(setup, 1000.0)
    _, (at, _) = run_until(second, 3000.0)
    assert at == pytest.approx(1000 + 0.8 + 200, abs=2)


def bare_parts(gemini, **fields):
    return Parts(
        profiles=tuple(aged(**fields)),
        make_mind=gemini.Mind,
        make_detector=gemini.Detector,
        handles=Handles(random.Random(1)),
        faults=FaultPlan(),
    )


def bare_session(gemini, parts=None, **fields):
    return Session(
        parts or bare_parts(gemini, **fields),
        number=1,
        version="v1beta",
        chance=random.Random(1),
        admit=lambda setup: setup,
        on_audio=lambda _audio: None,
    )


def run_until(session, end):
    """Takes every action up to `end`, on a clock that jumps from one to the next; speech takes no time to make."""
    frames = []
    now = 0.0
    while True:
        action = session.outbox.take(now)
        if isinstance(action, Send):
            frames.append(action.frame)
        elif isinstance(action, End):
            return frames, (now, action)
        elif action is not None:
            session.outbox.done(action.job, bytes(48000), now)
        else:
            due = session.outbox.next_due()
            if due is None or due > end:
                return frames, None
            now = max(now, due)


# --- 42: contextUpdate


async def test_a_context_update_changes_instruction_and_tools(gemini):
    mind = gemini.Mind()
    tools = [{"function_declarations": [{"name": "old"}]}]
    async with (
        gemini.serve(mind) as server,
        gemini.connect(server, tools=tools, system_instruction="Before.") as session,
    ):
        await session._ws.send('{"contextUpdate": {"system_instruction": {"parts": [{"text": "After."}]}}}')
        await session._ws.send('{"contextUpdate": {"tools": {"tools": [{"functionDeclarations": [{"name": "new"}]}]}}}')
        await session._ws.send('{"contextUpdate": {"tools": {"tools": []}}}')
        await gemini.until(lambda: len(mind.setups) == 4)
        assert len(server.sessions[0].context_updates) == 3
    names = [[d["name"] for t in s["tools"] for d in t["functionDeclarations"]] for s in mind.setups]
    assert names == [["old"], ["old"], ["new"], []]
    texts = [s["systemInstruction"]["parts"][0]["text"] for s in mind.setups]
    assert texts == ["Before.", "After.", "After.", "After."]


async def test_the_sdk_sends_context_updates_in_that_shape(gemini):
    mind = gemini.Mind()
    async with gemini.serve(mind) as server, gemini.connect(server) as session:
        await session.send_context_update(
            system_instruction=types.Content(parts=[types.Part(text="After.")]),
            tools=[types.Tool(function_declarations=[types.FunctionDeclaration(name="new")])],
        )
        await gemini.until(lambda: len(mind.setups) == 2)
    assert mind.setups[1]["tools"] == [{"functionDeclarations": [{"name": "new"}]}]


# --- 43: interactionStatus


@pytest.mark.parametrize("scheduling", ["SILENT", "WHEN_IDLE"])
async def test_extended_thinking_goes_idle_also_when_the_model_has_nothing_to_add(gemini, scheduling):
    mind = gemini.Mind(Reply(say="Noted.", calls=[ToolCall("f")]), Reply())
    config = {"tools": [{"function_declarations": [{"name": "f"}]}], "thinking_config": {"thinking_level": "LOW"}}
    async with gemini.serve(mind) as server, gemini.connect(server, EXTENDED, **config) as session:
        await session.send_realtime_input(text="Note it")
        async with asyncio.timeout(5):
            async for message in session.receive():
                for call in message.tool_call.function_calls if message.tool_call else ():
                    answer = types.FunctionResponse(id=call.id, name="f", response={"ok": 1}, scheduling=scheduling)
                if message.server_content and message.server_content.generation_complete:
                    await asyncio.sleep(0.3)
                    await session.send_tool_response(function_responses=[answer])
        assert server.sessions[0].frames_with("serverContent", "interactionStatus")[-1] == "IDLE"


async def test_extended_thinking_is_idle_only_when_its_calls_are_answered(gemini):
    mind = gemini.Mind(Reply(say="Let me see.", calls=[ToolCall("f")]), "Found it.")
    config = {
        "tools": [{"function_declarations": [{"name": "f"}]}],
        "thinking_config": {"thinking_level": "LOW"},
    }
    async with gemini.serve(mind) as server, gemini.connect(server, EXTENDED, **config) as session:
        await session.send_realtime_input(text="Look it up")
        completed, said = [], ""
        async with asyncio.timeout(5):
            async for message in session.receive():  # ends at IDLE, not at the first turnComplete
                if message.tool_call:
                    call = message.tool_call.function_calls[0]
                content = message.server_content
                if content and content.output_transcription:
                    said += content.output_transcription.text
                if content and content.turn_complete:
                    completed.append(content.interaction_status.name)
                    if len(completed) == 1:
                        await session.send_tool_response(
                            function_responses=[{"id": call.id, "name": "f", "response": {"ok": 1}}]
                        )
    assert completed == ["IN_PROGRESS", "IDLE"]
    assert said == "Let me see.Found it."
