"""``uv run -m benchmarks.derive``: how exact a call's record is, and what it costs to derive it.

Made-up tapes (benchmarks/made_tapes.py) have the truth beside them: what the caller said and heard, sample by sample.
Prints the figures and writes them into docs/records.md. Three minutes.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.made_tapes import Network, any_call, long_call, loud_ms, write_tape
from bot.tape import TapeReader
from records.derive import derive, load_prices, write_recording
from records.derive.caller import SAMPLES_PER_MS
from records.derive.recording import BOT, CALLER, blocks

PAGE = Path(__file__).parent.parent / "docs" / "records.md"
_BEGIN, _END = (
    "<!-- written by uv run -m benchmarks.derive: begin -->",
    "<!-- written by uv run -m benchmarks.derive: end -->",
)
LINES = (
    Network(40, 60, 0, 100),
    Network(40, 60, 0, -100),
    Network(40, 60, 20, 100),
    Network(40, 60, 40, -100),
    Network(40, 60, 80, 100),
)
"""The network of each hour that is made: delays of 40 and 60 ms, jitter each way, drift of our clock."""
CALLS = 100
LENGTHS = (2, 120)
"""Minutes of the calls whose memory is compared."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="How exact records are, and what deriving them costs.")
    parser.add_argument(
        "--measure", type=Path, metavar="TAPE", help="derive one tape and print what that took, as JSON"
    )
    measured = parser.parse_args().measure
    if measured:
        print(json.dumps(cost_of(measured)))
        return
    console = Console()
    with tempfile.TemporaryDirectory(prefix="switchboard-derive-") as folder:
        lines = []
        for line in report(Path(folder)):
            console.print(line, markup=False, soft_wrap=True)
            lines.append(line)
    page = PAGE.read_text()
    text = "\n".join(lines)
    PAGE.write_text(f"{page.split(_BEGIN)[0]}{_BEGIN}\n{text}\n{_END}{page.split(_END)[1]}")


def report(folder: Path) -> Iterator[str]:
    """The figures, line by line, in Markdown."""
    yield f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.machine()}."
    yield ""
    yield (
        "| an hour of call: jitter each way, drift | caller's side off by at most "
        "| bot's starts and ends, median | at most | each 20 ms of the bot: 99 % | at most |"
    )
    yield "|---|---|---|---|---|---|"
    for network in LINES:
        caller, bot, frames = skew(folder / "hour.mcap", network)
        off = (max(caller), np.median(bot), max(bot), np.quantile(frames, 0.99), max(frames))
        told = " | ".join(f"{ms:.1f} ms" for ms in off)
        yield f"| {network.jitter_ms:g} ms, {network.drift_ppm:+g} ppm | {told} |"
    errors = waterfall_errors(folder)
    yield ""
    yield (
        f"Waterfalls of {len(errors)} answers in {CALLS} calls: the stages' sum is off the truth by "
        f"{np.mean(errors):.1f} ms on average and {max(errors):.1f} ms at most."
    )
    yield ""
    yield "| a call of | seconds of CPU: record | recording | peak memory: before | record | recording | FLAC | Opus |"
    yield "|---|---|---|---|---|---|---|---|"
    for minutes in LENGTHS:
        path = folder / f"{minutes}.mcap"
        write_tape(path, **long_call(minutes, Network(40, 60, 20, 50)))
        child = [sys.executable, "-m", "benchmarks.derive", "--measure", str(path)]
        took = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        yield (
            f"| {minutes} minutes | {took['record_s']:.1f} | {took['recording_s']:.1f} "
            f"| {took['before_mb']} MB | {took['record_mb']} MB | {took['recording_mb']} MB "
            f"| {took['flac_mb']:.1f} MB | {took['opus_mb']:.1f} MB |"
        )


def skew(path: Path, network: Network) -> tuple[list[float], list[float], list[float]]:
    """How far sound on an hour's recording is from where it sounded, in ms.

    The starts and ends of the caller's side, those of the bot's, and each message of the bot's that was heard.
    """
    path.unlink(missing_ok=True)
    truth = write_tape(path, **long_call(60, network))
    tape = TapeReader(path)
    timeline = derive(tape, prices=load_prices()).timeline
    recording = np.concatenate(list(blocks(tape, timeline)))
    began, played = np.array(truth.pieces).T
    heard = (played > 0) & (timeline.bot.played > 0)
    frames = np.abs(timeline.bot.start - began)[heard] / SAMPLES_PER_MS
    return _apart(recording[:, CALLER], truth.said), _apart(recording[:, BOT], truth.heard), frames.tolist()


def _apart(samples: Any, true: bytes) -> list[float]:
    # Where the playout ran dry for a moment the truth has a hole that no mark tells of.
    heard, sounded = loud_ms(samples, join_ms=400), loud_ms(true, join_ms=400)
    assert len(heard) == len(sounded), "the recording has more or less on it than was heard"
    return [abs(one - other) for a, b in zip(heard, sounded, strict=True) for one, other in zip(a, b, strict=True)]


def waterfall_errors(folder: Path) -> list[float]:
    """For each answer of many calls, how far the sum of its stages is from the truth, in ms."""
    errors = []
    for seed in range(CALLS):
        path = folder / f"call-{seed}.mcap"
        truth = write_tape(path, **any_call(seed))
        waterfalls = derive(TapeReader(path), prices=load_prices()).record.waterfalls
        answers = zip(loud_ms(truth.said), loud_ms(truth.heard, join_ms=250), waterfalls, strict=True)
        for asked, answered, waterfall in answers:
            errors.append(abs(sum(stage.ms for stage in waterfall.stages) - (answered[0] - asked[1])))
    return errors


def cost_of(path: Path) -> dict[str, float]:
    """What one tape takes in this process: seconds of CPU, and the most memory so far, in MB."""
    before_mb, began = _peak_mb(), _cpu_s()
    tape = TapeReader(path)
    timeline = derive(tape, prices=load_prices()).timeline
    record_mb, derived = _peak_mb(), _cpu_s()
    recording = write_recording(tape, timeline, path.parent)
    assert recording is not None
    return {
        "before_mb": before_mb,
        "record_s": derived - began,
        "record_mb": record_mb,
        "recording_s": _cpu_s() - derived,
        "recording_mb": _peak_mb(),
        "flac_mb": recording.flac.stat().st_size / 1e6,
        "opus_mb": recording.opus.stat().st_size / 1e6,
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would give a child the peak of its parent.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes // (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
