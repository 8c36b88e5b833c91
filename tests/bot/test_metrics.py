"""What /metrics says after events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from bot.events import (
    BargeIn,
    BotStartedSpeaking,
    CallEnded,
    CallerSaid,
    CallEvent,
    CallReceived,
    CallRefused,
    ModelConnected,
    ModelFailed,
    PlayoutPaused,
    PlayoutResumed,
    ToolReturned,
    Trouble,
)
from bot.metrics import LoopHoldMonitor, Metrics


def rendered(metrics: Metrics) -> dict[str, float]:
    """Each sample of the text format by its name and labels."""
    lines = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def after(*events: CallEvent) -> dict[str, float]:
    metrics = Metrics()
    for event in events:
        metrics.observe(event)
    return rendered(metrics)


def test_a_call_is_in_progress_until_it_ends_with_its_outcome() -> None:
    received = CallReceived("CA1", "+1", "+2", "dental")
    assert after(received, received)["switchboard_calls_in_progress"] == 2
    figures = after(received, received, CallEnded("goodbye", 61_500))
    assert figures["switchboard_calls_in_progress"] == 1
    assert figures['switchboard_calls_total{outcome="goodbye"}'] == 1
    assert figures["switchboard_call_seconds_sum"] == 61.5
    assert figures['switchboard_call_seconds_bucket{le="60.0"}'] == 0
    assert figures['switchboard_call_seconds_bucket{le="120.0"}'] == 1


def test_a_refused_call_counts_as_refused_only() -> None:
    figures = after(CallRefused("CA1", "refused_busy"), CallRefused("CA2", "refused_busy"))
    assert figures['switchboard_refused_total{reason="refused_busy"}'] == 2
    assert figures["switchboard_calls_in_progress"] == 0


def test_failures_are_counted_by_kind() -> None:
    figures = after(
        Trouble("tool_timeout", "book_appointment", "sorry_slow", "detail"),
        Trouble("tool_timeout", "find_slots", "sorry_slow"),
        ModelFailed("gemini-3.8-live", "quota", "429"),
    )
    assert figures['switchboard_failures_total{kind="tool_timeout"}'] == 2
    assert figures['switchboard_failures_total{kind="model_quota"}'] == 1


def test_response_times_are_seconds_from_the_caller_s_last_voice() -> None:
    figures = after(
        BotStartedSpeaking(1, 650.0, 500.0), BotStartedSpeaking(2, 1_400, 1_300), BotStartedSpeaking(3, None, None)
    )
    assert figures["switchboard_response_seconds_count"] == 2
    assert figures["switchboard_response_seconds_sum"] == pytest.approx(2.05)
    assert figures['switchboard_response_seconds_bucket{le="0.7"}'] == 1


def test_tools_are_timed_by_name_and_status_and_invented_names_make_no_series() -> None:
    figures = after(
        ToolReturned("1", "find_slots", "ok", {}, 12),
        ToolReturned("2", "find_slots", "error", {}, 3),
        ToolReturned("3", "delete_everything", "unknown", {}, 0.1),
        ToolReturned("4", "call +1 555 0100", "unknown", {}, 0.1),
    )
    assert figures['switchboard_tool_seconds_count{status="ok",tool="find_slots"}'] == 1
    assert figures['switchboard_tool_seconds_sum{status="ok",tool="find_slots"}'] == pytest.approx(0.012)
    assert figures['switchboard_tool_seconds_count{status="error",tool="find_slots"}'] == 1
    assert figures['switchboard_tool_seconds_count{status="unknown",tool="unknown"}'] == 2
    assert not any("delete" in name or "555" in name for name in figures)


def test_model_setup_and_barge_in() -> None:
    figures = after(ModelConnected("gemini-3.8-live", 340, False), BargeIn(1, 200), BargeIn(2, 300))
    assert figures["switchboard_model_setup_seconds_sum"] == pytest.approx(0.34)
    assert figures['switchboard_barge_in_total{by="model"}'] == 2


def test_pauses_and_false_stops() -> None:
    figures = after(
        PlayoutPaused(1, 40), PlayoutResumed(1, 400, "quiet"), PlayoutPaused(1, 40), BargeIn(1, 0, "caller")
    )
    assert figures["switchboard_playout_paused_total"] == 2
    assert figures['switchboard_false_stops_total{why="quiet"}'] == 1
    assert figures['switchboard_barge_in_total{by="caller"}'] == 1


def test_what_is_no_figure_changes_none() -> None:
    steady = {name for name in after() if not name.startswith("process_")}
    assert {name for name in after(CallerSaid("words")) if not name.startswith("process_")} == steady


def test_what_is_no_event_is_counted_where_it_happens() -> None:
    metrics = Metrics()
    metrics.carrier_messages_bad.labels("not_json").inc()
    metrics.tape_lost_records.inc(7)
    metrics.webhook_seconds.observe(0.004)
    metrics.first_audio_seconds.observe(0.12)
    figures = rendered(metrics)
    assert figures['switchboard_carrier_messages_bad_total{kind="not_json"}'] == 1
    assert figures["switchboard_tape_lost_records_total"] == 7
    assert figures['switchboard_webhook_seconds_bucket{le="0.005"}'] == 1
    assert figures['switchboard_first_audio_seconds_bucket{le="0.2"}'] == 1


def test_every_figure_is_explained_and_named_alike() -> None:
    text = Metrics().render().decode()
    for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE):
        assert name.startswith(("switchboard_", "process_"))
        assert re.search(rf"^# HELP {name} \S", text, re.MULTILINE)
    assert "_created" not in text
    assert "process_resident_memory_bytes" in text


def test_two_apps_do_not_share_figures() -> None:
    one, other = Metrics(), Metrics()
    one.observe(PlayoutPaused(1, 0))
    assert rendered(one)["switchboard_playout_paused_total"] == 1
    assert rendered(other)["switchboard_playout_paused_total"] == 0


class HandLoop:
    """As much of an event loop as the monitor uses, with the time in our hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> HandTimer:
        self.timers.append((when, lambda: callback(*arguments)))
        return HandTimer(self)

    def run_timer(self, late: float) -> None:
        when, callback = self.timers.pop()
        self.now = when + late
        callback()


class HandTimer:
    def __init__(self, loop: HandLoop) -> None:
        self._loop = loop

    def cancel(self) -> None:
        self._loop.timers.clear()


def test_a_held_loop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, metrics = HandLoop(), Metrics()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    monitor = LoopHoldMonitor(metrics)
    monitor.start()
    for late in (0.0, 0.0005, 0.0005, 0.130):
        loop.run_timer(late)
    figures = rendered(metrics)
    assert figures['switchboard_loop_hold_seconds_bucket{le="0.001"}'] == 3
    assert figures['switchboard_loop_hold_seconds_bucket{le="0.08"}'] == 3
    assert figures['switchboard_loop_hold_seconds_bucket{le="0.16"}'] == 4
    assert loop.timers[0][0] == pytest.approx(100 + 5 * 0.05 + 0.131)
    monitor.stop()
    assert not loop.timers
