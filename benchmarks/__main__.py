"""``uv run -m benchmarks``: measure the three servers side by side, print the table, write docs/performance."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import quality, report, stock
from benchmarks.children import ChildFailed
from benchmarks.scenario import Kind, Plan, run, seconds_of

KINDS: tuple[Kind, ...] = ("relay", "pipecat", "switchboard")
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "performance"
QUICK_RESULT = ROOT / "data" / "benchmarks-quick.json"

QUICK = {1: Plan(answer=6, interrupt=5), 10: Plan(answer=6, interrupt=5)}
FULL = {1: Plan(answer=45), 10: Plan(), 30: Plan(talk=60)}
MEMORY = {1: Plan(answer=6, interrupt=0, talk=30), 30: Plan(answer=6, interrupt=0, talk=600)}
STAGES = Plan(answer=5, interrupt=0, talk=15, stages=True)
STAGE_CALLS = 30
_BEFORE_SECONDS = 5.0


class _Bar:
    """A progress bar that moves with the clock, because nearly all of a measurement is waiting."""

    def __init__(self, console: Console, total: float) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=2,
        )
        self._task = self._progress.add_task("", total=total)
        self._done, self._step, self._since = 0.0, 0.0, time.monotonic()

    def step(self, words: str, seconds: float) -> None:
        """The next step begins, and will take about so long."""
        self._done += self._step
        self._step, self._since = seconds, time.monotonic()
        self._progress.update(self._task, description=words, completed=self._done)

    async def __aenter__(self) -> _Bar:
        self._progress.start()
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ticking.cancel()
        self._progress.stop()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            elapsed = min(self._step, time.monotonic() - self._since)
            self._progress.update(self._task, completed=self._done + elapsed)


async def measure(plans: dict[int, Plan], *, stages: Plan | None, utterances: int, console: Console) -> dict[str, Any]:
    """Everything, as it goes into the JSON file. `plans` is by the number of calls.

    Raises `benchmarks.children.ChildFailed`.
    """
    total = sum(seconds_of(plan, calls) for calls, plan in plans.items()) * len(KINDS) + _BEFORE_SECONDS
    total += seconds_of(stages, STAGE_CALLS) if stages else 0
    async with _Bar(console, total) as bar:
        bar.step("speech through the converters", _BEFORE_SECONDS)
        heard = await asyncio.to_thread(quality.measure, utterances)
        pythons: dict[Kind, Path | str] = {"relay": sys.executable, "switchboard": sys.executable}
        skipped = ""
        try:
            bar.step("an environment for the stock bot (minutes at the first time)", 0)
            pythons["pipecat"] = await stock.build()
        except stock.NoStockBot as reason:
            skipped = str(reason)
        runs = [
            await run(kind, calls, plan, bar.step, pythons[kind])
            for calls, plan in plans.items()
            for kind in KINDS
            if kind in pythons
        ]
        staged = await run("switchboard", STAGE_CALLS, stages, bar.step) if stages else None
    summaries = [report.summary(one) for one in runs]
    return {
        "machine": report.machine(),
        "figures": [figure.as_dict() for figure in report.figures(summaries, heard)],
        "runs": summaries,
        "stages": report.stage_rows(staged.stages) if staged else [],
        "quality": heard,
        "stock_skipped": skipped,
    }


async def measure_memory(console: Console) -> str:
    """What a further call holds after ten minutes of talk, in words. Raises `benchmarks.children.ChildFailed`."""
    async with _Bar(console, sum(seconds_of(plan, calls) for calls, plan in MEMORY.items())) as bar:
        few, many = [await run("switchboard", calls, plan, bar.step) for calls, plan in MEMORY.items()]
    each = (many.rss_mb - few.rss_mb) / (many.calls - few.calls)
    growth = (many.rss_growth_mb_per_minute or 0.0) / many.calls
    return (
        f"After ten minutes of talk: {each:.2f} MB for each further call ({few.rss_mb:.0f} MB with {few.calls}, "
        f"{many.rss_mb:.0f} MB with {many.calls}); in the last five minutes {growth:.3f} MB for each call and minute."
    )


def write(result: dict[str, Any], console: Console) -> None:
    """The page, its picture and its JSON file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        report.plot(result, FOLDER / "comparison.png")
        result["plot"] = "comparison.png"
    except ImportError:
        console.print("No picture: matplotlib is not installed (uv sync --group bench).")
    (FOLDER / "performance.json").write_text(json.dumps(result, indent=1) + "\n")
    PAGE.write_text(report.page(result, PAGE.read_text() if PAGE.exists() else ""))
    console.print(f"Written: {PAGE.relative_to(ROOT)} and {FOLDER.relative_to(ROOT)}/")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="1 and 10 calls, a few seconds each; writes no page")
    length.add_argument("--memory", action="store_true", help="only our memory after ten minutes of talk (13 minutes)")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        if options.memory:
            console.print(asyncio.run(measure_memory(console)), highlight=False)
            return 0
        result = asyncio.run(
            measure(QUICK, stages=None, utterances=6, console=console)
            if options.quick
            else measure(FULL, stages=STAGES, utterances=40, console=console)
        )
    except ChildFailed as failure:
        console.print(f"[red]The measurement failed.[/] {failure}", highlight=False)
        return 1
    console.print(report.table(result))
    if result["stock_skipped"]:
        console.print(f"Without the stock bot: {result['stock_skipped']}.", highlight=False)
    if options.quick:
        QUICK_RESULT.parent.mkdir(exist_ok=True)
        QUICK_RESULT.write_text(json.dumps(result, indent=1) + "\n")
        console.print(f"Written: {QUICK_RESULT.relative_to(ROOT)}")
    else:
        write(result, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
