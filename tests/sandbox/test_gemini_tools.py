"""Function calls of the Gemini stand-in (conformance items 30 to 37)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from google.genai import errors, types

from sandbox.gemini import PROFILES
from sandbox.mind import Reply, ToolCall

LIVE = "gemini-3.8-live"
PREVIEW = "gemini-3.1-flash-live-preview"
NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
LONG = "word " * 24


def functions(behavior, *names):
    return [{"function_declarations": [{"name": name, "behavior": behavior} for name in names or ("look_up",)]}]


BLOCKING, NON_BLOCKING = functions("BLOCKING"), functions("NON_BLOCKING")
LOOK_UP = Reply(calls=[ToolCall("look_up", {"name": "Ada"})])


async def next_call(session):
    """Reads on until the calls come; (calls, messages before)."""
    before = []
    async with asyncio.timeout(5):
        async for message in session.receive():
            if message.tool_call:
                return message.tool_call.function_calls, before
            before.append(message)
    raise AssertionError("The turn ended without a call.")


def answer(call, response=None, **fields):
    return types.FunctionResponse(id=call.id, name=call.name, response=response or {"ok": True}, **fields)


def scheduled(call, scheduling, inside):
    if inside:
        return answer(call, {"ok": True, "scheduling": scheduling})
    return answer(call, scheduling=scheduling)


def spoken(messages):
    found = [m.server_content.output_transcription for m in messages if m.server_content]
    return "".join(t.text for t in found if t and t.text)


# --- 30, 31, 32


@pytest.mark.parametrize(("model", "prefix"), [(LIVE, "fc_"), (PREVIEW, "fc_"), (NATIVE, "function-call-")])
async def test_parallel_calls_come_in_one_message_with_their_own_ids(gemini, model, prefix):
    mind = gemini.Mind(Reply(calls=[ToolCall("a", {"n": 1}), ToolCall("b", {"deep": {"x_y": [1]}})]), "Done.")
    tools = functions("BLOCKING", "a", "b")
    async with gemini.serve(mind) as server, gemini.connect(server, model, tools=tools) as session:
        await session.send_realtime_input(text="Both")
        calls, _ = await next_call(session)
        assert [(c.name, c.args) for c in calls] == [("a", {"n": 1}), ("b", {"deep": {"x_y": [1]}})]
        assert len({c.id for c in calls}) == 2
        assert all(c.id.startswith(prefix) for c in calls)


@pytest.mark.parametrize("model", [LIVE, PREVIEW, NATIVE])
async def test_a_blocking_call_holds_the_turn_until_every_id_is_answered(gemini, model):
    mind = gemini.Mind(
        Reply(say="One moment.", calls=[ToolCall("a"), ToolCall("b")]), Reply(say="Both done."), Reply(say="Next.")
    )
    tools = functions("BLOCKING", "a", "b")
    async with gemini.serve(mind) as server, gemini.connect(server, model, tools=tools) as session:
        await session.send_realtime_input(text="Both")
        calls, before = await next_call(session)
        assert spoken(before) == "One moment."
        await session.send_tool_response(function_responses=[answer(calls[1], {"b": 2})])
        await asyncio.sleep(0.3)  # 3 s of session time
        frames = server.sessions[0].frames
        quiet = frames[next(i for i, f in enumerate(frames) if "toolCall" in f) + 1 :]
        assert quiet == []
        await session.send_tool_response(function_responses=[answer(calls[0], {"a": 1})])
        after = await gemini.turn(session)
    assert spoken(after) == "Both done."
    assert [(r.name, r.response) for r in mind.results] == [("b", {"b": 2}), ("a", {"a": 1})]


async def test_the_sdk_refuses_a_response_without_an_id(gemini):
    async with gemini.serve(gemini.Mind(LOOK_UP)) as server, gemini.connect(server, tools=BLOCKING) as session:
        await session.send_realtime_input(text="Go")
        await next_call(session)
        with pytest.raises(ValueError, match="must have an `id`"):
            await session.send_tool_response(function_responses=[{"name": "look_up", "response": {}}])


@pytest.mark.parametrize("rejects", [True, False])
async def test_an_unknown_id_is_1008_or_ignored(gemini, rejects):
    profiles = [replace(p, unknown_call_id="reject" if rejects else "ignore") for p in PROFILES]
    async with gemini.serve(profiles=profiles) as server, gemini.connect(server) as session:
        await session.send_tool_response(function_responses=[{"id": "fc_1", "name": "look_up", "response": {}}])
        await session.send_realtime_input(text="Hi")
        if rejects:
            with pytest.raises(errors.APIError, match="Requested entity was not found") as closed:
                await gemini.turn(session)
            assert closed.value.code == 1008
        else:
            assert (await gemini.turn(session))[-1].server_content.turn_complete


@pytest.mark.parametrize(
    "body",
    [{}, {"functionResponses": []}, {"functionResponses": [{"name": "x"}]}, {"functionResponses": [1]}],
)
async def test_a_malformed_tool_response_is_1007(gemini, body):
    async with gemini.serve() as server, gemini.connect(server) as session:
        await session._ws.send(json.dumps({"toolResponse": body}))
        with pytest.raises(errors.APIError) as closed:
            await gemini.turn(session)
        assert closed.value.code == 1007


# --- 33


@pytest.mark.parametrize("model", [LIVE, PREVIEW, NATIVE])
async def test_barge_in_cancels_a_blocking_call_and_its_late_answer_is_ignored(gemini, model):
    mind = gemini.Mind(LOOK_UP, "Never mind then.")
    async with gemini.serve(mind) as server, gemini.connect(server, model, tools=BLOCKING) as session:
        await session.send_realtime_input(text="Look it up")
        calls, _ = await next_call(session)
        await gemini.say(session)
        messages = await gemini.turn(session)
        (cancelled,) = [m.tool_call_cancellation for m in messages if m.tool_call_cancellation]
        assert cancelled.ids == [calls[0].id]
        await session.send_tool_response(function_responses=[answer(calls[0])])
        assert spoken(await gemini.turn(session)) == "Never mind then."
    assert mind.results == []


async def test_silence_sent_during_a_blocking_call_does_not_cancel_it(gemini):
    async with (
        gemini.serve(gemini.Mind(LOOK_UP, "Found.")) as server,
        gemini.connect(server, tools=BLOCKING) as session,
    ):
        await session.send_realtime_input(text="Look it up")
        calls, _ = await next_call(session)
        await session.send_realtime_input(audio=types.Blob(data=gemini.silence(3000), mime_type="audio/pcm;rate=16000"))
        await session.send_tool_response(function_responses=[answer(calls[0])])
        assert spoken(await gemini.turn(session)) == "Found."


# --- 34, 35, 36: NON_BLOCKING

TALKS_ON = Reply(say=LONG, calls=[ToolCall("look_up")])


@pytest.mark.parametrize(("model", "tools"), [(LIVE, functions("UNSPECIFIED")), (NATIVE, NON_BLOCKING)])
async def test_speech_goes_on_after_a_non_blocking_call(gemini, model, tools):
    mind = gemini.Mind(Reply(say="Let me see.", calls=[ToolCall("look_up")]), "Found it.")
    async with gemini.serve(mind) as server, gemini.connect(server, model, tools=tools) as session:
        await session.send_realtime_input(text="Look it up")
        (call,), before = await next_call(session)
        assert spoken(before) == ""
        assert spoken(await gemini.turn(session)) == "Let me see."
        await session.send_tool_response(function_responses=[answer(call)])
        assert spoken(await gemini.turn(session)) == "Found it."


async def test_3_1_has_no_non_blocking_calls(gemini):
    mind = gemini.Mind(Reply(say="Let me see.", calls=[ToolCall("look_up")]), "Found it.")
    async with gemini.serve(mind) as server, gemini.connect(server, PREVIEW, tools=NON_BLOCKING) as session:
        await session.send_realtime_input(text="Look it up")
        (call,), before = await next_call(session)
        assert spoken(before) == "Let me see."
        await session.send_tool_response(function_responses=[answer(call)])
        assert spoken(await gemini.turn(session)) == "Found it."


@pytest.mark.parametrize("inside", [True, False])
async def test_silent_adds_no_speech(gemini, inside):
    mind = gemini.Mind(Reply(calls=[ToolCall("look_up")]), "Not to be said.", "Later.")
    async with gemini.serve(mind) as server, gemini.connect(server, tools=NON_BLOCKING) as session:
        await session.send_realtime_input(text="Look it up")
        (call,), _ = await next_call(session)
        await gemini.turn(session)
        await session.send_tool_response(function_responses=[scheduled(call, "SILENT", inside)])
        await gemini.until(lambda: mind.results)
        await asyncio.sleep(0.2)
        assert server.sessions[0].frames_with("serverContent", "modelTurn") == []
        await session.send_realtime_input(text="And now?")
        assert spoken(await gemini.turn(session)) == "Later."


async def test_when_idle_waits_for_the_end_of_the_turn(gemini):
    mind = gemini.Mind(TALKS_ON, "Found it.")
    async with gemini.serve(mind) as server, gemini.connect(server, tools=NON_BLOCKING) as session:
        await session.send_realtime_input(text="Look it up")
        (call,), _ = await next_call(session)
        await session.send_tool_response(function_responses=[answer(call, scheduling="WHEN_IDLE")])
        first, second = await gemini.turn(session), await gemini.turn(session)
    assert sum(len(m.data) for m in first if m.data) == 6 * 48000
    assert not any(m.server_content.interrupted for m in first if m.server_content)
    assert spoken(second) == "Found it."


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("model", [LIVE, NATIVE])
async def test_interrupt_breaks_off_the_turn(gemini, model, inside):
    mind = gemini.Mind(TALKS_ON, "Found it.")
    async with gemini.serve(mind) as server, gemini.connect(server, model, tools=NON_BLOCKING) as session:
        await session.send_realtime_input(text="Look it up")
        (call,), _ = await next_call(session)
        await gemini.until(lambda: server.sessions[0].frames_with("serverContent", "modelTurn"))
        await session.send_tool_response(function_responses=[scheduled(call, "INTERRUPT", inside)])
        first, second = await gemini.turn(session), await gemini.turn(session)
    assert [bool(m.server_content.interrupted) for m in first[-2:]] == [True, False]
    assert first[-1].server_content.turn_complete
    assert spoken(second) == "Found it."


@pytest.mark.parametrize(("model", "waits"), [(LIVE, True), (NATIVE, False)])
async def test_interrupt_while_the_user_talks(gemini, model, waits):
    mind = gemini.Mind(Reply(calls=[ToolCall("look_up")]), Reply(say="First."), Reply(say="Second."))
    async with gemini.serve(mind) as server, gemini.connect(server, model, tools=NON_BLOCKING) as session:
        await session.send_realtime_input(text="Look it up")
        (call,), _ = await next_call(session)
        await gemini.turn(session)
        audio = types.Blob(data=gemini.tone(500), mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=audio)
        await gemini.until(lambda: len(server.sessions[0].audio) == 16000)
        await session.send_tool_response(function_responses=[answer(call, scheduling="INTERRUPT")])
        await asyncio.sleep(0.3)
        talked_over = bool(server.sessions[0].frames_with("serverContent", "modelTurn"))
        assert talked_over is not waits
        assert bool(mind.results) is not waits
        await session.send_realtime_input(audio_stream_end=True)
        await gemini.turn(session)
        await gemini.turn(session)
    assert len(mind.results) == 1


async def test_will_continue_keeps_the_call_open(gemini):
    mind = gemini.Mind(Reply(calls=[ToolCall("look_up")]), "Half.", "Whole.")
    async with gemini.serve(mind) as server, gemini.connect(server, tools=NON_BLOCKING) as session:
        await session.send_realtime_input(text="Look it up")
        (call,), _ = await next_call(session)
        await gemini.turn(session)
        for part, (goes_on, expected) in enumerate(((True, "Half."), (False, "Whole."))):
            await session.send_tool_response(function_responses=[answer(call, {"part": part}, will_continue=goes_on)])
            assert spoken(await gemini.turn(session)) == expected
        await session.send_tool_response(function_responses=[answer(call)])
        with pytest.raises(errors.APIError) as closed:
            await gemini.turn(session)
        assert closed.value.code == 1008
    assert [r.response for r in mind.results] == [{"part": 0}, {"part": 1}]


# --- 37


@pytest.mark.parametrize("declared", [True, False])
async def test_google_search_yields_grounding_metadata(gemini, declared):
    mind = gemini.Mind(Reply(say="It will rain.", search_queries=["weather tomorrow"]))
    tools = [{"google_search": {}}] if declared else None
    async with gemini.serve(mind) as server, gemini.connect(server, tools=tools) as session:
        await session.send_realtime_input(text="Weather?")
        messages = await gemini.turn(session)
    found = [m.server_content.grounding_metadata for m in messages if m.server_content]
    queries = [g.web_search_queries for g in found if g]
    assert queries == ([["weather tomorrow"]] if declared else [])
