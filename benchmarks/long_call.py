"""``uv run -m benchmarks.long_call``: what a call of two hours holds in memory, beside what it held after two minutes.

A few callers talk all the time while the bot speaks half of it, and the model's connection is renewed every ten minutes
as the service does. Once a minute the server's process tells its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.children import Child, ChildFailed
from benchmarks.report import machine, replace_part
from benchmarks.scenario import ACCOUNT, bytes_of_tapes, environment, free_port, until_serving

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULT = ROOT / "docs" / "performance" / "long_call.json"
BEGIN = "<!-- written by uv run -m benchmarks.long_call: begin -->"
END = "<!-- written by uv run -m benchmarks.long_call: end -->"

CONNECTION_SECONDS = 600.0
SETTLED_MINUTE = 2
MINUTE = 60.0
_LEAST_MINUTES, _MOST_MINUTES = 4, 119
_GREETING_SECONDS = 20.0


async def talk(calls: int, minutes: int, step: Callable[[], object]) -> dict[str, Any]:
    """Hold the calls and look once a minute: ``{"calls", "minutes", "samples", "sessions", …}``.

    Raises `benchmarks.children.ChildFailed`.
    """
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="switchboard-long-call-", ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        async with Child("benchmarks.load", log=data / "load.log") as load:
            gemini = (await load.ask("model", connection_seconds=CONNECTION_SECONDS))["url"]
            port = free_port()
            settings = {**environment(port, gemini, data), "FLOW": str(_patient_flow(data))}
            async with Child("benchmarks.servers", "switchboard", log=data / "server.log", env=settings) as server:
                await until_serving(port, server)
                await load.ask("greeting_rendered", seconds=_GREETING_SECONDS)
                idle = (await server.ask("usage"))["rss_mb"]
                where = {"url": f"http://127.0.0.1:{port}/twilio/voice", "account": ACCOUNT}
                words = (await load.ask("ring", calls=calls, **where))["first_word_ms"]
                if len(words) < calls:
                    raise server.failed("ring", f"only {len(words)} of {calls} callers hear a word")
                for minute in range(1, minutes + 1):
                    answered = await load.ask("measure", mode="talk", seconds=MINUTE)
                    usage = await server.ask("usage")
                    samples.append(
                        {
                            "minute": minute,
                            "rss_mb": round(usage["rss_mb"], 2),
                            "threads": usage["threads"],
                            "answers": len(answered["round_trip"]),
                            "tapes_mb": round(bytes_of_tapes(data) / 1e6, 1),
                        }
                    )
                    step()
                sessions = (await load.ask("usage"))["sessions"]
                await load.ask("hang_up")
    return {
        "machine": machine(),
        "calls": calls,
        "minutes": minutes,
        "idle_mb": round(idle, 2),
        "sessions": sessions,
        "samples": samples,
    }


def _patient_flow(folder: Path) -> Path:
    """The dental flow with the longest call that a flow may allow."""
    flow = (ROOT / "flows" / "dental.yaml").read_text()
    file = folder / "dental.yaml"
    file.write_text(re.sub(r"(?m)^  max_call_minutes: .*", "  max_call_minutes: 120", flow))
    return file


def words(result: dict[str, Any]) -> str:
    """What was found, in Markdown."""
    where, samples = result["machine"], result["samples"]
    looks = sorted({SETTLED_MINUTE, *range(10, result["minutes"], 20), result["minutes"]})
    rows = "\n".join(
        f"| {each['minute']} | {each['rss_mb']:.1f} | {each['tapes_mb']:.1f} | {each['answers']} |"
        for each in samples
        if each["minute"] in looks
    )
    grown = (samples[-1]["rss_mb"] - samples[SETTLED_MINUTE - 1]["rss_mb"]) / result["calls"]
    return f"""Measured {where["measured"]} at commit `{where["commit"]}` on {where["cores"]} cores of {where["cpu"]}, \
Python {where["python"]}: {result["calls"]} calls at once, {result["minutes"]} minutes each, {result["sessions"]} \
sessions of the model; {result["idle_mb"]:.0f} MB before the first call.

| minute | memory of the server MB | tapes MB | answers in it |
|---|---|---|---|
{rows}

**After {result["minutes"]} minutes a call holds {grown:+.2f} MB more than after {SETTLED_MINUTE}.**"""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.long_call", description=__doc__)
    parser.add_argument("--minutes", type=int, default=_MOST_MINUTES, choices=range(_LEAST_MINUTES, _MOST_MINUTES + 1),
                        metavar=f"{_LEAST_MINUTES}-{_MOST_MINUTES}")  # fmt: skip
    parser.add_argument("--calls", type=int, default=3, help="so many callers at once, for a figure above the noise")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    columns = (TextColumn("{task.completed:.0f} of {task.total:.0f} minutes"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=2) as progress:
            bar = progress.add_task("", total=options.minutes)
            result = asyncio.run(talk(options.calls, options.minutes, lambda: progress.advance(bar)))
    except ChildFailed as failure:
        console.print(f"[red]The measurement failed.[/] {failure}", highlight=False)
        return 1
    console.print(words(result), highlight=False)
    if options.write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        PAGE.write_text(replace_part(PAGE.read_text(), words(result), BEGIN, END))
    return 0


if __name__ == "__main__":
    sys.exit(main())
