"""Turns of the Gemini stand-in as the official SDK sees them (conformance items 14 to 24)."""

from __future__ import annotations

from sandbox.mind import Reply, ToolCall


def audio_of(messages):
    return b"".join(m.data for m in messages if m.data)


def spoken_text(messages):
    found = [m.server_content.output_transcription for m in messages if m.server_content]
    return "".join(t.text for t in found if t and t.text)


async def test_typed_text_is_answered_in_audio_words_and_usage(gemini):
    mind = gemini.Mind("Hello, this is a stand-in.")
    async with gemini.serve(mind) as server, gemini.connect(server) as session:
        await session.send_realtime_input(text="Hi")
        messages = await gemini.turn(session)
    assert mind.said == [("Hi", "text")]
    assert len(audio_of(messages)) == 5 * 24000 // 4 * 2
    assert spoken_text(messages) == "Hello, this is a stand-in."
    kinds = [m.server_content for m in messages if m.server_content]
    complete = [i for i, c in enumerate(kinds) if c.generation_complete]
    assert complete == [len(kinds) - 2]
    assert kinds[-1].turn_complete
    assert messages[-1].usage_metadata.response_token_count == 31


async def test_spoken_words_are_heard_transcribed_and_answered(gemini):
    mind, ear = gemini.Mind("Sure."), gemini.Ear("I want an appointment")
    async with gemini.serve(mind, ear=ear) as server, gemini.connect(server) as session:
        await gemini.say(session)
        messages = await gemini.turn(session)
    assert mind.said == [("I want an appointment", "audio")]
    heard = [m.server_content.input_transcription for m in messages if m.server_content]
    assert [t.text for t in heard if t] == ["I want an appointment"]
    assert spoken_text(messages) == "Sure."


async def test_a_tool_round_gives_the_result_to_the_mind_and_speaks_its_answer(gemini):
    mind = gemini.Mind(Reply(calls=[ToolCall("book", {"day": "Monday"})]), "Booked.")
    tools = [{"function_declarations": [{"name": "book", "parameters": {"type": "OBJECT"}, "behavior": "BLOCKING"}]}]
    async with gemini.serve(mind) as server, gemini.connect(server, tools=tools) as session:
        await session.send_realtime_input(text="Book Monday")
        messages = []
        async for message in session.receive():
            messages.append(message)
            for call in message.tool_call.function_calls if message.tool_call else ():
                await session.send_tool_response(
                    function_responses=[{"id": call.id, "name": call.name, "response": {"ok": True}}]
                )
    (called,) = [m.tool_call.function_calls for m in messages if m.tool_call]
    assert (called[0].name, called[0].args) == ("book", {"day": "Monday"})
    assert [r.response for r in mind.results] == [{"ok": True}]
    assert spoken_text(messages) == "Booked."
