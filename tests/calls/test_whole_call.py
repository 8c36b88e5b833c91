"""Calls from webhook to hang-up: what the caller heard, what the desk holds, what the tape says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.conversation import Turn
from sandbox.mind import Reply, ToolCall


async def test_a_caller_is_greeted_answered_and_seen_out(open_site: Any, say: Callable[..., Turn]) -> None:
    from fakes.gemini import ListedMind

    mind = ListedMind("We are open from eight to five.", Reply(calls=[ToolCall("end_call")]), "Goodbye.")
    async with open_site(mind) as site:
        record = await site.ring(say(), say())
        events = await site.tape_of(record.call_sid)
    kinds = [event.kind for event in events]
    assert record.problems() == []
    assert kinds[0] == "call_received"
    assert kinds[-1] == "call_ended"
    assert events[-1].reason == "goodbye"
    said = [event for event in events if event.kind == "bot_said"]
    assert [event.text for event in said[1:]] == ["We are open from eight to five.", "Goodbye."]
    assert all(event.heard == 1.0 and not event.interrupted for event in said)
    assert record.ended_by != "caller"
