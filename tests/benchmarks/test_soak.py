"""The soak: that calls are placed and everything is looked at, and that a leak would be told."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from benchmarks import soak
from benchmarks.soak import Soak


def seen(calls: int, rss_mb: float, tasks: float = 5, *, busy: bool = True) -> dict[str, float]:
    return {
        "at": calls,
        "calls": calls,
        "busy": busy,
        "rss_mb": rss_mb,
        "tasks": tasks,
        "descriptors": 9,
        "sockets": 4,
        "threads": 3,
    }


async def test_calls_are_placed_and_nothing_of_them_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "REST_SECONDS", 5.0)
    monkeypatch.setattr(soak, "SAMPLE_SECONDS", 0.5)
    result = await soak.soak(4, 2, Progress(disable=True))
    assert result.ended == {"ended by REST": 4}
    assert result.problems == 0
    assert len(result.samples) > 5
    assert max(each["tasks"] for each in result.samples) > result.samples[0]["tasks"]
    # The pool of threads is not full after so few calls; it is bounded.
    left = {name: after - before for name, (before, after) in result.left_behind.items() if name != "threads"}
    assert all(more <= 2 for more in left.values()), left
    assert "MB per 100 calls" in soak.words(result)


def test_a_slope_is_that_of_the_calls_after_the_warm_up() -> None:
    result = Soak(
        100, 10, [seen(0, 50, busy=False), *(seen(n, 90 if n < 30 else 100 + n / 50) for n in range(0, 100, 2))]
    )
    result.samples.append(seen(100, 102, busy=False))
    assert result.slope == pytest.approx(2.0, abs=0.01)
    assert not result.is_clean


def test_tasks_that_stay_are_a_leak() -> None:
    calls = [seen(n, 100.0, tasks=200) for n in range(0, 100, 10)]
    clean = Soak(100, 10, [seen(0, 100, busy=False), *calls, seen(100, 100, busy=False)])
    leaky = Soak(100, 10, [seen(0, 100, busy=False), *calls, seen(100, 100, tasks=105, busy=False)])
    assert clean.is_clean
    assert not leaky.is_clean
