"""``uv run --group bench -m benchmarks.soak``: hundreds of short calls on the real server; what of them stays behind.

Callers book an appointment or ask a question, say goodbye and are hung up, so many at a time, against the stand-ins for
the model and the carrier. Every few seconds the server is asked by ``/metrics`` for its memory, descriptors and tasks,
and /proc for its threads and sockets. After the last call all of these must be where they were after the first ones.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop
from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.children import Child, ChildFailed
from benchmarks.model import tone
from benchmarks.report import machine, replace_part
from benchmarks.scenario import environment, free_port, until_serving
from sandbox import sound
from sandbox.conversation import Conversation, Habits, Turn
from sandbox.gemini import GeminiStandIn
from sandbox.mind import Reply, ToolCall, ToolResult, words_to_say
from sandbox.twilio import Exchange, Phone

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "performance"
ACCOUNT, TOKEN = "AC" + "b" * 32, "token-of-the-benchmark"
BEGIN = "<!-- written by uv run -m benchmarks.soak: begin -->"
END = "<!-- written by uv run -m benchmarks.soak: end -->"
SAMPLE_SECONDS = 2.0
WARM_UP = 0.3
"""This share of the calls fills what is bounded: caches, pools, the allocator's arenas."""
REST_SECONDS = 20.0
"""After the last call: connections that were kept for more are closed meanwhile."""
POOL_ROUNDS, AT_A_TIME = 5, 50
MS_PER_WORD = 60
MOST_MB_PER_100_CALLS = 1.0


class SoakMind:
    """Reads a greeting aloud; on a call it books (every other one) or answers, and says goodbye at the second turn."""

    def __init__(self, *, books: bool) -> None:
        self._books = books
        self._asked = False

    def begin(self, setup: dict[str, Any]) -> None:
        """See `sandbox.mind.Mind`."""

    def on_user(self, text: str, source: str) -> Reply:
        """See `sandbox.mind.Mind`."""
        if words := words_to_say(text):
            return Reply(say=words)
        if self._asked:
            return Reply(calls=[ToolCall("end_call")])
        self._asked = True
        if self._books:
            return Reply(calls=[ToolCall("find_slots", {"service": "Cleaning"})])
        return Reply(calls=[ToolCall("answer_question", {"question": "Where can I park?"})])

    def on_tool_results(self, results: list[ToolResult]) -> Reply:
        """See `sandbox.mind.Mind`."""
        result = results[0]
        if result.name == "find_slots" and result.response.get("slots"):
            slot = result.response["slots"][-1]
            what = {"service": "Cleaning", "name": "Ada Lovelace", "day": slot["day"], "time": slot["time"]}
            return Reply(calls=[ToolCall("book_appointment", what)])
        return Reply(say="Good bye then." if result.name == "end_call" else str(result.response.get("say", "Sorry.")))

    def grammar(self) -> Any:
        """See `sandbox.mind.Mind`."""


class SoakVoice:
    """A tone for each word."""

    def speak(self, text: str, *, rate: int = 24_000) -> bytes:
        """See `sandbox.conversation.Speaker`."""
        return tone(440, len(text.split()) * MS_PER_WORD, rate).tobytes()


class SoakEar:
    """Understands everything as the same few words."""

    def prepare(self, grammar: Any) -> None:
        """Nothing to prepare."""

    def hear(self, pcm16k: bytes, grammar: Any) -> str:
        """What was said."""
        return "I have a question"


@dataclass(frozen=True)
class Began:
    """Speech began at this moment."""

    offset_ms: int


@dataclass(frozen=True)
class Ended:
    """Speech ended at this moment."""

    offset_ms: int
    audio: bytes


class SoakDetector:
    """Speech is what is loud; it ends after 300 ms without."""

    def __init__(self, silence_ms: int, prefix_padding_ms: int) -> None:
        self._at_ms = 0
        self._quiet_ms = 0
        self._speech = bytearray()

    def feed(self, pcm16k: bytes, /) -> list[Began | Ended]:
        """See `sandbox.gemini.session.Detector`."""
        loud = bool(np.abs(np.frombuffer(pcm16k, "<i2")).max(initial=0) > 500)
        told: list[Began | Ended] = [Began(self._at_ms)] if loud and not self._speech else []
        length_ms = len(pcm16k) // 32
        self._at_ms += length_ms
        self._quiet_ms = 0 if loud else self._quiet_ms + length_ms
        if loud or self._speech:
            self._speech += pcm16k
        if not told and self._speech and self._quiet_ms >= 300:
            told = [Ended(self._at_ms, bytes(self._speech))]
            self._speech.clear()
        return told


@dataclass
class Soak:
    """What was seen. `samples` are by moment: calls over, memory in MB, descriptors, sockets, threads and tasks."""

    calls: int
    at_once: int
    samples: list[dict[str, float]] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    problems: int = 0
    seconds: float = 0.0

    @property
    def slope(self) -> float:
        """MB per 100 calls, by least squares over what was seen after the warm-up; 0 where that was one moment."""
        seen = [each for each in self.samples if self.calls * WARM_UP <= each["calls"] and each["busy"]]
        if len({each["calls"] for each in seen}) < 2:
            return 0.0
        slope, _ = np.polyfit([each["calls"] for each in seen], [each["rss_mb"] for each in seen], 1)
        return float(slope) * 100

    @property
    def left_behind(self) -> dict[str, tuple[float, float]]:
        """Before the calls (but after the first one) and after them: tasks, descriptors, sockets, threads."""
        first, last = self.samples[0], self.samples[-1]
        return {name: (first[name], last[name]) for name in ("tasks", "descriptors", "sockets", "threads")}

    @property
    def is_clean(self) -> bool:
        """No growth that matters, and nothing left open."""
        leaked = any(after > before + 2 for before, after in self.left_behind.values())
        return not leaked and self.slope < MOST_MB_PER_100_CALLS


async def soak(calls: int, at_once: int, progress: Progress) -> Soak:
    """Place the calls. Raises `benchmarks.children.ChildFailed`."""
    result = Soak(calls, at_once)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(prefix="switchboard-soak-", ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        stand_in = GeminiStandIn(
            mind_factory=lambda: SoakMind(books=next(numbers) % 2 == 0),
            voice=SoakVoice(),
            ear=SoakEar(),
            detector_factory=SoakDetector,
            speed=2,
            record=False,
        )
        async with stand_in as model, Exchange(ACCOUNT, TOKEN) as exchange:
            port = free_port()
            settings = environment(port, model.url, data) | {"TWILIO_API_BASE_URL": exchange.api_base_url}
            async with Child("benchmarks.servers", "switchboard", log=data / "server.log", env=settings) as server:
                await until_serving(port, server)
                phone = Phone(ACCOUNT, TOKEN, exchange=exchange, voice=SoakVoice())
                await _run(result, Site(port, server.pid, phone, exchange), progress)
                _keep_log(data / "server.log")
    return result


@dataclass
class Site:
    """The server under test, and who phones it."""

    port: int
    pid: int
    phone: Phone
    exchange: Exchange

    async def call(self, number: int) -> Any:
        """One caller from dialling to the end."""
        said = sound.from_pcm(tone(300, 500, sound.RATE).tobytes(), sound.RATE)
        caller = Conversation([Turn(play=said), Turn(play=said)], Habits(end_ms=400, stays=True, hello_ms=30_000))
        url = f"http://127.0.0.1:{self.port}/twilio"
        live = self.phone.dial(
            f"{url}/voice",
            caller=caller,
            from_=f"+1207555{1000 + number % 9000}",
            status_callback=f"{url}/status",
            fallback_url=f"{url}/fallback",
        )
        try:
            async with asyncio.timeout(60):
                return await live.run()
        finally:
            # The exchange of a real network does not keep its calls here.
            self.exchange.lines.pop(live.sid, None)
            self.exchange.orders.clear()

    async def fill_pools(self, http: httpx.AsyncClient) -> None:
        """Let every thread there may be work at once, and open its connection to the database; they are kept."""
        ready = f"http://127.0.0.1:{self.port}/readyz"
        for _ in range(POOL_ROUNDS):
            await asyncio.gather(*(http.get(ready) for _ in range(AT_A_TIME)))

    async def sample(self, http: httpx.AsyncClient, calls: int, *, busy: bool) -> dict[str, float]:
        """The server as it is now."""
        text = (await http.get(f"http://127.0.0.1:{self.port}/metrics")).text
        proc = Path(f"/proc/{self.pid}")
        links = [os.readlink(entry) for entry in proc.joinpath("fd").iterdir() if entry.is_symlink()]
        threads = re.search(r"^Threads:\s+(\d+)", (proc / "status").read_text(), re.MULTILINE)
        return {
            "at": time.monotonic(),
            "calls": calls,
            "busy": float(busy),
            "rss_mb": _value(text, "process_resident_memory_bytes") / 1e6,
            "tasks": _value(text, "switchboard_tasks"),
            "descriptors": len(links),
            "sockets": sum(link.startswith("socket:") for link in links),
            "threads": float(threads[1]) if threads else 0.0,
        }


async def _run(result: Soak, site: Site, progress: Progress) -> None:
    bar = progress.add_task(f"{result.calls} calls, {result.at_once} at a time", total=result.calls)
    over = 0
    waiting = iter(range(1, result.calls + 1))

    async def callers() -> None:
        nonlocal over
        for number in waiting:
            record = await site.call(number)
            over += 1
            result.problems += len(record.problems())
            result.ended[record.ended_by] = result.ended.get(record.ended_by, 0) + 1
            progress.update(bar, completed=over)

    async with httpx.AsyncClient(timeout=30) as http:
        # What is made once is made now: the ready-made words, threads of the pool and their connections.
        await asyncio.gather(*(site.call(8000 + number) for number in range(result.at_once)))
        await site.fill_pools(http)
        await asyncio.sleep(REST_SECONDS)
        result.samples.append(await site.sample(http, 0, busy=False))
        began = time.monotonic()
        working = [asyncio.create_task(callers()) for _ in range(result.at_once)]
        while not all(task.done() for task in working):
            await asyncio.wait(working, timeout=SAMPLE_SECONDS, return_when=asyncio.ALL_COMPLETED)
            result.samples.append(await site.sample(http, over, busy=over < result.calls))
        await asyncio.gather(*working)
        result.seconds = time.monotonic() - began
        await asyncio.sleep(REST_SECONDS)
        result.samples.append(await site.sample(http, over, busy=False))


def _value(metrics: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    assert found, name
    return float(found[1])


def _keep_log(log: Path) -> None:
    kept = ROOT / "data" / "soak-server.log"
    kept.parent.mkdir(exist_ok=True)
    shutil.copy(log, kept)


# -- what is told -----------------------------------------------------------------------------------------------------


def words(result: Soak) -> str:
    """What was found, in Markdown."""
    where = machine()
    ends = ", ".join(
        f"{count} by {reason}" for reason, count in sorted(result.ended.items(), key=lambda each: -each[1])
    )
    rows = "\n".join(f"| {name} | {before:g} | {after:g} |" for name, (before, after) in result.left_behind.items())
    first, last = result.samples[0]["rss_mb"], result.samples[-1]["rss_mb"]
    return f"""Measured {where["measured"]} at commit `{where["commit"]}` on {where["cores"]} cores of {where["cpu"]}, \
Python {where["python"]}: {result.calls} calls, {result.at_once} at a time, in {result.seconds:.0f} s. \
They ended: {ends}. Broken rules of the carrier's protocol: {result.problems}.

**Memory grows by {result.slope:+.2f} MB per 100 calls** after the first {WARM_UP:.0%} of them; {first:.0f} MB before, \
{last:.0f} MB after.

| open in the server | after {result.at_once} calls, at rest | after all, at rest |
|---|---|---|
{rows}

![Memory and what is open while the calls come and go](performance/soak.png)"""


def plot(result: Soak, path: Path) -> None:
    """Memory, and what is open, over the calls. Raises ``ImportError`` without matplotlib."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    begun = result.samples[0]["at"]
    seconds = [each["at"] - begun for each in result.samples]
    figure, (memory, opened) = pyplot.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    memory.plot(seconds, [each["rss_mb"] for each in result.samples], color="#1f6f5c")
    memory.set(
        title=f"Memory of the server ({result.slope:+.2f} MB per 100 calls)", ylabel="MB", xlabel="s", ylim=(0, None)
    )
    for name, colour in (
        ("tasks", "#1f6f5c"),
        ("descriptors", "#c0563b"),
        ("sockets", "#c99a2e"),
        ("threads", "#8a8f98"),
    ):
        opened.plot(seconds, [each[name] for each in result.samples], color=colour, label=name)
    opened.set(title="Open in the server", xlabel="s", ylim=(0, None))
    opened.legend(frameon=False, ncols=2)
    for axes in (memory, opened):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> int:
    """The command; the exit status is 1 where something stayed behind."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its picture")
    options = parser.parse_args()
    logger.disable("sandbox")
    console = Console(width=None if sys.stdout.isatty() else 120)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with (
            Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=2) as progress,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            result = runner.run(soak(options.calls, options.at_once, progress))
    except ChildFailed as failure:
        console.print(f"[red]The soak failed.[/] {failure}", highlight=False)
        return 1
    console.print(words(result), highlight=False)
    if options.write:
        plot(result, FOLDER / "soak.png")
        (FOLDER / "soak.json").write_text(json.dumps(result.samples, indent=1) + "\n")
        PAGE.write_text(replace_part(PAGE.read_text(), words(result), BEGIN, END))
    return 0 if result.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
