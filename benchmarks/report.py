"""From runs to figures, and from figures to a table, a picture and a page."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from benchmarks.scenario import TOGETHER, Kind, Run

NAMES: dict[Kind, str] = {"pipecat": "stock Pipecat", "relay": "bare relay", "switchboard": "Switchboard"}
_PACKAGES = ("pipecat-ai", "google-genai", "websockets", "uvicorn", "uvloop", "numpy")
_BEGIN, _END = "<!-- written by uv run -m benchmarks: begin -->", "<!-- written by uv run -m benchmarks: end -->"


# -- figures ----------------------------------------------------------------------------------------------------------


def spread(values: list[float]) -> dict[str, float] | None:
    """How measurements are spread; None where there are none."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    rounded = {name: round(float(value), 2) for name, value in (("p50", p50), ("p95", p95), ("p99", p99))}
    return rounded | {"max": round(max(values), 2), "n": len(values)}


def summary(run: Run) -> dict[str, Any]:
    """A run as it goes into the JSON file: times in ms, memory in MB, CPU in percent of a core."""
    return {
        "kind": run.kind,
        "calls": run.calls,
        "round_trip_ms": spread(run.timings["round_trip"]),
        "uplink_ms": spread(run.timings["uplink"]),
        "downlink_ms": spread(run.timings["downlink"]),
        "unanswered": run.timings["lost"],
        "first_word_ms": spread(run.first_word_ms),
        "silent_starts": run.silent_starts,
        "interrupted_to_clear_ms": spread(run.cut_in.get("clear", [])),
        "caller_cuts_in_to_silence_ms": spread(run.cut_in.get("silence", [])),
        "not_interrupted": run.cut_in.get("lost", 0),
        "cpu_percent_per_call": round(run.cpu_percent / run.calls, 3),
        "cpu_percent_per_call_speaking": _per(run.cpu_percent_speaking, run.calls),
        "load_cpu_percent_per_call": round(run.load_cpu_percent / run.calls, 3),
        "others_cpu_percent": round(run.others_cpu_percent, 1),
        "rss_idle_mb": round(run.rss_idle_mb, 1),
        "rss_mb": round(run.rss_mb, 1),
        "rss_growth_mb_per_call_and_minute": _per(run.rss_growth_mb_per_minute, run.calls),
        "holds_at_start": _rounded(run.holds_at_start),
        "holds": _rounded(run.holds),
        "holds_at_end": _rounded(run.holds_at_end),
        "tape_mb": round(run.tape_mb, 2),
    }


def _per(value: float | None, calls: int) -> float | None:
    return None if value is None else round(value / calls, 3)


def _rounded(holds: dict[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, str) else round(value, 2) for name, value in holds.items()}


@dataclass(frozen=True)
class Figure:
    """One line of the table. `target` is the most that is allowed; None where nothing was asked."""

    name: str
    unit: str
    target: float | None
    values: dict[Kind, float | None]

    @property
    def is_met(self) -> bool | None:
        """Whether Switchboard reaches it; None where there is nothing to reach or nothing was measured."""
        ours = self.values.get("switchboard")
        return None if self.target is None or ours is None else ours <= self.target

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return {"name": self.name, "unit": self.unit, "target": self.target, "values": self.values, "met": self.is_met}


def figures(runs: list[dict[str, Any]], quality: dict[str, Any]) -> list[Figure]:
    """The table of figures, from `summary` of each run and `benchmarks.quality.measure`."""
    by = {(run["kind"], run["calls"]): run for run in runs}
    fewest, most = min(calls for _, calls in by), max(calls for _, calls in by)
    group = min((calls for _, calls in by if calls >= TOGETHER), default=most)

    def of(name: str, unit: str, target: float | None, calls: int, read: Callable[[dict[str, Any]], Any]) -> Figure:
        return Figure(name, unit, target, {kind: read(by[kind, calls]) for kind in NAMES if (kind, calls) in by})

    def memory(run: dict[str, Any]) -> float | None:
        few = by.get((run["kind"], fewest))
        return round((run["rss_mb"] - few["rss_mb"]) / (most - fewest), 2) if few and most > fewest else None

    table = [
        of(f"added round trip, {_calls(fewest)}, p95", "ms", 6, fewest, lambda r: _at(r["round_trip_ms"], "p95")),
        of(f"added round trip, {_calls(most)}, p99", "ms", 12, most, lambda r: _at(r["round_trip_ms"], "p99")),
        of(f"CPU per call, {_calls(most)}", "% of a core", 1.3, most, lambda r: r["cpu_percent_per_call"]),
        of("the same, the bot speaking half of the time", "% of a core", None, most,
           lambda r: r["cpu_percent_per_call_speaking"]),
        of("memory per further call", "MB", 1, most, memory),
        of("memory growth of a call in a minute of talk", "MB", None, most,
           lambda r: r["rss_growth_mb_per_call_and_minute"]),
        of(f"first word after stream start, {_calls(group)} at once, p95", "ms", 150, group,
           lambda r: _at(r["first_word_ms"], "p95")),
        of(f"`interrupted` to `clear`, {_calls(most)}, p99", "ms", 5, most,
           lambda r: _at(r["interrupted_to_clear_ms"], "p99")),
        of(f"caller cuts in to silence, {_calls(most)}, p95", "ms", 200, most,
           lambda r: _at(r["caller_cuts_in_to_silence_ms"], "p95")),
        of(f"longest event-loop hold, {min(group, most)} start and {most} run", "ms", 12, most,
           lambda r: _longest(r, "longest_ms")),
        of("of it CPU of the loop's own thread", "ms", None, most, lambda r: _longest(r, "longest_cpu_ms")),
    ]  # fmt: skip
    return table + _quality_figures(quality)


def _quality_figures(quality: dict[str, Any]) -> list[Figure]:
    found = []
    for way, words in (("up", "caller to model"), ("down", "model to caller")):
        if way in quality:
            loss = round(max(0.0, -quality[way]["difference"]), 3)
            found.append(Figure(f"PESQ-NB below G.711 alone, {words}", "MOS", 0.02, {"switchboard": loss}))
        delay = round(quality["delay_ms"][way], 2)
        found.append(Figure(f"filter delay, {words}", "ms", 2.5, {"switchboard": delay}))
    return found


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _at(values: dict[str, float] | None, name: str) -> float | None:
    return values[name] if values else None


def _longest(run: dict[str, Any], name: str) -> float | None:
    found = [holds[name] for holds in (run["holds_at_start"], run["holds"]) if holds]
    return max(found) if found else None


# -- stages -----------------------------------------------------------------------------------------------------------


def stage_rows(stages: dict[str, Any]) -> list[dict[str, Any]]:
    """Microseconds of each stage for each frame that passes it, and its share of the process's CPU time.

    A frame is 20 ms of the caller, 40 ms of the bot; what goes both ways is given by 20 ms
    of a call, as the caller's frames are.
    """
    order = {"up": 0, "down": 1, "both": 2}
    rows = []
    for found in sorted(stages["stages"], key=lambda row: (order[row["way"]], -row["us"])):
        frames = stages["down_frames" if found["way"] == "down" else "up_frames"]
        rows.append(
            {
                "stage": found["stage"],
                "way": found["way"],
                "us_per_frame": round(found["us"] / max(1, frames), 1),
                "share": round(found["us"] / stages["cpu_us"], 3),
            }
        )
    rest = stages["cpu_us"] - sum(row["us"] for row in stages["stages"])
    rows.append(
        {
            "stage": "event loop, kernel, the tapes' thread",
            "way": "both",
            "us_per_frame": round(rest / max(1, stages["up_frames"]), 1),
            "share": round(rest / stages["cpu_us"], 3),
        }
    )
    return rows


# -- the machine ------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Where this was measured, and with what."""
    model = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": model[0] if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory[0] / 1e6, 1) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    )
    return done.stdout.strip()


# -- to look at -------------------------------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> Table:
    """The figures for the terminal."""
    shown = Table(title="Side by side", title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("figure")
    for heading in (*NAMES.values(), "to reach"):
        shown.add_column(heading, justify="right")
    for figure in result["figures"]:
        colour = {True: "green", False: "red", None: ""}[figure["met"]]
        ours = _number(figure["values"].get("switchboard"))
        shown.add_row(
            f"{figure['name'].replace('`', '')}, {figure['unit']}",
            *(_number(figure["values"].get(kind)) for kind in ("pipecat", "relay")),
            f"[{colour}]{ours}[/]" if colour else ours,
            _target(figure["target"]),
        )
    return shown


def page(result: dict[str, Any], before: str) -> str:
    """docs/performance.md: the part between the marks is made anew, what was written around it stays."""
    return replace_part(before or "# Performance\n", "\n\n".join(_parts(result)), _BEGIN, _END)


def replace_part(page: str, body: str, begin: str, end: str) -> str:
    """The page with a new body between two marks; at its end where it has none yet."""
    written = f"{begin}\n{body}\n{end}"
    if begin not in page:
        return f"{page}\n{written}\n"
    head, rest = page.split(begin, 1)
    return head + written + rest.split(end, 1)[1]


def _parts(result: dict[str, Any]) -> Iterable[str]:
    where = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
    noise = max(run["others_cpu_percent"] for run in result["runs"])
    yield (
        f"Measured {where['measured']} at commit `{where['commit']}` on {where['cores']} cores of {where['cpu']}, "
        f"{where['memory_gb']} GB, {where['system']}, Python {where['python']}; {packages}. Other processes of the "
        f"machine took at most {noise:g} % of a core meanwhile."
    )
    if result["stock_skipped"]:
        yield f"The stock bot was not measured: {result['stock_skipped']}."
    yield "## Side by side"
    yield markdown(
        ("figure", "unit", *NAMES.values(), "to reach", ""),
        (
            (
                figure["name"],
                figure["unit"],
                *(_number(figure["values"].get(kind)) for kind in NAMES),
                _target(figure["target"]),
                {True: "met", False: "**missed**", None: ""}[figure["met"]],
            )
            for figure in result["figures"]
        ),
    )
    yield from _longest_holds(result["runs"])
    if result.get("plot"):
        yield f"![Round trip, CPU and memory of the three servers](performance/{result['plot']})"
    yield "## By number of calls"
    yield markdown(
        ("server", "calls", "round trip p50 / p95 / p99 ms", "up p95", "down p95", "CPU % per call", "memory MB",
         "first word p95 ms", "unanswered", "phones and model, CPU % per call"),
        (
            (
                NAMES[run["kind"]],
                str(run["calls"]),
                " / ".join(_number(_at(run["round_trip_ms"], name)) for name in ("p50", "p95", "p99")),
                _number(_at(run["uplink_ms"], "p95")),
                _number(_at(run["downlink_ms"], "p95")),
                _number(run["cpu_percent_per_call"]),
                _number(run["rss_mb"]),
                _number(_at(run["first_word_ms"], "p95")),
                str(run["unanswered"]),
                _number(run["load_cpu_percent_per_call"]),
            )
            for run in result["runs"]
        ),
    )  # fmt: skip
    if result["stages"]:
        yield "## A frame's microseconds"
        yield (
            "CPU of Switchboard's stages for each frame that passes them (20 ms up, 40 ms down), with many calls up "
            "and the bot speaking part of the time. Each stopwatch costs about a microsecond itself, so the sum is "
            "too high."
        )
        yield markdown(
            ("stage", "way", "us per frame", "share of the CPU"),
            (
                (row["stage"], row["way"], _number(row["us_per_frame"]), f"{row['share']:.0%}")
                for row in result["stages"]
            ),
        )
    yield from _quality_part(result["quality"])


def _longest_holds(runs: list[dict[str, Any]]) -> Iterable[str]:
    """What held Switchboard's loop for longest, with most calls up."""
    run = max((run for run in runs if run["kind"] == "switchboard"), key=lambda run: run["calls"], default=None)
    if run is None:
        return
    steps = {"holds_at_start": "the last callers start", "holds": "all run and cut in", "holds_at_end": "all hang up"}
    found = [
        f"while {words}, {_number(run[name]['longest_ms'])} ms ({run[name]['cause'] or 'too short to be seen'})"
        for name, words in steps.items()
        if run[name]
    ]
    if found:
        yield f"The longest holds of Switchboard's loop at {_calls(run['calls'])}: {'; '.join(found)}."


def _quality_part(quality: dict[str, Any]) -> Iterable[str]:
    yield "## Quality"
    if "skipped" in quality:
        yield f"PESQ was not measured: {quality['skipped']}."
        return
    yield (
        f"PESQ-NB over {quality['synthetic']} synthetic and {quality['human']} human utterances, held against the same "
        "speech through G.711 alone."
    )
    yield markdown(
        ("direction", "PESQ-NB", "G.711 ceiling", "difference", "worst utterance", "utterances", "filter delay ms"),
        (
            (
                words,
                f"{quality[way]['pesq_nb']:.3f}",
                f"{quality[way]['ceiling']:.3f}",
                f"{quality[way]['difference']:+.3f}",
                f"{quality[way]['worst_difference']:+.3f}",
                str(quality[way]["utterances"]),
                _number(quality["delay_ms"][way]),
            )
            for way, words in (("up", "caller to model"), ("down", "model to caller"))
        ),
    )


def markdown(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table."""
    heads = list(headings)
    lines = [heads, ["---"] * len(heads), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    digits = next(digits for digits, least in ((0, 100), (1, 10), (2, 0.1), (3, 0)) if abs(value) >= least)
    return f"{value:.{digits}f}"


def _target(target: float | None) -> str:
    return "" if target is None else f"<= {target:g}"


def plot(result: dict[str, Any], path: Path) -> None:
    """Round trip, CPU and memory over the number of calls. Raises ``ImportError`` without matplotlib."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    colours: dict[Kind, str] = {"pipecat": "#c0563b", "relay": "#8a8f98", "switchboard": "#1f6f5c"}
    levels = sorted({run["calls"] for run in result["runs"]})
    places = {calls: place for place, calls in enumerate(levels)}
    figure, (trip, cpu, memory) = pyplot.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for number, (kind, name) in enumerate(NAMES.items()):
        runs = [run for run in result["runs"] if run["kind"] == kind and run["round_trip_ms"]]
        shift = (number - 1) * 0.26
        trip.bar(
            [places[run["calls"]] + shift for run in runs],
            [run["round_trip_ms"]["p50"] for run in runs],
            0.24,
            color=colours[kind],
            label=name,
            yerr=[[0] * len(runs), [run["round_trip_ms"]["p99"] - run["round_trip_ms"]["p50"] for run in runs]],
            capsize=3,
        )
        cpu.bar(
            [places[run["calls"]] + shift for run in runs],
            [run["cpu_percent_per_call"] for run in runs],
            0.24,
            color=colours[kind],
        )
        memory.plot([run["calls"] for run in runs], [run["rss_mb"] for run in runs], "o-", color=colours[kind])
    trip.set(title="Added round trip, p50 with p99 above", ylabel="ms", yscale="log")
    cpu.set(title="CPU for each call", ylabel="% of a core")
    memory.set(title="Memory of the process", ylabel="MB", xlabel="calls", ylim=(0, None))
    for axes in (trip, cpu):
        axes.set_xticks(range(len(levels)), [_calls(calls) for calls in levels])
    for axes in (trip, cpu, memory):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
