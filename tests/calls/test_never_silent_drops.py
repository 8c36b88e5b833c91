"""However often the model's connection drops, the line is never silent for long: measured in what the caller heard."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from fakes.events import said
from fakes.gemini import END_CALL, ListedMind

from sandbox import sound
from sandbox.conversation import Habits, Turn
from sandbox.gemini import FaultPlan
from sandbox.gemini.faults import Faults
from sandbox.mind import Reply, ToolCall
from sandbox.twilio.record import CallRecord

Say = Callable[..., Turn]
MODELS = ("gemini-3.8-live", "gemini-3.1-flash-live-preview")
FILL_MS = 3_000 + 900
"""A silence on the bot's turn is filled after 3 s. The line is looked at every 200 ms, and a loaded machine is slow."""
FILL_AGAIN_MS = 5_000 + 900
"""After a phrase the next silence is filled after 5 s, if the call has not ended in words before."""
LONG = " ".join(["word"] * 40)
PARKING = Reply(calls=[ToolCall("answer_question", {"question": "Where can I park?"})])
ANSWER = "Here I am."


def plan(drops: int, first: Faults, later: Faults | None = None) -> FaultPlan:
    """`drops` sessions that drop, then good ones."""
    return FaultPlan(sessions={1: first} | dict.fromkeys(range(2, drops + 1), later or first))


def silences(record: CallRecord) -> list[float]:
    """Stretches without a voice on the line, in ms, from the caller's first word to the last one the caller heard.

    The caller speaks once, so that all of it is the bot's turn.
    """
    both = sound.mix(record.said, record.heard)
    begun = record.said_segments[0].start_ms
    voices = [segment for segment in sound.segments(both, join_ms=100) if segment.end_ms >= begun]
    return [later.start_ms - earlier.end_ms for earlier, later in pairwise(voices)]


GOODBYE = "in the goodbye"
WHERE = {
    "while the caller speaks": (Faults(drop_at_caller_ms=400), None, lambda: ListedMind(ANSWER)),
    "while the bot speaks": (Faults(drop_at_bot_ms=600), None, lambda: ListedMind(*[LONG] * 12)),
    "while a function runs": (
        Faults(drop_in_tool_call=True),
        Faults(drop_after_ms=300),
        lambda: ListedMind(PARKING, *[ANSWER] * 12),
    ),
    GOODBYE: (Faults(drop_at_bot_ms=600), None, lambda: ListedMind(END_CALL, *[LONG] * 12)),
}


async def ring(open_site: Any, say: Say, where: str, drops: int, tls: ssl.SSLContext | None) -> tuple[Any, list[Any]]:
    """The site and the tape of a call with so many drops, in real time, on which no silence was long."""
    first, later, mind = WHERE[where]
    habits = Habits(linger_ms=6_000, hello_ms=60_000)
    one = mind()
    gemini = {"faults": plan(drops, first, later), "tls": tls}
    async with open_site(one, gemini=gemini, gemini_models=MODELS) as site:
        record = await site.ring(say(900), habits=habits)
        events = await site.tape_of(record.call_sid)
    wait, *further = silences(record)
    assert wait <= FILL_MS
    assert all(silence <= FILL_AGAIN_MS for silence in further)
    return site, events


def failed(events: list[Any]) -> list[tuple[str, str]]:
    return [(event.model, event.failure) for event in events if event.kind == "model_failed"]


@pytest.mark.parametrize("where", [where for where in WHERE if where != GOODBYE])
@pytest.mark.parametrize("drops", [2, 3])
async def test_two_or_three_drops_in_a_row_leave_no_long_silence(
    open_site: Any, say: Say, secure: ssl.SSLContext, where: str, drops: int
) -> None:
    """Three drops over TLS, two over plain sockets."""
    _, events = await ring(open_site, say, where, drops, secure if drops == 3 else None)
    assert said(events)[-1] in (ANSWER, LONG)
    assert failed(events) == [(MODELS[0], "dropped")] * drops
    assert events[-1].reason == "caller_hung_up"


@pytest.mark.parametrize("where", [where for where in WHERE if where != GOODBYE])
async def test_ten_drops_in_a_row_leave_no_long_silence_and_end_in_words(
    open_site: Any, say: Say, secure: ssl.SSLContext, where: str
) -> None:
    """The middle one over TLS."""
    _, events = await ring(open_site, say, where, 10, secure if where == "while the bot speaks" else None)
    assert failed(events) == [(MODELS[0], "dropped")] * 5 + [(MODELS[1], "dropped")] * 5
    assert events[-1].reason == "model_lost"


@pytest.mark.parametrize("drops", [2, 3, 10])
async def test_drops_in_the_goodbye_leave_no_long_silence(
    open_site: Any, say: Say, secure: ssl.SSLContext, drops: int
) -> None:
    site, events = await ring(open_site, say, GOODBYE, drops, secure if drops == 3 else None)
    assert said(events)[-1] == site.flow.phrases.goodbye
    assert events[-1].reason == "goodbye"
