"""A mind that follows a YAML script: for tests that need one certain answer rather than a conversation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from sandbox.grammar import Grammar
from sandbox.mind import Reply, ToolCall, ToolResult, words_to_say

_KEYS = {"hear", "say", "call", "thought", "search", "then"}
_ANYTHING = "any"


class ScriptError(ValueError):
    """A script is wrong. The message names the step, what is wrong and what to write instead."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


@dataclass(frozen=True)
class Step:
    """When `hear` matches what the user said, reply; `then` is what follows the results of the calls."""

    hear: re.Pattern[str]
    say: str = ""
    calls: tuple[ToolCall, ...] = ()
    thought: str = ""
    searches: tuple[str, ...] = ()
    then: Step | None = None

    def reply(self, fill: Callable[[str], str] = str) -> Reply:
        """What the step says and calls; `fill` completes its words."""
        return Reply(fill(self.say), self.calls, self.thought, self.searches)


class ScriptMind:
    """Follows the steps of a script in order; see docs/sandbox-mind.md for the format.

    A step answers when its `hear` (a regular expression, found anywhere, whatever the case) matches. The first step
    after the last one used that matches is taken; when none does, it says that it has nothing to say and stays where it
    is. In `say`, `{heard}` is what the user said and `{key}` a key of the last result.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self._next = 0
        self._pending: Step | None = None
        self._expected = 0
        self._facts: dict[str, Any] = {}
        self._grammar = Grammar.from_tools(())

    @classmethod
    def from_yaml(cls, script: str | Path) -> ScriptMind:
        """A script as text or as a file. Raises ScriptError."""
        text = script.read_text("utf-8") if isinstance(script, Path) else script
        name = script.name if isinstance(script, Path) else "script"
        try:
            listed = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ScriptError(name, f"is not YAML: {error}") from error
        if not isinstance(listed, list) or not listed:
            raise ScriptError(name, "is not a list of steps. Write: - {hear: any, say: Hello}")
        return cls([_read_step(step, f"{name}, step {number}") for number, step in enumerate(listed, 1)])

    def begin(self, setup: dict[str, Any]) -> None:
        """The declared functions are what the script may be told about."""
        declarations = [each for tool in setup.get("tools") or () for each in tool.get("functionDeclarations") or ()]
        self._grammar = Grammar.from_tools(declarations)

    def on_user(self, text: str, source: Literal["audio", "text"]) -> Reply:
        """The reply of the next step that matches. What is to be said exactly is said, and takes no step."""
        if (exact := words_to_say(text)) is not None:
            return Reply(exact)
        self._facts["heard"] = text
        for number in range(self._next, len(self._steps)):
            if self._steps[number].hear.search(text):
                self._next = number + 1
                return self._take(self._steps[number])
        return Reply(say="The script has no answer to that.")

    def on_tool_results(self, results: list[ToolResult]) -> Reply:
        """What follows (`then`) when all results are there."""
        for result in results:
            self._facts.update(result.response)
        self._expected -= len(results)
        if self._expected > 0 or self._pending is None:
            return Reply()
        return self._take(self._pending)

    def grammar(self) -> Grammar:
        """Everything that the declared functions let expect."""
        return self._grammar

    def _take(self, step: Step) -> Reply:
        self._pending, self._expected = step.then, len(step.calls)
        return step.reply(self._fill)

    def _fill(self, words: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: str(self._facts.get(match[1], match[0])), words)


def _read_step(step: Any, place: str, *, follows: bool = False) -> Step:
    if not isinstance(step, dict):
        raise ScriptError(place, f"is {step!r}, not a mapping. Write: {{hear: any, say: Hello}}")
    if unknown := set(step) - _KEYS:
        raise ScriptError(place, f"has the unknown key {min(map(str, unknown))!r}. Known: {', '.join(sorted(_KEYS))}.")
    if follows and "hear" in step:
        raise ScriptError(place, "follows a call, so it cannot wait for words. Take 'hear' out of 'then'.")
    if not follows and "hear" not in step:
        raise ScriptError(place, "lacks 'hear'. Write a regular expression, or: hear: any")
    if "say" not in step and "call" not in step:
        raise ScriptError(place, "neither says nor calls anything. Give it 'say', 'call' or both.")
    if "then" in step and "call" not in step:
        raise ScriptError(place, "has 'then' but no 'call' whose result it could follow.")
    calls = step.get("call") or []
    then = _read_step(step["then"], f"{place}, then", follows=True) if "then" in step else None
    return Step(
        hear=_pattern(step.get("hear", _ANYTHING), place),
        say=_text(step, "say", place),
        calls=tuple(_read_call(call, place) for call in (calls if isinstance(calls, list) else [calls])),
        thought=_text(step, "thought", place),
        searches=tuple(map(str, step.get("search") or ())),
        then=then,
    )


def _pattern(hear: Any, place: str) -> re.Pattern[str]:
    if not isinstance(hear, str):
        raise ScriptError(place, f"hears {hear!r}, which is not text. Put it in quotes.")
    try:
        return re.compile("" if hear == _ANYTHING else hear, re.IGNORECASE)
    except re.error as error:
        raise ScriptError(place, f"hears {hear!r}, which is no regular expression: {error}.") from error


def _text(step: dict[str, Any], key: str, place: str) -> str:
    value = step.get(key, "")
    if not isinstance(value, str):
        raise ScriptError(place, f"has {key}: {value!r}, which is not text. Put it in quotes.")
    return value


def _read_call(call: Any, place: str) -> ToolCall:
    if isinstance(call, str):
        return ToolCall(call)
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or set(call) - {"name", "args"}:
        raise ScriptError(place, f"calls {call!r}. Write: call: {{name: book, args: {{day: Monday}}}}")
    args = call.get("args") or {}
    if not isinstance(args, dict):
        raise ScriptError(place, f"calls {call['name']} with args {args!r}, which is not a mapping.")
    return ToolCall(call["name"], args)
