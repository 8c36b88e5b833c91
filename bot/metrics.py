"""What Prometheus sees of the calls. One `Metrics` for each app, so that two apps in one process do not share figures.

`Metrics.observe` is the one place where events of calls become figures; the few things that are no event of a call
(webhooks, bad messages, lost tape records) are counted where they happen, on the public attributes.

No label ever holds data of a caller or words of the model: labels are reasons, kinds and names from our own code and
from flow files.
"""

from __future__ import annotations

import asyncio

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from bot.events import (
    BargeIn,
    BotStartedSpeaking,
    CallEnded,
    CallEvent,
    CallReceived,
    CallRefused,
    HandoverAnswered,
    HandoverFailed,
    MessageRecorded,
    ModelConnected,
    ModelFailed,
    PlayoutPaused,
    PlayoutResumed,
    SilenceFilled,
    ToolReturned,
    Trouble,
)

# They double the number of series. It can only be said for the whole process.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Seconds. A pause of 0.2 s is human, beyond 1 s callers notice, beyond 3 s they say "hello?".
_RESPONSE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_SETUP = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_WEBHOOK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
_TOOL = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
_DURATION = (5, 15, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200)
# The next audio is sent when 40 ms wait at the carrier (bot/lane.py): beyond that a held loop can be heard.
_HOLD = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0)


class Metrics:
    """Counters and histograms; all durations in seconds."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.calls = self._counter("calls", "Calls that have ended, by how they ended.", "outcome")
        self.calls_in_progress = Gauge(
            "switchboard_calls_in_progress", "Calls taken and not yet ended.", registry=self.registry
        )
        self.refused = self._counter("refused", "Calls that could not be taken and heard why.", "reason")
        self.failures = self._counter("failures", "Failures during calls, by kind.", "kind")
        self.barge_ins = self._counter("barge_in", "Times a caller interrupted the bot, by who said so.", "by")
        self.playout_paused = self._counter("playout_paused", "Times the bot paused for a voice on the caller's side.")
        self.false_stops = self._counter("false_stops", "Pauses after which the bot went on, by why.", "why")
        self.silence_filled = self._counter(
            "silence_filled",
            "Silences in which a ready-made phrase was due.",
            "phrase",
            "source",
        )
        self.handovers = self._counter("handovers", "Calls handed over to a person, by how that went.", "outcome")
        self.messages_recorded = self._counter("messages_recorded", "Messages left with the carrier's recorder.")
        self.carrier_messages_bad = self._counter(
            "carrier_messages_bad", "Messages of the carrier that could not be used.", "kind"
        )
        self.tape_lost_records = self._counter("tape_lost_records", "Tape records lost because the disk was too slow.")
        self.console_logins = self._counter("console_logins", "Tries to log in to the console, by outcome.", "outcome")
        self.console_unavailable = self._counter(
            "console_unavailable", "Requests of the console that the records could not answer."
        )
        self.worker_up = Gauge(
            "switchboard_worker_up",
            "Whether the worker that makes records of finished calls runs.",
            registry=self.registry,
        )
        self.worker_restarts = self._counter("worker_restarts", "Times the worker ended by itself.")
        self.jobs = Gauge(
            "switchboard_jobs",
            "Steps of finished calls that are not done, and webhooks not delivered, by status.",
            ["status"],
            registry=self.registry,
        )
        self.call_seconds = self._histogram("call_seconds", "Length of a call.", _DURATION)
        self.webhook_seconds = self._histogram("webhook_seconds", "Answering a webhook of the carrier.", _WEBHOOK)
        self.model_setup_seconds = self._histogram("model_setup_seconds", "Opening a model session.", _SETUP)
        self.first_audio_seconds = self._histogram(
            "first_audio_seconds", "Start of the media stream to the first audio of the bot.", _RESPONSE
        )
        self.response_seconds = self._histogram(
            "response_seconds", "The caller's last voiced audio to the bot's first audio, at our socket.", _RESPONSE
        )
        self.tool_seconds = self._histogram("tool_seconds", "Running a tool.", _TOOL, "tool", "status")
        self.loop_hold_seconds = self._histogram(
            "loop_hold_seconds", "How late the event loop ran a timer: what held the audio up.", _HOLD
        )
        self.tasks = Gauge("switchboard_tasks", "Tasks of the event loop.", registry=self.registry)
        self.tasks.set_function(_count_tasks)
        ProcessCollector(registry=self.registry)

    def observe(self, event: CallEvent) -> None:
        """Take what an event of a call says into the figures. A few microseconds; for the event loop's thread."""
        match event:
            case CallReceived():
                self.calls_in_progress.inc()
            case CallEnded(reason=reason, duration_ms=duration_ms):
                self.calls_in_progress.dec()
                self.calls.labels(reason).inc()
                self.call_seconds.observe(duration_ms / 1_000)
            case CallRefused(reason=reason):
                self.refused.labels(reason).inc()
            case BotStartedSpeaking(response_ms=float() | int() as response_ms):
                self.response_seconds.observe(response_ms / 1_000)
            case BargeIn(by=by):
                self.barge_ins.labels(by).inc()
            case PlayoutPaused():
                self.playout_paused.inc()
            case PlayoutResumed(why=why):
                self.false_stops.labels(why).inc()
            case ToolReturned(name=name, status=status, duration_ms=duration_ms):
                # An unknown tool's name is the model's invention, and a label must not grow with those.
                tool = "unknown" if status == "unknown" else name
                self.tool_seconds.labels(tool, status).observe(duration_ms / 1_000)
                if status in ("error", "timeout"):
                    self.failures.labels(f"tool_{status}").inc()
            case SilenceFilled(phrase=phrase, source=source):
                self.silence_filled.labels(phrase, source).inc()
            case HandoverAnswered():
                self.handovers.labels("answered").inc()
            case HandoverFailed(status=status):
                self.handovers.labels(status).inc()
            case MessageRecorded():
                self.messages_recorded.inc()
            case ModelConnected(setup_ms=setup_ms):
                self.model_setup_seconds.observe(setup_ms / 1_000)
            case ModelFailed(failure=failure):
                self.failures.labels(f"model_{failure}").inc()
            case Trouble(failure=failure):
                self.failures.labels(failure).inc()

    def render(self) -> bytes:
        """All figures in Prometheus' text format 0.0.4."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"switchboard_{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"switchboard_{name}", help, labels, buckets=buckets, registry=self.registry)


def _count_tasks() -> float:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # rendered outside of a loop
        return 0


class LoopHoldMonitor:
    """Measures how long the event loop is held: a timer each 50 ms, and how late it came."""

    EVERY_SECONDS = 0.05

    def __init__(self, metrics: Metrics) -> None:
        self._histogram = metrics.loop_hold_seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure the running loop."""
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        """End it."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self.EVERY_SECONDS
        self._timer = loop.call_at(due, self._tick, loop, due)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._histogram.observe(max(0.0, loop.time() - due))
        self._arm(loop)
