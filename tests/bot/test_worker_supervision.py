"""The server's hold on its worker: started, counted, started again, ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bot import worker as worker_module
from bot.metrics import Metrics
from bot.worker import LONGEST_PAUSE_SECONDS, Worker


class PatientClock:
    """Counts the pauses instead of making them; the ninth does not end."""

    def __init__(self) -> None:
        self.now = 0
        self.pauses: list[float] = []

    def now_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0.001 if len(self.pauses) < 9 else 3600)


def played_by(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell script take the worker's place; its arguments are the worker's."""
    path = tmp_path / "worker.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    monkeypatch.setattr(worker_module.sys, "executable", str(path))


async def until(what: object, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not what():  # type: ignore[operator]
            await asyncio.sleep(0.01)


def figure(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


async def test_a_worker_that_dies_is_started_again_later_and_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played_by("exit 3", tmp_path, monkeypatch)
    clock, metrics = PatientClock(), Metrics()
    worker = Worker(metrics, clock)
    worker.start()
    await until(lambda: len(clock.pauses) >= 9)
    await worker.stop()
    assert clock.pauses == [1, 2, 4, 8, 16, 32, *[LONGEST_PAUSE_SECONDS] * 3]
    assert "status 3" in worker.state
    assert (figure(metrics, "switchboard_worker_restarts_total") or 0) == 9
    assert figure(metrics, "switchboard_worker_up") == 0


async def test_what_it_says_of_its_jobs_is_shown_and_nonsense_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played_by("""echo nonsense; echo '{"pending": 3, "failed": 1}'; exec sleep 60""", tmp_path, monkeypatch)
    metrics = Metrics()
    worker = Worker(metrics, PatientClock())
    worker.start()
    failed = lambda: metrics.registry.get_sample_value("switchboard_jobs", {"status": "failed"})  # noqa: E731
    await until(failed)
    assert failed() == 1
    assert worker.state == "running"
    assert figure(metrics, "switchboard_worker_up") == 1
    await worker.stop()


async def test_it_ends_with_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "said"
    played_by(f'echo "$$ $@" > {said}; exec sleep 60', tmp_path, monkeypatch)
    worker = Worker(Metrics(), PatientClock())
    worker.start()
    await until(lambda: said.exists() and said.read_text().endswith("\n"))
    await worker.stop()
    pid, *arguments = said.read_text().split()
    assert arguments == ["-m", "records", "work", "--parent", str(os.getpid())]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


async def test_a_worker_that_was_never_started_can_be_stopped() -> None:
    await Worker(Metrics(), PatientClock()).stop()
