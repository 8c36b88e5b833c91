"""The long call: that it is held, looked at, and renewed by the model."""

from __future__ import annotations

import pytest

from benchmarks import long_call


async def test_calls_are_held_and_looked_at_while_the_model_renews_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(long_call, "MINUTE", 4.0)
    monkeypatch.setattr(long_call, "CONNECTION_SECONDS", 3.0)
    steps: list[None] = []
    result = await long_call.talk(2, 4, lambda: steps.append(None))
    assert len(steps) == 4
    assert [each["minute"] for each in result["samples"]] == [1, 2, 3, 4]
    assert sum(each["answers"] for each in result["samples"]) > 2
    assert result["sessions"] > 2, "no connection was renewed"
    assert result["samples"][-1]["tapes_mb"] > 0


def test_what_is_told_is_the_growth_of_one_call_since_the_second_minute() -> None:
    samples = [
        {"minute": minute, "rss_mb": 150.0 + minute, "threads": 9, "answers": 15, "tapes_mb": minute}
        for minute in range(1, 31)
    ]
    machine = {"measured": "now", "commit": "abc", "cores": 2, "cpu": "a processor", "python": "3.11"}
    words = long_call.words(
        {"machine": machine, "calls": 4, "minutes": 30, "idle_mb": 140, "sessions": 12, "samples": samples}
    )
    assert "**After 30 minutes a call holds +7.00 MB more than after 2.**" in words
    assert [line.split()[1] for line in words.splitlines() if line.startswith("| ")] == ["minute", "2", "10", "30"]
