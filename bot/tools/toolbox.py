"""Runs the tools of one call: may it run in this step, are its arguments valid, was it done before, what came out.

Whatever happens the model gets an answer that it can act on. A read is dropped when its call is withdrawn. A write
runs to its end even if the handler that waits for it is cancelled (an interruption) or its call is withdrawn, and the
same wish again, under the same call id or another, gets the first result instead of a second booking.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from loguru import logger

from bot.errors import DeskRefusal
from bot.events import CallEvent, StepEntered, ToolCalled, ToolCancelled, ToolReturned
from bot.ports import Clock, utc
from bot.steps import Steps
from bot.tools.booking import slot_data
from bot.tools.briefing import briefing, step_words
from bot.tools.registry import TOOLS, Answer, CallFacts, CallMemory, Here, NotValid, Tool, ToolDeclaration, Work, plain
from desk.business import Service, Staff
from desk.commands import command_key
from desk.desk import Desk, Slot

if TYPE_CHECKING:
    from bot.flow import Flow

Status = Literal["ok", "refused", "invalid", "unknown", "timeout", "error", "repeated"]

_FINISH_SECONDS = 10.0


class Reply(NamedTuple):
    """What the model is answered. `key` names what was written, where anything was."""

    status: Status
    result: dict[str, Any]
    key: str = ""


@dataclass(frozen=True)
class UnheardResult:
    """What a write came to after the model had stopped waiting for it."""

    call_id: str
    name: str
    result: dict[str, Any]


@dataclass(eq=False)
class _Job:
    """One run of a tool. `waiting` count those who wait for it, `heard`: one got the result, `left`: all have gone."""

    call_id: str
    tool: Tool
    wish: str
    raw: dict[str, Any]
    task: asyncio.Task[Reply]
    started_ns: int
    waiting: int = 0
    heard: bool = False
    left: bool = False

    @property
    def dropped(self) -> bool:
        """Whether it is a read that was given up."""
        return self.left and not self.tool.writes

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self.task.done() and not self.task.cancelled() and self.task.result().status == "ok"


class ToolBox:
    """The tools of one call. `record` takes the call's events; all methods belong to the event loop's thread."""

    def __init__(
        self, flow: Flow, desk: Desk, clock: Clock, call: CallFacts, record: Callable[[CallEvent], None]
    ) -> None:
        self._flow, self._desk, self._clock, self._call, self._record = flow, desk, clock, call, record
        self._business = desk.business
        self._tools = {use.name: TOOLS[use.name] for use in flow.tools}
        self._timeouts = {use.name: use.timeout_seconds for use in flow.tools}
        self._caller_number = call.caller_number
        self._memory = CallMemory()
        self._jobs: dict[str, _Job] = {}  # by call id
        self._wishes: dict[str, _Job] = {}  # writes that run or went well, by what was wished
        self._times: dict[str, int] = {}  # how often a wish was taken back, so that it may be fulfilled anew
        self._running: list[_Job] = []
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._withdrawn: set[str] = set()
        self._never_begun: set[str] = set()
        self._unheard: list[_Job] = []
        self._done_words: list[str] = []
        self.steps: Steps = flow.new_steps()
        self.declarations: list[ToolDeclaration] = [tool.declaration(self._business) for tool in self._tools.values()]
        self.wants_hang_up = False
        self.wants_person = ""
        record(StepEntered(self.steps.current.name))

    def system_instruction(self) -> str:
        """Everything the model is told at connect, as of now: after a reconnect it has the current step."""
        return briefing(self._flow, self._business, self._now(), self.steps, self._done_words)

    async def run(self, call_id: str, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run a tool and return the answer for the model. Never raises, but for the cancellation of this very task.

        An answer that went well has ``say`` (words to speak) and the tool's data, and ``next_step`` when the
        conversation moved on; any other has ``error`` (why) and ``hint`` (what to do), perhaps ``alternatives``.
        """
        started = self._clock.now_ns()
        raw = plain(args) if isinstance(args, dict) else {"arguments": plain(args)}
        call_id, name = plain(str(call_id)), plain(str(name))
        self._record(ToolCalled(call_id, name, raw, self.steps.current.name))
        reply = await self._answer(call_id, name, raw, started)
        if reply is None:
            return {"error": "The call was withdrawn."}
        self._returned(call_id, name, reply, started)
        return reply.result

    def cancel(self, call_id: str) -> None:
        """The model withdrew a call (``toolCallCancellation``). Unknown and repeated ids do no harm."""
        if not call_id or call_id in self._withdrawn:
            return
        self._note_withdrawn(call_id)
        job, waiters = self._jobs.get(call_id), self._waiters.get(call_id, [])
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if job is None:
            self._never_begun.add(call_id)
        elif not waiters and job.heard:
            job.heard = False  # its result crossed the cancellation and is ignored
            self._keep_unheard(job)

    def unheard_results(self) -> list[UnheardResult]:
        """Results of writes that ended after the model had stopped waiting. Each is handed out once, oldest first."""
        jobs, self._unheard = [job for job in self._unheard if not job.heard], []
        for job in jobs:
            job.heard = True
        return [UnheardResult(job.call_id, job.tool.name, job.task.result().result) for job in jobs]

    async def finish(self, within_seconds: float = _FINISH_SECONDS) -> int:
        """Drop reads and wait, at most `within_seconds`, for writes. How many writes are still running then."""
        tasks = [job.task for job in self._running]
        for job in self._running:
            if not job.tool.writes:
                job.task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=within_seconds)
        left = sum(not task.done() for task in tasks)
        if left:
            logger.error("{} writes of a call have not ended after {} s", left, within_seconds)
        return left

    # -- one call ------------------------------------------------------------------------------------------------------

    async def _answer(self, call_id: str, name: str, raw: dict[str, Any], started: int) -> Reply | None:
        """The answer, or None if the call was withdrawn."""
        earlier = self._jobs.get(call_id)
        if earlier and (earlier.tool.name, earlier.raw) == (name, raw) and not earlier.dropped:
            return await self._repeat(call_id, earlier)
        if call_id in self._never_begun:
            self._never_begun.discard(call_id)
            return None
        tool = self._tools.get(name)
        if tool is None:
            hint = f"There are these tools: {', '.join(self._tools)}."
            return Reply("unknown", {"error": f"There is no tool {name[:60]!r}.", "hint": hint})
        refusal = self.steps.refusal(name)
        here = Here(self._business, self._now(), self._caller_number)
        try:
            values = tool.understand(raw, here)
        except NotValid as problems:
            return Reply("refused", _step_refusal(refusal)) if refusal else Reply("invalid", _invalid(problems))
        wish = _wish(name, values)
        if tool.writes and wish in self._wishes:
            return await self._repeat(call_id, self._wishes[wish])
        if refusal:
            return Reply("refused", _step_refusal(refusal))
        job = self._begin(call_id, tool, wish, raw, values, here, started)
        return await self._wait(call_id, job)

    def _begin(
        self, call_id: str, tool: Tool, wish: str, raw: dict[str, Any], values: dict[str, Any], here: Here, started: int
    ) -> _Job:
        key = command_key(self._call.call_sid, f"{wish}\0{self._times.get(wish, 0)}")
        work = Work(self._desk, self._call, here, self._memory, key, self._flow.staff_line)
        task = asyncio.create_task(self._perform(tool, work, values), name=f"tool {tool.name}")
        job = _Job(call_id, tool, wish, raw, task, started)
        if call_id:
            self._jobs[call_id] = job
        if tool.writes:
            self._wishes[wish] = job
        self._running.append(job)
        task.add_done_callback(lambda _: self._ended(job))
        return job

    async def _perform(self, tool: Tool, work: Work, values: dict[str, Any]) -> Reply:
        try:
            result = self._result(tool, await tool.function(work, **values))
            return Reply("ok", result, work.key if tool.writes else "")
        except DeskRefusal as refusal:
            return Reply("refused", _refused(refusal, work))
        except Exception as error:  # whatever a tool does wrong, the caller must hear about it, not a dead line
            place = _innermost(error)
            logger.error("Tool {} failed with {} at {}", tool.name, type(error).__name__, place)
            hint = "Apologise, try once more, and if it fails again offer to take a message."
            return Reply(
                "error", {"error": "Our system had a problem; it is not certain that anything was done.", "hint": hint}
            )

    def _result(self, tool: Tool, answer: Answer) -> dict[str, Any]:
        result: dict[str, Any] = {"say": answer.say, **answer.data}
        step = self.steps.advance(tool.name, answer.outcome)
        if step is not None:
            self._record(StepEntered(step.name))
            result["next_step"] = step_words(self.steps)
        if tool.writes:
            self._done_words.append(answer.say)
        self.wants_hang_up = self.wants_hang_up or answer.hang_up
        self.wants_person = self.wants_person or answer.hand_over
        return result

    async def _repeat(self, call_id: str, job: _Job) -> Reply | None:
        if call_id:
            self._jobs.setdefault(call_id, job)
        reply = await self._wait(call_id, job)
        if reply is None or reply.status != "ok":
            return reply
        result = {**reply.result, "note": "This was asked before; it was done once, and this is its result."}
        if "next_step" in result:
            result["next_step"] = step_words(self.steps)
        return Reply("repeated", result, reply.key)

    async def _wait(self, call_id: str, job: _Job) -> Reply | None:
        """Wait until the job ends, its time is up, its call is withdrawn (None), or the waiting task is cancelled."""
        withdrawn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            await self._until_done(call_id, job, withdrawn)
        except asyncio.CancelledError:
            self._note_withdrawn(call_id)
            self._leave(job)
            raise
        if withdrawn.done():
            self._leave(job)
            return None
        if not job.task.done():
            self._leave(job)
            return Reply("timeout", _timed_out(job.tool))
        if job.task.cancelled():
            return None
        job.heard = True
        return job.task.result()

    async def _until_done(self, call_id: str, job: _Job, withdrawn: asyncio.Future[None]) -> None:
        """Cancellation of this wait does not reach the job: `asyncio.wait` leaves what it waits for alone."""
        waiters = self._waiters.setdefault(call_id, [])
        waiters.append(withdrawn)
        job.waiting += 1
        try:
            timeout = self._timeouts[job.tool.name]
            ends: list[asyncio.Future[Any]] = [job.task, withdrawn]
            await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            job.waiting -= 1
            waiters.remove(withdrawn)
            if not waiters and self._waiters.get(call_id) is waiters:
                del self._waiters[call_id]

    def _leave(self, job: _Job) -> None:
        """One who waited is gone. If it was the last, a read is dropped and a write goes on unheard."""
        if job.waiting or job.heard:
            return
        job.left = True
        if job.task.done():
            self._late(job)
        elif not job.tool.writes:
            job.task.cancel()

    def _ended(self, job: _Job) -> None:
        self._running.remove(job)
        if job.tool.writes and not job.succeeded:
            self._wishes.pop(job.wish, None)
        if job.succeeded:
            for wish, other in list(self._wishes.items()):
                if other is not job and other.succeeded and other.tool.name in job.tool.undoes:
                    del self._wishes[wish]
                    self._times[wish] = self._times.get(wish, 0) + 1
        if job.left and not job.waiting:
            self._late(job)

    def _late(self, job: _Job) -> None:
        """A job ended and nobody waits for its result."""
        if job.task.cancelled():
            return
        self._returned(job.call_id, job.tool.name, job.task.result(), job.started_ns)
        self._keep_unheard(job)

    def _keep_unheard(self, job: _Job) -> None:
        if job.tool.writes and job not in self._unheard:
            self._unheard.append(job)

    def _note_withdrawn(self, call_id: str) -> None:
        if call_id not in self._withdrawn:
            self._withdrawn.add(call_id)
            self._record(ToolCancelled(call_id))

    # -- small things --------------------------------------------------------------------------------------------------

    def _now(self) -> datetime:
        return utc(self._clock).astimezone(self._business.zone)

    def _returned(self, call_id: str, name: str, reply: Reply, started_ns: int) -> None:
        took_ms = (self._clock.now_ns() - started_ns) / 1e6
        self._record(ToolReturned(call_id, name, reply.status, reply.result, took_ms, reply.key))


def _wish(name: str, values: dict[str, Any]) -> str:
    """One text for one wish, however it was worded."""

    def fold(value: Any) -> Any:
        if isinstance(value, Service | Staff):
            return value.id
        return value.isoformat() if isinstance(value, date | time) else repr(value)

    folded = {key: " ".join(v.casefold().split()) if isinstance(v, str) else v for key, v in values.items()}
    return f"{name} {json.dumps(folded, default=fold, sort_keys=True)}"


def _step_refusal(words: str) -> dict[str, Any]:
    return {"error": words, "hint": "Do that first, or go on with what is available now."}


def _invalid(problems: NotValid) -> dict[str, Any]:
    return {"error": f"Nothing was done. {problems.reason}", "hint": problems.hint}


def _refused(refusal: DeskRefusal, work: Work) -> dict[str, Any]:
    result: dict[str, Any] = {
        "error": refusal.reason,
        "hint": refusal.hint or "Tell the caller and ask what else to do.",
    }
    if refusal.alternatives:
        result["alternatives"] = [
            slot_data(work, entry) if isinstance(entry, Slot) else str(entry) for entry in refusal.alternatives
        ]
    return result


def _timed_out(tool: Tool) -> dict[str, Any]:
    if not tool.writes:
        return {
            "error": "Our system did not answer in time.",
            "hint": "Apologise, try once more, and if it fails again offer to take a message.",
        }
    return {
        "error": "Our system has not confirmed it in time; it may still go through.",
        "hint": "Do not promise it. Tell the caller that it takes a moment, then call the same tool again with the "
        "same arguments: nothing happens twice.",
    }


def _innermost(error: BaseException) -> str:
    """Where an error was raised, without any value: values may be the caller's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "nowhere"
