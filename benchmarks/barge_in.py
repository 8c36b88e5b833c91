"""``uv run --group bench -m benchmarks.barge_in``: how surely and how soon the bot stops for a caller only.

`bot.barge_in.BargeIn` hears the lines of benchmarks/lines.py over a carrier that plays what it was sent, `LEAD_FRAMES`
late, while the bot speaks all the time; an echo is made of what is really played. No model takes part: what is counted
is the local judgement alone, so a cut here is one that the caller's voice made by its length. A minute of CPU, no
network, and the same figures on each run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import lines
from benchmarks.report import markdown, replace_part
from bot.audio import FRAME_BYTES, FRAME_MS, SpeechMeter, pcm_to_ulaw, ulaw_to_pcm
from bot.barge_in import BargeIn

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
FOLDER = PAGE.parent / "performance"
LEAD_FRAMES, MESSAGE_FRAMES = 2, 2
"""With 40 ms left at the carrier the output sends the next message, of 40 ms."""
PATIENCE_MS = 1_000
"""A pause that begins so long after the caller's first voiced sample, or never, is a miss."""
CUT_WITHIN_MS = 1_500
_BEFORE_MS = 200
"""A first consonant may be heard before the first voiced sample."""
_ANEW_FRAMES = 50
"""A bot that was cut off speaks again after so long."""
_MARKS = tuple(f"<!-- written by uv run -m benchmarks.barge_in: {where} -->" for where in ("begin", "end"))


# -- one line ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pause:
    """The frames where it began and ended; `how` is the verdict that ended it, "" where the line ended first."""

    begin: int
    end: int
    how: str


@dataclass
class Heard:
    """What became of the bot on one line. `plays`: whether something of the bot was played, frame by frame."""

    line: lines.Line
    pauses: list[Pause] = field(default_factory=list)
    plays: list[bool] = field(default_factory=list)

    @property
    def reaction_ms(self) -> float | None:
        """From the caller's first voiced sample to silence on the line; None for a miss."""
        (onset,) = self.line.events
        for pause in self.pauses:
            late_ms = (pause.begin + 1) * FRAME_MS - onset / 8
            if -_BEFORE_MS <= late_ms < PATIENCE_MS:
                silent = next(
                    (n for n in range(pause.begin + 1, len(self.plays)) if not self.plays[n]), len(self.plays)
                )
                return max(0.0, silent * FRAME_MS - onset / 8)
        return None

    def within(self, how: tuple[str, ...]) -> int:
        """Pauses that ended so within `CUT_WITHIN_MS` of the caller's first voiced sample."""
        (onset,) = self.line.events
        ends = ((p.end + 1) * FRAME_MS - onset / 8 for p in self.pauses if p.how in how)
        return sum(0 <= end < CUT_WITHIN_MS for end in ends)


class _Carrier:
    """Plays what it is sent, frame by frame, and gives back the echo of it."""

    def __init__(self, echo: lines.Echo | None, samples: int) -> None:
        self.waiting: deque[bytes] = deque()
        self._way: lines.Samples | None = None
        if echo:
            direct = lines.room(echo.room) if echo.room else np.ones(1)
            self._way = direct * 10 ** (echo.gain_db / 20)
            self._back = np.zeros(samples + len(direct) + 8_000)
            self._delay = echo.delay_ms * 8

    def play(self, tick: int) -> bool:
        if not self.waiting:
            return False
        frame = self.waiting.popleft()
        if self._way is not None:
            back = np.convolve(np.frombuffer(ulaw_to_pcm(frame), "<i2").astype(float), self._way)
            start = tick * FRAME_BYTES + self._delay
            self._back[start : start + len(back)] += back
        return True

    def echo(self, tick: int) -> lines.Samples | float:
        start = tick * FRAME_BYTES
        return 0.0 if self._way is None else self._back[start : start + FRAME_BYTES]


def listen(line: lines.Line) -> Heard:
    """Have the bot speak over the line, and be paused and cut by what comes from it."""
    heard, policy, meter = Heard(line), BargeIn(), SpeechMeter()
    carrier = _Carrier(line.echo, len(line.caller))
    words = _bot_frames(line.name)
    paused_at: int | None = None
    dumb_until = 0
    for tick in range(len(line.caller) // FRAME_BYTES):
        while paused_at is None and tick >= dumb_until and len(carrier.waiting) <= LEAD_FRAMES:
            for frame in islice(words, MESSAGE_FRAMES):
                carrier.waiting.append(frame)
                policy.sent(frame)
        heard.plays.append(carrier.play(tick))
        start = tick * FRAME_BYTES
        frame = _mulaw(line.caller[start : start + FRAME_BYTES] + carrier.echo(tick))
        meter.feed(frame)
        verdict = policy.hear(frame, meter.energy, meter.floor)
        if verdict == "pause":
            paused_at = tick
        elif verdict and paused_at is not None:
            heard.pauses.append(Pause(paused_at, tick, verdict))
            paused_at = None
        if verdict == "cut":
            carrier.waiting.clear()
            policy.dropped()
            dumb_until = tick + _ANEW_FRAMES
    if paused_at is not None:
        heard.pauses.append(Pause(paused_at, len(heard.plays), ""))
    return heard


def _mulaw(samples: lines.Samples) -> bytes:
    return pcm_to_ulaw(np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes())


@cache
def _bot_mulaw() -> bytes:
    return _mulaw(lines.bot_speech())


def _bot_frames(name: str) -> Iterator[bytes]:
    """The bot's speech without end, from another place for each name."""
    speech = _bot_mulaw()
    at = sum(name.encode()) * 7_919 % len(speech) // FRAME_BYTES * FRAME_BYTES
    while True:
        if at + FRAME_BYTES > len(speech):
            at = 0
        yield speech[at : at + FRAME_BYTES]
        at += FRAME_BYTES


def frame_us(seconds: int = 20) -> dict[str, float]:
    """Microseconds that one frame of the caller costs while the bot speaks, and while it does not; best of five."""
    caller = [_mulaw(frame) for frame in lines.quiet(seconds * 8_000).reshape(-1, FRAME_BYTES)]
    meter, seen = SpeechMeter(), []
    for frame in caller:
        meter.feed(frame)
        seen.append((meter.energy, meter.floor))
    taken: dict[str, list[float]] = {"speaking": [], "silent": []}
    for _ in range(5):
        for kind in taken:
            policy, words = BargeIn(), _bot_frames("cost")
            begin = time.perf_counter()
            for frame, (energy, floor) in zip(caller, seen, strict=True):
                if kind == "speaking":
                    policy.sent(next(words))
                policy.hear(frame, energy, floor)
            taken[kind].append((time.perf_counter() - begin) / len(caller) * 1e6)
    return {kind: round(min(times), 1) for kind, times in taken.items()}


# -- figures ----------------------------------------------------------------------------------------------------------


def figures(heard: list[Heard]) -> dict[str, Any]:
    """Of each group of lines: how often the bot was stopped for nothing, and how soon for somebody."""
    groups: dict[str, list[Heard]] = {}
    for one in heard:
        groups.setdefault(one.line.group, []).append(one)
    false = [_false(name, found) for name, found in groups.items() if found[0].line.should != "stop"]
    true = [_true(name, found) for name, found in groups.items() if found[0].line.should == "stop"]
    callers = [one for one in heard if one.line.should == "stop"]
    if len(true) > 1:
        true.append(_true("clear lines together", [one for one in callers if one.line.is_clear]))
        true.append(_true("all", callers))
    return {"false": false, "true": true}


def _false(name: str, heard: list[Heard]) -> dict[str, Any]:
    minutes = sum(len(one.plays) for one in heard) * FRAME_MS / 60_000
    events = sum(len(one.line.events) for one in heard)
    pauses = [pause for one in heard for pause in one.pauses]
    cuts = [pause for pause in pauses if pause.how == "cut"]
    lengths = [(pause.end - pause.begin) * FRAME_MS for pause in pauses if pause.how != "cut"]
    return {
        "group": name,
        "may_pause": heard[0].line.should == "not_flush",
        "events": events or None,
        "minutes": round(minutes, 1),
        "pauses_per_minute": round(len(pauses) / minutes, 2),
        "cuts_per_minute": round(len(cuts) / minutes, 2),
        "paused_percent": _percent(sum(bool(one.pauses) for one in heard), events),
        "cut_percent": _percent(sum(any(p.how == "cut" for p in one.pauses) for one in heard), events),
        "pause_ms": round(float(np.mean(lengths))) if lengths else None,
    }


def _true(name: str, heard: list[Heard]) -> dict[str, Any]:
    reactions = [ms for one in heard if (ms := one.reaction_ms) is not None]
    p50, p95 = np.percentile(reactions, (50, 95)) if reactions else (None, None)
    return {
        "group": name,
        "interruptions": len(heard),
        "missed_percent": _percent(len(heard) - len(reactions), len(heard)),
        "p50_ms": p50 and round(float(p50)),
        "p95_ms": p95 and round(float(p95)),
        "resumed_percent": _percent(sum(one.within(("quiet", "limit")) > 0 for one in heard), len(heard)),
        "cut_percent": _percent(sum(one.within(("cut",)) > 0 for one in heard), len(heard)),
        "reactions_ms": sorted(round(ms) for ms in reactions),
    }


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None


# -- to look at -------------------------------------------------------------------------------------------------------

_FALSE_HEADS = ("on the line", "minutes", "events", "pauses a minute", "cuts a minute", "events that pause",
                "events that cut", "mean pause ms")  # fmt: skip
_TRUE_HEADS = ("a caller interrupts", "times", "missed", "silent after p50 / p95 ms", "resumed too soon",
               "cut within 1.5 s without the model")  # fmt: skip


def _false_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in result["false"]:
        yield (
            row["group"],
            f"{row['minutes']:g}",
            str(row["events"] or ""),
            f"{row['pauses_per_minute']:g}",
            f"{row['cuts_per_minute']:g}",
            _share(row["paused_percent"]),
            _share(row["cut_percent"]),
            "" if row["pause_ms"] is None else str(row["pause_ms"]),
        )


def _true_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in result["true"]:
        yield (
            row["group"],
            str(row["interruptions"]),
            _share(row["missed_percent"]),
            f"{row['p50_ms']} / {row['p95_ms']}",
            _share(row["resumed_percent"]),
            _share(row["cut_percent"]),
        )


def _share(percent: float | None) -> str:
    return "" if percent is None else f"{percent:g} %"


def tables(result: dict[str, Any]) -> Iterator[Table]:
    """For the terminal."""
    for title, heads, rows in (
        ("What must not stop the bot", _FALSE_HEADS, _false_rows(result)),
        ("What must stop it", _TRUE_HEADS, _true_rows(result)),
    ):
        shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for place, head in enumerate(heads):
            shown.add_column(head, justify="right" if place else "left")
        for row in rows:
            shown.add_row(*row)
        yield shown


def part(result: dict[str, Any]) -> str:
    """The part of docs/performance.md between this command's marks."""
    cost = result["frame_us"]
    return "\n\n".join(
        (
            f"{result['lines']} lines, {result['minutes']:.0f} minutes, {result['human']} of them with recordings of "
            f"people, rooms and noises. A frame of the caller costs {cost['speaking']:g} us while the bot speaks, "
            f"{cost['silent']:g} us while it does not.",
            "What must not stop the bot:",
            markdown(_FALSE_HEADS, _false_rows(result)),
            "What must stop it:",
            markdown(_TRUE_HEADS, _true_rows(result)),
            "![Reaction times, and pauses and cuts for nothing](performance/barge_in.png)",
        )
    )


def plot(result: dict[str, Any], path: Path) -> None:
    """Reaction times, and pauses and cuts for nothing. Raises ``ImportError`` without matplotlib."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5.4), layout="constrained")
    for row in result["true"]:
        times = row["reactions_ms"]
        is_all = row["group"] == "all"
        shares = np.arange(1, len(times) + 1) * 100 / row["interruptions"]
        left.step(
            times, shares, where="post", label=row["group"], lw=2.5 if is_all else 1, c="black" if is_all else None
        )
    left.axvline(200, color="#c0563b", ls="--", lw=1)
    left.set(title="Caller's first voiced sample to silence on the line", xlabel="ms", ylabel="% of interruptions",
             xlim=(0, 800), ylim=(0, 101))  # fmt: skip
    left.legend(fontsize=7, frameon=False, loc="lower right")
    rows = result["false"][::-1]
    places = np.arange(len(rows))
    right.barh(places + 0.2, [row["pauses_per_minute"] for row in rows], 0.38, color="#1f6f5c", label="pauses")
    right.barh(places - 0.2, [row["cuts_per_minute"] for row in rows], 0.38, color="#c0563b", label="cuts")
    right.set(title="Stopped for nothing, a minute of the bot's speech", xscale="symlog")
    right.set_yticks(places, [row["group"] + (" *" if row["may_pause"] else "") for row in rows], fontsize=8)
    right.set_xlabel("* made to happen every five seconds or so: a pause is meant here, a cut is not")
    right.legend(frameon=False, loc="lower right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


# -- the command ------------------------------------------------------------------------------------------------------


def measure(material: Iterable[lines.Line]) -> dict[str, Any]:
    """All figures over the material."""
    heard = [listen(line) for line in material]
    return figures(heard) | {
        "lines": len(heard),
        "minutes": sum(len(one.plays) for one in heard) * FRAME_MS / 60_000,
        "human": sum(one.line.is_recorded for one in heard),
        "frame_us": frame_us(),
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.barge_in", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the material; writes no page")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    material = lines.lines(small=options.quick)
    result = measure(track(material, "the bot speaks, callers interrupt", console=console))
    for table in tables(result):
        console.print(table)
    console.print(f"A frame costs {result['frame_us']['speaking']} us while the bot speaks.", highlight=False)
    if options.quick:
        return 0
    try:
        plot(result, FOLDER / "barge_in.png")
    except ImportError:
        console.print("No picture: matplotlib is not installed (uv sync --group bench).")
    (FOLDER / "barge_in.json").write_text(json.dumps(result, indent=1) + "\n")
    PAGE.write_text(replace_part(PAGE.read_text(), part(result), *_MARKS))
    console.print(f"Written: docs/{PAGE.name} and docs/{FOLDER.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
