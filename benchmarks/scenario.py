"""One run: a server, its callers, and the same steps for each of the three servers.

Callers start in groups of up to ten at the same moment, as after a radio spot; then they talk, cut in, and talk long.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.children import Child

Kind = Literal["switchboard", "pipecat", "relay"]
TOGETHER = 10
"""So many callers start at the same moment."""
SETTLE_SECONDS = 6.0
"""Until every caller has heard the greeting and was recognised by the pitch."""
END_SECONDS = 1.5
"""Until the calls that were hung up together are over, and their tapes closed."""
_START_SECONDS = 60.0
_GREETING_SECONDS = 20.0
ACCOUNT = ("AC" + "b" * 32, "token-of-the-benchmark")


@dataclass(frozen=True)
class Plan:
    """How long the steps of a run last, in seconds."""

    answer: float = 30.0
    interrupt: float = 15.0
    talk: float = 0.0
    stages: bool = False


@dataclass
class Run:
    """What one server did with so many calls. Times in ms, memory in MB, shares of one core in percent."""

    kind: Kind
    calls: int
    timings: dict[str, Any] = field(default_factory=dict)
    """`benchmarks.phones.Timings` of the answers."""
    cut_in: dict[str, Any] = field(default_factory=dict)
    """The same of the interruptions."""
    first_word_ms: list[float] = field(default_factory=list)
    silent_starts: int = 0
    """Calls in which no word was heard within 15 s."""
    cpu_percent: float = 0.0
    """Of the server, all calls together, while they talk by short questions and answers."""
    cpu_percent_speaking: float | None = None
    """The same while the bot speaks half of the time."""
    load_cpu_percent: float = 0.0
    """Of the phones and the model."""
    others_cpu_percent: float = 0.0
    """What other processes of the machine took meanwhile: above a few percent the figures are noise."""
    rss_idle_mb: float = 0.0
    rss_mb: float = 0.0
    """At the end, with all calls up."""
    rss_growth_mb_per_minute: float | None = None
    """While the bot speaks half of the time, in the second half of that talk: the first fills what is bounded."""
    holds_at_start: dict[str, Any] = field(default_factory=dict)
    """`benchmarks.holds.HoldMonitor` while the last group starts."""
    holds: dict[str, Any] = field(default_factory=dict)
    """The same while all run."""
    holds_at_end: dict[str, Any] = field(default_factory=dict)
    """The same while all hang up at once."""
    tape_mb: float = 0.0
    stages: dict[str, Any] = field(default_factory=dict)


Progress = Callable[[str, float], None]
"""Gets what is being done and how many seconds it will take."""


def seconds_of(plan: Plan, calls: int) -> float:
    """About how long a run takes."""
    groups = -(-calls // TOGETHER)
    return 9.0 + groups + SETTLE_SECONDS + END_SECONDS + plan.answer + plan.interrupt + plan.talk


async def run(kind: Kind, calls: int, plan: Plan, progress: Progress, python: Path | str = sys.executable) -> Run:
    """Start a server (with the interpreter `python`) and a load, take every figure, and end both.

    Raises `benchmarks.children.ChildFailed`.
    """
    result = Run(kind, calls)
    with tempfile.TemporaryDirectory(prefix="switchboard-benchmark-", ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        async with Child("benchmarks.load", log=data / "load.log") as load:
            progress(f"{kind}: starting", 9.0)
            gemini = (await load.ask("model"))["url"]
            port = free_port()
            arguments = [kind, *(["--stages"] if plan.stages else [])]
            settings = environment(port, gemini, data)
            async with Child(
                "benchmarks.servers", *arguments, log=data / "server.log", env=settings, python=python
            ) as server:
                await until_serving(port, server)
                if kind == "switchboard":
                    await load.ask("greeting_rendered", seconds=_GREETING_SECONDS)
                await _steps(result, plan, server, load, port, progress)
        result.tape_mb = bytes_of_tapes(data) / 1e6
    return result


async def _steps(result: Run, plan: Plan, server: Child, load: Child, port: int, progress: Progress) -> None:
    kind, calls = result.kind, result.calls
    result.rss_idle_mb = (await server.ask("usage"))["rss_mb"]
    if kind == "switchboard":
        where: dict[str, Any] = {"url": f"http://127.0.0.1:{port}/twilio/voice", "account": ACCOUNT}
    else:
        where = {"url": f"ws://127.0.0.1:{port}/media"}
    started = 0
    while started < calls:
        group = min(TOGETHER, calls - started)
        started += group
        progress(f"{kind}: {group} callers start, {started} in all", 1.0)
        await server.ask("watch")
        words = (await load.ask("ring", calls=group, **where))["first_word_ms"]
        result.first_word_ms += words
        result.silent_starts += group - len(words)
        if not words:
            raise server.failed("ring", "no caller hears a word")
        await asyncio.sleep(0.5)
        result.holds_at_start = await server.ask("holds")
    progress(f"{kind}, {calls} calls: settling", SETTLE_SECONDS)
    await load.ask("measure", mode="answer", seconds=SETTLE_SECONDS)
    if plan.stages:
        await server.ask("stages")

    progress(f"{kind}, {calls} calls: question and answer", plan.answer)
    meter = await _Meter.begin(server, load)
    result.timings = await load.ask("measure", mode="answer", seconds=plan.answer)
    result.cpu_percent, result.load_cpu_percent, result.others_cpu_percent = await meter.percent()

    if plan.talk:
        progress(f"{kind}, {calls} calls: long talk", plan.talk)
        meter = await _Meter.begin(server, load)
        await load.ask("measure", mode="talk", seconds=plan.talk / 2)
        halfway = (await server.ask("usage"))["rss_mb"]
        await load.ask("measure", mode="talk", seconds=plan.talk / 2)
        result.cpu_percent_speaking = (await meter.percent())[0]
        grown = (await server.ask("usage"))["rss_mb"] - halfway
        result.rss_growth_mb_per_minute = grown / (plan.talk / 2) * 60
    result.rss_mb = (await server.ask("usage"))["rss_mb"]
    if plan.stages:
        seconds = plan.answer + plan.talk
        result.stages = {"seconds": seconds, **(await server.ask("stages"))["stages"]}
    if kind == "switchboard":
        await _scrape(port)

    if plan.interrupt:
        progress(f"{kind}, {calls} calls: cutting in", plan.interrupt)
        await server.ask("watch")
        result.cut_in = await load.ask("measure", mode="interrupt", seconds=plan.interrupt)
        result.holds = await server.ask("holds")
    await server.ask("watch")
    await load.ask("hang_up")
    await asyncio.sleep(END_SECONDS)
    result.holds_at_end = await server.ask("holds")


class _Meter:
    """CPU between two moments: of the server, of the load, and of everybody else."""

    def __init__(self, server: Child, load: Child) -> None:
        self._server, self._load = server, load
        self._before = (0.0, 0.0, 0.0, 0.0)

    @classmethod
    async def begin(cls, server: Child, load: Child) -> _Meter:
        meter = cls(server, load)
        meter._before = await meter._now()
        return meter

    async def _now(self) -> tuple[float, float, float, float]:
        server = (await self._server.ask("usage"))["cpu_seconds"]
        load = (await self._load.ask("usage"))["cpu_seconds"]
        return time.monotonic(), server, load, _machine_cpu_seconds()

    async def percent(self) -> tuple[float, float, float]:
        wall, server, load, machine = (
            now - before for now, before in zip(await self._now(), self._before, strict=True)
        )
        return server / wall * 100, load / wall * 100, max(0.0, machine - server - load) / wall * 100


def _machine_cpu_seconds() -> float:
    """CPU time that all processes have used since the machine started, from /proc/stat."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = (
        int(ticks) for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / 100


def environment(port: int, gemini_url: str, data: Path) -> dict[str, str]:
    """The settings of the real server; the other two take PORT and GEMINI_BASE_URL."""
    return {
        "PORT": str(port),
        "GEMINI_BASE_URL": gemini_url,
        "GOOGLE_API_KEY": "key",
        "TWILIO_ACCOUNT_SID": ACCOUNT[0],
        "TWILIO_AUTH_TOKEN": ACCOUNT[1],
        "TWILIO_API_BASE_URL": "http://127.0.0.1:9",
        "PUBLIC_URL": "",
        "DATA_DIR": str(data),
        "DATABASE_URL": "",
        "RECORDINGS_URL": "",
        "REDIS_URL": "",
        "FLOW": "dental",
        "MAX_CALLS": "1000",
        "LOG_LEVEL": "INFO",
        "HOST": "127.0.0.1",
    }


def bytes_of_tapes(data: Path) -> int:
    """All tapes: of calls in progress, finished ones, and those that were archived."""
    tapes = [*data.glob("tapes/*/*.mcap*"), *data.glob("recordings/*/tape.mcap")]
    return sum(file.stat().st_size for file in tapes)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def until_serving(port: int, server: Child) -> None:
    """Wait until the server takes connections. Raises `benchmarks.children.ChildFailed` where it has died."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            if time.monotonic() > deadline:
                await server.ask("usage")
                raise
            await asyncio.sleep(0.1)


async def _scrape(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    await reader.read()
    writer.close()
