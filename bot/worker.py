"""Starts the worker that makes records of finished calls, as a child process, and keeps it running.

``python -m records work`` (docs/records.md) derives recordings and transcripts, which is work for a processor and must
not share the audio loop's interpreter. Its death harms no call: tapes wait in their folder, and it is started again.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from loguru import logger

from bot.metrics import Metrics
from bot.ports import Clock

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
SETTLED_SECONDS = 60.0
"""A worker that ran this long had begun well: the pause before its successor is short again."""
STOP_SECONDS = 5.0


class Worker:
    """The child process and its supervision."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self.state = "not started"
        """For operators: ``running``, or why not and when it is tried again."""
        self._metrics = metrics
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run it and to keep it running."""
        self._task = asyncio.create_task(self._supervise(), name="worker")

    async def stop(self) -> None:
        """End it; what it had begun is taken up again by the next one."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _supervise(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began_ns = self._clock.now_ns()
            status = await self._run_once()
            self._metrics.worker_up.set(0)
            self._metrics.worker_restarts.inc()
            if self._clock.now_ns() - began_ns > SETTLED_SECONDS * 1e9:
                pause = FIRST_PAUSE_SECONDS
            self.state = f"ended with status {status}; tried again in {pause:g} s"
            # One that was asked to end, by a signal to all processes for instance, is no fault.
            logger.log("ERROR" if status else "INFO", "The worker {}", self.state)
            await self._clock.sleep(pause)
            pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)

    async def _run_once(self) -> int:
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "records", "work", "--parent", str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parent.parent,
            )  # fmt: skip
        except OSError as error:
            logger.error("The worker cannot be started: {}", error.strerror)
            return -1
        self.state = "running"
        self._metrics.worker_up.set(1)
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._take(line)
        return await self._process.wait()

    def _take(self, line: bytes) -> None:
        """A line of the worker's: how many steps and webhooks stand how: ``{"pending": 1, "webhooks_failed": 0}``."""
        try:
            for status, count in json.loads(line).items():
                self._metrics.jobs.labels(status).set(count)
        except (ValueError, AttributeError, TypeError):
            logger.warning("The worker said something that is no figure ({} bytes)", len(line))
