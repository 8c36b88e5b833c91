"""What a call was made of is freed when it ends, however it ends, without the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.gemini import END_CALL, ListedMind
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.workers.runner import WorkerRunner
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol

from bot import calls
from bot.call import Call
from bot.carriers.media_socket import MediaSocket
from bot.errors import StreamRejected
from bot.events import Trouble
from bot.flow import Week
from bot.gemini_client import TappedSocket
from bot.lane import CallTransport
from bot.tape import TapeWriter
from bot.tools import ToolBox
from sandbox.conversation import Habits, Turn
from sandbox.gemini.faults import Faults
from sandbox.mind import Reply, ToolCall
from sandbox.twilio import Callee
from sandbox.twilio.record import CallRecord

Say = Callable[..., Turn]
PARKING = Reply(calls=[ToolCall("answer_question", {"question": "Where can I park?"})])
OF_A_CALL = (
    Call,
    PipelineWorker,
    WorkerRunner,
    FrameProcessor,
    CallTransport,
    MediaSocket,
    TappedSocket,
    ClientConnection,
    ClientProtocol,
    TapeWriter,
    ToolBox,
)


@pytest.fixture
def others() -> Iterator[list[Any]]:
    """What other tests have left, such as those that failed; from here on the garbage collector does nothing."""
    gc.collect()
    gc.disable()
    yield parts_of_calls()
    gc.enable()


def parts_of_calls() -> list[Any]:
    # By class, not by `isinstance`: that asks proxies whose object may be gone.
    objects = gc.get_objects()
    # Each class is asked once: there are millions of objects late in a test run.
    kinds = {kind for kind in {type(each) for each in objects} if issubclass(kind, OF_A_CALL)}
    return [each for each in objects if type(each) in kinds]


def is_the_phones(part: Any) -> bool:
    protocol = part.protocol if isinstance(part, ClientConnection) else part
    return isinstance(protocol, ClientProtocol) and "/twilio/" in protocol.uri.path


async def left_of_calls(others: list[Any]) -> list[str]:
    """The parts of calls that are in memory, once the stand-ins have let go of their sockets, too."""
    known, found = {id(each) for each in others}, [""]
    for _ in range(20):
        found = [type(each).__name__ for each in parts_of_calls() if id(each) not in known and not is_the_phones(each)]
        if not found:
            break
        await asyncio.sleep(0.1)
    return found


async def seen_out(site: Any, say: Say) -> CallRecord:
    return await site.ring(say(), say())


async def hung_up(site: Any, say: Say) -> CallRecord:
    return await site.ring(say(), habits=Habits(linger_ms=1_500, hello_ms=20_000))


async def lost_its_model(site: Any, say: Say) -> CallRecord:
    site.gemini.faults.every = Faults(drop_at_bot_ms=200)
    return await site.ring(say(), say())


@pytest.mark.parametrize("kind", [seen_out, hung_up, lost_its_model])
async def test_nothing_of_a_call_stays_in_memory(open_site: Any, say: Say, others: list[Any], kind: Any) -> None:
    async with open_site(lambda: ListedMind(PARKING, "Behind the house.", END_CALL, "Goodbye.")) as site:
        record = await kind(site, say)
        assert await site.tape_of(record.call_sid)
        assert await left_of_calls(others) == []


async def test_nothing_of_a_call_that_was_handed_over_stays_in_memory(
    open_site: Any, say: Say, others: list[Any]
) -> None:
    asks = Reply(calls=[ToolCall("transfer_to_human", {"reason": "A bill."})])
    always = Week.model_validate(dict.fromkeys(Week.model_fields, "0:00-24:00"))
    async with open_site(ListedMind(asks), staffed=always) as site:
        site.phone.callees = {"+12075550123": Callee(rings_ms=400, talks_ms=500)}
        record = await site.ring(say(), habits=Habits(end_ms=800, stays=True, hello_ms=60_000))
        events = await site.tape_of(record.call_sid)
        assert await left_of_calls(others) == []
        # What the carrier may still ask is answered as before.
        assert site.call(record.call_sid).after_stream().then == "hang_up"
    assert events[-1].reason == "transferred"


async def test_a_call_that_is_over_is_known_for_a_while_and_opens_no_stream(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(lambda: ListedMind(END_CALL, "Goodbye.")) as site:
        record = await site.ring(say())
        sid = record.call_sid
        await site.tape_of(sid)
        known = site.app.state.calls
        told = {"call_sid": sid, "account_sid": "AC1", "from_number": "+12075550100", "to_number": "+1"}
        ended = known.receive(**told)
        assert ended is known.get(sid)
        assert (ended.stream_token, ended.after_stream().then) == ("", "hang_up")
        with pytest.raises(StreamRejected) as refused:
            known.claim_stream(sid, "")
        assert refused.value.kind == "call_over"
        ended.carrier_status("completed", 9)
        ended.carrier_failed(Trouble("carrier_fallback", "carrier", "nothing", "11205"))
        assert site.failures()["carrier_fallback"] == 1
        monkeypatch.setattr(calls, "KEEP_SECONDS", 0.0)
        await site.ring(say())
        assert known.get(sid) is None
    assert [event.kind for event in site.of("call_ended", sid)] == ["call_ended"]


async def test_an_older_generation_is_collected_only_while_few_calls_are_up(
    open_site: Any, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "COLLECT_CALLS", 1)
    monkeypatch.setattr(calls, "QUIET_CALLS", 1)
    full: list[int] = []

    def told(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            full.append(len(site.app.state.calls.in_progress))

    async with open_site(lambda: ListedMind(END_CALL, "Goodbye.")) as site:
        gc.disable()
        gc.callbacks.append(told)
        try:
            short = [asyncio.create_task(site.ring(say())) for _ in range(3)]
            await asyncio.gather(*short)
            for record in short:
                await site.call(record.result().call_sid).over()
            await asyncio.sleep(0.1)
        finally:
            gc.callbacks.remove(told)
            gc.enable()
    assert full
    assert max(full) <= 1
