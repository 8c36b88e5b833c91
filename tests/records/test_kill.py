"""Servers killed under calls in progress. `uv run -m benchmarks.kill --kills 50` is the same at length."""

from __future__ import annotations

from pathlib import Path

from benchmarks.kill import run


async def test_a_killed_server_loses_no_call_and_no_more_than_a_second_of_any(tmp_path: Path) -> None:
    counts = await run(tmp_path, kills=3, calls=5, seed=7, done=lambda: None)
    assert (counts.kills, counts.calls) == (3, 15)
    assert counts.not_closed == 0
    assert counts.over_bound == 0
    assert (counts.bookings_unrecorded, counts.bookings_invented) == (0, 0)
    assert counts.without_tape < 5, "a tape begins with its call"
