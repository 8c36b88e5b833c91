"""Every fault switch of the Gemini stand-in, as a client meets it (conformance item 44 and more)."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import time

import pytest
from google.genai import errors, types
from websockets.exceptions import InvalidHandshake, InvalidStatus

from sandbox.gemini import Close, FaultError, FaultPlan, Faults
from sandbox.gemini.server import add_arguments, run
from sandbox.gemini.turns import UNKNOWN_FUNCTION
from sandbox.mind import Reply, ToolCall

LONG = "word " * 24
BLOCKING = [{"function_declarations": [{"name": "look_up", "behavior": "BLOCKING"}]}]
LOOK_UP = Reply(calls=[ToolCall("look_up")])


def audio_ms(server, number=0):
    frames = server.sessions[number].frames_with("serverContent", "modelTurn")
    return sum(len(p["inlineData"]["data"]) * 3 // 4 // 48 for f in frames for p in f["parts"])


async def failing_turn(gemini, session):
    with pytest.raises(errors.APIError) as error:
        await gemini.turn(session)
    return error.value.code


def kinds(server, number=0):
    return [next(iter(f["serverContent"])) for f in server.sessions[number].frames if f.get("serverContent")]


# --- before the session is up


async def test_a_refused_connection_fails_in_the_handshake(gemini):
    async with gemini.serve(faults=Faults(refuse_connect=True)) as server:
        with pytest.raises((InvalidHandshake, OSError, EOFError)):
            async with gemini.connect(server):
                pass


@pytest.mark.parametrize("status", [429, 403, 503])
async def test_an_http_status_at_the_upgrade(gemini, status):
    async with gemini.serve(faults=Faults(upgrade_status=status)) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with gemini.connect(server):
                pass
        assert refused.value.response.status_code == status


async def test_a_slow_setup_takes_its_time(gemini):
    async with gemini.serve(faults=Faults(setup_seconds=10)) as server:
        began = time.monotonic()
        async with gemini.connect(server):
            assert time.monotonic() - began >= 1.0  # 10 s at speed 10


@pytest.mark.parametrize(
    ("faults", "code", "words"),
    [
        (Faults(wrong_key=True), 1007, "API key not valid"),
        (Faults(model_gone=True), 1008, "is not found for API version"),
        (Faults(setup_close=Close(1011, "You exceeded your current quota")), 1011, "quota"),
    ],
)
async def test_a_setup_that_is_refused(gemini, faults, code, words):
    async with gemini.serve(faults=faults) as server:
        with pytest.raises(errors.APIError, match=words) as refused:
            async with gemini.connect(server):
                pass
        assert refused.value.code == code


async def test_an_expired_handle_and_no_handle(gemini):
    async with gemini.serve() as server:
        async with gemini.connect(server, session_resumption={}):
            (update,) = await gemini.until(lambda: server.sessions[0].frames_with("sessionResumptionUpdate"))
        server.faults.every = Faults(expired_handle=True, no_handle=True)
        with pytest.raises(errors.APIError, match="not found"):
            async with gemini.connect(server, session_resumption={"handle": update["newHandle"]}):
                pass
        async with gemini.connect(server, session_resumption={}) as session:
            await session.send_realtime_input(text="Hi")
            await gemini.turn(session)
        assert server.sessions[2].frames_with("sessionResumptionUpdate") == []


# --- drops


async def test_1011_before_the_first_word(gemini):
    async with (
        gemini.serve(faults=Faults(close_before_first_word=(2,))) as server,
        gemini.connect(server) as session,
    ):
        await session.send_realtime_input(text="One")
        await gemini.turn(session)
        before = audio_ms(server)
        await session.send_realtime_input(text="Two")
        assert await failing_turn(gemini, session) == 1011
        assert audio_ms(server) == before


@pytest.mark.parametrize(("close", "code"), [(None, 1006), (Close(1011, "gone"), 1011)])
async def test_a_drop_in_mid_speech(gemini, close, code):
    faults = Faults(drop_at_bot_ms=1500, drop_close=close)
    async with gemini.serve(gemini.Mind(LONG), faults=faults) as server, gemini.connect(server) as session:
        await session.send_realtime_input(text="Talk")
        assert await failing_turn(gemini, session) == code
        assert audio_ms(server) == 1600
        assert server.sessions[0].close_code == code


async def test_a_drop_while_the_caller_speaks(gemini):
    async with gemini.serve(faults=Faults(drop_at_caller_ms=1500)) as server, gemini.connect(server) as session:
        await gemini.say(session, ms=500)
        assert (await gemini.turn(session))[-1].server_content.turn_complete
        blob = types.Blob(data=gemini.tone(1600), mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=blob)
        assert await failing_turn(gemini, session) == 1006


async def test_a_drop_between_call_and_result(gemini):
    faults = Faults(drop_in_tool_call=True)
    async with gemini.serve(gemini.Mind(LOOK_UP), faults=faults) as server:
        async with gemini.connect(server, tools=BLOCKING) as session:
            await session.send_realtime_input(text="Go")
            assert await failing_turn(gemini, session) == 1006
        assert len(server.sessions[0].frames_with("toolCall")) == 1


async def test_three_drops_in_a_row_by_session_number(gemini):
    plan = FaultPlan(sessions=dict.fromkeys((1, 2, 3), Faults(drop_after_ms=0)))
    async with gemini.serve(faults=plan) as server:
        for _ in range(3):
            async with gemini.connect(server) as session:
                assert await failing_turn(gemini, session) == 1006
        async with gemini.connect(server) as session:
            await session.send_realtime_input(text="Hi")
            assert (await gemini.turn(session))[-1].server_content.turn_complete
    assert [s.close_code for s in server.sessions] == [1006, 1006, 1006, 1000]


# --- hearing


async def test_mute_takes_audio_and_says_nothing(gemini):
    async with gemini.serve(faults=Faults(mute=True)) as server, gemini.connect(server) as session:
        await gemini.say(session)
        await session.send_realtime_input(text="Hello?")
        await gemini.until(lambda: server.sessions[0].texts)
        await asyncio.sleep(0.3)
        assert len(server.sessions[0].audio) == 1500 * 32
        assert kinds(server) == []


async def test_a_swallowed_utterance_is_not_answered(gemini):
    mind, ear = gemini.Mind("Yes?"), gemini.Ear("second")
    faults = Faults(swallowed_utterance=(1,))
    async with gemini.serve(mind, ear=ear, faults=faults) as server, gemini.connect(server) as session:
        await gemini.say(session)
        await gemini.say(session)
        await gemini.turn(session)
    assert mind.said == [("second", "audio")]


async def test_transcriptions_twice_and_missing(gemini):
    ear = gemini.Ear("one", "two")
    faults = Faults(duplicate_transcript=(1,), missing_transcript=(2,))
    async with gemini.serve(ear=ear, faults=faults) as server, gemini.connect(server) as session:
        for _ in range(2):
            await gemini.say(session)
            await gemini.turn(session)
        assert [t["text"] for t in server.sessions[0].frames_with("serverContent", "inputTranscription")] == [
            "one",
            "one",
        ]


async def test_a_pause_of_a_second_splits_the_turn_whatever_the_setup_says(gemini):
    ear = gemini.Ear("first", "second")
    detection = {"realtime_input_config": {"automatic_activity_detection": {"silence_duration_ms": 2000}}}
    for faults, utterances in ((Faults(), 1), (Faults(pause_split_ms=900), 2)):
        async with gemini.serve(ear=ear, faults=faults) as server, gemini.connect(server, **detection) as session:
            await gemini.say(session, pause_ms=1000)
            await gemini.say(session, pause_ms=2200)
            await gemini.turn(session)
            assert len(server.sessions[0].frames_with("voiceActivity")) == 2 * utterances


# --- turns


async def test_an_empty_turn_is_complete_without_audio(gemini):
    async with gemini.serve(faults=Faults(empty_turn=(1,))) as server, gemini.connect(server) as session:
        await session.send_realtime_input(text="Hi")
        messages = await gemini.turn(session)
        assert not any(m.data for m in messages)
        assert kinds(server) == ["turnComplete"]
        await session.send_realtime_input(text="Hi")
        assert any(m.data for m in await gemini.turn(session))


async def test_a_refused_turn_is_complete_without_audio_and_says_why(gemini):
    async with gemini.serve(faults=Faults(refused_turn=(1,))) as server, gemini.connect(server) as session:
        await session.send_realtime_input(text="Hi")
        messages = await gemini.turn(session)
        assert not any(m.data for m in messages)
        assert kinds(server) == ["turnComplete"]
        assert messages[-1].server_content.turn_complete_reason is types.TurnCompleteReason.RESPONSE_REJECTED
        await session.send_realtime_input(text="Hi")
        messages = await gemini.turn(session)
        assert any(m.data for m in messages)
        assert messages[-1].server_content.turn_complete_reason is None


async def test_a_missing_turn_complete_leaves_the_client_waiting_but_talks_on(gemini):
    async with (
        gemini.serve(gemini.Mind("One.", "Two."), faults=Faults(missing_turn_complete=(1,))) as server,
        gemini.connect(server) as session,
    ):
        await session.send_realtime_input(text="Hi")
        await gemini.until(lambda: "generationComplete" in kinds(server))
        await asyncio.sleep(0.2)
        assert "turnComplete" not in kinds(server)
        await session.send_realtime_input(text="Hi")
        await gemini.turn(session)
        assert kinds(server).count("turnComplete") == 1


async def test_two_parts_in_one_message(gemini):
    async with gemini.serve(faults=Faults(two_parts=True)) as server, gemini.connect(server) as session:
        await session.send_realtime_input(text="Hi")
        await gemini.turn(session)
        turns = server.sessions[0].frames_with("serverContent", "modelTurn")
        assert {len(turn["parts"]) for turn in turns} == {2}
        assert audio_ms(server) == 750


async def test_usage_in_a_message_of_its_own(gemini):
    async with gemini.serve(faults=Faults(usage_alone=True)) as server, gemini.connect(server) as session:
        await session.send_realtime_input(text="Hi")
        messages = await gemini.turn(session)
        assert messages[-1].usage_metadata is None
        await gemini.until(lambda: list(server.sessions[0].frames[-1]) == ["usageMetadata"])


# --- tools


async def test_a_call_is_cancelled_by_the_server_and_its_answer_ignored(gemini):
    mind = gemini.Mind(LOOK_UP, "Next.")
    faults = Faults(cancel_tool_call_ms=300)
    async with gemini.serve(mind, faults=faults) as server, gemini.connect(server, tools=BLOCKING) as session:
        await session.send_realtime_input(text="Go")
        messages = await gemini.turn(session)
        (call,) = next(m.tool_call for m in messages if m.tool_call).function_calls
        (cancelled,) = [m.tool_call_cancellation.ids for m in messages if m.tool_call_cancellation]
        assert cancelled == [call.id]
        late = types.FunctionResponse(id=call.id, name="look_up", response={})
        await session.send_tool_response(function_responses=[late])
        await session.send_realtime_input(text="And?")
        assert (await gemini.turn(session))[-1].server_content.turn_complete
    assert mind.results == []


async def test_a_function_nobody_declared_then_the_real_reply(gemini):
    faults = Faults(unknown_function_call=(1,))
    mind = gemini.Mind("The real answer.")
    async with gemini.serve(mind, faults=faults) as server, gemini.connect(server, tools=BLOCKING) as session:
        await session.send_realtime_input(text="Go")
        async for message in session.receive():
            for call in message.tool_call.function_calls if message.tool_call else ():
                assert call.name == UNKNOWN_FUNCTION
                refusal = types.FunctionResponse(id=call.id, name=call.name, response={"error": "unknown"})
                await session.send_tool_response(function_responses=[refusal])
        assert audio_ms(server) == 750
    assert mind.results == []


async def test_1008_on_audio_during_a_tool_call(gemini):
    faults = Faults(refuse_audio_in_tool_call=True)
    async with (
        gemini.serve(gemini.Mind(LOOK_UP), faults=faults) as server,
        gemini.connect(server, tools=BLOCKING) as session,
    ):
        await session.send_realtime_input(audio=types.Blob(data=bytes(3200), mime_type="audio/pcm;rate=16000"))
        await session.send_realtime_input(text="Go")
        await gemini.until(lambda: server.sessions[0].frames_with("toolCall"))
        await session.send_realtime_input(audio=types.Blob(data=bytes(3200), mime_type="audio/pcm;rate=16000"))
        assert await failing_turn(gemini, session) == 1008
        assert "not implemented, or supported, or enabled" in server.sessions[0].close_reason


# --- setting them


async def test_faults_can_be_set_while_a_session_is_up(gemini):
    async with gemini.serve() as server, gemini.connect(server) as session:
        await session.send_realtime_input(text="Hi")
        await gemini.turn(session)
        server.faults.sessions[1] = Faults(drop_at_bot_ms=0)
        await session.send_realtime_input(text="Hi")
        assert await failing_turn(gemini, session) == 1006


async def test_a_bug_in_the_mind_closes_with_1011_and_harms_no_other_session(gemini):
    class BrokenMind(gemini.Mind):
        def on_user(self, text, source):
            if text == "break":
                raise ZeroDivisionError
            return super().on_user(text, source)

    async with gemini.serve(BrokenMind) as server, gemini.connect(server) as one, gemini.connect(server) as two:
        await one.send_realtime_input(text="break")
        assert await failing_turn(gemini, one) == 1011
        await two.send_realtime_input(text="Hi")
        assert (await gemini.turn(two))[-1].server_content.turn_complete


def test_a_fault_file_is_read(tmp_path):
    path = tmp_path / "faults.yaml"
    path.write_text(
        """
every: {setup_seconds: 2}
sessions:
  1: {drop_at_bot_ms: 1500, drop_close: {code: 1011, reason: gone}}
  "2-4": {drop_after_ms: 0}
  5: {empty_turn: [2, 3], mute: true, swallowed_utterance: 1}
"""
    )
    plan = FaultPlan.from_file(path)
    assert plan.of(1) == Faults(drop_at_bot_ms=1500, drop_close=Close(1011, "gone"))
    assert plan.of(2) == plan.of(4) == Faults(drop_after_ms=0)
    assert plan.of(5) == Faults(empty_turn=(2, 3), mute=True, swallowed_utterance=(1,))
    assert plan.of(6) == Faults(setup_seconds=2.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "'every' and/or 'sessions'"),
        ("every: {dorp: 1}", "no fault switch 'dorp'"),
        ("every: [1]", "expected a mapping of fault switches"),
        ("every: {mute: 1}", "every.mute: expected true or false"),
        ("every: {drop_close: 1011}", "expected {code: 1011"),
        ("every: {empty_turn: [0]}", "turn numbers from 1"),
        ("every: {drop_after_ms: soon}", "expected a number"),
        ("every: {drop_after_ms: -1}", "expected a number"),
        ("sessions: {first: {}}", "neither a number from 1 nor a range"),
        ("every: {mute: [", "faults.yaml"),
    ],
)
def test_a_wrong_fault_file_says_where_and_what(tmp_path, text, words):
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    with pytest.raises(FaultError, match=words.replace("[", r"\[").replace("{", r"\{")):
        FaultPlan.from_file(path)
    with pytest.raises(FaultError):
        FaultPlan.from_file(tmp_path / "missing.yaml")


def test_every_switch_takes_a_value_of_its_kind_from_yaml():
    samples = {"bool": True, "int | None": 5, "float": 1.5, "float | None": 1.5, "tuple[int, ...]": [1]}
    for switch in dataclasses.fields(Faults):
        value = samples.get(str(switch.type), {"code": 1011, "reason": "r"})
        assert Faults.from_mapping({switch.name: value}) != Faults() or value == 1.5


async def test_a_port_that_is_taken_is_an_error_not_an_exit(gemini):
    async with gemini.serve() as server:
        with pytest.raises(OSError, match="in use"):
            async with gemini.serve(port=server.port):
                pass


async def test_the_command_serves_and_says_it_is_a_stand_in(gemini, capsys, tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    faults = tmp_path / "faults.yaml"
    faults.write_text("every: {upgrade_status: 429}")
    task = asyncio.create_task(run(parser.parse_args(["--port", "0", "--faults", str(faults)])))
    said = ""

    def announced():
        nonlocal said
        said += capsys.readouterr().out
        return "http://127.0.0.1:" in said

    await gemini.until(announced)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "not Gemini" in said
    faults.write_text("every: {dorp: 1}")
    with pytest.raises(SystemExit, match="no fault switch 'dorp'"):
        await run(parser.parse_args(["--faults", str(faults)]))
