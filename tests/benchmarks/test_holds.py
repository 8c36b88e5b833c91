"""The monitor of holds: how long, and by what."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

from benchmarks.holds import HoldMonitor
from bot.audio import Upsampler


async def watched(hold: Any) -> dict[str, Any]:
    monitor = HoldMonitor(asyncio.get_running_loop())
    monitor.start()
    await asyncio.sleep(0.05)
    hold()
    await asyncio.sleep(0.05)
    return monitor.stop()


def work_of_ours() -> None:
    upsampler = Upsampler()
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        upsampler.feed(bytes(160) * 50)


def leave_garbage() -> None:
    kept: list[list[Any]] = []
    gc.disable()
    for _ in range(200_000):
        kept.append([kept])
    gc.enable()
    gc.collect()


async def test_a_hold_has_the_function_that_made_it() -> None:
    holds = await watched(work_of_ours)
    assert holds["longest_ms"] > 90
    assert holds["longest_cpu_ms"] <= holds["longest_ms"]
    assert "bot/audio.py" in holds["cause"]
    assert "bot/audio.py" in holds["cpu_cause"]
    assert holds["over_5_ms"] >= 1


async def test_a_hold_by_the_garbage_collector_is_told_as_one() -> None:
    assert "garbage collection, generation 2" in (await watched(leave_garbage))["cause"]


async def test_nothing_is_watched_any_more_after_the_end() -> None:
    callbacks = list(gc.callbacks)
    await watched(lambda: None)
    assert gc.callbacks == callbacks
