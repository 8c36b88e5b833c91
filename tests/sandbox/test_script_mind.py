"""The scripted mind: does exactly what its script says, and says what is wrong with a script."""

from __future__ import annotations

import pytest

from sandbox.mind import ToolCall, ToolResult
from sandbox.script_mind import ScriptError, ScriptMind

BOOKING = """
- hear: any
  say: This is a scripted stand-in. What can I do for you?
- hear: cleaning|appointment
  say: One moment.
  thought: They want a cleaning.
  call: {name: book, args: {service: cleaning}}
  then:
    say: "Booked for {start}. You said: {heard}."
- hear: bye
  call: [end_call, {name: add_note, args: {text: done}}]
  then: {say: Goodbye.}
"""


def test_a_script_is_followed_step_by_step():
    mind = ScriptMind.from_yaml(BOOKING)
    mind.begin({})
    assert mind.on_user("hello", "audio").say.startswith("This is a scripted stand-in.")
    reply = mind.on_user("A CLEANING please", "audio")
    assert (reply.say, reply.thought) == ("One moment.", "They want a cleaning.")
    assert list(reply.calls) == [ToolCall("book", {"service": "cleaning"})]
    after = mind.on_tool_results([ToolResult("1", "book", {"start": "three o'clock"})])
    assert after.say == "Booked for three o'clock. You said: A CLEANING please."


def test_what_follows_several_calls_waits_for_all_results():
    mind = ScriptMind.from_yaml(BOOKING)
    mind.begin({})
    mind.on_user("hello", "text")
    assert [call.name for call in mind.on_user("bye bye", "text").calls] == ["end_call", "add_note"]
    assert mind.on_tool_results([ToolResult("1", "end_call", {})]).say == ""
    assert mind.on_tool_results([ToolResult("2", "add_note", {})]).say == "Goodbye."


def test_words_that_no_step_expects_are_answered_and_change_nothing():
    mind = ScriptMind.from_yaml("- {hear: cleaning, say: Of course}")
    mind.begin({})
    assert "no answer" in mind.on_user("a filling", "text").say
    assert mind.on_user("a cleaning", "text").say == "Of course"


def test_what_is_to_be_said_exactly_takes_no_step():
    mind = ScriptMind.from_yaml("- {hear: any, say: Hello}")
    mind.begin({})
    assert mind.on_user('[The call has just been answered. Say exactly: "Good day."]', "text").say == "Good day."
    assert mind.on_user("hi", "audio").say == "Hello"


def test_results_that_nothing_waits_for_are_taken_in_silence():
    mind = ScriptMind.from_yaml("- {hear: any, say: Hello}")
    mind.begin({})
    assert mind.on_tool_results([ToolResult("1", "book", {"ok": True})]).say == ""


def test_it_expects_to_hear_what_the_declared_functions_are_about():
    mind = ScriptMind.from_yaml("- {hear: any, say: Hello}")
    colours = {"type": "STRING", "enum": ["turquoise"]}
    mind.begin(
        {"tools": [{"functionDeclarations": [{"name": "paint", "parameters": {"properties": {"colour": colours}}}]}]}
    )
    assert "turquoise" in mind.grammar().vocabulary


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("", "not a list of steps"),
        ("hello", "not a list of steps"),
        ("- [", "script: is not YAML"),
        ("- {say: Hello}", "step 1: lacks 'hear'"),
        ("- {hear: any, say: Hello}\n- {hear: any}", "step 2: neither says nor calls"),
        ("- {hear: any, speak: Hello}", "unknown key 'speak'"),
        ("- {hear: '(', say: Hello}", "no regular expression"),
        ("- {hear: 5, say: Hello}", "not text"),
        ("- {hear: any, say: 5}", "not text"),
        ("- {hear: any, say: Hello, then: {say: Bye}}", "no 'call'"),
        ("- {hear: any, call: {args: {}}}", "Write: call:"),
        ("- {hear: any, call: {name: book, args: 3}}", "not a mapping"),
        ("- {hear: any, call: book, then: {hear: any, say: Bye}}", "then: follows a call"),
        ("- Hello", "not a mapping"),
    ],
)
def test_a_wrong_script_is_refused_with_step_and_cure(script, complaint):
    with pytest.raises(ScriptError, match=complaint.replace("(", r"\(")):
        ScriptMind.from_yaml(script)


def test_a_script_from_a_file_is_named_in_complaints(tmp_path):
    path = tmp_path / "angry.yaml"
    path.write_text("- {hear: any}")
    with pytest.raises(ScriptError, match=r"angry\.yaml, step 1"):
        ScriptMind.from_yaml(path)
