"""What answers inside the Gemini stand-in: a `Mind` is told what the caller said and says what happens next.

A mind is pure and synchronous: no clock, no I/O, no threads. It is NOT a language model, and its first words must say
that it is a stand-in. The session (`sandbox.gemini.session`) turns a `Reply` into protocol frames.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from sandbox.ear import Grammar


_SAY_EXACTLY = re.compile(r'Say exactly:\s*"(.*)"', re.DOTALL)


def words_to_say(text: str) -> str | None:
    """The words that a client wants spoken as they are (`Say exactly: "..."`, as for a greeting); None for others."""
    asked = _SAY_EXACTLY.search(text)
    return asked[1] if asked else None


@dataclass(frozen=True)
class ToolCall:
    """One function the mind wants run. The session gives it its id."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolResult:
    """The client's answer to one call: `id` and `name` of the call, `response` as sent (a JSON object)."""

    id: str
    name: str
    response: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the mind does next: words to speak and functions to call (both may be empty: then it stays silent).

    `thought` becomes a thought part (only where the profile and `includeThoughts` show them); `search_queries` become
    `groundingMetadata` (only when the setup declares `googleSearch`).
    """

    say: str = ""
    calls: Sequence[ToolCall] = ()
    thought: str = ""
    search_queries: Sequence[str] = ()


class Mind(Protocol):
    """One conversation. The session calls it from the event loop, one call at a time."""

    def begin(self, setup: dict[str, Any]) -> None:
        """The camelCase-normalised `setup`. Called again on the same mind when a session is resumed and when a
        `contextUpdate` changes instruction or tools: the conversation so far must then be kept."""

    def on_user(self, text: str, source: Literal["audio", "text"]) -> Reply:
        """The user's turn: recognised speech ("" if nothing was understood) or typed text (" " is a bare nudge)."""

    def on_tool_results(self, results: list[ToolResult]) -> Reply:
        """Answers to calls of an earlier reply, in the order they came."""

    def grammar(self) -> Grammar:
        """What it expects to hear next, for the recogniser."""


@runtime_checkable
class NoticesInterruption(Protocol):
    """A mind that wants to know when it was cut off."""

    def interrupted(self, sent: str) -> None:
        """The reply under way was cut off when no more than `sent` of its words had gone out."""


@runtime_checkable
class Remembers(Protocol):
    """A mind that can take a conversation from elsewhere (history seeded through `clientContent`)."""

    def remember(self, turns: list[tuple[Literal["user", "model"], str]]) -> None:
        """Earlier turns, oldest first; nothing is to be answered."""
