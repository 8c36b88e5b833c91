"""The measurement itself: that every figure is taken, not what it is. Speed is asserted nowhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import quality, report, stock
from benchmarks.scenario import Kind, Plan, Run, run
from benchmarks.stages import SEAMS

SHORT = Plan(answer=3, interrupt=4)


async def measured(kind: Kind, plan: Plan = SHORT, python: Path | str = sys.executable) -> tuple[Run, list[str]]:
    steps: list[str] = []
    result = await run(kind, 1, plan, lambda words, _seconds: steps.append(words), python)
    return result, steps


def assert_every_figure_is_there(result: Run) -> None:
    assert len(result.first_word_ms) == 1
    assert not result.silent_starts
    assert result.timings["round_trip"]
    assert result.timings["lost"] == 0
    assert min(result.timings["round_trip"]) > 0
    assert result.cut_in["clear"]
    assert result.cut_in["silence"]
    assert result.cpu_percent > 0
    assert result.load_cpu_percent > 0
    assert result.rss_mb > 20
    assert result.holds["ticks"] > 100
    assert result.holds_at_start["longest_ms"] >= result.holds_at_start["longest_cpu_ms"]
    json.dumps(report.summary(result))


async def test_the_relay_is_measured() -> None:
    result, steps = await measured("relay")
    assert_every_figure_is_there(result)
    # The phone is recognised by its pitch, so the way is known in both directions.
    assert len(result.timings["uplink"]) == len(result.timings["downlink"]) == len(result.timings["round_trip"])
    assert any("question and answer" in step for step in steps)


async def test_the_switchboard_is_measured_with_everything_on() -> None:
    result, _ = await measured("switchboard", Plan(answer=3, interrupt=4, stages=True))
    assert_every_figure_is_there(result)
    assert result.tape_mb > 0
    # Each stopwatch has run: no seam has lost its meaning.
    timed = {row["stage"].removesuffix(" up").removesuffix(" down") for row in result.stages["stages"]}
    assert timed == {seam.stage.removesuffix(" up") for seam in SEAMS}
    assert result.stages["up_frames"] >= 100
    assert result.stages["down_frames"] >= 5
    rows = report.stage_rows(result.stages)
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=0.02)


async def test_the_stock_bot_is_measured() -> None:
    python = stock.python_if_built()
    if python is None:
        pytest.skip("the stock bot's own environment is made by the first `uv run -m benchmarks`")
    result, _ = await measured("pipecat", python=python)
    assert_every_figure_is_there(result)
    assert result.tape_mb == 0


# -- from runs to figures ---------------------------------------------------------------------------------------------

TALK = {"delay_ms": {"up": 2.0, "down": 2.0}, "skipped": "not here"}


def summary_of(kind: Kind, calls: int, **changes: Any) -> dict[str, Any]:
    made = Run(
        kind,
        calls,
        timings={"round_trip": [2.0] * 99 + [20.0], "uplink": [1.0], "downlink": [1.0], "lost": 0},
        cut_in={"clear": [3.0], "silence": [40.0], "lost": 0},
        first_word_ms=[100.0] * calls,
        cpu_percent=1.2 * calls,
        rss_mb=100 + 2 * calls,
        holds_at_start={"longest_ms": 9.0, "longest_cpu_ms": 4.0, "cause": "bot/call.py Call.__init__"},
        holds={"longest_ms": 13.0, "longest_cpu_ms": 5.0, "cause": ""},
    )
    return report.summary(made) | changes


def test_figures_know_whether_they_are_met() -> None:
    runs = [summary_of(kind, calls) for kind in ("relay", "switchboard") for calls in (1, 10, 30)]
    by_name = {figure.name: figure for figure in report.figures(runs, TALK)}
    assert by_name["added round trip, 1 call, p95"].is_met
    assert by_name["added round trip, 30 calls, p99"].values["switchboard"] == pytest.approx(2.18)
    assert by_name["CPU per call, 30 calls"].is_met
    assert by_name["memory per further call"].values == {"relay": 2.0, "switchboard": 2.0}
    assert by_name["memory per further call"].is_met is False
    assert by_name["longest event-loop hold, 10 start and 30 run"].is_met is False
    assert by_name["of it CPU of the loop's own thread"].is_met is None
    # The stock bot was not measured: its column is empty, and nothing fails.
    assert all("pipecat" not in figure.values for figure in by_name.values())


def test_a_figure_that_could_not_be_taken_is_neither_met_nor_missed() -> None:
    runs = [summary_of("switchboard", calls, interrupted_to_clear_ms=None) for calls in (1, 30)]
    found = next(figure for figure in report.figures(runs, TALK) if "clear" in figure.name)
    assert found.values == {"switchboard": None}
    assert found.is_met is None


def test_the_page_is_written_anew_between_its_marks_only() -> None:
    runs = [summary_of(kind, calls) for kind in ("relay", "switchboard") for calls in (1, 10)]
    result = {
        "machine": report.machine(),
        "figures": [figure.as_dict() for figure in report.figures(runs, TALK)],
        "runs": runs,
        "stages": [{"stage": "upsample", "way": "up", "us_per_frame": 12.5, "share": 0.05}],
        "quality": TALK,
        "stock_skipped": "no network",
    }
    fresh = report.page(result, "")
    edited = fresh.replace("# Performance", "# Performance\n\nBy hand.") + "\nBy hand too.\n"
    runs[0]["rss_mb"] = 4711.0
    again = report.page(result, edited)
    assert "By hand.\n" in again
    assert "By hand too.\n" in again
    assert "4711" in again
    assert again.count("## Side by side") == 1
    assert "| upsample | up | 12.5 | 5% |" in again
    assert "while the last callers start, 9.00 ms (bot/call.py Call.__init__); while all run" in again
    assert "The stock bot was not measured: no network." in again
    assert "PESQ was not measured: not here." in again
    assert platform_words(result) in again


def platform_words(result: dict[str, Any]) -> str:
    return f"{result['machine']['cores']} cores of {result['machine']['cpu']}"


def test_the_picture_shows_every_server(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the dependency group bench is not installed")
    runs = [summary_of(kind, calls) for kind in ("relay", "pipecat", "switchboard") for calls in (1, 10, 30)]
    report.plot({"runs": runs}, tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000


def test_the_delay_of_the_converters_is_measured() -> None:
    assert quality.delay_ms() == {"up": pytest.approx(2.0), "down": pytest.approx(2.0)}


def test_speech_is_scored_against_the_ceiling() -> None:
    pytest.importorskip("pesq", reason="the dependency group bench is not installed")
    scores = quality.measure(2)
    for way in ("up", "down"):
        assert scores[way]["utterances"] == 2
        assert 3 < scores[way]["pesq_nb"] <= scores[way]["ceiling"] + 0.05
