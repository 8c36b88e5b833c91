"""Both ends of the line between the command and its child processes: one JSON object a line, one answer to each.

A child keeps its standard output for this line; whatever else it prints goes to its log.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

ANSWER_SECONDS = 90.0


class ChildFailed(RuntimeError):
    """A child process died, failed at what it was asked, or did not answer. The message ends with its log."""


class Child:
    """A child process, ``python -m MODULE ARGS``. ``async with`` starts it and ends it."""

    def __init__(
        self,
        module: str,
        *args: str,
        log: Path,
        env: Mapping[str, str] | None = None,
        python: Path | str = sys.executable,
    ) -> None:
        self._python = str(python)
        self._module = module
        self._args = args
        self._log = log
        self._env = {**os.environ, **(env or {})}

    async def __aenter__(self) -> Child:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._python, "-m", self._module, *self._args,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=self._env, cwd=Path(__file__).parent.parent,
                limit=64 * 1024 * 1024,
            )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def ask(self, command: str, **values: Any) -> dict[str, Any]:
        """Send a command and wait for its answer. Raises `ChildFailed`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        seconds = ANSWER_SECONDS + values.get("seconds", 0)
        try:
            self._process.stdin.write(json.dumps({"command": command, **values}).encode() + b"\n")
            line = await asyncio.wait_for(self._process.stdout.readline(), seconds)
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError, TimeoutError) as error:
            raise self.failed(command, type(error).__name__) from error
        if "error" in answer:
            raise self.failed(command, answer["error"])
        return answer

    def failed(self, command: str, problem: str) -> ChildFailed:
        """What went wrong, with the end of the child's log."""
        log = self._log.read_text(errors="replace")[-3000:]
        return ChildFailed(f"{self._module} {' '.join(self._args)}: {command!r} failed ({problem}). Its log:\n{log}")


def take_standard_output() -> BinaryIO:
    """Keep the standard output for answers; what is printed from now on goes to the standard error output."""
    line = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return line


def answer_forever(line: BinaryIO, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer the parent's commands in this thread until it is gone; then end the process."""
    for request in sys.stdin.buffer:
        try:
            reply = answer(json.loads(request))
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        line.write(json.dumps(reply).encode() + b"\n")
    os._exit(0)
